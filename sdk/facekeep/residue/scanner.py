"""The completeness scanner: walks every file of a home and of its copies, and reports whatever an erasure left behind.

It reads files and changes none. What may lie in a home is known exactly: rows of the vault, one keystore, model files of known
hashes, small text. Everything else is a finding: a copy of an erased row, a key file left over, a blob that belongs to nobody.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from facekeep.keys.keystore import MAGIC as KEYSTORE_MAGIC
from facekeep.residue import pages
from facekeep.residue.blobs import dense_runs
from facekeep.residue.verdict import Finding, ScanReport, Trace, is_sealed
from facekeep.residue.views import picture_format, views
from facekeep.retention import ErasureReceipt
from facekeep.sealing import MAGIC as ENVELOPE_MAGIC
from facekeep.sealing import PREFIX_BYTES, VERSION

KEYSTORE_FILE: Final = "keys.fkk"
SIDE_SUFFIXES: Final = ("-wal", "-shm", "-journal")
_SHORTEST_NAME: Final = 5
# As much as is unique, and no more: of what is written in Base64 the last bytes may not decode by themselves.
_TAG_PREFIX: Final = 20
_LARGEST_BYTES: Final = 1 << 30
_LARGEST_KEYSTORE: Final = 1 << 16
_ENVELOPE: Final = re.compile(re.escape(ENVELOPE_MAGIC + bytes([VERSION])) + rb".{%d}" % (PREFIX_BYTES - 4), re.DOTALL)


Found = Callable[[Trace, int, str], None]


@dataclass(frozen=True, slots=True)
class Needle:
    """Bytes to look for.

    Attributes:
        trace: what they are a trace of.
        data: the bytes.
        is_word: whether they count only where no letter or digit stands beside them: a name too short to be one by chance.
    """

    trace: Trace
    data: bytes = field(repr=False)
    is_word: bool = False


def needles_of_receipt(receipt: ErasureReceipt) -> list[Needle]:
    """Return what a receipt of erasure says a copy of the destroyed can be recognised by."""
    return [Needle(Trace(mark.what), mark.prefix) for mark in receipt.marks]


def needles_of_name(subject: str, index_tag: bytes) -> list[Needle]:
    """Return the name in the spellings that programs write, and the tag under which the vault finds it.

    Args:
        subject: the application's identifier.
        index_tag: 32 bytes.
    """
    spellings = (subject.encode("utf-8"), subject.encode("utf-16-le"), subject.encode("unicode_escape"))
    found = {data: Needle(Trace.NAME, data, is_word=len(data) < _SHORTEST_NAME) for data in spellings}
    return [Needle(Trace.INDEX_TAG, index_tag[:_TAG_PREFIX]), *found.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What may lie in the stores whatever it looks like.

    Attributes:
        envelopes: first 20 bytes of every envelope of the vault; None if the vault was not opened.
        sha256: hashes of files that may hold anything, such as the files of model packs.
        is_current_keystore: whether the bytes of a keystore file open and hold no wrap key but that of today.
    """

    envelopes: frozenset[bytes] | None = None
    sha256: Collection[str] = ()
    is_current_keystore: Callable[[bytes], bool] = lambda _: False


def scan(home: Path, needles: Sequence[Needle], expected: Expected, *, also: Sequence[Path] = ()) -> ScanReport:
    """Return what lies in the files of `home` and of the directories in `also` that should not.

    Args:
        home: the home of a device; the vault should be checkpointed and closed, or at rest.
        needles: what to look for; without any, only what belongs to nobody is found.
        expected: what may be there.
        also: directories of copies: backups, and their manifests.
    """
    walk = _Scan(needles, expected)
    walk.directory(home, is_home=True)
    for directory in also:
        walk.directory(directory, is_home=False)
    return walk.report()


