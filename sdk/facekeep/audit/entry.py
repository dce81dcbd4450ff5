"""Entries of the transparency log: how a device's trail becomes them, byte for byte.

A log entry is one of three lines of canonical JSON. The trail's own bytes and its own signature are reused, never made again:
- `DeviceEntry`  `{"device":ID,"key":BASE64,"v":1}`    the operator enrolled a device; from here on its trail may follow
- `TrailEntry`   `{"device":ID,"entry":BODY,"v":1}`    BODY is an entry of that device's trail, exactly as the device wrote it
- `HeadEntry`    `{"device":ID,"head":NOTE,"v":1}`     the device's signed head over every entry of its trail so far

One Ed25519 signature thus vouches for a whole batch: the head is a checkpoint over the RFC 6962 tree of the trail, so whoever
recomputes that tree from the log has verified each entry under the device's key. What a device submits is what is logged:
the lines of a batch, the head last. Format: docs/formats/log-entry.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from facekeep.audit.trail import TrailHead, open_head, parse_entry
from facekeep.canonical import parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339
from facekeep.errors import AuditError
from facekeep.merkle import leaf_hash

LARGEST_ENTRY_BYTES: Final = 65_535  # https://c2sp.org/tlog-tiles: entries have a 16-bit length in front
LARGEST_BATCH: Final = 1_000  # trail entries of one batch; the head comes on top

_DEVICE = re.compile(r"[0-9a-f]{32}")
_OPENING, _MIDDLE, _CLOSING = b'{"device":"', b'","entry":', b',"v":1}'
_BODY_AT = len(_OPENING) + 32 + len(_MIDDLE)


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """A device joins the log.

    Attributes:
        device: 32 hexadecimal digits, `device_id` of the key.
        public_key: 32 bytes, Ed25519.
    """

    device: str
    public_key: bytes

    def to_bytes(self) -> bytes:
        """Return the canonical line."""
        return to_canonical({"v": 1, "device": self.device, "key": base64.b64encode(self.public_key).decode()})


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """An entry of a device's trail.

    Attributes:
        device: 32 hexadecimal digits.
        body: the entry as the device wrote it (docs/formats/trail.md).
    """

    device: str
    body: bytes

    def to_bytes(self) -> bytes:
        """Return the canonical line."""
        return b"%s%s%s%s%s" % (_OPENING, self.device.encode("ascii"), _MIDDLE, self.body, _CLOSING)


@dataclass(frozen=True, slots=True)
class HeadEntry:
    """The signed head of a device's trail.

    Attributes:
        device: 32 hexadecimal digits.
        note: C2SP signed checkpoint of the trail.
    """

    device: str
    note: str

    def to_bytes(self) -> bytes:
        """Return the canonical line."""
        return to_canonical({"v": 1, "device": self.device, "head": self.note})


LogEntry = DeviceEntry | TrailEntry | HeadEntry


@dataclass(frozen=True, slots=True)
class TrailBatch:
    """What a device submits at once: consecutive entries of its trail and the head signed after the last of them.

    Attributes:
        device: 32 hexadecimal digits.
        bodies: entries of the trail in order, at most `LARGEST_BATCH`.
        note: signed head.
    """

    device: str
    bodies: tuple[bytes, ...]
    note: str

    def to_lines(self) -> tuple[bytes, ...]:
        """Return the log entries this batch becomes: each trail entry, then the head."""
        return (*(TrailEntry(self.device, body).to_bytes() for body in self.bodies), HeadEntry(self.device, self.note).to_bytes())

    def to_bytes(self) -> bytes:
        """Return the lines, each with a newline behind it (media type application/x-ndjson)."""
        return b"".join(line + b"\n" for line in self.to_lines())

    @classmethod
    def parse(cls, data: bytes) -> TrailBatch:
        """Return the batch of submitted bytes; only the form is checked, see `verify_batch`.

        Raises:
            AuditError: "audit.invalid_entry".
        """
        lines = data.split(b"\n")
        if len(lines) < 2 or lines[-1] or len(lines) > LARGEST_BATCH + 2:
            raise _invalid(f"A batch is 1 to {LARGEST_BATCH} trail entries and a head, each a line")
        *entries, last = (parse_log_entry(line) for line in lines[:-1])
        if not isinstance(last, HeadEntry):
            raise _invalid("A batch ends in a signed head")
        bodies = tuple(entry.body for entry in entries if isinstance(entry, TrailEntry) and entry.device == last.device)
        if len(bodies) != len(entries) or not bodies:
            raise _invalid("A batch holds trail entries of one device")
        return cls(last.device, bodies, last.note)


def device_id(public_key: bytes) -> str:
    """Return the name of a device in the log: the first 32 hexadecimal digits of SHA-256 of its Ed25519 public key."""
    return hashlib.sha256(public_key).hexdigest()[:32]


def make_batch(public_key: bytes, bodies: Iterable[bytes], note: str) -> TrailBatch:
    """Return the batch of these trail entries under this signed head; a device signs its head at least every `LARGEST_BATCH`."""
    batch = TrailBatch(device_id(public_key), tuple(bodies), note)
    if not 0 < len(batch.bodies) <= LARGEST_BATCH:
        raise ValueError(f"a batch holds 1 to {LARGEST_BATCH} entries")
    return batch


def parse_log_entry(data: bytes) -> LogEntry:
    """Return the entry of canonical bytes. The body of a trail entry is cut out, not yet read: see `parse_entry`.

    Raises:
        AuditError: "audit.invalid_entry".
    """
    if len(data) > LARGEST_ENTRY_BYTES:
        raise _invalid(f"A log entry has at most {LARGEST_ENTRY_BYTES} bytes")
    # Nearly every entry is of this kind; its body is checked where it is read, so the frame need not be parsed twice.
    if data.startswith(_OPENING) and data[_BODY_AT - len(_MIDDLE) : _BODY_AT] == _MIDDLE and data.endswith(_CLOSING):
        device = data[len(_OPENING) : len(_OPENING) + 32].decode("latin-1")
        if _DEVICE.fullmatch(device):
            return TrailEntry(device, data[_BODY_AT : -len(_CLOSING)])
    try:
        fields = parse_canonical(data)
        device = fields["device"]
        if fields["v"] != 1 or fields["v"] is True or not isinstance(device, str) or not _DEVICE.fullmatch(device):
            raise ValueError
        if fields.keys() == {"v", "device", "head"} and isinstance(fields["head"], str):
            return HeadEntry(device, fields["head"])
        if fields.keys() == {"v", "device", "key"}:
            key = base64.b64decode(fields["key"], validate=True)
            entry = DeviceEntry(device, key)
            # The name is the hash of the key: nobody can enrol a key under another device's name.
            if len(key) == 32 and device_id(key) == device and entry.to_bytes() == data:
                return entry
        raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        raise _invalid("A log entry is a device's key, an entry of its trail or its signed head in canonical JSON") from None


def verify_batch(head: TrailHead, batch: TrailBatch, public_key: bytes, *, latest: datetime | None = None) -> TrailHead:
    """Return where the device's trail stands after `batch`, if the batch continues it and is signed by the device.

    Args:
        head: where the trail stood in the log; `TrailHead()` for a device that has submitted nothing.
        batch: what was submitted.
        public_key: the key the device is enrolled with.
        latest: entries dated after this are refused: the clock of the receiver and what it allows for clocks that differ.

    Raises:
        AuditError: "audit.invalid_entry", "audit.bad_signature", "audit.wrong_sequence" (a gap, or entries sent before),
            "audit.broken_chain", "audit.from_the_future".
    """
    if batch.device != device_id(public_key):
        raise AuditError("audit.bad_signature", "The batch is not signed by the device it names.")
    signed = open_head(batch.note, public_key)
    for body in batch.bodies:
        head = _follow(head, body, latest)
    if signed.size != head.size or not hmac.compare_digest(signed.root, head.frontier.root()):
        raise AuditError("audit.broken_chain", "The signed head is not one over the entries submitted and those before them.")
    return head


def first_sequence(batch: TrailBatch) -> int:
    """Return the number in the trail of the first entry of `batch`.

    Raises:
        AuditError: "audit.broken_chain".
    """
    return int(parse_entry(batch.bodies[0])["seq"])


def _follow(head: TrailHead, body: bytes, latest: datetime | None) -> TrailHead:
    fields = parse_entry(body)
    if isinstance(fields["seq"], bool) or fields["seq"] != head.size:
        raise AuditError("audit.wrong_sequence", f"The log has {head.size} entries of this device; the batch goes on elsewhere.")
    time = parse_rfc3339(fields["time"])
    if fields["prev"] != (head.last_hash.hex() if head.last_hash else None):
        raise AuditError("audit.broken_chain", "An entry does not name the one before it.")
    if head.last_time is not None and time < head.last_time:
        raise AuditError("audit.broken_chain", "An entry is dated before the one in front of it.")
    if latest is not None and time > latest:
        raise AuditError("audit.from_the_future", "An entry is dated later than the receiver's clock allows; check both clocks.")
    leaf = leaf_hash(body)
    return TrailHead(head.frontier.append(leaf), leaf, time)


def _invalid(what: str) -> AuditError:
    return AuditError("audit.invalid_entry", f"{what}.")
