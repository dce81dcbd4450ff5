"""Searching the files of a vault for anything that came out of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.residue.forms import Form
from facekeep.residue.needles import WINDOW_BYTES
from facekeep.residue.needles import Needles as Windows

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
        self._forms: list[Form] = []
        self._seen: set[int] = set()

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
        step = max(1, len(data) // WINDOW_BYTES // _PER_VALUE)
        self._forms.append(Form(kind, data, WINDOW_BYTES * step))

    def search(self, directory: Path, random_bytes: bytes) -> ResidueReport:
        """Search every file below `directory`.

        Args:
            directory: where the vault lies.
            random_bytes: the control: bytes among which one piece is planted and has to be found.
        """
        pieces = Windows(self._forms)
        files = size = 0
        found: set[str] = set()
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                files, size = files + 1, size + len(content)
                found |= {f"{hit.label} in {path.name}" for hit in pieces.search(content)}
        planted = b"".join(form.data[: 2 * WINDOW_BYTES] for form in self._forms)
        control = pieces.search(random_bytes[:100] + planted + random_bytes[100:])
        return ResidueReport(files, size, pieces.count, tuple(sorted(found)), bool(control))
