"""Inclusion and consistency proofs of RFC 9162 (and RFC 6962, whose proofs are the same), made and verified."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Protocol

from facekeep.errors import LogError
from facekeep.merkle import EMPTY_ROOT, node_hash


class HashReader(Protocol):
    """Gives hashes of complete subtrees of a log."""

    def read(self, level: int, index: int) -> bytes:
        """Return the hash over the 2**level entries from index * 2**level on; level 0 is a leaf hash."""
        ...


def tree_root(reader: HashReader, size: int) -> bytes:
    """Return the tree head over the first `size` entries."""
    return _range_hash(reader, 0, size) if size else EMPTY_ROOT


def make_inclusion(reader: HashReader, index: int, size: int) -> tuple[bytes, ...]:
    """Return the audit path of entry `index` in the tree of `size` entries, the leaf's sibling first (RFC 9162 2.1.3.1).

    Raises:
        ValueError: if the tree has no such entry.
    """
    if not 0 <= index < size:
        raise ValueError("an entry is included in a tree that is longer than its index")
    path, low, high = [], 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append((middle, high))
            high = middle
        else:
            path.append((low, middle))
            low = middle
    return tuple(_range_hash(reader, start, end) for start, end in reversed(path))


def make_consistency(reader: HashReader, old: int, new: int) -> tuple[bytes, ...]:
    """Return the proof that the tree of `new` entries begins with that of `old` (RFC 9162 2.1.4.1); empty if `old` is 0 or `new`.

    Raises:
        ValueError: if `old` is larger than `new` or negative.
    """
    if not 0 <= old <= new:
        raise ValueError("a tree is consistent with one that is not longer")
    if old in (0, new):
        return ()
    path, low, high, whole = [], 0, new, True
    while old - low != high - low:
        middle = low + _split(high - low)
        if old <= middle:
            path.append((middle, high))
            high = middle
        else:
            path.append((low, middle))
            low, whole = middle, False
    if not whole:
        path.append((low, high))
    return tuple(_range_hash(reader, start, end) for start, end in reversed(path))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Return if `leaf` is the hash of entry `index` of the tree with this size and root (RFC 9162 2.1.3.2).

    Raises:
        LogError: "log.bad_proof".
    """
    if not 0 <= index < size:
        raise _bad("The entry lies outside the tree")
    first, last, value = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise _bad("The inclusion proof is too long")
        if first & 1 or first == last:
            value = node_hash(sibling, value)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        first, last = first >> 1, last >> 1
    if last != 0 or not hmac.compare_digest(value, root):
        raise _bad("The inclusion proof does not lead to the root")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Return if the tree of `new` entries begins with that of `old` (RFC 9162 2.1.4.2).

    Raises:
        LogError: "log.bad_proof".
    """
    if not 0 <= old <= new:
        raise _bad("A tree continues one that is not longer")
    if old in (0, new):
        same = hmac.compare_digest(old_root, new_root if old == new else EMPTY_ROOT)
        empty = old != 0 or hmac.compare_digest(old_root, EMPTY_ROOT)
        if proof or not same or not empty:
            raise _bad("The two trees differ")
        return
    path = list(proof)
    if not old & (old - 1):
        path.insert(0, old_root)
    if not path:
        raise _bad("The consistency proof is empty")
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old_value = new_value = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise _bad("The consistency proof is too long")
        if first & 1 or first == last:
            old_value, new_value = node_hash(sibling, old_value), node_hash(sibling, new_value)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new_value = node_hash(new_value, sibling)
        first, last = first >> 1, last >> 1
    if last != 0 or not hmac.compare_digest(old_value, old_root) or not hmac.compare_digest(new_value, new_root):
        raise _bad("The consistency proof does not lead from the old root to the new one")


def _split(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


def _range_hash(reader: HashReader, low: int, high: int) -> bytes:
    # `low` is a multiple of the largest power of two within: the range falls apart into complete subtrees, largest first.
    parts = []
    while low < high:
        level = (high - low).bit_length() - 1
        parts.append(reader.read(level, low >> level))
        low += 1 << level
    value = parts.pop()
    while parts:
        value = node_hash(parts.pop(), value)
    return value


def _bad(what: str) -> LogError:
    return LogError("log.bad_proof", f"{what}.")
