"""Whether a device agrees to a plan: its own policy against what the planner signed. Pure."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

from facekeep.clock import to_rfc3339
from facekeep.errors import FederationError
from facekeep.privacy.bounds import collusion_bound, splitting_bound
from facekeep.protocol.plan import RoundPlan
from facekeep.protocol.policy import FederationPolicy, Kind

# A planner's clock may be ahead of a device's by this much; more is an error of either.
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
# Chance that chance alone puts more colluding devices into a committee, a group or a neighbourhood than is reckoned with.
RISK_BITS: Final = 30


def colluding_in(plan: RoundPlan, percent: int) -> int:
    """Return how many of the cohort may side with the server: the policy's share of the devices drawn, all of them invited.

    Not of the cohort: a server that invites few of those drawn invites the ones that side with it.
    """
    return min(plan.cohort_size, plan.drawn * percent // 100)


def most_colluding(population: int, colluding: int, taken: int) -> int:
    """Return how many of `taken` devices, taken at random from a population, may collude, but for a chance of 2**-RISK_BITS.

    Args:
        population: devices that are taken from.
        colluding: how many of them collude.
        taken: how many the plan takes.

    Hoeffding (1963), theorem 2 with section 6: a sample without replacement is at least as close to its mean.
    """
    if taken >= population:
        return colluding
    spread = math.sqrt(taken * RISK_BITS * math.log(2) / 2)
    return min(colluding, taken, math.ceil(taken * colluding / population + spread))


def least_quorum(cohort: int, colluding: int, committee: int) -> int:
    """Return the fewest signatures of which two different sets share an honest member: no two lists of survivors reach it."""
    return (committee + most_colluding(cohort, colluding, committee)) // 2 + 1


def contributors(plan: RoundPlan, percent: int) -> int:
    """Return how many honest devices add noise to the smallest sum that may be opened."""
    return max(1, plan.minimum - _colluding_in_a_group(plan, percent))


def _colluding_in_a_group(plan: RoundPlan, percent: int) -> int:
    taken = plan.largest_group if plan.groups > 1 else plan.cohort_size
    return most_colluding(plan.cohort_size, colluding_in(plan, percent), taken)


def require_acceptable(policy: FederationPolicy, plan: RoundPlan, now: datetime, last_round: int) -> None:
    """Return if the policy allows the plan. The privacy it costs is the budget's to judge.

    Args:
        policy: of the device.
        plan: signed by a planner of the policy.
        now: the present instant.
        last_round: number of the last round this device answered, 0 before the first.

    Raises:
        FederationError: "federation.replayed_plan", "federation.clock", "federation.expired", "federation.cohort_too_small",
            "federation.plan_refused".
    """
    if plan.federation != policy.name:
        raise refused(f"it is of the federation {plan.federation}, not {policy.name}")
    # Replay: a round answered twice gives two sums whose difference tells of one device.
    if plan.round <= last_round:
        raise FederationError("federation.replayed_plan", f"Round {plan.round} comes after {last_round}, which was answered.")
    require_current(plan, now)
    if plan.kind not in policy.kinds or (plan.kind is Kind.TRAINING and plan.level not in policy.levels):
        raise refused(f"{plan.kind} at the level {plan.level} is not what the policy allows")
    if plan.minimum < policy.minimum_cohort:
        raise FederationError(
            "federation.cohort_too_small",
            f"The plan opens sums of {plan.minimum}; the policy wants {policy.minimum_cohort} devices.",
        )
    if plan.length > policy.most_parameters:
        raise refused(f"it asks for {plan.length} parameters; the policy allows {policy.most_parameters}")
    percent = policy.colluding_percent
    _require_private(plan, percent)
    if plan.quorum < (least := least_quorum(plan.cohort_size, colluding_in(plan, percent), plan.committee)):
        raise refused(f"a quorum of {plan.quorum} of {plan.committee}; with {percent} % colluding it takes at least {least}")
    if plan.noise_variance == 0 and not policy.unsafe_without_noise:
        raise refused("it adds no noise")


def _require_private(plan: RoundPlan, percent: int) -> None:
    size, minimum = plan.largest_group, plan.minimum
    colluding = _colluding_in_a_group(plan, percent)
    # Colluders take their own updates off the sum: what is left has to be more than one.
    if minimum - colluding < 2:
        raise FederationError(
            "federation.cohort_too_small", f"Of sums of {minimum} devices {colluding} may collude and know all but one update."
        )
    graph = (size, plan.neighbours, plan.threshold, colluding)
    # Colluding neighbours that hold enough shares open both secrets of a device, whatever the others do.
    if collusion_bound(*graph) > 2.0**-RISK_BITS:
        raise refused(f"{plan.threshold} shares of {plan.neighbours} open a secret, and {percent} % may collude")
    # A server that lies about drop-outs must not be able to cut some devices off and read their sum alone.
    if splitting_bound(*graph, minimum) > 2.0**-RISK_BITS:
        raise refused(
            f"{plan.neighbours} neighbours do not hold {minimum} survivors of {size} together, and {percent} % may collude"
        )


def require_current(plan: RoundPlan, now: datetime) -> None:
    """Return if the round runs at this moment.

    Raises:
        FederationError: "federation.clock" before it was issued, "federation.expired" after the deadline.
    """
    if now < plan.issued - CLOCK_TOLERANCE:
        raise FederationError(
            "federation.clock", f"The plan was issued at {to_rfc3339(plan.issued)}; this clock says {to_rfc3339(now)}."
        )
    if now >= plan.deadline:
        raise FederationError("federation.expired", f"The round ended at {to_rfc3339(plan.deadline)}.")


def refused(why: str) -> FederationError:
    """Return the error for a plan that the policy does not allow."""
    return FederationError("federation.plan_refused", f"The plan is refused: {why}.")
