"""What cameras, light and things in the way do to a mosaic, in place of taking more photographs."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

_OCCLUDED_SHARE = 0.12
_MASKED_SHARE = 0.06
_BANK_PX = 1024


def disturb(pixels: NDArray[np.uint8], faces: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a (H, W, 3) uint8 picture with other light and camera; some of the faces asked for are partly covered.

    Args:
        pixels: (H, W, 3) uint8 RGB; covered in place.
        faces: (K, 15), as `draw_mosaic` returns them.
        random: decides everything.
    """
    for face in faces[faces[:, 4] > 0]:
        chance = random.random()
        if chance < _MASKED_SHARE:
            _mask(pixels, face, random)
        elif chance < _MASKED_SHARE + _OCCLUDED_SHARE:
            _cover(pixels, face, random)
    if random.random() < 0.15:
        pixels = _blurred(pixels, random)
    pixels = cv2.LUT(pixels, _light(random))
    if random.random() < 0.12:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        pixels = np.repeat(grey[:, :, None], 3, axis=2)
    if random.random() < 0.35:
        pixels = _noisy(pixels, random.uniform(0.5, 1) ** 2 * 14, random)
    if random.random() < 0.25:
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 90))])
        pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return pixels


def _light(random: np.random.Generator) -> NDArray[np.uint8]:
    """Return the (256, 1, 3) table of one light: gamma, gain, colour, and now and then almost none of it."""
    levels = np.arange(256, dtype=np.float64)[:, None] / 255
    gamma = math.exp(random.normal() * 0.28)
    gain = math.exp(random.normal() * 0.18) * np.exp(random.normal(size=3) * 0.06)
    if random.random() < 0.1:
        gain = gain * random.uniform(0.12, 0.5)
    offset = random.normal() * 0.04
    table = np.clip(levels**gamma * gain + offset, 0, 1) * 255
    return np.ascontiguousarray(np.rint(table).astype(np.uint8)[:, None, :])


def _noisy(pixels: NDArray[np.uint8], strength: float, random: np.random.Generator) -> NDArray[np.uint8]:
    bank = _noise_bank()
    height, width = pixels.shape[:2]
    top, left = (int(random.integers(0, _BANK_PX - each + 1)) for each in (height, width))
    noise = cv2.multiply(bank[top : top + height, left : left + width], (strength,) * 4)
    # Saturates at 0 and 255.
    return np.asarray(cv2.add(pixels, noise, dtype=cv2.CV_8U), np.uint8)


@lru_cache(maxsize=1)
def _noise_bank() -> NDArray[np.float32]:
    """Return noise to cut windows from: drawing it anew took a quarter of the time of a mosaic."""
    return np.random.default_rng(0).standard_normal((_BANK_PX, _BANK_PX, 3), dtype=np.float32)


def _blurred(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    if random.random() < 0.6:
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), random.uniform(0.4, 1.8)), np.uint8)
    length, angle = int(random.integers(3, 8)), random.uniform(0, math.pi)
    kernel = np.zeros((length, length), np.float32)
    reach = np.array([math.cos(angle), math.sin(angle)]) * (length - 1) / 2
    middle = (length - 1) / 2
    first, last = (tuple(np.rint(middle + sign * reach).astype(int).tolist()) for sign in (-1, 1))
    cv2.line(kernel, first, last, 1.0)
    return np.asarray(cv2.filter2D(pixels, -1, kernel / kernel.sum()), np.uint8)


def _mask(pixels: NDArray[np.uint8], face: NDArray[np.float32], random: np.random.Generator) -> None:
    """Cover mouth and nose in one colour, along the landmarks."""
    points = face[5:].reshape(5, 2)
    across, down = (points[1] - points[0]) / 2, points[3:].mean(axis=0) - points[2]
    nose, mouth = points[2] - 0.3 * down, points[3:].mean(axis=0)
    width = random.uniform(1.2, 1.6)
    corners = np.stack((
        nose - width * across, nose, nose + width * across,
        mouth + width * across + 0.4 * down, mouth + 1.3 * down, mouth - width * across + 0.4 * down,
    ))  # fmt: skip
    colour = tuple(int(each) for each in random.integers(0, 256, 3))
    cv2.fillConvexPoly(pixels, np.rint(corners).astype(np.int32), colour)


def _cover(pixels: NDArray[np.uint8], face: NDArray[np.float32], random: np.random.Generator) -> None:
    """Put an oval or a rectangle over up to a third of a face."""
    size = face[2:4] - face[:2]
    centre = face[:2] + random.uniform(0.0, 1.0, 2) * size
    half = np.maximum(size * random.uniform(0.12, 0.32, 2), 1)
    colour = tuple(int(each) for each in random.integers(0, 256, 3))
    if random.random() < 0.5:
        low, high = (np.rint(centre + sign * half).astype(int) for sign in (-1, 1))
        cv2.rectangle(pixels, low.tolist(), high.tolist(), colour, -1)
        return
    axes = tuple(np.rint(half).astype(int).tolist())
    cv2.ellipse(pixels, tuple(np.rint(centre).astype(int).tolist()), axes, random.uniform(0, 180), 0, 360, colour, -1)
