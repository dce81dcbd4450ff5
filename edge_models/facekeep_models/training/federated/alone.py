"""What a federation is compared with: all captures in one place, and each device by itself."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from facekeep_models.training.federated.figures import quick
from facekeep_models.training.federated.fleet import Scenes
from facekeep_models.training.federated.local import LocalPlan, device_changes
from facekeep_models.training.federated.network import Network
from facekeep_models.training.federated.objective import Lesson, Objective, losses

_STREAM = 0xA10E
LOCAL_STEPS = 30
LOCAL_RATES = (3e-5, 1e-4, 3e-4)


def train_centrally(
    network: Network, lesson: Lesson, objective: Objective, *, epochs: int = 6, batch: int = 256, rate: float = 0.005, seed: int
) -> Tensor:
    """Return the parameters after Adam over the pooled captures, its rate falling to nothing along a cosine."""
    parameters = network.start.clone().requires_grad_()
    optimiser = torch.optim.Adam([parameters], rate, betas=(0.9, 0.99))
    random = np.random.default_rng([_STREAM, seed])
    batches = [part for _ in range(epochs) for part in _batches(random.permutation(len(lesson)), batch)]
    usual = lesson.weight.mean()
    for number, part in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * number / len(batches)))
        places = torch.from_numpy(part).to(network.device)
        found = losses(network.embed(lesson.crops[places].float(), parameters), lesson, places, objective)
        optimiser.zero_grad()
        (found * lesson.weight[places] / usual).mean().backward()
        optimiser.step()
    return parameters.detach()


def _batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, max(1, len(order) - size + 1), size)]


def train_alone(
    network: Network, lesson: Lesson, objective: Objective, validation: Scenes, *, devices: int, seed: int
) -> list[Tensor]:
    """Return the parameters of some devices that each trained by themselves, with the step that served validation people best."""
    # Who is where is a draw already: neighbours are as good as any.
    first = int(np.random.default_rng([_STREAM, seed]).integers(max(1, int(lesson.device.max()) + 2 - devices)))
    last = min(first + devices, int(lesson.device.max()) + 1)
    tried = []
    for rate in LOCAL_RATES:
        plan = LocalPlan(LOCAL_STEPS, rate, math.inf)
        tried.append(list(network.start + device_changes(network, network.start, lesson, first, last, objective, plan)))
    few = [np.mean([quick(network, each, validation)["day-night 1e-02"] for each in models[:4]]) for models in tried]
    return tried[int(np.argmax(few))]
