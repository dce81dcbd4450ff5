"""The identification log: the fields of article 12(3) of the AI Act (EU) 2024/1689, as far as the entries carry them."""

from __future__ import annotations

from typing import Final

from facekeep_server.evidence.entries import list_entries
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Kind, Table

# What is missing, in plain words: the reports and the console say so next to the table.
MISSING: Final = (
    "Point (c): the picture that led to a match is not retained, on purpose. The entry says that there was a match and for which "
    "pseudonym; the input column says \u201cnot retained\u201d or holds a commitment to the input.",
    "Point (d): only a result opened under the two-person rule names who verified it. Where the column is empty, "
    "nobody did by the log.",
    "A search that ended in an error says when it ended, not when it began.",
)
EVENTS: Final = ("identification", "identification.sealed", "identification.confirmed", "identification.destroyed")


def identifications_table(
    evidence: Evidence, before: int | None = None, count: int = 50, since: str | None = None, until: str | None = None
) -> Table:
    """Return the identifications, the newest first.

    Args:
        evidence: where from.
        before: only entries numbered below.
        count: how many at most.
        since: RFC 3339 time or its beginning, or None.
        until: likewise: entries dated before.
    """
    found, following = list_entries(evidence, before=before, count=count, events=EVENTS, since=since, until=until)
    rows = []
    for line in found:
        details = {name: str(value) for name, value in (line.details or {}).items()}
        gallery = (line.details or {}).get("gallery")
        rows.append(
            (
                line.number,
                line.event,
                details.get("started"),
                details.get("ended") or line.at,
                details.get("database"),
                gallery if isinstance(gallery, int) else None,
                details.get("result") or (line.outcome if line.event == "identification" or line.outcome != "ok" else None),
                line.subject,
                details.get("input"),
                details.get("operators") or details.get("operator"),
                details.get("fpir"),
                line.device,
            )
        )
    return Table(
        "identifications",
        "Identifications, the newest first",
        (
            Column("entry", "Entry", Kind.ENTRY),
            Column("event", "Event", Kind.CODE),
            Column("started", "(a) Start", Kind.TIME),
            Column("ended", "(a) End", Kind.TIME),
            Column("database", "(b) Reference database", Kind.HASH),
            Column("gallery", "People searched", Kind.NUMBER),
            Column("result", "Result", Kind.STATE),
            Column("subject", "(c) Match: pseudonym", Kind.SUBJECT),
            Column("input", "(c) Input data"),
            Column("verified_by", "(d) Verified by"),
            Column("fpir", "Target FPIR"),
            Column("device", "Device", Kind.DEVICE),
        ),
        rows,
        "The log holds no identification.",
        "Letters are the points of article 12(3). (d) is known where the two-person rule was in force.",
        following,
    )
