"""Erasures: who was erased, why, and the entry of the log that proves it."""

from __future__ import annotations

from facekeep_server.evidence.entries import list_entries
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Kind, Table

EVENTS = ("template.erased", "template.expired", "receipt.expired")


def erasures_table(evidence: Evidence, before: int | None = None, count: int = 50) -> Table:
    """Return what was destroyed, the newest first; each line leads to its proof."""
    found, following = list_entries(evidence, before=before, count=count, events=EVENTS)
    rows = []
    for line in found:
        details = line.details or {}
        gone = details.get("references", details.get("records"))
        whole = line.event == "template.erased" or details.get("subject_erased") is True
        why = "withdrawal" if line.event == "template.erased" else str(details.get("reason", "term"))
        subject = line.subject if line.subject else None
        rows.append(
            (
                line.number,
                line.at,
                subject,
                "consent records" if line.event == "receipt.expired" else "whole subject" if whole else "templates",
                gone if isinstance(gone, int) else None,
                why,
                str(details["due"]) if "due" in details else None,
                details.get("epoch") if isinstance(details.get("epoch"), int) else None,
                line.outcome,
                line.device,
            )
        )
    return Table(
        "erasures",
        "What was destroyed, the newest first",
        (
            Column("entry", "Proof", Kind.ENTRY),
            Column("at", "Time", Kind.TIME),
            Column("subject", "Pseudonym", Kind.SUBJECT),
            Column("what", "What"),
            Column("count", "How many", Kind.NUMBER),
            Column("why", "Why"),
            Column("due", "Due since", Kind.TIME),
            Column("epoch", "Wrap key epoch", Kind.NUMBER),
            Column("outcome", "Outcome", Kind.STATE),
            Column("device", "Device", Kind.DEVICE),
        ),
        rows,
        "Nothing was erased yet.",
        "The device destroyed the keys under which the templates could be opened, and the salt behind the pseudonym. "
        "The entry says so "
        "under the device's signature; its page holds the proof that it is in the log.",
        following,
    )
