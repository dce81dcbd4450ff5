"""Small secret files: for their owner only, created once or replaced whole, and typed refusals."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from facekeep.errors import VaultError

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
_OTHERS = 0o077

_CODES = {
    errno.ENOSPC: ("vault.disk_full", "The disk is full. Free some space and try again; nothing was lost."),
    errno.EDQUOT: ("vault.disk_full", "The disk quota is used up. Free some space and try again; nothing was lost."),
    errno.EACCES: ("vault.read_only", "The permission is missing. Run as the owner of the vault, or give the permission back."),
    errno.EPERM: ("vault.read_only", "The permission is missing. Run as the owner of the vault, or give the permission back."),
    errno.EROFS: ("vault.read_only", "The file system is read-only. Mount it for writing or move the vault."),
}


@contextlib.contextmanager
def typed_os_errors(what: str) -> Iterator[None]:
    """Turn any `OSError` inside into a `VaultError`; `what` says what was being done, without a name or a secret."""
    try:
        yield
    except OSError as error:
        code, advice = _CODES.get(error.errno or 0, ("vault.io", "Check the disk and the path."))
        name = errno.errorcode.get(error.errno or 0, "unknown")
        raise VaultError(code, f"Could not {what} ({name}). {advice}") from None


def make_private_directory(path: Path) -> None:
    """Create `path`, and its parents, with access for its owner only; one that exists is left as it is."""
    with typed_os_errors("create the directory of the vault"):
        path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)


def create_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read, on the disk before this returns.

    Raises:
        FileExistsError: if there is one.
        OSError: whatever the operating system refuses; nothing is left behind.
    """
    # O_EXCL also refuses a symbolic link laid in wait.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def read_regular(path: Path, limit: int, *, owner_only: bool = False) -> bytes:
    """Return the content of a regular file of at most `limit` bytes; a symbolic link is not followed.

    Raises:
        OSError: whatever the operating system refuses.
        VaultError: "vault.insecure_key" for a link, or, with `owner_only`, for a file others can read; "vault.corrupt"
            for anything but a regular file and for one that is too large.
    """
    try:
        # O_NONBLOCK: a named pipe in its place must not hang the device.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise VaultError("vault.insecure_key", "The file is a symbolic link. Name the file itself.") from None
        raise
    try:
        # Asked of the open file, not of the path: the file cannot be exchanged between the check and the reading.
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise VaultError("vault.corrupt", "Expected a regular file and found something else. Check the path.")
        if owner_only and status.st_mode & _OTHERS:
            raise VaultError(
                "vault.insecure_key",
                f"The key file has mode {stat.S_IMODE(status.st_mode):04o}: others can reach it. Replace the key if they may "
                "have read it, or run chmod 600 on the file.",
            )
        if status.st_size > limit:
            raise VaultError("vault.corrupt", f"The file has {status.st_size} bytes; at most {limit} were expected.")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return file.read(limit + 1)
    finally:
        os.close(descriptor)


def replace_private(path: Path, data: bytes) -> None:
    """Replace the file whole: after a crash there is the old content or the new one, never a mixture.

    The old content is overwritten afterwards, as far as the file system lets us reach it: it may hold retired keys.
    Callers hold `hold_directory`.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    create_private(fresh, data)
    old = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(old).st_size
        fresh.replace(path)
        sync_directory(path.parent)
        # Best effort only: flash storage and copy-on-write file systems keep old blocks out of reach.
        with contextlib.suppress(OSError):
            _write_all(old, bytes(size))
            os.fsync(old)
    finally:
        os.close(old)


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold_directory(path: Path, timeout_seconds: float) -> Iterator[None]:
    """Hold the one lock of a directory across processes and threads; a process that dies lets go of it.

    Raises:
        VaultError: "vault.busy" when another holds it for longer than the timeout.
    """
    with typed_os_errors("lock the directory of the vault"):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise VaultError("vault.busy", "Another process is at work here. Try again when it is done.") from None
                time.sleep(0.002)
            except OSError:
                raise VaultError("vault.io", "The file system does not support locks. Move the vault to one that does.") from None
        yield
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
