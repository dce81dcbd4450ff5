"""A face mask on the canvas, where every face has the same shape: it follows the face from there."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep_models.people.geometry import CANVAS_PX

# Corners of the left half on the canvas, from the bridge of the nose down to the chin.
_LEFT_EDGE: Final = ((79.5, 79.0), (70.0, 82.0), (50.5, 86.0), (52.5, 100.0), (58.0, 112.0), (68.0, 122.0), (79.5, 125.0))
_PLEATS_AT: Final = (96.0, 104.0, 112.0)
_OVERSAMPLING: Final = 4


@lru_cache(maxsize=1)
def mask_layer() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how much of each canvas pixel the mask covers, 0 to 1, and the shade of its cloth around 1; (CANVAS_PX, CANVAS_PX)."""
    fine = (np.arange(CANVAS_PX * _OVERSAMPLING) + 0.5) / _OVERSAMPLING - 0.5
    heights = np.array([y for _, y in _LEFT_EDGE[2:]])
    half_widths = np.interp(fine, heights, [79.5 - x for x, _ in _LEFT_EDGE[2:]], right=0.0)
    across = np.abs(fine - 79.5)
    # The upper edge as seen from the middle outwards.
    upper = np.interp(across, [79.5 - x for x, _ in _LEFT_EDGE[:3]], [y for _, y in _LEFT_EDGE[:3]])
    inside = (across[None, :] <= np.where(fine < heights[0], half_widths[0], half_widths)[:, None]) & (
        fine[:, None] >= upper[None, :]
    )
    inside &= fine[:, None] <= heights[-1]
    cover = inside.reshape(CANVAS_PX, _OVERSAMPLING, CANVAS_PX, _OVERSAMPLING).mean(axis=(1, 3))
    x, y = np.arange(CANVAS_PX) - 79.5, np.arange(CANVAS_PX)[:, None]
    # Cloth stands off the nose and falls away to the sides; pleats throw thin shadows.
    shade = 1.04 - 0.22 * (x / 30.0) ** 2 - 0.0035 * (y - 96.0)
    for at in _PLEATS_AT:
        shade = shade - 0.10 * np.exp(-0.5 * ((y - at - 0.0015 * x**2) / 0.9) ** 2)
    return cover.astype(np.float32), np.maximum(shade, 0.4).astype(np.float32)
