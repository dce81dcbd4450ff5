"""From comparisons to the rates, points and intervals of a report. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from facekeep.biometric import OperatingPoint
from facekeep.rates import FEWEST_ERRORS
from facekeep_models.evaluation.bootstrap import RESAMPLES, Statistic, bootstrap_intervals, people_in, without_spread
from facekeep_models.evaluation.comparisons import Comparisons
from facekeep_models.evaluation.intervals import clopper_pearson
from facekeep_models.evaluation.rates import EqualErrorRate, Rates
from facekeep_models.evaluation.report import ErrorRate, Interval, RatePoint

TARGETS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True, slots=True)
class Measured:
    """Rates of comparisons.

    Attributes:
        eer: equal error rate.
        eer_interval: 95 % by bootstrap over identities.
        points: at each supported target, each operating point of a manifest and each threshold asked for.
        unsupported: targets at which fewer than `FEWEST_ERRORS` false matches would decide.
    """

    eer: EqualErrorRate
    eer_interval: Interval
    points: tuple[RatePoint, ...]
    unsupported: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    origin: Literal["target", "manifest", "asked"]
    target: float | None
    threshold: float


def measure_rates(
    comparisons: Comparisons,
    *,
    targets: Sequence[float] = TARGETS,
    manifest_points: Sequence[OperatingPoint] = (),
    thresholds: Sequence[float] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Return the rates of comparisons, with 95 % intervals.

    Args:
        comparisons: what was compared.
        targets: false match rates to find thresholds for.
        manifest_points: operating points to try on these data.
        thresholds: further ones.
        resamples: of people.
        seed: of the draws.
        progress: told about every resample.

    Raises:
        EvaluationError: "evaluation.too_few_comparisons".
    """
    rates = Rates(comparisons)
    supported = [target for target in targets if target * rates.non_mated >= FEWEST_ERRORS]
    wanted = [
        *(_Wanted("target", target, rates.threshold_at(target)) for target in supported),
        *(_Wanted("manifest", point.fmr, point.threshold) for point in manifest_points),
        *(_Wanted("asked", None, threshold) for threshold in thresholds),
    ]
    statistics: dict[str, Statistic] = {"eer": lambda each: each.eer().rate}
    for index, one in enumerate(wanted):
        statistics[f"fmr {index}"] = _at(Rates.fmr, one.threshold)
        statistics[f"fnmr {index}"] = _at(Rates.fnmr, one.threshold)
        if one.origin == "target" and one.target is not None:
            statistics[f"tar {index}"] = _at(Rates.tar_at, one.target)
    spans = bootstrap_intervals(comparisons, statistics, resamples=resamples, seed=seed, progress=progress)
    # Comparisons that share nobody: one for each person who has mated ones, one for every two people.
    of_one, of_two = len(np.unique(comparisons.mated_people)), len(people_in(comparisons)) // 2

    def rate(errors: int, trials: int, independent: int, name: str) -> ErrorRate:
        believed = without_spread(errors, trials, independent) or spans[name]
        return ErrorRate(errors, trials, clopper_pearson(errors, trials), believed)

    points: list[RatePoint] = []
    for index, one in enumerate(wanted):
        fmr = rate(rates.false_matches(one.threshold), rates.non_mated, of_two, f"fmr {index}")
        fnmr = rate(rates.false_non_matches(one.threshold), rates.mated, of_one, f"fnmr {index}")
        tar = spans.get(f"tar {index}")
        if tar is not None and fnmr.errors in {0, fnmr.trials}:
            # No draw can find an error that is not there.
            tar = (min(tar[0], 1.0 - fnmr.people[1]), max(tar[1], 1.0 - fnmr.people[0]))
        points.append(RatePoint(one.origin, one.target, one.threshold, fmr, fnmr, tar))
    eer = rates.eer()
    certain = without_spread(0, min(rates.mated, rates.non_mated), min(of_one, of_two)) if eer.rate == 0.0 else None
    unsupported = tuple(target for target in targets if target not in supported)
    return Measured(eer, certain or spans["eer"], tuple(points), unsupported)


def _at(measure: Callable[[Rates, float], float], where: float) -> Statistic:
    return lambda rates: measure(rates, where)
