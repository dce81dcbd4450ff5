"""What cameras, light and people do to a face, as one batch of tensor operations on whatever device trains."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from facekeep_models.training.embedder.crops import CROP_PX
from facekeep_models.training.embedder.network import INPUT_PX

# Draws one number for each picture of a batch, in a shape that broadcasts over it.
Draw = Callable[..., Tensor]


def centre_crop(pixels: Tensor) -> Tensor:
    """Return (N, 3, 112, 112) float of (N, 136, 136, 3) uint8, unchanged otherwise."""
    margin = (CROP_PX - INPUT_PX) // 2
    return pixels[:, margin:-margin, margin:-margin].permute(0, 3, 1, 2).float()


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Return (N, 3, 112, 112) float, 0 to 255, of (N, 136, 136, 3) uint8.

    Position, turn and size vary as landmarks do; half are mirrored; then light, colour, low resolution, blur, noise and
    occlusion, each for a part of the batch.
    """
    count = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((count, *shape), generator=generator, device=pixels.device)

    def some(share: float) -> Tensor:
        return (uniform(0, 1, 1, 1, 1) < share).float()

    batch = _moved(pixels.permute(0, 3, 1, 2).float(), uniform)
    batch = _darkened(batch, uniform, some)
    grey = batch.mean(dim=1, keepdim=True).expand_as(batch)
    batch = torch.lerp(batch, grey, some(0.15))
    batch = _coarsened(batch, some)
    rows = _rows(some(0.5))
    noise = torch.randn(batch[rows].shape, generator=generator, device=batch.device)
    batch[rows] += noise * uniform(0, 1, 1, 1, 1)[rows].square() * 25
    batch = _covered(batch, uniform, some)
    return batch.clamp_(0, 255)


def _rows(chosen: Tensor) -> Tensor:
    """Return the places of the pictures that were chosen: what is costly is done to them alone."""
    return chosen.flatten().nonzero().flatten()


def _moved(batch: Tensor, uniform: Draw) -> Tensor:
    count = len(batch)
    angle = uniform(-1, 1).pow(3) * math.radians(25)
    scale = torch.exp(uniform(-0.10, 0.10)) * INPUT_PX / CROP_PX
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    shift = uniform(-0.045, 0.045, 2)
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    rows = torch.stack([cosine * mirror, -sine, shift[:, 0], sine * mirror, cosine, shift[:, 1]], dim=1)
    grid = functional.affine_grid(rows.view(count, 2, 3), [count, 3, INPUT_PX, INPUT_PX], align_corners=False)
    return functional.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _darkened(batch: Tensor, uniform: Draw, some: Draw) -> Tensor:
    gamma = torch.exp(uniform(-0.45, 0.45, 1, 1, 1))
    gain = torch.exp(uniform(-0.25, 0.2, 1, 1, 1) + uniform(-0.06, 0.06, 3, 1, 1))
    dim = 1 - some(0.12) * uniform(0.3, 0.8, 1, 1, 1)
    # Light from one side.
    ramp = torch.linspace(-1, 1, batch.shape[-1], device=batch.device).view(1, 1, 1, -1) * uniform(-0.35, 0.35, 1, 1, 1)
    return (batch.clamp(0, 255) / 255).pow(gamma) * (255 * gain * dim * (1 + ramp * some(0.4)))


def _coarsened(batch: Tensor, some: Draw) -> Tensor:
    for size, share in ((28, 0.05), (40, 0.10), (64, 0.12)):
        rows = _rows(some(share))
        small = functional.interpolate(batch[rows], size=(size, size), mode="area")
        batch[rows] = functional.interpolate(small, size=batch.shape[-2:], mode="bilinear", align_corners=False)
    rows = _rows(some(0.12))
    batch[rows] = functional.avg_pool2d(functional.pad(batch[rows], (2, 2, 2, 2), mode="replicate"), 5, 1)
    return batch


def _covered(batch: Tensor, uniform: Draw, some: Draw) -> Tensor:
    rows = torch.arange(batch.shape[-2], device=batch.device).view(1, 1, -1, 1)
    columns = torch.arange(batch.shape[-1], device=batch.device).view(1, 1, 1, -1)
    # A mask: everything below the nose in one colour.
    mask = (rows > uniform(68, 80, 1, 1, 1)).float() * some(0.10)
    batch = batch * (1 - mask) + uniform(0, 255, 3, 1, 1) * mask
    # Anything else in the way.
    top, left = uniform(0, 112, 1, 1, 1), uniform(0, 112, 1, 1, 1)
    high, wide = uniform(8, 40, 1, 1, 1), uniform(8, 40, 1, 1, 1)
    patch = ((rows - top).abs() < high / 2).float() * ((columns - left).abs() < wide / 2).float() * some(0.2)
    return batch * (1 - patch) + uniform(0, 255, 3, 1, 1) * patch
