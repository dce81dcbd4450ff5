"""The second look at landmarks: what comes back to the frame, what stays as it was, and what is no such network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekeep.alignment import TEMPLATE_PX
from facekeep.assembly import Inference
from facekeep.assembly.loading import Loader
from facekeep.biometric import Detection, Frame
from facekeep.detection.refining import RefiningDetector
from facekeep.errors import ModelError
from facekeep.packs import LoadPolicy, PackStore
from facekeep.packs.catalogue import shipped_root
from facekeep.ports import Detector
from facekeep_models.people import draw_person, synthetic_person
from tests.sdk.fake_sessions import NOW, FakeSession, blank_frame

SIDE = 48
# The template in a crop of 48 px: the same places, corner on corner.
HERE = (TEMPLATE_PX + 0.5) * SIDE / 112 - 0.5
Answer = Callable[[NDArray[Any]], Mapping[str, NDArray[Any]]]


class Finds:
    """Finds what it was made with."""

    def __init__(self, *faces: Detection) -> None:
        self.faces = faces

    def detect(self, _frame: Frame) -> tuple[Detection, ...]:
        return self.faces


def face(landmarks: NDArray[np.float32] | None, confidence: float = 0.9) -> Detection:
    return Detection((10.0, 20.0, 30.0, 40.0), landmarks, confidence)


def placed(scale: float, angle: float = 0.0, x: float = 160.0, y: float = 120.0) -> NDArray[np.float32]:
    """The template, turned, scaled and put with its middle at (x, y) of a frame."""
    turn = np.radians(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return ((TEMPLATE_PX - 56) @ rotation.T * scale + [x, y]).astype(np.float32)


def network(answer: Answer, shape: tuple[int | str | None, ...] = ("faces", 3, SIDE, SIDE)) -> FakeSession:
    return FakeSession(["landmarks"], answer, shape)


def says(points: NDArray[np.float64]) -> Answer:
    return lambda crops: {"landmarks": np.repeat(points[None].astype(np.float32), len(crops), axis=0)}


def dots(points: NDArray[np.float32], radius: float) -> Frame:
    """A black frame with a white spot on each landmark."""
    row, column = np.mgrid[:240, :320]
    near = np.stack([(row - y) ** 2 + (column - x) ** 2 <= radius**2 for x, y in points.tolist()]).any(axis=0)
    return Frame(np.repeat(np.where(near, 255, 0).astype(np.uint8)[:, :, None], 3, axis=2), NOW)


def middles(crops: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
    """What a perfect network says of a frame of dots: the middle of the light near each landmark of the template."""
    row, column = np.mgrid[:SIDE, :SIDE]
    found = np.empty((len(crops), 5, 2), np.float32)
    for crop, points in zip(crops, found, strict=True):
        for place, (x, y) in enumerate(HERE.tolist()):
            weight = np.where(np.maximum(abs(column - x), abs(row - y)) <= 5, crop[0], 0) + 1e-6
            points[place] = (column * weight).sum() / weight.sum(), (row * weight).sum() / weight.sum()
    return {"landmarks": found}


@settings(deadline=None, max_examples=40)
@given(scale=st.floats(0.5, 2.2), angle=st.floats(-40, 40), off=st.integers(0, 99))
def test_landmarks_come_to_where_the_network_sees_them_in_the_frame(scale: float, angle: float, off: int) -> None:
    truth = placed(scale, angle)
    eyes = float(np.linalg.norm(truth[1] - truth[0]))
    found = truth + np.random.default_rng(off).normal(0, 0.06 * eyes, (5, 2)).astype(np.float32)
    (refined,) = RefiningDetector(Finds(face(found)), network(middles)).detect(dots(truth, max(1.5, 2.2 * scale)))
    assert refined.landmarks_px is not None
    # Half a pixel of the crop.
    np.testing.assert_allclose(refined.landmarks_px, truth, atol=0.5 * 112 / SIDE * scale)
    assert (refined.box_px, refined.confidence) == ((10.0, 20.0, 30.0, 40.0), 0.9)


def test_what_the_network_says_of_the_template_is_what_was_found() -> None:
    found = placed(1.3, 25.0)
    (refined,) = RefiningDetector(Finds(face(found)), network(says(HERE))).detect(blank_frame(320, 240))
    assert refined.landmarks_px is not None
    np.testing.assert_allclose(refined.landmarks_px, found, atol=1e-3)


def test_the_network_sees_the_crop_in_rgb_planes_of_0_to_255() -> None:
    session = network(says(HERE))
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[:] = (250, 120, 10)
    RefiningDetector(Finds(face(placed(1.0))), session).detect(Frame(pixels, NOW))
    (seen,) = session.seen
    assert (seen.shape, seen.dtype) == ((1, 3, SIDE, SIDE), np.float32)
    assert seen[0, :, 24, 24].tolist() == [250, 120, 10]


def test_a_landmark_that_would_move_far_leaves_the_face_as_it_was() -> None:
    found = placed(1.0)
    eyes = np.linalg.norm(HERE[1] - HERE[0])
    for share, moves in ((0.45, True), (0.55, False)):
        moved = HERE + np.array([[0, 0]] * 4 + [[share * eyes, 0]])
        (refined,) = RefiningDetector(Finds(face(found)), network(says(moved))).detect(blank_frame(320, 240))
        assert refined.landmarks_px is not None
        assert bool(np.abs(refined.landmarks_px - found).max() > 1) == moves


def test_landmarks_beyond_any_frame_are_not_believed() -> None:
    for value in (3e37, -3e37):
        before = face(placed(8.0))
        (after,) = RefiningDetector(Finds(before), network(says(np.full((5, 2), value)))).detect(blank_frame(320, 240))
        assert after is before


def test_faces_without_landmarks_or_with_all_on_one_spot_stay_as_they_are() -> None:
    session = network(says(HERE + 1))
    faces = (face(None, 0.9), face(np.full((5, 2), 50, np.float32), 0.8), face(placed(1.0), 0.7))
    found = RefiningDetector(Finds(*faces), session).detect(blank_frame(320, 240))
    assert found[:2] == faces[:2]
    assert [each.confidence for each in found] == [0.9, 0.8, 0.7]
    assert len(session.seen[0]) == 1
    assert found[2].landmarks_px is not None
    assert not np.allclose(found[2].landmarks_px, placed(1.0), atol=0.5)


def test_where_nothing_was_found_nothing_is_looked_at() -> None:
    session = network(says(HERE))
    assert RefiningDetector(Finds(), session).detect(blank_frame(320, 240)) == ()
    assert RefiningDetector(Finds(face(None)), session).detect(blank_frame(320, 240))[0].landmarks_px is None
    assert not session.seen


def test_a_crowd_is_looked_at_in_parts_and_nobody_gets_the_landmarks_of_another() -> None:
    faces = [face(placed(0.5, x=20.0 + 7 * number), 0.9) for number in range(40)]
    session = network(says(HERE))
    found = RefiningDetector(Finds(*faces), session).detect(blank_frame(320, 240))
    assert [len(each) for each in session.seen] == [16, 16, 8]
    for before, after in zip(faces, found, strict=True):
        assert before.landmarks_px is not None
        assert after.landmarks_px is not None
        np.testing.assert_allclose(after.landmarks_px, before.landmarks_px, atol=1e-3)


def test_a_face_over_the_border_of_the_frame_is_looked_at_against_black() -> None:
    session = network(says(HERE))
    found = RefiningDetector(Finds(face(placed(1.0, x=2.0, y=2.0))), session).detect(blank_frame(320, 240))
    assert len(found) == 1
    assert session.seen[0][0, :, 0, 0].max() == 0


@pytest.mark.parametrize(
    "shape", [(None, 3, 48), (None, 1, 48, 48), (None, 3, 48, 40), (None, 3, "h", "w"), (None, 3, 8, 8), (None, 3, 512, 512)]
)
def test_a_network_that_does_not_see_square_crops_is_refused(shape: tuple[int | str | None, ...]) -> None:
    with pytest.raises(ModelError) as refused:
        RefiningDetector(Finds(), network(says(HERE), shape))
    assert refused.value.code == "model.invalid_model"


def test_a_network_without_landmarks_is_refused() -> None:
    with pytest.raises(ModelError) as refused:
        RefiningDetector(Finds(), FakeSession(["embedding"], says(HERE), (None, 3, SIDE, SIDE)))
    assert refused.value.code == "model.invalid_model"


@pytest.mark.parametrize(
    "answer",
    [np.zeros((1, 10), np.float32), np.zeros((2, 5, 2), np.float32), np.zeros((1, 5, 2)), np.full((1, 5, 2), np.nan, np.float32),
     np.full((1, 5, 2), np.inf, np.float32)],
)  # fmt: skip
def test_an_answer_that_is_none_is_an_error_and_no_face_is_lost_quietly(answer: NDArray[Any]) -> None:
    detector = RefiningDetector(Finds(face(placed(1.0))), network(lambda _: {"landmarks": answer}))
    with pytest.raises(ModelError) as refused:
        detector.detect(blank_frame(320, 240))
    assert refused.value.code == "model.invalid_model"


def detector_of(catalogue: Path, place: Path) -> Detector:
    store = PackStore(place, catalogue=[catalogue])
    return Loader(store, LoadPolicy(), Inference()).detector("facekeep-detector")[0]


def altered(place: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The catalogue that ships, with another manifest of the detector."""
    root = shipped_root()
    assert root is not None
    manifest = json.loads((root / "manifests/facekeep-detector.json").read_text())
    change(manifest)
    (place / "manifests").mkdir(parents=True)
    (place / "manifests/facekeep-detector.json").write_text(json.dumps(manifest))
    shutil.copytree(root / "weights/facekeep-detector", place / "weights/facekeep-detector")
    return place


