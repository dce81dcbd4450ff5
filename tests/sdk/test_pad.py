from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.biometric import Detection, Frame, PADOutcome, PADReport
from facekeep.contract import InputContract
from facekeep.errors import ModelError
from facekeep.pad import CombinedPADetector, MiniFASDetector
from tests.sdk.fake_sessions import NOW, FakeSession, noise_frame

MINIVISION = InputContract("NCHW", "BGR", (80, 80), crop="box", crop_scale=2.7)
CELEBASPOOF = InputContract("NCHW", "RGB", (128, 128), std=(255.0,) * 3, crop="box", crop_scale=1.5)
FACE = Detection((100, 80, 60, 80), None, 0.9)


def logits(*values: float) -> FakeSession:
    return FakeSession(["logits"], lambda _: {"logits": np.array([values], np.float32)}, ("batch", 3, 80, 80))


def detector(session: FakeSession, contract: InputContract = MINIVISION, **changes: object) -> MiniFASDetector:
    settings_: dict[str, object] = {"bona_fide_class": 1, "accept_at": 0.8, "reject_at": 0.2, **changes}
    return MiniFASDetector("fas", session, contract, **settings_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "outcome"),
    [((0, 5, 0), PADOutcome.BONA_FIDE), ((0, 0, 5), PADOutcome.ATTACK), ((0, 0.5, 0), PADOutcome.UNDETERMINED)],
)
def test_outcomes_by_threshold(values: tuple[float, ...], outcome: PADOutcome) -> None:
    assert detector(logits(*values)).examine(noise_frame(320, 240), FACE) == PADReport(outcome, ("fas",))


def test_a_small_face_is_not_guessed_at() -> None:
    session = logits(0, 9, 0)
    small = Detection((100, 80, 20, 25), None, 0.9)
    assert detector(session).examine(noise_frame(320, 240), small).outcome is PADOutcome.UNDETERMINED
    assert not session.seen


@pytest.mark.parametrize("values", [(np.nan, 0, 0), (1.0,), (np.inf, 0, 0)])
def test_broken_logits_are_a_broken_model(values: tuple[float, ...]) -> None:
    with pytest.raises(ModelError) as caught:
        detector(logits(*values)).examine(noise_frame(320, 240), FACE)
    assert caught.value.code == "model.invalid_model"


@pytest.mark.parametrize("changes", [{"accept_at": 0.1}, {"accept_at": 1.2}, {"recipe": "other"}])
def test_thresholds_out_of_order_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ModelError) as caught:
        detector(logits(0, 0, 0), **changes)
    assert caught.value.code == "model.invalid_manifest"


def original_minivision_crop(pixels: np.ndarray, box: tuple[float, ...], scale: float) -> np.ndarray:
    """CropImage.crop of Silent-Face-Anti-Spoofing, restated."""
    source_height, source_width = pixels.shape[:2]
    x, y, box_width, box_height = box
    scale = min((source_height - 1) / box_height, min((source_width - 1) / box_width, scale))
    width, height = box_width * scale, box_height * scale
    left, top = box_width / 2 + x - width / 2, box_height / 2 + y - height / 2
    right, bottom = left + width, top + height
    if left < 0:
        right -= left
        left = 0
    if top < 0:
        bottom -= top
        top = 0
    if right > source_width - 1:
        left -= right - source_width + 1
        right = source_width - 1
    if bottom > source_height - 1:
        top -= bottom - source_height + 1
        bottom = source_height - 1
    return pixels[int(top) : int(bottom) + 1, int(left) : int(right) + 1]


@settings(deadline=None, max_examples=80)
@given(x=st.integers(-40, 300), y=st.integers(-40, 220), width=st.integers(33, 200), height=st.integers(33, 200))
def test_the_minivision_crop_is_the_original_one(x: int, y: int, width: int, height: int) -> None:
    session = logits(0, 0, 0)
    rows, columns = np.mgrid[:240, :320]
    waves = 128 + 60 * np.sin(columns / 50) + 60 * np.cos(rows / 40)
    frame = Frame(np.stack((waves, 255 - waves, rows), axis=2).astype(np.uint8), NOW)
    detector(session).examine(frame, Detection((x, y, width, height), None, 0.9))
    crop = original_minivision_crop(frame.pixels, (x, y, width, height), 2.7)
    expected = cv2.resize(crop, (80, 80), interpolation=cv2.INTER_LINEAR)[:, :, ::-1].transpose(2, 0, 1)
    # A corner that falls on a whole number may be cut one pixel aside: the picture is then shifted by as much.
    assert np.abs(session.seen[0][0] - expected).max() <= 4


@settings(deadline=None, max_examples=60)
@given(x=st.integers(-200, 500), y=st.integers(-200, 400), width=st.integers(33, 400), height=st.integers(33, 400))
def test_the_square_crop_mirrors_beyond_the_border(x: int, y: int, width: int, height: int) -> None:
    session = logits(0, 0)
    frame = noise_frame(320, 240)
    square = detector(session, CELEBASPOOF, bona_fide_class=0, recipe="celebaspoof")
    square.examine(frame, Detection((x, y, width, height), None, 0.9))
    assert session.seen[0].shape == (1, 3, 128, 128)
    assert 0 <= session.seen[0].min() <= session.seen[0].max() <= 1
    assert session.seen[0].mean() > 0.3  # noise all over: mirrored, not black


class Says:
    def __init__(self, name: str, outcome: PADOutcome) -> None:
        self._report = PADReport(outcome, (name,))

    def examine(self, frame: object, detection: object) -> PADReport:
        return self._report


@pytest.mark.parametrize(
    ("outcomes", "expected", "asked"),
    [
        (["bona_fide", "bona_fide"], "bona_fide", 2),
        (["bona_fide", "undetermined"], "undetermined", 2),
        (["undetermined", "bona_fide"], "undetermined", 2),
        (["undetermined", "attack"], "attack", 2),
        (["attack", "bona_fide"], "attack", 1),
    ],
)
def test_the_gravest_outcome_counts(outcomes: list[str], expected: str, asked: int) -> None:
    detectors = [Says(f"d{index}", PADOutcome(outcome)) for index, outcome in enumerate(outcomes)]
    report = CombinedPADetector(detectors).examine(noise_frame(64, 64), FACE)
    assert report.outcome is PADOutcome(expected)
    assert len(report.detectors) == asked


def test_nothing_combined_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        CombinedPADetector([])
