"""The loss of local training in NumPy, equal to the one inside `train.onnx`: margin softmax against anchors, and staying near."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facekeep.training.settings import TrainingSettings


@dataclass(frozen=True, slots=True, eq=False)
class LossAndGradient:
    """What one look at a batch says.

    Attributes:
        loss: mean over the batch.
        gradient: of the loss, in the shape of what was differentiated.
        embeddings: (N, D) float32 unit vectors.
    """

    loss: float
    gradient: NDArray[np.float32] = field(repr=False)
    embeddings: NDArray[np.float32] = field(repr=False)


def margin_loss(
    raw: NDArray[np.float64],
    centres: NDArray[np.float32],
    labels: NDArray[np.int64],
    references: NDArray[np.float32],
    settings: TrainingSettings,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return loss, its gradient with respect to `raw`, and the unit vectors.

    loss = mean CE(scale * (cos - margin * own)) + keep * mean(1 - <unit, reference>); CosFace, Wang et al. 2018, equation 4.

    Args:
        raw: (N, D) of any length.
        centres: (K, D) unit vectors: the device's own people first, then anchors.
        labels: (N,) rows of `centres`.
        references: (N, D) unit vectors of the old model.
        settings: margin, scale, keep.
    """
    count, rows = len(raw), np.arange(len(raw))
    # Callers refuse what is not finite: here it would be one warning for each operation.
    with np.errstate(all="ignore"):
        length = np.sqrt((raw * raw).sum(axis=1, keepdims=True))
        unit = raw / length
        cosines = unit @ centres.T.astype(np.float64)
        cosines[rows, labels] -= settings.margin
        logits = settings.scale * cosines
        logits -= logits.max(axis=1, keepdims=True)
        log_chances = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        near = (unit * references).sum(axis=1)
        loss = float((-log_chances[rows, labels] + settings.keep * (1 - near)).mean())
        wrong = np.exp(log_chances)
        wrong[rows, labels] -= 1
        towards = (settings.scale * (wrong @ centres.astype(np.float64)) - settings.keep * references) / count
        gradient = (towards - unit * (towards * unit).sum(axis=1, keepdims=True)) / length
    return loss, gradient, unit
