"""Who is on record, by pseudonym: what the entries of the log say about each, one after the other.

It tells what happened; whether it should have is for `facekeep.auditor` to judge.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from facekeep.audit.event import OK
from facekeep.clock import to_rfc3339

# Events whose details matter here; the details of all others need not be read.
DETAILED: Final = frozenset(
    {
        "consent.requested",
        "consent.given",
        "consent.renewed",
        "consent.refused",
        "consent.withdrawn",
        "consent.expired",
        "template.expired",
        "verification",
        "retention.run",
    }
)


@dataclass(slots=True)
class Person:
    """A subject of one device.

    Attributes:
        device: where.
        pseudonym: commitment, 64 hexadecimal digits.
        first, last: times of the first and last entry.
        entries: how many entries name the pseudonym.
        purposes: purposes with consent, not yet withdrawn.
        until: end of the consent, or None.
        asked: purposes that the last consent record was about.
        ended: when consent to enrolment ended by withdrawal, refusal or expiry, or None.
        how: the last consent event without its prefix, or "".
        record: identifier of the last consent record, or None.
        templates: when each template on record was made, the oldest first.
        used: last use by a match, or None.
        erased: when, or None.
        erased_by: event of the erasure, or None.
        erased_entry: its number in the log, or None.
    """

    device: str
    pseudonym: str
    first: str
    last: str = ""
    entries: int = 0
    purposes: frozenset[str] = frozenset()
    until: str | None = None
    asked: frozenset[str] = frozenset()
    ended: str | None = None
    how: str = ""
    record: str | None = None
    templates: list[str] = field(default_factory=list)
    used: str | None = None
    erased: str | None = None
    erased_by: str | None = None
    erased_entry: int | None = None

    def state(self, now: datetime) -> str:
        """Return "erased", "in force", "ended", "refused", "requested" or "none"."""
        if self.erased:
            return "erased"
        if self.purposes:
            return "in force" if self.until is None or self.until > to_rfc3339(now) else "ended"
        return {"refused": "refused", "requested": "requested", "": "none"}.get(self.how, "ended")

    def take(self, number: int, event: str, outcome: str, at: str, details: dict[str, str | int | bool]) -> None:
        """Follow one entry."""
        self.entries += 1
        self.last = at
        if outcome != OK:
            return
        if event.startswith("consent.") and event in DETAILED:
            self._consent(event, at, details)
        elif event == "template.created":
            self.templates.append(at)
        elif event == "template.erased":
            self._erase(number, event, at)
        elif event == "template.expired":
            if details.get("subject_erased") is True:
                self._erase(number, event, at)
            else:
                count = details.get("references")
                del self.templates[: count if isinstance(count, int) and count >= 0 else len(self.templates)]
        elif event == "identification" or (event == "verification" and details.get("match") is True):
            self.used = at

    def _consent(self, event: str, at: str, details: dict[str, str | int | bool]) -> None:
        purposes = frozenset(str(details.get("purposes", "")).split(",")) - {""}
        self.how = event.removeprefix("consent.")
        self.record = str(details["record"]) if "record" in details else self.record
        self.asked = purposes
        if event in ("consent.given", "consent.renewed"):
            self.purposes, self.until = purposes, str(details["until"]) if "until" in details else None
            self.ended = None if "enrolment" in purposes else self.ended or at
        elif event != "consent.requested":
            had = "enrolment" in self.purposes
            self.purposes -= purposes
            if had and "enrolment" not in self.purposes:
                self.ended = at

    def _erase(self, number: int, event: str, at: str) -> None:
        self.templates.clear()
        self.purposes = frozenset()
        self.erased, self.erased_by, self.erased_entry = at, event, number


@dataclass(slots=True)
class Activity:
    """What a device has written so far.

    Attributes:
        entries: trail entries.
        events: how many of each event.
        failures: entries whose outcome is an error.
        last: time of the last entry, or None.
        policy: hash of the retention policy its last run followed, or None.
        ran: time of the last retention run, or None.
    """

    entries: int = 0
    events: Counter[str] = field(default_factory=Counter)
    failures: int = 0
    last: str | None = None
    policy: str | None = None
    ran: str | None = None
