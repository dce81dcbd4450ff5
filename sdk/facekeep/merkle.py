"""Merkle trees of RFC 6962 / RFC 9162 section 2.1: SHA-256, leaf prefix 0x00, node prefix 0x01."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Return the 32-byte hash of a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the tree head over leaf hashes, straight from the definition (the slow reference)."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(root_of(leaves[:split]), root_of(leaves[split:]))


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of an append-only tree: all that appending and the tree head need, O(log n) hashes.

    Attributes:
        size: number of leaves.
        edge: hashes of the complete subtrees that make up the tree, largest first, one for each bit set in `size`.
    """

    size: int = 0
    edge: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.edge) != self.size.bit_count() or any(len(item) != 32 for item in self.edge):
            raise ValueError("a frontier has one 32-byte hash for each bit set in its size")

    def append(self, leaf: bytes) -> Frontier:
        """Return the frontier after one more leaf hash."""
        edge, carry, bit = list(self.edge), leaf, self.size
        while bit & 1:
            carry = node_hash(edge.pop(), carry)
            bit >>= 1
        return Frontier(self.size + 1, (*edge, carry))

    def root(self) -> bytes:
        """Return the tree head."""
        if not self.edge:
            return EMPTY_ROOT
        root = self.edge[-1]
        for left in reversed(self.edge[:-1]):
            root = node_hash(left, root)
        return root


class SlotTree:
    """A tree whose leaves can be replaced: the fingerprint of a table, kept current in O(log n) hashes a change.

    Slots are numbered from 0. An empty slot counts as the leaf hash of no bytes, so removing a record changes the root
    and a removed record cannot be told from one that never was.
    """

    EMPTY = leaf_hash(b"")

    def __init__(self, leaves: Sequence[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [list(leaves)]
        while len(self._levels[-1]) > 1:
            self._levels.append(_parents(self._levels[-1]))

    def __len__(self) -> int:
        return len(self._levels[0])

    def replace(self, slot: int, leaf: bytes) -> None:
        """Set the leaf hash of `slot`, growing the tree with empty slots up to it."""
        while len(self) < slot:
            self._set(len(self), self.EMPTY)
        self._set(slot, leaf)

    def clear(self, slot: int) -> None:
        """Empty `slot`; trailing empty slots go, so that the tree has one shape for one content."""
        if slot >= len(self):
            return
        self._set(slot, self.EMPTY)
        bottom = self._levels[0]
        size = len(bottom)
        while size and bottom[size - 1] == self.EMPTY:
            size -= 1
        if size < len(bottom):
            self.__init__(bottom[:size])  # type: ignore[misc]

    def root(self) -> bytes:
        """Return the tree head."""
        return self._levels[-1][0] if self._levels[-1] else EMPTY_ROOT

    def _set(self, slot: int, value: bytes) -> None:
        level = 0
        while True:
            row = self._levels[level]
            if slot == len(row):
                row.append(value)
            else:
                row[slot] = value
            if len(row) == 1:
                return
            left = slot & ~1
            value = node_hash(row[left], row[left + 1]) if left + 1 < len(row) else row[left]
            level, slot = level + 1, slot >> 1
            if level == len(self._levels):
                self._levels.append([])
                if slot:
                    raise AssertionError("levels grow one at a time")


def _parents(row: list[bytes]) -> list[bytes]:
    pairs = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
    return [*pairs, row[-1]] if len(row) & 1 else pairs
