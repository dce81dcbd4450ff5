"""What the cameras of the fleet make of a face: at night, and of people who wear masks. Deterministic in device and capture.

A camera is drawn once for each device: how small faces are on it, how little light there is, how noisy the sensor. A capture is
drawn anew each time: how the face was found (moved, turned, sized), grain, cloth. All batches are computed at once, since a fleet
takes ten thousand captures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Kind = Literal["day", "night", "mask"]
Image = NDArray[np.uint8]

CROP_PX: Final = 112
SMALLEST_PX: Final = 36
LARGEST_PX: Final = 46
_STREAM: Final = 0xCA3E7A
_CLOTH: Final = ((120, 160, 200), (235, 235, 235), (30, 30, 34), (90, 140, 120), (60, 70, 120), (200, 170, 180))


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera at night.

    Attributes:
        face_px: side of the aligned face on the sensor, 36 to 46.
        gain: what is left of the light, by which grey levels are multiplied.
        noise: standard deviation of the grain, in grey levels of the dark picture.
        black: grey level of no light.
        slope: light from one side: how much brighter one edge is than the other.
    """

    face_px: int
    gain: float
    noise: float
    black: float
    slope: float


def camera_of(seed: int, device: int) -> Camera:
    """Return the camera of a device, the same every time."""
    random = np.random.default_rng([_STREAM, seed, device])
    return Camera(
        int(random.integers(SMALLEST_PX, LARGEST_PX + 1)),
        float(random.uniform(0.16, 0.38)),
        float(random.uniform(2.2, 5.6)),
        float(random.uniform(0.0, 10.0)),
        float(random.uniform(-0.4, 0.4)),
    )


def capture(
    crops: Image, kinds: Sequence[Kind], devices: Sequence[int], numbers: Sequence[int], *, seed: int, batch: int = 512
) -> Image:
    """Return what the cameras of devices make of faces.

    Args:
        crops: (N, 112, 112, 3) uint8 RGB, by day.
        kinds: of each, how it is captured; "day" leaves it as it is.
        devices: of each, whose camera it is.
        numbers: of each, which capture of this device it is.
        seed: of the fleet.
        batch: captures computed at once.

    Returns:
        (N, 112, 112, 3) uint8 RGB.
    """
    taken = crops.copy()
    for kind, render in (("night", _night), ("mask", _masked)):
        places = np.flatnonzero([each == kind for each in kinds])
        for start in range(0, len(places), batch):
            some = places[start : start + batch]
            draws = [np.random.default_rng([_STREAM, seed, devices[place], 1 + numbers[place]]) for place in some]
            pixels = torch.from_numpy(crops[some]).permute(0, 3, 1, 2).float()
            made = render(_moved(pixels, draws), [camera_of(seed, devices[place]) for place in some], draws)
            taken[some] = made.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return taken


def _moved(pixels: Tensor, draws: list[np.random.Generator]) -> Tensor:
    """Landmarks are found less well on such pictures: shift by 2 px, turn by 3 degrees, size by 4 %, standard deviations."""
    drawn = torch.from_numpy(np.stack([draw.standard_normal(4) for draw in draws])).float().clamp(-2, 2)
    angle, scale = drawn[:, 0] * math.radians(3), torch.exp(0.04 * drawn[:, 1])
    shift = drawn[:, 2:] * 2 * 2 / CROP_PX
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    rows = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(rows, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _night(pixels: Tensor, cameras: list[Camera], draws: list[np.random.Generator]) -> Tensor:
    def each(values: list[float]) -> Tensor:
        return torch.tensor(values).view(-1, 1, 1)

    grey = (pixels * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1)
    down = torch.stack([_reduction(camera.face_px) for camera in cameras])
    small = down @ grey @ down.transpose(1, 2)
    ramp = 1 + each([camera.slope for camera in cameras]) * torch.linspace(-1, 1, LARGEST_PX).view(1, 1, -1)
    grain = torch.from_numpy(np.stack([draw.standard_normal((LARGEST_PX, LARGEST_PX), np.float32) for draw in draws]))
    dark = small * ramp * each([camera.gain for camera in cameras]) + each([camera.black for camera in cameras])
    # The sensor answers in whole grey levels: what the dark took is gone.
    dark = (dark + grain * each([camera.noise for camera in cameras])).round().clamp(0, 255)
    up = torch.stack([_enlargement(camera.face_px) for camera in cameras])
    return (up @ dark @ up.transpose(1, 2)).unsqueeze(1).expand(-1, 3, -1, -1)


def _reduction(side: int) -> Tensor:
    """Return (46, 112): each of the first `side` rows the mean over its part of the crop, the others nothing."""
    edges = torch.arange(side + 1) * CROP_PX / side
    places = torch.arange(CROP_PX).float()
    covered = (torch.minimum(edges[1:, None], places + 1) - torch.maximum(edges[:-1, None], places)).clamp(min=0)
    return functional.pad(covered * side / CROP_PX, (0, 0, 0, LARGEST_PX - side))


def _enlargement(side: int) -> Tensor:
    """Return (112, 46): bilinear, centres of pixels as in align_corners=False."""
    where = ((torch.arange(CROP_PX) + 0.5) * side / CROP_PX - 0.5).clamp(0, side - 1)
    return (1 - (where[:, None] - torch.arange(LARGEST_PX)).abs()).clamp(min=0)


def _masked(pixels: Tensor, _: list[Camera], draws: list[np.random.Generator]) -> Tensor:
    colour, shape = [], []
    for draw in draws:
        colour.append(np.array(_CLOTH[draw.integers(len(_CLOTH))]) * draw.uniform(0.7, 1.1) + draw.normal(0, 12, 3))
        shape.append(
            [draw.uniform(64, 74), draw.uniform(2, 9), draw.uniform(36, 44), draw.uniform(0.15, 0.35), draw.uniform(-0.3, 0.3)]
        )
    top, bow, half, taper, light = torch.tensor(shape).float().T.reshape(5, -1, 1, 1)
    y, x = torch.arange(CROP_PX).view(1, -1, 1) + 0.5, torch.arange(CROP_PX).view(1, 1, -1) - 55.5
    upper = top + bow * (x / 36).square() * 2
    cover = torch.sigmoid((y - upper) / 0.7) * torch.sigmoid((half - taper * (y - top) - x.abs()) / 0.7)
    pleats = torch.stack([torch.exp(-0.5 * ((y - upper - at) / 1.2).square()) for at in (10, 19, 28)]).sum(dim=0)
    shade = 1.05 - 0.25 * (x / 40).square() - 0.12 * pleats + light * x / 56
    cloth = torch.from_numpy(np.stack(colour)).float().clamp(5, 250).view(-1, 3, 1, 1) * shade.unsqueeze(1)
    return torch.lerp(pixels, cloth, cover.unsqueeze(1))
