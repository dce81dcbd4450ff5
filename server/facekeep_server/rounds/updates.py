"""Where masked updates lie until it is settled who is in the sum. Each is uniform noise to whoever has it.

On the disk they are kept by `facekeep_server.federation.updates`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class MaskedUpdates(Protocol):
    """Keeps one vector for each place of the cohort. MUST give back what was put, also after the process died."""

    def put(self, place: int, vector: NDArray[np.uint32]) -> None:
        """Keep the vector of a place, in the place of one kept before."""
        ...

    def get(self, place: int) -> NDArray[np.uint32] | None:
        """Return the vector of a place, or None."""
        ...

    def clear(self) -> None:
        """Destroy all of them."""
        ...


class UpdatesInMemory:
    """The test double; and enough where a checkpoint need not survive the process."""

    def __init__(self) -> None:
        self._vectors: dict[int, NDArray[np.uint32]] = {}

    def put(self, place: int, vector: NDArray[np.uint32]) -> None:
        """Keep a vector."""
        self._vectors[place] = vector

    def get(self, place: int) -> NDArray[np.uint32] | None:
        """Return a vector."""
        return self._vectors.get(place)

    def clear(self) -> None:
        """Destroy all."""
        self._vectors.clear()
