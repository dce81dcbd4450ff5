"""A device as the server meets it: a key, a trail, signed requests. Knows nothing of the SDK's own client."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from facekeep.audit import AuditEvent, TrailHead, append_event, sign_head
from facekeep.audit.entry import TrailBatch, device_id, make_batch
from facekeep.clock import Clock, SystemClock
from facekeep.message_signatures import sign_request
from facekeep.note import Checkpoint
from facekeep.randomness import SystemRandomness
from facekeep.signing import DeviceKey
from facekeep.tlog import NoteKey, SignedNote, TrustPolicy, verify_consistency, verify_inclusion


@dataclass
class TestDevice:
    """One device.

    Attributes:
        seed: 32 bytes of its key.
        base: public address of the server, as it knows itself.
        clock: its own.
    """

    __test__ = False
    seed: bytes
    base: str = "http://testserver"
    clock: Clock = field(default_factory=SystemClock)
    trail: TrailHead = field(default_factory=TrailHead)

    def __post_init__(self) -> None:
        self.key = DeviceKey(self.seed)
        self.id = device_id(self.key.public_bytes)

    def write(self, count: int, *, at: datetime | None = None, salt: str = "") -> TrailBatch:
        """The next `count` entries of the trail, and the head after them."""
        bodies = []
        for number in range(count):
            subject = hashlib.sha256(f"{salt}{self.id}{self.trail.size % 7}".encode()).hexdigest()
            details: Mapping[str, str | int | bool] = {"match": number % 2 == 0, "references": 1}
            event = AuditEvent("verification", subject=subject, details=details)
            body, self.trail = append_event(self.trail, event, at or self.clock.now())
            bodies.append(body)
        return make_batch(self.key.public_bytes, bodies, sign_head(self.trail, self.key))

    def headers(self, method: str, target: str, content: bytes = b"", *, late: timedelta = timedelta(0)) -> dict[str, str]:
        """The fields that sign a request."""
        now = datetime.now(UTC) if isinstance(self.clock, SystemClock) else self.clock.now()
        return sign_request(self.key, self.id, method, self.base + target, content, now - late, SystemRandomness())

    def request(self, client: httpx.Client, method: str, target: str, content: bytes = b"", **more: str) -> httpx.Response:
        """Send a signed request."""
        fields = self.headers(method, target, content) | more
        return client.request(method, target, content=content, headers=fields)

    def enrol(self, client: httpx.Client, code: str) -> httpx.Response:
        content = json.dumps({"code": code, "public_key": _base64(self.key.public_bytes)}).encode()
        return self.request(client, "POST", "/v1/devices", content)

    def submit(self, client: httpx.Client, batch: TrailBatch, query: str = "") -> httpx.Response:
        return self.request(client, "POST", f"/v1/trail{query}", batch.to_bytes())


@dataclass
class Follower:
    """Keeps the last checkpoint it saw, and believes no other that does not continue it."""

    vkeys: list[str]
    last: Checkpoint | None = None

    def take(self, client: httpx.Client, note: str) -> Checkpoint:
        """Verify a checkpoint and that it continues the last one."""
        verified = self.policy().verify(note).checkpoint
        if self.last is not None:
            old, new = sorted((self.last, verified), key=lambda item: item.size)
            found = client.get("/v1/log/consistency", params={"old": old.size, "new": new.size})
            assert found.status_code == 200, found.text
            verify_consistency(old.size, new.size, [_unbase64(item) for item in found.json()["path"]], old.root, new.root)
            self.last = new
        else:
            self.last = verified
        return verified

    def policy(self) -> TrustPolicy:
        return TrustPolicy.parse("".join(f"log {vkey}\n" for vkey in self.vkeys) + "quorum none\n")


def require_proved(answer: Mapping[str, Any], lines: tuple[bytes, ...], checkpoint: Checkpoint) -> None:
    """Every line named in the answer is in the tree of its checkpoint."""
    from facekeep.merkle import leaf_hash

    proofs = answer["proofs"]
    assert len(proofs) in (1, len(lines))
    for proof, line in zip(proofs, lines if len(proofs) > 1 else lines[-1:], strict=True):
        path = [_unbase64(item) for item in proof["path"]]
        verify_inclusion(leaf_hash(line), proof["number"], checkpoint.size, path, checkpoint.root)


def log_keys(note: str, keys: list[NoteKey]) -> list[NoteKey]:
    """Which of the keys signed a note, by name."""
    lines = SignedNote.parse(note).signatures
    return [key for key in keys if any(line.is_by(key) for line in lines)]


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


def _unbase64(text: str) -> bytes:
    import base64

    return base64.b64decode(text, validate=True)
