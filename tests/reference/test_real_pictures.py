"""The stages on real weights and real photographs, beside the OpenCV path."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekeep.alignment import align
from facekeep.biometric import Detection, Frame, PADOutcome
from facekeep.capture import read_picture
from facekeep.contract import InputContract
from facekeep.detection import open_detector
from facekeep.embedding import CosineEmbedder
from facekeep.pad import CombinedPADetector, MiniFASDetector
from facekeep.ports import Detector, Session
from facekeep.pose import estimate_pose
from facekeep.quality import assess
from facekeep.runtime import open_session
from tests.reference.lfw import best_accuracy, read_pairs
from tests.reference.pipeline import OpenCVPipeline

pytestmark = pytest.mark.shared

NOW = datetime(2026, 11, 21, tzinfo=UTC)
DETECTORS = {
    "yunet_s": ("yunet", "yunet_s_dynamic.onnx", InputContract("NCHW", "BGR", None, 32)),
    "yunet_n": ("yunet", "yunet_n_dynamic.onnx", InputContract("NCHW", "BGR", None, 32)),
    "yunet_2023mar": ("yunet", "face_detection_yunet_2023mar.onnx", InputContract("NCHW", "BGR", (640, 640), 32)),
    "rfb320": (
        "rfb320",
        "version-RFB-320_simplified.onnx",
        InputContract("NCHW", "RGB", (240, 320), mean=(127.0,) * 3, std=(128.0,) * 3),
    ),
    "blazeface": (
        "blazeface",
        "blazeface_short_range.tflite",
        InputContract("NHWC", "RGB", (128, 128), mean=(127.5,) * 3, std=(127.5,) * 3),
    ),
}


def detector_of(shared: Path, name: str, confidence: float | None = None) -> Detector:
    family, file, contract = DETECTORS[name]
    runtime = "litert" if file.endswith(".tflite") else "onnx"
    content = (shared / "models/detectors" / file).read_bytes()
    return open_detector(family, open_session(runtime, {file: content}), contract, confidence=confidence)


def embedder_of(shared: Path) -> CosineEmbedder:
    content = (shared / "models/embedders/face_reid_retail_0095.onnx").read_bytes()
    contract = InputContract("NCHW", "BGR", (128, 128), crop="arcface-112")
    return CosineEmbedder(open_session("onnx", {"m.onnx": content}), contract, 256)


def frame_of(path: Path) -> Frame:
    return Frame(read_picture(path), NOW)


def central(frame: Frame, detections: tuple[Detection, ...]) -> Detection:
    """LFW names the person in the middle."""

    def distance(detection: Detection) -> float:
        left, top, width, height = detection.box_px
        return (left + width / 2 - frame.width / 2) ** 2 + (top + height / 2 - frame.height / 2) ** 2

    return min(detections, key=distance)


def counted(shared: Path) -> list[tuple[Path, int]]:
    labels = [(path, path.stem.rsplit("_", 1)[1]) for path in sorted((shared / "data/photos").glob("compreface_*.jpg"))]
    return [(path, int(label) if label.isdigit() else 1) for path, label in labels]


@pytest.mark.parametrize("name", ["yunet_s", "yunet_n", "yunet_2023mar", "rfb320"])
def test_every_counted_photograph_is_counted_right(shared_dir: Path, name: str) -> None:
    detector = detector_of(shared_dir, name)
    photographs = counted(shared_dir)
    assert len(photographs) == 16
    wrong = {path.name: len(found) for path, count in photographs if len(found := detector.detect(frame_of(path))) != count}
    assert not wrong


def test_blazeface_finds_close_faces_where_yunet_does(shared_dir: Path) -> None:
    blaze, yunet = detector_of(shared_dir, "blazeface"), detector_of(shared_dir, "yunet_s")
    errors = []
    for path in sorted((shared_dir / "data/lfw-devtrain/images").glob("A*/*.jpg"))[:60]:
        frame = frame_of(path)
        ours, theirs = central(frame, blaze.detect(frame)), central(frame, yunet.detect(frame))
        assert ours.landmarks_px is not None
        assert theirs.landmarks_px is not None
        eyes = float(np.linalg.norm(theirs.landmarks_px[1] - theirs.landmarks_px[0]))
        errors.append(float(np.linalg.norm(ours.landmarks_px - theirs.landmarks_px, axis=1).mean()) / eyes)
    print(f"distance of landmarks in units of the eyes: median {np.median(errors):.3f}, most {max(errors):.3f}")
    assert np.median(errors) < 0.12
    assert max(errors) < 0.5


def test_detections_and_embeddings_equal_those_of_opencv(shared_dir: Path) -> None:
    lfw = shared_dir / "data/lfw-devtrain"
    reference = OpenCVPipeline(
        shared_dir / "models/detectors/face_detection_yunet_2023mar.onnx",
        shared_dir / "models/embedders/face_reid_retail_0095.onnx",
    )
    detector, embedder = detector_of(shared_dir, "yunet_s"), embedder_of(shared_dir)
    pictures = sorted({first for first, _, _ in read_pairs(lfw)})[::7][:200]
    assert len(pictures) == 200
    for path in pictures:
        bgr = np.asarray(cv2.imread(str(path)), np.uint8)
        frame = Frame(bgr[:, :, ::-1], NOW)
        ours = detector.detect(frame)
        theirs = reference.faces(bgr)
        assert len(ours) == len(theirs)
        detection = central(frame, ours)
        assert detection.landmarks_px is not None
        row = min(theirs, key=lambda face: float(np.abs(face[4:14].reshape(5, 2) - detection.landmarks_px).max()))
        np.testing.assert_allclose(detection.landmarks_px, row[4:14].reshape(5, 2), atol=0.01)
        np.testing.assert_allclose(detection.box_px, row[:4], atol=0.51)  # FaceDetectorYN keeps the half pixel of the edge
        crop, expected = align(frame, detection), reference.align(bgr, row[4:14])
        assert np.abs(crop.astype(int) - expected[:, :, ::-1]).max() <= 1
        assert float(embedder.embed(crop) @ reference.embed(expected)) >= 0.999


@pytest.mark.slow
def test_accuracy_on_lfw_view_1(shared_dir: Path) -> None:
    detector, embedder = detector_of(shared_dir, "yunet_s"), embedder_of(shared_dir)
    vectors: dict[Path, np.ndarray] = {}

    def vector(path: Path) -> np.ndarray:
        if path not in vectors:
            frame = frame_of(path)
            vectors[path] = embedder.embed(align(frame, central(frame, detector.detect(frame))))
        return vectors[path]

    pairs = read_pairs(shared_dir / "data/lfw-devtrain")
    assert len(pairs) == 2200
    scores = np.array([float(vector(first) @ vector(second)) for first, second, _ in pairs])
    accuracy, threshold = best_accuracy(scores, np.array([mated for _, _, mated in pairs]))
    print(f"accuracy {accuracy:.4f} at {threshold:.3f}")
    assert accuracy >= 0.993


@pytest.mark.slow
def test_quality_admits_lfw(shared_dir: Path) -> None:
    detector = detector_of(shared_dir, "yunet_s")
    single, refused = 0, 0
    for path in sorted((shared_dir / "data/lfw-devtrain/images").glob("*/*.jpg"))[::4]:
        frame = frame_of(path)
        found = detector.detect(frame)
        if len(found) == 1:
            single += 1
            refused += not assess(frame, found[0], align(frame, found[0])).is_admissible
    assert single > 1900
    assert refused / single <= 0.005


@pytest.mark.parametrize(
    ("name", "reason"),
    [("bulk_blur.jpg", "sharpness"), ("rotate_rot_180.jpg", "visibility"), ("rotate_rot_270.jpg", "visibility")],
)
def test_unfit_pictures_are_refused_with_the_reason(shared_dir: Path, name: str, reason: str) -> None:
    frame = frame_of(shared_dir / "data/poses" / name)
    (found,) = detector_of(shared_dir, "yunet_s").detect(frame)
    assert reason in assess(frame, found, align(frame, found)).refused_for


def test_a_dark_picture_is_refused_for_exposure(shared_dir: Path) -> None:
    frame = frame_of(shared_dir / "data/photos/compreface_009_C.jpg")
    (found,) = detector_of(shared_dir, "yunet_s").detect(frame)
    assert assess(frame, found, align(frame, found)).is_admissible
    dark = Frame((frame.pixels * 0.08).astype(np.uint8), NOW)
    assert assess(dark, found, align(dark, found)).refused_for[0] == "exposure"


@pytest.mark.parametrize(
    ("name", "axis", "least", "most"),
    [
        ("pose_left_face.jpeg", "yaw_degrees", -90, -35),
        ("pose_right_face.png", "yaw_degrees", 35, 90),
        ("pose_left_wryneck.png", "roll_degrees", -50, -15),
        ("pose_right_wryneck.png", "roll_degrees", 15, 50),
        ("pose_lower_face.jpeg", "pitch_degrees", -60, -8),
        ("rotate_rot_0.jpg", "roll_degrees", -15, 15),
    ],
)
def test_poses_have_the_right_sign(shared_dir: Path, name: str, axis: str, least: float, most: float) -> None:
    frame = frame_of(shared_dir / "data/poses" / name)
    (found,) = detector_of(shared_dir, "yunet_s").detect(frame)
    assert found.landmarks_px is not None
    assert least <= getattr(estimate_pose(found.landmarks_px), axis) <= most


@pytest.fixture(scope="module")
def pad_detectors(shared_dir: Path) -> dict[str, MiniFASDetector]:
    def session(file: str) -> Session:
        return open_session("onnx", {file: (shared_dir / "models/liveness" / file).read_bytes()})

    minivision = InputContract("NCHW", "BGR", (80, 80), crop="box", crop_scale=2.7)
    celebaspoof = InputContract("NCHW", "RGB", (128, 128), std=(255.0,) * 3, crop="box", crop_scale=1.5)
    return {
        "minifas-v2": MiniFASDetector(
            "minifas-v2", session("2.7_80x80_MiniFASNetV2.onnx"), minivision, bona_fide_class=1, accept_at=0.8, reject_at=0.2
        ),
        "minifas-celebaspoof": MiniFASDetector(
            "minifas-celebaspoof",
            session("minifas_celebaspoof_98.20.onnx"),
            celebaspoof,
            bona_fide_class=0,
            accept_at=0.8,
            reject_at=0.2,
            recipe="celebaspoof",
        ),
    }


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("spoof/image_T1.jpg", PADOutcome.BONA_FIDE),
        ("spoof/image_F1.jpg", PADOutcome.ATTACK),
        ("spoof/image_F2.jpg", PADOutcome.ATTACK),
        ("poses/bulk_rgb_fake.jpg", PADOutcome.ATTACK),
    ],
)
def test_attacks_are_told_from_a_person(
    shared_dir: Path, pad_detectors: dict[str, MiniFASDetector], name: str, outcome: PADOutcome
) -> None:
    frame = frame_of(shared_dir / "data" / name)
    found = detector_of(shared_dir, "yunet_s").detect(frame)[0]
    for detector in pad_detectors.values():
        assert detector.examine(frame, found).outcome is outcome
    assert CombinedPADetector(list(pad_detectors.values())).examine(frame, found).outcome is outcome
