"""What travels in a federation: the operator's policy, roster, plan, and the messages of a round. Pure; nothing biometric."""

from facekeep.protocol.acceptance import (
    colluding_in,
    contributors,
    least_quorum,
    most_colluding,
    require_acceptable,
    require_current,
)
from facekeep.protocol.actions import Action, Refusal
from facekeep.protocol.answers import (
    Abandoned,
    Confirmed,
    Introduction,
    MaskedUpdate,
    Prepared,
    Revealed,
    require_advert,
    require_masked,
    seed_commitment,
)
from facekeep.protocol.cohort import Cohort, drawing_order, drawn_devices, pack_bits, unpack_bits
from facekeep.protocol.cost import Account, charge_of
from facekeep.protocol.plan import EXTRA_SHARE, START_SETTING, Extra, RoundPlan, SignedPlan
from facekeep.protocol.policy import FederationPolicy, Kind, Level
from facekeep.protocol.requests import (
    AbandonRequest,
    Advert,
    Challenge,
    ConfirmRequest,
    MaskedStatement,
    PrepareRequest,
    TrainRequest,
    UnmaskRequest,
)
from facekeep.protocol.roster import Roster, RosterEntry, RosterExcerpt, RosterHead
from facekeep.protocol.topology import Topology, topology_of

__all__ = [
    "EXTRA_SHARE",
    "START_SETTING",
    "AbandonRequest",
    "Abandoned",
    "Account",
    "Action",
    "Advert",
    "Challenge",
    "Cohort",
    "ConfirmRequest",
    "Confirmed",
    "Extra",
    "FederationPolicy",
    "Introduction",
    "Kind",
    "Level",
    "MaskedStatement",
    "MaskedUpdate",
    "PrepareRequest",
    "Prepared",
    "Refusal",
    "Revealed",
    "Roster",
    "RosterEntry",
    "RosterExcerpt",
    "RosterHead",
    "RoundPlan",
    "SignedPlan",
    "Topology",
    "TrainRequest",
    "UnmaskRequest",
    "charge_of",
    "colluding_in",
    "contributors",
    "drawing_order",
    "drawn_devices",
    "least_quorum",
    "most_colluding",
    "pack_bits",
    "require_acceptable",
    "require_advert",
    "require_current",
    "require_masked",
    "seed_commitment",
    "topology_of",
    "unpack_bits",
]
