"""The network: anchor-free, three strides, five landmarks; plain 3x3 convolutions where maps are large, separable ones below.

Large maps with few channels are where depthwise convolutions lose: they are bound by memory, in training and in ONNX Runtime
alike. On the small maps they save the parameters.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES: Final = (8, 16, 32)
OUTPUTS: Final = tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in STRIDES)
# What a head gives for each cell, in this order: quality, presence, box, landmarks.
PARTS: Final = (1, 1, 4, 10)
HEAD_PARTS: Final = (2, 2, 2, 10)
STEM: Final = (16, 16)
WIDTHS: Final = (48, 64, 64)
BLOCKS: Final = (2, 4, 3)
NECK: Final = 48
# Share of cells that hold a face before anything is learnt, so that the first steps are not spent on unlearning them.
_PRIOR: Final = 0.01
# Before anything is learnt a box is centred in its cell and three cells wide, with the landmarks of the mean upright face: (x, y)
# from the centre of the box, in units of its width and height, over the training faces of which YuNet is sure.
_LOG_SIZE: Final = math.log(3.0)
_MEAN_FACE: Final = (-0.227, -0.121, 0.227, -0.121, 0.0, 0.08, -0.196, 0.233, 0.196, 0.233)
# No face of a frame reaches it; keeps the first steps finite.
LARGEST_LOG: Final = 6.0


class Unit(nn.Sequential):
    """Convolution and batch norm, then ReLU where told: one convolution once the norm is folded in."""

    def __init__(self, before: int, after: int, size: int, stride: int = 1, groups: int = 1, *, active: bool = True) -> None:
        super().__init__(
            nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False),
            nn.BatchNorm2d(after),
            *([nn.ReLU()] if active else []),
        )


class Separable(nn.Module):
    """A depthwise 3x3 and a 1x1 convolution; with a short cut around them where the shapes allow and it is asked for."""

    def __init__(self, before: int, after: int, stride: int = 1, *, residual: bool = False) -> None:
        super().__init__()
        self.depthwise = Unit(before, before, 3, stride, before)
        self.pointwise = Unit(before, after, 1, active=not residual)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, after, H / stride, W / stride) of (N, before, H, W)."""
        result: Tensor = self.pointwise(self.depthwise(x))
        return functional.relu(result + x) if self.residual else result


class Detector(nn.Module):
    """(N, 3, H, W) float RGB, 0 to 255, H and W multiples of 32, to what the decoder of the family `yunet` reads.

    The scale of the pixels is inside, so that every runtime does the same arithmetic.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Unit(3, STEM[0], 3, 2), Unit(STEM[0], STEM[1], 3, 2))
        before, stages = STEM[1], []
        for number, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            first: nn.Module = Unit(before, width, 3, 2) if number == 0 else Separable(before, width, 2)
            stages.append(nn.Sequential(first, *(Separable(width, width, residual=True) for _ in range(blocks))))
            before = width
        self.stages = nn.ModuleList(stages)
        self.laterals = nn.ModuleList([Unit(width, NECK, 1) for width in WIDTHS])
        self.towers = nn.ModuleList([Separable(NECK, NECK) for _ in STRIDES])
        self.heads = nn.ModuleList([nn.Conv2d(NECK, sum(PARTS), 1) for _ in STRIDES])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out" if module.groups == 1 else "fan_in", nonlinearity="relu")
        for head in self.heads:
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
            with torch.no_grad():
                head.bias[1:6] = torch.tensor([-math.log((1 - _PRIOR) / _PRIOR), 0.5, 0.5, _LOG_SIZE, _LOG_SIZE])
                head.bias[6:] = torch.tensor(_MEAN_FACE)

    def features(self, pixels: Tensor) -> list[Tensor]:
        """Return one (N, 48, H / s, W / s) tensor for each stride s, what its head reads."""
        x = self.stem(pixels * (1 / 255))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        found: list[Tensor] = []
        above: Tensor | None = None
        for level in (2, 1, 0):
            here = self.laterals[level](features[level])
            above = here if above is None else here + functional.interpolate(above, scale_factor=2.0, mode="nearest")
            found.insert(0, self.towers[level](above))
        return found

    def answers(self, features: list[Tensor]) -> list[Tensor]:
        """Return one (N, 16, H / s, W / s) tensor for each stride s: logits of quality and presence, box, landmarks.

        A head says where the landmarks are in the box; here they are put into the cell. So a face of any size has the same
        landmarks to be learnt, and the box brings them along.
        """
        found = []
        for head, feature in zip(self.heads, features, strict=True):
            scores, centre, size, points = torch.split(head(feature), HEAD_PARTS, dim=1)
            size = size.clamp(max=LARGEST_LOG)
            points = torch.cat([centre] * 5, dim=1) + points * torch.cat([size.exp()] * 5, dim=1)
            found.append(torch.cat((scores, centre, size, points), dim=1))
        return found

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the twelve tensors of `OUTPUTS`, each (N, cells, 1, 1, 4 or 10): cells row by row.

        cls and obj are 0 to 1, the score of a cell is the root of their product. With cell (column c, row r) of stride s, bbox
        is (dx, dy, log w, log h): centre (c + dx, r + dy) * s, size (w, h) * s; kps are five (x, y): (c + x, r + y) * s.
        """
        rows = [part.flatten(2).transpose(1, 2) for part in self.answers(self.features(pixels))]
        split = [torch.split(part, PARTS, dim=2) for part in rows]
        return (
            *(part[0].sigmoid() for part in split),
            *(part[1].sigmoid() for part in split),
            *(part[2] for part in split),
            *(part[3] for part in split),
        )
