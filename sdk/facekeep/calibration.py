"""Thresholds from scores: what was measured, how sure it is, and which threshold keeps a promised error rate. Pure.

Rates and their intervals: `facekeep.rates`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import OperatingPoint
from facekeep.errors import ComparisonError
from facekeep.rates import (
    FEWEST_ERRORS,
    RELATIVE_TOLERANCE,
    all_pairs_false_matches,
    all_pairs_highest,
    allowed_errors,
    conservative_threshold,
    mated_non_matches,
)


def operating_point_for(points: Sequence[OperatingPoint], target_fmr: float) -> OperatingPoint:
    """Return the operating point to use for a target: of those at most as permissive, the most permissive.

    Raises:
        ComparisonError: "comparison.no_operating_point", saying what there is.
    """
    if not 0.0 < target_fmr < 1.0:
        raise ComparisonError("comparison.no_operating_point", f"A false match rate lies between 0 and 1; found {target_fmr:g}.")
    allowed = [point for point in points if point.fmr <= target_fmr * (1.0 + RELATIVE_TOLERANCE)]
    if not allowed:
        raise ComparisonError("comparison.no_operating_point", _nothing_for(points, target_fmr))
    return max(allowed, key=lambda point: point.fmr)


def loosest_point(points: Sequence[OperatingPoint]) -> OperatingPoint:
    """Return the operating point with the highest false match rate.

    Raises:
        ComparisonError: "comparison.no_operating_point" if there is none.
    """
    if not points:
        raise ComparisonError("comparison.no_operating_point", _nothing_for(points, None))
    return max(points, key=lambda point: point.fmr)


def fmr_for_fpir(target_fpir: float, gallery_size: int) -> float:
    """Return the false match rate at which a search of `gallery_size` subjects has the false positive rate asked for.

    1 - (1 - FPIR)^(1/N), ISO/IEC 19795-1: comparisons with different subjects taken as independent. Where they are not, the
    true FPIR is lower, so this errs on the careful side.

    Raises:
        ComparisonError: "comparison.no_operating_point" for a rate that is none; "comparison.empty_gallery".
    """
    if not 0.0 < target_fpir < 1.0:
        raise ComparisonError(
            "comparison.no_operating_point", f"A false positive identification rate lies between 0 and 1; found {target_fpir:g}."
        )
    if gallery_size < 1:
        raise ComparisonError("comparison.empty_gallery", "A gallery holds at least one subject.")
    return -math.expm1(math.log1p(-target_fpir) / gallery_size)


def measure_operating_points(
    vectors: NDArray[np.float32],
    mated_scores: NDArray[np.float32],
    mated_people: NDArray[np.integer],
    *,
    targets: Sequence[float],
    dataset: str,
) -> tuple[OperatingPoint, ...]:
    """Return an operating point for each target that the counts support, the most permissive first.

    Args:
        vectors: (P, D) float32 unit vectors, one for each of P people: all their pairs are the non-mated comparisons.
        mated_scores: (M,) scores of mated comparisons.
        mated_people: (M,) which person each of them is of.
        targets: false match rates. One at which fewer than `FEWEST_ERRORS` false matches are expected is left out.
        dataset: what it was measured on, with which detector.
    """
    trials = len(vectors) * (len(vectors) - 1) // 2
    supported = sorted((target for target in targets if target * trials >= FEWEST_ERRORS), reverse=True)
    if not supported:
        return ()
    highest = all_pairs_highest(vectors, allowed_errors(trials, supported[0]) + 1)
    points: list[OperatingPoint] = []
    for target in supported:
        threshold = conservative_threshold(highest, trials, target)
        false_matches = all_pairs_false_matches(vectors, threshold)
        non_matches = mated_non_matches(mated_scores, mated_people, threshold)
        points.append(
            OperatingPoint(
                threshold=threshold,
                fmr=target,
                fmr_interval=_rounded(false_matches.interval()),
                fnmr=float(f"{non_matches.rate:.4g}"),
                fnmr_interval=_rounded(non_matches.interval()),
                dataset=dataset,
                mated=non_matches.trials,
                non_mated=trials,
            )
        )
    return tuple(points)


def _rounded(interval: tuple[float, float]) -> tuple[float, float]:
    return float(f"{interval[0]:.3g}"), float(f"{interval[1]:.3g}")


def _nothing_for(points: Sequence[OperatingPoint], target_fmr: float | None) -> str:
    if not points:
        return (
            "The embedder has no measured threshold, so no decision can be made with it. "
            "Use another pack, or measure it: python -m facekeep_models.evaluation.operating_points"
        )
    rates = ", ".join(f"{rate:g}" for rate in sorted({point.fmr for point in points}, reverse=True))
    return (
        f"The embedder has no threshold measured at a false match rate of {target_fmr:.3g} or below; it has {rates}. "
        "Ask for one of these, or search a smaller gallery."
    )
