"""Step 4 of the recipe of the synthetic people: the directions in which shapes and textures vary.

Every picture counts twice, as it is and mirrored, so a texture falls apart into an even part (its own mirror image) and an odd
one that vary independently: each has a basis of its own, of which half a canvas is enough. Two layers: colour of the whole
canvas at half its resolution, and on the face what brightness has beyond that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facekeep_models.people.geometry import CANVAS_PX

Floats = NDArray[np.float32]

_OVERSAMPLING = 20
_POWER_ROUNDS = 2
_CHUNK = 500


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Directions of variation, each with a standard deviation of one over the pictures learnt from.

    Attributes:
        directions: (K, ...) what one standard deviation adds.
        coefficients: (N, K) of the pictures learnt from.
        explained: share of the variance that the directions carry.
    """

    directions: Floats
    coefficients: Floats
    explained: float


def principal(samples: Floats, weights: Floats, count: int, seed: int) -> Basis:
    """Return the first principal components of centred samples under a weight for each number.

    Randomised range finder: N. Halko, P. Martinsson, J. Tropp, "Finding structure with randomness", SIAM Review 2011.

    Args:
        samples: (N, ...) centred.
        weights: (...) how much an error in each number matters, positive.
        count: components wanted.
        seed: of the range finder.
    """
    shape = samples.shape[1:]
    flat = samples.reshape(len(samples), -1) * weights.reshape(1, -1)
    random = np.random.default_rng(seed)
    sketch = flat @ random.standard_normal((flat.shape[1], count + _OVERSAMPLING), dtype=np.float32)
    for _ in range(_POWER_ROUNDS):
        sketch, _ = np.linalg.qr(flat @ (flat.T @ sketch))
    sketch, _ = np.linalg.qr(sketch)
    left, singular, right = np.linalg.svd(sketch.T @ flat, full_matrices=False)
    signs = upright(right[:count])
    left, right = left[:, :count] * signs, right[:count] * signs[:, None]
    deviation = singular[:count] / np.sqrt(len(flat))
    coefficients = (sketch @ left) * np.sqrt(len(flat))
    directions = (right * deviation[:, None] / weights.reshape(1, -1)).reshape(count, *shape)
    explained = float((singular[:count] ** 2).sum() / np.einsum("ij,ij->", flat, flat, dtype=np.float64))
    return Basis(directions.astype(np.float32), coefficients.astype(np.float32), explained)


def upright(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the sign that makes the largest number of each row positive: a direction has none of its own."""
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(largest < 0, -1.0, 1.0).astype(np.float32)


def halved(values: Floats) -> tuple[Floats, Floats]:
    """Return the even and the odd part of (N, H, W, ...) pictures, the left half of each."""
    half = values.shape[2] // 2
    left, right = values[:, :, :half], values[:, :, ::-1][:, :, :half]
    return np.asarray((left + right) / 2, np.float32), np.asarray((left - right) / 2, np.float32)


def layers(textures: NDArray[np.uint8], window: tuple[int, int, int, int], say: Callable[[str], None]) -> tuple[Floats, Floats]:
    """Return both layers of canvas textures.

    Args:
        textures: (N, CANVAS_PX, CANVAS_PX, 3) uint8.
        window: top, bottom, left, right of the fine layer on the canvas.
        say: shows progress.

    Returns:
        (N, CANVAS_PX / 2, CANVAS_PX / 2, 3) colours, and (N, bottom - top, right - left) brightness beyond them.
    """
    top, bottom, left, right = window
    coarse = np.empty((len(textures), CANVAS_PX // 2, CANVAS_PX // 2, 3), np.float32)
    fine = np.empty((len(textures), bottom - top, right - left), np.float32)
    for start in range(0, len(textures), _CHUNK):
        part = textures[start : start + _CHUNK].astype(np.float32)
        small = part.reshape(len(part), CANVAS_PX // 2, 2, CANVAS_PX // 2, 2, 3).mean(axis=(2, 4))
        coarse[start : start + len(part)] = small
        beyond = part @ BRIGHTNESS - doubled(small @ BRIGHTNESS)
        fine[start : start + len(part)] = beyond[:, top:bottom, left:right]
    say(f"4 bases: {len(textures)} pictures in two layers")
    return coarse, fine


# ITU-R BT.601.
BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)


def doubled(values: Floats) -> Floats:
    """Return (N, H, W) pictures at twice the size, bilinear."""
    for axis in (1, 2):
        before = np.take(values, np.maximum(np.arange(values.shape[axis]) - 1, 0), axis=axis)
        after = np.take(values, np.minimum(np.arange(values.shape[axis]) + 1, values.shape[axis] - 1), axis=axis)
        pair = np.stack((0.25 * before + 0.75 * values, 0.75 * values + 0.25 * after), axis=axis + 1)
        shape = list(values.shape)
        shape[axis] *= 2
        values = pair.reshape(shape)
    return values
