"""What a device puts into a sum, before anything is done to hide it. It stays; only its masked form travels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.privacy.ring import clip
from facekeep.protocol import EXTRA_SHARE, RoundPlan


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """An update and the numbers that go with it.

    Attributes:
        vector: (P,) float32, read-only, finite.
        extras: name -> number; those the plan names count, from 0 to the bound it states.
    """

    vector: NDArray[np.float32] = field(repr=False)
    extras: Mapping[str, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        vector = np.array(self.vector, dtype=np.float32, copy=True)
        # NaN would spread to everybody's model with the sum, and nobody could tell where it came from.
        if vector.ndim != 1 or not np.isfinite(vector).all() or not all(math.isfinite(value) for value in self.extras.values()):
            raise FederationError("federation.invalid_update", "An update is a row of finite numbers, and so is what goes with it.")
        vector.flags.writeable = False
        object.__setattr__(self, "vector", vector)
        object.__setattr__(self, "extras", MappingProxyType(dict(self.extras)))


def to_row(contribution: Contribution, plan: RoundPlan) -> NDArray[np.float64]:
    """Return the (size,) row that is quantised: the clipped update, and each extra as its share of the clip.

    Raises:
        FederationError: "federation.invalid_update" if the update is not of the plan's length or lacks an extra.
    """
    if contribution.vector.shape != (plan.length,) or not {extra.name for extra in plan.extras} <= contribution.extras.keys():
        raise FederationError(
            "federation.invalid_update", f"The plan asks for {plan.length} parameters and {len(plan.extras)} extras; found others."
        )
    share = plan.scale.clip / EXTRA_SHARE
    extras = [share * min(max(contribution.extras[extra.name], 0.0), extra.most) / extra.most for extra in plan.extras]
    update = clip(contribution.vector, plan.update_clip).astype(np.float64)
    return np.concatenate([update, np.array(extras, dtype=np.float64)])
