"""A log in memory that holds what coordinators said of releases, and proofs of it, true and false."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from facekeep.audit import AuditEvent, TrailHead, append_event, sign_head
from facekeep.audit.entry import DeviceEntry, HeadEntry, TrailEntry, device_id
from facekeep.merkle import leaf_hash
from facekeep.note import Checkpoint, sign_note
from facekeep.protocol.release import ModelRelease
from facekeep.signing import DeviceKey
from facekeep.tlog import LogProof, NoteKey, NoteKind, SignedNote, cosign, make_inclusion
from facekeep.tlog.tree import TileHashes, TileTree
from facekeep.trust import published

ORIGIN = "log.example/releases"
LOG, OTHER_LOG = DeviceKey(b"\x51" * 32), DeviceKey(b"\x52" * 32)
WITNESSES = {f"w{number}.example": DeviceKey(bytes([0x60 + number]) * 32) for number in (1, 2, 3)}
COORDINATOR = DeviceKey(b"\x71" * 32)
START = datetime(2026, 11, 21, 9, tzinfo=UTC)


def log_policy(key: DeviceKey = LOG, quorum: int = 2) -> str:
    """Two of three witnesses; without a quorum the log alone."""
    lines = [f"log {NoteKey(ORIGIN, NoteKind.ED25519, key.public_bytes).to_vkey()}"]
    for name, witness in WITNESSES.items():
        lines.append(f"witness {name} {NoteKey(name, NoteKind.COSIGNATURE, witness.public_bytes).to_vkey()}")
    lines += [f"group enough {quorum} {' '.join(WITNESSES)}", "quorum enough"] if quorum else ["quorum none"]
    return "\n".join([*lines, ""])


def policy_fields(**changes: Any) -> dict[str, Any]:
    """The fields of a federation policy that asks for this log."""
    return {"log_policy": log_policy(**changes), "coordinator": device_id(COORDINATOR.public_bytes)}


@dataclass
class ReleaseLog:
    """A log, and a coordinator that writes into it."""

    key: DeviceKey = LOG
    coordinator: DeviceKey = COORDINATOR
    lines: list[bytes] = field(default_factory=list)
    trail: TrailHead = field(default_factory=TrailHead)

    def __post_init__(self) -> None:
        self.device = device_id(self.coordinator.public_bytes)
        self.lines.append(DeviceEntry(self.device, self.coordinator.public_bytes).to_bytes())

    def publish(self, release: ModelRelease, signatures: int = 2) -> int:
        """Have the coordinator say that a release is published; return the number of the line."""
        return self.tell(published(release, signatures))

    def tell(self, event: AuditEvent) -> int:
        body, self.trail = append_event(self.trail, event, START)
        self.lines += [
            TrailEntry(self.device, body).to_bytes(),
            HeadEntry(self.device, sign_head(self.trail, self.coordinator)).to_bytes(),
        ]
        return len(self.lines) - 2

    def checkpoint(self, witnesses: int = 2) -> str:
        text = Checkpoint(ORIGIN, len(self.lines), self._tree()[0].root()).to_text()
        note = SignedNote.parse(sign_note(text, ORIGIN, self.key))
        lines = [cosign(text, name, key, 1_800_000_000) for name, key in list(WITNESSES.items())[:witnesses]]
        return note.with_signatures(*lines).to_text()

    def proof(self, number: int, *, witnesses: int = 2, line: bytes | None = None) -> LogProof:
        """The proof of a line; `line` is brought in its place."""
        tree, tiles = self._tree()
        path = make_inclusion(TileHashes(len(self.lines), tiles.__getitem__), number, len(self.lines))
        del tree
        return LogProof(number, path, self.checkpoint(witnesses), self.lines[number] if line is None else line)

    def proved(self, release: ModelRelease, **options: Any) -> bytes:
        """A release logged, and its proof as it travels."""
        return self.proof(self.publish(release), **options).to_text().encode()

    def _tree(self) -> tuple[TileTree, dict[Any, bytes]]:
        tree, tiles = TileTree(), {}
        tiles.update(tree.extend(map(leaf_hash, self.lines)))
        tiles.update(tree.partial_tiles())
        return tree, tiles
