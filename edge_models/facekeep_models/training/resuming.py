"""What every training loop keeps beside its network: the moving average of weights, and a checkpoint that is whole or not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move every weight of `average` to that of `network` by 1 - `decay` of the way; counters are copied."""
    for kept, fresh in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(fresh, 1 - decay)
        else:
            kept.copy_(fresh)


def save_whole(state: Mapping[str, Any], checkpoint: Path) -> None:
    """Write a checkpoint under its name once it is complete: a run that dies meanwhile leaves the one before."""
    fresh = checkpoint.with_suffix(".new")
    torch.save(dict(state), fresh)
    fresh.replace(checkpoint)
