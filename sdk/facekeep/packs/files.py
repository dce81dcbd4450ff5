"""Reading and writing model files: sizes before bytes, hashes before use, whole files or none, and typed errors."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from facekeep.errors import ModelError
from facekeep.packs.manifest import PackFile

_CHUNK = 1 << 20
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is.

    Attributes:
        file: name of the file.
        received_bytes: bytes on the disk, those of an earlier attempt included.
        total_bytes: size that the manifest pins.
    """

    file: str
    received_bytes: int
    total_bytes: int


@contextlib.contextmanager
def typed_io(doing: str) -> Iterator[None]:
    """Turn what the operating system refuses into "model.disk_full" or "model.io"."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise ModelError("model.disk_full", f"The disk is full while {doing}. Free some space and run it again.") from error
        reason = error.strerror or type(error).__name__
        raise ModelError("model.io", f"The operating system refused {doing}: {reason}.") from error


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe or a device would hang or never end.

    Raises:
        OSError: as `open` does, and for anything that is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_checked(path: Path, file: PackFile) -> bytes:
    """Return the bytes of `path` if they are those that the manifest pins.

    The bytes that were hashed are the bytes returned: the file is not opened a second time in between.

    Raises:
        ModelError: "model.hash_mismatch", "model.io".
        FileNotFoundError: if there is no such file.
    """
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size == file.size_bytes:
                data = stream.read(file.size_bytes + 1)
                size = len(data)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ModelError("model.io", f"{file.name} cannot be read: {error.strerror or type(error).__name__}.") from error
    if size != file.size_bytes:
        raise ModelError("model.hash_mismatch", f"{file.name} has {size} bytes where its manifest says {file.size_bytes}.")
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise ModelError("model.hash_mismatch", f"{file.name} is not the file its manifest names: its SHA-256 differs.")
    return data


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a regular file, read in pieces.

    Raises:
        OSError: if it cannot be read.
    """
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file or none: a reader sees the old bytes or the new ones, also after a power cut.

    Raises:
        ModelError: "model.disk_full", "model.io".
    """
    import tempfile

    with typed_io(f"writing {path.name}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            put_in_place(Path(name), path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def put_in_place(finished: Path, path: Path) -> None:
    """Rename a finished file to its place and make the rename durable.

    Raises:
        OSError: if the operating system refuses.
    """
    finished.chmod(0o644)
    finished.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def remove_empty(directory: Path, upto: Path) -> None:
    """Remove `directory` and its parents below `upto` as long as they are empty."""
    while directory != upto and upto in directory.parents:
        try:
            directory.rmdir()
        except OSError:
            return
        directory = directory.parent
