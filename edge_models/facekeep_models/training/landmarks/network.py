"""The network: an aligned face of 48 px in, its five landmarks out. 22k parameters."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from facekeep.alignment import CROP_SIDE_PX, TEMPLATE_PX
from facekeep_models.training.detector.network import Separable, Unit

SIDE_PX: Final = 48
_WIDTHS: Final = (16, 24, 40)
# Channels in front of the linear map, on 6 x 6 cells: where something is matters there, not only whether.
_LAST: Final = 16
_CELLS: Final = SIDE_PX // 8
# The landmarks of the template in this crop, and the distance of its eyes, both in pixels.
TEMPLATE: Final = (TEMPLATE_PX + 0.5) * (SIDE_PX / CROP_SIDE_PX) - 0.5
EYES_PX: Final = float(np.linalg.norm(TEMPLATE[1] - TEMPLATE[0]))


class LandmarkNetwork(nn.Module):
    """Aligned crops to where their landmarks are.

    (N, 3, 48, 48) float RGB, 0 to 255, to (N, 5, 2): how far each landmark lies from that of the template, in units of the distance
    of its eyes.
    """

    def __init__(self) -> None:
        super().__init__()
        first, second, third = _WIDTHS
        self.body = nn.Sequential(
            Unit(3, first, 3, 2),
            Unit(first, second, 3, 2),
            Separable(second, second, residual=True),
            Unit(second, third, 3, 2),
            Separable(third, third, residual=True),
            Unit(third, _LAST, 1),
        )
        # A linear map of all cells, as the convolution that covers them.
        self.head = nn.Conv2d(_LAST, 10, _CELLS)
        for module in self.body.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out" if module.groups == 1 else "fan_in", nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=0.003)
        nn.init.zeros_(self.head.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return (N, 5, 2)."""
        answer: Tensor = self.head(self.body(pixels * (1 / 255)))
        return answer.reshape(-1, 5, 2)


def in_crop(answers: Tensor) -> Tensor:
    """Return (N, 5, 2) landmarks in pixels of the crop of what the network says."""
    return answers * EYES_PX + torch.from_numpy(TEMPLATE).to(answers)
