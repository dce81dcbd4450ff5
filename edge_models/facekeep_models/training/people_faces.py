"""Step 1 of the recipe of the synthetic people: what is read from every training picture.

The face nearest to the middle, its five landmarks, the 468 points of MediaPipe's face mesh, and its vector under
reid-retail-0095, which only the privacy screen uses. All of it is biometric data of the people pictured: it lives in the
cache of the recipe, outside the repository, and is deleted with it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import align
from facekeep.biometric import Detection, Frame
from facekeep.capture import read_picture
from facekeep.errors import AcquisitionError
from facekeep.ports import Detector, Embedder, Session
from facekeep.resampling import warp_affine

MESH_POINTS: Final = 468
_MESH_SIDE_PX: Final = 192
# Side of the square that the face mesh reads, in distances between the eyes, and how far below them its middle lies.
_MESH_REACH: Final = 3.9
_MESH_DROP: Final = 0.5
# Logit below which the mesh says that it sees no face.
_LEAST_MESH_SCORE: Final = 0.0
_SAVE_EVERY: Final = 1000
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Mesher(Protocol):
    """Finds the dense points of a face whose five landmarks are known."""

    def find(self, pixels: NDArray[np.uint8], landmarks_px: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return (468, 3) points, x and y in pixels of the picture and z in the same unit towards the back, or None."""


class MediaPipeMesher:
    """MediaPipe's face mesh of 468 points through LiteRT: `mediapipe_face_landmark.tflite`, Apache-2.0."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._input = next(iter(session.inputs))

    def find(self, pixels: NDArray[np.uint8], landmarks_px: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return (468, 3) points, or None."""
        left, right = landmarks_px[0].astype(np.float64), landmarks_px[1].astype(np.float64)
        mouth = landmarks_px[3:].astype(np.float64).mean(axis=0)
        down = mouth - (left + right) / 2
        # The larger of the two lengths: a turned face has its eyes close together and is as tall as before.
        length = max(float(np.hypot(*(right - left))), float(np.hypot(*down)) / 1.1)
        angle = math.atan2(right[1] - left[1], right[0] - left[0])
        centre = (left + right) / 2 + _MESH_DROP * down
        scale = _MESH_REACH * length / _MESH_SIDE_PX
        linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix = np.concatenate((linear, (centre - linear @ np.full(2, (_MESH_SIDE_PX - 1) / 2))[:, None]), axis=1)
        crop = warp_affine(pixels, matrix, (_MESH_SIDE_PX, _MESH_SIDE_PX))
        points, score = self._session.run({self._input: crop[None].astype(np.float32) / 255.0})
        if float(score.ravel()[0]) < _LEAST_MESH_SCORE:
            return None
        found = np.asarray(points, np.float64).reshape(MESH_POINTS, 3)
        flat = found[:, :2] @ linear.T + matrix[:, 2]
        return np.concatenate((flat, found[:, 2:] * scale), axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """What was read of N pictures; rows of pictures without a usable face are NaN.

    Attributes:
        landmarks_px: (N, 5, 2) float32.
        mesh_px: (N, 468, 3) float32.
        vectors: (N, D) float32 unit vectors of the embedder of the privacy screen.
    """

    landmarks_px: NDArray[np.float32]
    mesh_px: NDArray[np.float32]
    vectors: NDArray[np.float32]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(N,) whether everything was found."""
        return np.isfinite(self.mesh_px[:, 0, 0]) & np.isfinite(self.vectors[:, 0])


def read_faces(
    paths: Sequence[Path],
    detector: Detector,
    mesher: Mesher,
    embedder: Embedder,
    cache: Path,
    say: Callable[[str], None],
) -> Faces:
    """Return what can be read of the pictures; goes on from `cache` where an earlier run stopped."""
    names = hashlib.sha256("\n".join(f"{path.parent.name}/{path.name}" for path in paths).encode()).hexdigest()
    store = cache / f"faces-{names[:16]}.npz"
    count = len(paths)
    faces = Faces(
        np.full((count, 5, 2), np.nan, np.float32),
        np.full((count, MESH_POINTS, 3), np.nan, np.float32),
        np.full((count, embedder.dimension), np.nan, np.float32),
    )
    done = 0
    if store.is_file():
        with np.load(store, allow_pickle=False) as stored:
            done = int(stored["done"])
            for each in fields(Faces):
                getattr(faces, each.name)[:done] = stored[each.name]
        say(f"1 faces: going on at picture {done} of {count}")
    for index in range(done, count):
        _read(paths[index], index, faces, detector, mesher, embedder)
        if (index + 1) % _SAVE_EVERY == 0 or index + 1 == count:
            unfinished = store.with_suffix(".new")
            with unfinished.open("wb") as stream:
                np.savez(
                    stream,
                    done=np.array(index + 1),
                    **{each.name: getattr(faces, each.name)[: index + 1] for each in fields(Faces)},
                )
            unfinished.replace(store)
            say(f"1 faces: {index + 1} of {count} pictures")
    return faces


def _read(path: Path, index: int, faces: Faces, detector: Detector, mesher: Mesher, embedder: Embedder) -> None:
    frame = Frame(read_picture(path), _NOW)
    found = [face for face in detector.detect(frame) if face.landmarks_px is not None]
    if not found:
        return
    face = min(found, key=lambda each: _off_centre(each, frame))
    assert face.landmarks_px is not None  # noqa: S101 - the filter above
    try:
        faces.vectors[index] = embedder.embed(align(frame, face))
    except AcquisitionError:
        return
    mesh = mesher.find(frame.pixels, face.landmarks_px)
    faces.landmarks_px[index] = face.landmarks_px
    if mesh is not None:
        faces.mesh_px[index] = mesh


def _off_centre(face: Detection, frame: Frame) -> float:
    left, top, width, height = face.box_px
    return (left + width / 2 - frame.width / 2) ** 2 + (top + height / 2 - frame.height / 2) ** 2
