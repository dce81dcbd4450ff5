"""What the command line prints: a sentence or a table for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, NoReturn

import typer

from facekeep.errors import FacekeepError

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

# Stable: scripts branch on these. 1 is an internal error, 2 a usage error.
EXIT_NON_MATCH: Final = 3
EXIT_CODES: Final[dict[str, int]] = {
    "consent": 4,
    "acquisition": 5,
    "enrolment": 6,
    "comparison": 7,
    "vault": 8,
    "model": 9,
    "audit": 10,
    "log": 10,
    "trust": 11,
    "selftest": 12,
    "demo": 13,
    "retention": 15,
    "erasure": 16,
    "confirmation": 17,
    "federation": 18,
    "release": 19,
}


KEEP_HEAD: Final = "Keep this signed head elsewhere: it shows later that nothing was cut from the trail."


def exit_code_of(error: FacekeepError) -> int:
    """Return the documented exit code of an error."""
    if error.code == "comparison.non_match":
        return EXIT_NON_MATCH
    return EXIT_CODES[error.code.split(".", 1)[0]]


def say(text: str, value: Mapping[str, Any], *, as_json: bool) -> None:
    """Print `text`, or `value` as JSON."""
    print(json.dumps(value) if as_json else text)  # noqa: T201


def fail(error: FacekeepError, *, as_json: bool) -> NoReturn:
    """Print an error and end the process with its exit code."""
    if as_json:
        print(json.dumps({"error": {"code": error.code, "message": error.args[0]}}))  # noqa: T201
    else:
        print(f"{error.code}: {error.args[0]}", file=sys.stderr)  # noqa: T201
    raise SystemExit(exit_code_of(error))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows as aligned columns."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)
