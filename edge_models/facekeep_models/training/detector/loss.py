"""How far an answer is from its targets."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from facekeep_models.training.detector.network import STRIDES
from facekeep_models.training.detector.targets import Targets
from facekeep_models.training.detector.validation import LANDMARK_POWER

BOX_WEIGHT: Final = 2.0
QUALITY_WEIGHT: Final = 0.5
_FOCUS: Final = 1.5


def detection_loss(
    maps: list[Tensor], targets: Targets, *, landmark_weight: float = 8.0, together: float = 0.0
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch, and its four parts for the curves.

    Args:
        maps: what `Detector.answers` returns, (N, 16, H / s, W / s) for each stride s.
        targets: what the batch was asked for.
        landmark_weight: weight of the landmarks' part.
        together: share of that part, 0 to 1, that is asked of the mean over the cells of a face in place of each cell alone.

    Presence is a focal cross entropy over all cells that are asked (Lin et al. 2017); for the cells of faces, quality is the
    overlap of the box that was answered, the box is held by generalised IoU (Rezatofighi et al. 2019), landmarks by their
    distance in units of the face's size.
    """
    flat = torch.cat([part.flatten(2).transpose(1, 2) for part in maps], dim=1)
    logits = flat[..., 1]
    asked = (targets.presence >= 0).float()
    wanted = targets.presence.clamp(min=0)
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    wrong = (logits.sigmoid().detach() - wanted).abs().pow(_FOCUS)
    count = max(len(targets.rows), 1)
    presence = (entropy * wrong * asked).sum() / count
    answers = flat.reshape(-1, flat.shape[-1])[targets.rows]
    corner, stride = _cells(maps)
    cell = targets.rows % len(corner)
    corner, stride = corner[cell], stride[cell]
    boxes, points = decoded(answers, corner, stride)
    overlap, generalised = _overlaps(boxes, targets.faces[:, :4])
    quality = functional.binary_cross_entropy_with_logits(answers[:, 0], overlap.detach(), reduction="sum") / count
    box = (1 - generalised).sum() / count
    size = (targets.faces[:, 2:4] - targets.faces[:, :2]).prod(dim=1, keepdim=True).clamp(min=1).sqrt()
    landmarks = ((points - targets.faces[:, 5:]).abs() / size).mean(dim=1).sum() / count
    if together:
        sure = (answers[:, 0].sigmoid() * answers[:, 1].sigmoid()).sqrt().detach()
        landmarks = (1 - together) * landmarks + together * _missed(points / size, targets, sure**LANDMARK_POWER)
    total = presence + QUALITY_WEIGHT * quality + BOX_WEIGHT * box + landmark_weight * landmarks
    parts = {"presence": presence, "quality": quality, "box": box, "landmarks": landmarks}
    return total, {name: float(value.detach()) for name, value in parts.items()}


def strayed(maps: list[Tensor], kept: list[Tensor], targets: Targets) -> Tensor:
    """Return how far presence and quality are from those of a network that is to be kept to, over all cells of the batch.

    A further stage that asks for better landmarks would otherwise pay with its finds. The detector counts the product of both, so
    quality matters too, which labels ask for in the cells of faces alone, wherever either network suspects a face.

    Args:
        maps: what `Detector.answers` returns.
        kept: the same of the other network, without gradients.
        targets: of the batch; they say only how many cells have faces, so that this weighs as the presence in `detection_loss`.
    """
    ours, theirs = (torch.cat([part[:, :2].flatten(2) for part in each], dim=2) for each in (maps, kept))
    wanted = theirs.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(theirs, wanted, reduction="none")
    distance = functional.binary_cross_entropy_with_logits(ours, wanted, reduction="none") - entropy
    suspected = torch.maximum(wanted[:, 1], ours[:, 1].sigmoid().detach())
    return (distance[:, 1] + suspected * distance[:, 0]).sum() / max(len(targets.rows), 1)


def _missed(points: Tensor, targets: Targets, weights: Tensor) -> Tensor:
    """Return how far the mean landmarks of the faces are off, weighted as the decoder does, in units of the face's size.

    Cells err together and apart: what they err apart, the decoder takes out, and need not be paid for. The mean of the lengths of
    five arrows, as in the figure of the card, halved to weigh as much as the mean of their two parts.

    Args:
        points: (P, 10) landmarks of each cell, over the size of its face.
        targets: of the batch.
        weights: (P,) of the cells, not negative.
    """
    faces, place = torch.unique(targets.owners, return_inverse=True)
    size = (targets.faces[:, 2:4] - targets.faces[:, :2]).prod(dim=1, keepdim=True).clamp(min=1).sqrt()
    weights = weights.clamp(min=1e-12)
    share = weights / weights.new_zeros(len(faces)).index_add(0, place, weights)[place]
    arrows = points.new_zeros(len(faces), 10).index_add(0, place, share[:, None] * (points - targets.faces[:, 5:] / size))
    return (arrows.reshape(-1, 5, 2).square().sum(dim=2) + 1e-8).sqrt().sum() / (10 * max(len(faces), 1))


def decoded(answers: Tensor, corner: Tensor, stride: Tensor) -> tuple[Tensor, Tensor]:
    """Return (P, 4) boxes and (P, 10) landmarks in pixels of (P, 16) answers, as the decoder of `yunet` reads them."""
    centre = (corner + answers[:, 2:4]) * stride
    half = answers[:, 4:6].exp() * stride / 2
    points = (corner.repeat(1, 5) + answers[:, 6:16]) * stride
    return torch.cat((centre - half, centre + half), dim=1), points


def _cells(maps: list[Tensor]) -> tuple[Tensor, Tensor]:
    corners, strides = [], []
    for part, stride in zip(maps, STRIDES, strict=True):
        rows, columns = part.shape[-2:]
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        corners.append(torch.stack((column.flatten(), row.flatten()), dim=1).float())
        strides.append(torch.full((rows * columns, 1), float(stride)))
    device = maps[0].device
    return torch.cat(corners).to(device), torch.cat(strides).to(device)


def _overlaps(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Return intersection over union, and its generalised form, of (P, 4) boxes one by one."""
    area = (ours[:, 2:] - ours[:, :2]).prod(dim=1) + (theirs[:, 2:] - theirs[:, :2]).prod(dim=1)
    inner = (torch.minimum(ours[:, 2:], theirs[:, 2:]) - torch.maximum(ours[:, :2], theirs[:, :2])).clamp(min=0).prod(dim=1)
    outer = (torch.maximum(ours[:, 2:], theirs[:, 2:]) - torch.minimum(ours[:, :2], theirs[:, :2])).prod(dim=1)
    union = (area - inner).clamp(min=1e-6)
    overlap = inner / union
    return overlap, overlap - (outer - union) / outer.clamp(min=1e-6)
