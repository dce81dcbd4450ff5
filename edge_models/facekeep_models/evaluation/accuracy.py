"""Accuracy at the best threshold, and by folds as LFW's protocol has it. Pure.

Accuracy is the share of comparisons decided rightly. It depends on how many are mated, so it is for lists of pairs with as many
mated as non-mated ones, such as LFW's, and for comparing with what others publish. Error rates at a stated FMR say more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from facekeep_models.evaluation.comparisons import Comparisons, FloatArray
from facekeep_models.evaluation.errors import EvaluationError


@dataclass(frozen=True, slots=True)
class BestThreshold:
    """The threshold with the most right decisions, and their share. Chosen on the data it is measured on: an upper bound."""

    threshold: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class FoldedAccuracy:
    """Accuracy on each set at the threshold that is best on all the others.

    Attributes:
        accuracies: one for each set.
        thresholds: the threshold used on each set.
        mean: their mean, LFW's "estimated mean accuracy".
        standard_error: of the mean: the sample standard deviation over the square root of the number of sets.
    """

    accuracies: tuple[float, ...]
    thresholds: tuple[float, ...]
    mean: float
    standard_error: float


def best_threshold(mated: FloatArray, non_mated: FloatArray) -> BestThreshold:
    """Return the best threshold: half-way between two neighbouring scores, and of several equally good ones the middle one.

    Args:
        mated: scores in rising order.
        non_mated: scores in rising order.
    """
    scores = np.unique(np.concatenate([mated, non_mated]).astype(np.float64))
    halves = (scores[:-1] + scores[1:]) / 2.0
    # Between two neighbouring doubles there is nothing: then the upper one does what a number between them would.
    between = np.where(halves > scores[:-1], halves, scores[1:])
    cuts = np.concatenate([scores[:1], between, np.nextafter(scores[-1:], np.inf)])
    right = len(mated) - np.searchsorted(mated, cuts) + np.searchsorted(non_mated, cuts)
    best = np.flatnonzero(right == right.max())
    chosen = int(best[len(best) // 2])
    return BestThreshold(float(cuts[chosen]), float(right[chosen]) / (len(mated) + len(non_mated)))


def accuracy_at(mated: FloatArray, non_mated: FloatArray, threshold: float) -> float:
    """Return the share of comparisons decided rightly at a threshold."""
    right = int(np.sum(mated >= np.float64(threshold))) + int(np.sum(non_mated < np.float64(threshold)))
    return right / (len(mated) + len(non_mated))


def accuracy_by_folds(comparisons: Comparisons) -> FoldedAccuracy:
    """Return the accuracy of comparisons that belong to sets: the image-restricted protocol of LFW's View 2.

    Huang, Ramesh, Berg and Learned-Miller 2007, "Labeled Faces in the Wild", UMass Amherst TR 07-49, section III.

    Raises:
        EvaluationError: "evaluation.too_few_comparisons" unless there are two sets and all hold a comparison.
    """
    mated_folds, other_folds = comparisons.mated_folds, comparisons.non_mated_folds
    if mated_folds is None or other_folds is None:
        raise ValueError("these comparisons belong to no sets")
    folds = int(max(mated_folds.max(), other_folds.max())) + 1
    accuracies: list[float] = []
    thresholds: list[float] = []
    for fold in range(folds):
        mated, other = mated_folds == fold, other_folds == fold
        if mated.all() or other.all() or not (mated.any() or other.any()):
            raise EvaluationError(
                "evaluation.too_few_comparisons",
                f"Set {fold + 1} of {folds} holds no comparison, or all of a kind, so no threshold can be chosen without it.",
            )
        best = best_threshold(comparisons.mated[~mated], comparisons.non_mated[~other])
        thresholds.append(best.threshold)
        accuracies.append(accuracy_at(comparisons.mated[mated], comparisons.non_mated[other], best.threshold))
    if folds < 2:
        raise EvaluationError("evaluation.too_few_comparisons", "Accuracy by folds needs two sets of comparisons or more.")
    deviation = float(np.std(accuracies, ddof=1))
    return FoldedAccuracy(tuple(accuracies), tuple(thresholds), float(np.mean(accuracies)), deviation / math.sqrt(folds))
