"""The consent ledger: one line for each person, by pseudonym."""

from __future__ import annotations

from typing import Final

from facekeep_server.evidence.people import Person
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Fact, Kind, Table

STATES: Final = ("in force", "ended", "refused", "requested", "erased", "none")


def consent_table(
    evidence: Evidence, state: str | None = None, device: str | None = None, start: int = 0, count: int = 50
) -> Table:
    """Return everyone the log names, whoever changed last first.

    Args:
        evidence: where from.
        state: one of `STATES`, or None for all.
        device: name of a device, or None for all.
        start: how many to pass over.
        count: how many at most.
    """
    follower, now = evidence.follower.follow(), evidence.now()
    people = [
        (person, found)
        for person in follower.everyone()
        if (found := person.state(now)) and (state is None or found == state) and (device is None or person.device == device)
    ]
    people.sort(key=lambda item: (item[0].last, item[0].pseudonym), reverse=True)
    rows = [
        (
            person.pseudonym,
            found,
            ", ".join(sorted(person.purposes)) or None,
            person.until,
            len(person.templates),
            person.used,
            person.erased,
            person.device,
            person.entries,
        )
        for person, found in people[start : start + count]
    ]
    return Table(
        "consent",
        f"{len(people):,} people by pseudonym, the latest change first",
        (
            Column("subject", "Pseudonym", Kind.SUBJECT),
            Column("state", "Consent", Kind.STATE),
            Column("purposes", "Purposes in force"),
            Column("until", "Until", Kind.TIME),
            Column("templates", "Templates", Kind.NUMBER),
            Column("used", "Last match", Kind.TIME),
            Column("erased", "Erased", Kind.TIME),
            Column("device", "Device", Kind.DEVICE),
            Column("entries", "Entries", Kind.NUMBER),
        ),
        rows,
        "The log names nobody for whom this holds.",
        "A pseudonym is a commitment under a salt that erasure destroys: who it is, only the device can tell, until then.",
        {"start": start + count} if len(people) > start + count else None,
    )


def subject_facts(evidence: Evidence, person: Person) -> list[Fact]:
    """Return where one person stands, by the log."""
    state = person.state(evidence.now())
    label = evidence.labels().get(person.device, "")
    purposes = ", ".join(sorted(person.purposes)) or "none"
    return [
        Fact("state", "Consent", state, Kind.STATE),
        Fact("purposes", "Purposes in force", purposes),
        Fact("until", "Until", person.until, Kind.TIME),
        Fact("record", "Last consent record", person.record, Kind.HASH),
        Fact("templates", "Templates on record", len(person.templates), Kind.NUMBER),
        Fact("enrolled", "Oldest template", min(person.templates, default=None), Kind.TIME),
        Fact("used", "Last match", person.used, Kind.TIME),
        Fact("first", "First entry", person.first, Kind.TIME),
        Fact("last", "Last entry", person.last, Kind.TIME),
        Fact("entries", "Entries that name the pseudonym", person.entries, Kind.NUMBER),
        Fact("erased", "Erased", person.erased, Kind.TIME),
        Fact("erasure", "Entry of the erasure", person.erased_entry, Kind.ENTRY),
        Fact("device", "Device", person.device, Kind.DEVICE),
        Fact("label", "Label of the device", label),
    ]
