"""The log followed once and kept up with: memory grows with people and devices, not with entries."""

from __future__ import annotations

import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import select

from facekeep.audit.entry import TrailEntry, parse_log_entry
from facekeep.audit.reading import read_entry
from facekeep.errors import FacekeepError
from facekeep_server.evidence.people import DETAILED, Activity, Person
from facekeep_server.evidence.rounds import FEDERATED, FederatedRecord
from facekeep_server.log.transaction import TRAIL_LINE, stored_size
from facekeep_server.store import Store
from facekeep_server.store.tables import Entry

_AT_ONCE = 5_000
_INSTANT = re.compile(r"[0-9]{4}-[0-1][0-9]-[0-3][0-9]T[0-9:]{8}\.[0-9]{3}Z")
Details = dict[str, str | int | bool]


class LogFollower:
    """What all entries so far amount to; brought up to date by `follow`, each entry read once.

    Attributes:
        people: (device, pseudonym) -> what is known, in the order of first appearance.
        devices: device -> what it has written.
        days: day -> how many of each event.
        unreadable: entries that are not of the form a device can write.
        size: entries of the log that were followed.

    Args:
        store: where the log is.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self.people: dict[tuple[str, str], Person] = {}
        self.devices: defaultdict[str, Activity] = defaultdict(Activity)
        self.days: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.unreadable = 0
        self.size = 0
        self._federated = FederatedRecord()
        self._shown: tuple[int, FederatedRecord] = (0, FederatedRecord())

    def follow(self) -> LogFollower:
        """Read what was committed since the last call."""
        columns = (Entry.number, Entry.device, Entry.event, Entry.outcome, Entry.subject, Entry.at, Entry.body)
        with self._lock:
            with self._store.reading() as connection:
                size, _ = stored_size(connection)
            while self.size < size:
                end = min(size, self.size + _AT_ONCE)
                where = (Entry.number >= self.size, Entry.number < end, Entry.kind == TRAIL_LINE)
                with self._store.reading() as connection:
                    rows = connection.execute(select(*columns).where(*where).order_by(Entry.number)).all()
                self._take(rows)
                self.size = end
        return self

    def _take(self, rows: Iterable[Any]) -> None:
        for row in rows:
            details: Details | None = {}
            if row.event in DETAILED or row.event in FEDERATED:
                details = read_details(bytes(row.body))
            if details is None or row.event is None or not _INSTANT.fullmatch(row.at or ""):
                self.unreadable += 1
                continue
            activity = self.devices[row.device]
            activity.entries += 1
            activity.events[row.event] += 1
            activity.failures += row.outcome != "ok"
            activity.last = row.at
            self.days[row.at[:10]][row.event] += 1
            if row.event == "retention.run":
                activity.ran, activity.policy = row.at, str(details.get("policy", ""))
            if row.event in FEDERATED:
                self._federated.take(row.number, row.device, row.event, row.outcome or "", row.at, details)
            if row.subject is not None:
                name = bytes(row.subject).hex()
                person = self.people.get((row.device, name))
                if person is None:
                    person = self.people[row.device, name] = Person(row.device, name, row.at)
                person.take(row.number, row.event, row.outcome or "", row.at, details)

    def federated(self) -> FederatedRecord:
        """Return rounds and releases as of the last `follow`: a copy, for another request may follow while this one reads."""
        with self._lock:
            if self._shown[0] != self.size:
                self._shown = (self.size, self._federated.copy())
            return self._shown[1]

    def subject(self, pseudonym: str) -> list[Person]:
        """Return whoever has this pseudonym: nobody, or one person of one device; more only if devices share salts."""
        return [person for (_, name), person in tuple(self.people.items()) if name == pseudonym]

    def everyone(self) -> tuple[Person, ...]:
        """Return everyone, as of the last `follow`."""
        with self._lock:
            return tuple(self.people.values())


def read_details(line: bytes) -> Details | None:
    """Return the details of a trail entry's line in the log, or None if it is not of the form a device can write."""
    try:
        entry = parse_log_entry(line)
        return dict(read_entry(entry.body).details) if isinstance(entry, TrailEntry) else None
    except (FacekeepError, ValueError):
        return None
