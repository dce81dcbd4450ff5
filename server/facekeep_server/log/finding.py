"""Searching what is in the log, by number, device, event and pseudonym. Every value is bound, none becomes SQL."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from facekeep_server.store import Store
from facekeep_server.store.tables import Entry, Incident


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """A line of the log."""

    number: int
    device: str
    line: bytes


@dataclass(frozen=True, slots=True)
class FoundIncident:
    """An incident, without its evidence."""

    id: int
    at: str
    code: str
    device: str | None
    number: int | None
    evidence: bool


def find_entries(
    store: Store, after: int, count: int, device: str | None = None, event: str | None = None, subject: str | None = None
) -> list[FoundEntry]:
    """Return up to `count` lines numbered above `after` that match all that is given.

    Args:
        store: where.
        after: number in the log, -1 for the beginning.
        count: how many at most.
        device: name of a device.
        event: code of an event.
        subject: commitment, 64 hexadecimal digits.
    """
    query = select(Entry.number, Entry.device, Entry.body).where(Entry.number > after)
    if device is not None:
        query = query.where(Entry.device == device)
    if event is not None:
        query = query.where(Entry.event == event)
    if subject is not None:
        query = query.where(Entry.subject == bytes.fromhex(subject))
    with store.reading() as connection:
        rows = connection.execute(query.order_by(Entry.number).limit(count))
        return [FoundEntry(row.number, row.device, bytes(row.body)) for row in rows]


def find_incidents(store: Store, after: int, count: int) -> list[FoundIncident]:
    """Return up to `count` incidents numbered above `after`."""
    columns = (Incident.id, Incident.at, Incident.code, Incident.device, Incident.number, Incident.evidence.isnot(None))
    with store.reading() as connection:
        rows = connection.execute(select(*columns).where(Incident.id > after).order_by(Incident.id).limit(count))
        return [FoundIncident(*row) for row in rows]


def read_evidence(store: Store, incident: int) -> bytes | None:
    """Return what a device signed twice, or None."""
    with store.reading() as connection:
        found = connection.execute(select(Incident.evidence).where(Incident.id == incident)).scalar_one_or_none()
    return None if found is None else bytes(found)
