"""Non-maximum suppression: one detection per face."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A bound on the work of one frame, far above any crowd: what a hostile picture can make of the decoder.
MOST_CANDIDATES = 2000


def non_maximum_suppression(boxes: NDArray[np.float32], scores: NDArray[np.float32], overlap: float) -> list[NDArray[np.intp]]:
    """Return one group of candidates per face, greedily.

    Each group starts with its most confident candidate, followed by those that it suppresses. Only the
    `MOST_CANDIDATES` most confident candidates are looked at.

    Args:
        boxes: (N, 4) float32 left, top, right, bottom.
        scores: (N,) float32.
        overlap: candidates whose intersection over union with a more confident one is greater belong to it.

    Returns:
        Indices into `boxes`, groups by falling confidence; equal confidence keeps the order of the input.
    """
    order = np.argsort(-scores, kind="stable")[:MOST_CANDIDATES]
    left, top, right, bottom = boxes[order].T
    area = (right - left) * (bottom - top)
    alive = np.ones(len(order), bool)
    groups = []
    for first in range(len(order)):
        if not alive[first]:
            continue
        width = np.minimum(right[first], right[first:]) - np.maximum(left[first], left[first:])
        height = np.minimum(bottom[first], bottom[first:]) - np.maximum(top[first], top[first:])
        intersection = np.maximum(width, 0) * np.maximum(height, 0)
        # Multiplied out, so that boxes without an area divide by nothing.
        suppressed = intersection > np.float32(overlap) * (area[first] + area[first:] - intersection)
        suppressed &= alive[first:]
        suppressed[0] = True
        alive[first:] &= ~suppressed
        groups.append(order[first + np.flatnonzero(suppressed)])
    return groups


def first_of_each(groups: list[NDArray[np.intp]]) -> NDArray[np.intp]:
    """Return the most confident candidate of each group."""
    return np.array([group[0] for group in groups], np.intp)


def intersection_over_union(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N,) float32, 0 to 1, of one (4,) box with (N, 4) boxes of left, top, right, bottom; 0 where nothing has an area."""
    inner = np.maximum(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - inner
    ratio: NDArray[np.float32] = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return ratio
