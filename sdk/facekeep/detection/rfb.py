"""Ultra-Light RFB-320: boxes only. github.com/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB.

The "simplified" graph gives "scores" (1, 4420, 2), background and face, and "boxes" (1, 4420, 4), offsets from priors: its
repository decodes them outside (vision/utils/box_utils.py, generate_priors and convert_locations_to_boxes), and so is done
here. Without landmarks a face cannot be aligned: good for counting and redacting, not for recognition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Detection, Frame
from facekeep.contract import InputContract
from facekeep.detection.fitting import NamedOutputs, fit_frame, require_finite, require_shape, to_detections
from facekeep.detection.suppression import first_of_each, non_maximum_suppression
from facekeep.errors import ModelError
from facekeep.ports import Session

_SIZE = (240, 320)
# Stride and the sides of its priors, vision/ssd/config/fd_config.py.
_PRIORS = ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256)))
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2


def priors_px() -> NDArray[np.float32]:
    """Return (4420, 3) float32 priors: centre x, centre y and side, in pixels, in the order of the model's outputs."""
    height, width = _SIZE
    parts = []
    for stride, sides in _PRIORS:
        rows, columns = -(-height // stride), -(-width // stride)
        y, x, side = np.meshgrid(np.arange(rows), np.arange(columns), np.array(sides), indexing="ij")
        # The last rows reach over the border: their centres are clipped to it, as where the model was trained.
        centre_x, centre_y = np.minimum((x + 0.5) * stride, width), np.minimum((y + 0.5) * stride, height)
        parts.append(np.stack((centre_x, centre_y, side), axis=-1).reshape(-1, 3))
    return np.concatenate(parts).astype(np.float32)


class RFBDetector:
    """Decodes RFB-320.

    The authors stretch a picture to 320x240; here it keeps its proportions, so that faces of portrait pictures keep theirs.

    Args:
        session: the model.
        input: its contract, of fixed size.
        confidence: least score.
        overlap: greatest intersection over union of two faces.
    """

    def __init__(self, session: Session, input: InputContract, *, confidence: float, overlap: float) -> None:  # noqa: A002
        if input.size_px != _SIZE:
            raise ModelError("model.invalid_manifest", f"The input of RFB-320 is {_SIZE} (height, width).")
        self._model = NamedOutputs(session, ("scores", "boxes"))
        self._input = input
        self._confidence = confidence
        self._overlap = overlap
        self._priors = priors_px()

    def detect(self, frame: Frame) -> tuple[Detection, ...]:
        """Return every face of `frame`, most confident first, without landmarks.

        Raises:
            AcquisitionError: "acquisition.too_small".
            ModelError: "model.invalid_model" if the outputs are not finite or not of the shape of this family.
        """
        fitted = fit_frame(frame, self._input, max(frame.height, frame.width))
        outputs = self._model.run(fitted.tensor)
        scores = require_shape(outputs["scores"], (1, len(self._priors), 2))[0, :, 1]
        offsets = require_shape(outputs["boxes"], (1, len(self._priors), 4))[0]
        require_finite(scores)
        chosen = np.flatnonzero(scores >= np.float32(self._confidence))
        if not len(chosen):
            return ()
        priors, offsets, scores = self._priors[chosen], offsets[chosen], scores[chosen]
        side = priors[:, 2:]
        # Pixel centres lie at whole numbers, the priors count from the outer edge.
        with np.errstate(all="ignore"):  # what overflows is refused below
            centre = priors[:, :2] + offsets[:, :2] * (np.float32(_CENTRE_VARIANCE) * side) - np.float32(0.5)
            half = np.exp(offsets[:, 2:] * np.float32(_SIZE_VARIANCE)) * side / 2
            boxes = np.concatenate((centre - half, centre + half), axis=1)
        require_finite(boxes)
        kept = first_of_each(non_maximum_suppression(boxes, scores, self._overlap))
        return to_detections(fitted, boxes[kept], scores[kept], None)
