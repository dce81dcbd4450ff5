"""Resampling in NumPy: reduce, resize, warp, and the input tensor of a model. Pure; the base install has no OpenCV.

Pixel centres lie at whole numbers, as in OpenCV: the centre of output pixel i of a resize lies at (i + 0.5) * s - 0.5 of the
input. Every function equals its OpenCV counterpart within one grey level (tests/reference/resampling.py states and checks
it); docs/adr/0002 says why this is NumPy and how it was made fast.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from facekeep.contract import InputContract

# Rows worked on at a time. The temporaries of a strip stay in the level-2 cache: 2.5 times faster than whole pictures.
_STRIP = 32
# 257 is the longest column of 255s that a uint16 holds.
LARGEST_FACTOR = 257

_RGB = (0, 1, 2)
_BGR = (2, 1, 0)

Table = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]


def box_reduce(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return the mean of each `factor` x `factor` block: `cv2.resize(..., INTER_AREA)` by a whole factor.

    Args:
        pixels: (H, W, 3) uint8, H and W at least `factor`.
        factor: 1 to `LARGEST_FACTOR`; 1 returns `pixels` itself.

    Returns:
        (H // factor, W // factor, 3) uint8; rows and columns that fill no block are left out.
    """
    if factor == 1:
        return pixels
    if not 1 < factor <= LARGEST_FACTOR or min(pixels.shape[:2]) < factor:
        raise ValueError("a factor is positive, at most 257 and not larger than the picture")
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    reduced = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP):
        end = min(top + _STRIP, height)
        strip = pixels[top * factor : end * factor, : width * factor].reshape(end - top, factor, width * factor * 3)
        columns = np.add.reduce(strip, axis=1, dtype=np.uint16).reshape(end - top, width, factor, 3)
        for channel in range(3):
            total = columns[:, :, 0, channel].astype(np.float32)
            for offset in range(1, factor):
                total += columns[:, :, offset, channel]
            total *= 1.0 / (factor * factor)
            total += 0.5
            reduced[top:end, :, channel] = total
    return reduced


@lru_cache(maxsize=64)
def _bilinear_table(source: int, target: int) -> Table:
    """Return, for each of `target` positions, its two neighbours among `source` and the weight of the second."""
    positions = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0.0, source - 1.0)
    lower = np.floor(positions).astype(np.intp)
    weight = (positions - lower).astype(np.float32)
    return _read_only(lower, np.minimum(lower + 1, source - 1), weight)


@lru_cache(maxsize=64)
def _column_table(source: int, target: int, channels: tuple[int, ...]) -> Table:
    """Return `_bilinear_table` for rows of interleaved pixels, output channel by channel: the colour order costs nothing."""
    lower, upper, weight = _bilinear_table(source, target)
    offsets = np.array(channels, np.intp)[:, None]
    return _read_only((lower * 3 + offsets).ravel(), (upper * 3 + offsets).ravel(), np.tile(weight, len(channels)))


def _read_only(lower: NDArray[np.intp], upper: NDArray[np.intp], weight: NDArray[np.float32]) -> Table:
    for array in (lower, upper, weight):
        array.flags.writeable = False
    return lower, upper, weight


def resize_into(pixels: NDArray[np.uint8], planes: NDArray[np.float32], channels: tuple[int, int, int] = _RGB) -> None:
    """Write the bilinear resize of `pixels` into `planes`: `cv2.resize(..., INTER_LINEAR)` before its rounding.

    Args:
        pixels: (H, W, 3) uint8.
        planes: (3, h, w) float32, any strides; receives values 0 to 255.
        channels: which channel of `pixels` each plane takes.
    """
    height, width = planes.shape[1:]
    if pixels.shape[:2] == (height, width):
        for plane, channel in zip(planes, channels, strict=True):
            plane[...] = pixels[:, :, channel]
        return
    upper_row, lower_row, row_weight = _bilinear_table(pixels.shape[0], height)
    left, right, column_weight = _column_table(pixels.shape[1], width, channels)
    rows = pixels.reshape(pixels.shape[0], -1)
    by_row = planes.transpose(1, 0, 2)
    for top in range(0, height, _STRIP):
        part = slice(top, min(top + _STRIP, height))
        blend = rows.take(upper_row[part], axis=0).astype(np.float32)
        below = rows.take(lower_row[part], axis=0).astype(np.float32)
        below -= blend
        below *= row_weight[part, None]
        blend += below
        near = blend.take(left, axis=1)
        far = blend.take(right, axis=1)
        far -= near
        far *= column_weight
        far += near
        by_row[part] = far.reshape(-1, 3, width)


