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


class Checkpoint:
    """Where a run stands: after which step, its curves so far, and the state of everything that learns.

    Args:
        path: of the file.
        schedule: what the run was told; a checkpoint of another one is not gone on with.
        parts: what has a state, by name.
    """

    def __init__(self, path: Path, schedule: Mapping[str, object], **parts: nn.Module | torch.optim.Optimizer) -> None:
        self._path, self._schedule, self._parts = path, dict(schedule), parts

    def resume(self, device: torch.device | str = "cpu") -> tuple[int, list[dict[str, float]]]:
        """Put every part back and return the step and the history; 0 and none where there is no checkpoint.

        Raises:
            ValueError: if the checkpoint belongs to another schedule.
        """
        if not self._path.exists():
            return 0, []
        saved: dict[str, Any] = torch.load(self._path, map_location=device, weights_only=True)
        if saved["schedule"] != self._schedule:
            raise ValueError(f"{self._path} belongs to another schedule: {saved['schedule']}")
        for name, part in self._parts.items():
            part.load_state_dict(saved[name])
        return saved["step"], saved["history"]

    def save(self, step: int, history: list[dict[str, float]]) -> None:
        """Write it under its name once it is complete: a run that dies meanwhile leaves the one before."""
        state = {name: part.state_dict() for name, part in self._parts.items()}
        fresh = self._path.with_suffix(".new")
        torch.save(state | {"step": step, "history": history, "schedule": self._schedule}, fresh)
        fresh.replace(self._path)
