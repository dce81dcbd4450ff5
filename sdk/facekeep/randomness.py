"""Randomness as an argument, so that simulators can be seeded and nothing is patched."""

from __future__ import annotations

import os
from typing import Protocol


class Randomness(Protocol):
    """Gives unpredictable bytes."""

    def token(self, size: int) -> bytes:
        """Return `size` fresh bytes."""
        ...


class SystemRandomness:
    """The operating system's generator: the only one fit for keys, nonces and salts."""

    def token(self, size: int) -> bytes:
        """Return `size` bytes of `os.urandom`."""
        return os.urandom(size)
