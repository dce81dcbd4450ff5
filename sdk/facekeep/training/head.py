"""The level "head" in plain NumPy: the last linear map on stored features. Needs neither pictures nor a runtime."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.training.loss import LossAndGradient, margin_loss
from facekeep.training.settings import TrainingSettings

# As `facekeep.embedding`: lengths outside this are a fault, not a direction.
_LEAST_LENGTH, _GREATEST_LENGTH = 1e-6, 1e18


def embed_features(head: NDArray[np.float32], features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (N, D) float32 unit vectors of (N, F) features: what the embedder with this head gives, within 1e-5.

    Args:
        head: (D, F) last linear map.
        features: (N, F), of the embedder's output `features`.

    Raises:
        FederationError: "federation.invalid_update" where that is no finite direction.
    """
    if features.ndim != 2 or features.shape[1] != head.shape[1]:
        raise ValueError(f"features are (N, {head.shape[1]}); found shape {features.shape}")
    with np.errstate(all="ignore"):  # what is not finite is refused on the next line
        raw = features.astype(np.float64) @ head.T.astype(np.float64)
        lengths = np.sqrt((raw * raw).sum(axis=1, keepdims=True))
    if not ((lengths >= _LEAST_LENGTH) & (lengths <= _GREATEST_LENGTH)).all():
        raise FederationError("federation.invalid_update", "The head gives a vector that is not finite or has no length.")
    unit: NDArray[np.float32] = (raw / lengths).astype(np.float32)
    return unit


def head_loss(
    head: NDArray[np.float32],
    features: NDArray[np.float32],
    centres: NDArray[np.float32],
    labels: NDArray[np.int64],
    references: NDArray[np.float32],
    settings: TrainingSettings,
) -> LossAndGradient:
    """Return loss and its gradient with respect to the (D, F) head, as a row of D * F numbers; arguments as `margin_loss`."""
    wide = features.astype(np.float64)
    loss, of_raw, unit = margin_loss(wide @ head.T.astype(np.float64), centres, labels, references, settings)
    return LossAndGradient(loss, (of_raw.T @ wide).ravel().astype(np.float32), unit.astype(np.float32))
