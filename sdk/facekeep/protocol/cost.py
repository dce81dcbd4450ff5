"""What a round costs a device of its privacy, from the plan alone: device and planner reckon the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from facekeep.privacy.accounting import PrivacyCharge
from facekeep.protocol.acceptance import contributors
from facekeep.protocol.plan import RoundPlan

# Charges and a delta -> the epsilon they cost together. `facekeep.privacy.accounting.spent` is one.
Account = Callable[[Sequence[PrivacyCharge], float], float]


def charge_of(plan: RoundPlan, colluding_percent: int) -> PrivacyCharge | None:
    """Return what a plan costs if so many collude, for their noise does not count; None if it adds no noise at all."""
    if plan.noise_variance == 0:
        return None
    return PrivacyCharge(
        plan.round,
        plan.noise_variance,
        contributors(plan, colluding_percent),
        plan.scale.squared_sensitivity,
        plan.size,
    )
