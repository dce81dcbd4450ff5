"""A log directory in the layout of https://c2sp.org/tlog-tiles, read with nothing taken for granted."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from facekeep.errors import LogError
from facekeep.logfiles.source import CHECKPOINT, largest_bytes, largest_checkpoint, missing
from facekeep.tlog.tiles import Tile, bundles_of, parse_tile_path, tiles_of


class LogDirectory:
    """A copy of a log on disk.

    Args:
        path: the directory that holds `checkpoint` and `tile`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_checkpoint(self) -> bytes:
        """Return the signed checkpoint.

        Raises:
            LogError: "log.incomplete" or "log.io".
        """
        return self._read(CHECKPOINT, largest_checkpoint())

    def read_tile(self, tile: Tile) -> bytes:
        """Return the bytes of a tile or bundle.

        Raises:
            LogError: "log.incomplete" or "log.io".
        """
        return self._read(tile.path, largest_bytes(tile))

    def other_files(self, size: int) -> Iterator[str]:
        """Yield, relative to the directory, every file that a log of `size` entries does not need.

        Raises:
            LogError: "log.io".
        """
        for folder, folders, names in os.walk(self.path, onerror=_fail):
            folders.sort()
            links = [name for name in folders if Path(folder, name).is_symlink()]
            for name in sorted([*names, *links]):
                path = Path(folder, name).relative_to(self.path).as_posix()
                if path != CHECKPOINT and not _is_needed(path, size):
                    yield path

    def _read(self, name: str, limit: int) -> bytes:
        path = self.path / name
        try:
            # A link could lead out of the copy; a pipe would wait for ever.
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise missing(name) from None
        except OSError as error:
            raise _unreadable(error, name) from None
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
                raise LogError("log.incomplete", f"{name} is not a regular file of at most {limit} bytes.")
            with os.fdopen(os.dup(handle), "rb") as stream:
                return stream.read(limit + 1)
        except OSError as error:
            raise _unreadable(error, name) from None
        finally:
            os.close(handle)


def _is_needed(path: str, size: int) -> bool:
    try:
        tile = parse_tile_path(path)
    except LogError:
        return False
    hashes = size >> 8 * max(tile.level, 0)
    return tile.width == min(256, hashes - 256 * tile.index)


def needed_files(size: int) -> Iterator[str]:
    """Yield the path of every file of a log of `size` entries."""
    yield CHECKPOINT
    for tile in (*bundles_of(size), *tiles_of(size)):
        yield tile.path


def _fail(error: OSError) -> None:
    raise _unreadable(error, "the directory")


def _unreadable(error: OSError, name: str) -> LogError:
    reason = errno.errorcode.get(error.errno or 0, "unknown")
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return LogError("log.incomplete", f"{name} is not a regular file ({reason}).")
    return LogError("log.io", f"{name} cannot be read ({reason}).")
