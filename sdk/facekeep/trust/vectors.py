"""Reference crops: nobody's face, the same everywhere, to tell whether a model computes here what it computed where it was made."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import ReleaseError

REFERENCE_CROPS: Final = 4
# Runtimes and processors differ in the last digits, 8-bit ones in more. A model that lost its weights is nowhere near.
LEAST_COSINE: Final = 0.99
_CELLS: Final = 16
_CELL_PX: Final = 7


def reference_crops() -> NDArray[np.uint8]:
    """Return (4, 112, 112, 3) uint8 RGB: mosaics of 16 by 16 squares whose colours are SHAKE-256 of a label and the number."""
    crops = []
    for number in range(REFERENCE_CROPS):
        digest = hashlib.shake_256(b"facekeep reference crop v1\n" + bytes([number])).digest(_CELLS * _CELLS * 3)
        cells = np.frombuffer(digest, np.uint8).reshape(_CELLS, _CELLS, 3)
        crops.append(np.repeat(np.repeat(cells, _CELL_PX, axis=0), _CELL_PX, axis=1))
    return np.stack(crops)


def vectors_to_bytes(vectors: NDArray[np.float32]) -> bytes:
    """Return the bytes of the (4, D) float32 embeddings of the reference crops, little-endian."""
    return vectors.astype("<f4").tobytes()


def parse_vectors(data: bytes, dimension: int) -> NDArray[np.float32]:
    """Return the (4, D) float32 embeddings of `vectors_to_bytes`.

    Raises:
        ReleaseError: "release.malformed" if they are not unit vectors of this dimension.
    """
    if len(data) != 4 * REFERENCE_CROPS * dimension:
        raise ReleaseError("release.malformed", f"The vectors of a release are {REFERENCE_CROPS} rows of {dimension} numbers.")
    rows = np.frombuffer(data, "<f4").astype(np.float32).reshape(REFERENCE_CROPS, dimension)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    # A NaN compares false.
    if not bool(np.all(np.abs(lengths - 1.0) <= 1e-3)):
        raise ReleaseError("release.malformed", "The vectors of a release are unit vectors.")
    return rows
