"""Thresholds and intervals, against slow and obvious references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.biometric import OperatingPoint
from facekeep.calibration import fmr_for_fpir, loosest_point, measure_operating_points, operating_point_for
from facekeep.errors import ComparisonError
from facekeep.rates import (
    FEWEST_ERRORS,
    PairCounts,
    all_pairs_false_matches,
    all_pairs_highest,
    allowed_errors,
    conservative_threshold,
    mated_non_matches,
    wilson_interval,
)


def point(fmr: float, threshold: float) -> OperatingPoint:
    return OperatingPoint(threshold, fmr, (fmr, fmr), 0.1, (0.0, 0.2), "made up", 10, 1000)


POINTS = (point(1e-2, 0.2), point(1e-4, 0.4), point(1e-3, 0.3))


@pytest.mark.parametrize(
    ("target", "fmr"), [(1e-2, 1e-2), (0.5, 1e-2), (9e-3, 1e-3), (1e-3, 1e-3), (1e-4, 1e-4), (1.0001e-4, 1e-4), (0.1 * 0.01, 1e-3)]
)
def test_the_most_permissive_point_that_keeps_the_target(target: float, fmr: float) -> None:
    assert operating_point_for(POINTS, target).fmr == fmr


@pytest.mark.parametrize("target", [9.9e-5, 1e-9, 0.0, 1.0, -1.0, float("nan")])
def test_no_point_for_the_target(target: float) -> None:
    with pytest.raises(ComparisonError) as caught:
        operating_point_for(POINTS, target)
    assert caught.value.code == "comparison.no_operating_point"
    if 0 < target < 1:
        assert "0.01, 0.001, 0.0001" in str(caught.value)


def test_a_pack_without_points_says_how_to_measure() -> None:
    for call in (lambda: operating_point_for((), 1e-3), lambda: loosest_point(())):
        with pytest.raises(ComparisonError, match=r"facekeep_models\.evaluation") as caught:
            call()
        assert caught.value.code == "comparison.no_operating_point"
    assert loosest_point(POINTS).fmr == 1e-2


@given(st.floats(1e-6, 0.5), st.integers(1, 10**6))
def test_fpir(target: float, size: int) -> None:
    fmr = fmr_for_fpir(target, size)
    assert 0 < fmr <= target * (1 + 1e-12)
    # The whole search keeps its promise: 1 - (1 - FMR)^N = FPIR.
    assert -math.expm1(size * math.log1p(-fmr)) == pytest.approx(target, rel=1e-9)


def test_fpir_of_one_subject_is_the_false_match_rate() -> None:
    assert fmr_for_fpir(0.01, 1) == pytest.approx(0.01)
    assert fmr_for_fpir(0.01, 1000) == pytest.approx(1.005e-5, rel=1e-3)
    with pytest.raises(ComparisonError, match="gallery"):
        fmr_for_fpir(0.01, 0)


def test_wilson_interval_against_published_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    for errors, trials, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson_interval(errors, trials) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert wilson_interval(20, 20) == (pytest.approx(1 - 0.1611, abs=5e-5), 1.0)


def unit_rows(seed: int, people: int, dimension: int = 8) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(people, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def slow_pairs(vectors: np.ndarray) -> list[tuple[int, int, float]]:
    scores = vectors @ vectors.T
    return [(i, j, float(scores[i, j])) for i in range(len(vectors)) for j in range(i + 1, len(vectors))]


@given(st.integers(0, 10**6), st.integers(2, 40), st.floats(-1, 1))
def test_false_matches_of_all_pairs(seed: int, people: int, threshold: float) -> None:
    vectors = unit_rows(seed, people)
    counts = all_pairs_false_matches(vectors, threshold)
    wrong = [(i, j) for i, j, score in slow_pairs(vectors) if score >= threshold]
    assert (counts.errors, counts.trials) == (len(wrong), people * (people - 1) // 2)
    assert counts.errors_of.tolist() == [sum(i in pair for pair in wrong) for i in range(people)]


def test_blocks_do_not_change_the_counts() -> None:
    vectors = unit_rows(1, 1100, 4)
    upper = (vectors @ vectors.T)[np.triu_indices(1100, 1)]
    assert all_pairs_false_matches(vectors, 0.9).errors == int((upper >= 0.9).sum())
    np.testing.assert_array_equal(all_pairs_highest(vectors, 5000), np.sort(upper)[::-1][:5000])


@given(st.integers(0, 10**6), st.integers(10, 60), st.floats(0.01, 0.5))
def test_a_threshold_never_passes_its_target(seed: int, people: int, target: float) -> None:
    vectors = unit_rows(seed, people)
    trials = people * (people - 1) // 2
    highest = all_pairs_highest(vectors, allowed_errors(trials, target) + 1)
    threshold = conservative_threshold(highest, trials, target)
    assert all_pairs_false_matches(vectors, threshold).rate <= target * (1 + 1e-9)
    assert round(threshold, 4) == threshold
    # And not stricter than the next score above the first that must not match.
    assert threshold <= float(highest[-1]) + 1.01e-4


def test_a_product_that_falls_short_of_a_whole_number_counts_as_it() -> None:
    assert 0.07 * 100 != 7
    assert [allowed_errors(100, rate / 100) for rate in range(101)] == list(range(101))


def test_ties_at_the_threshold_do_not_match() -> None:
    highest = np.array([0.9, 0.5, 0.5, 0.5], dtype=np.float32)
    assert conservative_threshold(highest, 100, 0.02) == 0.5001
    with pytest.raises(ValueError, match="needed"):
        conservative_threshold(highest, 1000, 0.02)


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 8), st.floats(-1, 1))
def test_non_matches(seed: int, pairs: int, people: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    scores = random.uniform(-1, 1, pairs).astype(np.float32)
    owners = random.integers(0, people, pairs)
    counts = mated_non_matches(scores, owners, threshold)
    assert counts.errors == sum(float(score) < threshold for score in scores)
    assert counts.trials_of.sum() == pairs
    assert counts.errors_of.sum() == counts.errors


@given(st.integers(0, 10**6), st.integers(3, 30), st.floats(0.2, 0.8))
def test_jackknife_against_leaving_out_people_one_by_one(seed: int, people: int, threshold: float) -> None:
    vectors = unit_rows(seed, people, 4)
    counts = all_pairs_false_matches(vectors, threshold)
    low, high = counts.interval()
    assert 0 <= low <= counts.rate <= high <= 1
    if counts.errors in {0, counts.trials}:
        return
    without = [all_pairs_false_matches(np.delete(vectors, i, axis=0), threshold).rate for i in range(people)]
    variance = (people - 1) / people * sum((rate - np.mean(without)) ** 2 for rate in without)
    variance = max(variance, counts.rate * (1 - counts.rate) / counts.trials)
    independent = max(1.0, counts.rate * (1 - counts.rate) / variance)
    assert (low, high) == pytest.approx(wilson_interval(counts.rate * independent, independent))


def test_dependence_widens_the_interval_and_never_narrows_it() -> None:
    even = PairCounts(100, 10_000, np.full(100, 1), np.full(100, 100))
    lumpy = PairCounts(100, 10_000, np.r_[np.full(5, 20), np.zeros(95, dtype=np.int64)], np.full(100, 100))
    independent = wilson_interval(100, 10_000)
    assert even.interval() == pytest.approx(independent)
    assert lumpy.interval()[1] > 1.5 * independent[1]


def test_no_error_claims_no_more_than_disjoint_pairs() -> None:
    counts = PairCounts(0, 499_500, np.zeros(1000, dtype=np.int64), np.full(1000, 999))
    low, high = counts.interval()
    assert low == 0
    assert high == pytest.approx(wilson_interval(0, 500)[1])


def test_coverage_of_the_interval() -> None:
    """Of 95 % intervals over all pairs of few people, nearly as many hold the true rate; binomial ones would not."""
    true_rate = all_pairs_false_matches(unit_rows(0, 4000, 3), 0.9).rate
    held = naive = 0
    for seed in range(200):
        counts = all_pairs_false_matches(unit_rows(seed + 1, 60, 3), 0.9)
        low, high = counts.interval()
        held += low <= true_rate <= high
        low, high = wilson_interval(counts.errors, counts.trials)
        naive += low <= true_rate <= high
    assert held >= 180
    assert held >= naive


def test_measured_points_hold_on_their_own_data() -> None:
    vectors = unit_rows(5, 300, 16)
    random = np.random.default_rng(6)
    scores = random.uniform(0.2, 1.0, 500).astype(np.float32)
    points = measure_operating_points(vectors, scores, random.integers(0, 50, 500), targets=(1e-4, 1e-2, 1e-3), dataset="made up")
    trials = 300 * 299 // 2
    # 1e-4 of 44,850 pairs are four: too few to rest a threshold on.
    assert 1e-4 * trials < FEWEST_ERRORS
    assert [one.fmr for one in points] == [1e-2, 1e-3]
    for one in points:
        measured = all_pairs_false_matches(vectors, one.threshold)
        assert measured.rate <= one.fmr
        assert one.fmr_interval[0] <= measured.rate * 1.01
        assert (one.mated, one.non_mated) == (500, trials)
        assert one.fnmr == pytest.approx(float(np.mean(scores < one.threshold)), rel=1e-3)
    assert points[0].threshold < points[1].threshold
    assert measure_operating_points(vectors[:5], scores, np.zeros(500, dtype=int), targets=(1e-3,), dataset="x") == ()
