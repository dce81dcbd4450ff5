from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.alignment import TEMPLATE_PX, align, similarity_to_template
from facekeep.biometric import Detection, Frame
from facekeep.errors import AcquisitionError
from tests.reference import resampling as reference
from tests.reference.pipeline import umeyama
from tests.sdk.fake_sessions import NOW, blank_frame, noise_frame


def face(landmarks: np.ndarray | None) -> Detection:
    return Detection((0, 0, 10, 10), landmarks, 0.9)


def placed(scale: float, angle: float, x: float, y: float) -> np.ndarray:
    """The template, turned, scaled and moved into a frame."""
    turn = np.radians(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return ((TEMPLATE_PX - 56) @ rotation.T * scale + [x, y]).astype(np.float32)


@given(scale=st.floats(0.1, 40), angle=st.floats(-180, 180), x=st.floats(-500, 3000), y=st.floats(-500, 3000))
def test_a_similarity_is_recovered(scale: float, angle: float, x: float, y: float) -> None:
    points = placed(scale, angle, x, y)
    matrix = similarity_to_template(points)
    found = points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(found, TEMPLATE_PX, atol=0.05)
    assert np.hypot(matrix[0, 0], matrix[1, 0]) == pytest.approx(1 / scale, rel=0.01)


@given(seed=st.integers(0, 2**32 - 1))
def test_the_closed_form_equals_the_decomposition_of_the_paper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = (placed(1.5, rng.uniform(-60, 60), 200, 200) + rng.normal(0, 6, (5, 2))).astype(np.float32)
    np.testing.assert_allclose(similarity_to_template(points), umeyama(points.astype(np.float64), TEMPLATE_PX), atol=1e-6)


def test_landmarks_on_the_template_give_the_frame_itself() -> None:
    frame = noise_frame(112, 112)
    crop = align(frame, face(TEMPLATE_PX.astype(np.float32)))
    assert np.abs(crop.astype(int) - frame.pixels).max() <= 1


@settings(deadline=None, max_examples=60)
@given(scale=st.floats(0.3, 1.99), angle=st.floats(-180, 180), x=st.floats(0, 300), y=st.floats(0, 200), seed=st.integers(0, 99))
def test_the_crop_equals_opencv(scale: float, angle: float, x: float, y: float, seed: int) -> None:
    frame = noise_frame(300, 200, seed)
    points = placed(scale, angle, x, y)
    forward = umeyama(points.astype(np.float64), TEMPLATE_PX)
    inverse = np.linalg.inv(np.vstack((forward, [0, 0, 1])))[:2]
    difference = np.abs(align(frame, face(points)).astype(int) - reference.warp_affine(frame.pixels, inverse, 112, 112))
    assert np.mean(difference > 1) < 0.002


@pytest.mark.parametrize("factor", [2, 3, 8])
@pytest.mark.parametrize("angle", [0.0, 20.0])
def test_a_large_face_is_averaged_not_skipped(factor: int, angle: float) -> None:
    # Whole frame reduced by OpenCV, then warped: the same crop as the region reduced here, for a frame of whole blocks.
    frame = noise_frame(112 * factor, 112 * factor)
    points = placed(factor * 1.0001, angle, 56 * factor, 56 * factor)
    smooth = reference.box_reduce(frame.pixels, factor)
    reduced = ((points + 0.5) / factor - 0.5).astype(np.float64)
    inverse = np.linalg.inv(np.vstack((umeyama(reduced, TEMPLATE_PX), [0, 0, 1])))[:2]
    expected = reference.warp_affine(smooth, inverse, 112, 112).astype(int)
    inner = slice(20, 92)
    crop = align(frame, face(points)).astype(int)
    # The blocks of the region begin elsewhere than those of the frame, so noise differs; its spread must not.
    assert crop[inner, inner].std() == pytest.approx(expected[inner, inner].std(), rel=0.15)


def test_a_smooth_large_picture_aligns_to_the_same_crop_at_any_size() -> None:
    y, x = np.mgrid[:448, :448]
    waves = 128 + 60 * np.sin(x / 40) + 50 * np.cos(y / 30)
    large = Frame(np.repeat(waves[:, :, None], 3, axis=2).astype(np.uint8), NOW)
    small = Frame(reference.box_reduce(large.pixels, 4), NOW)
    big_points = placed(4, 10, 224, 224)
    crops = [align(large, face(big_points)), align(small, face((big_points + 0.5) / 4 - 0.5))]
    # The corners of the turned crop lie outside the picture.
    assert np.abs(crops[0].astype(int) - crops[1])[25:-25, 25:-25].max() <= 2


def test_outside_the_frame_is_black() -> None:
    assert not align(blank_frame(100, 100), face(placed(1, 0, 5000, 5000))).any()
    assert not align(blank_frame(100, 100), face(placed(5, 0, -5000, 5000))).any()


@pytest.mark.parametrize("landmarks", [None, np.full((5, 2), 20, np.float32)])
def test_no_landmarks_no_crop(landmarks: np.ndarray | None) -> None:
    with pytest.raises(AcquisitionError) as caught:
        align(blank_frame(50, 50), face(landmarks))
    assert caught.value.code == "acquisition.no_landmarks"
