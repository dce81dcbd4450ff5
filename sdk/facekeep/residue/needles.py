"""What is searched for: every 16-byte window of every secret, in every form it might be written in.

A window is kept as one 64-bit number; a table of bits answers "certainly not" for almost every position of what is searched,
so that megabytes of writes cost a fraction of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.residue.forms import Form

WINDOW_BYTES: Final = 16
# Odd multipliers with well-spread bits (the fractions of the golden ratio and of the square root of three).
_FIRST: Final = np.uint64(0x9E3779B97F4A7C15)
_SECOND: Final = np.uint64(0xBB67AE8584CAA73B)
_TABLE_BITS: Final = 25
_SHIFT: Final = np.uint64(64 - _TABLE_BITS)
# A window of few different bytes is a flat surface or padding: it says nothing of a picture and occurs everywhere.
_FEWEST_DIFFERENT_BYTES: Final = 5
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Hit:
    """A window of a secret, found.

    Attributes:
        label: which secret in which form.
        offset: where in the bytes that were searched.
    """

    label: str
    offset: int


class Needles:
    """A set of windows to search for.

    Args:
        forms: the secrets, each in one form.
    """

    def __init__(self, forms: list[Form]) -> None:
        self._labels = [form.label for form in forms]
        keys, owners = [], []
        for number, form in enumerate(forms):
            found = _windows(form.data, form.stride)
            keys.append(found)
            owners.append(np.full(found.shape, number, np.int32))
        every = np.concatenate(keys) if keys else np.empty(0, np.uint64)
        order = np.argsort(every, kind="stable")
        self._keys: NDArray[np.uint64] = every[order]
        self._owners = np.concatenate(owners)[order] if owners else np.empty(0, np.int32)
        self._table = np.zeros(1 << _TABLE_BITS, np.bool_)
        self._table[(self._keys >> _SHIFT).astype(np.int64)] = True

    @property
    def count(self) -> int:
        """Number of windows."""
        return int(self._keys.size)

    def search(self, data: bytes | bytearray) -> list[Hit]:
        """Return the first hit of every label that occurs in `data`."""
        first: dict[int, int] = {}
        for start in range(0, max(len(data) - WINDOW_BYTES + 1, 0), _BLOCK):
            # Blocks overlap by a window less one byte, so that none is missed at a border.
            self._search_block(bytes(data[start : start + _BLOCK + WINDOW_BYTES - 1]), start, first)
        return [Hit(self._labels[owner], offset) for owner, offset in sorted(first.items(), key=lambda item: item[1])]

    def _search_block(self, block: bytes, start: int, first: dict[int, int]) -> None:
        for shift in range(8):
            count = (len(block) - shift) // 8
            if count < 2:
                continue
            words = np.frombuffer(block, "<u8", count=count, offset=shift)
            keys = _mixed(words[:-1], words[1:])
            candidates = np.flatnonzero(self._table[(keys >> _SHIFT).astype(np.int64)])
            places = np.searchsorted(self._keys, keys[candidates])
            places[places == self._keys.size] = 0
            for index in np.flatnonzero(self._keys[places] == keys[candidates]) if self._keys.size else ():
                owner, offset = int(self._owners[places[index]]), start + shift + 8 * int(candidates[index])
                first[owner] = min(offset, first.get(owner, offset))


def _windows(data: bytes, stride: int) -> NDArray[np.uint64]:
    """Return the keys of the telling windows of `data`, one every `stride` bytes."""
    if len(data) < WINDOW_BYTES:
        return np.empty(0, np.uint64)
    every = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), WINDOW_BYTES)[::stride]
    parts = []
    for start in range(0, len(every), 1 << 16):
        part = np.ascontiguousarray(every[start : start + (1 << 16)])
        ordered = np.sort(part, axis=1)
        telling = (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1) >= _FEWEST_DIFFERENT_BYTES - 1
        words = part[telling].view("<u8")
        parts.append(np.unique(_mixed(words[:, 0], words[:, 1])))
    return np.unique(np.concatenate(parts))


def _mixed(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return one number for the two halves of each window; different windows meet by chance once in 2^64."""
    keys: NDArray[np.uint64] = (first * _FIRST) ^ ((second * _SECOND) >> np.uint64(7))
    keys *= _FIRST
    return keys
