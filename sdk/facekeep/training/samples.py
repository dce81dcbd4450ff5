"""What a device trains on, held for the time of one training and never sent: its people's pictures or features, and centres."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import FederationError

_CROP = (112, 112, 3)
# Unit to within what float32 arithmetic leaves.
UNIT_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSamples:
    """Samples of one to a few people, all of them with consent to federated training.

    Attributes:
        labels: (N,) int64 rows of the centres.
        crops: (N, 112, 112, 3) uint8 RGB aligned crops; needed by the levels "channels" and "deep".
        features: (N, F) float32, what the last linear map is applied to; enough for the level "head".
        references: (N, D) float32 unit vectors of the old model; those of the model at the start of the training if left out.

    Raises:
        ValueError: if they do not belong together.
    """

    labels: NDArray[np.int64] = field(repr=False)
    crops: NDArray[np.uint8] | None = field(default=None, repr=False)
    features: NDArray[np.float32] | None = field(default=None, repr=False)
    references: NDArray[np.float32] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.dtype != np.int64 or len(self.labels) == 0 or self.labels.min() < 0:
            raise ValueError("labels are (N,) int64 rows of the centres, one sample at the least")
        if self.crops is None and self.features is None:
            raise ValueError("samples are crops, or features, or both")
        if self.crops is not None and (self.crops.shape != (len(self), *_CROP) or self.crops.dtype != np.uint8):
            raise ValueError("crops are (N, 112, 112, 3) uint8")
        for name in ("features", "references"):
            rows: NDArray[Any] | None = getattr(self, name)
            if rows is not None and (rows.ndim != 2 or len(rows) != len(self) or rows.dtype != np.float32):
                raise ValueError(f"{name} are (N, numbers) float32")
        # Views, not copies: whoever wipes the arrays after the training wipes them here as well, and no second copy of a face is
        # left in memory. Read-only, so that nothing here changes them.
        for name in ("labels", "crops", "features", "references"):
            given: NDArray[Any] | None = getattr(self, name)
            if given is not None:
                view = given.view()
                view.flags.writeable = False
                object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.labels)


def require_units(rows: NDArray[np.float32], dimension: int, what: str) -> NDArray[np.float32]:
    """Return `rows` if they are (N, dimension) unit vectors.

    Raises:
        FederationError: "federation.invalid_update": training on them would give numbers that mean nothing.
    """
    if rows.ndim != 2 or rows.shape[1] != dimension or rows.dtype != np.float32 or len(rows) == 0:
        raise FederationError("federation.invalid_update", f"The {what} are not vectors of {dimension} numbers.")
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    # Not the other way round: a NaN compares false.
    if not (np.abs(lengths - 1) <= UNIT_TOLERANCE).all():
        raise FederationError("federation.invalid_update", f"The {what} are not finite unit vectors.")
    return rows
