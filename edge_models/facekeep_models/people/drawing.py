"""Drawing a picture of a synthetic person, with the truth beside it. NumPy only.

Steps:
    1 the look: the person's place in the model, the scene's expression, and a seeded straying from the usual look
    2 the canvas: both layers of texture, light, mask
    3 the shape: points of the face, turned in three dimensions; the field that carries the canvas there
    4 the picture: the canvas read through the field, at the size asked for
    5 the camera: colour of the light, darkness, blur, noise, compression
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep_models.people.camera import blurred, compressed, darkened, noisy
from facekeep_models.people.geometry import CANVAS_PX, FIELD_NODES, FIELD_STEP_PX, inverted, rotation, sampled
from facekeep_models.people.mask import mask_layer
from facekeep_models.people.model import FINE_WINDOW, PeopleModel, shipped_model
from facekeep_models.people.person import SyntheticPerson
from facekeep_models.people.scene import Scene, Variation

_PICTURE_STREAM: Final = 0x91C7
SMALLEST_SIDE_PX: Final = 96
LARGEST_SIDE_PX: Final = 1024
SCREENED_SIDE_PX: Final = 256
# More than the screen ever tries of one person.
_AFTER_SCREEN: Final = 100
# Averages of many faces are smooth: the fine layer is given back what averaging took from it.
_FINE_GAIN: Final = 1.7
# Middle, half axes and softness of ovals on the canvas: what is head (hair included), and what has the relief of a face.
_HEAD_OVAL: Final = (76.0, 44.0, 58.0, 5.0)
_FACE_OVAL: Final = (84.0, 36.0, 44.0, 8.0)
# The head turns about a point behind the nose, on the canvas.
_NECK: Final = np.array([(CANVAS_PX - 1) / 2, 92.0, 22.0])
_HEAD_CENTRE: Final = np.array([(CANVAS_PX - 1) / 2, 84.0])
# Points of the mesh whose mean is near each landmark: eyes, tip of the nose, corners of the mouth, image-left first.
LANDMARK_POINTS: Final = ((33, 133, 159, 145), (263, 362, 386, 374), (1, 4), (61,), (291,))
_REACH: Final = 2.2


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticPicture:
    """A picture of a person who does not exist, and the truth about it.

    Attributes:
        pixels: (side, side, 3) uint8 RGB.
        person: index of the person.
        number: which picture of the person.
        landmarks_px: (5, 2) float32, (x, y) of image-left eye, image-right eye, tip of the nose, image-left and image-right
            corner of the mouth, in pixels of the picture, where YuNet's training would put them. Under a mask, where they are.
        mesh_px: (468, 2) float32, points in the order of MediaPipe's face mesh.
        scene: what the picture was made with.
        screened: whether this very picture passed the privacy screen: one of the first of a listed person, at the default
            variation and size.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    person: int
    number: int
    landmarks_px: NDArray[np.float32] = field(repr=False)
    mesh_px: NDArray[np.float32] = field(repr=False)
    scene: Scene
    screened: bool


def draw_person(
    person: SyntheticPerson,
    number: int,
    variation: Variation | None = None,
    *,
    scene: Scene | None = None,
    side_px: int = SCREENED_SIDE_PX,
    model: PeopleModel | None = None,
) -> SyntheticPicture:
    """Draw picture `number` of a person: the same within one grey level on every machine, JPEG loss apart.

    Args:
        person: who.
        number: which picture, from 0: seeds the scene, the straying from the usual look and the noise.
        variation: how much pictures differ; `Variation()` unless told.
        scene: the exact circumstances, in place of a variation.
        side_px: side of the square picture, 96 to 1024; eyes are 0.175 sides apart.
        model: the one that ships unless told.

    Raises:
        ValueError: for a negative number, a side out of range, or both a variation and a scene.
        ModelError: if the model that ships cannot be read.
    """
    if number < 0 or not SMALLEST_SIDE_PX <= side_px <= LARGEST_SIDE_PX or (variation and scene):
        raise ValueError("number is 0 or more, side_px from 96 to 1024, and either a variation or a scene is given")
    used = model or shipped_model()
    listed = number < len(person.takes)
    # Those that passed first; what follows is no picture that failed.
    take = person.takes[number] if listed else number + (_AFTER_SCREEN if person.takes else 0)
    screened = listed and scene is None and variation in (None, Variation()) and side_px == SCREENED_SIDE_PX
    chosen = scene or (variation or Variation()).scene(person.seed, take)
    random = np.random.default_rng([_PICTURE_STREAM, person.seed, take])
    # 1
    draws = np.clip(random.standard_normal(used.within.shape[1], dtype=np.float32), -_REACH, _REACH)
    usual = person.look.astype(np.float32) + chosen.smile * used.expressions[0] + chosen.mouth_open * used.expressions[1]
    strayed = used.within @ draws
    look = usual + np.float32(chosen.appearance) * strayed
    # 2
    canvas = canvas_of(used, look, usual + np.float32(chosen.surroundings) * strayed)
    if chosen.masked:
        opacity, shade = mask_layer()
        canvas += opacity[:, :, None] * (shade[:, :, None] * np.array(chosen.mask_rgb, np.float32) - canvas)
    if chosen.light_strength > 0:
        canvas *= _light(used, chosen)[:, :, None]
    # 3
    mean = used.mean_shape.astype(np.float64)
    shape = mean + np.tensordot(look[: len(used.shape)], used.shape, 1)
    turn = rotation(chosen.yaw_degrees, chosen.pitch_degrees, 0.0)
    shape = (shape - _NECK) @ turn.T + _NECK
    moved = (used.spline @ (shape[:, :2] - mean[:, :2])).reshape(FIELD_NODES, FIELD_NODES, 2)
    back = inverted(moved).astype(np.float32)
    # 4
    linear, shift = _canvas_from_picture(chosen, side_px)
    steps = np.arange(side_px, dtype=np.float32)
    positions = np.stack(np.meshgrid(steps, steps), axis=2) @ linear.T.astype(np.float32) + shift.astype(np.float32)
    positions += sampled(back, positions / np.float32(FIELD_STEP_PX))
    pixels = np.asarray(sampled(canvas, positions), np.float32)
    # 5
    pixels *= np.array(chosen.light_rgb, np.float32)
    pixels = blurred(darkened(pixels, chosen.darkness), chosen.blur_px)
    pixels = noisy(np.clip(pixels, 0, 255), chosen.noise, chosen.darkness, random)
    if chosen.jpeg_quality is not None:
        pixels = compressed(pixels, chosen.jpeg_quality)
    to_picture = np.linalg.inv(linear)
    mesh = (shape[:, :2] - shift) @ to_picture.T
    landmarks = (landmarks_of(used, shape, turn) - shift) @ to_picture.T
    return SyntheticPicture(
        np.clip(np.rint(pixels), 0, 255).astype(np.uint8),
        person.index,
        number,
        landmarks.astype(np.float32),
        mesh.astype(np.float32),
        chosen,
        screened,
    )


