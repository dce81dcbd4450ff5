"""Steps 2 and 3 of the recipe of the synthetic people: head poses and shapes, and textures that stand still.

2 every mesh is turned to the front and brought to the mean shape's place and size: pose apart from shape
3 every picture is carried onto the canvas, where all faces have the mean shape, so that eyes average with eyes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.capture import read_picture
from facekeep_models.people.geometry import CANVAS_PX, FIELD_NODES, FIELD_STEP_PX, field_nodes, sampled, spline_matrix

Array = NDArray[np.float64]

# Points of MediaPipe's mesh: corners of the two eyes (subject's right, which is image-left, first).
_EYE_CORNERS: Final = ((33, 133), (362, 263))
# Distance between the middles of the eyes on the canvas, and where the point between them lies.
EYE_DISTANCE_PX: Final = 28.0
EYES_AT_PX: Final = ((CANVAS_PX - 1) / 2, 70.0)
_ROUNDS: Final = 5
# Darker than this all along a row or column at the edge: a bar that somebody filled in, no picture.
_BAR_LEVEL: Final = 6


@dataclass(frozen=True, slots=True, eq=False)
class Shapes:
    """Meshes with the pose taken out.

    Attributes:
        mean: (468, 3) the mean shape on the canvas, its own mirror image.
        frontal: (N, 468, 3) each face turned to the front.
        turns: (N, 3, 3) rotation from the frontal shape to the picture.
        mirror: (468,) which point is the mirror image of each.
    """

    mean: Array
    frontal: Array
    turns: Array
    mirror: NDArray[np.intp]


def fit_shapes(meshes: NDArray[np.float32]) -> Shapes:
    """Return the shapes of (N, 468, 3) meshes in picture pixels, by generalised Procrustes analysis in three dimensions."""
    points = meshes.astype(np.float64)
    mean = _upright(points.mean(axis=0))
    mirror = mirror_of(mean)
    for _ in range(_ROUNDS):
        frontal, turns = _to_shape(points, mean)
        mean = _upright(frontal.mean(axis=0))
        mean = (mean + mirrored(mean, mirror)) / 2
        mirror = mirror_of(mean)
    frontal, turns = _to_shape(points, mean)
    return Shapes(mean, frontal, turns, mirror)


def _upright(shape: Array) -> Array:
    """Return a shape with its eyes level, at their place on the canvas."""
    left, right = (shape[list(corners)].mean(axis=0) for corners in _EYE_CORNERS)
    angle = np.arctan2(right[1] - left[1], right[0] - left[0])
    scale = EYE_DISTANCE_PX / np.hypot(*(right - left)[:2])
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    turned = shape @ np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, scale]])
    middle = turned[[index for corners in _EYE_CORNERS for index in corners]].mean(axis=0)
    return np.asarray(turned - middle + np.array([*EYES_AT_PX, 0.0]))


def mirrored(shapes: Array, mirror: NDArray[np.intp]) -> Array:
    """Return (..., 468, 3) shapes reflected about the upright middle of the canvas."""
    flipped = shapes[..., mirror, :].copy()
    flipped[..., 0] = CANVAS_PX - 1 - flipped[..., 0]
    return flipped


def mirror_of(mean: Array) -> NDArray[np.intp]:
    """Return which point of the mesh is the mirror image of each: an order that is its own inverse."""
    flipped = mean * (-1.0, 1.0, 1.0) + (CANVAS_PX - 1.0, 0.0, 0.0)
    distance = ((mean[:, None, :] - flipped[None, :, :]) ** 2).sum(axis=2)
    distance += distance.T
    partner = np.full(len(mean), -1, np.intp)
    for flat in np.argsort(distance, axis=None, kind="stable"):
        first, second = divmod(int(flat), len(mean))
        if partner[first] < 0 and partner[second] < 0:
            partner[first], partner[second] = second, first
            if (partner >= 0).all():
                break
    return partner


def _to_shape(points: Array, mean: Array) -> tuple[Array, Array]:
    """Return each mesh turned, scaled and shifted onto `mean` (Kabsch), and the rotation back to the picture."""
    centred = points - points.mean(axis=1, keepdims=True)
    target = mean - mean.mean(axis=0)
    left, singular, right = np.linalg.svd(np.einsum("pk,npj->nkj", target, centred))
    sign = np.ones_like(singular)
    sign[:, 2] = np.sign(np.linalg.det(left @ right))
    turn = (left * sign[:, None, :]) @ right
    scale = (singular * sign).sum(axis=1) / (centred**2).sum(axis=(1, 2))
    frontal = np.einsum("nkj,npj->npk", turn, centred) * scale[:, None, None] + mean.mean(axis=0)
    return frontal, turn.transpose(0, 2, 1)


def canvas_textures(
    paths: Sequence[Path], meshes: NDArray[np.float32], mean: Array, say: Callable[[str], None]
) -> NDArray[np.uint8]:
    """Return (N, CANVAS_PX, CANVAS_PX, 3) uint8 pictures carried onto the canvas; what lies outside repeats the edge."""
    flat = mean[:, :2]
    spline = spline_matrix(flat)
    nodes = field_nodes()
    fine = np.stack(np.meshgrid(np.arange(CANVAS_PX), np.arange(CANVAS_PX)), axis=2) / np.float32(FIELD_STEP_PX)
    textures = np.empty((len(paths), CANVAS_PX, CANVAS_PX, 3), np.uint8)
    for index, path in enumerate(paths):
        pixels, left, top = without_bars(read_picture(path))
        observed = meshes[index, :, :2].astype(np.float64) - (left, top)
        linear, shift = similarity(flat, observed)
        field = nodes @ linear.T + shift + spline @ (observed - flat @ linear.T - shift)
        positions = sampled(field.reshape(FIELD_NODES, FIELD_NODES, 2).astype(np.float32), fine)
        textures[index] = np.rint(sampled(pixels.astype(np.float32), positions))
        if (index + 1) % 1000 == 0 or index + 1 == len(paths):
            say(f"3 textures: {index + 1} of {len(paths)}")
    return textures


def similarity(source: Array, target: Array) -> tuple[Array, Array]:
    """Return the (2, 2) turn and scale and the (2,) shift that bring `source` closest to `target`."""
    centre, goal = source.mean(axis=0), target.mean(axis=0)
    a, b = source - centre, target - goal
    spread = (a * a).sum()
    cosine, sine = (a * b).sum() / spread, (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / spread
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return linear, goal - linear @ centre


def without_bars(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int, int]:
    """Return a picture without the black bars around it, and how much of the left and the top went."""
    lit = pixels.max(axis=2) > _BAR_LEVEL
    rows, columns = np.flatnonzero(lit.mean(axis=1) > 0.05), np.flatnonzero(lit.mean(axis=0) > 0.05)
    if len(rows) < pixels.shape[0] // 2 or len(columns) < pixels.shape[1] // 2:
        return pixels, 0, 0
    # One more on each side: compression bleeds the bar into its neighbour.
    top, bottom = (rows[0] + 1 if rows[0] else 0), (rows[-1] if rows[-1] < pixels.shape[0] - 1 else rows[-1] + 1)
    left, right = (columns[0] + 1 if columns[0] else 0), (columns[-1] if columns[-1] < pixels.shape[1] - 1 else columns[-1] + 1)
    return pixels[top:bottom, left:right], int(left), int(top)
