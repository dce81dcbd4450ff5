"""Intervals by drawing people, not comparisons: two comparisons of one person are not independent. Pure, and seeded.

People are drawn with replacement; a comparison counts as often as the product of how often its two people were drawn, and no
person is compared with a copy of itself. Bolle, Ratha and Pankanti 2004, "Error analysis of pattern recognition systems: the
subsets bootstrap"; Fogliato, Patil and Perona 2024, "Confidence intervals for error rates in 1:1 matching tasks", which
compares it with others. Careful rather than tight: what is peculiar to a single comparison counts up to three times in the
variance (Owen 2007, "The pigeonhole bootstrap"), so where hardly any people are shared, as in a list of pairs, or errors are few,
the interval is up to 1.7 times as wide as the exact one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep_models.evaluation.comparisons import Comparisons
from facekeep_models.evaluation.errors import EvaluationError
from facekeep_models.evaluation.intervals import clopper_pearson
from facekeep_models.evaluation.rates import Rates

RESAMPLES: Final = 1000
_FEWEST_USABLE: Final = 0.5

Statistic = Callable[[Rates], float]


def bootstrap_intervals(
    comparisons: Comparisons,
    statistics: Mapping[str, Statistic],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, tuple[float, float]]:
    """Return the percentile interval of each statistic over resamples of people.

    Raises:
        EvaluationError: "evaluation.too_few_comparisons" if most resamples have no mated or no non-mated comparison.
    """
    random = np.random.default_rng(seed)
    present = people_in(comparisons)
    found: dict[str, list[float]] = {name: [] for name in statistics}
    usable = 0
    for resample in range(resamples):
        drawn = present[random.integers(len(present), size=len(present))]
        weights = np.bincount(drawn, minlength=comparisons.people).astype(np.int64)
        try:
            rates = Rates(comparisons, weights)
        except ValueError:
            # Everyone drawn has one picture only, or one person was drawn again and again.
            continue
        usable += 1
        for name, statistic in statistics.items():
            found[name].append(statistic(rates))
        if progress is not None:
            progress(resample + 1, resamples)
    if usable < _FEWEST_USABLE * resamples:
        raise EvaluationError(
            "evaluation.too_few_comparisons",
            f"{len(present)} people are too few to draw from: only {usable} of {resamples} draws can be compared.",
        )
    tails = [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]
    return {name: _bounds(np.quantile(values, tails)) for name, values in found.items()}


def people_in(comparisons: Comparisons) -> NDArray[np.intp]:
    """Return the people who take part in a comparison."""
    seen = np.zeros(comparisons.people, dtype=bool)
    seen[comparisons.mated_people] = True
    seen[comparisons.non_mated_people] = True
    return np.flatnonzero(seen)


def without_spread(errors: int, trials: int, independent: int) -> tuple[float, float] | None:
    """Return an interval for a rate that no resample can move, since no comparison or every one was wrong; else None.

    Where there is nothing to draw from, the exact interval of so many comparisons as share no person is claimed, as
    `facekeep.rates` does.
    """
    if 0 < errors < trials:
        return None
    count = max(1, min(independent, trials))
    return clopper_pearson(0 if errors == 0 else count, count)


def _bounds(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values[0]), float(values[1])
