"""A second look at the landmarks of every face that was found, in the pixels of the frame itself. Pure.

A detector looks at the whole frame once, reduced, for faces of every size; where the eyes of one face are is a detail to it. Here
a small network sees each face alone, upright and of one size, in as many pixels as the frame has, and says where its landmarks
really are. Y. Sun et al., "Deep Convolutional Network Cascade for Facial Point Detection", CVPR 2013, is the idea.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import crop_of, frame_from_crop
from facekeep.biometric import Detection, Frame
from facekeep.detection.fitting import NamedOutputs, require_finite, require_shape
from facekeep.errors import AcquisitionError, ModelError
from facekeep.ports import Detector, Session

# Crops in one run of the network: bounds the memory of a crowd.
_AT_ONCE: Final = 16
_SMALLEST_PX, _LARGEST_PX = 16, 256
# A landmark that moves further, in units of the distance between the eyes, was not refined: the second look saw something else.
LARGEST_MOVE: Final = 0.5


class RefiningDetector:
    """Finds what another detector finds, with landmarks from a second look; box and confidence stay.

    Args:
        detector: finds the faces. Those without landmarks stay as they are.
        session: a network with one input, (N, 3, S, S) float32 RGB, 0 to 255: faces aligned by the landmarks that were found, as
            `facekeep.alignment` does, S px wide; and the output `landmarks`, (N, 5, 2) float32 (x, y) in pixels of that crop.

    Raises:
        ModelError: "model.invalid_model" if the network is none of this kind.
    """

    def __init__(self, detector: Detector, session: Session) -> None:
        self._detector = detector
        self._model = NamedOutputs(session, ("landmarks",))
        shape = next(iter(session.inputs.values()))
        side = shape[-1] if len(shape) == 4 else None
        if not isinstance(side, int) or not _SMALLEST_PX <= side <= _LARGEST_PX or shape[1:] != (3, side, side):
            raise ModelError(
                "model.invalid_model",
                f"A network for landmarks sees crops of (N, 3, S, S), S from {_SMALLEST_PX} to {_LARGEST_PX}; found {shape}.",
            )
        self._side_px = side

    def detect(self, frame: Frame) -> tuple[Detection, ...]:
        """Return every face of `frame`, most confident first.

        Raises:
            AcquisitionError: "acquisition.too_small".
            ModelError: "model.invalid_model" if the outputs are not finite or not of the shape of their kind.
        """
        found = list(self._detector.detect(frame))
        ways: list[tuple[int, NDArray[np.float64]]] = []
        for place, face in enumerate(found):
            if face.landmarks_px is not None:
                try:
                    ways.append((place, frame_from_crop(face.landmarks_px, self._side_px)))
                except AcquisitionError:
                    # On one spot: there is nothing to look at. Alignment says so to whoever asks for this face.
                    continue
        for start in range(0, len(ways), _AT_ONCE):
            part = ways[start : start + _AT_ONCE]
            for (place, way), points in zip(part, self._look(frame, [way for _, way in part]), strict=True):
                found[place] = _moved(found[place], points @ way[:, :2].T + way[:, 2])
        return tuple(found)

    def _look(self, frame: Frame, ways: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
        crops = np.empty((len(ways), 3, self._side_px, self._side_px), np.float32)
        for crop, way in zip(crops, ways, strict=True):
            crop[:] = crop_of(frame.pixels, way, self._side_px).transpose(2, 0, 1)
        points = require_shape(self._model.run(crops)["landmarks"], (len(ways), 5, 2))
        require_finite(points)
        return points


def _moved(face: Detection, landmarks_px: NDArray[np.float64]) -> Detection:
    before = face.landmarks_px
    assert before is not None  # noqa: S101 - only faces with landmarks are looked at
    moved = np.linalg.norm(landmarks_px - before, axis=1).max()
    within = moved <= LARGEST_MOVE * np.linalg.norm(before[1] - before[0])
    return replace(face, landmarks_px=landmarks_px.astype(np.float32)) if within else face
