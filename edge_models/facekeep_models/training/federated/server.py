"""Rounds of a fleet: every device sends one change, the server sees a sum and steers by Adam. Checkpointed after each round."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facekeep_models.training.federated.local import LocalPlan, device_changes
from facekeep_models.training.federated.mechanism import Mechanism
from facekeep_models.training.federated.network import Network
from facekeep_models.training.federated.objective import Lesson
from facekeep_models.training.federated.recommended import Plan

_STREAM: Final = 0xD209
_NEVER_ZERO: Final = 1e-8
Watch = Callable[[int, Tensor], dict[str, float]]


def train_fleet(
    network: Network,
    lesson: Lesson,
    plan: Plan,
    *,
    seed: int,
    work: Path,
    name: str,
    watch: Watch | None = None,
    members: NDArray[np.bool_] | None = None,
    exact: bool = True,
    start: Tensor | None = None,
    chunk: int = 0,
) -> tuple[Tensor, list[dict[str, float]]]:
    """Return the parameters after all rounds, and what was watched along the way.

    Args:
        network: what is trained.
        lesson: captures of all devices.
        plan: settings.
        seed: of drop-outs, rounding and noise.
        work: where checkpoints and noise are kept; a run that was stopped goes on from there.
        name: of the checkpoint.
        watch: measures a model after some rounds; may return nothing.
        members: (D,) which devices are of the fleet; all unless told.
        exact: noise and rounding of the devices themselves; else a Gaussian of the same variance, for many runs of an attack.
        start: parameters to begin with; the model that ships unless told.
        chunk: devices computed at once.
    """
    devices = int(lesson.device.max()) + 1
    fleet = np.flatnonzero(members) if members is not None else np.arange(devices)
    mechanism = Mechanism.of(plan, devices=len(fleet), length=len(network.start)) if plan.epsilon else None
    local = LocalPlan(plan.local_steps, plan.local_rate, plan.clip)
    size = chunk or (192 if network.device == "cuda" else 12)
    at, first, second = (
        (start if start is not None else network.start).clone(),
        *(torch.zeros_like(network.start) for _ in range(2)),
    )
    begun, history = 0, []
    file = work / f"{name}.npz"
    if file.exists():
        with np.load(file, allow_pickle=False) as kept:
            begun = int(kept["round"])
            at, first, second = (torch.from_numpy(kept[key]).to(network.device) for key in ("at", "first", "second"))
            names = [str(each) for each in kept["watched"]]
            history = [dict(zip(names, row, strict=True)) for row in kept["history"].tolist()]
    for number in range(begun, plan.rounds):
        # 1 who answers
        random = np.random.default_rng([_STREAM, seed, number])
        present = np.sort(random.permutation(fleet)[: len(fleet) - int(len(fleet) * plan.dropped)])
        # 2 what they send
        total = np.zeros(len(at))
        sent: list[NDArray[np.float32]] = []
        for low in range(0, devices, size):
            high = min(devices, low + size)
            some = present[(present >= low) & (present < high)]
            if len(some):
                changes = device_changes(network, at, lesson, low, high, plan.objective, local)[torch.from_numpy(some - low)]
                if mechanism is not None and exact:
                    sent.append(changes.cpu().numpy())
                else:
                    total += changes.sum(dim=0).double().cpu().numpy()
        # 3 what the server gets
        if mechanism is not None and exact:
            noise = mechanism.noise(len(present), number, seed=seed, keep=work / "noise")
            total = mechanism.summed(np.concatenate(sent), noise, seed=seed, number=number)
        elif mechanism is not None:
            spread = math.sqrt(len(present) * mechanism.variance) * mechanism.scale.step
            total += random.normal(0, spread, len(at))
        # 4 a step of Adam (Kingma and Ba 2015): it sees noised sums only, so it costs no privacy
        mean = torch.from_numpy((total / len(present)).astype(np.float32)).to(network.device)
        first = torch.lerp(mean, first, plan.server_momentum)
        second = torch.lerp(mean.square(), second, plan.server_memory)
        rate = plan.server_rate * 0.5 * (1 + math.cos(math.pi * number / plan.rounds))
        shrunk, wide = (1 - each ** (number + 1) for each in (plan.server_momentum, plan.server_memory))
        at = at + rate * (first / shrunk) / ((second / wide).sqrt() + _NEVER_ZERO)
        # 5 keep
        if watch is not None and (seen := watch(number + 1, at)):
            history.append({"round": float(number + 1), **seen})
        _save(file, number + 1, at, first, second, history)
    return at, history


def _save(file: Path, number: int, at: Tensor, first: Tensor, second: Tensor, history: list[dict[str, float]]) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_suffix(".part.npz")
    names = np.array(list(history[0]) if history else [], dtype=np.str_)
    rows = np.array([list(row.values()) for row in history], np.float64).reshape(len(history), len(names))
    vectors = {key: value.cpu().numpy() for key, value in (("at", at), ("first", first), ("second", second))}
    np.savez(part, round=number, history=rows, watched=names, **vectors)
    part.replace(file)
