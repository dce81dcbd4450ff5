"""Files of the state directory: private, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from facekeep_server.errors import ServerError

LARGEST_KEY_FILE: Final = 16_384


def make_directory(path: Path) -> None:
    """Make a directory for its owner only; one that is there is closed to others.

    Raises:
        ServerError: "server.invalid_configuration".
    """
    with _typed(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)


def create_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file that must not exist: a key is never overwritten.

    Raises:
        ServerError: "server.invalid_configuration".
    """
    with _typed(path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        _sync_directory(path.parent)


def replace_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put `data` at `path`: after a crash at any moment the old bytes are there, or the new ones, never a mixture.

    Raises:
        ServerError: "server.invalid_configuration", also for a full disk: the old bytes stay.
    """
    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    with _typed(path):
        try:
            handle = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            waiting.replace(path)
        except BaseException:
            waiting.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)


def append_durably(path: Path, data: bytes) -> None:
    """Append to a file, made if absent; the bytes are on the disk before this returns.

    Raises:
        ServerError: "server.invalid_configuration", also for a full disk.
    """
    with _typed(path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "ab") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())


def read_file(path: Path) -> bytes:
    """Return the bytes of a file of the state directory.

    Raises:
        ServerError: "server.invalid_configuration".
    """
    with _typed(path):
        return path.read_bytes()


def read_private(path: Path) -> bytes:
    """Return the bytes of a key file that only its owner can read.

    Raises:
        ServerError: "server.no_key" if it is absent, no regular file, or open to others.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
                raise ServerError("server.no_key", f"{path.name} has to be a regular file that only its owner can read: chmod 600.")
            return stream.read(LARGEST_KEY_FILE)
    except OSError:
        raise ServerError("server.no_key", f"There is no key at {path}. Keys kept offline are named by --keys DIR.") from None


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _typed(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServerError("server.invalid_configuration", f"{path}: {error.strerror}.") from None
