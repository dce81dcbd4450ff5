"""YuNet: anchor-free, five landmarks. W. Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", MIR 2023.

Decoded as OpenCV's FaceDetectorYN does (modules/objdetect/src/face_detect.cpp, postProcess): per stride s and cell (column c,
row r) the score is sqrt(cls * obj), the centre (c + dx, r + dy) * s, the size exp(dw, dh) * s, a landmark (c + x, r + y) * s.
The landmarks come as image-left eye, image-right eye, nose, image-left and image-right corner of the mouth.

Several cells answer for one face. OpenCV takes the most confident one and drops the others; where the pack asks for it, the
others have a say in the landmarks: each cell errs a little on its own, so their mean is nearer than the best of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Detection, Frame
from facekeep.contract import InputContract
from facekeep.detection.fitting import NamedOutputs, fit_frame, require_finite, require_shape, to_detections
from facekeep.detection.suppression import first_of_each, intersection_over_union, non_maximum_suppression
from facekeep.errors import ModelError
from facekeep.ports import Session

_STRIDES = (8, 16, 32)
# A cell has a say in the landmarks of a face if its box is this much the same: not that of somebody who stands half behind.
_SAME_FACE = np.float32(0.5)
_OUTPUTS = tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in _STRIDES)


class YuNetDetector:
    """Decodes YuNet-s, YuNet-n and the fixed 640x640 build of March 2023 (OpenCV Zoo).

    Args:
        session: the model.
        input: its contract; a free size is a multiple of 32.
        longest_side: longest side a frame is reduced to where the size is free.
        confidence: least score.
        overlap: greatest intersection over union of two faces.
        landmark_power: the landmarks of a face are the mean over its cells, weighted by this power of their confidence; None
            for those of the most confident cell, as OpenCV does.
    """

    def __init__(
        self,
        session: Session,
        input: InputContract,  # noqa: A002
        *,
        longest_side: int,
        confidence: float,
        overlap: float,
        landmark_power: float | None = None,
    ) -> None:
        largest = _STRIDES[-1]
        if input.multiple_of % largest if input.size_px is None else (input.size_px[0] % largest or input.size_px[1] % largest):
            raise ModelError("model.invalid_manifest", f"The input of YuNet is a multiple of {largest} px.")
        self._model = NamedOutputs(session, _OUTPUTS)
        self._input = input
        self._longest_side = longest_side
        self._confidence = confidence
        self._overlap = overlap
        self._landmark_power = landmark_power

    def detect(self, frame: Frame) -> tuple[Detection, ...]:
        """Return every face of `frame`, most confident first.

        Raises:
            AcquisitionError: "acquisition.too_small".
            ModelError: "model.invalid_model" if the outputs are not finite or not of the shape of this family.
        """
        fitted = fit_frame(frame, self._input, self._longest_side)
        outputs = self._model.run(fitted.tensor)
        boxes, scores, landmarks = _decode(outputs, fitted.canvas_px, self._confidence)
        if not len(scores):
            return ()
        groups = non_maximum_suppression(boxes, scores, self._overlap)
        kept = first_of_each(groups)
        points = landmarks[kept]
        if self._landmark_power is not None:
            weights = scores ** np.float32(self._landmark_power)
            points = np.stack([_mean_landmarks(group, boxes, weights, landmarks) for group in groups])
        return to_detections(fitted, boxes[kept], scores[kept], points)


def _mean_landmarks(
    group: NDArray[np.intp], boxes: NDArray[np.float32], weights: NDArray[np.float32], landmarks: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the (5, 2) mean landmarks of the cells of a face whose boxes agree with that of the first."""
    same = group[intersection_over_union(boxes[group[0]], boxes[group]) >= _SAME_FACE]
    # The first is among them even if its box has no area.
    same = same if len(same) else group[:1]
    mean: NDArray[np.float32] = np.einsum("i,ijk->jk", weights[same] / weights[same].sum(), landmarks[same])
    return mean


@lru_cache(maxsize=16)
def _cells(canvas_px: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[int, ...]]:
    """Return (N, 2) column and row and (N, 1) stride of every cell of the three maps, and how many cells each map has."""
    corners, strides = [], []
    for stride in _STRIDES:
        rows, columns = canvas_px[0] // stride, canvas_px[1] // stride
        row, column = np.divmod(np.arange(rows * columns), columns)
        corners.append(np.stack((column, row), axis=1))
        strides.append(np.full((rows * columns, 1), stride))
    corner, step = np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)
    for array in (corner, step):
        array.flags.writeable = False
    return corner, step, tuple(len(cells) for cells in corners)


def _joined(outputs: dict[str, NDArray[Any]], kind: str, counts: tuple[int, ...], width: int) -> list[NDArray[np.float32]]:
    named = zip(_STRIDES, counts, strict=True)
    return [require_shape(outputs[f"{kind}_{stride}"], (1, count, width))[0] for stride, count in named]


def _decode(
    outputs: dict[str, NDArray[Any]], canvas_px: tuple[int, int], confidence: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return (N, 4) corners, (N,) scores and (N, 5, 2) landmarks, in pixels of the tensor, of cells over `confidence`."""
    corner, step, counts = _cells(canvas_px)
    classes = np.concatenate(_joined(outputs, "cls", counts, 1)).ravel()
    objects = np.concatenate(_joined(outputs, "obj", counts, 1)).ravel()
    require_finite(classes, objects)
    product = np.clip(classes, 0, 1) * np.clip(objects, 0, 1)
    chosen = np.flatnonzero(product >= np.float32(confidence * confidence))
    corner, step = corner[chosen], step[chosen]
    offsets = _rows(_joined(outputs, "bbox", counts, 4), chosen)
    points = _rows(_joined(outputs, "kps", counts, 10), chosen)
    with np.errstate(all="ignore"):  # what overflows is refused on the last line
        centre = (corner + offsets[:, :2]) * step
        half = np.exp(offsets[:, 2:]) * (step * np.float32(0.5))
        boxes: NDArray[np.float32] = np.concatenate((centre - half, centre + half), axis=1)
        landmarks: NDArray[np.float32] = (points.reshape(-1, 5, 2) + corner[:, None]) * step[:, None]
    require_finite(boxes, landmarks)
    return boxes, np.sqrt(product[chosen]), landmarks


def _rows(maps: list[NDArray[np.float32]], chosen: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the chosen rows of the maps as if they were one, without copying the others: faces are few among cells."""
    start, parts = 0, []
    for part in maps:
        end = start + len(part)
        parts.append(part[chosen[(chosen >= start) & (chosen < end)] - start])
        start = end
    return np.concatenate(parts)
