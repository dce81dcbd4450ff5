"""Releases over the whole log: what devices adopted is what a coordinator published.

Rule: where the log holds what a coordinator published for a federation up to some version, no device adopted a release up to that
version that is not among them. A coordinator may submit its trail later than devices do, so what is newer is not judged; where
devices' policies name the log, they do not adopt it before its line is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from facekeep.audit.event import OK
from facekeep.audit.reading import Entry
from facekeep.auditor.verdict import Findings

RELEASES: Final = frozenset({"release.published", "release.adopted"})


@dataclass(frozen=True, slots=True)
class _Adopted:
    """The first adoption of a release."""

    index: int
    device: str


class ReleaseLedger:
    """Follows the entries of `RELEASES` of all devices."""

    def __init__(self) -> None:
        self._published: dict[str, dict[int, set[str]]] = {}
        self._adopted: dict[tuple[str, int, str], _Adopted] = {}

    def take(self, index: int, device: str, entry: Entry) -> None:
        """Follow one entry; `index` is its place in the log, `device` whose it is."""
        if entry.outcome != OK or entry.event not in RELEASES:
            return
        federation, digest = str(entry.details.get("federation", "")), str(entry.details.get("release", ""))
        version = entry.details.get("version")
        # What is no number is a finding of the life it is in.
        if not isinstance(version, int):
            return
        if entry.event == "release.published":
            self._published.setdefault(federation, {}).setdefault(version, set()).add(digest)
        else:
            self._adopted.setdefault((federation, version, digest), _Adopted(index, device))

    def finish(self, findings: Findings) -> None:
        """Report what was adopted and never published."""
        for (federation, version, digest), found in self._adopted.items():
            published = self._published.get(federation, {})
            if version <= max(published, default=0) and digest not in published.get(version, ()):
                message = f"release.adopted of version {version}, which is no release that the coordinator published."
                findings.add("audit.violation", message, found.index, found.device)
