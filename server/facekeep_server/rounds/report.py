"""What came of a round: the sum, and nothing of anybody's part in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekeep.protocol import RoundPlan


@dataclass(frozen=True, slots=True)
class GroupOutcome:
    """One group's sum.

    Attributes:
        survivors: devices in the sum.
        norm: L2 norm of the sum, in units of the update.
        bound: largest norm that honest devices' sum has, noise included, but for a chance of 2**-40.
        is_counted: whether the sum is within it, and in the result.
    """

    survivors: int
    norm: float
    bound: float
    is_counted: bool


@dataclass(frozen=True, slots=True, eq=False)
class RoundReport:
    """The outcome of a round, completed or aborted.

    Attributes:
        federation: name of the federation.
        round: number of the round.
        plan: digest of the plan, hexadecimal.
        kind: what was computed.
        level: what training moved.
        base: what was trained on.
        cohort: devices invited.
        prepared: devices that went on to train.
        survivors: devices in the sums.
        contributors: devices in the result: the survivors of the groups that count.
        groups: each group's sum; empty if the round was aborted before it was opened.
        update: (P,) float32, read-only: the mean update; None if the round was aborted.
        extras: name -> mean.
        suspects: roster indices of devices that did what no honest device does: not to be invited again before somebody looked.
        doubtful: roster indices of the devices of groups whose sum is too long. One of each group lied, masking does not say which:
            who is doubtful in round after round, in ever other groups, is.
        refusals: code -> how many replies were refused, or refusals came, with it.
        aborted: code of what ended the round, or None.
        epsilon: what the plan says this round costs a device, at `delta`.
        delta: at this delta.
    """

    federation: str
    round: int
    plan: str
    kind: str
    level: str
    base: str
    cohort: int
    prepared: int
    survivors: int
    contributors: int
    groups: tuple[GroupOutcome, ...]
    update: NDArray[np.float32] | None = field(repr=False)
    extras: Mapping[str, float]
    suspects: tuple[int, ...]
    doubtful: tuple[int, ...]
    refusals: Mapping[str, int]
    aborted: str | None
    epsilon: float
    delta: float

    @property
    def is_complete(self) -> bool:
        """Whether there is a result."""
        return self.aborted is None

    def to_json(self) -> dict[str, Any]:
        """Return everything but the update, for a report or a page."""
        plain = ("federation", "round", "plan", "kind", "level", "base", "cohort", "prepared", "survivors", "contributors")
        found: dict[str, Any] = {name: getattr(self, name) for name in (*plain, "aborted", "epsilon", "delta")}
        groups = [
            {"survivors": item.survivors, "norm": item.norm, "bound": item.bound, "is_counted": item.is_counted}
            for item in self.groups
        ]
        return found | {
            "groups": groups,
            "extras": dict(self.extras),
            "suspects": list(self.suspects),
            "doubtful": list(self.doubtful),
            "refusals": dict(self.refusals),
        }


def name_fields(plan: RoundPlan, digest: bytes) -> dict[str, Any]:
    """Return the fields of a report that follow from the plan."""
    return {
        "federation": plan.federation,
        "round": plan.round,
        "plan": digest.hex(),
        "kind": plan.kind.value,
        "level": plan.level.value,
        "base": plan.base,
        "cohort": plan.cohort_size,
        "epsilon": plan.epsilon,
        "delta": plan.delta,
    }
