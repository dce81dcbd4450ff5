"""Bringing a face to the ArcFace template: the crop that every embedder sees. Pure."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Detection, Frame
from facekeep.errors import AcquisitionError
from facekeep.resampling import LARGEST_FACTOR, box_reduce, warp_affine

CROP_SIDE_PX: Final = 112

# Five landmarks in a 112x112 crop: image-left eye, image-right eye, nose, image-left and image-right corner of the mouth.
# J. Deng et al., "ArcFace", CVPR 2019; insightface, python-package/insightface/utils/face_align.py, arcface_dst.
TEMPLATE_PX: Final[NDArray[np.float64]] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
TEMPLATE_PX.flags.writeable = False
_CENTRED = TEMPLATE_PX - TEMPLATE_PX.mean(axis=0)

# A face smaller than this (root mean square distance of its landmarks from their centre) says nothing about its turn.
_LEAST_SPREAD_PX = 0.5


def similarity_to_template(landmarks_px: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the rotation, scale and shift that bring landmarks closest to the template, in least squares.

    Closed form for the plane of S. Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", PAMI 1991, equations 40 to 43. A reflection is never returned.

    Args:
        landmarks_px: (5, 2) in pixels of the frame.

    Returns:
        (2, 3) float64: maps (x, y, 1) of the frame to the crop.

    Raises:
        AcquisitionError: "acquisition.no_landmarks" if the landmarks lie on one spot.
    """
    points = landmarks_px.astype(np.float64)
    centre = points.mean(axis=0)
    points -= centre
    spread = float((points * points).sum())
    # Parallel and crossed parts of the correlation: scale * cos and scale * sin of the best turn.
    parallel = float((points * _CENTRED).sum())
    crossed = float((points[:, 0] * _CENTRED[:, 1] - points[:, 1] * _CENTRED[:, 0]).sum())
    length = math.hypot(parallel, crossed)
    if spread < 5 * _LEAST_SPREAD_PX**2 or length < 1e-9 * spread:
        raise AcquisitionError("acquisition.no_landmarks", "The landmarks lie on one spot: there is no face to align.")
    a, b = parallel / spread, crossed / spread
    x, y = centre.tolist()
    to_x, to_y = TEMPLATE_PX.mean(axis=0).tolist()
    return np.array([[a, -b, to_x - a * x + b * y], [b, a, to_y - b * x - a * y]])


def align(frame: Frame, detection: Detection) -> NDArray[np.uint8]:
    """Return the aligned crop of a face.

    Args:
        frame: the frame.
        detection: a face of it, with landmarks.

    Returns:
        (112, 112, 3) uint8 RGB, black outside the frame.

    Raises:
        AcquisitionError: "acquisition.no_landmarks" if the detector gave none or they lie on one spot.
    """
    if detection.landmarks_px is None:
        raise AcquisitionError(
            "acquisition.no_landmarks", "This detector gives no landmarks. Choose one that does, such as YuNet, to recognise faces."
        )
    return crop_of(frame.pixels, frame_from_crop(detection.landmarks_px))


def frame_from_crop(landmarks_px: NDArray[np.float32], side_px: int = CROP_SIDE_PX) -> NDArray[np.float64]:
    """Return where each pixel of an aligned crop lies in the frame.

    Args:
        landmarks_px: (5, 2) in pixels of the frame.
        side_px: side of the crop; a smaller one shows the same in fewer pixels.

    Returns:
        (2, 3) float64: maps (x, y, 1) of the crop to the frame.

    Raises:
        AcquisitionError: "acquisition.no_landmarks" if the landmarks lie on one spot.
    """
    inverse = _invert(similarity_to_template(landmarks_px))
    # Pixel u of the smaller crop has its centre at (u + 0.5) * ratio - 0.5 of that of 112 px.
    ratio = CROP_SIDE_PX / side_px
    inverse[:, 2] += inverse[:, :2] @ np.full(2, 0.5 * ratio - 0.5)
    inverse[:, :2] *= ratio
    return inverse


def crop_of(pixels: NDArray[np.uint8], source_from_crop: NDArray[np.float64], side_px: int = CROP_SIDE_PX) -> NDArray[np.uint8]:
    """Return the (side_px, side_px, 3) uint8 RGB crop that `frame_from_crop` places in a frame.

    Bilinear, black outside the frame. Where the face is reduced by two or more, its part of the frame is first reduced by the
    whole factor with a box: bilinear alone would skip pixels, and a large picture would embed like a noisy one.
    """
    factor = min(int(math.hypot(source_from_crop[0, 0], source_from_crop[1, 0])), LARGEST_FACTOR)
    if factor < 2:
        return warp_affine(pixels, source_from_crop, (side_px, side_px))
    region, left, top = _reduced_region(pixels, source_from_crop, side_px, factor)
    # Pixel u of the region has its centre at left + (u + 0.5) * factor - 0.5 of the frame.
    in_region = source_from_crop / factor
    in_region[:, 2] = (source_from_crop[:, 2] - (left, top) + 0.5) / factor - 0.5
    return warp_affine(region, in_region, (side_px, side_px))


def _reduced_region(
    pixels: NDArray[np.uint8], source_from_crop: NDArray[np.float64], side_px: int, factor: int
) -> tuple[NDArray[np.uint8], int, int]:
    """Return the part of a frame that the crop reads, reduced by `factor`, and its left and top in the frame."""
    height, width = pixels.shape[:2]
    last = side_px - 1
    corners = source_from_crop @ np.array([[0, last, 0, last], [0, 0, last, last], [1, 1, 1, 1]], np.float64)
    low, high = corners.min(axis=1), corners.max(axis=1)
    margin = 2 * factor
    left, top = (max(0, math.floor(value) - margin) for value in low.tolist())
    right, bottom = min(width, math.ceil(high[0]) + margin), min(height, math.ceil(high[1]) + margin)
    if right <= left or bottom <= top:
        return np.zeros((1, 1, 3), np.uint8), left, top
    part = pixels[top:bottom, left:right]
    # Blocks that the border of the frame cuts are completed with the black that lies outside.
    missing = (-part.shape[0] % factor, -part.shape[1] % factor)
    if any(missing):
        part = np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)))
    return box_reduce(part, factor), left, top


def _invert(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b = similarity[0, 0], similarity[1, 0]
    square = a * a + b * b
    linear = np.array([[a, b], [-b, a]]) / square
    return np.concatenate((linear, -linear @ similarity[:, 2:]), axis=1)
