"""Which rounds and releases one person took part in, by pseudonym, and what bounds how much of them can be in there."""

from __future__ import annotations

from facekeep_server.errors import ServerError
from facekeep_server.evidence.entries import list_entries
from facekeep_server.evidence.federated import covering_releases, participation_table, record_of
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Fact, Kind, Table
from facekeep_server.pages import Section
from facekeep_server.reports.schedules import MOST_ROWS

_PURPOSES = ("federated-training", "calibration-statistics")


def sections(evidence: Evidence, subject: str) -> tuple[Section, ...]:
    """Return rounds, releases, the bound, and since when the consent behind them is withdrawn.

    Raises:
        ServerError: "request.not_found".
    """
    record = record_of(evidence)
    if not evidence.follower.subject(subject):
        raise ServerError("request.not_found", "The log does not name this pseudonym.")
    table = participation_table(evidence, record, subject, MOST_ROWS)
    releases = covering_releases(evidence, record, subject, MOST_ROWS)
    spent = [str(row[8]) for row in table.rows if row[8]]
    ended = _ended(evidence, subject)
    facts = (
        Fact("pseudonym", "Pseudonym", subject, Kind.SUBJECT),
        Fact("rounds", "Rounds that used something of this person", len({row[2] for row in table.rows}), Kind.NUMBER),
        Fact("releases", "Releases that hold one of them, or continue such a release", len(releases), Kind.NUMBER),
        Fact("spent", "Privacy spent by the device in all of them, at most (epsilon)", max(spent, key=float) if spent else None),
        Fact("withdrawn", "Consent withdrawn or ended", ended, Kind.TIME),
    )
    columns = (
        Column("entry", "Entry", Kind.ENTRY),
        Column("version", "Version", Kind.NUMBER),
        Column("release", "Release", Kind.HASH),
        Column("rounds", "Rounds"),
        Column("state", "State", Kind.STATE),
        Column("epsilon", "Epsilon so far"),
        Column("delta", "Delta"),
    )
    rows = [
        (line.entry, line.version, line.digest, line.rounds or None, line.state, line.epsilon or None, line.delta or None)
        for line in releases
    ]
    return (
        Section("The person", ("The pseudonym belongs to one enrolment on one device.",), facts),
        Section("Rounds", table=table),
        Section("Releases", table=Table("releases", "Releases, the oldest first", columns, rows, "No release holds any of it.")),
        Section(
            "What bounds it",
            (
                "No sample, template or update of this person left the device in the clear: each round opened one noised sum "
                "over many devices. Whoever sees every sum and every release can tell this device's part in all of its rounds "
                "from none at all with no more certainty than (epsilon, delta) differential privacy allows. The unit is the "
                "device: one bound covers everybody on it together.",
                "After a withdrawal no further round uses the person. What earlier releases learnt cannot be taken out of them "
                "again; the bound above is what holds for it, for as long as releases continue them.",
            ),
        ),
        Section(
            "What is not in it",
            ("Rounds that the device has not yet written to this log, and rounds of federations that keep another log.",),
        ),
    )


def _ended(evidence: Evidence, subject: str) -> str | None:
    events = ("consent.withdrawn", "consent.refused", "consent.expired", "template.erased")
    found, _ = list_entries(evidence, subject=subject, events=events, count=50)
    for line in found:
        named = str((line.details or {}).get("purposes", "")).split(",")
        if line.event == "template.erased" or any(purpose in named for purpose in _PURPOSES):
            return line.at
    return None
