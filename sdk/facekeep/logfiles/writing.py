"""Writing a log directory: new files beside the old ones first, the checkpoint that needs them last.

A process killed at any point leaves the checkpoint of before with every file it needs. The next writer clears what was begun.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from facekeep.errors import LogError
from facekeep.logfiles.directory import LogDirectory
from facekeep.logfiles.source import CHECKPOINT
from facekeep.merkle import leaf_hash
from facekeep.note import Checkpoint
from facekeep.tlog.notes import SignedNote
from facekeep.tlog.tiles import ENTRIES, LARGEST_ENTRY_BYTES, WIDTH, Tile, pack_bundle, unpack_bundle
from facekeep.tlog.tree import TileTree

_DRAFTS: Final = ".writing"


class LogWriter:
    """The one writer of a log directory. Use it in a `with` block.

    Args:
        path: the directory, made if absent. A log that is there is continued after its tree has been checked.
        durable: whether each publication outlives a loss of power.

    Raises:
        LogError: "log.io", also while another process writes; what the reader raises for a damaged log.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._path = path
        self._durable = durable
        self._stale: list[Tile] = []
        with _typed("open the log directory"):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with _typed("lock the log directory; another process may be writing it"):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (path / _DRAFTS).exists():
                    shutil.rmtree(path / _DRAFTS)
            self._tree, self._open = self._resume()
        except BaseException:
            os.close(self._lock)
            raise
        self._full: list[tuple[Tile, bytes]] = []

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._lock)

    @property
    def size(self) -> int:
        """Entries appended so far, published or not."""
        return self._tree.size

    def checkpoint(self, origin: str) -> Checkpoint:
        """Return the checkpoint to sign for what was appended so far."""
        return Checkpoint(origin, self._tree.size, self._tree.root())

    def append(self, entries: Iterable[bytes]) -> None:
        """Append entries; nothing is published yet.

        Raises:
            LogError: "log.malformed" for an entry longer than 65,535 bytes; then none of `entries` was appended.
        """
        entries = list(entries)
        if any(len(entry) > LARGEST_ENTRY_BYTES for entry in entries):
            raise LogError("log.malformed", f"An entry has at most {LARGEST_ENTRY_BYTES} bytes.")
        for entry in entries:
            self._open.append(entry)
            self._full += self._tree.extend([leaf_hash(entry)])
            if len(self._open) == WIDTH:
                self._full.append((Tile(ENTRIES, self._tree.size // WIDTH - 1), pack_bundle(self._open)))
                self._open.clear()
        if len(self._full) > 64:
            self._write(self._full)
            self._full.clear()

    def publish(self, note: str) -> None:
        """Write every file the signed checkpoint needs, then the checkpoint, then remove partial tiles it has replaced.

        Raises:
            LogError: "log.malformed" if the note is not over what was appended; "log.io": the checkpoint of before stands.
        """
        found = Checkpoint.parse(SignedNote.parse(note).text)
        if found != self.checkpoint(found.origin):
            raise LogError("log.malformed", "The checkpoint is not one over the entries appended.")
        partial = self._tree.partial_tiles()
        if self._open:
            partial.append((Tile(ENTRIES, self._tree.size // WIDTH, len(self._open)), pack_bundle(self._open)))
        self._write([*self._full, *partial])
        self._full.clear()
        with _typed("write the checkpoint"):
            self._put(CHECKPOINT, note.encode())
            shutil.rmtree(self._path / _DRAFTS)
            self._sync(self._path)
            current = [tile for tile, _ in partial]
            for tile in self._stale:
                if tile not in current:
                    path = self._path / tile.path
                    path.unlink(missing_ok=True)
                    with contextlib.suppress(OSError):  # another width may still be in there
                        path.parent.rmdir()
        self._stale = current

    def _resume(self) -> tuple[TileTree, list[bytes]]:
        reader = LogDirectory(self._path)
        if not (self._path / CHECKPOINT).exists():
            return TileTree(), []
        checkpoint = Checkpoint.parse(SignedNote.parse(reader.read_checkpoint()).text)
        tree = TileTree.load(checkpoint.size, reader.read_tile)
        if tree.root() != checkpoint.root:
            raise LogError("log.bad_proof", "The tiles of the log do not lead to its checkpoint. Restore it before writing to it.")
        self._stale = [tile for tile, _ in tree.partial_tiles()]
        width = checkpoint.size % WIDTH
        if not width:
            return tree, []
        bundle = Tile(ENTRIES, checkpoint.size // WIDTH, width)
        self._stale.append(bundle)
        entries = unpack_bundle(reader.read_tile(bundle), width)
        if b"".join(map(leaf_hash, entries)) != reader.read_tile(Tile(0, bundle.index, width)):
            raise LogError(
                "log.bad_proof", "The last entries of the log are not those of its tree. Restore it before writing to it."
            )
        return tree, entries

    def _write(self, files: Iterable[tuple[Tile, bytes]]) -> None:
        with _typed("write the log"):
            for tile, data in files:
                self._put(tile.path, data)

    def _put(self, name: str, data: bytes) -> None:
        path, draft = self._path / name, self._path / _DRAFTS / "file"
        draft.parent.mkdir(exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as stream:
            stream.write(data)
            stream.flush()
            if self._durable:
                os.fsync(stream.fileno())
        draft.replace(path)
        self._sync(path.parent)

    def _sync(self, folder: Path) -> None:
        if not self._durable:
            return
        # Up to the root: a folder that was just made is a name in the one above it.
        while True:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            if folder == self._path:
                return
            folder = folder.parent


@contextlib.contextmanager
def _typed(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = errno.errorcode.get(error.errno or 0, "unknown")
        raise LogError("log.io", f"Could not {what} ({reason}). The checkpoint published last still stands.") from None
