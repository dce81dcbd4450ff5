"""What devices send: the change of a few local steps, each device with parameters of its own, many devices in one batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from facekeep_models.training.federated.network import Network
from facekeep_models.training.federated.objective import Lesson, Objective, losses


@dataclass(frozen=True, slots=True)
class LocalPlan:
    """How a device trains in one round.

    Attributes:
        steps: over all its captures.
        rate: length of a step.
        clip: largest L2 norm of what it sends.
    """

    steps: int
    rate: float
    clip: float


def device_changes(
    network: Network, parameters: Tensor, lesson: Lesson, first: int, last: int, objective: Objective, plan: LocalPlan
) -> Tensor:
    """Return (last - first, P) the clipped changes of devices.

    Args:
        network: what is trained.
        parameters: (P,) of all devices at the start of the round.
        lesson: captures of all devices, in rising order of devices.
        first: first device.
        last: one after the last.
        objective: the loss.
        plan: of the round.
    """
    low, high = torch.searchsorted(lesson.device, torch.tensor([first, last], device=lesson.device.device)).tolist()
    places = torch.arange(low, high, device=lesson.device.device)
    rows = lesson.device[places] - first
    crops = lesson.crops[places].float()
    change = torch.zeros(last - first, len(parameters), device=parameters.device)
    for _ in range(plan.steps):
        change.requires_grad_()
        own = parameters + change
        loss = losses(network.embed(crops, own[rows]), lesson, places, objective) * lesson.share[places]
        (gradient,) = torch.autograd.grad(loss.sum(), change)
        change = (change - plan.rate * gradient).detach()
    norms = change.norm(dim=1, keepdim=True)
    return change * (plan.clip / norms.clamp(min=1e-12)).clamp(max=1)
