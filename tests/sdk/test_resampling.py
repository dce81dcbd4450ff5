from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.contract import InputContract
from facekeep.resampling import box_reduce, resize_into, to_tensor, warp_affine
from tests.reference import resampling as reference

sides = st.integers(1, 90)
seeds = st.integers(0, 2**32 - 1)


def picture(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(deadline=None, max_examples=150)
@given(height=sides, width=sides, to_height=sides, to_width=sides, seed=seeds)
def test_resize_equals_opencv(height: int, width: int, to_height: int, to_width: int, seed: int) -> None:
    pixels = picture(height, width, seed)
    planes = np.empty((3, to_height, to_width), np.float32)
    resize_into(pixels, planes, (2, 1, 0))
    expected = reference.resize(pixels, to_height, to_width)[:, :, ::-1].transpose(2, 0, 1)
    assert np.abs(planes - expected).max() <= reference.GREY_LEVELS


@settings(deadline=None)
@given(height=sides, width=sides, factor=st.integers(1, 9), seed=seeds)
def test_box_reduce_equals_opencv(height: int, width: int, factor: int, seed: int) -> None:
    pixels = picture(max(height, factor), max(width, factor), seed)
    difference = np.abs(box_reduce(pixels, factor).astype(int) - reference.box_reduce(pixels, factor))
    assert difference.max() <= reference.GREY_LEVELS


def test_box_reduce_counts_no_overflow_at_the_largest_factor() -> None:
    white = np.full((257, 300, 3), 255, np.uint8)
    assert (box_reduce(white, 257) == 255).all()


@pytest.mark.parametrize("factor", [0, 258, 21])
def test_box_reduce_refuses_factors_out_of_range(factor: int) -> None:
    with pytest.raises(ValueError, match="factor"):
        box_reduce(np.zeros((20, 20, 3), np.uint8), factor)


@settings(deadline=None, max_examples=150)
@given(
    height=sides,
    width=sides,
    angle=st.floats(-180, 180),
    scale=st.floats(0.05, 6),
    shift=st.tuples(st.floats(-150, 150), st.floats(-150, 150)),
    seed=seeds,
)
def test_warp_equals_opencv(height: int, width: int, angle: float, scale: float, shift: tuple[float, float], seed: int) -> None:
    pixels = picture(height, width, seed)
    turn = np.radians(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]]) * scale
    matrix[:, 2] = shift
    ours = warp_affine(pixels, matrix, (40, 30)).astype(int)
    difference = np.abs(ours - reference.warp_affine(pixels, matrix, 40, 30))
    # Where a coordinate lies on the border to within float32, one of the two may take the black outside of it.
    assert np.mean(difference > reference.GREY_LEVELS) <= 0.002


def test_warp_far_outside_is_black_and_bounded() -> None:
    far = np.array([[1.0, 0, 1e7], [0, 1.0, -1e7]])
    assert not warp_affine(picture(20, 20, 1), far, (16, 16)).any()


def test_tensor_follows_the_contract() -> None:
    pixels = picture(6, 4, 3)
    bgr = to_tensor(pixels, InputContract("NCHW", "BGR", None))
    assert bgr.shape == (1, 3, 6, 4)
    assert bgr.dtype == np.float32
    assert (bgr[0] == pixels[:, :, ::-1].transpose(2, 0, 1)).all()
    normal = to_tensor(pixels, InputContract("NHWC", "RGB", (6, 4), mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0)))
    expected = (pixels.astype(np.float64) - [1, 2, 3]) / [2, 4, 8]
    np.testing.assert_allclose(normal[0], expected, atol=1e-4)


def test_tensor_places_the_picture_in_the_upper_left_of_a_black_canvas() -> None:
    pixels = np.full((4, 4, 3), 200, np.uint8)
    contract = InputContract("NCHW", "RGB", None, mean=(100.0,) * 3, std=(50.0,) * 3)
    tensor = to_tensor(pixels, contract, picture_px=(4, 4), canvas_px=(8, 6))
    assert (tensor[0, :, :4, :4] == 2.0).all()
    assert (tensor[0, :, 4:] == -2.0).all()
    assert (tensor[0, :, :, 4:] == -2.0).all()
