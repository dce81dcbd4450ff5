"""Clipping, rounding and the ring: the bound that privacy rests on holds for whatever comes in."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facekeep.errors import FederationError
from facekeep.privacy.noise import discrete_gaussian
from facekeep.privacy.ring import Scale, _squared_norm, clip, from_ring, quantise, to_ring
from tests.sdk.privacy_setting import Seeded

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


def squared(values: np.ndarray) -> int:
    return sum(int(value) ** 2 for value in values)


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, st.integers(1, 60), elements=FLOATS), st.integers(1, 2**20), st.floats(1e-6, 1e3), st.integers(0, 99))
def test_no_input_passes_the_sensitivity(update, clip_units, step, seed):
    scale = Scale(step, clip_units, update.size)
    rounded = quantise(update, scale, Seeded(seed))
    assert rounded.dtype == np.int64
    assert squared(rounded) <= scale.squared_sensitivity <= (scale.clip_units + math.sqrt(scale.length)) ** 2


@pytest.mark.parametrize("clip_units", [1, 2, 10, 300, 2**18])
@pytest.mark.parametrize("length", [1, 50, 50_000])
def test_the_worst_case_of_rounding_stays_below_the_bound(clip_units, length):
    scale = Scale(0.01, clip_units, length)
    halves = np.full(length, 0.5 * 0.01, dtype=np.float64)  # every coordinate may go up: the most that rounding can add
    for update in (halves, halves * 1e6, np.ones(length) * 1e-9):
        assert squared(quantise(update, scale, Seeded("worst"))) <= scale.squared_sensitivity


def test_the_sensitivity_is_that_of_kairouz_liu_and_steinke():
    clip_units, length = 2**18, 53_000
    conditional = clip_units**2 + length / 4 + math.sqrt(2 * 0.5) * (clip_units + math.sqrt(length) / 2)
    scale = Scale(1e-6, clip_units, length)
    assert scale.squared_sensitivity == math.floor(min(conditional, (clip_units + math.sqrt(length)) ** 2))
    assert scale.sensitivity / clip_units - 1 < 1e-5  # what rounding costs at the sizes of a round


def test_rounding_is_right_on_average():
    # The mean of 4,000 roundings of 50 values lies within 6 deviations of each value: fails a right one with probability 1e-7.
    scale, randomness = Scale(1.0, 1000, 50), Seeded("mean")
    update = np.linspace(-20, 20, 50) + 0.3
    mean = np.mean([quantise(update, scale, randomness) for _ in range(4000)], axis=0)
    assert np.abs(mean - update).max() < 6 * 0.5 / math.sqrt(4000)


def test_whole_numbers_stay_what_they_are():
    counts = np.arange(-30, 30).astype(np.float32)
    assert quantise(counts, Scale(1.0, 1000, 60), Seeded("whole")).tolist() == list(range(-30, 30))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(bad):
    update = np.zeros(4)
    update[2] = bad
    for attempt in (lambda: clip(update, 1.0), lambda: quantise(update, Scale(1.0, 1, 4), Seeded("bad"))):
        with pytest.raises(FederationError) as caught:
            attempt()
        assert caught.value.code == "federation.invalid_update"


@pytest.mark.parametrize("shape", [(3,), (5,), (4, 1), ()])
def test_another_shape_is_refused(shape):
    with pytest.raises(FederationError, match="4 parameters"):
        quantise(np.zeros(shape), Scale(1.0, 1, 4), Seeded("shape"))


@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e300, 1e300)), st.floats(1e-3, 1e6))
def test_clipping_keeps_the_direction_and_the_norm(update, norm):
    clipped = clip(update, norm).astype(np.float64)
    assert clipped.dtype == np.float64
    assert np.isfinite(clipped).all()
    assert np.linalg.norm(clipped) <= norm * (1 + 1e-6)
    assert (np.sign(clipped) * np.sign(update) >= 0).all()
    if np.abs(update).max() < 1e3 and np.linalg.norm(update) <= norm:
        assert np.array_equal(clip(update, norm), update.astype(np.float32))


def test_clipping_nothing_gives_nothing():
    assert clip(np.zeros(5), 1.0).tolist() == [0.0] * 5


@given(arrays(np.int64, st.integers(0, 20), elements=st.integers(-(2**31), 2**31 - 1)))
def test_the_ring_and_back(values):
    residues = to_ring(values)
    assert residues.dtype == np.uint32
    assert np.array_equal(from_ring(residues), values)


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**62, -(2**63)])
def test_a_value_outside_the_ring_is_refused(value):
    with pytest.raises(FederationError, match="invalid_update"):
        to_ring(np.array([0, value], dtype=np.int64))


@given(arrays(np.int64, st.integers(1, 20), elements=st.integers(-(2**31), 2**31)))
def test_squared_norms_are_exact(values):
    assert _squared_norm(values) == squared(values)


def test_a_cohort_that_would_wrap_around_is_refused_at_plan_time():
    scale = Scale(1e-6, 2**18, 53_000)
    scale.require_room(1000, 2**33)
    for devices, variance in ((10_000, 2**33), (8000, 2**40), (0, 1)):
        with pytest.raises(FederationError) as caught:
            scale.require_room(devices, variance)
        assert caught.value.code == "federation.plan_refused"


def test_the_noise_of_a_full_cohort_fits_where_room_was_promised():
    scale, randomness = Scale(1e-6, 2**10, 2000), Seeded("room")
    scale.require_room(50, 2**36)
    total = sum(discrete_gaussian(2**36, 2000, randomness) for _ in range(50))
    assert np.abs(total).max() + 50 * scale.sensitivity < 2**31


@pytest.mark.parametrize(
    ("step", "clip_units", "length"),
    [(0.0, 1, 1), (math.nan, 1, 1), (math.inf, 1, 1), (-1.0, 1, 1), (1.0, 0, 1), (1.0, 2**31, 1), (1.0, 1, 0), (1.0, 1, 2**24 + 1)],
)
def test_a_scale_out_of_range_is_refused(step, clip_units, length):
    with pytest.raises(FederationError, match="plan_refused"):
        Scale(step, clip_units, length)
