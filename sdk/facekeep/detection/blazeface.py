"""BlazeFace, short range. V. Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019.

Anchors and decoding follow MediaPipe's graph (mediapipe/modules/face_detection/face_detection_short_range.pbtxt and
SsdAnchorsCalculator, TensorsToDetectionsCalculator): strides 8, 16, 16, 16, two anchors a cell and layer, all of size one,
centred in the cell; regressors are divided by 128, logits clipped; six keypoints (image-left eye, image-right eye,
nose, centre of the mouth, two ears). Built for selfies: faces under a fifth of the picture are often missed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Detection, Frame
from facekeep.contract import InputContract
from facekeep.detection.fitting import NamedOutputs, fit_frame, require_finite, require_shape, to_detections
from facekeep.detection.suppression import non_maximum_suppression
from facekeep.errors import ModelError
from facekeep.ports import Session

_SIZE = 128
_LAYERS = ((8, 2), (16, 6))  # stride, anchors a cell: three layers of stride 16 share their cells
# MediaPipe clips at 100, which overflows float32; the sigmoid is 1 to the last bit from 17 on.
_LOGIT_LIMIT = 80.0
# Half the width of the mouth over the distance of the eyes, in the ArcFace template: (70.73 - 41.55) / 2 / (73.53 - 38.29).
_HALF_MOUTH = np.float32(0.414)


def anchor_centres() -> NDArray[np.float32]:
    """Return (896, 2) float32 (x, y), 0 to 1 of the input, in the order of the model's outputs."""
    centres = []
    for stride, repeats in _LAYERS:
        cells = _SIZE // stride
        rows, columns = np.divmod(np.arange(cells * cells), cells)
        grid = (np.stack((columns, rows), axis=1) + 0.5) / cells
        centres.append(np.repeat(grid, repeats, axis=0))
    return np.concatenate(centres).astype(np.float32)


class BlazeFaceDetector:
    """Decodes the short-range model, with MediaPipe's weighted suppression.

    The model gives the centre of the mouth, not its corners. They are put at either side of it along the line of the eyes, at
    the width the alignment template has: right for a closed, frontal mouth, so the alignment is a little less exact than with
    five measured landmarks. Embeddings of this detector carry a contract of their own.

    Args:
        session: the model.
        input: its contract, 128x128.
        confidence: least score.
        overlap: candidates that overlap more are averaged into one face.
    """

    def __init__(self, session: Session, input: InputContract, *, confidence: float, overlap: float) -> None:  # noqa: A002
        if input.size_px != (_SIZE, _SIZE):
            raise ModelError("model.invalid_manifest", f"The input of BlazeFace is {_SIZE}x{_SIZE}.")
        self._model = NamedOutputs(session, ("regressors", "classificators"))
        self._input = input
        self._confidence = confidence
        self._overlap = overlap
        self._anchors = anchor_centres() * _SIZE

    def detect(self, frame: Frame) -> tuple[Detection, ...]:
        """Return every face of `frame`, most confident first.

        Raises:
            AcquisitionError: "acquisition.too_small".
            ModelError: "model.invalid_model" if the outputs are not finite or not of the shape of this family.
        """
        fitted = fit_frame(frame, self._input, _SIZE)
        outputs = self._model.run(fitted.tensor)
        logits = require_shape(outputs["classificators"], (1, len(self._anchors), 1)).ravel()
        regressors = require_shape(outputs["regressors"], (1, len(self._anchors), 16))[0]
        require_finite(logits)
        one = np.float32(1.0)
        all_scores = one / (one + np.exp(-np.clip(logits, -_LOGIT_LIMIT, _LOGIT_LIMIT).astype(np.float32)))
        chosen = np.flatnonzero(all_scores >= np.float32(self._confidence))
        if not len(chosen):
            return ()
        scores, values = all_scores[chosen].astype(np.float32), regressors[chosen].reshape(-1, 8, 2)
        with np.errstate(all="ignore"):  # what overflows is refused below
            centre = values[:, 0] + self._anchors[chosen]
            half = values[:, 1] / 2
            # One row per candidate: two corners, then six keypoints, in pixels of the tensor whose corner is (0, 0).
            keypoints = values[:, 2:] + self._anchors[chosen, None]
            rows = np.concatenate(((centre - half)[:, None], (centre + half)[:, None], keypoints), axis=1)
            rows -= np.float32(0.5)
        require_finite(rows)
        groups = non_maximum_suppression(rows[:, :2].reshape(-1, 4), scores, self._overlap)
        merged = np.stack([np.average(rows[group], axis=0, weights=scores[group]) for group in groups]).astype(np.float32)
        best = scores[[group[0] for group in groups]]
        return to_detections(fitted, merged[:, :2].reshape(-1, 4), best, five_landmarks(merged[:, 2:6]))


def five_landmarks(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N, 5, 2) landmarks of (N, 4, 2) eyes, nose and centre of the mouth."""
    half = (keypoints[:, 1] - keypoints[:, 0]) * _HALF_MOUTH
    mouth = keypoints[:, 3]
    return np.concatenate((keypoints[:, :3], (mouth - half)[:, None], (mouth + half)[:, None]), axis=1)
