"""What a selftest found: checks, findings, and how much was watched. Holds no byte of what leaked."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

from facekeep.errors import SelftestError

REPORT_VERSION: Final = 1
_WIDTH: Final = 110


class CheckState(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_POSSIBLE = "not possible here"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        name: stable name, such as "flow.verify_match" or "strace.network".
        kind: "flow" when the device did not do what it should, "leak" when something left that should not,
            "watch" when the watch itself is in doubt.
        state: passed, failed or not possible here.
        detail: what was looked at, or why it failed or could not be done.
    """

    name: str
    kind: Literal["flow", "leak", "watch"]
    state: CheckState
    detail: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that should not have happened.

    Attributes:
        source: who saw it: "audit hook", "strace", "files" or "output".
        what: what it was, and what of a picture it carried; never the bytes themselves.
        where: the file, stream or address.
    """

    source: str
    what: str
    where: str


@dataclass(frozen=True, slots=True)
class Watched:
    """How much was watched.

    Attributes:
        secrets: pictures, crops, embeddings and templates whose bytes were searched for.
        windows: 16-byte windows of them, in all their forms.
        writes: system calls that wrote, seen by strace.
        write_bytes: bytes they wrote, all searched.
        targets: distinct files, pipes and sockets they wrote to.
        files: files read in the sandbox, every pass counted.
        file_bytes: bytes of them, all searched.
        output_bytes: bytes of standard output and standard error, all searched.
        audit_events: events that the audit hook judged.
    """

    secrets: int = 0
    windows: int = 0
    writes: int = 0
    write_bytes: int = 0
    targets: int = 0
    files: int = 0
    file_bytes: int = 0
    output_bytes: int = 0
    audit_events: int = 0


@dataclass(frozen=True, slots=True)
class SelftestReport:
    """Outcome of a selftest.

    Attributes:
        checks: every check, in the order they were made.
        findings: what should not have happened, empty when all is well.
        watched: how much was watched.
        watchers: what watched: "audit hook", "network namespace", "strace".
        models: packs and builds that ran.
        seconds: how long the whole took.
        passed: whether no check failed. A check that is not possible here does not fail; the report says so.
        leaked: whether something left that should not.
        version: of this form of report.
    """

    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    watched: Watched
    watchers: tuple[str, ...]
    models: tuple[str, ...]
    seconds: float
    passed: bool = field(init=False)
    leaked: bool = field(init=False)
    version: int = REPORT_VERSION

    def __post_init__(self) -> None:
        failed = [check for check in self.checks if check.state is CheckState.FAILED]
        # A report of nothing passes nothing.
        object.__setattr__(self, "passed", bool(self.checks) and not failed)
        object.__setattr__(self, "leaked", any(check.kind == "leak" for check in failed))

    def check(self, name: str) -> Check:
        """Return the check of this name; KeyError if it was not made."""
        return {check.name: check for check in self.checks}[name]

    def require_passed(self) -> SelftestReport:
        """Return this report if no check failed.

        Raises:
            SelftestError: "selftest.leak" or "selftest.failed".
        """
        failed = [check.name for check in self.checks if check.state is CheckState.FAILED]
        if self.leaked:
            raise SelftestError(
                "selftest.leak",
                f"The selftest saw what should not leave memory: {', '.join(failed)}. "
                "Do not use this installation on anyone; run again with --keep DIR and report it.",
            )
        if not self.passed:
            names = ", ".join(failed) or "nothing ran"
            raise SelftestError("selftest.failed", f"The selftest did not pass: {names}. Its report says why.")
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def render_text(self) -> str:
        """Return the report as a table for people."""
        width = max(len(check.name) for check in self.checks) if self.checks else 0
        lines = []
        for check in self.checks:
            head = f"{_MARK[check.state]}  {check.name.ljust(width)}  "
            detail = textwrap.wrap(check.detail, max(_WIDTH - len(head), 40)) or [""]
            lines += [head + detail[0], *(" " * len(head) + more for more in detail[1:])]
        watched = self.watched
        lines += [
            "",
            f"watched by {', '.join(self.watchers) or 'nothing'}; models {', '.join(self.models) or 'none'}; {self.seconds:.1f} s",
            f"searched {watched.writes:,} writes ({watched.write_bytes:,} bytes, {watched.targets} targets), "
            f"{watched.files:,} file reads ({watched.file_bytes:,} bytes), {watched.output_bytes:,} bytes of output",
            f"for {watched.windows:,} windows of {watched.secrets} pictures, crops, embeddings and templates",
        ]
        if self.findings:
            lines += ["", "Findings:"] + [f"  {item.source}: {item.what} ({item.where})" for item in self.findings]
        verdict = "passed" if self.passed else ("LEAK" if self.leaked else "FAILED")
        return "\n".join([*lines, "", f"selftest: {verdict}"])


_MARK: Final = {CheckState.PASSED: "ok    ", CheckState.FAILED: "FAILED", CheckState.NOT_POSSIBLE: "n/a   "}
