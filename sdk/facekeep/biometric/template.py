"""Embeddings and templates: vectors in the space of one contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric.arrays import frozen_copy
from facekeep.errors import ComparisonError

_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A probe: unit vector of one face sample. Stays on the device.

    Attributes:
        vector: (D,) float32 of length one.
        contract_id: which detector, alignment, embedder and preprocessing made it.
    """

    vector: NDArray[np.float32] = field(repr=False)
    contract_id: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "vector", _unit_vector(self.vector))

    def __repr__(self) -> str:
        return f"Embedding(dimension={self.dimension}, contract={self.contract_id[:12]})"

    @property
    def dimension(self) -> int:
        """Number of components."""
        return int(self.vector.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A stored reference, opened. Exists in memory only; at rest it is a sealed envelope.

    Attributes:
        vector: (D,) float32 of length one.
        contract_id: which detector, alignment, embedder and preprocessing made it.
        reference_id: identifier of this reference, random.
        enrolled_at: timezone-aware instant of enrolment.
    """

    vector: NDArray[np.float32] = field(repr=False)
    contract_id: str
    reference_id: str
    enrolled_at: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "vector", _unit_vector(self.vector))

    def __repr__(self) -> str:
        return f"Template(reference={self.reference_id}, contract={self.contract_id[:12]})"

    @property
    def dimension(self) -> int:
        """Number of components."""
        return int(self.vector.shape[0])


def _unit_vector(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    if vector.ndim != 1 or vector.dtype != np.float32 or vector.size == 0:
        raise ValueError("an embedding is a (D,) float32 vector")
    length = float(np.sqrt(vector @ vector))
    # A NaN compares false, so it lands here as well.
    if not abs(length - 1.0) <= _UNIT_TOLERANCE:
        raise ComparisonError("comparison.invalid_embedding", "The embedding is not a finite unit vector.")
    return frozen_copy(vector)
