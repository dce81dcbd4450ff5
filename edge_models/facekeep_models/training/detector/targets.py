"""Which cells are asked for which face: those near its centre, on the maps whose stride suits its size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facekeep_models.training.detector.network import STRIDES

# Sizes (root of the area, px) that a stride is asked for; within the wider range it is neither asked nor punished.
_ASKED: Final = ((0.0, 44.0), (30.0, 130.0), (96.0, math.inf))
_SPARED: Final = ((0.0, 76.0), (19.0, 210.0), (60.0, math.inf))
# Chebyshev radius about the centre of a face: a quarter of its size, but at least its own cell and at most three cells across.
_RADIUS_OF_SIZE: Final = 0.25
_LEAST_RADIUS: Final = 0.55
_MOST_RADIUS: Final = 1.5
_RING: Final = 0.75
_NOBODY: Final = -1
_UNASKED: Final = -2


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What a batch is asked for; cells are those of all strides one behind the other.

    Attributes:
        presence: (N, cells) float32: 1 a face, 0 none, -1 not asked.
        rows: (P,) int64, places of the cells with a face in the flattened (N, cells).
        faces: (P, 15) float32, the face of each of them.
        owners: (P,) int64, which face of the batch that is; the same number for all cells of one face.
    """

    presence: Tensor
    rows: Tensor
    faces: Tensor
    owners: Tensor


def targets_of(faces: Sequence[NDArray[np.float32]], side: int) -> Targets:
    """Return the targets of a batch of square pictures.

    Args:
        faces: (K, 15) of each picture; confidence 1 is asked for, 0 is neither asked nor punished.
        side: of the pictures, px.
    """
    owners = [_owners(found, side) for found in faces]
    stacked = np.stack(owners)
    presence = np.where(stacked >= 0, 1, np.where(stacked == _NOBODY, 0, -1)).astype(np.float32)
    rows = np.flatnonzero(stacked >= 0)
    picture = rows // stacked.shape[1]
    starts = np.cumsum([0, *(len(found) for found in faces)])[:-1]
    every = np.concatenate(faces) if len(rows) else np.zeros((0, 15), np.float32)
    numbers = starts[picture] + stacked.ravel()[rows]
    chosen = np.ascontiguousarray(every[numbers] if len(rows) else every)
    return Targets(*(torch.from_numpy(each) for each in (presence, rows, chosen, numbers.astype(np.int64))))


def _owners(faces: NDArray[np.float32], side: int) -> NDArray[np.int64]:
    """Return (cells,): the face each cell is asked for, -1 none, -2 not asked."""
    size = np.sqrt(np.maximum((faces[:, 2] - faces[:, 0]) * (faces[:, 3] - faces[:, 1]), 0))
    asked = faces[:, 4] > 0
    centres = (faces[:, :2] + faces[:, 2:4]) / 2
    maps = []
    for stride, (low, high), (least, most) in zip(STRIDES, _ASKED, _SPARED, strict=True):
        cells = side // stride
        owner = np.full((cells, cells), _NOBODY, np.int64)
        radius = np.clip(_RADIUS_OF_SIZE * size, _LEAST_RADIUS * stride, _MOST_RADIUS * stride)[:, None]
        reach = radius + _RING * stride
        whole, cores, rings = (
            _windows(each, stride, cells)
            for each in ((faces[:, :2], faces[:, 2:4]), (centres - radius, centres + radius), (centres - reach, centres + reach))
        )
        for number in np.flatnonzero(~asked).tolist():
            _mark(owner, whole[number], _UNASKED)
        for number in np.flatnonzero(asked & (size >= least) & (size < most)).tolist():
            _mark(owner, rings[number], _UNASKED)
        # Smaller faces last: where two meet, the smaller one has fewer cells to be found in.
        for number in sorted(np.flatnonzero(asked & (size >= low) & (size < high)).tolist(), key=lambda each: -size[each]):
            _mark(owner, cores[number], number)
        maps.append(owner.ravel())
    return np.concatenate(maps)


def _windows(corners: tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]], stride: int, cells: int) -> list[list[int]]:
    """Return left, top, right, bottom (the last two beyond) of the cells whose centre lies between two corners, for each face."""
    # The centre of cell c is the pixel (c + 0.5) * stride - 0.5.
    first = np.ceil((corners[0] + 0.5) / stride - 0.5)
    last = np.floor((corners[1] + 0.5) / stride - 0.5) + 1
    found: list[list[int]] = np.clip(np.concatenate((first, last), axis=1), 0, cells).astype(int).tolist()
    return found


def _mark(owner: NDArray[np.int64], window: list[int], value: int) -> None:
    left, top, right, bottom = window
    owner[top:bottom, left:right] = value
