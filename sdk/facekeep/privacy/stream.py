"""A keyed stream of uniform numbers: HKDF-SHA256 (RFC 5869) over a full 32-byte seed, then ChaCha20 (RFC 8439) over zeros.

ChaCha20 and not AES-CTR: the small boards this is meant for (Raspberry Pi 4) have no AES instructions, and there ChaCha20 is
several times faster. Both come from the `cryptography` package; nothing here is a cipher of our own.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

SEED_SIZE = 32


def bind(label: bytes, *parts: bytes) -> bytes:
    """Return `label` and every part with its length before it, so that no two lists of parts spell the same context."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in (label, *parts))


def derive(seed: bytes, context: bytes, *, salt: bytes | None = None) -> bytes:
    """Return 32 bytes of HKDF-SHA256 over `seed` for this context alone.

    Raises:
        ValueError: if the seed has not 32 bytes. A shorter one would be a seed that somebody folded.
    """
    if len(seed) != SEED_SIZE:
        raise ValueError(f"a seed has {SEED_SIZE} bytes, not {len(seed)}")
    return HKDF(SHA256(), 32, salt, context).derive(seed)


class Stream:
    """Uniform numbers that the holder of the seed, and nobody else, can make again.

    Not for two threads at once; what was taken never comes a second time.
    """

    def __init__(self, seed: bytes, context: bytes) -> None:
        self._cipher = Cipher(ChaCha20(derive(seed, context), bytes(16)), mode=None).encryptor()

    def words32(self, size: int) -> NDArray[np.uint32]:
        """Return (size,) uint32, uniform."""
        return np.frombuffer(self._cipher.update(bytes(4 * size)), "<u4").astype(np.uint32, copy=False)

    def words64(self, size: int) -> NDArray[np.uint64]:
        """Return (size,) uint64, uniform."""
        return np.frombuffer(self._cipher.update(bytes(8 * size)), "<u8").astype(np.uint64, copy=False)

    def below(self, bound: int, size: int) -> NDArray[np.uint64]:
        """Return (size,) uint64, uniform over 0 .. bound - 1, exactly: words beyond the last whole multiple are drawn again.

        Raises:
            ValueError: if `bound` is not within 1 .. 2**63.
        """
        if not 1 <= bound <= 2**63:
            raise ValueError("a bound lies between 1 and 2**63")
        largest, words = np.uint64(2**64 - 1 - (2**64 % bound)), self.words64(size)
        while (over := np.flatnonzero(words > largest)).size:
            words = words.copy() if not words.flags.writeable else words
            words[over] = self.words64(over.size)
        return words % np.uint64(bound)

    def permutation(self, size: int) -> NDArray[np.int64]:
        """Return a uniform order of 0 .. size - 1: the order of as many 64-bit words, the same on every machine.

        Two equal words would favour the lower number; that happens with probability below size**2 / 2**65.
        """
        return np.argsort(self.words64(size), kind="stable").astype(np.int64, copy=False)
