"""What a round costs a device of its privacy, from the plan alone: device and planner reckon the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from facekeep.protocol.acceptance import contributors
from facekeep.protocol.plan import RoundPlan


@dataclass(frozen=True, slots=True)
class Charge:
    """What one round cost: everything the account needs, and nothing of what was contributed.

    Attributes:
        federation: name of the federation.
        round: number of the round.
        contributors: fewest honest devices whose noise is in the sum.
        variance: of the noise of each, in squared units of the ring.
        squared_sensitivity: largest squared norm of one device's part, in the same units.
        dimension: coordinates.
    """

    federation: str
    round: int
    contributors: int
    variance: int
    squared_sensitivity: int
    dimension: int

    @classmethod
    def of(cls, plan: RoundPlan, colluding_percent: int) -> Charge:
        """Return what a plan costs if so many collude: their noise does not count."""
        scale, honest = plan.scale, contributors(plan, colluding_percent)
        return cls(plan.federation, plan.round, honest, plan.noise_variance, scale.squared_sensitivity, plan.size)


# Charges and a delta -> the epsilon they cost together; infinite where a round added no noise.
Account = Callable[[Sequence[Charge], float], float]


def epsilon_of(charges: Sequence[Charge], delta: float) -> float:
    """Return the epsilon that these rounds together cost one device at `delta`.

    Raises:
        FederationError: "federation.no_accounting".
    """
    # Imported here: the accounting package is heavy, and only a device in a federation has it.
    from facekeep.privacy.accounting import epsilon_spent

    return float(epsilon_spent(charges, delta))
