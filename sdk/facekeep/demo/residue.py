"""Searching the files of a vault for anything that came out of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_NEEDLE_BYTES: Final = 16
# Fewer different bytes than this (a black border, a run of zeros) occur anywhere by chance.
_LEAST_DIFFERENT: Final = 8
_PER_VALUE: Final = 4096


@dataclass(frozen=True, slots=True)
class ResidueReport:
    """What a search found.

    Attributes:
        files: number of files read.
        size_bytes: their size together.
        needles: number of 16-byte pieces looked for.
        found: which kinds of value left a piece behind, by file; empty is what one hopes for.
        is_control_found: whether the same search found pieces planted among random bytes, so that finding nothing means something.
    """

    files: int
    size_bytes: int
    needles: int
    found: tuple[str, ...]
    is_control_found: bool

    @property
    def is_clean(self) -> bool:
        """Whether a search that works found nothing."""
        return not self.found and self.is_control_found


class Needles:
    """Pieces of what must not be on the disk.

    Any unbroken run of 31 bytes of a vector or an aligned sample holds one of its pieces; of a frame, they are spread evenly.
    """

    def __init__(self) -> None:
        self._kinds: dict[bytes, str] = {}
        self._seen: set[int] = set()

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, kind: str, values: NDArray[Any]) -> None:
        """Remember a value; a vector also as it would look in half and double precision."""
        data = values.tobytes()
        # The same sample is embedded for every claim: its pieces are known already.
        fingerprint = hash(data)
        if fingerprint in self._seen:
            return
        self._seen.add(fingerprint)
        self.add_bytes(kind, data)
        if values.dtype.kind == "f":
            for other in (np.float16, np.float64):
                self.add_bytes(kind, values.astype(other).tobytes())

    def add_bytes(self, kind: str, data: bytes) -> None:
        """Remember bytes; of a long value, pieces spread evenly over it."""
        count = len(data) // _NEEDLE_BYTES
        step = max(1, count // _PER_VALUE)
        for number in range(0, count, step):
            piece = data[number * _NEEDLE_BYTES : (number + 1) * _NEEDLE_BYTES]
            if len(set(piece)) >= _LEAST_DIFFERENT:
                self._kinds.setdefault(piece, kind)

    def search(self, directory: Path, random_bytes: bytes) -> ResidueReport:
        """Search every file below `directory`.

        Args:
            directory: where the vault lies.
            random_bytes: the control: bytes among which one piece is planted and has to be found.
        """
        files = size = 0
        found: set[str] = set()
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                files, size = files + 1, size + len(content)
                found |= {f"{kind} in {path.name}" for kind in self._search_bytes(content)}
        planted = next(iter(self._kinds), b"")
        control = self._search_bytes(random_bytes[:100] + planted + random_bytes[100:])
        return ResidueReport(files, size, len(self), tuple(sorted(found)), bool(control))

    def _search_bytes(self, content: bytes) -> set[str]:
        pieces = (content[start : start + _NEEDLE_BYTES] for start in range(len(content) - _NEEDLE_BYTES + 1))
        return {self._kinds[piece] for piece in pieces if piece in self._kinds}
