"""Where the files of a log come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from facekeep.errors import LogError
from facekeep.tlog.notes import LARGEST_NOTE_BYTES
from facekeep.tlog.tiles import ENTRIES, LARGEST_BUNDLE_BYTES, Tile

CHECKPOINT: Final = "checkpoint"


class LogSource(Protocol):
    """Gives the files of one log; what they hold is for others to verify."""

    def read_checkpoint(self) -> bytes:
        """Return the signed checkpoint.

        Raises:
            LogError: "log.incomplete", "log.io" or "log.unreachable".
        """
        ...

    def read_tile(self, tile: Tile) -> bytes:
        """Return the bytes of a tile or bundle, as `read_checkpoint`."""
        ...

    def other_files(self, size: int) -> Iterator[str]:
        """Yield the path of every file that a log of `size` entries does not need; nothing where files cannot be listed."""
        ...


def largest_bytes(tile: Tile) -> int:
    """Return how many bytes a tile or bundle has at most."""
    return LARGEST_BUNDLE_BYTES if tile.level == ENTRIES else 32 * tile.width


def largest_checkpoint() -> int:
    """Return how many bytes a checkpoint has at most."""
    return LARGEST_NOTE_BYTES


def missing(path: str) -> LogError:
    """Return the error for a file that is not there."""
    return LogError("log.incomplete", f"The log has no file {path}.")
