"""How values own their arrays: a private, read-only copy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def frozen_copy(array: NDArray[Any]) -> NDArray[Any]:
    """Return a contiguous read-only copy, so that neither the caller nor a holder can change the value."""
    copy = np.array(array, order="C", copy=True)
    copy.flags.writeable = False
    return copy


def wipe(array: NDArray[Any]) -> None:
    """Overwrite an array that owns its memory with zeros, read-only or not.

    Best effort, as anything is under a garbage collector: copies made by others are out of reach.
    """
    array.flags.writeable = True
    array.fill(0)
