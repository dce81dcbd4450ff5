"""A frame brought to the input of a detector, and what it finds brought back to the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Detection, Frame
from facekeep.contract import InputContract
from facekeep.errors import AcquisitionError, ModelError
from facekeep.ports import Session
from facekeep.resampling import LARGEST_FACTOR, box_reduce, to_tensor

SMALLEST_SIDE_PX: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class FittedFrame:
    """The input tensor made from a frame.

    Attributes:
        tensor: input of the model, batch of one.
        canvas_px: (height, width) of the tensor.
        scale: (x, y) pixels of the frame per pixel of the tensor; the picture lies in the upper left of the canvas.
    """

    tensor: NDArray[np.float32] = field(repr=False)
    canvas_px: tuple[int, int]
    scale: tuple[float, float]

    def to_frame(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (..., 2) points of the tensor, (x, y) in pixels, as points of the frame."""
        scale = np.array(self.scale, np.float32)
        # Pixel centres lie at whole numbers on both sides, so the corner at -0.5 is the point that stays.
        moved: NDArray[np.float32] = (points + np.float32(0.5)) * scale - np.float32(0.5)
        return moved


def fit_frame(frame: Frame, contract: InputContract, longest_side: int) -> FittedFrame:
    """Return `frame` as the input of a detector, keeping its proportions.

    An input of free size gets the frame reduced to `longest_side`, never enlarged, and padded with black to the stride of
    the model. An input of fixed size gets the frame reduced or enlarged to fill it, padded with black.

    Raises:
        AcquisitionError: "acquisition.too_small" for a side under `SMALLEST_SIDE_PX`.
    """
    height, width = frame.height, frame.width
    if min(height, width) < SMALLEST_SIDE_PX:
        raise AcquisitionError(
            "acquisition.too_small",
            f"A frame needs {SMALLEST_SIDE_PX} px on each side to hold a face; found {width}x{height}.",
        )
    if contract.size_px is None:
        ratio = min(1.0, longest_side / max(height, width))
    else:
        ratio = min(contract.size_px[0] / height, contract.size_px[1] / width)
    # A plain bilinear reduction by more than two skips pixels and finds faces in the noise; a box does not. The smaller side
    # keeps at least one pixel however long the frame.
    factor = min(max(1, int(1.0 / ratio + 1e-9)), LARGEST_FACTOR, height, width)
    reduced = box_reduce(frame.pixels, factor)
    picture = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    stride = contract.multiple_of
    canvas = contract.size_px or (-(-picture[0] // stride) * stride, -(-picture[1] // stride) * stride)
    tensor = to_tensor(reduced, contract, picture_px=picture, canvas_px=canvas)
    scale = (reduced.shape[1] * factor / picture[1], reduced.shape[0] * factor / picture[0])
    return FittedFrame(tensor, canvas, scale)


class NamedOutputs:
    """Runs a session and hands out its outputs by name, or refuses a model of another family.

    Raises:
        ModelError: "model.invalid_model" if the model has not exactly one input, or lacks an output.
    """

    def __init__(self, session: Session, names: Sequence[str]) -> None:
        if len(session.inputs) != 1 or not set(names) <= set(session.outputs):
            raise ModelError(
                "model.invalid_model",
                f"The detector has one input and the outputs {', '.join(names)}; "
                f"found {len(session.inputs)} inputs and {', '.join(session.outputs)}.",
            )
        self._session = session
        self._input = next(iter(session.inputs))
        self._positions = {name: session.outputs.index(name) for name in names}

    def run(self, tensor: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name."""
        results = self._session.run({self._input: tensor})
        return {name: results[position] for name, position in self._positions.items()}


def require_shape(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an output of a model if it has the shape its family has.

    Raises:
        ModelError: "model.invalid_model".
    """
    if array.shape != shape or array.dtype != np.float32:
        raise ModelError("model.invalid_model", f"The detector gives float32 of shape {shape}; found {array.dtype} {array.shape}.")
    return array


def require_finite(*arrays: NDArray[np.float32]) -> None:
    """Refuse outputs that are not numbers: they would compare as "no face" without a word.

    Raises:
        ModelError: "model.invalid_model".
    """
    for array in arrays:
        # The sum is finite if every term is (scores and pixels are far from the end of float32), at a tenth of the cost.
        with np.errstate(all="ignore"):
            total = array.sum(dtype=np.float32)
        if not np.isfinite(total):
            raise ModelError("model.invalid_model", "The detector gave values that are not finite numbers.")


def to_detections(
    fitted: FittedFrame,
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    landmarks: NDArray[np.float32] | None,
) -> tuple[Detection, ...]:
    """Return detections in pixels of the frame.

    Args:
        fitted: the tensor they were found in.
        boxes: (N, 4) float32 left, top, right, bottom in pixels of the tensor, most confident first.
        scores: (N,) float32.
        landmarks: (N, 5, 2) float32 or None.
    """
    if not len(boxes):
        return ()
    require_finite(boxes)
    corners = fitted.to_frame(boxes.reshape(-1, 2, 2))
    points = None if landmarks is None else fitted.to_frame(landmarks)
    if points is not None:
        require_finite(points)
    found = []
    for index, ((left, top), (right, bottom)) in enumerate(corners.tolist()):
        if right > left and bottom > top:
            confidence = min(max(float(scores[index]), 0.0), 1.0)
            box = (left, top, right - left, bottom - top)
            found.append(Detection(box, None if points is None else points[index], confidence))
    return tuple(found)