def drop_second_look(manifest: dict[str, Any]) -> None:
    manifest["builds"][0]["files"] = manifest["builds"][0]["files"][:1]


def test_the_pack_that_ships_looks_twice(tmp_path: Path) -> None:
    drawn = draw_person(synthetic_person(450), 0)
    frame = Frame(drawn.pixels, NOW)
    twice = detector_of(altered(tmp_path / "a", lambda _: None), tmp_path)

    def without(manifest: dict[str, Any]) -> None:
        drop_second_look(manifest)
        del manifest["options"]["landmark_model"]

    once = detector_of(altered(tmp_path / "b", without), tmp_path)
    assert isinstance(twice, RefiningDetector)
    assert not isinstance(once, RefiningDetector)
    (first,), (second,) = once.detect(frame), twice.detect(frame)
    assert (first.box_px, first.confidence) == (second.box_px, second.confidence)
    assert first.landmarks_px is not None
    assert second.landmarks_px is not None
    assert not np.array_equal(first.landmarks_px, second.landmarks_px)


def test_a_pack_that_lacks_the_second_look_it_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        detector_of(altered(tmp_path / "a", drop_second_look), tmp_path)
    assert refused.value.code == "model.invalid_manifest"


def test_a_damaged_second_look_is_not_skipped(tmp_path: Path) -> None:
    place = altered(tmp_path / "a", lambda _: None)
    path = place / "weights/facekeep-detector/onnx-fp32/facekeep_landmarks.onnx"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.raises(ModelError) as refused:
        detector_of(place, tmp_path)
    assert refused.value.code == "model.hash_mismatch"
