"""Bytes that look like a template, a key or a picture: as many different ones in a row as text and records never have. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

# 256 random bytes have 162 different values on the average, 64 float32 of a unit vector about 130, 128 float16 about 110.
# English, JSON, hexadecimal and Base64 stay below 70.
WINDOW_BYTES: Final = 256
_STRIDE: Final = 64
_FEWEST_DIFFERENT: Final = 100
_BLOCK: Final = 1 << 14
_HEX_RUN: Final = re.compile(rb"[0-9a-fA-F]{%d,}" % (2 * WINDOW_BYTES))
_BASE64_RUN: Final = re.compile(rb"[A-Za-z0-9+/_-]{%d,}" % (WINDOW_BYTES * 4 // 3))


@dataclass(frozen=True, slots=True)
class DenseRun:
    """A run of bytes too rich for text.

    Attributes:
        offset: where it begins.
        size: how long it is, to the window.
        encoding: "" as it lies, or "hexadecimal" or "Base64".
    """

    offset: int
    size: int
    encoding: str


def dense_runs(data: bytes) -> Iterator[DenseRun]:
    """Yield every run of template size or more, plain, in hexadecimal and in Base64.

    A vector quantised to a few levels is not found this way, nor is anything that is made to look like text: this is the search
    for what nobody meant to hide. Vectors that are known are found by `facekeep.residue.search`.
    """
    yield from _runs(data, "", 0)
    for found in _HEX_RUN.finditer(data):
        run = found.group()
        yield from _runs(bytes.fromhex(run[: len(run) & ~1].decode("ascii")), "hexadecimal", found.start())
    for found in _BASE64_RUN.finditer(data):
        if not _HEX_RUN.fullmatch(found.group()):
            run = found.group().replace(b"-", b"+").replace(b"_", b"/")
            yield from _runs(base64.b64decode(run[: len(run) & ~3]), "Base64", found.start())


def _runs(data: bytes, encoding: str, at: int) -> Iterator[DenseRun]:
    dense = _dense_windows(data)
    start = end = -1
    for place in dense:
        if place > end:
            if start >= 0:
                yield _run(start, end, encoding, at)
            start = place
        end = place + WINDOW_BYTES
    if start >= 0:
        yield _run(start, min(end, len(data)), encoding, at)


def _run(start: int, end: int, encoding: str, at: int) -> DenseRun:
    return DenseRun(at if encoding else start, end - start, encoding)


def _dense_windows(data: bytes) -> list[int]:
    # The last window is filled up with zeros: a blob at the end of a file is one as well.
    padded = np.frombuffer(data + bytes(WINDOW_BYTES - _STRIDE), np.uint8)
    if padded.size < WINDOW_BYTES:
        return []
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_BYTES)[::_STRIDE]
    found: list[int] = []
    for start in range(0, len(windows), _BLOCK):
        ordered = np.sort(windows[start : start + _BLOCK], axis=1)
        different = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)
        found += [_STRIDE * (start + int(place)) for place in np.flatnonzero(different >= _FEWEST_DIFFERENT)]
    return found
