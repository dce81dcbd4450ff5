from __future__ import annotations

import numpy as np
import pytest

from facekeep.alignment import TEMPLATE_PX, align
from facekeep.biometric import Detection, Frame
from facekeep.quality import DEFAULT_FLOORS, QualityFloors, assess
from tests.reference.drawing import drawn_face
from tests.sdk.fake_sessions import NOW


def report(pixels: np.ndarray, landmarks: np.ndarray, floors: QualityFloors = DEFAULT_FLOORS) -> dict[str, int]:
    frame = Frame(np.clip(pixels, 0, 255).astype(np.uint8), NOW)
    detection = Detection((0, 0, frame.width, frame.height), landmarks.astype(np.float32), 0.9)
    return dict(assess(frame, detection, align(frame, detection), floors).components)


def test_a_clear_face_scores_high_everywhere() -> None:
    pixels, points = drawn_face(240)
    scores = report(pixels, points)
    assert min(scores.values()) >= 60, scores


@pytest.mark.parametrize("sigma", [6.0, 9.0])
def test_blur_lowers_sharpness_also_under_noise(sigma: float) -> None:
    import cv2

    pixels, points = drawn_face(240)
    blurred = cv2.GaussianBlur(pixels, (0, 0), sigma)
    noisy = blurred + np.random.default_rng(0).normal(0, 6, pixels.shape)
    assert report(pixels, points)["sharpness"] >= 60
    assert report(blurred, points)["sharpness"] < DEFAULT_FLOORS.sharpness
    assert report(noisy, points)["sharpness"] < DEFAULT_FLOORS.sharpness


@pytest.mark.parametrize("change", [lambda p: p * 0.08, lambda p: p * 0.05 + 240, lambda p: p * 0 + 128])
def test_dark_glaring_and_flat_pictures_fail_exposure(change: object) -> None:
    pixels, points = drawn_face(240)
    assert report(change(pixels.astype(float)), points)["exposure"] < DEFAULT_FLOORS.exposure  # type: ignore[operator]


def test_size_counts_the_pixels_between_the_eyes() -> None:
    large, small = drawn_face(240), drawn_face(12)
    assert report(*large)["size"] == 100
    assert report(*small)["size"] < DEFAULT_FLOORS.size


def test_upside_down_fails_visibility() -> None:
    pixels, points = drawn_face(240)
    assert report(pixels[::-1], points)["visibility"] < DEFAULT_FLOORS.visibility


def test_a_face_cut_by_the_border_fails_framing() -> None:
    pixels, points = drawn_face(240)
    cut = points - [90, 0]
    assert report(pixels[:, 90:], cut)["framing"] < DEFAULT_FLOORS.framing


def test_a_profile_scores_low_on_pose() -> None:
    pixels, points = drawn_face(240)
    turned = points.copy()
    turned[:, 0] = points[:, 0].mean() + (points[:, 0] - points[:, 0].mean()) * 0.3
    turned[2, 0] += 40
    assert report(pixels, turned)["pose"] < 40


def test_refusals_are_named_worst_first() -> None:
    pixels, points = drawn_face(240)
    frame = Frame((pixels * 0.08).astype(np.uint8), NOW)
    detection = Detection((0, 0, 240, 240), points.astype(np.float32), 0.9)
    crop = align(frame, detection)
    refused = assess(frame, detection, crop, QualityFloors(exposure=60, size=100, pose=100))
    assert refused.refused_for[0] == "exposure"
    assert not refused.is_admissible
    assert refused.score == min(score for _, score in refused.components)
    assert assess(frame, detection, crop, QualityFloors(0, 0, 0, 0, 0, 0)).is_admissible


def test_floors_are_scores() -> None:
    with pytest.raises(ValueError, match="0 to 100"):
        QualityFloors(size=101)


def test_quality_needs_landmarks() -> None:
    frame = Frame(np.zeros((112, 112, 3), np.uint8), NOW)
    with pytest.raises(ValueError, match="landmarks"):
        assess(frame, Detection((0, 0, 9, 9), None, 0.9), frame.pixels)


def test_the_template_landmarks_lie_where_the_drawing_has_them() -> None:
    _, points = drawn_face(112)
    np.testing.assert_allclose(points, TEMPLATE_PX, atol=1e-6)
