"""What an audit of a log says: one page, as text and as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from facekeep.clock import to_rfc3339

_MOST_SHOWN: Final = 12
_MOST_KEPT: Final = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Attributes:
        code: registered error code.
        message: what was expected and what was found; no name, no commitment.
        index: entry of the log it is about, or None.
        device: the device it is about, or None.
    """

    code: str
    message: str
    index: int | None = None
    device: str | None = None

    def to_text(self) -> str:
        """Return one line."""
        place = "" if self.index is None else f" entry {self.index}:"
        device = "" if self.device is None else f" device {self.device[:8]}:"
        return f"{self.code}:{place}{device} {self.message}"


class Findings:
    """Findings as they come: all are counted, the first hundred are kept, so that a ruined log does not fill the memory."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.counts: Counter[str] = Counter()

    def add(self, code: str, message: str, index: int | None = None, device: str | None = None) -> None:
        """Note a finding."""
        self.counts[code] += 1
        if len(self.kept) < _MOST_KEPT:
            self.kept.append(Finding(code, message, index, device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of an audit.

    Attributes:
        origin: of the log, or "" where no checkpoint could be read.
        size: entries the checkpoint counts.
        root: its root, hexadecimal.
        witnesses: name in the policy -> time of the cosignature.
        entries: number of entries read, by kind.
        devices: number of devices.
        subjects: people on record now, by pseudonym.
        erased: people erased.
        events: event code -> number of entries.
        signed_heads: device signatures verified.
        first_time, last_time: of the entries.
        proofs: proofs and kept checkpoints verified beside the log.
        findings: what is wrong; the first hundred.
        counts: error code -> how many findings.
    """

    origin: str = ""
    size: int = 0
    root: str = ""
    witnesses: Mapping[str, datetime] = field(default_factory=dict)
    entries: Mapping[str, int] = field(default_factory=dict)
    devices: int = 0
    subjects: int = 0
    erased: int = 0
    events: Mapping[str, int] = field(default_factory=dict)
    signed_heads: int = 0
    first_time: datetime | None = None
    last_time: datetime | None = None
    proofs: int = 0
    findings: tuple[Finding, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_verified(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.counts

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return {
            "verified": self.is_verified,
            "origin": self.origin,
            "size": self.size,
            "root": self.root,
            "witnesses": {name: to_rfc3339(time) for name, time in sorted(self.witnesses.items())},
            "entries": dict(self.entries),
            "devices": self.devices,
            "subjects": self.subjects,
            "erased": self.erased,
            "events": dict(sorted(self.events.items())),
            "signed_heads": self.signed_heads,
            "first_time": to_rfc3339(self.first_time) if self.first_time else None,
            "last_time": to_rfc3339(self.last_time) if self.last_time else None,
            "proofs": self.proofs,
            "counts": dict(sorted(self.counts.items())),
            "findings": [
                {"code": item.code, "message": item.message, "index": item.index, "device": item.device} for item in self.findings
            ],
        }

    def render_text(self) -> str:
        """Return the page."""
        found = sum(self.counts.values())
        lines = [
            "VERIFIED: the log is whole and keeps the policy." if self.is_verified else f"NOT VERIFIED: {found} findings.",
            "",
            f"Log         {self.origin or 'unknown: no checkpoint could be trusted'}",
            f"Entries     {self.size} in the checkpoint; read: "
            + (", ".join(f"{count} {kind}" for kind, count in sorted(self.entries.items())) or "none"),
            f"Root        {self.root or '-'}",
            "Witnesses   "
            + (", ".join(f"{name} at {to_rfc3339(time)}" for name, time in sorted(self.witnesses.items())) or "none"),
            f"Devices     {self.devices}, {self.signed_heads} signatures over their trails",
            f"Subjects    {self.subjects} on record, {self.erased} erased",
        ]
        if self.first_time and self.last_time:
            lines.append(f"Period      {to_rfc3339(self.first_time)} to {to_rfc3339(self.last_time)}")
        if self.proofs:
            lines.append(f"Beside it   {self.proofs} proofs and kept checkpoints verified")
        if self.events:
            most = sorted(self.events.items(), key=lambda item: (-item[1], item[0]))[:10]
            lines.append("Events      " + ", ".join(f"{code} {count}" for code, count in most))
        if self.counts:
            lines += ["", "Found:", *(f"  {count} x {code}" for code, count in sorted(self.counts.items())), ""]
            lines += [f"  {item.to_text()}" for item in self.findings[:_MOST_SHOWN]]
            if found > _MOST_SHOWN:
                lines.append(f"  and {found - min(found, _MOST_SHOWN)} more")
        return "\n".join(lines)