def canvas_of(
    model: PeopleModel, look: NDArray[np.float32], surroundings: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return the (CANVAS_PX, CANVAS_PX, 3) float32 texture of a look; around the head that of another where one is given."""
    _, coarse_even, coarse_odd, fine_even, fine_odd = model.parts()
    coarse = model.coarse_mean + _whole(look[coarse_even], model.coarse_even, look[coarse_odd], model.coarse_odd)
    if surroundings is not None:
        around = model.coarse_mean + _whole(
            surroundings[coarse_even], model.coarse_even, surroundings[coarse_odd], model.coarse_odd
        )
        coarse = around + soft_oval(*_HEAD_OVAL)[::2, ::2, None] * (coarse - around)
    fine = model.fine_mean + _whole(look[fine_even], model.fine_even, look[fine_odd], model.fine_odd)
    steps = (np.arange(CANVAS_PX, dtype=np.float32) + 0.5) / 2 - 0.5
    canvas = np.asarray(sampled(coarse, np.stack(np.meshgrid(steps, steps), axis=2)), np.float32)
    top, bottom, left, right = FINE_WINDOW
    canvas[top:bottom, left:right] += np.float32(_FINE_GAIN) * fine[:, :, None]
    return canvas


def landmarks_of(model: PeopleModel, shape: NDArray[np.float64], turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (5, 2) landmarks of a turned (468, 3) shape, on the canvas."""
    near = np.stack([shape[list(points), :2].mean(axis=0) for points in LANDMARK_POINTS])
    return np.asarray(near + model.landmark_offsets.astype(np.float64) @ turn[:2, :2].T)


def _whole(
    even: NDArray[np.float32], evens: NDArray[np.float32], odd: NDArray[np.float32], odds: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the picture whose even and odd part have these coordinates."""
    same = (even @ evens.reshape(len(evens), -1)).reshape(evens.shape[1:])
    other = (odd @ odds.reshape(len(odds), -1)).reshape(odds.shape[1:])
    return np.concatenate((same + other, (same - other)[:, ::-1]), axis=1)


def _light(model: PeopleModel, scene: Scene) -> NDArray[np.float32]:
    """Return the (CANVAS_PX, CANVAS_PX) gain of a light from one side on the mean face."""
    angle = math.radians(scene.light_degrees)
    # Where depth grows to the right, the surface faces right.
    towards = model.slopes @ np.array([math.cos(angle), -math.sin(angle)])
    steps = np.arange(CANVAS_PX, dtype=np.float32) / FIELD_STEP_PX
    fine = sampled(np.tanh(1.5 * towards).astype(np.float32)[:, :, None], np.stack(np.meshgrid(steps, steps), axis=2))[:, :, 0]
    return np.asarray(np.exp2(np.float32(0.5 * scene.light_strength) * fine * soft_oval(*_FACE_OVAL)), np.float32)


@lru_cache(maxsize=4)
def soft_oval(middle_y: float, half_width: float, half_height: float, softness: float) -> NDArray[np.float32]:
    """Return (CANVAS_PX, CANVAS_PX) float32, 1 within an oval on the middle of the canvas and 0 far from it."""
    steps = np.arange(CANVAS_PX, dtype=np.float64)
    radius = np.hypot((steps - (CANVAS_PX - 1) / 2)[None, :] / half_width, (steps - middle_y)[:, None] / half_height)
    oval = (1 / (1 + np.exp(np.minimum(softness * 2 * (radius - 1), 60)))).astype(np.float32)
    oval.flags.writeable = False
    return oval


def _canvas_from_picture(scene: Scene, side_px: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the (2, 2) matrix and the (2,) shift from pixels of the picture to pixels of the canvas."""
    scale = CANVAS_PX / side_px / scene.zoom
    angle = math.radians(scene.roll_degrees)
    linear = scale * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    # The middle of the head stays where it was, but for the shift.
    held = (_HEAD_CENTRE + 0.5) * side_px / CANVAS_PX - 0.5 + np.array(scene.shift) * side_px
    return linear, _HEAD_CENTRE - linear @ held
