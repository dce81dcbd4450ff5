"""A synthetic camera in a room: frames with one person in it, with two, with nobody. Pure NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.resampling import resize_into

Floats = NDArray[np.float32]

# (height, width), as a webcam has it.
FRAME_PX: Final = (480, 640)
_WALL: Final = (176.0, 172.0, 164.0)
# How far a person's own surroundings reach into the room, as a share of their picture; then they fade.
_FADE: Final = 0.45
# How much of the light on the wall is that of the person's picture.
_TINT: Final = 0.55
_DARKEST, _BRIGHTEST = 36.0, 205.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody stands.

    Attributes:
        across_px: column of the frame in which the middle of their picture is.
        scale: pixels of the frame for a pixel of the picture; the picture ends at the lower edge of the frame.
    """

    across_px: float = 320.0
    scale: float = 1.7

    def in_frame(self, points: NDArray[np.float32], side_px: int) -> NDArray[np.float32]:
        """Return (N, 2) points of a square picture, in pixels of the frame."""
        left, top, side = self.corner(side_px)
        scale = side / side_px
        return np.asarray((points + 0.5) * scale - 0.5 + np.array((left, top)), np.float32)

    def corner(self, side_px: int) -> tuple[int, int, int]:
        """Return left, top and side of the picture in the frame, whole pixels; parts may lie outside."""
        side = round(side_px * self.scale)
        return round(self.across_px - side / 2), FRAME_PX[0] - side, side


def empty_room() -> Floats:
    """Return (480, 640, 3) float32, 0 to 255: a wall with a window and a door, and a floor, out of focus."""
    return np.asarray(_relief()[:, :, None] * np.array(_WALL, np.float32), np.float32)


def standing(pixels: NDArray[np.uint8], place: Place) -> Floats:
    """Return a frame with somebody in the room: their square picture, its surroundings fading into the wall.

    Args:
        pixels: (side, side, 3) uint8.
        place: where.
    """
    height, width = FRAME_PX
    left, top, side = place.corner(len(pixels))
    planes = np.empty((3, side, side), np.float32)
    resize_into(pixels, planes)
    across, down = np.arange(width) - left, np.arange(height) - top
    # Beyond its edges the picture goes on as it ends; little of that is seen.
    near = planes[:, np.clip(down, 0, side - 1)][:, :, np.clip(across, 0, side - 1)].transpose(1, 2, 0)
    edge = np.concatenate((pixels[0], pixels[: len(pixels) // 2, 0], pixels[: len(pixels) // 2, -1])).mean(axis=0)
    wall = np.clip(_TINT * edge + (1 - _TINT) * np.array(_WALL), _DARKEST, _BRIGHTEST).astype(np.float32)
    sideways = np.abs((across - side / 2) / (side / 2))[None, :]
    upwards = np.maximum(0.0, 1.0 - down / (side / 2))[:, None]
    inside = _smooth((1.0 - (sideways**3 + upwards**3) ** (1 / 3)) / _FADE)[:, :, None]
    return np.asarray(inside * near + (1 - inside) * _relief()[:, :, None] * wall, np.float32)


def side_by_side(image_left: Floats, image_right: Floats) -> Floats:
    """Return one frame out of the left part of one and the right part of another."""
    width = FRAME_PX[1]
    to_right = _smooth((np.arange(width) - width * 0.4) / (width * 0.2))[None, :, None]
    return np.asarray((1 - to_right) * image_left + to_right * image_right, np.float32)


@lru_cache(maxsize=1)
def _relief() -> Floats:
    """Return (480, 640) float32: how bright each part of the room is against its wall."""
    height, width = FRAME_PX
    x, y = np.linspace(0, 1, width)[None, :], np.linspace(0, 1, height)[:, None]
    room = 1.05 - 0.10 * x + 0.0 * y
    room = room + 0.34 * _between(x, 0.05, 0.21) * _between(y, 0.07, 0.52)  # a window
    room = room - 0.12 * _between(x, 0.12, 0.14) * _between(y, 0.07, 0.52)  # its bar
    room = room - 0.26 * _between(x, 0.81, 0.95) * _between(y, 0.13, 1.50)  # a door
    room = room - 0.20 * _between(y, 0.82, 1.50)  # the floor
    relief: Floats = room.astype(np.float32)
    relief.flags.writeable = False
    return relief


def _between(value: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Return 1 between two values and 0 outside, softly: the room is out of focus."""
    soft = 0.010
    return np.asarray(1 / (1 + np.exp(-(value - low) / soft)) / (1 + np.exp((value - high) / soft)))


def _smooth(value: NDArray[np.floating]) -> Floats:
    ramp = np.clip(value, 0.0, 1.0)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), np.float32)
