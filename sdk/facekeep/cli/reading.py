"""Small text files that the command line is pointed at: never a pipe that blocks, never a device that does not end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_LARGEST_BYTES: Final = 1 << 20


def read_small_text(path: Path, *, secret: bool = False) -> str:
    """Return the text of a regular file of at most 1 MiB.

    Args:
        path: the file; "~" is expanded.
        secret: whether others may not be able to read it.

    Raises:
        OSError, ValueError: if it is not that. PermissionError: if it is secret and open to others.
    """
    return read_bounded(path, _LARGEST_BYTES, secret=secret).decode("utf-8")


def read_bounded(path: Path, limit: int, *, secret: bool = False) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises:
        OSError, ValueError, PermissionError: as `read_small_text`.
    """
    try:
        handle = os.open(path.expanduser(), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except RuntimeError as error:
        raise ValueError("no such home directory") from error
    with os.fdopen(handle, "rb") as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            raise ValueError(f"not a regular file of at most {limit} bytes")
        if secret and found.st_mode & 0o077:
            raise PermissionError("readable by others")
        return stream.read(limit)
