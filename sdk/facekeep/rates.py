"""Error rates from counts and scores: intervals, and the threshold that keeps a promised rate. Pure; it knows scores, not faces.

Terms of ISO/IEC 19795-1. Scores of all pairs of people are not independent: each person takes part in many. Intervals
therefore come from leaving out one person at a time (the jackknife of a U-statistic), not from the number of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Two-sided 95 %.
Z95: Final = 1.959963984540054
# Asked for 1e-3, a table that says 1e-3 must answer, whatever either went through as text.
RELATIVE_TOLERANCE: Final = 1e-9
# Fewer false matches than this at a target, and the threshold would rest on a handful of pairs.
FEWEST_ERRORS: Final = 5
_BLOCK_ROWS: Final = 512


def wilson_interval(errors: float, trials: float) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a rate, for independent trials (Wilson 1927)."""
    if not 0 <= errors <= trials or trials <= 0:
        raise ValueError("errors lie between 0 and the number of trials")
    rate, square = errors / trials, Z95 * Z95 / trials
    centre = (rate + square / 2) / (1 + square)
    half = Z95 / (1 + square) * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials))
    # At the ends the formula is exact, its arithmetic is not.
    low = 0.0 if errors == 0 else max(0.0, centre - half)
    high = 1.0 if errors == trials else min(1.0, centre + half)
    return low, high


@dataclass(frozen=True, slots=True, eq=False)
class PairCounts:
    """Errors and trials, and how much of them each person takes part in.

    Attributes:
        errors: number of wrong comparisons.
        trials: number of comparisons.
        errors_of: (P,) wrong comparisons in which each person takes part.
        trials_of: (P,) comparisons in which each person takes part.
    """

    errors: int
    trials: int
    errors_of: NDArray[np.int64]
    trials_of: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.trials < 1 or not 0 <= self.errors <= self.trials or self.errors_of.shape != self.trials_of.shape:
            raise ValueError("counts are at least one trial and no more errors than trials")

    @property
    def rate(self) -> float:
        """Measured rate."""
        return self.errors / self.trials

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the rate.

        The jackknife over people gives a variance; it is turned into the number of independent comparisons that would have
        the same variance, and those get a Wilson interval. So the interval stays inside 0 to 1 and is honest near 0.
        """
        people = len(self.trials_of)
        if self.errors in {0, self.trials}:
            # No variance to measure. Claim no more independent comparisons than there are disjoint pairs of people.
            independent = float(max(1, min(people // 2, self.trials)))
            return wilson_interval(0.0 if self.errors == 0 else independent, independent)
        rate = self.rate
        left_trials = self.trials - self.trials_of
        usable = left_trials > 0
        without = (self.errors - self.errors_of[usable]) / left_trials[usable]
        count = len(without)
        variance = (count - 1) / count * float(np.sum((without - without.mean()) ** 2)) if count > 1 else math.inf
        # Dependence can only cost information: never claim more than independent pairs would give.
        variance = max(variance, rate * (1 - rate) / self.trials)
        independent = max(1.0, rate * (1 - rate) / variance) if math.isfinite(variance) else 1.0
        return wilson_interval(rate * independent, independent)


def all_pairs_false_matches(vectors: NDArray[np.float32], threshold: float) -> PairCounts:
    """Count false matches among all pairs of different people.

    Args:
        vectors: (P, D) float32 unit vectors, one for each of P people.
        threshold: a pair at and above it is a false match.
    """
    people = len(vectors)
    errors_of = np.zeros(people, dtype=np.int64)
    for start, scores in _blocks(vectors):
        # In float64, as a decision compares: as float32 the threshold could fall onto the score just below it.
        wrong = scores >= np.float64(threshold)
        wrong[np.arange(len(scores)), np.arange(start, start + len(scores))] = False
        errors_of[start : start + len(scores)] = wrong.sum(axis=1)
    trials_of = np.full(people, people - 1, dtype=np.int64)
    return PairCounts(int(errors_of.sum()) // 2, people * (people - 1) // 2, errors_of, trials_of)


def all_pairs_highest(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return the `count` highest scores among all pairs of different people, highest first."""
    kept = np.zeros(0, dtype=np.float32)
    for start, scores in _blocks(vectors):
        rows = np.arange(start, start + len(scores))[:, None]
        later = scores[np.arange(scores.shape[1])[None, :] > rows]
        if len(kept) == count:
            later = later[later > kept.min()]
        kept = np.concatenate([kept, later])
        if len(kept) > count:
            kept = np.partition(kept, len(kept) - count)[-count:]
    return np.sort(kept)[::-1]


def allowed_errors(trials: int, target: float) -> int:
    """Return how many of `trials` may be wrong at a target rate: 3 of 300 at 1e-2, though 0.01 * 300 may fall short of 3."""
    return math.floor(target * trials * (1.0 + RELATIVE_TOLERANCE))


def conservative_threshold(highest: NDArray[np.float32], trials: int, target_fmr: float) -> float:
    """Return the lowest threshold of four decimals at which no more than the target of non-mated pairs would match.

    Args:
        highest: the highest non-mated scores, highest first, at least one more than `allowed_errors`.
        trials: number of non-mated comparisons they come from.
        target_fmr: false match rate that must not be passed.
    """
    allowed = allowed_errors(trials, target_fmr)
    if len(highest) <= allowed:
        raise ValueError("the first score that must not match is needed")
    # The first pair that must not match decides. Rounding goes up, and past a score that is itself of four decimals.
    threshold = math.floor(float(highest[allowed]) * 10_000 + 1) / 10_000
    return min(1.0, threshold)


def mated_non_matches(scores: NDArray[np.float32], people: NDArray[np.integer], threshold: float) -> PairCounts:
    """Count false non-matches among mated pairs.

    Args:
        scores: (M,) score of each mated pair.
        people: (M,) which person it is of.
        threshold: a pair below it is a false non-match.
    """
    _, index = np.unique(people, return_inverse=True)
    wrong = scores < np.float64(threshold)
    errors_of = np.bincount(index, weights=wrong).astype(np.int64)
    return PairCounts(int(wrong.sum()), len(scores), errors_of, np.bincount(index).astype(np.int64))


def _blocks(vectors: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the rows of the score matrix, some hundred at a time: the whole of it may not fit."""
    for start in range(0, len(vectors), _BLOCK_ROWS):
        yield start, vectors[start : start + _BLOCK_ROWS] @ vectors.T
