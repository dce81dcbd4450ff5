"""Masked updates on the disk: one file for each vector, in a folder of the round."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class UpdatesOnDisk:
    """One file for each vector, in a folder of the round.

    Args:
        folder: made if it is not there, for its owner only.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder

    def put(self, place: int, vector: NDArray[np.uint32]) -> None:
        """Write a vector; a crash leaves the old file or the new one."""
        draft = self._folder / f"{place}.draft"
        with draft.open("wb") as file:
            file.write(vector.astype("<u4", copy=False).tobytes())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._folder / f"{place}.u32")

    def get(self, place: int) -> NDArray[np.uint32] | None:
        """Read a vector."""
        path = self._folder / f"{place}.u32"
        if not path.is_file():
            return None
        return np.frombuffer(path.read_bytes(), "<u4").astype(np.uint32, copy=False)

    def clear(self) -> None:
        """Delete the files."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        yield from (path for path in self._folder.iterdir() if path.suffix in (".u32", ".draft"))
