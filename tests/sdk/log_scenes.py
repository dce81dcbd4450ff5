"""Logs for tests: devices that write real trails, a log directory, witnesses, and the policy that accepts them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from facekeep.audit import AuditEvent, TrailHead, append_event, sign_head
from facekeep.audit.entry import DeviceEntry, device_id, make_batch
from facekeep.auditor.policy import AuditPolicy
from facekeep.clock import to_rfc3339
from facekeep.logfiles import LogWriter
from facekeep.note import sign_note, verifier_key
from facekeep.signing import DeviceKey
from facekeep.tlog import NoteKey, NoteKind, SignedNote, cosign

ORIGIN = "log.example/one"
LOG = DeviceKey(b"\x01" * 32)
WITNESSES = {"w1.example": DeviceKey(b"\x02" * 32), "w2.example": DeviceKey(b"\x03" * 32)}
START = datetime(2026, 11, 1, 8, tzinfo=UTC)


def policy_text(rules: str = "", quorum: str = "all") -> str:
    lines = [f"log {verifier_key(ORIGIN, LOG.public_bytes)}"]
    for name, key in WITNESSES.items():
        lines.append(f"witness {name} {NoteKey(name, NoteKind.COSIGNATURE, key.public_bytes).to_vkey()}")
    lines += [f"group all-of-them {quorum} {' '.join(WITNESSES)}", "quorum all-of-them"]
    trust = "\n".join(lines)
    return f"facekeep_audit_policy = 1\ntrust = '''\n{trust}\n'''\n{rules}"


def policy(rules: str = "", quorum: str = "all") -> AuditPolicy:
    return AuditPolicy.parse(policy_text(rules, quorum))


@dataclass
class Phone:
    """A device with a trail."""

    number: int
    now: datetime = START
    head: TrailHead = field(default_factory=TrailHead)
    waiting: list[bytes] = field(default_factory=list)

    @property
    def key(self) -> DeviceKey:
        return DeviceKey(self.number.to_bytes(32, "big"))

    @property
    def id(self) -> str:
        return device_id(self.key.public_bytes)

    def enrolment(self) -> bytes:
        return DeviceEntry(self.id, self.key.public_bytes).to_bytes()

    def log(self, code: str, subject: str | None = None, outcome: str = "ok", **details: str | int | bool) -> Phone:
        body, self.head = append_event(self.head, AuditEvent(code, outcome, subject, details), self.now)
        self.waiting.append(body)
        return self

    def consent(
        self, subject: str, purposes: str = "enrolment,verification", days: int = 365, code: str = "consent.given"
    ) -> Phone:
        until = to_rfc3339(self.now + timedelta(days=days))
        return self.log(code, subject, record="urn:uuid:0", purposes=purposes, until=until)

    def wait(self, **by: float) -> Phone:
        self.now += timedelta(**by)
        return self

    def submit(self) -> tuple[bytes, ...]:
        batch = make_batch(self.key.public_bytes, self.waiting, sign_head(self.head, self.key))
        self.waiting = []
        return batch.to_lines()


def sign(checkpoint_text: str, at: datetime, witnesses: Iterable[str] = tuple(WITNESSES)) -> str:
    note = SignedNote.parse(sign_note(checkpoint_text, ORIGIN, LOG))
    seconds = int(at.timestamp()) + 1
    return note.with_signatures(*(cosign(note.text, name, WITNESSES[name], seconds) for name in witnesses)).to_text()


def write_log(path: Path, entries: Iterable[bytes], at: datetime, witnesses: Iterable[str] = tuple(WITNESSES)) -> str:
    with LogWriter(path, durable=False) as writer:
        writer.append(entries)
        note = sign(writer.checkpoint(ORIGIN).to_text(), at, witnesses)
        writer.publish(note)
    return note


def subject(number: int) -> str:
    return f"{number:064x}"


def busy_entries(count: int, phones: int = 4) -> Iterator[bytes]:
    """Yield exactly `count` entries of several devices at work."""
    fleet = [Phone(number + 1) for number in range(phones)]
    made = 0
    for phone in fleet:
        yield phone.enrolment()
        made += 1
        phone.log("vault.created", provider="key-file").consent(subject(phone.number))
        phone.log("template.created", subject(phone.number), reference="r", contract="c", frames=3, quality=80)
    turn = 0
    while made < count:
        phone = fleet[turn % phones]
        turn += 1
        for _ in range(min(20, count - made - len(phone.waiting) - 1)):
            phone.wait(minutes=1).log("verification", subject(phone.number), match=True, fmr="0.001", references=1)
        for line in phone.submit():
            yield line
            made += 1
        if count - made < 30 and count - made > 0:
            phone = fleet[turn % phones]
            while len(phone.waiting) + 1 < count - made:
                phone.wait(minutes=1).log("verification", subject(phone.number), match=True, fmr="0.001", references=1)
            if len(phone.waiting) + 1 == count - made:
                yield from phone.submit()
                return
