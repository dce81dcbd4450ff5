"""A value that exists is valid; nothing biometric shows in a repr."""

import dataclasses
import pickle
from datetime import UTC, datetime

import numpy as np
import pytest

import facekeep.biometric as biometric
from facekeep.biometric import (
    Candidate,
    ComparisonScore,
    Decision,
    Detection,
    Embedding,
    FaceSample,
    Frame,
    HeadPose,
    Identification,
    OperatingPoint,
    PADOutcome,
    PADReport,
    QualityReport,
    Template,
)
from facekeep.errors import AcquisitionError, ComparisonError, NonMatchError

NOW = datetime(2026, 11, 21, tzinfo=UTC)
POINT = OperatingPoint(0.31, 1e-3, (9e-4, 1.1e-3), 0.011, (0.005, 0.02), "LFW View 1", 1100, 8_000_000)
POSE = HeadPose(1.0, 2.0, 3.0)
GOOD = QualityReport(90, (("size", 90),), POSE)
UNIT = np.full(4, 0.5, np.float32)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.full((4, 4, 3), np.nan),
        np.zeros((0, 4, 3), np.uint8),
        "not an array",
    ],
)
def test_a_frame_is_uint8_rgb(pixels: object) -> None:
    with pytest.raises(AcquisitionError) as caught:
        Frame(pixels, NOW)  # type: ignore[arg-type]
    assert caught.value.code == "acquisition.invalid_frame"


def test_arrays_are_copied_and_read_only() -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    frame = Frame(pixels, NOW)
    pixels[:] = 9
    assert frame.pixels.max() == 0
    assert (frame.width, frame.height) == (5, 4)
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0, 0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.captured_at = NOW  # type: ignore[misc]


@pytest.mark.parametrize("vector", [np.zeros(4), np.full(4, np.nan), np.array([np.inf, 0, 0, 0]), np.ones(4)])
def test_an_embedding_is_a_finite_unit_vector(vector: np.ndarray) -> None:
    with pytest.raises(ComparisonError) as caught:
        Embedding(vector.astype(np.float32), "c")
    assert caught.value.code == "comparison.invalid_embedding"


def test_a_detection_is_finite_and_has_an_area() -> None:
    points = np.zeros((5, 2), np.float32)
    for box in ((0, 0, 0, 5), (0, 0, -1, 5), (float("nan"), 0, 1, 1)):
        with pytest.raises(ValueError, match="box"):
            Detection(box, points, 0.5)
    with pytest.raises(ValueError, match="landmarks"):
        Detection((0, 0, 1, 1), np.full((5, 2), np.nan), 0.5)
    with pytest.raises(ValueError, match="confidence"):
        Detection((0, 0, 1, 1), points, 1.5)


CROP = np.zeros((112, 112, 3), np.uint8)
BONA_FIDE = PADReport(PADOutcome.BONA_FIDE, ("some-pack",))


@pytest.mark.parametrize(
    ("quality", "pad", "code"),
    [
        (QualityReport(3, (("size", 3),), POSE, ("size",)), BONA_FIDE, "acquisition.low_quality"),
        (GOOD, PADReport(PADOutcome.ATTACK, ("p",)), "acquisition.presentation_attack"),
        (GOOD, PADReport(PADOutcome.UNDETERMINED, ("p",)), "acquisition.pad_undetermined"),
    ],
)
def test_a_sample_is_admitted_or_refused_with_a_code(quality: QualityReport, pad: PADReport, code: str) -> None:
    with pytest.raises(AcquisitionError) as caught:
        FaceSample.admit(CROP, quality, pad)
    assert caught.value.code == code


def test_a_sample_cannot_be_made_past_admission() -> None:
    assert FaceSample.admit(CROP, GOOD, BONA_FIDE).pixels.shape == (112, 112, 3)
    with pytest.raises(TypeError):
        FaceSample(CROP, GOOD, BONA_FIDE)


def test_a_decision_is_not_a_truth_value() -> None:
    decision = Decision("alice", False, ComparisonScore(0.1234), POINT)
    with pytest.raises(TypeError):
        bool(decision)
    with pytest.raises(NonMatchError) as caught:
        decision.require_match()
    assert caught.value.code == "comparison.non_match"
    assert Decision("alice", True, ComparisonScore(0.5), POINT).require_match().is_match


def test_an_identification_is_consistent_and_not_a_truth_value() -> None:
    candidate = Candidate("alice", ComparisonScore(0.7))
    found = Identification("identified", (candidate,), POINT, 1e-2, 3)
    assert found.require_identified() == "alice"
    with pytest.raises(TypeError):
        bool(found)
    with pytest.raises(NonMatchError):
        Identification("unknown", (), POINT, 1e-2, 3).require_identified()
    with pytest.raises(ValueError, match="outcome"):
        Identification("unknown", (candidate,), POINT, 1e-2, 3)


def test_nothing_biometric_in_any_repr() -> None:
    vector = np.array([0.6, 0.8], np.float32)
    values = [
        Frame(np.full((4, 4, 3), 173, np.uint8), NOW),
        Detection((11.5, 12.5, 13.5, 14.5), np.full((5, 2), 15.5), 0.9),
        FaceSample.admit(np.full((112, 112, 3), 173, np.uint8), GOOD, BONA_FIDE),
        Embedding(vector, "c" * 64),
        Template(vector, "c" * 64, "urn:uuid:1", NOW),
        ComparisonScore(0.173173),
        Decision("alice", True, ComparisonScore(0.173173), POINT),
        Candidate("alice", ComparisonScore(0.173173)),
        Identification("identified", (Candidate("alice", ComparisonScore(0.173173)),), POINT, 1e-2, 1),
    ]
    for value in values:
        text = repr(value) + str(value)
        for secret in ("173", "alice", "0.6", "0.8", "15.5", "array"):
            assert secret not in text, f"{type(value).__name__} shows {secret}"


def test_every_array_type_is_frozen_slotted_and_compares_by_identity() -> None:
    for name in biometric.__all__:
        kind = getattr(biometric, name)
        if not dataclasses.is_dataclass(kind):
            continue
        assert kind.__dataclass_params__.frozen, name  # type: ignore[attr-defined]
        assert hasattr(kind, "__slots__"), name
        if any("NDArray" in str(field.type) for field in dataclasses.fields(kind)):
            assert kind.__eq__ is object.__eq__, name


def test_errors_survive_pickling_with_their_code() -> None:
    error = pickle.loads(pickle.dumps(NonMatchError("comparison.non_match", "text")))
    assert (error.code, error.args[0], type(error)) == ("comparison.non_match", "text", NonMatchError)


@pytest.mark.parametrize("code", ["consent.none", "comparison.unheard_of", ""])
def test_an_error_takes_only_codes_of_its_branch(code: str) -> None:
    with pytest.raises(ValueError, match="not a code"):
        ComparisonError(code, "text")
