"""What a device minimises: a margin softmax of its captures against its own people and anchors, and staying what the model was.

The loss of the training kit (`facekeep.training`), for a batch of many devices at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from facekeep_models.training.federated.figures import embed_all
from facekeep_models.training.federated.fleet import Samples
from facekeep_models.training.federated.network import Network


@dataclass(frozen=True, slots=True)
class Objective:
    """Settings of the loss.

    Attributes:
        margin: what the cosine to the right person has to be larger by.
        scale: of cosines before the softmax.
        keep: weight of one minus the cosine to the reference: of a picture by day, the answer of the old model; of a degraded
            one, the template of the person.
        anchors: how many of the hardest anchors of each picture take part.
    """

    margin: float = 0.2
    scale: float = 24.0
    keep: float = 30.0
    anchors: int = 256


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Lesson:
    """The samples of a fleet as tensors on the device that computes, with what the model before training says of them.

    Attributes:
        crops: (N, 3, 112, 112) uint8.
        device: (N,) whose.
        centre: (N,) place of the person in `templates`.
        templates: (K, 256) unit vectors, enrolment pictures through the old model.
        owner: (K,) device of each template.
        anchors: (A, 256) unit vectors of people who do not exist, by day and as degraded cameras see them.
        weight: (N,) how often each capture is counted.
        share: (N,) the same as a share of all captures of its device: a mean over each device.
    """

    crops: Tensor
    device: Tensor
    centre: Tensor
    templates: Tensor
    owner: Tensor
    anchors: Tensor
    weight: Tensor
    share: Tensor

    def __len__(self) -> int:
        return len(self.device)


def lesson_of(network: Network, samples: Samples, anchors: Tensor, *, day_weight: float) -> Lesson:
    """Return `samples` as the old model sees them, pictures by day counted `day_weight` times."""
    weight = np.where(samples.is_day, day_weight, 1.0)
    counts = np.bincount(samples.device, weights=weight, minlength=samples.devices)
    home = network.device
    return Lesson(
        torch.from_numpy(np.ascontiguousarray(samples.crops.transpose(0, 3, 1, 2))).to(home),
        torch.from_numpy(samples.device).to(home),
        torch.from_numpy(samples.centre).to(home),
        embed_all(network, samples.enrolled, network.start),
        torch.from_numpy(samples.owner).to(home),
        anchors,
        torch.from_numpy(weight.astype(np.float32)).to(home),
        torch.from_numpy((weight / counts[samples.device]).astype(np.float32)).to(home),
    )


def losses(embeddings: Tensor, lesson: Lesson, places: Tensor, objective: Objective) -> Tensor:
    """Return (M,) the loss of each capture.

    Args:
        embeddings: (M, 256) unit vectors of the captures at `places`.
        lesson: of all.
        places: (M,).
        objective: settings.
    """
    own = lesson.templates[lesson.centre[places]]
    right = (embeddings * own).sum(dim=1)
    near = (embeddings @ lesson.anchors.T).topk(min(objective.anchors, len(lesson.anchors)), dim=1).values
    # The other people of the same device are as good as anchors, and never leave it.
    people, back = torch.unique(lesson.device[places], return_inverse=True)
    beside = torch.isin(lesson.owner, people).nonzero().flatten()
    others = embeddings @ lesson.templates[beside].T
    stranger = lesson.owner[beside][None, :] != people[back][:, None]
    others = others.masked_fill(stranger | (beside[None, :] == lesson.centre[places][:, None]), -torch.inf)
    logits = torch.cat([(right - objective.margin)[:, None], others, near], dim=1) * objective.scale
    target = torch.zeros(len(places), dtype=torch.int64, device=embeddings.device)
    return functional.cross_entropy(logits, target, reduction="none") + objective.keep * (1 - right)
