"""OpenCV's resampling, and how far ours may be from it.

Tolerances, in grey levels of 8 bits:
- `resize_into` against cv2.resize INTER_LINEAR: 1 (OpenCV rounds weights to 11 bits and the result to whole levels; ours is
  compared before rounding).
- `box_reduce` against cv2.resize INTER_AREA by a whole factor: 1 (halves are rounded differently).
- `warp_affine` against cv2.warpAffine INTER_LINEAR: 1 (OpenCV 5 computes in float32 as we do; 4.x rounds positions to 1/32 px,
  so there the tolerance is on smooth pictures only).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

GREY_LEVELS = 1.0

cv2.setNumThreads(1)


def resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def box_reduce(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    whole = np.ascontiguousarray(pixels[: height * factor, : width * factor])
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def warp_affine(pixels: NDArray[np.uint8], source_from_output: NDArray[np.float64], height: int, width: int) -> NDArray[np.uint8]:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(pixels, source_from_output, (width, height), flags=flags), np.uint8)
