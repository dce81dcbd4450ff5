"""What the entries of one device say about the people on record there, and what they may not say.

Rules, checked entry by entry:
- no template is made or used without consent in force for exactly that purpose, and none that does not exist
- nothing at all is done with a subject after its erasure: its commitment never returns
- templates are gone soon after consent to enrolment ended, by withdrawal or by time
- templates are gone when their term ends: inactivity, or the longest term
- retention runs at least as often as the policy says while there are templates
- the certificate that a retention run names is the one that follows from the entries: it is made again and its hash compared
- no round uses a subject, no training sample is kept and no group declared, without consent in force for that
- rounds and releases come in order (`facekeep.auditor.federated`)
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from facekeep.audit.event import OK
from facekeep.audit.reading import Entry
from facekeep.auditor.federated import FEDERATED, FederatedLife
from facekeep.auditor.policy import AuditPolicy, Term
from facekeep.auditor.verdict import Findings
from facekeep.clock import parse_rfc3339
from facekeep.retention import GONE_EVENTS, Gone, RetentionCertificate

_NEEDS: Final = {"template.created": "enrolment", "verification": "verification", "identification": "identification"}
_GIVEN: Final = frozenset({"consent.given", "consent.renewed"})
_ENDED: Final = frozenset({"consent.withdrawn", "consent.refused", "consent.expired"})
_TRAINING, _STATISTICS = "federated-training", "calibration-statistics"
# Event -> what has to be consented to for it, where no template is needed; a round's purpose follows from its kind.
_ALSO_NEEDS: Final = {"round.joined": _STATISTICS, "sample.kept": _TRAINING, "group.declared": _STATISTICS}
_NEVER_AGAIN: Final = _GIVEN | _NEEDS.keys() | _ALSO_NEEDS.keys()
_NEVER = datetime.max.replace(tzinfo=UTC)


class _Subject:
    """A subject in outline: a few dozen bytes, for there may be many."""

    __slots__ = ("ended", "last", "purposes", "templates", "until")

    def __init__(self) -> None:
        self.purposes: frozenset[str] = frozenset()
        self.until: datetime = _NEVER
        self.templates: list[datetime] = []  # when each was made, the oldest first
        self.last: datetime = _NEVER
        self.ended: datetime | None = None


class DeviceLife:
    """Follows the entries of one device.

    Args:
        device: its identifier, for findings.
        public_key: its key.
        policy: what is demanded.
        findings: where to report.
    """

    def __init__(self, device: str, public_key: bytes, policy: AuditPolicy, findings: Findings) -> None:
        self._device = device
        self._public_key = public_key
        self._policy = policy
        self._findings = findings
        self._subjects: dict[bytes, _Subject] = {}
        self._gone: set[bytes] = set()
        self._with_templates = 0
        self._last_run: datetime | None = None
        self._accounted = -1  # number of the entry of the last run
        self._gone_since: list[Gone] = []
        self._federated = FederatedLife(self._report)

    @property
    def on_record(self) -> int:
        """Subjects that are not erased."""
        return len(self._subjects)

    @property
    def erased(self) -> int:
        """Subjects that are."""
        return len(self._gone)

    def take(self, index: int, entry: Entry, leaf: bytes) -> None:
        """Follow one entry of the device; `index` is its place in the log, `leaf` the leaf hash of its body."""
        event = entry.event
        if entry.outcome != OK:
            return
        if event in FEDERATED:
            self._federated.take(index, entry)
        if event in GONE_EVENTS:
            self._note_gone(index, entry, leaf)
        if event == "retention.run":
            self._check_run(index, entry.time)
            self._check_certificate(index, entry)
            self._last_run = entry.time
        elif self._with_templates and self._policy.run_every is not None:
            self._check_run(index, entry.time)
        if entry.subject is None:
            return
        name = bytes.fromhex(entry.subject.decode())
        if name in self._gone:
            if event in _NEVER_AGAIN and entry.details.get("held") is not False:
                self._report(f"{event} of a subject that was erased", index)
            return
        subject = self._subjects.get(name)
        if subject is None:
            subject = self._subjects[name] = _Subject()
        if event in _NEEDS:
            self._use(index, entry, subject)
        elif event in _ALSO_NEEDS:
            self._contribute(index, entry, subject)
        elif event in _GIVEN:
            self._give(index, entry, subject)
        elif event in _ENDED:
            self._end(entry, subject)
        elif event == "template.erased":
            self._check_terms(index, entry.time, subject)
            self._forget(name, subject)
        elif event == "template.expired":
            self._expire(index, entry, name, subject)

    def finish(self, time: datetime) -> None:
        """Check what had to have happened by `time`: the last the device was heard of."""
        if self._with_templates:
            self._check_run(None, time)
        for subject in self._subjects.values():
            if subject.templates:
                self._check_terms(None, time, subject)

    def _use(self, index: int, entry: Entry, subject: _Subject) -> None:
        purpose, time = _NEEDS[entry.event], entry.time
        if purpose not in subject.purposes:
            self._report(f"{entry.event} without consent to {purpose}", index)
        elif time >= subject.until:
            self._report(f"{entry.event} after consent had ended by time", index)
        if entry.event == "template.created":
            if not self._with_templates:
                self._last_run = time  # until now there was nothing that a run could have found due
            self._with_templates += not subject.templates
            subject.templates.append(time)
        elif not subject.templates:
            self._report(f"{entry.event} with a template that does not exist", index)
        else:
            self._check_terms(index, time, subject)
        subject.last = time

    def _contribute(self, index: int, entry: Entry, subject: _Subject) -> None:
        if entry.details.get("held") is False:
            return
        purpose = _TRAINING if entry.details.get("kind") == "training" else _ALSO_NEEDS[entry.event]
        if purpose not in subject.purposes:
            self._report(f"{entry.event} without consent to {purpose}", index)
        elif entry.time >= subject.until:
            self._report(f"{entry.event} after consent had ended by time", index)

    def _give(self, index: int, entry: Entry, subject: _Subject) -> None:
        purposes, until = entry.details.get("purposes"), entry.details.get("until")
        try:
            subject.until = parse_rfc3339(str(until))
        except ValueError:
            self._report(f"{entry.event} without an end", index)
            return
        subject.purposes = frozenset(str(purposes).split(","))
        if "enrolment" in subject.purposes:
            subject.ended = None
        elif subject.ended is None:
            subject.ended = entry.time
        subject.last = entry.time

    def _end(self, entry: Entry, subject: _Subject) -> None:
        subject.purposes -= frozenset(str(entry.details.get("purposes", "")).split(","))
        if "enrolment" not in subject.purposes and subject.ended is None:
            subject.ended = min(entry.time, subject.until)
        subject.last = entry.time

    def _expire(self, index: int, entry: Entry, name: bytes, subject: _Subject) -> None:
        references = entry.details.get("references")
        if not isinstance(references, int) or not 0 <= references <= len(subject.templates):
            self._report("template.expired of more templates than there were", index)
            references = len(subject.templates)
        if entry.details.get("subject_erased") is True:
            self._forget(name, subject)
        elif subject.templates:
            del subject.templates[:references]
            self._with_templates -= not subject.templates

    def _forget(self, name: bytes, subject: _Subject) -> None:
        self._with_templates -= bool(subject.templates)
        del self._subjects[name]
        self._gone.add(name)

    def _check_terms(self, index: int | None, time: datetime, subject: _Subject) -> None:
        policy = self._policy
        if not subject.templates:
            return
        ended = subject.ended if subject.ended is not None else (subject.until if subject.until <= time else None)
        if ended is not None and policy.erase_within.is_over(ended, time):
            self._report(f"a template outlived consent to enrolment by more than {policy.erase_within.text}", index)
        for term, start, what in (
            (policy.inactivity, subject.last, "last use"),
            (policy.maximum, subject.templates[0], "enrolment"),
        ):
            if term is not None and _is_overdue(term, start, time, policy):
                self._report(f"a template outlived its term of {term.text} after {what}", index)

    def _check_run(self, index: int | None, time: datetime) -> None:
        every = self._policy.run_every
        if every is not None and self._last_run is not None and self._with_templates and every.is_over(self._last_run, time):
            self._report(f"no retention run for more than {every.text} while there were templates", index)
            self._last_run = time  # one finding for one gap

    def _note_gone(self, index: int, entry: Entry, leaf: bytes) -> None:
        subject = entry.subject.decode() if entry.subject else None
        try:
            gone = Gone.of_entry(entry.event, subject, entry.details, entry.seq, leaf.hex())
        except (KeyError, ValueError):
            self._report(f"{entry.event} that does not say what is gone and why", index)
            return
        if gone is not None:
            self._gone_since.append(gone)

    def _check_certificate(self, index: int, entry: Entry) -> None:
        details = entry.details
        try:
            first = details["first"]
            if not isinstance(first, int) or (self._accounted >= 0 and first != self._accounted + 1) or first > entry.seq:
                raise ValueError
            certificate = RetentionCertificate(
                public_key=self._public_key.hex(),
                policy_sha256=str(details["policy"]),
                trigger=str(details["trigger"]),
                first=first,
                seq=entry.seq,
                previous=entry.prev.decode() if entry.prev else None,
                as_of=parse_rfc3339(str(details["as_of"])),
                gone=tuple(item for item in self._gone_since if item.seq >= first),
            )
            if certificate.sha256 != details["certificate"]:
                raise ValueError
        except (KeyError, ValueError):
            self._report("a retention run whose certificate is not the one that follows from the entries", index)
        self._accounted = entry.seq
        self._gone_since.clear()

    def _report(self, message: str, index: int | None) -> None:
        self._findings.add("audit.violation", f"{message}.", index, self._device)


def _is_overdue(term: Term, start: datetime, time: datetime, policy: AuditPolicy) -> bool:
    # A term that ended is acted on by the next run, not in the same instant.
    slack = policy.run_every.least if policy.run_every is not None else policy.erase_within.least
    return time - start > slack and term.is_over(start, time - slack)
