"""Where a point of a face lies: head poses, smooth warps between shapes, and resampling by a field of positions. Pure.

Two frames of reference. The *canvas*, `CANVAS_PX` to a side, is where every face stands still: upright, frontal, of the mean
shape; textures live there. The *picture* is what comes out. Positions are (x, y), pixel centres at whole numbers; depth z has
the unit of x and y and grows away from the camera.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CANVAS_PX: Final = 160
# Fields are worked out at every fourth pixel of the canvas and read between those bilinearly: they are smooth.
FIELD_STEP_PX: Final = 4
FIELD_NODES: Final = CANVAS_PX // FIELD_STEP_PX + 1
# How far, in spline energy, the field may stay away from its points: points of a mesh jitter, skin does not.
_STIFFNESS: Final = 0.02
_ANCHORS_PER_SIDE: Final = 9
# Anchors stand off the canvas, so that what the head does fades towards its edge and does not stop short of it.
_ANCHOR_MARGIN_PX: Final = 12.0
_INVERSION_ROUNDS: Final = 20
# Half steps reach the solution where the field stretches up to threefold; whole steps would swing where a turned cheek does.
_INVERSION_STEP: Final = 0.5


def rotation(yaw_degrees: float, pitch_degrees: float, roll_degrees: float) -> Array:
    """Return the (3, 3) turn of a head: positive yaw towards the right of the picture, pitch up, roll clockwise in the picture."""
    yaw, pitch, roll = (math.radians(value) for value in (-yaw_degrees, -pitch_degrees, roll_degrees))
    about_y = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    about_z = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y)


def field_nodes() -> Array:
    """Return (FIELD_NODES**2, 2), the positions on the canvas that fields are worked out at, row by row."""
    steps = np.arange(FIELD_NODES) * float(FIELD_STEP_PX)
    x, y = np.meshgrid(steps, steps)
    return np.stack((x.ravel(), y.ravel()), axis=1)


def spline_matrix(points: Array) -> Array:
    """Return the matrix that carries displacements of points into a displacement at every node: a thin-plate spline.

    The spline also holds a ring of anchors around the canvas at rest, so displacements fade into the background.
    F. Bookstein, "Principal warps", PAMI 1989; the kernel is r^2 log r.

    Args:
        points: (N, 2) on the canvas.

    Returns:
        (FIELD_NODES**2, N).
    """
    ring = np.linspace(-_ANCHOR_MARGIN_PX, CANVAS_PX - 1 + _ANCHOR_MARGIN_PX, _ANCHORS_PER_SIDE)
    low, high = np.full_like(ring, ring[0]), np.full_like(ring, ring[-1])
    sides = [np.stack(pair, axis=1) for pair in ((ring, low), (ring, high), (low[1:-1], ring[1:-1]), (high[1:-1], ring[1:-1]))]
    held = np.concatenate((points, *sides)) / CANVAS_PX
    count = len(held)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(held, held)
    system[np.arange(len(points)), np.arange(len(points))] += _STIFFNESS / len(points)
    system[:count, count:] = np.concatenate((np.ones((count, 1)), held), axis=1)
    system[count:, :count] = system[:count, count:].T
    weights = np.linalg.solve(system, np.eye(count + 3)[:, : len(points)])
    at = field_nodes() / CANVAS_PX
    return np.asarray(np.concatenate((_kernel(at, held), np.ones((len(at), 1)), at), axis=1) @ weights)


def _kernel(first: Array, second: Array) -> Array:
    square = ((first[:, None, :] - second[None, :, :]) ** 2).sum(axis=2)
    return np.asarray(0.5 * square * np.log(np.maximum(square, 1e-12)))


def inverted(displacement: Array) -> Array:
    """Return the field that undoes a displacement, by damped fixed-point iteration: v(y) = -u(y + v(y)).

    Args:
        displacement: (FIELD_NODES, FIELD_NODES, 2) in canvas pixels, smooth and free of folds.
    """
    nodes = field_nodes().reshape(FIELD_NODES, FIELD_NODES, 2)
    back = np.zeros_like(displacement)
    for _ in range(_INVERSION_ROUNDS):
        back -= _INVERSION_STEP * (back + sampled(displacement, (nodes + back) / FIELD_STEP_PX))
    return back


def sampled(values: NDArray[np.floating], positions: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return `values` read bilinearly at positions; outside, the nearest edge.

    Args:
        values: (H, W, C).
        positions: (..., 2) of (x, y) in pixels of `values`.

    Returns:
        (..., C) of the type of `values`.
    """
    height, width, channels = values.shape
    x = np.clip(positions[..., 0], 0, width - 1).ravel()
    y = np.clip(positions[..., 1], 0, height - 1).ravel()
    left = np.minimum(x.astype(np.intp), width - 2)
    top = np.minimum(y.astype(np.intp), height - 2)
    across = (x - left).astype(values.dtype)[:, None]
    down = (y - top).astype(values.dtype)[:, None]
    flat = values.reshape(height * width, channels)
    index = top * width + left
    upper = flat.take(index, axis=0)
    upper += (flat.take(index + 1, axis=0) - upper) * across
    index += width
    lower = flat.take(index, axis=0)
    lower += (flat.take(index + 1, axis=0) - lower) * across
    upper += (lower - upper) * down
    return np.asarray(upper.reshape(*positions.shape[:-1], channels))
