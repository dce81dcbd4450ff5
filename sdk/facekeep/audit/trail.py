"""The chain: each entry names the hash of the one before; the head is a signed C2SP checkpoint over all of them."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from facekeep.audit.event import AuditEvent
from facekeep.canonical import parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.errors import AuditError, TrustError
from facekeep.merkle import Frontier, leaf_hash
from facekeep.note import Checkpoint, open_note, sign_note
from facekeep.signing import DeviceKey, key_fingerprint

ENTRY_VERSION = 1
_FIELDS = {"v", "seq", "time", "event", "outcome", "subject", "details", "prev"}


@dataclass(frozen=True, slots=True)
class TrailHead:
    """All that appending needs: the tree's right edge, the last hash and the last time.

    Attributes:
        frontier: right edge of the RFC 6962 tree over the entries.
        last_hash: leaf hash of the last entry, or None before the first.
        last_time: time of the last entry, or None before the first.
    """

    frontier: Frontier = field(default_factory=Frontier)
    last_hash: bytes | None = None
    last_time: datetime | None = None

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.frontier.size


@dataclass(frozen=True, slots=True)
class TrailReport:
    """A trail that verified.

    Attributes:
        size: number of entries.
        root: tree head over them, hexadecimal.
        first_time: time of the first entry, or None.
        last_time: time of the last entry, or None.
    """

    size: int
    root: str
    first_time: datetime | None
    last_time: datetime | None


def trail_origin(public_key: bytes) -> str:
    """Return the origin line of the trail of the device with this key."""
    return f"facekeep.device/{key_fingerprint(public_key)}"


def append_event(head: TrailHead, event: AuditEvent, now: datetime) -> tuple[bytes, TrailHead]:
    """Return the bytes of the next entry and the head after it.

    Time never runs backwards in the trail: an entry is dated no earlier than the one before it.
    """
    # Rounded first, so that what is compared later is what was written.
    now = parse_rfc3339(to_rfc3339(now))
    time = now if head.last_time is None else max(now, head.last_time)
    body = to_canonical(
        {
            "v": ENTRY_VERSION,
            "seq": head.size,
            "time": to_rfc3339(time),
            "event": event.code,
            "outcome": event.outcome,
            "subject": event.subject,
            "details": dict(event.details),
            "prev": head.last_hash.hex() if head.last_hash else None,
        }
    )
    leaf = leaf_hash(body)
    return body, TrailHead(head.frontier.append(leaf), leaf, time)


def sign_head(head: TrailHead, key: DeviceKey) -> str:
    """Return the signed checkpoint of the trail."""
    origin = trail_origin(key.public_bytes)
    return sign_note(Checkpoint(origin, head.size, head.frontier.root()).to_text(), origin, key)


def open_head(note: str, public_key: bytes) -> Checkpoint:
    """Return the checkpoint of a signed head.

    Raises:
        AuditError: "audit.bad_signature".
    """
    origin = trail_origin(public_key)
    try:
        checkpoint = Checkpoint.parse(open_note(note, origin, public_key))
    except TrustError:
        raise AuditError("audit.bad_signature", "The head of the audit trail is not signed by this device.") from None
    if checkpoint.origin != origin:
        raise AuditError("audit.bad_signature", "The head of the audit trail names another device.")
    return checkpoint


def parse_entry(body: bytes) -> dict[str, Any]:
    """Return the fields of an entry.

    Raises:
        AuditError: "audit.broken_chain".
    """
    try:
        fields = parse_canonical(body)
        if not isinstance(fields, dict) or fields.keys() != _FIELDS or fields["v"] != ENTRY_VERSION:
            raise ValueError("unknown form")
        AuditEvent(fields["event"], fields["outcome"], fields["subject"], fields["details"])
        parse_rfc3339(fields["time"])
    except (ValueError, TypeError, AttributeError, AuditError):
        raise AuditError("audit.broken_chain", "An entry of the audit trail is not of the form expected.") from None
    return dict(fields)


def verify_trail(entries: Iterable[bytes], note: str, public_key: bytes, base: TrailHead | None = None) -> TrailReport:
    """Return a report if the entries are exactly those the signed head was made over.

    Finds any entry changed, dropped, added, reordered or cut off the end.

    Args:
        entries: the entries kept, in order.
        note: the signed head over all that were ever written.
        public_key: the device's.
        base: where the trail stood before the first entry kept, if older ones were deleted at the end of their term. It cannot
            hide an entry: edge and entries together have to lead to the signed head.

    Raises:
        AuditError: "audit.bad_signature", "audit.broken_chain" (with the place) or "audit.truncated".
    """
    checkpoint = open_head(note, public_key)
    head = base or TrailHead()
    first: datetime | None = None
    for number, body in enumerate(entries, head.size):
        fields = parse_entry(body)
        time = parse_rfc3339(fields["time"])
        expected = head.last_hash.hex() if head.last_hash else None
        if fields["seq"] != number or fields["prev"] != expected or (head.last_time is not None and time < head.last_time):
            raise AuditError("audit.broken_chain", f"The audit trail is broken at entry {number}: changed, dropped or reordered.")
        leaf = leaf_hash(body)
        head = TrailHead(head.frontier.append(leaf), leaf, time)
        first = first or time
    if head.size < checkpoint.size:
        raise AuditError("audit.truncated", f"The audit trail has {head.size} entries; its signed head counts {checkpoint.size}.")
    if head.size > checkpoint.size or not hmac.compare_digest(head.frontier.root(), checkpoint.root):
        raise AuditError("audit.broken_chain", "The audit trail does not lead to its signed head: an entry was changed or added.")
    return TrailReport(head.size, checkpoint.root.hex(), first, head.last_time)
