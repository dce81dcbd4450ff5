"""What all rounds so far cost one device, from the plans that ran."""

from __future__ import annotations

import math

from facekeep.privacy.accounting import spent
from facekeep.protocol import Account, charge_of
from facekeep.protocol.release import PrivacyStatement
from facekeep_server.errors import ServerError
from facekeep_server.federation.creation import load_policy
from facekeep_server.federation.rounds import round_directory
from facekeep_server.federation.state import FederationState


def privacy_of(state: FederationState, account: Account = spent) -> PrivacyStatement:
    """Return what every round that ended so far, of whatever kind, costs a device that was in all of them.

    Aborted ones count as well: a device charges itself before it answers, and nobody here can see whether it did. So the statement
    never falls from one release to the next, and never is below what a device's own ledger says for the same policy.
    """
    policy = load_policy(state)
    plans = [found.plan() for found in (round_directory(state, number) for number in state.round_numbers) if found.is_over]
    if not plans:
        raise ServerError("server.invalid_request", "No round has ended yet.")
    charges = [charge_of(plan, policy.colluding_percent) for plan in plans]
    known = [charge for charge in charges if charge is not None]
    epsilon = account(known, policy.delta) if len(known) == len(charges) else math.inf
    fleet = max(plan.roster_size for plan in plans)
    return PrivacyStatement(epsilon, policy.delta, min(plan.minimum for plan in plans), fleet)
