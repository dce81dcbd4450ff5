"""Retention: what has to be gone when, what should be gone already, and what the runs of the devices did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.retention import Holding, RetentionPolicy, due_at
from facekeep.retention import Kind as Held
from facekeep_server.evidence.entries import list_entries
from facekeep_server.evidence.people import Person
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Fact, Kind, Table

STATES: Final = ("overdue", "not heard", "due soon", "held", "no end")
_SOON = timedelta(days=30)
# A device runs retention at least daily: what ended less than this ago is the next run's.
_GRACE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DueItem:
    """A person with templates, and until when they may be held.

    Attributes:
        person: who, by pseudonym.
        due: until when, or None where nothing ends it.
        reason: which term ends first, or "".
        state: one of `STATES`.
    """

    person: Person
    due: datetime | None
    reason: str
    state: str


def due_items(evidence: Evidence) -> list[DueItem]:
    """Return everyone with templates, what is due first at the top.

    The terms are those of `compliance.retention_policy`; without one only the end of the consent counts.
    """
    policy = evidence.server.configuration.compliance.load_retention_policy()
    follower, now = evidence.follower.follow(), evidence.now()
    heard = {device.id: device.trail_time for device in evidence.devices()}
    items = [_item(person, policy, now, heard.get(person.device)) for person in follower.everyone() if person.templates]
    return sorted(items, key=lambda item: (item.due is None, item.due or now, item.person.pseudonym))


def retention_facts(evidence: Evidence) -> list[Fact]:
    """Return the policy and the figures."""
    policy = evidence.server.configuration.compliance.load_retention_policy()
    items = due_items(evidence)
    facts = [
        Fact(state.replace(" ", "_"), label, sum(item.state == state for item in items), Kind.NUMBER, alarm)
        for state, label, alarm in (
            ("overdue", "People with templates overdue", "bad"),
            ("not heard", "Due, device not heard of since", ""),
            ("due soon", f"Due within {_SOON.days} days", ""),
            ("held", "Held, due later", ""),
            ("no end", "Held without a stated end", "bad"),
        )
    ]
    facts = [Fact(f.key, f.label, f.value, f.kind, f.state if f.value else "good" if f.state else "") for f in facts]
    if policy is None:
        facts.append(Fact("policy", "Retention policy", "not stated: set compliance.retention_policy", state="bad"))
        return facts
    followed = {activity.policy for activity in list(evidence.follower.devices.values()) if activity.policy}
    others = len(followed - {policy.sha256})
    return [
        *facts,
        Fact("templates", "Templates: after the last use, at most", f"{policy.templates_inactivity}, {policy.templates_maximum}"),
        Fact("samples", "Training samples: likewise", f"{policy.samples_inactivity}, {policy.samples_maximum}"),
        Fact("receipts", "Consent records after the consent ended", policy.receipts_after_end),
        Fact("log", "Audit trail on the device", policy.log_keep),
        Fact("policy", "Policy (SHA-256)", policy.sha256, Kind.HASH),
        Fact("others", "Other policies that devices follow", others, Kind.NUMBER, "bad" if others else "good"),
    ]


def due_table(evidence: Evidence, state: str | None = None, start: int = 0, count: int = 50) -> Table:
    """Return who has templates and until when; `state` is one of `STATES`, or None for all."""
    now = evidence.now()
    items = [item for item in due_items(evidence) if state is None or item.state == state]
    rows = [
        (
            item.person.pseudonym,
            item.state,
            to_rfc3339(item.due) if item.due else None,
            (item.due - now).days if item.due else None,
            item.reason or None,
            len(item.person.templates),
            min(item.person.templates),
            item.person.used,
            item.person.device,
        )
        for item in items[start : start + count]
    ]
    return Table(
        "retention",
        f"{len(items):,} people with templates, what is due first at the top",
        (
            Column("subject", "Pseudonym", Kind.SUBJECT),
            Column("state", "State", Kind.STATE),
            Column("due", "Due", Kind.TIME),
            Column("days", "Days left", Kind.NUMBER),
            Column("reason", "Term that ends first"),
            Column("templates", "Templates", Kind.NUMBER),
            Column("enrolled", "Oldest template", Kind.TIME),
            Column("used", "Last match", Kind.TIME),
            Column("device", "Device", Kind.DEVICE),
        ),
        rows,
        "Nobody for whom this holds has a template.",
        "Overdue: the device wrote to the log after the end, and no erasure is among what it wrote. Not heard: it has not written "
        "since; whether it erased in time will be seen when it does.",
        {"start": start + count} if len(items) > start + count else None,
    )


def runs_table(evidence: Evidence, before: int | None = None, count: int = 30) -> Table:
    """Return the retention runs of all devices, the newest first."""
    found, following = list_entries(evidence, before=before, count=count, events=("retention.run",))
    rows = []
    for entry in found:
        details = entry.details or {}
        counts = [details.get(name) for name in ("templates", "samples", "receipts", "entries")]
        row = (entry.number, entry.at, entry.device, _text(details.get("trigger")), *map(_number, counts))
        rows.append((*row, _text(details.get("policy")), _text(details.get("certificate"))))
    return Table(
        "runs",
        "Retention runs, the newest first",
        (
            Column("entry", "Entry", Kind.ENTRY),
            Column("at", "Time", Kind.TIME),
            Column("device", "Device", Kind.DEVICE),
            Column("trigger", "Why"),
            Column("templates", "Templates gone", Kind.NUMBER),
            Column("samples", "Samples gone", Kind.NUMBER),
            Column("receipts", "Records gone", Kind.NUMBER),
            Column("entries", "Trail entries gone", Kind.NUMBER),
            Column("policy", "Policy", Kind.HASH),
            Column("certificate", "Certificate", Kind.HASH),
        ),
        rows,
        "No device has run retention yet.",
        "",
        following,
    )


def _item(person: Person, policy: RetentionPolicy | None, now: datetime, heard: str | None) -> DueItem:
    consented = "enrolment" in person.purposes
    end = person.until if consented else person.ended or person.first
    due, reason = (parse_rfc3339(end), "purpose-end") if end is not None and _is_instant(end) else (None, "")
    if policy is not None:
        made = [parse_rfc3339(at) for at in person.templates]
        used = parse_rfc3339(person.used) if person.used else None
        holdings = (
            Holding(kind=Held.TEMPLATE, pseudonym=person.pseudonym, reference="", held_since=at, last_used=used, purpose_end=due)
            for at in made
        )
        first = min((due_at(policy, holding) for holding in holdings), key=lambda found: found.at)
        due, reason = first.at, first.reason.value
    return DueItem(person, due, reason, _state(due, now, heard))


def _state(due: datetime | None, now: datetime, heard: str | None) -> str:
    if due is None:
        return "no end"
    if due > now:
        return "due soon" if due - now <= _SOON else "held"
    if due + _GRACE > now:
        return "due soon"
    return "overdue" if heard is not None and heard > to_rfc3339(due + _GRACE) else "not heard"


def _is_instant(text: str) -> bool:
    try:
        parse_rfc3339(text)
    except ValueError:
        return False
    return True


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
