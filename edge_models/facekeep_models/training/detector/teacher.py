"""The teacher's word on a picture: YuNet-s at several sizes, what it is sure of and what it only suspects."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Detection, Frame
from facekeep.detection import open_detector
from facekeep.detection.suppression import non_maximum_suppression
from facekeep.packs import PackStore
from facekeep.ports import Detector
from facekeep.runtime import open_session

TEACHER: Final = ("yunet-s", "onnx-dynamic")
FACE_COLUMNS: Final = 15
# From here on the teacher is sure, as `facekeep.detection` says of its family; below, a face is neither asked for nor punished.
SURE: Final = 0.8
_SUSPECTS: Final = 0.3
# A scene without people in it has none: only what the teacher nearly believes is left out of the negatives.
_SUSPECTS_IN_EMPTY: Final = 0.6
_ENLARGED: Final = (1.0, 2.0, 3.0)
_LONGEST_PX: Final = 1280
_LARGE_PX: Final = 640
_SIDES_PX: Final = (480, 640, 960, 1280)
# The landmarks of a mirrored face: the left eye is the right one.
MIRROR: Final = (1, 0, 2, 4, 3)
_SAME_FACE: Final = 0.4
# YuNet's box about the five landmarks, in units of their spread: half a side, and how far above their mean it is centred.
_HALF_WIDTH: Final = 1.03
_HALF_HEIGHT: Final = 1.39
_RAISED: Final = 0.18
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


def open_teacher(packs: Path, *, confidence: float | None = None, longest_side: int = _LONGEST_PX) -> Detector:
    """Return YuNet-s out of a pack store.

    Raises:
        ModelError: if it is not installed or not what its manifest says.
    """
    store = PackStore(packs)
    manifest = store.manifest(TEACHER[0])
    build = manifest.build(TEACHER[1])
    session = open_session(build.runtime, store.read_files(*TEACHER))
    return open_detector(manifest.family, session, manifest.input_of(build), longest_side=longest_side, confidence=confidence)


class Teacher:
    """Labels pictures.

    Asked once, YuNet-s strays from itself: its landmarks on a picture at two sizes differ by 8 % of the distance of the eyes in
    the median. So each picture is asked about at several sizes, as it is and mirrored, and the median of the answers counts.

    Args:
        packs: store with yunet-s.
    """

    def __init__(self, packs: Path) -> None:
        self._detector = open_teacher(packs, confidence=_SUSPECTS)

    def label(self, pixels: NDArray[np.uint8], *, empty: bool) -> NDArray[np.float32]:
        """Return (K, 15) float32 left, top, right, bottom, confidence, five landmarks of a (H, W, 3) uint8 RGB picture.

        A face that only one of the answers knows is at most suspected.

        Args:
            pixels: the picture.
            empty: whether nobody is in it: what is found is at most suspected then.
        """
        found = [row for factor in _factors(max(pixels.shape[:2])) for row in self._ask(pixels, factor)]
        if not found:
            return np.zeros((0, FACE_COLUMNS), np.float32)
        rows = np.stack(found)
        groups = non_maximum_suppression(rows[:, :4], rows[:, 4], _SAME_FACE)
        agreed = np.stack([np.median(rows[group], axis=0) for group in groups])
        agreed[:, 4] = [rows[group[0], 4] if len(group) > 1 else min(rows[group[0], 4], SURE - 0.01) for group in groups]
        if empty:
            agreed = agreed[agreed[:, 4] >= _SUSPECTS_IN_EMPTY]
            agreed[:, 4] = np.minimum(agreed[:, 4], SURE - 0.01)
        return agreed.astype(np.float32)

    def _ask(self, pixels: NDArray[np.uint8], factor: float) -> list[NDArray[np.float32]]:
        way = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
        sized = pixels if factor == 1 else np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=way), np.uint8)
        answers = [row_of(face, factor) for face in self._detector.detect(Frame(sized, _NOW))]
        turned = self._detector.detect(Frame(np.ascontiguousarray(sized[:, ::-1]), _NOW))
        return answers + [mirrored(row_of(face, factor), pixels.shape[1]) for face in turned]


def _factors(longest: int) -> list[float]:
    """Return the sizes to ask at: enlarged where the picture is small, reduced where it is large."""
    if longest > _LARGE_PX:
        return [side / longest for side in _SIDES_PX if side <= longest]
    return [factor for factor in _ENLARGED if factor == 1 or factor * longest <= _LONGEST_PX]


def mirrored(row: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return the (15,) row of a face in the mirror image of a picture of this width."""
    turned = row.copy()
    turned[[0, 2]] = width - 1 - row[[2, 0]]
    points = row[5:].reshape(5, 2)[list(MIRROR)]
    turned[5:] = np.stack((width - 1 - points[:, 0], points[:, 1]), axis=1).ravel()
    return turned


def row_of(face: Detection, factor: float = 1.0) -> NDArray[np.float32]:
    """Return the (15,) row of a detection, in pixels of the picture before it was enlarged by `factor`."""
    if face.landmarks_px is None:
        raise ValueError("the teacher gives landmarks")
    left, top, width, height = face.box_px
    points = np.concatenate((np.array([left, top, left + width, top + height]), face.landmarks_px.ravel().astype(np.float64)))
    points = (points + 0.5) / factor - 0.5
    return np.concatenate((points[:4], [face.confidence], points[4:])).astype(np.float32)


def box_of_landmarks(landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (15,) row of (5, 2) true landmarks with the box YuNet would put about an upright face, confidence 1."""
    middle = landmarks.mean(axis=0)
    upright = landmarks[3:].mean(axis=0) - landmarks[:2].mean(axis=0)
    # A turned head brings the eyes together, not eyes and mouth: the larger of the two is the size of the face.
    spread = max(float(np.linalg.norm(landmarks[1] - landmarks[0])), float(np.linalg.norm(upright)))
    centre = middle - upright / max(float(np.linalg.norm(upright)), 1e-6) * spread * _RAISED
    half = spread * np.array([_HALF_WIDTH, _HALF_HEIGHT])
    return np.concatenate((centre - half, centre + half, [1.0], landmarks.ravel())).astype(np.float32)
