"""How far an answer is from its targets."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from facekeep_models.training.detector.network import STRIDES
from facekeep_models.training.detector.targets import Targets

BOX_WEIGHT: Final = 2.0
QUALITY_WEIGHT: Final = 0.5
_FOCUS: Final = 1.5


def detection_loss(maps: list[Tensor], targets: Targets, *, landmark_weight: float = 8.0) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch, and its four parts for the curves.

    Args:
        maps: what `Detector.answers` returns, (N, 16, H / s, W / s) for each stride s.
        targets: what the batch was asked for.
        landmark_weight: weight of the landmarks' part.

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
    total = presence + QUALITY_WEIGHT * quality + BOX_WEIGHT * box + landmark_weight * landmarks
    parts = {"presence": presence, "quality": quality, "box": box, "landmarks": landmarks}
    return total, {name: float(value.detach()) for name, value in parts.items()}


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
