"""Inputs to a data protection impact assessment, GDPR article 35(7): scale, use, errors, withdrawals, incidents."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from sqlalchemy import func, select

from facekeep.clock import parse_rfc3339
from facekeep_server.evidence.fleet import activity_table, fleet_facts
from facekeep_server.evidence.logstate import verify_everything
from facekeep_server.evidence.people import Person
from facekeep_server.evidence.retention import retention_facts
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Fact, Kind, Table
from facekeep_server.log.transaction import TRAIL_LINE
from facekeep_server.pages import Section
from facekeep_server.store.tables import Entry, Incident

_NOT_IN_IT = (
    "Necessity and proportionality, and the rights of the people concerned: the controller's to assess.",
    "Error rates by group of people, and of the models at all: model sheets and docs/models/evaluation.md hold those.",
    "Anything a device did not write down, or has not sent yet.",
)


def sections(evidence: Evidence) -> tuple[Section, ...]:
    """Return the figures."""
    evidence.follower.follow()
    verdict = verify_everything(evidence)
    whole = Fact(
        "verdict", "The whole log, verified for this report", "verified" if verdict.is_verified else "not verified", Kind.STATE
    )
    found = Fact("findings", "Findings", sum(verdict.counts.values()), Kind.NUMBER, "" if verdict.is_verified else "bad")
    return (
        Section("Scale", facts=tuple(fleet_facts(evidence))),
        Section("Use", table=activity_table(evidence, 365)),
        Section("Outcomes", table=_outcomes(evidence)),
        Section("Withdrawal and erasure", facts=_withdrawals(evidence.follower.everyone(), evidence.now())),
        Section("Retention", facts=tuple(retention_facts(evidence))),
        Section("Incidents", table=_incidents(evidence)),
        Section("Integrity of these figures", facts=(whole, found)),
        Section("What is not in it", _NOT_IN_IT),
    )


def _outcomes(evidence: Evidence) -> Table:
    query = select(Entry.event, Entry.outcome, func.count()).where(Entry.kind == TRAIL_LINE).group_by(Entry.event, Entry.outcome)
    with evidence.server.store.reading() as connection:
        rows = sorted((row[0] or "", row[1] or "", row[2]) for row in connection.execute(query))
    columns = (Column("event", "Event", Kind.CODE), Column("outcome", "Outcome", Kind.STATE), Column("count", "Entries", Kind.BAR))
    note = "An outcome other than ok is the code of the refusal or error the call ended in: docs/errors.md."
    return Table("outcomes", "How calls ended", columns, rows, "Nothing is in the log yet.", note)


def _incidents(evidence: Evidence) -> Table:
    query = select(Incident.code, func.count()).group_by(Incident.code)
    with evidence.server.store.reading() as connection:
        rows = sorted((row[0], row[1]) for row in connection.execute(query))
    columns = (Column("code", "Code", Kind.CODE), Column("count", "How often", Kind.BAR))
    return Table("incident_codes", "Incidents by code", columns, rows, "There was no incident.")


def _withdrawals(people: tuple[Person, ...], now: datetime) -> tuple[Fact, ...]:
    states = Counter(person.state(now) for person in people)
    seconds = sorted(
        (parse_rfc3339(person.erased) - parse_rfc3339(person.ended)).total_seconds()
        for person in people
        if person.erased and person.ended and person.erased_by == "template.erased"
    )
    waiting = sum(bool(person.templates) and person.ended is not None for person in people)
    middle = f"{seconds[len(seconds) // 2]:,.0f} s" if seconds else None
    return (
        Fact("refused", "People who refused", states["refused"], Kind.NUMBER),
        Fact("erased", "People erased", states["erased"], Kind.NUMBER),
        Fact("timed", "Erasures after a withdrawal", len(seconds), Kind.NUMBER),
        Fact("median", "Withdrawal to erasure, median", middle),
        Fact("longest", "Withdrawal to erasure, longest", f"{seconds[-1]:,.0f} s" if seconds else None),
        Fact("waiting", "Withdrawn and not yet erased", waiting, Kind.NUMBER, "bad" if waiting else "good"),
    )
