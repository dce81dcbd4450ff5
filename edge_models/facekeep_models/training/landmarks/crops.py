"""Crops to learn from: faces aligned by landmarks that are off as a detector's are, and where their landmarks really are.

The crop is that of the device, function and all: `facekeep.alignment`. What comes on top is what cameras do, as for mosaics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import crop_of, frame_from_crop
from facekeep_models.training.detector.appearance import disturb
from facekeep_models.training.detector.pictures import SOURCES, Pictures
from facekeep_models.training.detector.teacher import MIRROR, SURE
from facekeep_models.training.landmarks.network import EYES_PX, SIDE_PX, TEMPLATE

# How often each kind of picture is drawn, in the order of SOURCES; the last has no faces.
_SHARES: Final = (0.50, 0.07, 0.05, 0.38, 0.0)
# Eyes closer than this say little about where a landmark is.
_LEAST_EYES_PX: Final = 8.0
# How far a detector's landmarks are off, in units of the eyes' distance, of size and in radians: all together, and each alone.
_SHIFT, _SCALE, _TURN, _APART = 0.045, 0.06, math.radians(4.0), 0.05
# Some detections are worse.
_WORSE_SHARE, _WORSE = 0.15, 2.2
_COARSE_SHARE: Final = 0.3
_DISTURBED_SHARE: Final = 0.7
# Where the face lies in a crop, for what covers it.
_FACE: Final = np.array([0.15, 0.1, 0.85, 0.95], np.float32) * SIDE_PX

Face = tuple[int, NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Faces to draw from.

    Attributes:
        pictures: where they are.
        by_source: the number of the picture and the (5, 2) landmarks of each face, one list for each of `SOURCES`.
    """

    pictures: Pictures
    by_source: tuple[tuple[Face, ...], ...]


def faces_of(pictures: Pictures, *, held_out: bool) -> Faces:
    """Return the faces the teacher is sure of and large enough, of the pictures that are held out or of the others."""
    found: list[list[Face]] = [[] for _ in SOURCES]
    for number in np.flatnonzero(pictures.held_out == held_out).tolist():
        for row in pictures.faces_of(number):
            points = row[5:].reshape(5, 2).astype(np.float64)
            if row[4] >= SURE and float(np.linalg.norm(points[1] - points[0])) >= _LEAST_EYES_PX:
                found[int(pictures.source[number])].append((number, points))
    return Faces(pictures, tuple(tuple(each) for each in found))


def draw_crops(faces: Faces, count: int, random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return (N, 48, 48, 3) uint8 RGB crops and (N, 5, 2) float32, what `LandmarkNetwork` is to say of them.

    Args:
        faces: to draw from.
        count: N.
        random: decides everything.
    """
    share = np.array([each if among else 0.0 for each, among in zip(_SHARES, faces.by_source, strict=True)])
    crops, wanted = np.empty((count, SIDE_PX, SIDE_PX, 3), np.uint8), np.empty((count, 5, 2), np.float32)
    for place, source in enumerate(random.choice(len(share), count, p=share / share.sum()).tolist()):
        among = faces.by_source[source]
        crop, points = seen(faces.pictures, among[int(random.integers(len(among)))], random)
        crops[place], points = _altered(crop, points, random)
        wanted[place] = (points - TEMPLATE) / EYES_PX
    return crops, wanted


def seen(pictures: Pictures, face: Face, random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the crop of a face by landmarks that are a little off, and the (5, 2) true ones in its pixels."""
    number, points = face
    way = frame_from_crop(_strayed(points, random).astype(np.float32), SIDE_PX)
    crop = crop_of(pictures.picture(number), way, SIDE_PX)
    return crop, np.asarray(np.linalg.solve(way[:, :2], (points - way[:, 2]).T).T, np.float64)


def _strayed(points: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    eyes = float(np.linalg.norm(points[1] - points[0]))
    worse = _WORSE if random.random() < _WORSE_SHARE else 1.0
    middle = points.mean(axis=0)
    size, angle = math.exp(random.normal() * _SCALE * worse), random.normal() * _TURN * worse
    turn = size * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    together = middle + random.normal(size=2) * _SHIFT * eyes * worse
    return (points - middle) @ turn.T + together + random.normal(size=(5, 2)) * _APART * eyes * worse


def _altered(
    crop: NDArray[np.uint8], points: NDArray[np.float64], random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    if random.random() < _COARSE_SHARE:
        # As a face far away is: fewer pixels than the crop has.
        side = max(int(SIDE_PX * random.uniform(0.4, 1.0)), 8)
        coarse = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
        crop = np.asarray(cv2.resize(coarse, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR), np.uint8)
    if random.random() < 0.5:
        crop, points = np.ascontiguousarray(crop[:, ::-1]), points[list(MIRROR)]
        points = np.stack((SIDE_PX - 1 - points[:, 0], points[:, 1]), axis=1)
    if random.random() < _DISTURBED_SHARE:
        crop = disturb(crop, np.concatenate((_FACE, [1.0], points.ravel())).astype(np.float32)[None], random)
    return crop, points
