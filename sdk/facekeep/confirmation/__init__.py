"""The two-person rule: an identification stays sealed until different operators have confirmed it. Pure."""

from facekeep.confirmation.operators import Operator, Roster, sign_confirmation
from facekeep.confirmation.pending import (
    MOST_WAITING,
    PendingIdentification,
    SealedIdentification,
    padded_result,
    parse_waiting,
    require_result,
    waiting_to_bytes,
)
from facekeep.confirmation.rule import ConfirmationRule

__all__ = [
    "MOST_WAITING",
    "ConfirmationRule",
    "Operator",
    "PendingIdentification",
    "Roster",
    "SealedIdentification",
    "padded_result",
    "parse_waiting",
    "require_result",
    "sign_confirmation",
    "waiting_to_bytes",
]
