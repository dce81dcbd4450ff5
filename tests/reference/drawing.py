"""A face of nobody, drawn with ellipses around the landmarks of the template: enough for quality measures, not for detectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import TEMPLATE_PX

# Centre x, centre y, radius x, radius y, grey: mirrored about x = 56.
_PARTS = (
    (56, 62, 44, 58, 175),  # head
    (38, 43, 10, 2.5, 70),  # brow
    (38, 52, 7, 3.5, 60),  # eye
    (38, 52, 2, 2, 20),
    (56, 62, 4, 10, 200),  # bridge of the nose
    (50, 76, 3, 2, 85),  # nostril
    (50, 92, 10, 2.5, 90),  # mouth
    (30, 70, 8, 8, 190),  # cheek
)


def drawn_face(side: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return (side, side, 3) pixels and the (5, 2) landmarks in them."""
    fine = 4 if side < 400 else 1
    y, x = (np.mgrid[: side * fine, : side * fine] + 0.5) / fine * (112 / side) - 0.5
    grey = np.full(x.shape, 110.0)
    for centre_x, centre_y, radius_x, radius_y, value in _PARTS:
        for middle in (centre_x, 112 - centre_x):
            inside = ((x - middle) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2 <= 1
            grey[inside] = value
    grey = grey.reshape(side, fine, side, fine).mean(axis=(1, 3))
    pixels = np.clip(grey[:, :, None] * [1.0, 0.92, 0.85], 0, 255).astype(np.uint8)
    return pixels, (TEMPLATE_PX + 0.5) * (side / 112) - 0.5
