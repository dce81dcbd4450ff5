"""Step 7: what was checked at the end, the audit trail, and what it all cost."""

from __future__ import annotations

import re
from collections.abc import Iterable
from statistics import median
from typing import Any, Final

from facekeep.demo.page.markup import Child, Markup, join, paragraph, table, tag
from facekeep.demo.record import Record
from facekeep.demo.words import counted

_STAGES: Final = {
    "capture": "read and decode a picture",
    "detect": "detect faces in a frame",
    "examine": "examine presentation attack",
    "embed": "embed a sample",
}
_OPEN_UP_TO: Final = 40
_INSTANT: Final = re.compile(r"(\d{4}-\d\d-\d\d)T\d\d:\d\d:\d\d\.\d{3}Z")
_LONG_IDENTIFIER: Final = re.compile(r"[0-9a-f]{32,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def proof_step(record: Record) -> Markup:
    """Return step 7: residue, older copy, trail."""
    proof, residue = record.proof, record.proof.residue
    facts = tag(
        "dl",
        *_entry(
            "Audit trail",
            f"{counted(proof.trail_size, 'entry', 'entries')}, each with the hash of the one before; "
            "verified against the signed head",
        ),
        *_entry("Tree head", tag("code", proof.trail_root)),
        *_entry("Device key", tag("code", proof.public_key)),
        *_entry(
            "Residue",
            f"{residue.needles:,} pieces of 16 bytes of frames, aligned samples and vectors (single, half and double precision) "
            f"looked for at every offset of {counted(residue.files, 'file', 'files')}, {residue.size_bytes / 1024:,.0f} KiB: "
            + ("none found" if not residue.found else "; ".join(residue.found)),
        ),
        *_entry(
            "Control",
            "a planted piece was found by the same search" if residue.is_control_found else "the planted piece was not found",
        ),
        *_entry("Older copy", join(tag("span", proof.backup.code, class_="code"), " ", proof.backup.message)),
        class_="facts",
    )
    rows = [_trail_row(entry) for entry in proof.trail]
    trail = table("Audit trail, oldest first", ("No.", "Time", "Event", "Outcome", "Subject", "Details"), rows, class_="trail")
    return join(
        paragraph("The trail holds codes, counts and commitments: never a name, a score, a picture or a vector."),
        facts,
        tag("h3", "Signed head"),
        tag("pre", tag("code", proof.note.strip())),
        tag(
            "details",
            tag("summary", f"The audit trail, {counted(len(rows), 'entry', 'entries')}"),
            trail,
            open=len(rows) <= _OPEN_UP_TO,
        ),
    )


def cost_step(record: Record) -> Markup:
    """Return the timing: stages, and whole calls."""
    names = _STAGES | ({"capture": "draw a picture"} if record.kind != "photos" else {})
    stages: list[tuple[Child, ...]] = [_timing(names.get(name, name), times) for name, times in record.stage_seconds]
    calls: list[tuple[Child, ...]] = [
        _timing("device.enrol", [each.seconds for each in record.enrolments]),
        _timing("device.verify", [each.seconds for each in record.comparisons]),
        _timing("device.identify", [each.seconds for each in record.searches if each.is_search]),
        _timing("device.withdraw", [record.withdrawal.seconds]),
    ]
    head = ("", "Times", "Median", "Slowest", "Together")
    return join(
        paragraph(
            "One process, measured while the demo ran. A call contains its stages; the first that needs a picture also decodes it, "
            f"and the very first loads the models. Contract {record.models.contract_id[:16]}…"
        ),
        table("Stages", ("Stage", *head[1:]), stages, class_="numbers"),
        table("Whole calls", ("Call", *head[1:]), [row for row in calls if row[1]], class_="numbers"),
    )


def _trail_row(entry: dict[str, Any]) -> tuple[Child, ...]:
    subject = entry["subject"]
    # Start and end of a search differ by milliseconds from the time of the entry.
    shown = {key: value for key, value in sorted(entry["details"].items()) if value != "" and key not in {"started", "ended"}}
    details = ", ".join(f"{key} {_brief(value)}" for key, value in shown.items())
    outcome = str(entry["outcome"])
    return (
        entry["seq"],
        str(entry["time"])[11:-1],
        tag("td", tag("code", entry["event"])),
        tag("td", outcome, class_=None if outcome == "ok" else "code-cell"),
        tag("td", tag("code", f"{subject[:8]}…", title=subject) if subject else "–"),
        tag("td", details, class_="details"),
    )


def _brief(value: object) -> str:
    """Return a detail of the trail, long identifiers cut: report.json has them whole."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value).removeprefix("urn:uuid:")
    return _LONG_IDENTIFIER.sub(lambda found: f"{found[0][:8]}…", _INSTANT.sub(r"\1", text))


def _timing(name: str, seconds: Iterable[float]) -> tuple[Child, ...]:
    times = list(seconds)
    if not times:
        return name, 0, "–", "–", "–"
    return name, len(times), _milliseconds(median(times)), _milliseconds(max(times)), f"{sum(times):.2f} s"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def _entry(name: str, value: Child) -> tuple[Markup, Markup]:
    return tag("dt", name), tag("dd", value)
