"""The evaluation gate: a candidate is no worse than the model in use on the people whom the operator evaluates on. Pure.

A poisoned update that stays within the clip is believed by the sum. This is where it is looked at: before anybody uses it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep_server.errors import ServerError
from facekeep_server.releases.evaluating import Accuracy

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What the gate lets pass.

    Attributes:
        most_fall: false match rate -> by how much the true accept rate may fall, as a share of one.
        most_change: largest norm of the change over the norm of the numbers that it changes.
    """

    most_fall: Mapping[float, float] = field(default_factory=lambda: {1e-2: 0.005, 1e-3: 0.01})
    most_change: float = 0.25

    def __post_init__(self) -> None:
        numbers = (*self.most_fall, *self.most_fall.values(), self.most_change)
        if not self.most_fall or not all(math.isfinite(number) and 0 <= number <= 1 for number in numbers):
            raise ServerError("server.invalid_request", "The limits of the gate lie between 0 and 1.")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says.

    Attributes:
        reasons: why the candidate is withheld; empty if it passes.
        figures: what was measured, for people.
    """

    reasons: tuple[str, ...]
    figures: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether it passes."""
        return not self.reasons


def judge_change(before: NDArray[np.float32], after: NDArray[np.float32], limits: GateLimits) -> Verdict:
    """Judge the numbers alone: (P,) of the level before and after."""
    change = after.astype(np.float64) - before.astype(np.float64)
    if not np.isfinite(change).all():
        return Verdict(("a number of the candidate is not finite",), {})
    norm, base = float(np.linalg.norm(change)), float(np.linalg.norm(before.astype(np.float64)))
    figures = {"change": norm, "numbers": base, "most": limits.most_change * base}
    if norm > limits.most_change * base:
        return Verdict((f"the change has norm {norm:.3g}, more than {limits.most_change:g} of {base:.3g}",), figures)
    return Verdict((), figures)


def judge_accuracy(before: Mapping[str, Accuracy], after: Mapping[str, Accuracy], limits: GateLimits) -> Verdict:
    """Judge the true accept rates on each set of crops.

    Args:
        before: name of the set -> the model in use.
        after: name of the set -> the candidate.
        limits: what may fall by how much.
    """
    reasons, figures, measured = [], {}, set()
    for name, old in before.items():
        new = after[name]
        for target, most in limits.most_fall.items():
            if target not in old.tar:
                continue
            measured.add(target)
            fall = old.tar[target] - new.tar[target]
            figures[f"{name} {target:g}"] = {
                "before": [old.tar[target], *old.interval[target]],
                "after": [new.tar[target], *new.interval[target]],
            }
            # Not the other way round: a NaN compares false.
            if not fall <= most:
                reasons.append(f"{name}: TAR at FMR {target:g} falls from {old.tar[target]:.4f} to {new.tar[target]:.4f}")
    if missing := [target for target in limits.most_fall if target not in measured]:
        reasons.append(f"too few people to measure at FMR {', '.join(f'{target:g}' for target in missing)}")
    return Verdict(tuple(reasons), figures)
