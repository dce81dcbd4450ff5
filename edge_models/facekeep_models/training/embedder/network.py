"""The student: plain 3x3 convolutions, which train three to six times faster on a CPU than depthwise blocks."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

# The first convolution halves the picture: at full size it would cost as much time as all that follows.
STEM: Final = 32
STAGES: Final = ((64, 2), (96, 2), (192, 2))
DIMENSION: Final = 256
INPUT_PX: Final = 112


class Residual(nn.Module):
    """Two 3x3 convolutions beside a short cut; the first may halve the picture."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.PReLU(after),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.short: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.short = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.after = nn.PReLU(after)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, after, H / stride, W / stride) of (N, before, H, W)."""
        result: Tensor = self.after(self.body(x) + self.short(x))
        return result


class Student(nn.Module):
    """(N, 3, 112, 112) RGB, 0 to 255, to (N, 256), not yet of unit length.

    Normalisation is inside, so that every runtime does the same arithmetic.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, STEM, 3, 2, 1, bias=False),
            nn.BatchNorm2d(STEM),
            nn.PReLU(STEM),
        ]
        width = STEM
        for channels, blocks in STAGES:
            for number in range(blocks):
                layers.append(Residual(width, channels, 2 if number == 0 else 1))
                width = channels
        self.backbone = nn.Sequential(*layers)
        # One weight for each place and channel instead of an average: where on the face something is matters.
        self.gather = nn.Sequential(nn.Conv2d(width, width, INPUT_PX // 16, groups=width, bias=False), nn.BatchNorm2d(width))
        self.head = nn.Linear(width, DIMENSION, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (N, 256) of (N, 3, 112, 112)."""
        features = self.gather(self.backbone((pixels - 127.5) / 127.5))
        result: Tensor = self.head(features.flatten(1))
        return result