def to_tensor(
    pixels: NDArray[np.uint8],
    contract: InputContract,
    *,
    picture_px: tuple[int, int] | None = None,
    canvas_px: tuple[int, int] | None = None,
) -> NDArray[np.float32]:
    """Return the input tensor of a model, with a batch of one.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        contract: layout, colour order, normalisation and size.
        picture_px: (height, width) the picture is resized to; the size of the contract, or its own where that is free.
        canvas_px: (height, width) of the tensor; `picture_px` unless told. What the picture does not cover, right and
            below, is black.

    Returns:
        (1, 3, h, w) or (1, h, w, 3) float32.
    """
    picture = picture_px or contract.size_px or (pixels.shape[0], pixels.shape[1])
    canvas = canvas_px or picture
    shape = (1, 3, *canvas) if contract.layout == "NCHW" else (1, *canvas, 3)
    tensor = np.empty(shape, np.float32) if canvas == picture else np.zeros(shape, np.float32)
    planes = tensor[0] if contract.layout == "NCHW" else tensor[0].transpose(2, 0, 1)
    resize_into(pixels, planes[:, : picture[0], : picture[1]], _RGB if contract.colour == "RGB" else _BGR)
    for plane, mean, std in zip(planes, contract.mean, contract.std, strict=True):
        if mean != 0.0:
            np.subtract(plane, np.float32(mean), out=plane)
        if std != 1.0:
            np.multiply(plane, np.float32(1.0 / std), out=plane)
    return tensor


def warp_affine(pixels: NDArray[np.uint8], source_from_output: NDArray[np.float64], size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a bilinear affine warp, black outside: `cv2.warpAffine(..., INTER_LINEAR | WARP_INVERSE_MAP)`.

    Args:
        pixels: (H, W, 3) uint8.
        source_from_output: (2, 3): maps (x, y, 1) of an output pixel to (x, y) of `pixels`.
        size_px: (height, width) of the output.

    Returns:
        (height, width, 3) uint8.
    """
    height, width = size_px
    (xx, xy, x_shift), (yx, yy, y_shift) = source_from_output.tolist()
    columns, rows = np.arange(width), np.arange(height)[:, None]
    # Coordinates are clipped to a black border of one pixel, so the region read stays within the picture however far away
    # the matrix points.
    xs = np.clip((xx * columns + (xy * rows + x_shift)).astype(np.float32), -1.0, pixels.shape[1]).ravel()
    ys = np.clip((yx * columns + (yy * rows + y_shift)).astype(np.float32), -1.0, pixels.shape[0]).ravel()
    left, top = int(np.floor(xs.min())), int(np.floor(ys.min()))
    xs -= left
    ys -= top
    x_index, y_index = xs.astype(np.int32), ys.astype(np.int32)
    planes = _region(pixels, left, top, int(x_index.max()) + 2, int(y_index.max()) + 2)
    stride = planes.shape[2]
    upper_left = (y_index * stride + x_index).astype(np.intp)
    upper_right, lower_left = upper_left + 1, upper_left + stride
    lower_right = lower_left + 1
    xs -= x_index
    ys -= y_index
    output = np.empty((height * width, 3), np.uint8)
    for channel, plane in enumerate(planes.reshape(3, -1)):
        # Bytes become floats after the gather: the region of a close face has many times the pixels of the crop.
        near, far = plane.take(upper_left).astype(np.float32), plane.take(upper_right).astype(np.float32)
        below, below_far = plane.take(lower_left).astype(np.float32), plane.take(lower_right).astype(np.float32)
        far -= near
        far *= xs
        near += far
        below_far -= below
        below_far *= xs
        below += below_far
        below -= near
        below *= ys
        near += below
        near += 0.5
        output[:, channel] = near
    return output.reshape(height, width, 3)


def _region(pixels: NDArray[np.uint8], left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
    """Return (3, height, width) uint8 planes of a rectangle of `pixels`, zero where it reaches over the border."""
    planes = np.zeros((3, height, width), np.uint8)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + width, pixels.shape[1]), min(top + height, pixels.shape[0])
    if x1 > x0 and y1 > y0:
        planes[:, y0 - top : y1 - top, x0 - left : x1 - left] = pixels[y0:y1, x0:x1].transpose(2, 0, 1)
    return planes