class _Scan:
    def __init__(self, needles: Sequence[Needle], expected: Expected) -> None:
        self._needles, self._expected = needles, expected
        self._findings: dict[tuple[str, Trace, str], Finding] = {}
        self._unread: list[tuple[str, str]] = []
        self._files = self._size = 0

    def report(self) -> ScanReport:
        """Return what was found."""
        missing = [] if self._needles else ["no subject and no receipt: only what belongs to nobody was looked for"]
        if self._expected.envelopes is None:
            missing.append("the vault was not opened: which envelopes belong to somebody is not known")
        findings = sorted(self._findings.values(), key=lambda finding: (finding.is_shut, finding.store, finding.offset))
        return ScanReport(self._files, self._size, tuple(findings), tuple(self._unread), tuple(missing))

    def directory(self, root: Path, *, is_home: bool) -> None:
        """Scan every file below `root`."""
        paths = list(self._walk(root))
        # A copy of the vault opens for nobody unless a keystore older than today's lies beside it: the keys are destroyed.
        is_shut = not is_home and not any(self._is_older_keystore(path) for path in paths)
        for path in paths:
            name = str(path.relative_to(root)) if is_home else str(path)
            self._file(path, name, is_home=is_home, is_shut=is_shut)

    def _walk(self, root: Path) -> Iterator[Path]:
        def refuse(error: OSError) -> None:
            self._unread.append((str(error.filename or root), error.strerror or "cannot be read"))

        for directory, _, files in os.walk(root, onerror=refuse):
            for name in sorted(files):
                yield Path(directory, name)

    def _read(self, path: Path, name: str) -> bytes | None:
        try:
            return _read_regular(path, _LARGEST_BYTES)
        except OSError as error:
            self._unread.append((name, error.strerror or "cannot be read"))
            return None

    def _is_older_keystore(self, path: Path) -> bool:
        try:
            data = _read_regular(path, _LARGEST_KEYSTORE)
        except OSError:
            return False
        return data.startswith(KEYSTORE_MAGIC) and not self._expected.is_current_keystore(data)

    def _file(self, path: Path, name: str, *, is_home: bool, is_shut: bool) -> None:
        data = self._read(path, name)
        if data is None:
            return
        self._files, self._size = self._files + 1, self._size + len(data)
        if self._expected.sha256 and hashlib.sha256(data).hexdigest() in self._expected.sha256:
            return

        def found(trace: Trace, offset: int, detail: str) -> None:
            finding = Finding(name, trace, offset, detail, is_shut and is_sealed(trace))
            self._findings.setdefault((name, trace, detail), finding)

        if data.startswith(pages.MAGIC):
            self._database(data, name, found)
        elif path.name.endswith(SIDE_SUFFIXES):
            self._side_file(data, found)
        elif data.startswith(KEYSTORE_MAGIC):
            # One keystore belongs to a home, under one name; a copy is as good as the keys in it.
            is_own = is_home and name == KEYSTORE_FILE
            if (is_home and not is_own) or not self._expected.is_current_keystore(data):
                found(Trace.STRAY_KEYSTORE, 0, "keys that are not those of today, under the master key")
        else:
            self._anything(data, found)

    def _database(self, data: bytes, name: str, found: Found) -> None:
        self._search("", data, found)
        self._strays("", data, found)
        try:
            for free in pages.free_bytes(data):
                found(Trace.FREE_BYTES, free.offset, free.kind)
        except (ValueError, IndexError):
            self._unread.append((name, "its pages cannot be followed"))

    def _side_file(self, data: bytes, found: Found) -> None:
        self._search("", data, found)
        self._strays("", data, found)
        held = [(start, start + len(image)) for start, image, is_current in pages.frames(data) if is_current]
        # What a log holds are rows and gaps of the database. What was left behind in it is told by its bytes.
        for run in dense_runs(data):
            if not any(start <= run.offset + run.size and run.offset <= end for start, end in held):
                found(Trace.DENSE_BLOB, run.offset, "in a side file")

    def _anything(self, data: bytes, found: Found) -> None:
        for encoding, view in views(data):
            self._search(encoding, view, found)
            self._strays(encoding, view, found)
            if name := picture_format(view):
                found(Trace.PICTURE, 0, f"{name}{f', {encoding}' if encoding else ''}")
            if encoding and view.startswith(KEYSTORE_MAGIC):
                found(Trace.STRAY_KEYSTORE, 0, encoding)
        for run in dense_runs(data):
            found(Trace.DENSE_BLOB, run.offset, run.encoding or "plain")

    def _search(self, encoding: str, data: bytes, found: Found) -> None:
        for needle in self._needles:
            at = data.find(needle.data)
            while at >= 0 and needle.is_word and _has_neighbour(data, at, len(needle.data)):
                at = data.find(needle.data, at + 1)
            if at >= 0:
                found(needle.trace, at, encoding or "plain")

    def _strays(self, encoding: str, data: bytes, found: Found) -> None:
        live = self._expected.envelopes
        if live is None:
            return
        for match in _ENVELOPE.finditer(data):
            if match.group() not in live:
                found(Trace.STRAY_ENVELOPE, match.start(), encoding or "plain")


def _has_neighbour(data: bytes, at: int, size: int) -> bool:
    around = data[max(0, at - 1) : at] + data[at + size : at + size + 1]
    return any(chr(byte).isalnum() or byte >= 0x80 for byte in around)


def _read_regular(path: Path, limit: int) -> bytes:
    # A pipe in the place of a file must not hold the scan, and a link leads out of what was to be scanned.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise OSError(0, f"no regular file of at most {limit} bytes")
        return file.read()
