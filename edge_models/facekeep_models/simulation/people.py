"""Drawing people who do not exist, with the truth about where their landmarks are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep_models.simulation.palette import (
    CHROMA_RGB,
    CROP_PX,
    FIELD_ORDER,
    FIELD_REACH,
    MARKER_RADIUS,
    MARKERS_RGB,
    SHADING,
    SKIN_GREY,
    TEMPLATE_PX,
    cosines,
)

# Numbers that keep the streams of people and of pictures apart.
_PERSON_STREAM: Final = 0xFACE
_FRAME_STREAM: Final = 0xF4A3
# Centre and half axes of the head, the hair and the shoulders, in pixels of the aligned crop.
_HEAD: Final = (56.0, 62.0, 50.0, 64.0)
_HAIR: Final = (56.0, 48.0, 57.0, 68.0)
_SHOULDERS: Final = (56.0, 205.0, 105.0, 82.0)
_NECK: Final = (56.0, 128.0, 24.0, 34.0)


@dataclass(frozen=True, slots=True, eq=False)
class DrawnPerson:
    """A person who does not exist: the same for the same seed, on every machine.

    Attributes:
        seed: names the person.
        weights: (2, 6, 6) weights of the field of colours on the face, for two axes of colour.
        hair_rgb: colour of the hair.
        clothes_rgb: colour of the clothes.
    """

    seed: int
    weights: NDArray[np.float64] = field(init=False, repr=False)
    hair_rgb: NDArray[np.float64] = field(init=False, repr=False)
    clothes_rgb: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng([_PERSON_STREAM, self.seed])
        weights = random.uniform(-1.0, 1.0, size=(2, FIELD_ORDER, FIELD_ORDER))
        # The mean colour is what changes with the light, so nobody is told apart by it.
        weights[:, 0, 0] = 0.0
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "hair_rgb", random.uniform(25, 75) + random.uniform(-12, 12, size=3))
        object.__setattr__(self, "clothes_rgb", random.uniform(80, 150) + random.uniform(-30, 30, size=3))


@dataclass(frozen=True, slots=True, eq=False)
class DrawnFrame:
    """A drawing and the truth about it.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        landmarks_px: (5, 2) float32, (x, y) of the centre of each marker, pixel centres at whole numbers.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    landmarks_px: NDArray[np.float32] = field(repr=False)


def draw_frame(person: DrawnPerson, variation_seed: int, size: tuple[int, int] = (480, 640)) -> DrawnFrame:
    """Draw `person` once: scale, rotation up to 15 degrees, place, light, colour of the light and noise vary with the seed.

    Args:
        person: who.
        variation_seed: which picture of the person.
        size: (height, width) of the frame in pixels; each at least 120.
    """
    height, width = size
    if min(size) < 120:
        raise ValueError("a drawing has at least 120 pixels to a side")
    random = np.random.default_rng([_FRAME_STREAM, person.seed, variation_seed])
    shorter = float(min(size))
    scale = shorter * random.uniform(0.42, 0.58) / CROP_PX
    angle = np.deg2rad(random.uniform(-15.0, 15.0))
    centre = np.array([width / 2, height * 0.46]) + random.uniform(-0.06, 0.06, size=2) * shorter
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (TEMPLATE_PX - CROP_PX / 2) @ turn.T + centre

    canvas = _background(random, height, width)
    # Every pixel in the coordinates of the aligned crop.
    back = np.linalg.inv(turn)
    columns = np.arange(width)[None, :] - centre[0]
    rows = np.arange(height)[:, None] - centre[1]
    x = back[0, 0] * columns + back[0, 1] * rows + CROP_PX / 2
    y = back[1, 0] * columns + back[1, 1] * rows + CROP_PX / 2

    _paint(canvas, _ellipse(x, y, _SHOULDERS, scale), person.clothes_rgb)
    _paint(canvas, _ellipse(x, y, _HAIR, scale), person.hair_rgb)
    _paint(canvas, _ellipse(x, y, _NECK, scale), np.full(3, SKIN_GREY * 0.8))
    head = _ellipse(x, y, _HEAD, scale)
    inside = head > 0
    _paint(canvas, head, _surface(person, x[inside], y[inside]), inside)
    for marker, colour in zip(TEMPLATE_PX, MARKERS_RGB, strict=True):
        distance = np.hypot(x - marker[0], y - marker[1])
        _paint(canvas, np.clip(0.5 + (MARKER_RADIUS - distance) * scale, 0.0, 1.0), colour)

    canvas *= random.uniform(0.82, 1.06) * random.uniform(0.97, 1.03, size=3)
    canvas += random.normal(0.0, random.uniform(1.0, 4.0), size=canvas.shape)
    return DrawnFrame(np.clip(np.rint(canvas), 0, 255).astype(np.uint8), landmarks.astype(np.float32))


def _background(random: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """Return a muted gradient from one grey to another, in some direction."""
    start, stop, angle = random.uniform(90, 190), random.uniform(90, 190), random.uniform(0, 2 * np.pi)
    rows, columns = np.linspace(-0.5, 0.5, height)[:, None], np.linspace(-0.5, 0.5, width)[None, :]
    ramp = np.clip(0.5 + (rows * np.sin(angle) + columns * np.cos(angle)), 0.0, 1.0)
    grey = start + (stop - start) * ramp
    return np.asarray(grey[:, :, None] + random.uniform(-15, 15, size=3))


def _ellipse(
    x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[float, float, float, float], scale: float
) -> NDArray[np.float64]:
    """Return how much of each pixel an ellipse covers, with an edge one pixel of the frame wide."""
    centre_x, centre_y, half_x, half_y = shape
    radius = np.hypot((x - centre_x) / half_x, (y - centre_y) / half_y)
    return np.clip(0.5 + (1.0 - radius) * min(half_x, half_y) * scale, 0.0, 1.0)


def _surface(person: DrawnPerson, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (N, 3) colours of the face at N points of the crop."""
    value = np.einsum("kyx,yn,xn->nk", person.weights, cosines(y), cosines(x), optimize=True)
    # A weight has a variance of a third, a product of cosines one of a quarter; what goes beyond is bent back, which keeps
    # clear of the colours of the markers.
    spread = np.sqrt((FIELD_ORDER**2 - 1) / 3.0 / 4.0)
    colour = FIELD_REACH * np.tanh(value / (1.5 * spread)) @ CHROMA_RGB
    shade = np.full(len(x), SKIN_GREY)
    for middle_x, middle_y, half_x, half_y, added in SHADING:
        shade += added * np.exp(-0.5 * (((x - middle_x) / half_x) ** 2 + ((y - middle_y) / half_y) ** 2))
    return np.asarray(shade[:, None] + colour)


def _paint(
    canvas: NDArray[np.float64],
    coverage: NDArray[np.float64],
    colour: NDArray[np.float64],
    where: NDArray[np.bool_] | None = None,
) -> None:
    chosen = coverage > 0 if where is None else where
    share = coverage[chosen][:, None]
    canvas[chosen] = canvas[chosen] * (1.0 - share) + colour * share
