"""`facekeep audit verify LOG`: a transparency log, audited from a copy on disk or from its address."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from facekeep.cli.output import EXIT_CODES, say
from facekeep.cli.reading import read_small_text
from facekeep.clock import SystemClock
from facekeep.errors import AuditError, LogError

if TYPE_CHECKING:
    from facekeep.logfiles import LogSource


def verify_log(
    log: str,
    policy_file: Path | None,
    kept: list[Path],
    proofs: list[Path],
    *,
    as_json: bool,
    token_file: Path | None = None,
) -> None:
    """Audit `log` and print the verdict; exit code 10 unless everything is as the policy demands.

    Raises:
        AuditError: "audit.invalid_policy".
        LogError: "log.unreachable" for an address that is none, "log.io" for a file beside the log that cannot be read.
    """
    from facekeep.auditor.policy import AuditPolicy
    from facekeep.logfiles import audit_log

    if policy_file is None:
        raise typer.BadParameter("A log is audited by a policy: give --policy FILE.", param_hint="--policy")
    try:
        text = read_small_text(policy_file)
    except (OSError, ValueError):
        raise AuditError(
            "audit.invalid_policy", "The policy cannot be read: it is a text file in UTF-8 of at most 1 MiB."
        ) from None
    policy = AuditPolicy.parse(text)
    source = _source(log, token_file)
    beside = [_read_beside(path) for path in kept], [_read_beside(path) for path in proofs]
    with _shown() as progress:
        verdict = audit_log(source, policy, SystemClock().now(), kept=beside[0], proofs=beside[1], progress=progress)
    say(verdict.render_text(), verdict.to_dict(), as_json=as_json)
    if not verdict.is_verified:
        raise typer.Exit(EXIT_CODES["audit"])


def _source(log: str, token_file: Path | None) -> LogSource:
    from facekeep.logfiles import LogDirectory

    if log.startswith(("https://", "http://")):
        from facekeep.logfiles.web import LogAddress

        # From a file: whoever lists the processes of the machine would see an argument.
        return LogAddress(log, token=None if token_file is None else _read_beside(token_file).decode().strip())
    if token_file is not None:
        raise typer.BadParameter("A token is for the address of a log, not for a directory.", param_hint="--token-file")
    path = Path(log).expanduser()
    if not path.is_dir():
        raise LogError("log.incomplete", "There is no log directory at the path given.")
    return LogDirectory(path)


def _read_beside(path: Path) -> bytes:
    try:
        return read_small_text(path).encode()
    except (OSError, ValueError):
        raise LogError("log.io", "A checkpoint, proof or token beside the log cannot be read: it is a text file.") from None


@contextmanager
def _shown() -> Iterator[Callable[[int, int], None]]:
    """Show progress on standard error: a bar on a terminal, else a line for each tenth."""
    if sys.stderr.isatty():
        with typer.progressbar(length=1, label="Audit", file=sys.stderr, show_pos=False) as bar:

            def draw(done: int, total: int) -> None:
                bar.length = total
                bar.update(done - bar.pos)

            yield draw
        return
    shown = 0

    def write(done: int, total: int) -> None:
        nonlocal shown
        tenth = 10 * done // total
        if tenth > shown:
            shown = tenth
            print(f"audit: {done} of {total} entries", file=sys.stderr, flush=True)  # noqa: T201

    yield write
