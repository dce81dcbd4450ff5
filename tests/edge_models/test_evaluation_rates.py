"""Rates, intervals and accuracy: closed forms, scikit-learn's ROC, and slow obvious references under hypothesis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from facekeep_models.evaluation.accuracy import accuracy_at, accuracy_by_folds, best_threshold
from facekeep_models.evaluation.bootstrap import bootstrap_intervals, without_spread
from facekeep_models.evaluation.comparisons import Comparisons, sorted_comparisons
from facekeep_models.evaluation.errors import EvaluationError
from facekeep_models.evaluation.intervals import at_least, clopper_pearson
from facekeep_models.evaluation.measuring import measure_rates
from facekeep_models.evaluation.rates import Rates, det_points

# Few values, so that ties within and between the kinds are the rule.
SCORES = st.lists(st.integers(-8, 8).map(lambda value: value / 8), min_size=1, max_size=25)


def comparisons_of(
    mated: Sequence[float],
    non_mated: Sequence[float],
    folds: tuple[Sequence[int], Sequence[int]] | None = None,
    dtype: type = np.float64,
) -> Comparisons:
    """Every comparison between people of its own."""
    count, others = len(mated), len(non_mated)
    who = np.arange(2 * others).reshape(others, 2) + count
    return sorted_comparisons(
        (np.array(mated, dtype=dtype), np.arange(count)),
        (np.array(non_mated, dtype=dtype), who),
        count + 2 * others,
        folds=(np.array(folds[0]), np.array(folds[1])) if folds else None,
    )


def slow_eer(mated: Sequence[float], non_mated: Sequence[float]) -> float:
    """Where the polygon through all DET points crosses the diagonal."""
    points = [
        (sum(score >= t for score in non_mated) / len(non_mated), sum(score < t for score in mated) / len(mated))
        for t in [*sorted({*mated, *non_mated}), math.inf]
    ]
    for (fmr_a, fnmr_a), (fmr_b, fnmr_b) in pairwise(points):
        if fnmr_b >= fmr_b:
            share = (fmr_a - fnmr_a) / ((fmr_a - fnmr_a) + (fnmr_b - fmr_b))
            return fmr_a + share * (fmr_b - fmr_a)
    raise AssertionError


# Rates


@given(SCORES, SCORES, st.floats(-1.2, 1.2))
def test_rates_are_plain_counts(mated: list[float], non_mated: list[float], threshold: float) -> None:
    rates = Rates(comparisons_of(mated, non_mated))
    assert rates.false_matches(threshold) == sum(score >= threshold for score in non_mated)
    assert rates.false_non_matches(threshold) == sum(score < threshold for score in mated)


@given(SCORES, SCORES, st.floats(0.01, 0.99))
def test_the_threshold_of_an_fmr_is_the_lowest_that_keeps_it(mated: list[float], non_mated: list[float], target: float) -> None:
    rates = Rates(comparisons_of(mated, non_mated))
    threshold = rates.threshold_at(target)
    assert rates.fmr(threshold) <= target * (1 + 1e-9)
    assert rates.fmr(float(np.nextafter(threshold, -np.inf))) > target
    kept = [t for t in [*mated, *non_mated, math.inf] if rates.fmr(t) <= target * (1 + 1e-9)]
    assert rates.tar_at(target) == pytest.approx(max(1 - rates.fnmr(t) for t in kept))


@given(SCORES, SCORES)
def test_eer_is_where_the_polygon_crosses_the_diagonal(mated: list[float], non_mated: list[float]) -> None:
    assert Rates(comparisons_of(mated, non_mated)).eer().rate == pytest.approx(slow_eer(mated, non_mated), abs=1e-12)


@given(SCORES, SCORES, st.data())
@settings(max_examples=150)
def test_weights_count_like_copies(mated: list[float], non_mated: list[float], data: st.DataObject) -> None:
    people = 6
    pick = st.integers(0, people - 1)
    owners = data.draw(st.lists(pick, min_size=len(mated), max_size=len(mated)))
    pairs = data.draw(st.lists(st.tuples(pick, pick), min_size=len(non_mated), max_size=len(non_mated)))
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=people, max_size=people)))
    some = sorted_comparisons((np.array(mated), np.array(owners)), (np.array(non_mated), np.array(pairs)), people)
    copies = [score for score, owner in zip(mated, owners, strict=True) for _ in range(weights[owner])]
    others = [score for score, (one, two) in zip(non_mated, pairs, strict=True) for _ in range(weights[one] * weights[two])]
    if not copies or not others:
        with pytest.raises(ValueError, match="nobody is left"):
            Rates(some, weights)
        return
    weighted, plain = Rates(some, weights), Rates(comparisons_of(copies, others))
    assert (weighted.mated, weighted.non_mated) == (len(copies), len(others))
    for threshold in (-1.0, -0.25, 0.0, 0.5, 1.0, 1.1):
        assert weighted.false_matches(threshold) == plain.false_matches(threshold)
        assert weighted.false_non_matches(threshold) == plain.false_non_matches(threshold)
    for target in (0.05, 0.3, 0.9):
        assert weighted.tar_at(target) == plain.tar_at(target)
    assert weighted.eer().rate == pytest.approx(plain.eer().rate, abs=1e-12)


def test_a_float32_score_is_compared_as_it_is() -> None:
    score = float(np.float32(0.1))  # above 0.1
    rates = Rates(comparisons_of([score], [score], dtype=np.float32))
    above = score + 1e-12  # as float32 the same number
    assert (rates.false_matches(0.1), rates.false_matches(score), rates.false_matches(above)) == (1, 1, 0)
    assert (rates.false_matches(-math.inf), rates.false_matches(math.inf)) == (1, 0)


def test_perfect_and_useless_models() -> None:
    perfect = Rates(comparisons_of([0.8, 0.9], [0.1, 0.2]))
    assert (perfect.eer().rate, perfect.eer().threshold, perfect.tar_at(0.01)) == (0.0, 0.8, 1.0)
    useless = Rates(comparisons_of([0.5] * 4, [0.5] * 4))
    assert useless.eer().rate == 0.5
    assert Rates(comparisons_of([0.1], [0.9])).eer().rate == 1.0


def test_normal_scores_have_the_eer_of_the_formula() -> None:
    """Two normal distributions of equal width, two deviations apart: EER = Phi(-1), TAR at FMR f = Phi(2 + Phi^-1(f))."""
    random = np.random.default_rng(3)
    rates = Rates(comparisons_of(random.normal(2, 1, 40_000).tolist(), random.normal(0, 1, 60_000).tolist()))
    assert rates.eer().rate == pytest.approx(0.15866, abs=0.003)
    assert rates.eer().threshold == pytest.approx(1.0, abs=0.02)
    assert rates.tar_at(0.01) == pytest.approx(0.3721, abs=0.015)


@pytest.mark.parametrize("seed", range(5))
def test_against_the_roc_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    mated, other = random.normal(1.5, 1, 700).round(2), random.normal(0, 1, 1300).round(2)
    fpr, tpr, _ = roc_curve(np.r_[np.ones(700), np.zeros(1300)], np.r_[mated, other], drop_intermediate=False)
    comparisons = comparisons_of(mated.tolist(), other.tolist())
    rates = Rates(comparisons)
    for target in (0.5, 0.1, 0.01, 0.005):
        assert rates.tar_at(target) == pytest.approx(tpr[fpr <= target].max(), abs=1e-12)
    # Straight lines between the points of the ROC, as is usual.
    grid = np.linspace(0, 1, 2_000_001)
    assert rates.eer().rate == pytest.approx(grid[np.argmin(np.abs(1 - np.interp(grid, fpr, tpr) - grid))], abs=1e-5)
    ours = {(point.fmr, 1 - point.fnmr) for point in det_points(comparisons, most=100_000)}
    assert {(round(a, 9), round(b, 9)) for a, b in ours} == {(round(a, 9), round(b, 9)) for a, b in zip(fpr, tpr, strict=True)}


def test_a_thinned_det_curve_keeps_both_ends_and_falls() -> None:
    random = np.random.default_rng(0)
    points = det_points(comparisons_of(random.normal(2, 1, 5000).tolist(), random.normal(0, 1, 50_000).tolist()), most=400)
    assert 200 < len(points) <= 403
    assert (points[0].fmr, points[0].fnmr, points[-1].fmr, points[-1].fnmr) == (1.0, 0.0, 0.0, 1.0)
    assert all(a.fmr >= b.fmr and a.fnmr <= b.fnmr for a, b in pairwise(points))
    assert sum(0 < point.fmr < 1e-3 for point in points) > 20


# Intervals


def test_clopper_pearson_closed_forms() -> None:
    for trials in (1, 7, 1100, 10**6):
        low, high = clopper_pearson(0, trials)
        assert (low, high) == (0.0, pytest.approx(1 - 0.025 ** (1 / trials), rel=1e-9))
        assert clopper_pearson(trials, trials) == (pytest.approx(0.025 ** (1 / trials), rel=1e-12), 1.0)
    # One of two: P(at least one) = 1 - (1 - p)^2 and P(at most one) = 1 - p^2.
    assert clopper_pearson(1, 2) == (pytest.approx(1 - math.sqrt(0.975), rel=1e-9), pytest.approx(math.sqrt(0.975), rel=1e-9))
    # Five of ten, as tables have it.
    assert clopper_pearson(5, 10) == (pytest.approx(0.18708603, abs=1e-8), pytest.approx(0.81291397, abs=1e-8))


@given(st.integers(1, 60), st.data())
def test_clopper_pearson_against_the_sum_of_the_binomial(trials: int, data: st.DataObject) -> None:
    errors = data.draw(st.integers(1, trials))
    low, _ = clopper_pearson(errors, trials)
    tail = sum(math.comb(trials, k) * low**k * (1 - low) ** (trials - k) for k in range(errors, trials + 1))
    assert tail == pytest.approx(0.025, rel=1e-6)
    rate = data.draw(st.floats(0.001, 0.999))
    exact = sum(math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(errors, trials + 1))
    assert at_least(errors, trials, rate) == pytest.approx(exact, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("errors", "trials"), [(1, 10), (3, 1100), (11, 1100), (81, 8_138_595), (81_385, 8_138_595), (999, 1000)])
def test_clopper_pearson_against_scipy(errors: int, trials: int) -> None:
    from scipy.stats import beta  # comes with scikit-learn

    expected = beta.ppf(0.025, errors, trials - errors + 1), beta.ppf(0.975, errors + 1, trials - errors)
    assert clopper_pearson(errors, trials) == (pytest.approx(expected[0], rel=1e-6), pytest.approx(expected[1], rel=1e-6))


@pytest.mark.parametrize(("errors", "trials", "confidence"), [(-1, 5, 0.95), (6, 5, 0.95), (0, 0, 0.95), (1, 5, 1.0)])
def test_clopper_pearson_refuses_nonsense(errors: int, trials: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="lie"):
        clopper_pearson(errors, trials, confidence)


def crowd(random: np.random.Generator, people: int, spread: float) -> Comparisons:
    """All pairs of people, some of whom match everyone more easily: comparisons that share them are not independent."""
    easy = random.normal(0, spread, people)
    one, two = np.triu_indices(people, 1)
    other = easy[one] + easy[two] + random.normal(0, 1, len(one))
    owners = np.repeat(np.arange(people), 3)
    mated = 3 + easy[owners] + random.normal(0, 1, len(owners))
    counts = np.ones(people, dtype=np.int64)
    return sorted_comparisons((mated, owners), (other, np.stack([one, two], axis=1)), people, pictures_of=counts)


def test_the_bootstrap_is_seeded_and_wider_than_independence_where_people_are_shared() -> None:
    comparisons = crowd(np.random.default_rng(1), 80, 0.6)
    statistics: dict[str, Callable[[Rates], float]] = {"fmr": lambda rates: rates.fmr(1.0), "eer": lambda rates: rates.eer().rate}
    first = bootstrap_intervals(comparisons, statistics, resamples=200, seed=4)
    assert first == bootstrap_intervals(comparisons, statistics, resamples=200, seed=4)
    assert first != bootstrap_intervals(comparisons, statistics, resamples=200, seed=5)
    rates = Rates(comparisons)
    low, high = clopper_pearson(rates.false_matches(1.0), rates.non_mated)
    assert first["fmr"][0] < low < rates.fmr(1.0) < high < first["fmr"][1]
    assert first["eer"][0] < rates.eer().rate < first["eer"][1]


def test_the_bootstrap_covers_the_truth() -> None:
    """FMR at 1.5 of scores with variance 1 + 2 * 0.36 is known; 60 crowds, 95 % intervals."""
    truth = 0.5 * math.erfc(1.5 / math.sqrt(2 * (1 + 2 * 0.36)))
    covered = 0
    for seed in range(60):
        comparisons = crowd(np.random.default_rng(seed), 60, 0.6)
        low, high = bootstrap_intervals(comparisons, {"fmr": lambda rates: rates.fmr(1.5)}, resamples=150, seed=seed)["fmr"]
        covered += low <= truth <= high
    assert covered >= 53


def test_too_few_people_to_draw_from() -> None:
    lonely = sorted_comparisons((np.array([0.5]), np.array([0])), (np.array([0.1]), np.array([[0, 1]])), 2)
    with pytest.raises(EvaluationError) as caught:
        bootstrap_intervals(lonely, {"eer": lambda rates: rates.eer().rate}, resamples=100)
    assert caught.value.code == "evaluation.too_few_comparisons"


def test_no_errors_is_no_certainty() -> None:
    assert without_spread(3, 10, 5) is None
    assert without_spread(0, 1000, 10) == clopper_pearson(0, 10)
    assert without_spread(1000, 1000, 10) == clopper_pearson(10, 10)
    random = np.random.default_rng(0)
    measured = measure_rates(crowd(random, 40, 0.1), targets=(0.1, 1e-4), thresholds=(100.0,), resamples=50)
    assert measured.unsupported == (1e-4,)
    asked = measured.points[-1]
    assert (asked.origin, asked.fmr.rate, asked.fnmr.rate) == ("asked", 0.0, 1.0)
    # Twenty pairs of forty people share nobody.
    assert asked.fmr.people == clopper_pearson(0, 20)
    assert asked.fnmr.people == clopper_pearson(40, 40)
    assert asked.fmr.exact == clopper_pearson(0, 780)
    at_target = measured.points[0]
    assert at_target.tar_at_target is not None
    assert at_target.tar_at_target[0] <= 1 - at_target.fnmr.rate <= at_target.tar_at_target[1]


def test_a_perfect_model_is_not_certainly_perfect() -> None:
    one, two = np.triu_indices(30, 1)
    perfect = sorted_comparisons(
        (np.full(30, 0.9), np.arange(30)), (np.linspace(-0.2, 0.2, len(one)), np.stack([one, two], axis=1)), 30
    )
    measured = measure_rates(perfect, targets=(0.1,), resamples=50)
    assert measured.eer.rate == 0.0
    assert measured.eer_interval == clopper_pearson(0, 15)
    point = measured.points[0]
    assert point.fnmr.people == clopper_pearson(0, 30)
    assert point.tar_at_target == (1 - clopper_pearson(0, 30)[1], 1.0)


# Accuracy


@given(SCORES, SCORES)
def test_best_threshold_against_all_thresholds(mated: list[float], non_mated: list[float]) -> None:
    found = best_threshold(np.sort(mated), np.sort(non_mated))
    slow = max(
        (sum(score >= t for score in mated) + sum(score < t for score in non_mated)) / (len(mated) + len(non_mated))
        for t in [*mated, *non_mated, math.inf]
    )
    assert found.accuracy == pytest.approx(slow)
    assert accuracy_at(np.array(mated), np.array(non_mated), found.threshold) == pytest.approx(slow)


def test_the_best_threshold_stands_half_way() -> None:
    assert best_threshold(np.array([0.6, 0.8]), np.array([0.1, 0.2])).threshold == pytest.approx(0.4)
    neighbours = np.array([0.5]), np.array([np.nextafter(0.5, 0)])
    assert best_threshold(*neighbours).accuracy == 1.0


def test_accuracy_by_folds_uses_the_threshold_of_the_others() -> None:
    # Set 2 lies elsewhere: at the threshold of the others all its mated pairs fail; the others are tried at its mixture.
    mated, folds = [0.8, 0.9, 0.8, 0.9, 0.2, 0.3], [0, 0, 1, 1, 2, 2]
    other, other_folds = [0.4, 0.5, 0.4, 0.5, 0.0, 0.1], [0, 0, 1, 1, 2, 2]
    found = accuracy_by_folds(comparisons_of(mated, other, (folds, other_folds)))
    assert found.accuracies[2] == 0.5
    assert found.thresholds[2] == pytest.approx(0.65)
    assert found.mean == pytest.approx(np.mean(found.accuracies))
    assert found.standard_error == pytest.approx(np.std(found.accuracies, ddof=1) / math.sqrt(3))


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.integers(0, 3)), min_size=16, max_size=60))
def test_accuracy_by_folds_against_a_slow_reference(rows: list[tuple[int, bool, int]]) -> None:
    rows = [*rows, *((value, kind, fold) for fold in range(4) for value, kind in ((7, True), (1, False)))]
    mated, other = ([row for row in rows if row[1] is kind] for kind in (True, False))
    folds = [row[2] for row in mated], [row[2] for row in other]
    found = accuracy_by_folds(comparisons_of([row[0] / 8 for row in mated], [row[0] / 8 for row in other], folds))
    for fold in range(4):
        rest, held = [row for row in rows if row[2] != fold], [row for row in rows if row[2] == fold]
        threshold = found.thresholds[fold]

        def right(some: list[tuple[int, bool, int]], at: float) -> int:
            return sum((value / 8 >= at) is kind for value, kind, _ in some)

        assert right(rest, threshold) == max(right(rest, t / 16) for t in range(-1, 19))
        assert found.accuracies[fold] == pytest.approx(right(held, threshold) / len(held))


def test_folds_need_more_than_one_set() -> None:
    with pytest.raises(EvaluationError, match="too_few"):
        accuracy_by_folds(comparisons_of([0.5, 0.6], [0.1, 0.2], ([0, 0], [0, 0])))
