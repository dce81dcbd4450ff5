"""An estimator of apparent age and gender that others made, run in torch. It only measures.

The network is the small Xception (F. Chollet, "Xception", CVPR 2017) of face-api.js by V. Mühler, MIT, in the files of V. Mandic's
package (`people_estimator_files`), which are not part of the repository. Its author states a mean error of 4.5 years (4.8 from 9
to 18, 5.0 to 5.4 from 19 to 60, 6.2 from 60 to 80, 9.9 above) and 95 % right on gender (69 % under four, 88 % from 9 to 18, 96 to
97 % from 19 to 80), on photographs of the sets it was trained on. It knows two genders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from facekeep.errors import ModelError
from facekeep.resampling import LARGEST_FACTOR, box_reduce, resize_into

SIDE_PX: Final = 112
_MEAN_RGB: Final = (122.782, 117.001, 104.298)
_MAIN_BLOCKS: Final = 2
_BATCH: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Guesses:
    """What the estimator says of N crops: guesses of how a face looks, not facts of anybody.

    Attributes:
        ages: (N,) years.
        male: (N,) probability of "male", the rest is "female": the estimator's words.
    """

    ages: NDArray[np.float64]
    male: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Estimator:
    """The network with its weights, by the names of its manifest, in the layout of TensorFlow: height, width, in, out."""

    weights: Mapping[str, NDArray[np.float32]] = field(repr=False)

    def guess(self, crops: NDArray[np.uint8]) -> Guesses:
        """Return what it says of (N, 112, 112, 3) uint8 RGB crops as `face_crop` makes them.

        Raises:
            ModelError: "model.invalid_model" if a weight is missing or of a shape that does not fit.
        """
        weights = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in self.weights.items()}
        ages, male = [np.zeros(0)], [np.zeros(0)]
        try:
            with torch.inference_mode():
                for start in range(0, len(crops), _BATCH):
                    pixels = torch.from_numpy(crops[start : start + _BATCH].astype(np.float32)).permute(0, 3, 1, 2)
                    pooled = features(weights, pixels).mean(dim=(2, 3))
                    ages.append(_dense(weights, "fc/age", pooled)[:, 0].double().numpy())
                    male.append(_dense(weights, "fc/gender", pooled).double().softmax(dim=1)[:, 0].numpy())
        except (KeyError, IndexError, RuntimeError) as error:
            raise ModelError(
                "model.invalid_model", "The weights are not those of the age and gender network of face-api."
            ) from error
        return Guesses(np.concatenate(ages), np.concatenate(male))


def face_crop(pixels: NDArray[np.uint8], box_px: tuple[float, float, float, float]) -> NDArray[np.uint8] | None:
    """Return the (112, 112, 3) crop of a box (left, top, width, height), None where nothing of it lies in the picture.

    As face-api does where it looks for no landmarks: cut off at the border of the picture, whole pixels, made square with as much
    black on either side of the shorter one, resized. Bilinear, after a box where the face is more than twice as large.
    """
    left, top = max(box_px[0], 0.0), max(box_px[1], 0.0)
    right, bottom = min(box_px[0] + box_px[2], pixels.shape[1]), min(box_px[1] + box_px[3], pixels.shape[0])
    width, height = math.floor(right - left), math.floor(bottom - top)
    if width < 1 or height < 1:
        return None
    cut = pixels[math.floor(top) : math.floor(top) + height, math.floor(left) : math.floor(left) + width]
    side = max(width, height)
    before = ((side - height) // 2, (side - width) // 2)
    square = np.zeros((side, side, 3), np.uint8)
    square[before[0] : before[0] + height, before[1] : before[1] + width] = cut
    planes = np.empty((3, SIDE_PX, SIDE_PX), np.float32)
    resize_into(box_reduce(square, min(max(side // SIDE_PX, 1), LARGEST_FACTOR)), planes)
    return np.rint(planes).astype(np.uint8).transpose(1, 2, 0)


def features(weights: Mapping[str, Any], pixels: Any) -> Any:
    """Return what lies in front of the pooling, for an (N, 3, H, W) tensor of 0 to 255."""
    x = (pixels - torch.tensor(_MEAN_RGB).view(1, 3, 1, 1)) / 255
    x = functional.relu(_convolved(weights, "entry_flow/conv_in", x))
    x = _reduced(weights, "entry_flow/reduction_block_0", x, x)
    x = _reduced(weights, "entry_flow/reduction_block_1", x, functional.relu(x))
    for block in range(_MAIN_BLOCKS):
        inner = x
        for step in range(3):
            inner = separable(weights, f"middle_flow/main_block_{block}/separable_conv{step}", functional.relu(inner))
        x = x + inner
    x = _reduced(weights, "exit_flow/reduction_block", x, functional.relu(x))
    return functional.relu(separable(weights, "exit_flow/separable_conv", x))


def separable(weights: Mapping[str, Any], name: str, x: Any) -> Any:
    """Return a depthwise and then a pointwise convolution, with nothing between them, of the same size."""
    depthwise = weights[f"{name}/depthwise_filter"].permute(2, 3, 0, 1)
    pointwise = weights[f"{name}/pointwise_filter"].permute(3, 2, 0, 1)
    each = functional.conv2d(padded(x, depthwise.shape[-1], 1), depthwise, groups=x.shape[1])
    return functional.conv2d(each, pointwise, weights[f"{name}/bias"])


def padded(x: Any, kernel: int, stride: int, value: float = 0.0) -> Any:
    """Return a tensor with the border of TensorFlow's "same": an odd pixel lies right and below, torch has both sides alike."""
    sizes = []
    for length in (x.shape[3], x.shape[2]):
        missing = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
        sizes += [missing // 2, missing - missing // 2]
    return functional.pad(x, sizes, value=value)


def _reduced(weights: Mapping[str, Any], name: str, x: Any, activated: Any) -> Any:
    inner = separable(weights, f"{name}/separable_conv0", activated)
    inner = separable(weights, f"{name}/separable_conv1", functional.relu(inner))
    inner = functional.max_pool2d(padded(inner, 3, 2, -math.inf), 3, 2)
    return inner + _convolved(weights, f"{name}/expansion_conv", x)


def _convolved(weights: Mapping[str, Any], name: str, x: Any) -> Any:
    filters = weights[f"{name}/filters"].permute(3, 2, 0, 1)
    return functional.conv2d(padded(x, filters.shape[-1], 2), filters, weights[f"{name}/bias"], stride=2)


def _dense(weights: Mapping[str, Any], name: str, x: Any) -> Any:
    return x @ weights[f"{name}/weights"] + weights[f"{name}/bias"]
