"""The coordinator's own trail: the chain a device keeps, kept by the server about itself.

Plans, completed and aborted rounds, refused replies and releases are recorded the moment they happen, in the form of
docs/formats/trail.md, signed by the coordinator's key. The trail is submitted to a log server like a device's: whoever audits the
log sees which rounds there were without asking the coordinator. Entries hold codes, counts and digests, never an update or a
name.

Files: `entries.jsonl`, one entry a line, and `head`, the signed head. An entry is on the disk before its head is: after a crash
between the two the trail is longer than its head says, and opening it signs the longer one, whose chain leads there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from facekeep.audit import AuditEvent, TrailHead, TrailReport, append_event, open_head, sign_head, verify_trail
from facekeep.audit.trail import parse_entry
from facekeep.clock import Clock, parse_rfc3339
from facekeep.errors import AuditError
from facekeep.merkle import Frontier, leaf_hash
from facekeep.signing import DeviceKey
from facekeep_server.federation.files import append_durably, make_directory, read_file, replace_file

_ENTRIES: Final = "entries.jsonl"
_HEAD: Final = "head"


class CoordinatorTrail:
    """Appends to the trail of one state directory. One process at a time: the state directory is locked by who opened it.

    Args:
        folder: where the files are; made if absent.
        key: the coordinator's.
        clock: dates the entries.

    Raises:
        AuditError: "audit.broken_chain", "audit.bad_signature", "audit.truncated" if what is there does not verify.
    """

    def __init__(self, folder: Path, key: DeviceKey, clock: Clock) -> None:
        self._folder, self._key, self._clock = folder, key, clock
        make_directory(folder)
        self._head = TrailHead()
        self._entries: list[bytes] = []
        path = folder / _ENTRIES
        if path.exists():
            self._read(read_file(path))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> tuple[bytes, ...]:
        """Every entry, canonical JSON, oldest first."""
        return tuple(self._entries)

    @property
    def note(self) -> str:
        """The signed head."""
        return sign_head(self._head, self._key)

    def note_at(self, size: int) -> str:
        """Return the head over the first `size` entries, signed: the same bytes each time it is made."""
        frontier = Frontier()
        for body in self._entries[:size]:
            frontier = frontier.append(leaf_hash(body))
        return sign_head(TrailHead(frontier), self._key)

    def record(self, event: AuditEvent) -> None:
        """Append an event; it is on the disk, under a signed head, before this returns."""
        body, head = append_event(self._head, event, self._clock.now())
        append_durably(self._folder / _ENTRIES, body + b"\n")
        self._head = head
        self._entries.append(body)
        replace_file(self._folder / _HEAD, self.note.encode())

    def verify(self) -> TrailReport:
        """Check every entry against the signed head.

        Raises:
            AuditError: with the place.
        """
        return verify_trail(self._entries, self.note, self._key.public_bytes)

    def _read(self, data: bytes) -> None:
        # A line without an end was being written when the power went: nobody was told it happened, so it did not.
        lines = data.split(b"\n")
        torn = lines.pop()
        for body in lines:
            self._follow(body, parse_entry(body))
        signed = self._folder / _HEAD
        size = 0
        if signed.exists():
            note = read_file(signed).decode("utf-8", "replace")
            size = self._signed_size(note)
        if size < len(self._entries) - 1 or size > len(self._entries):
            raise AuditError("audit.truncated", "The coordinator's trail is not as long as its signed head says.")
        if torn:
            os.truncate(self._folder / _ENTRIES, len(data) - len(torn))
        replace_file(signed, self.note.encode())

    def _signed_size(self, note: str) -> int:
        checkpoint = open_head(note, self._key.public_bytes)
        if checkpoint.size <= len(self._entries):
            verify_trail(self._entries[: checkpoint.size], note, self._key.public_bytes)
        return checkpoint.size

    def _follow(self, body: bytes, fields: Mapping[str, object]) -> None:
        time: datetime = parse_rfc3339(str(fields["time"]))
        expected = self._head.last_hash.hex() if self._head.last_hash else None
        if fields["seq"] != self._head.size or fields["prev"] != expected:
            raise AuditError("audit.broken_chain", f"The coordinator's trail is broken at entry {self._head.size}.")
        leaf = leaf_hash(body)
        self._entries.append(body)
        self._head = TrailHead(self._head.frontier.append(leaf), leaf, time)
