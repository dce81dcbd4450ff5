"""What a retention run leaves: its entries in the trail, the certificate made of them, and where the next run begins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from facekeep.audit import AuditEvent
from facekeep.audit.trail import parse_entry
from facekeep.canonical import parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.merkle import leaf_hash
from facekeep.retention import GONE_EVENTS, Gone, Kind, PlannedItem, RetentionCertificate
from facekeep.vault import SubjectHandle, VaultTransaction

STATE_SETTING: Final = "retention.state"


@dataclass(frozen=True, slots=True)
class RunState:
    """What the last run left.

    Attributes:
        policy: hash of the policy it followed.
        ran_at: the instant it judged by.
        revision: of the vault after it.
        good_until: nothing that was held then becomes due before this.
        seq: number of the first entry of the trail that the next run accounts for.
    """

    policy: str
    ran_at: datetime
    revision: int
    good_until: datetime
    seq: int

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is stored."""
        instants = {"ran_at": to_rfc3339(self.ran_at), "good_until": to_rfc3339(self.good_until)}
        return to_canonical({"v": 1, "policy": self.policy, "revision": self.revision, "seq": self.seq, **instants})

    @classmethod
    def parse(cls, body: bytes) -> RunState:
        """Return what `to_bytes` wrote; the vault authenticates it."""
        fields = parse_canonical(body)
        instants = (parse_rfc3339(fields[name]) for name in ("ran_at", "good_until"))
        ran_at, good_until = instants
        return cls(fields["policy"], ran_at, fields["revision"], good_until, fields["seq"])


def read_state(transaction: VaultTransaction) -> RunState | None:
    """Return what the last run left, or None before the first."""
    stored = transaction.read_setting(STATE_SETTING)
    return None if stored is None else RunState.parse(stored)


def gone_in(bodies: Iterable[bytes]) -> tuple[Gone, ...]:
    """Return what these entries of the trail say was destroyed because its term was over."""
    return tuple(gone for body in bodies if (gone := _gone_of(body, parse_entry(body))) is not None)


def _gone_of(body: bytes, fields: dict[str, Any]) -> Gone | None:
    if fields["event"] not in GONE_EVENTS:
        return None
    return Gone.of_entry(fields["event"], fields["subject"], fields["details"], fields["seq"], leaf_hash(body).hex())


def run_event(certificate: RetentionCertificate) -> AuditEvent:
    """Return the entry that records a run."""
    counts = certificate.counts
    details: dict[str, str | int | bool] = {
        "policy": certificate.policy_sha256,
        "trigger": certificate.trigger,
        "as_of": to_rfc3339(certificate.as_of),
        "first": certificate.first,
        "templates": counts[Kind.TEMPLATE],
        "samples": counts[Kind.TRAINING_SAMPLE],
        "receipts": counts[Kind.RECEIPT],
        "entries": counts[Kind.LOG_ENTRIES],
        "certificate": certificate.sha256,
    }
    if groups := counts.get(Kind.DECLARED_GROUP):
        details["groups"] = groups
    return AuditEvent("retention.run", details=details)


def expired_event(handle: SubjectHandle, references: int, epoch: int, item: PlannedItem, *, is_over: bool) -> AuditEvent:
    """Return the entry that records the end of some templates, or of all of a subject."""
    details: dict[str, str | int | bool] = {
        "references": references,
        "epoch": epoch,
        "reason": item.due.reason.value,
        "due": to_rfc3339(item.due.at),
        "subject_erased": is_over,
    }
    return AuditEvent("template.expired", subject=handle.commitment, details=details)


def samples_expired_event(handle: SubjectHandle, count: int, epoch: int, item: PlannedItem) -> AuditEvent:
    """Return the entry that records the end of some training samples."""
    details: dict[str, str | int | bool] = {
        "count": count,
        "epoch": epoch,
        "reason": item.due.reason.value,
        "due": to_rfc3339(item.due.at),
    }
    return AuditEvent("sample.erased", subject=handle.commitment, details=details)


def group_expired_event(handle: SubjectHandle, item: PlannedItem) -> AuditEvent:
    """Return the entry that records the end of what a subject declared."""
    details: dict[str, str | int | bool] = {
        "held": False,
        "count": 1,
        "reason": item.due.reason.value,
        "due": to_rfc3339(item.due.at),
    }
    return AuditEvent("group.declared", subject=handle.commitment, details=details)
