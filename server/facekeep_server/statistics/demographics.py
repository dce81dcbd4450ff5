"""From the summed counts of a demographic round to error rates by group, with intervals; small groups are not told. Pure.

A rate is a ratio of two noised sums. Its interval is that of Fieller (1954) for the noise, and of Wilson for the sampling, added in
squares: numerator and denominator have noise of known variance, and comparisons of one subject are taken as one (the number of
subjects, not of comparisons, is what rates are estimated from).

Groups below the floor are suppressed, by the lower end of what their size may be. If one group alone were suppressed, whoever
knows the whole fleet's figures could take the others off it: then the smallest of the others is suppressed with it, and no total
is stated as long as anything is suppressed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.protocol import RoundPlan
from facekeep.protocol.statistics import GROUP_FIELDS, DemographicSettings
from facekeep.rates import Z95

FLOOR: Final = 50


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate with its 95 % interval, sampling and noise together.

    Attributes:
        value: within 0 and 1.
        interval: likewise.
    """

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class GroupRates:
    """Error rates of one group, or of all.

    Attributes:
        name: of the group; "" for all.
        subjects: as summed, rounded; None if suppressed.
        fmr: false match rate at the threshold in use; None if suppressed, or nothing was compared.
        fnmr: false non-match rate, likewise.
        is_suppressed: whether it is too small to be told.
    """

    name: str
    subjects: int | None
    fmr: Rate | None
    fnmr: Rate | None
    is_suppressed: bool


@dataclass(frozen=True, slots=True)
class DemographicReport:
    """Error rates by group.

    Attributes:
        threshold: at which comparisons were decided.
        floor: fewest subjects of a group that is told.
        groups: in the order of the plan.
        total: of all groups; None while any is suppressed.
        devices: in the sum.
    """

    threshold: float
    floor: int
    groups: tuple[GroupRates, ...]
    total: GroupRates | None
    devices: int


def read_demographics(plan: RoundPlan, mean: NDArray[np.float32], devices: int, *, floor: int = FLOOR) -> DemographicReport:
    """Return what a completed demographic round says.

    Args:
        plan: of the round.
        mean: (5 G,) the mean contribution.
        devices: in the sum.
        floor: fewest subjects of a group that is told.

    Raises:
        FederationError: "federation.plan_refused" for a plan of another kind.
    """
    settings = DemographicSettings.parse(plan.settings)
    if mean.shape != (settings.length,) or devices < 1 or floor < 1:
        raise ValueError("five means for each group, over somebody, and a floor")
    sums = mean.astype(np.float64).reshape(-1, len(GROUP_FIELDS)) * devices
    variance = devices * (plan.noise_variance + 0.25) * plan.step**2
    hidden = suppressed([float(row[0]) - Z95 * math.sqrt(variance) for row in sums], floor)
    groups = tuple(
        _hidden(name) if place in hidden else _rates(name, row, variance, settings.ratio)
        for place, (name, row) in enumerate(zip(settings.groups, sums, strict=True))
    )
    total = None if hidden else _rates("", sums.sum(axis=0), variance * len(sums), settings.ratio)
    return DemographicReport(settings.threshold, floor, groups, total, devices)


def suppressed(sizes: Sequence[float], floor: int) -> frozenset[int]:
    """Return the places of the groups that are not told: those below the floor, and one more where that would be one alone."""
    small = {place for place, size in enumerate(sizes) if not size >= floor}
    others = [place for place in range(len(sizes)) if place not in small]
    if len(small) == 1 and others:
        small.add(min(others, key=lambda place: sizes[place]))
    return frozenset(small)


def _rates(name: str, row: NDArray[np.float64], variance: float, ratio: int) -> GroupRates:
    subjects, mated, non_matches, non_mated, false_matches = row.tolist()
    return GroupRates(
        name,
        max(0, round(subjects)),
        _rate(false_matches, non_mated * ratio, variance, variance * ratio**2, subjects),
        _rate(non_matches, mated, variance, variance, subjects),
        is_suppressed=False,
    )


def _rate(errors: float, trials: float, errors_noise: float, trials_noise: float, subjects: float) -> Rate | None:
    # A denominator that may be zero makes a rate that may be anything.
    if trials <= 2 * Z95 * math.sqrt(trials_noise) or subjects < 1:
        return None
    value = min(1.0, max(0.0, errors / trials))
    square = Z95**2
    # Fieller: p with (errors - p trials)**2 <= z**2 (noise of errors + p**2 noise of trials + trials**2 p (1 - p) / subjects).
    a = trials**2 - square * trials_noise + square * trials**2 / subjects
    b = -(2 * errors * trials + square * trials**2 / subjects)
    c = errors**2 - square * errors_noise
    root = math.sqrt(max(b**2 - 4 * a * c, 0.0))
    low, high = ((-b - root) / (2 * a), (-b + root) / (2 * a)) if a > 0 else (0.0, 1.0)
    return Rate(value, (min(value, max(0.0, low)), max(value, min(1.0, high))))


def _hidden(name: str) -> GroupRates:
    return GroupRates(name, None, None, None, is_suppressed=True)
