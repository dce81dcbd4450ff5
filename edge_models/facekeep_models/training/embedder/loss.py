"""What the student is asked for: the teacher's direction, and the teacher's relations within a batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def distillation_loss(student: Tensor, teacher: Tensor, *, relation: float) -> Tensor:
    """Return the mean of one minus cosine, plus `relation` times the mean squared difference of the two Gram matrices.

    Args:
        student: (N, D), of any length.
        teacher: (N, D) unit vectors.
        relation: weight of the relations (Park et al. 2019, Relational Knowledge Distillation, in cosine form).
    """
    unit = functional.normalize(student.float(), dim=1)
    direction = 1 - (unit * teacher).sum(dim=1)
    difference = unit @ unit.T - teacher @ teacher.T
    return direction.mean() + relation * difference.square().mean()
