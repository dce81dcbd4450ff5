"""Synthetic people under real detectors and a real embedder: found, told apart, and nobody's face."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facekeep.alignment import align
from facekeep.biometric import Detection, Frame
from facekeep.capture import read_picture
from facekeep.contract import InputContract
from facekeep.detection import open_detector
from facekeep.embedding import CosineEmbedder
from facekeep.packs import parse_manifest
from facekeep.ports import Detector
from facekeep.runtime import open_session
from facekeep_models.catalogue import MANIFESTS
from facekeep_models.people import Scene, SyntheticPicture, draw_person, screened_people, synthetic_person, unsafe_unscreened_person

pytestmark = pytest.mark.shared

NOW = datetime(2026, 1, 1, tzinfo=UTC)


LARGE = "face_detection_yunet_2023mar.onnx"


@pytest.fixture(
    scope="module", params=["yunet_s_dynamic.onnx", "yunet_n_dynamic.onnx", pytest.param(LARGE, marks=pytest.mark.slow)]
)
def detector(request: pytest.FixtureRequest, shared_dir: Path) -> Detector:
    return detector_of(shared_dir, request.param)


def detector_of(shared_dir: Path, name: str) -> Detector:
    content = (shared_dir / "models/detectors" / name).read_bytes()
    size = (640, 640) if name == LARGE else None
    return open_detector("yunet", open_session("onnx", {name: content}), InputContract("NCHW", "BGR", size, 32))


def embedder_of(shared_dir: Path) -> CosineEmbedder:
    content = (shared_dir / "models/embedders/face_reid_retail_0095.onnx").read_bytes()
    contract = InputContract("NCHW", "BGR", (128, 128), crop="arcface-112")
    return CosineEmbedder(open_session("onnx", {"m.onnx": content}), contract, 256)


def threshold() -> float:
    build = parse_manifest((MANIFESTS / "reid-retail-0095.json").read_bytes()).build("onnx-fp32")
    return next(point.threshold for point in build.operating_points if point.fmr == 1e-3)


@dataclass(frozen=True)
class Eyes:
    """A detector and an embedder, looking at pictures."""

    detector: Detector
    embedder: CosineEmbedder

    def vector(self, pixels: NDArray[np.uint8], *, middle: bool = False) -> NDArray[np.float32] | None:
        frame = Frame(pixels, NOW)
        faces: list[Detection] = list(self.detector.detect(frame))
        if not middle:
            assert len(faces) == 1
        if not faces:
            return None

        def off(face: Detection) -> float:
            left, top, width, height = face.box_px
            return (left + width / 2 - frame.width / 2) ** 2 + (top + height / 2 - frame.height / 2) ** 2

        return self.embedder.embed(align(frame, min(faces, key=off)))


def equal_error_rate(vectors: NDArray[np.float32], owner: NDArray[np.int64]) -> float:
    scores = vectors @ vectors.T
    upper = np.triu(np.ones_like(scores, dtype=bool), 1)
    same = owner[:, None] == owner[None, :]
    mated, non_mated = np.sort(scores[same & upper]), np.sort(scores[~same & upper])
    at = np.linspace(-0.2, 1.0, 2401)
    missed = np.searchsorted(mated, at) / len(mated)
    matched = 1 - np.searchsorted(non_mated, at) / len(non_mated)
    best = int(np.argmin(np.abs(missed - matched)))
    return float(missed[best] + matched[best]) / 2


def test_detectors_find_one_face_where_the_truth_says(detector: Detector) -> None:
    off, counts = [], []
    for index in range(150):
        picture = draw_person(synthetic_person(index), index % 4)
        faces = detector.detect(Frame(picture.pixels, NOW))
        counts.append(len(faces))
        if len(faces) == 1 and faces[0].landmarks_px is not None:
            apart = np.hypot(*(picture.landmarks_px[1] - picture.landmarks_px[0]))
            off.append(np.hypot(*(faces[0].landmarks_px - picture.landmarks_px).T) / apart)
    assert np.mean(np.array(counts) == 1) >= 0.99
    assert np.median(off) < 0.08


def test_an_embedder_tells_them_apart(shared_dir: Path) -> None:
    eyes = Eyes(detector_of(shared_dir, "yunet_s_dynamic.onnx"), embedder_of(shared_dir))
    people = 60
    pictures: list[SyntheticPicture] = [draw_person(synthetic_person(p), k) for p in range(people) for k in range(3)]
    vectors = np.stack([found for picture in pictures if (found := eyes.vector(picture.pixels)) is not None])
    assert equal_error_rate(vectors, np.repeat(np.arange(people), 3)) < 0.06


class Seen:
    """Vectors of pictures, each looked at once for all tests of this file: there are thirteen thousand."""

    def __init__(self, shared_dir: Path) -> None:
        self.eyes = Eyes(detector_of(shared_dir, "yunet_s_dynamic.onnx"), embedder_of(shared_dir))
        self._paths = sorted((shared_dir / "data/lfw-devtrain/images").glob("*/*.jpg"))
        self._of_path: dict[Path, NDArray[np.float32] | None] = {}
        self._of_person: dict[tuple[int, int], NDArray[np.float32]] = {}

    def training(self, step: int) -> NDArray[np.float32]:
        for path in self._paths[::step]:
            if path not in self._of_path:
                self._of_path[path] = self.eyes.vector(read_picture(path), middle=True)
        found = [self._of_path[path] for path in self._paths[::step]]
        return np.stack([each for each in found if each is not None])

    def screened(self, person: int, number: int) -> NDArray[np.float32]:
        if (person, number) not in self._of_person:
            picture = draw_person(synthetic_person(person), number)
            vector = self.eyes.vector(picture.pixels)
            assert picture.screened
            assert vector is not None
            self._of_person[person, number] = vector
        return self._of_person[person, number]


@pytest.fixture(scope="module")
def seen(shared_dir: Path) -> Seen:
    return Seen(shared_dir)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_figures_of_the_card_hold(seen: Seen) -> None:
    unscreened = [draw_person(unsafe_unscreened_person(person), number) for person in range(500) for number in range(4)]
    for vectors in (
        np.stack([seen.screened(person, number) for person in range(500) for number in range(4)]),
        np.stack([found for picture in unscreened if (found := seen.eyes.vector(picture.pixels)) is not None]),
    ):
        assert 0.01 <= equal_error_rate(vectors, np.repeat(np.arange(500), 4)) <= 0.05


def examine(seen: Seen, step: int, people: range) -> None:
    training = seen.training(step)
    for index in people:
        for number in range(len(synthetic_person(index).takes)):
            # 0.002 for what two machines differ by.
            assert (training @ seen.screened(index, number)).max() < threshold() + 0.002


def test_no_screened_picture_resembles_a_sample_of_training_people(seen: Seen) -> None:
    examine(seen, 25, range(0, screened_people(), 60))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_screened_picture_resembles_any_training_person(seen: Seen) -> None:
    examine(seen, 1, range(screened_people()))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_direction_of_the_model_is_a_remembered_face(seen: Seen) -> None:
    """The mean and every single direction, three deviations out, resemble training people no more than strangers do."""
    from facekeep_models.people import shipped_model
    from facekeep_models.people.person import SyntheticPerson

    eyes, training = seen.eyes, seen.training(1)
    model = shipped_model()
    nearest = []
    for direction in range(model.between.shape[1]):
        for sign in (-3.0, 3.0):
            look = sign * model.between[:, direction].astype(np.float64)
            picture = draw_person(SyntheticPerson(0, 0, 0.0, (), look), 0, scene=Scene())
            faces = eyes.detector.detect(Frame(picture.pixels, NOW))
            if len(faces) == 1:
                nearest.append(float((training @ eyes.embedder.embed(align(Frame(picture.pixels, NOW), faces[0]))).max()))
    # Two pictures of one person: 0.7 in the middle. The nearest of 9,524 pictures of others: up to 0.50 for 95 in 100 real people.
    assert max(nearest) < 0.6
