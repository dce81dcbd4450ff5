"""One training picture out of many: faces of every size, turned, in rectangles beside each other, on scenes or on nothing.

Steps:
    1 the ground: a crowd, a scene without anyone, or one colour
    2 on two of three grounds, rectangles cut at random, each filled with a picture scaled so that its face has a drawn size
    3 faces that are cut off, too small, too large or only suspected are marked: neither asked for nor punished
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facekeep_models.training.detector.pictures import SOURCES, Pictures
from facekeep_models.training.detector.teacher import FACE_COLUMNS, MIRROR, SURE

SMALLEST_FACE_PX: Final = 9.0
LARGEST_FACE_PX: Final = 440.0
_WHOLE_SHARE: Final = 0.62
_GONE_SHARE: Final = 0.2
# What the teacher believes less is a negative like any other: sparing all its doubts would spare half of a crowd.
_SUSPECTED: Final = 0.45
_BARE: Final = 0.1
_FILLED: Final = 0.85
# How often each kind of picture fills a rectangle, in the order of SOURCES.
_FILL: Final = (0.42, 0.16, 0.08, 0.17, 0.17)
DRAWN: Final = SOURCES.index("people")
# Least size of the rectangles as a share of the side; the largest is the side.
LEAST_RECTANGLE: Final = math.exp(-2.1)
_GROUND: Final = (("crowd", 0.36), ("empty", 0.52), ("", 0.12))


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Pictures to draw from.

    Attributes:
        pictures: all of them.
        by_source: places of the usable ones, one array for each of `SOURCES`.
    """

    pictures: Pictures
    by_source: tuple[NDArray[np.intp], ...]
    _reduced: dict[tuple[int, int], NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    def reduced(self, number: int, factor: int) -> NDArray[np.uint8]:
        """Return a picture reduced by a whole factor, kept for the next time it is asked for.

        As the detector reduces frames: a plain bilinear reduction by more than two would skip pixels.
        """
        pixels = self.pictures.picture(number)
        if factor == 1:
            return pixels
        if (number, factor) not in self._reduced:
            size = (max(pixels.shape[1] // factor, 1), max(pixels.shape[0] // factor, 1))
            self._reduced[number, factor] = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        return self._reduced[number, factor]


def pool_of(pictures: Pictures, *, held_out: bool) -> Pool:
    """Return the pictures that are held out, or those that are not."""
    chosen = pictures.held_out == held_out
    return Pool(pictures, tuple(np.flatnonzero(chosen & (pictures.source == each)) for each in range(len(SOURCES))))


def draw_mosaic(
    pool: Pool,
    side: int,
    random: np.random.Generator,
    *,
    drawn_share: float = _FILL[DRAWN],
    least_rectangle: float = LEAST_RECTANGLE,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return a (side, side, 3) uint8 RGB picture and its (K, 15) faces; confidence 1 is asked for, 0 is neither.

    Args:
        pool: what it is made of.
        side: its side in pixels.
        random: decides everything.
        drawn_share: how often a rectangle is filled with a drawn person, whose landmarks are the truth.
        least_rectangle: least size that rectangles are cut to, as a share of the side, over 0 and up to 1.
    """
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[:] = 0 if random.random() < 0.5 else random.integers(0, 256, 3)
    # 1
    kind = str(random.choice([name for name, _ in _GROUND], p=[share for _, share in _GROUND]))
    faces = []
    if kind and len(pool.by_source[SOURCES.index(kind)]):
        number = int(random.choice(pool.by_source[SOURCES.index(kind)]))
        height, width = pool.pictures.place[number, 1:].tolist()
        scale = side / max(height, width) * math.exp(random.uniform(-0.5, 1.1))
        middle = np.array([width, height]) / 2 + random.uniform(-0.5, 0.5, 2) * np.maximum(
            np.array([width, height]) - side / scale, 0
        )
        faces.append(_paste(canvas, (0, 0, side, side), pool, number, scale, middle, random))
    # 2
    if kind != "crowd":
        if random.random() < _BARE:
            rectangles: list[tuple[int, int, int, int]] = []
        else:
            wanted = float(side) * math.exp(random.uniform(math.log(least_rectangle), 0.0))
            rectangles = list(_cut((0, 0, side, side), wanted, random))
        faces += [_fill(canvas, rectangle, pool, random, drawn_share) for rectangle in rectangles if random.random() < _FILLED]
    found = np.concatenate([np.zeros((0, FACE_COLUMNS), np.float32), *faces])
    return canvas, found


def _cut(rectangle: tuple[int, int, int, int], wanted: float, random: np.random.Generator) -> Iterator[tuple[int, int, int, int]]:
    """Yield left, top, right, bottom of rectangles whose longer side is about `wanted`, together the whole."""
    left, top, right, bottom = rectangle
    longer = max(right - left, bottom - top)
    if longer < 2 * 24 or longer < wanted * random.uniform(1.0, 1.8):
        yield rectangle
        return
    share = random.uniform(0.35, 0.65)
    if right - left >= bottom - top:
        middle = left + round((right - left) * share)
        parts = ((left, top, middle, bottom), (middle, top, right, bottom))
    else:
        middle = top + round((bottom - top) * share)
        parts = ((left, top, right, middle), (left, middle, right, bottom))
    for part in parts:
        yield from _cut(part, wanted, random)


def _fill(
    canvas: NDArray[np.uint8],
    rectangle: tuple[int, int, int, int],
    pool: Pool,
    random: np.random.Generator,
    drawn_share: float,
) -> NDArray[np.float32]:
    wanted_of = [each * (1 - drawn_share) / (1 - _FILL[DRAWN]) for each in _FILL]
    wanted_of[DRAWN] = drawn_share
    share = np.array([each if len(places) else 0.0 for each, places in zip(wanted_of, pool.by_source, strict=True)])
    number = int(random.choice(pool.by_source[int(random.choice(len(share), p=share / share.sum()))]))
    left, top, right, bottom = rectangle
    shorter = min(right - left, bottom - top)
    _, height, width = pool.pictures.place[number].tolist()
    known = pool.pictures.faces_of(number)
    known = known[known[:, 4] >= SURE]
    if len(known):
        face = known[int(random.integers(len(known)))]
        size = math.sqrt(float((face[2] - face[0]) * (face[3] - face[1])))
        wanted = max(shorter * random.uniform(0.28, 0.95), SMALLEST_FACE_PX)
        middle = np.array([face[0] + face[2], face[1] + face[3]]) / 2
        # The face anywhere in its rectangle where it has room.
        middle = middle + random.uniform(-0.5, 0.5, 2) * max(shorter - wanted, 0) * size / wanted
        return _paste(canvas, rectangle, pool, number, wanted / size, middle, random)
    scale = shorter / min(height, width) * math.exp(random.uniform(0.0, 1.2))
    spare = np.maximum(np.array([width, height]) - shorter / scale, 0)
    middle = np.array([width, height]) / 2 + random.uniform(-0.5, 0.5, 2) * spare
    return _paste(canvas, rectangle, pool, number, scale, middle, random)


def _paste(
    canvas: NDArray[np.uint8],
    rectangle: tuple[int, int, int, int],
    pool: Pool,
    number: int,
    scale: float,
    middle: NDArray[np.float64],
    random: np.random.Generator,
) -> NDArray[np.float32]:
    """Put a picture into a rectangle, its point `middle` in the rectangle's, and return the faces there."""
    left, top, right, bottom = rectangle
    reduced = max(int(1 / scale + 1e-6), 1)
    angle = math.radians(random.normal() * (6 if random.random() < 0.6 else 22))
    mirror = -1.0 if random.random() < 0.5 else 1.0
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) * [mirror, 1.0]
    shift = np.array([left + right, top + bottom]) / 2 - linear @ middle
    pixels = pool.reduced(number, reduced)
    from_reduced = np.concatenate(
        (linear * reduced, (shift + linear @ np.full(2, (reduced - 1) / 2) - [left, top])[:, None]), axis=1
    )
    window = np.ascontiguousarray(canvas[top:bottom, left:right])
    cv2.warpAffine(pixels, from_reduced, (right - left, bottom - top), window, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
    canvas[top:bottom, left:right] = window
    faces = pool.pictures.faces_of(number)
    return _marked(_moved(faces, linear, shift, mirror=mirror < 0), rectangle) if len(faces) else faces


def _moved(
    faces: NDArray[np.float32], linear: NDArray[np.float64], shift: NDArray[np.float64], *, mirror: bool
) -> NDArray[np.float32]:
    centres = (faces[:, :2] + faces[:, 2:4]) / 2 @ linear.T + shift
    # The upright box around the turned oval that the old box holds.
    halves = np.sqrt(((faces[:, 2:4] - faces[:, :2]) / 2) ** 2 @ (linear**2).T)
    points = faces[:, 5:].reshape(-1, 5, 2) @ linear.T + shift
    if mirror:
        points = points[:, list(MIRROR)]
    columns = (centres - halves, centres + halves, faces[:, 4:5], points.reshape(-1, 10))
    return np.concatenate(columns, axis=1).astype(np.float32)


def _marked(faces: NDArray[np.float32], rectangle: tuple[int, int, int, int]) -> NDArray[np.float32]:
    # 3
    left, top, right, bottom = rectangle
    low, high = np.maximum(faces[:, :2], [left, top]), np.minimum(faces[:, 2:4], [right, bottom])
    whole = np.maximum(np.prod(faces[:, 2:4] - faces[:, :2], axis=1), 1e-6)
    seen = np.prod(np.maximum(high - low, 0), axis=1) / whole
    middle = (faces[:, :2] + faces[:, 2:4]) / 2
    inside = ((middle >= [left, top]) & (middle < [right, bottom])).all(axis=1)
    size = np.sqrt(whole)
    asked = (faces[:, 4] >= SURE) & (seen >= _WHOLE_SHARE) & inside & (size >= SMALLEST_FACE_PX) & (size <= LARGEST_FACE_PX)
    marked = faces.copy()
    marked[:, 4] = asked
    # What is marked ends where its picture ends, or a neighbour's face would be marked with it.
    ignored = ~asked
    marked[ignored, :2], marked[ignored, 2:4] = low[ignored], high[ignored]
    suspected = faces[:, 4] >= _SUSPECTED
    return np.ascontiguousarray(marked[suspected & (seen > _GONE_SHARE) & (size >= 3)])
