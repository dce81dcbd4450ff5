"""What the tests of privacy share: repeatable randomness, and a seed that is printed when a test fails."""

from __future__ import annotations

import hashlib
import os


class Seeded:
    """Repeatable randomness. `FACEKEEP_TEST_SEED=N` draws other numbers; the seed is printed, so pytest shows it on failure."""

    def __init__(self, seed: int | str) -> None:
        self.seed, self.count = f"{os.environ.get('FACEKEEP_TEST_SEED', '0')} {seed}", 0
        print(f"FACEKEEP_TEST_SEED={self.seed.split()[0]}, stream {seed}")

    def token(self, size: int) -> bytes:
        self.count += 1
        return hashlib.shake_256(f"{self.seed} {self.count}".encode()).digest(size)
