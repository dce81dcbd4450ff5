"""Comparison and exact search, against a slow reference."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.biometric import Embedding, OperatingPoint, Template
from facekeep.comparison import Gallery, best_of, compare, decide, identify_among
from facekeep.errors import ComparisonError, NonMatchError

CONTRACT = "c" * 64
NOW = datetime(2026, 1, 1, tzinfo=UTC)
POINT = OperatingPoint(0.5, 1e-3, (1e-4, 1e-2), 0.1, (0.0, 0.2), "made up", 10, 1000)


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def template(*values: float, contract: str = CONTRACT) -> Template:
    return Template(unit(*values), contract, "reference", NOW)


def rows(seed: int, count: int, dimension: int) -> np.ndarray:
    matrix = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def test_compare_is_the_cosine() -> None:
    probe = Embedding(unit(1, 0, 0), CONTRACT)
    assert compare(probe, template(1, 1, 0)).value == pytest.approx(0.70710678)
    assert compare(probe, template(-1, 0, 0)).value == pytest.approx(-1.0)


@pytest.mark.parametrize("other", [template(1, 0, 0, contract="d" * 64), template(1, 0)])
def test_other_contracts_never_meet(other: Template) -> None:
    with pytest.raises(ComparisonError) as caught:
        compare(Embedding(unit(1, 0, 0), CONTRACT), other)
    assert caught.value.code == "comparison.contract_mismatch"
    with pytest.raises(ComparisonError):
        best_of(Embedding(unit(1, 0, 0), CONTRACT), [template(1, 0, 0), other])


def test_best_of() -> None:
    probe = Embedding(unit(1, 0, 0), CONTRACT)
    assert best_of(probe, [template(0, 1, 0), template(1, 0, 0), template(1, 1, 0)]).value == pytest.approx(1.0)
    with pytest.raises(ComparisonError) as caught:
        best_of(probe, [])
    assert caught.value.code == "comparison.empty_gallery"


def test_decide_at_and_above_the_threshold() -> None:
    probe = Embedding(unit(1, 0), CONTRACT)
    angle = np.arccos(0.5)
    assert decide("s", compare(probe, template(np.cos(angle - 1e-3), np.sin(angle - 1e-3))), POINT).is_match
    refused = decide("s", compare(probe, template(np.cos(angle + 1e-3), np.sin(angle + 1e-3))), POINT)
    with pytest.raises(NonMatchError):
        refused.require_match()


Precision = Literal["float32", "int8"]


def slow_search(vectors: np.ndarray, labels: np.ndarray, probe: np.ndarray) -> dict[int, float]:
    best: dict[int, float] = {}
    for vector, label in zip(vectors, labels, strict=True):
        score = float(np.dot(vector.astype(np.float64), probe.astype(np.float64)))
        best[int(label)] = max(score, best.get(int(label), -2.0))
    return best


@given(
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.integers(1, 24),
    st.integers(1, 60),
    st.integers(1, 8),
    st.sampled_from(["float32", "int8"]),
)
def test_search_against_the_slow_reference(
    seed: int, count: int, dimension: int, subjects: int, top: int, precision: Precision
) -> None:
    vectors = rows(seed, count, dimension)
    labels = np.random.default_rng(seed).integers(-5, subjects, count)
    probe = rows(seed + 1, 1, dimension)[0]
    before = vectors.copy()
    found = Gallery(vectors, labels, precision=precision).search(probe, top=top)
    np.testing.assert_array_equal(vectors, before)
    expected = slow_search(vectors, labels, probe)
    # Half a step of int8 in each component, all in the same direction, is the worst case.
    tolerance = 1e-5 if precision == "float32" else float(np.sqrt(dimension)) * 0.5 / 127 + 1e-5
    assert len(found) == min(top, len(expected))
    assert len({label for label, _ in found}) == len(found)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    for label, score in found:
        assert score == pytest.approx(expected[label], abs=tolerance)
    floor = min(score for _, score in found)
    left = [score for label, score in expected.items() if label not in {label for label, _ in found}]
    assert all(score <= floor + 2 * tolerance for score in left)


def test_more_rows_than_one_chunk() -> None:
    vectors, probe = rows(3, 2000, 16), rows(4, 1, 16)[0]
    labels = np.arange(2000)
    exact = Gallery(vectors, labels).search(probe, top=2000)
    coarse = dict(Gallery(vectors, labels, precision="int8").search(probe, top=2000))
    assert len(exact) == 2000
    assert max(abs(score - coarse[label]) for label, score in exact) < 0.02


def test_ties_are_settled_by_label() -> None:
    gallery = Gallery(np.stack([unit(1, 0)] * 5), np.array([7, 3, 9, 3, 1]))
    assert [label for label, _ in gallery.search(unit(1, 0), top=3)] == [1, 3, 7]
    assert [label for label, _ in gallery.search(unit(1, 0), top=1)] == [1]
    assert len(gallery) == 4


def test_int8_takes_a_quarter() -> None:
    vectors = rows(0, 1000, 256)
    wide, narrow = Gallery(vectors, np.arange(1000)), Gallery(vectors, np.arange(1000), precision="int8")
    assert wide.nbytes == vectors.nbytes
    assert narrow.nbytes <= 0.27 * wide.nbytes


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_wipe_leaves_zeros_and_refuses_searches(precision: Precision) -> None:
    gallery = Gallery(rows(0, 10, 8), np.array([1, 0] * 5), precision=precision)
    memory: Any = gallery._rows
    gallery.wipe()
    gallery.wipe()
    assert not memory.any()
    assert len(gallery) == 0
    with pytest.raises(ComparisonError) as caught:
        gallery.search(unit(*range(1, 9)))
    assert caught.value.code == "comparison.empty_gallery"


def test_what_a_gallery_refuses() -> None:
    vectors = rows(0, 4, 8)
    for labels in (np.arange(3), np.arange(4.0), np.zeros((4, 1), dtype=int)):
        with pytest.raises(ValueError, match="label"):
            Gallery(vectors, labels)
    for bad in (vectors.astype(np.float64), vectors[0], np.zeros((4, 0), dtype=np.float32)):
        with pytest.raises(ValueError, match="float32"):
            Gallery(bad, np.arange(4))
    with pytest.raises(ValueError, match="precision"):
        Gallery(vectors, np.arange(4), precision="int4")  # type: ignore[arg-type]
    for value in (np.nan, np.inf, 0.0, 2.0):
        broken = vectors.copy()
        broken[2] = value
        with pytest.raises(ComparisonError) as caught:
            Gallery(broken, np.arange(4))
        assert caught.value.code == "comparison.invalid_embedding"


def test_what_a_search_refuses() -> None:
    gallery = Gallery(rows(0, 4, 8), np.arange(4))
    for probe in (unit(1, 0), rows(0, 1, 8)[0].astype(np.float64)):
        with pytest.raises(ComparisonError) as caught:
            gallery.search(probe)
        assert caught.value.code == "comparison.contract_mismatch"
    with pytest.raises(ComparisonError) as caught:
        gallery.search(np.full(8, np.nan, dtype=np.float32))
    assert caught.value.code == "comparison.invalid_embedding"
    with pytest.raises(ValueError, match="at least one"):
        gallery.search(rows(0, 1, 8)[0], top=0)
    with pytest.raises(ComparisonError) as caught:
        Gallery(np.zeros((0, 8), dtype=np.float32), np.zeros(0, dtype=int)).search(rows(0, 1, 8)[0])
    assert caught.value.code == "comparison.empty_gallery"


def test_nothing_of_a_gallery_shows_in_its_repr() -> None:
    assert repr(Gallery(rows(0, 4, 8), np.arange(4))) == "Gallery(subjects=4, dimension=8, precision=float32)"


@pytest.mark.parametrize(
    ("ranked", "outcome", "labels"),
    [
        ((), "unknown", []),
        (((1, 0.49),), "unknown", []),
        (((1, float("nan")),), "unknown", []),
        (((1, 0.5),), "identified", [1]),
        (((1, 0.9), (2, 0.84)), "identified", [1]),
        (((1, 0.9), (2, 0.86), (3, 0.2)), "ambiguous", [1, 2]),
        (((1, 0.52), (2, 0.48), (3, 0.4)), "ambiguous", [1, 2]),
        (((1, 0.49), (2, 0.48)), "unknown", []),
    ],
)
def test_identify_among(ranked: tuple[tuple[int, float], ...], outcome: str, labels: list[int]) -> None:
    found, kept = identify_among(ranked, 0.5, 0.05)
    assert (found, [label for label, _ in kept]) == (outcome, labels)


def test_equal_scores_are_ambiguous_even_without_a_margin() -> None:
    assert identify_among(((1, 0.9), (2, 0.9)), 0.5, 0.0)[0] == "ambiguous"
    assert identify_among(((1, 0.9), (2, 0.8999)), 0.5, 0.0)[0] == "identified"
