"""Federated rounds and releases as tables: all of it read from the log, the coordinator's word and the devices' side by side."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from typing import Final

from facekeep.clock import parse_rfc3339
from facekeep_server.evidence.chart import Chart, Series
from facekeep_server.evidence.entries import list_entries
from facekeep_server.evidence.rounds import FederatedRecord, ReleaseLine, numbers_of
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Fact, Kind, Table

_RELEASE_NOTE: Final = (
    "Adopted, refused and rolled back are counted from the devices' own trails. A release that devices adopted and nobody "
    "published in this log is unknown: ask the coordinator."
)


def record_of(evidence: Evidence) -> FederatedRecord:
    """Return what the log says, up to now: followed once, for everything that a page or a report tells of it."""
    return evidence.follower.follow().federated()


def federated_facts(record: FederatedRecord) -> list[Fact]:
    """Return the figures that ask for attention."""
    rounds, releases = list(record.rounds.values()), list(record.releases.values())
    states = Counter(line.state for line in rounds)
    unknown = sum(line.state == "unknown" for line in releases)
    back = sum(len(line.rolled_back) for line in releases)
    suspects = sum(line.suspects or 0 for line in rounds)
    spent = max(record.spent.values(), default=None)
    stated = [line.epsilon for line in releases if line.epsilon]
    return [
        Fact("completed", "Rounds completed", states["completed"], Kind.NUMBER),
        Fact("aborted", "Rounds aborted", states["aborted"], Kind.NUMBER),
        Fact("open", "Rounds planned, not over", states["planned"], Kind.NUMBER),
        Fact("suspects", "Devices suspected in a round", suspects, Kind.NUMBER, "bad" if suspects else "good"),
        Fact("releases", "Releases published", sum(line.state in ("published", "fleet") for line in releases), Kind.NUMBER),
        Fact("withheld", "Withheld by gate or canaries", sum(line.state == "withheld" for line in releases), Kind.NUMBER),
        Fact("rolled_back", "Roll-backs on devices", back, Kind.NUMBER, "bad" if back else "good"),
        Fact("unknown", "Adopted, but published nowhere", unknown, Kind.NUMBER, "bad" if unknown else "good"),
        Fact("epsilon", "Privacy spent, newest release (epsilon)", stated[-1] if stated else None),
        Fact("spent", "Largest budget a device says it spent (epsilon)", None if spent is None else f"{spent:.3f}"),
    ]


def rounds_table(record: FederatedRecord, start: int = 0, count: int = 50) -> Table:
    """Return the rounds, the newest first."""
    lines = sorted(record.rounds.values(), key=lambda line: (line.planned or line.ended, line.number), reverse=True)
    rows = [
        (
            line.entry,
            line.number,
            line.planned or None,
            f"{line.kind} {line.level}".strip().removesuffix(" none") or None,
            line.state,
            line.step or None,
            line.reason or None,
            line.cohort,
            line.prepared,
            line.survivors,
            len(line.joined),
            sum(line.refused.values()),
            line.suspects,
            line.minimum,
            line.epsilon or None,
            line.delta or None,
            line.federation,
        )
        for line in lines[start : start + count]
    ]
    return Table(
        "rounds",
        f"{len(lines):,} rounds, the newest first",
        (
            Column("entry", "Entry", Kind.ENTRY),
            Column("round", "Round", Kind.NUMBER),
            Column("planned", "Planned", Kind.TIME),
            Column("kind", "Computes"),
            Column("state", "State", Kind.STATE),
            Column("step", "Aborted in", Kind.CODE),
            Column("reason", "Because", Kind.CODE),
            Column("cohort", "Invited", Kind.NUMBER),
            Column("prepared", "Prepared", Kind.NUMBER),
            Column("survivors", "In the sum", Kind.NUMBER),
            Column("joined", "Say so themselves", Kind.NUMBER),
            Column("refused", "Refusals", Kind.NUMBER),
            Column("suspects", "Suspects", Kind.NUMBER),
            Column("minimum", "Fewest in a sum", Kind.NUMBER),
            Column("epsilon", "Epsilon of the round"),
            Column("delta", "Delta"),
            Column("federation", "Federation"),
        ),
        rows,
        "The log tells of no round.",
        "Say so themselves: devices whose own trail in this log says that they sent an update; devices that keep no log here are "
        "missing from it. Nothing of an aborted round was opened.",
        {"start": start + count} if len(lines) > start + count else None,
    )


def releases_table(record: FederatedRecord) -> Table:
    """Return the releases, the newest first."""
    lines = sorted(record.releases.values(), key=lambda line: (line.version, line.at), reverse=True)
    return Table(
        "releases",
        f"{len(lines):,} releases and withheld candidates, the newest first",
        (
            Column("entry", "Entry", Kind.ENTRY),
            Column("version", "Version", Kind.NUMBER),
            Column("at", "Time", Kind.TIME),
            Column("state", "State", Kind.STATE),
            Column("adopted", "Adopted", Kind.NUMBER),
            Column("refused", "Refused", Kind.NUMBER),
            Column("rolled_back", "Rolled back", Kind.NUMBER),
            Column("epsilon", "Epsilon so far"),
            Column("delta", "Delta"),
            Column("signatures", "Signatures", Kind.NUMBER),
            Column("level", "Level"),
            Column("rounds", "Rounds"),
            Column("reason", "Withheld because"),
            Column("release", "Release", Kind.HASH),
            Column("parent", "Continues", Kind.HASH),
            Column("federation", "Federation"),
        ),
        [_release_row(line) for line in lines],
        "No model was released.",
        _RELEASE_NOTE,
    )


def refusals_table(record: FederatedRecord) -> Table:
    """Return what was refused in rounds and of releases, by code."""
    total: Counter[tuple[str, str]] = Counter()
    for line in record.rounds.values():
        total.update({("rounds", code): count for code, count in line.refused.items()})
    for release in record.releases.values():
        total.update({("releases", code): count for code, count in release.refused.items()})
    return Table(
        "refusals",
        "What was refused, by code",
        (Column("of", "Of"), Column("code", "Code", Kind.CODE), Column("count", "Refusals", Kind.BAR)),
        [(of, code, count) for (of, code), count in sorted(total.items(), key=lambda item: (-item[1], item[0]))],
        "Nothing was refused.",
    )


def privacy_table(record: FederatedRecord) -> Table:
    """Return how privacy was spent, the newest first: what each round costs, and what is said of all of them."""
    rows: list[tuple[str | int | None, ...]] = []
    for line in record.rounds.values():
        spent = record.spent.get((line.federation, line.number))
        told = None if spent is None else f"{spent:.3f}"
        rows.append((line.ended or line.planned or None, line.federation, f"round {line.number}", line.epsilon or None, told, None))
    rows += [
        (line.at or None, line.federation, f"release {line.version}", None, None, line.epsilon)
        for line in record.releases.values()
        if line.epsilon
    ]
    return Table(
        "privacy",
        "Privacy spent by one device, the newest first",
        (
            Column("at", "Time", Kind.TIME),
            Column("federation", "Federation"),
            Column("what", "What"),
            Column("round_epsilon", "This round alone"),
            Column("device_epsilon", "Largest that a device says"),
            Column("release_epsilon", "As the release states"),
        ),
        sorted(rows, key=lambda row: str(row[0] or ""), reverse=True),
        "No privacy was spent.",
        "Epsilon, with one device as the unit, at the delta of the policy. Devices reckon by their own ledger, over every "
        "federation they were in; a release states what all rounds before it cost whoever was in each of them.",
    )


def privacy_chart(record: FederatedRecord) -> Chart:
    """Return privacy spent over time."""
    stated = [(line.at, line.epsilon) for line in record.releases.values() if line.state != "unknown"]
    by_round = {(line.federation, line.number): line.ended or line.planned for line in record.rounds.values()}
    devices = [(by_round.get(key, ""), f"{spent:g}") for key, spent in record.spent.items()]
    return Chart(
        "privacy-chart",
        "Privacy spent over time: epsilon that releases state, and the largest that a device's own ledger says",
        "epsilon",
        (Series("releases state", _points(stated)), Series("devices say, at most", _points(devices, rising=True))),
    )


def participation_table(evidence: Evidence, record: FederatedRecord, pseudonym: str, count: int) -> Table:
    """Return the rounds that used something of one pseudonym, with the releases they went into and the bound that covers them."""
    found, following = list_entries(evidence, subject=pseudonym, events=("round.joined",), count=count)
    rows = []
    for entry in found:
        details = entry.details or {}
        federation, number, plan = (str(details.get(name, "")) for name in ("federation", "round", "plan"))
        line = record.rounds.get((federation, int(number) if number.isdigit() else 0, plan))
        rows.append(
            (
                entry.number,
                entry.at,
                int(number) if number.isdigit() else None,
                federation,
                f"{details.get('kind', '')} {details.get('level', '')}".strip().removesuffix(" none"),
                "unknown" if line is None else line.state,
                _releases_with(record, federation, number) or None,
                str(details.get("epsilon", "")) or None,
                str(details.get("spent", "")) or None,
                str(details.get("delta", "")) or None,
            )
        )
    return Table(
        "participation",
        "Rounds that used something of this pseudonym, the newest first",
        (
            Column("entry", "Entry", Kind.ENTRY),
            Column("at", "Time", Kind.TIME),
            Column("round", "Round", Kind.NUMBER),
            Column("federation", "Federation"),
            Column("kind", "Computed"),
            Column("state", "State", Kind.STATE),
            Column("releases", "In releases"),
            Column("epsilon", "Epsilon of the round"),
            Column("spent", "Spent by the device so far"),
            Column("delta", "Delta"),
        ),
        rows,
        "No round used anything of this pseudonym.",
        "Nothing of a round that was aborted was opened, and none of it is in a release.",
        following,
    )


def covering_releases(evidence: Evidence, record: FederatedRecord, pseudonym: str, count: int) -> list[ReleaseLine]:
    """Return every release that holds a round which used something of the pseudonym, and all that continue it, the oldest first."""
    found, _ = list_entries(evidence, subject=pseudonym, events=("round.joined",), count=count)
    used = {(str((item.details or {}).get("federation", "")), (item.details or {}).get("round")) for item in found}
    lines = sorted((line for line in record.releases.values() if line.digest), key=lambda line: line.version)
    reached: dict[str, ReleaseLine] = {}
    for line in lines:
        if line.parent in reached or any((line.federation, number) in used for number in numbers_of(line.rounds)):
            reached[line.digest] = line
    return list(reached.values())


def _releases_with(record: FederatedRecord, federation: str, number: str) -> str:
    versions = [
        line.version
        for line in record.releases.values()
        if line.digest and line.federation == federation and number.isdigit() and int(number) in numbers_of(line.rounds)
    ]
    return ", ".join(str(version) for version in sorted(versions))


def _release_row(line: ReleaseLine) -> tuple[str | int | None, ...]:
    return (
        line.entry,
        line.version,
        line.at or None,
        line.state,
        len(line.adopted),
        sum(line.refused.values()),
        len(line.rolled_back),
        line.epsilon or None,
        line.delta or None,
        line.signatures,
        line.level or None,
        line.rounds or None,
        line.reason or None,
        line.digest or None,
        line.parent or None,
        line.federation,
    )


def _points(found: list[tuple[str, str]], *, rising: bool = False) -> list[tuple[datetime, float]]:
    points: list[tuple[datetime, float]] = []
    for at, text in sorted(found):
        try:
            value = float(text)
        except ValueError:
            continue
        if not at or not math.isfinite(value):
            continue
        # What was spent is never given back: one device that joined late does not make the most fall.
        points.append((parse_rfc3339(at), max(value, points[-1][1]) if rising and points else value))
    return points
