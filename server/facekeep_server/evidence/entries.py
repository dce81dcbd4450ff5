"""Lines of the log, found by what is in them, and the proof that each is in the log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from facekeep.merkle import leaf_hash
from facekeep.tlog import LogProof, verify_inclusion
from facekeep_server.errors import ServerError
from facekeep_server.evidence.reading import Details, read_details
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Kind, Table
from facekeep_server.log.transaction import DEVICE_LINE, HEAD_LINE, TRAIL_LINE
from facekeep_server.store.tables import Entry

_KINDS = {DEVICE_LINE: "device", TRAIL_LINE: "trail", HEAD_LINE: "head"}
Following = Mapping[str, str | int] | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log.

    Attributes:
        number: place in the log.
        kind: "device", "trail" or "head".
        device: whose.
        event: code, or None where it is no trail entry; likewise the others.
        outcome: "ok" or the code of an error.
        at: time by the device.
        subject: pseudonym or None.
        details: what the event carries, or None where it cannot be read.
        line: the bytes that were hashed.
    """

    number: int
    kind: str
    device: str
    event: str | None
    outcome: str | None
    at: str | None
    subject: str | None
    details: Details | None
    line: bytes


@dataclass(frozen=True, slots=True)
class ProvedLine:
    """A line and why it is in the log.

    Attributes:
        line: what.
        proof: inclusion proof with the checkpoint of now, verified.
        leaf: hexadecimal leaf hash.
        size: entries the checkpoint counts.
    """

    line: LogLine
    proof: LogProof
    leaf: str
    size: int


def list_entries(
    evidence: Evidence,
    *,
    before: int | None = None,
    count: int = 50,
    device: str | None = None,
    events: Sequence[str] = (),
    subject: str | None = None,
    failed: bool = False,
    since: str | None = None,
    until: str | None = None,
) -> tuple[list[LogLine], Following]:
    """Return up to `count` lines that match all that is given, the newest first, and where to go on.

    Args:
        evidence: where from.
        before: only lines numbered below.
        count: how many at most.
        device: name of a device.
        events: codes, any of which.
        subject: pseudonym.
        failed: only entries whose outcome is an error.
        since: RFC 3339 time, or its beginning such as a day: entries dated then or later.
        until: likewise: entries dated before.
    """
    query = _columns()
    if before is not None:
        query = query.where(Entry.number < before)
    if device is not None:
        query = query.where(Entry.device == device)
    if events:
        query = query.where(Entry.event.in_(events))
    if subject is not None:
        query = query.where(Entry.subject == bytes.fromhex(subject))
    if failed:
        query = query.where(Entry.kind == TRAIL_LINE, Entry.outcome != "ok")
    if since is not None:
        query = query.where(Entry.at >= since)
    if until is not None:
        query = query.where(Entry.at < until)
    with evidence.server.store.reading() as connection:
        rows = connection.execute(query.order_by(Entry.number.desc()).limit(count + 1)).all()
    found = [_line(row) for row in rows[:count]]
    return found, {"before": found[-1].number} if len(rows) > count else None


def entries_table(evidence: Evidence, *, key: str = "entries", caption: str = "Lines of the log", **wanted: Any) -> Table:
    """Return what `list_entries` finds as a table."""
    found, following = list_entries(evidence, **wanted)
    return Table(
        key,
        f"{caption}, the newest first",
        (
            Column("entry", "Entry", Kind.ENTRY),
            Column("at", "Time", Kind.TIME),
            Column("event", "Event", Kind.CODE),
            Column("outcome", "Outcome", Kind.STATE),
            Column("subject", "Pseudonym", Kind.SUBJECT),
            Column("device", "Device", Kind.DEVICE),
            Column("details", "Details"),
        ),
        [
            (line.number, line.at, line.event or f"({line.kind} line)", line.outcome, line.subject, line.device, details_text(line))
            for line in found
        ],
        "No line of the log matches.",
        "",
        following,
    )


def details_text(line: LogLine) -> str | None:
    """Return the details of a line in one line of text."""
    if line.kind != "trail":
        return None
    if line.details is None:
        return "cannot be read"
    return "; ".join(f"{name} {json.dumps(value) if not isinstance(value, str) else value}" for name, value in line.details.items())


def prove_entry(evidence: Evidence, number: int) -> ProvedLine:
    """Return a line with the proof that it is in the log as it stands now. The proof is verified before it is given.

    Raises:
        ServerError: "proof.no_such_entry"; "server.corrupt" if what is stored does not prove it.
        LogError: "log.bad_proof" likewise.
    """
    reader = evidence.server.reader
    # Under what witnesses have seen, if the entry is in that: then the proof convinces whoever asks for a quorum.
    checkpoint, note = evidence.server.published()
    if number >= checkpoint.size:
        checkpoint, note = reader.checkpoint()
    line = read_entry_line(evidence, number)
    if number >= checkpoint.size:
        raise _no_such_entry()
    path = reader.inclusion(number, checkpoint.size)
    leaf = leaf_hash(line.line)
    verify_inclusion(leaf, number, checkpoint.size, path, checkpoint.root)
    return ProvedLine(line, LogProof(number, path, note), leaf.hex(), checkpoint.size)


def read_entry_line(evidence: Evidence, number: int) -> LogLine:
    """Return a line.

    Raises:
        ServerError: "proof.no_such_entry".
    """
    with evidence.server.store.reading() as connection:
        row = connection.execute(_columns().where(Entry.number == number)).one_or_none()
    if row is None:
        raise _no_such_entry()
    return _line(row)


def _no_such_entry() -> ServerError:
    return ServerError("proof.no_such_entry", "The log holds no entry with this number.")


def _columns() -> Any:
    return select(Entry.number, Entry.kind, Entry.device, Entry.event, Entry.outcome, Entry.at, Entry.subject, Entry.body)


def _line(row: Any) -> LogLine:
    body = bytes(row.body)
    details = read_details(body) if row.kind == TRAIL_LINE else None
    subject = bytes(row.subject).hex() if row.subject is not None else None
    return LogLine(row.number, _KINDS.get(row.kind, "?"), row.device, row.event, row.outcome, row.at, subject, details, body)
