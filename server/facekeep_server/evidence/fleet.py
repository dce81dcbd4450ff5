"""The fleet: its devices, what they wrote, and what was refused."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

from sqlalchemy import func, select

from facekeep.clock import to_rfc3339
from facekeep_server.evidence.retention import due_items
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Fact, Kind, Table
from facekeep_server.store.tables import Incident

_SILENT_AFTER = timedelta(days=7)


def fleet_facts(evidence: Evidence) -> list[Fact]:
    """Return the figures of the first page."""
    follower, now = evidence.follower.follow(), evidence.now()
    people = follower.everyone()
    states = Counter(person.state(now) for person in people)
    devices = evidence.devices()
    overdue = sum(item.state == "overdue" for item in due_items(evidence))
    with evidence.server.store.reading() as connection:
        incidents = connection.execute(select(func.count()).select_from(Incident)).scalar_one()
    revoked = sum(device.revoked_at is not None for device in devices)
    return [
        Fact("devices", "Devices", len(devices) - revoked, Kind.NUMBER),
        Fact("revoked", "Devices revoked", revoked, Kind.NUMBER),
        Fact("entries", "Entries in the log", follower.size, Kind.NUMBER),
        Fact("consenting", "People with consent in force", states["in force"], Kind.NUMBER),
        Fact("erased", "People erased", states["erased"], Kind.NUMBER),
        Fact("overdue", "Templates overdue", overdue, Kind.NUMBER, "bad" if overdue else "good"),
        Fact("incidents", "Incidents", incidents, Kind.NUMBER, "bad" if incidents else "good"),
        Fact(
            "unreadable", "Entries that cannot be read", follower.unreadable, Kind.NUMBER, "bad" if follower.unreadable else "good"
        ),
    ]


def devices_table(evidence: Evidence) -> Table:
    """Return every device, with what it holds by the log."""
    follower, now = evidence.follower.follow(), evidence.now()
    holding: Counter[str] = Counter()
    templates: Counter[str] = Counter()
    for person in follower.everyone():
        holding[person.device] += bool(person.templates)
        templates[person.device] += len(person.templates)
    silent = to_rfc3339(now - _SILENT_AFTER)
    rows = []
    for device in evidence.devices():
        activity = follower.devices.get(device.id)
        heard = device.trail_time
        state = "revoked" if device.revoked_at else "silent" if heard is None or heard < silent else "active"
        rows.append(
            (
                device.label,
                device.id,
                state,
                heard,
                device.trail_size,
                holding[device.id],
                templates[device.id],
                activity.failures if activity else 0,
                activity.ran if activity else None,
                device.enrolled_at,
            )
        )
    return Table(
        "devices",
        "Devices and what they hold",
        (
            Column("label", "Label"),
            Column("device", "Device", Kind.DEVICE),
            Column("state", "State", Kind.STATE),
            Column("heard", "Last entry", Kind.TIME),
            Column("entries", "Entries", Kind.BAR),
            Column("people", "People with templates", Kind.NUMBER),
            Column("templates", "Templates", Kind.NUMBER),
            Column("failures", "Calls that failed", Kind.NUMBER),
            Column("retention", "Last retention run", Kind.TIME),
            Column("enrolled", "Enrolled", Kind.TIME),
        ),
        rows,
        "No device is enrolled yet.",
        f"Silent: no entry for {_SILENT_AFTER.days} days. Times are those of the devices' clocks, in UTC.",
    )


def activity_table(evidence: Evidence, days: int = 30) -> Table:
    """Return what happened on each of the last days that the log tells of, days without entries too."""
    follower = evidence.follower.follow()
    known = dict(follower.days)
    rows: list[tuple[str | int, ...]] = []
    if known:
        last = date.fromisoformat(max(known))
        first = max(date.fromisoformat(min(known)), last - timedelta(days=days - 1))
        for back in range((last - first).days + 1):
            day = (last - timedelta(days=back)).isoformat()
            events = known.get(day, Counter())
            rows.append(
                (
                    day,
                    sum(events.values()),
                    events["verification"],
                    events["identification"],
                    events["template.created"],
                    events["consent.given"] + events["consent.renewed"],
                    events["consent.withdrawn"],
                    events["template.erased"] + events["template.expired"],
                )
            )
    return Table(
        "activity",
        f"Entries a day, the last {days} days of the log",
        (
            Column("day", "Day (UTC)", Kind.TIME),
            Column("entries", "Entries", Kind.BAR),
            Column("verifications", "Verifications", Kind.NUMBER),
            Column("identifications", "Identifications", Kind.NUMBER),
            Column("enrolments", "Templates made", Kind.NUMBER),
            Column("consents", "Consents", Kind.NUMBER),
            Column("withdrawals", "Withdrawals", Kind.NUMBER),
            Column("destroyed", "Erased or expired", Kind.NUMBER),
        ),
        rows,
        "Nothing is in the log yet.",
    )


def events_table(evidence: Evidence) -> Table:
    """Return how many of each event the log holds."""
    follower = evidence.follower.follow()
    total: Counter[str] = Counter()
    for activity in list(follower.devices.values()):
        # A copy: another request may follow the log meanwhile.
        total += Counter(dict(activity.events))
    return Table(
        "events",
        "Events in the log",
        (Column("event", "Event", Kind.CODE), Column("entries", "Entries", Kind.BAR)),
        [(event, number) for event, number in sorted(total.items(), key=lambda item: (-item[1], item[0]))],
        "Nothing is in the log yet.",
    )


def incidents_table(evidence: Evidence, before: int | None = None, count: int = 50) -> Table:
    """Return what was refused or changed, the newest first."""
    query = select(Incident.id, Incident.at, Incident.code, Incident.device, Incident.number, Incident.evidence.isnot(None))
    if before is not None:
        query = query.where(Incident.id < before)
    with evidence.server.store.reading() as connection:
        found = connection.execute(query.order_by(Incident.id.desc()).limit(count + 1)).all()
    rows = [(row[0], row[1], row[2], row[3], row[4], "kept" if row[5] else None) for row in found[:count]]
    return Table(
        "incidents",
        "What was refused or changed, the newest first",
        (
            Column("id", "Number", Kind.NUMBER),
            Column("at", "Time", Kind.TIME),
            Column("code", "Code", Kind.CODE),
            Column("device", "Device", Kind.DEVICE),
            Column("place", "Entry of the trail", Kind.NUMBER),
            Column("evidence", "Signed evidence"),
        ),
        rows,
        "There was no incident.",
        "An equivocation means that a device signed two histories: its key is in two places, or its storage was put back.",
        {"before": rows[-1][0]} if len(found) > count else None,
    )
