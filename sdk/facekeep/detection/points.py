"""The simulation family: a model that reads one face and its five landmarks straight out of a picture.

It finds people that `facekeep_models` draws with marked landmarks; tests and simulations run on it without anyone's face.
Outputs "score" (1,), 0 to 1, and "landmarks" (1, 5, 2), pixels of the tensor.
"""

from __future__ import annotations

import numpy as np

from facekeep.biometric import Detection, Frame
from facekeep.contract import InputContract
from facekeep.detection.fitting import NamedOutputs, fit_frame, require_finite, require_shape, to_detections
from facekeep.ports import Session

# A box around the landmarks, in units of their extent: what YuNet draws around the same faces.
_WIDEN = np.array([2.0, 2.6], np.float32)


class PointsDetector:
    """Reads at most one face.

    Args:
        session: the model.
        input: its contract.
        longest_side: longest side a frame is reduced to where the size is free.
        confidence: least score.
    """

    def __init__(self, session: Session, input: InputContract, *, longest_side: int, confidence: float) -> None:  # noqa: A002
        self._model = NamedOutputs(session, ("score", "landmarks"))
        self._input = input
        self._longest_side = longest_side
        self._confidence = confidence

    def detect(self, frame: Frame) -> tuple[Detection, ...]:
        """Return the face of `frame`, or nothing.

        Raises:
            AcquisitionError: "acquisition.too_small".
            ModelError: "model.invalid_model" if the outputs are not finite or not of the shape of this family.
        """
        fitted = fit_frame(frame, self._input, self._longest_side)
        outputs = self._model.run(fitted.tensor)
        score = require_shape(outputs["score"], (1,))
        points = require_shape(outputs["landmarks"], (1, 5, 2))
        require_finite(score)
        if float(score[0]) < self._confidence:
            return ()
        require_finite(points)
        low, high = points.min(axis=1), points.max(axis=1)
        half = np.maximum(high - low, 1.0) * _WIDEN / 2
        centre = (low + high) / 2
        return to_detections(fitted, np.concatenate((centre - half, centre + half), axis=1), score, points)
