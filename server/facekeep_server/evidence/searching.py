"""One search field: entries by number or leaf hash, people and devices by how their name begins, events and labels by a part."""

from __future__ import annotations

import re

from sqlalchemy import select

from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Kind, Table, Value
from facekeep_server.store.tables import Entry

_MOST = 100
_HEX = re.compile(r"[0-9a-f]{4,64}")
_NUMBER = re.compile(r"#?([0-9]{1,15})")


def found_table(evidence: Evidence, text: str) -> Table:
    """Return what a text may mean, at most 100 lines of each sort."""
    wanted = text.strip().lower()
    rows: list[tuple[Value, ...]] = []
    if wanted:
        rows = [*_entries(evidence, wanted), *_people(evidence, wanted), *_devices(evidence, wanted), *_events(evidence, wanted)]
    return Table(
        "found",
        f"{len(rows)} found",
        (
            Column("sort", "Sort"),
            Column("entry", "Entry", Kind.ENTRY),
            Column("subject", "Pseudonym", Kind.SUBJECT),
            Column("device", "Device", Kind.DEVICE),
            Column("what", "What"),
        ),
        rows,
        "Nothing was found.",
        "A name is never found: the log holds none. Ask the device for the pseudonym of a person.",
    )


def _entries(evidence: Evidence, wanted: str) -> list[tuple[Value, ...]]:
    columns = (Entry.number, Entry.device, Entry.event)
    if match := _NUMBER.fullmatch(wanted):
        query = select(*columns).where(Entry.number == int(match[1]))
    elif len(wanted) == 64 and _HEX.fullmatch(wanted):
        query = select(*columns).where(Entry.leaf_hash == bytes.fromhex(wanted))
    else:
        return []
    with evidence.server.store.reading() as connection:
        found = connection.execute(query.limit(_MOST)).all()
    return [("entry", row.number, None, row.device, row.event or "device or head line") for row in found]


def _people(evidence: Evidence, wanted: str) -> list[tuple[Value, ...]]:
    if not _HEX.fullmatch(wanted):
        return []
    now = evidence.now()
    people = [person for person in evidence.follower.follow().everyone() if person.pseudonym.startswith(wanted)]
    return [("person", person.erased_entry, person.pseudonym, person.device, person.state(now)) for person in people[:_MOST]]


def _devices(evidence: Evidence, wanted: str) -> list[tuple[Value, ...]]:
    found = [device for device in evidence.devices() if device.id.startswith(wanted) or wanted in device.label.lower()]
    return [("device", None, None, device.id, device.label) for device in found[:_MOST]]


def _events(evidence: Evidence, wanted: str) -> list[tuple[Value, ...]]:
    names: set[str] = set()
    for activity in list(evidence.follower.follow().devices.values()):
        names |= set(activity.events)
    rows: list[tuple[Value, ...]] = []
    for name in sorted(names):
        if wanted in name:
            with evidence.server.store.reading() as connection:
                query = select(Entry.number, Entry.device).where(Entry.event == name).order_by(Entry.number.desc()).limit(1)
                last = connection.execute(query).one_or_none()
            rows.append(("event", last.number if last else None, None, last.device if last else None, f"{name}, the latest"))
    return rows[:_MOST]
