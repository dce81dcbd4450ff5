"""What all rounds so far cost one device, from the plans that ran."""

from __future__ import annotations

import math
from collections.abc import Iterable

from facekeep.privacy.accounting import spelled, spent
from facekeep.protocol import Account, charge_of
from facekeep.protocol.release import PrivacyStatement
from facekeep_server.errors import ServerError
from facekeep_server.federation.creation import load_policy
from facekeep_server.federation.rounds import round_directory
from facekeep_server.federation.state import FederationState

_MOST_TEXT = 128


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


def spelled_epsilon(epsilon: float) -> str:
    """Return epsilon as text, rounded up; "inf" where a round added no noise."""
    return "inf" if math.isinf(epsilon) else spelled(epsilon)


def spelled_rounds(numbers: Iterable[int]) -> str:
    """Return the numbers of rounds as text for the trail: "1-3,5".

    Raises:
        ServerError: "server.invalid_request" if that takes more than an entry can carry.
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    if len(text) > _MOST_TEXT:
        raise ServerError("server.invalid_request", "These are too many rounds with gaps between them for one release.")
    return text
