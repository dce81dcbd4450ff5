"""Error rates of comparisons: FMR and FNMR at a threshold, the threshold of an FMR, EER, DET points. Pure.

A comparison matches at and above the threshold, as everywhere in Facekeep. Names: ISO/IEC 2382-37 and ISO/IEC 19795-1.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.rates import allowed_errors
from facekeep_models.evaluation.comparisons import Comparisons, FloatArray

DET_POINTS: Final = 400
_FIRST_HEAD: Final = 4096


@dataclass(frozen=True, slots=True)
class DETPoint:
    """One point of a detection error trade-off curve (ISO/IEC 19795-1; Martin et al. 1997)."""

    threshold: float
    fmr: float
    fnmr: float


@dataclass(frozen=True, slots=True)
class EqualErrorRate:
    """Where FMR and FNMR meet.

    Attributes:
        rate: the rate.
        threshold: the lowest at which FNMR is no longer below FMR.
    """

    rate: float
    threshold: float


class Rates:
    """Error rates of comparisons, of the people as they are or weighted.

    Args:
        comparisons: what was compared.
        weights: (people,) how often each person is counted, for the bootstrap: a comparison counts as often as the product of
            its two people; None counts everyone once.

    Raises:
        ValueError: if the weights leave no mated or no non-mated comparison.
    """

    def __init__(self, comparisons: Comparisons, weights: NDArray[np.int64] | None = None) -> None:
        self._all, self._weights = comparisons, weights
        self._head: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._below: NDArray[np.int64] | None = None
        self.mated: int = len(comparisons.mated)
        self.non_mated: int = len(comparisons.non_mated)
        if weights is not None:
            self._below = np.concatenate([[0], np.cumsum(weights[comparisons.mated_people])])
            self.mated = int(self._below[-1])
            self.non_mated = _total(comparisons, weights)
        if self.mated < 1 or self.non_mated < 1:
            raise ValueError("nobody is left to compare")

    def false_matches(self, threshold: float) -> int:
        """Return the number of non-mated comparisons at and above the threshold."""
        return self._highest(len(self._all.non_mated) - _position(self._all.non_mated, threshold))

    def false_non_matches(self, threshold: float) -> int:
        """Return the number of mated comparisons below the threshold."""
        position = _position(self._all.mated, threshold)
        return position if self._below is None else int(self._below[position])

    def fmr(self, threshold: float) -> float:
        """Return the false match rate: the share of non-mated comparisons that match."""
        return self.false_matches(threshold) / self.non_mated

    def fnmr(self, threshold: float) -> float:
        """Return the false non-match rate: the share of mated comparisons that do not match."""
        return self.false_non_matches(threshold) / self.mated

    def threshold_at(self, target_fmr: float) -> float:
        """Return the lowest threshold at which the false match rate is at most the target."""
        if not 0.0 < target_fmr < 1.0:
            raise ValueError("a false match rate lies between 0 and 1")
        scores, allowed = self._all.non_mated, allowed_errors(self.non_mated, target_fmr)
        # The highest scores that together count for more than is allowed end at the first one that must not match.
        count = max(1, min(len(scores), allowed + 1 if self._weights is None else 1))
        while self._highest(count) <= allowed and count < len(scores):
            count = min(len(scores), 2 * count)
        first = bisect_left(range(count), True, key=lambda index: self._highest(index + 1) > allowed)
        refused = scores[len(scores) - 1 - min(first, len(scores) - 1)]
        # Just above it, in the precision of the scores; so all that equal it are refused as well.
        return float(np.nextafter(refused, scores.dtype.type(np.inf)))

    def tar_at(self, target_fmr: float) -> float:
        """Return the true accept rate of single comparisons at a false match rate: 1 - FNMR, failures to acquire apart."""
        return 1.0 - self.fnmr(self.threshold_at(target_fmr))

    def eer(self) -> EqualErrorRate:
        """Return the equal error rate.

        Rates are steps, so they may pass each other without being equal at any threshold: then the rate is where the straight
        line between the DET points on either side crosses FMR = FNMR, as on a ROC curve drawn with straight lines.
        """
        mated, other = self._all.mated, self._all.non_mated
        first = bisect_left(range(len(mated)), True, key=lambda index: self._has_crossed(float(mated[index])))
        upper = float(mated[first]) if first < len(mated) else math.inf
        # Only non-mated scores between the two mated ones can be nearer. Looked at from the top, in growing steps, since a
        # weighted count is made from the top as well.
        low = _position(other, float(mated[first - 1])) if first > 0 else 0
        high, step = _position(other, upper), 1
        bottom = high
        while bottom > low and self._has_crossed(float(other[bottom - 1])):
            bottom, step = max(low, bottom - step), 2 * step
        nearest = bisect_left(range(high), True, lo=bottom, key=lambda index: self._has_crossed(float(other[index])))
        threshold = min(upper, float(other[nearest])) if nearest < high else upper
        below = max(_last_below(mated, threshold), _last_below(other, threshold))
        before, after = self.fmr(below), self.fmr(threshold)
        # On the way from the point below, FMR over FNMR by `over`, to this one, FMR under FNMR by `under`.
        over, under = before - self.fnmr(below), self.fnmr(threshold) - after
        return EqualErrorRate(before + over / (over + under) * (after - before), threshold)

    def _has_crossed(self, threshold: float) -> bool:
        # In whole numbers: two rates that are equal as fractions may differ as floats.
        return self.false_non_matches(threshold) * self.non_mated >= self.false_matches(threshold) * self.mated

    def _highest(self, count: int) -> int:
        """Return the weight of the `count` highest non-mated scores; only as many are looked at as were ever asked for."""
        if self._weights is None or count == 0:
            return count
        if len(self._head) < count:
            scores = len(self._all.non_mated)
            size = min(scores, max(_FIRST_HEAD, 2 * len(self._head), count))
            people = self._all.non_mated_people[scores - size :][::-1]
            self._head = np.cumsum(self._weights[people[:, 0]] * self._weights[people[:, 1]])
        return int(self._head[count - 1])


def det_points(comparisons: Comparisons, most: int = DET_POINTS) -> tuple[DETPoint, ...]:
    """Return the points of the DET curve by rising threshold: all of them, or about `most`, dense where errors are few.

    The first has an FMR of 1, the last, at an infinite threshold, an FNMR of 1.
    """
    mated, other, rates = comparisons.mated, comparisons.non_mated, Rates(comparisons)
    thresholds = np.unique(np.concatenate([mated, other]))
    if len(thresholds) >= most:
        # Few false non-matches at the low end of the mated scores, few false matches at the high end of the others.
        ends = np.array([thresholds[0], thresholds[-1]])
        picked = [ends, mated[_dense_ranks(len(mated), most)], other[len(other) - 1 - _dense_ranks(len(other), most)]]
        thresholds = np.unique(np.concatenate(picked))
    values = [*(float(value) for value in thresholds), math.inf]
    return tuple(DETPoint(value, rates.fmr(value), rates.fnmr(value)) for value in values)


def _dense_ranks(count: int, most: int) -> NDArray[np.int64]:
    """Return about half of `most` ranks below `count`: most of them on a scale that stretches the beginning, as a DET plot does."""
    stretched = np.geomspace(1, count, 3 * most // 8).astype(np.int64) - 1
    even = np.linspace(0, count - 1, most // 8).astype(np.int64)
    return np.unique(np.concatenate([stretched, even]))


def _position(scores: FloatArray, threshold: float) -> int:
    """Return how many of the rising scores lie below the threshold."""
    if scores.dtype == np.float32 and math.isfinite(threshold):
        # The least float32 that is not below the threshold: rounding it down could let a score pass that is under it.
        narrow = np.float32(threshold)
        if float(narrow) < threshold:
            narrow = np.nextafter(narrow, np.float32(np.inf))
        return int(np.searchsorted(scores, narrow, side="left"))
    return int(np.searchsorted(scores, scores.dtype.type(threshold), side="left"))


def _last_below(scores: FloatArray, threshold: float) -> float:
    position = _position(scores, threshold)
    return float(scores[position - 1]) if position else -math.inf


def _total(comparisons: Comparisons, weights: NDArray[np.int64]) -> int:
    """Return the weight of all non-mated comparisons."""
    counts = comparisons.pictures_of
    if counts is None:
        who = comparisons.non_mated_people
        return int(np.sum(weights[who[:, 0]] * weights[who[:, 1]]))
    # All pairs: (sum of w n)^2 less the pairs within a person; halved or not, as the comparisons are.
    plain = int(counts.sum()) ** 2 - int(np.sum(counts**2))
    weighted = int(np.sum(weights * counts)) ** 2 - int(np.sum((weights * counts) ** 2))
    return weighted * len(comparisons.non_mated) // plain
