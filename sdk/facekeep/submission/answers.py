"""What a log server answers, read without believing it. Pure. Format: docs/formats/server-api.md."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from facekeep.audit.entry import LARGEST_BATCH
from facekeep.errors import LogError
from facekeep.tlog.notes import LARGEST_NOTE_BYTES
from facekeep.tlog.numbers import parse_hash

_LARGEST_NUMBER: Final = 2**53 - 1
_MOST_HASHES: Final = 63
_REASON = re.compile(r"[a-z]{1,32}\.[a-z_]{1,32}")


@dataclass(frozen=True, slots=True)
class LineProof:
    """A line's place in the log and its audit path.

    Attributes:
        number: place.
        path: 32-byte hashes, the leaf's sibling first.
    """

    number: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SubmissionAnswer:
    """What became of a batch, as the server says.

    Attributes:
        first: number in the trail of the first entry.
        expected: number of the entry to submit next.
        proofs: for each line, the head's last.
        checkpoint: signed note.
    """

    first: int
    expected: int
    proofs: tuple[LineProof, ...]
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request was refused (RFC 9457), as far as it is of our form.

    Attributes:
        reason: stable code, or "" if there is none of our form.
        expected: number of the entry to submit next, where that is the reason.
    """

    reason: str = ""
    expected: int | None = None


def parse_submission(data: bytes) -> SubmissionAnswer:
    """Return the answer to a batch.

    Raises:
        LogError: "log.malformed".
    """
    fields = _object(data)
    proofs = fields.get("proofs")
    numbers = fields.get("numbers")
    if not isinstance(proofs, list) or not isinstance(numbers, list) or not 0 < len(proofs) <= LARGEST_BATCH + 1:
        raise _malformed()
    found = tuple(_proof(item) for item in proofs)
    if [_number(item) for item in numbers] != [item.number for item in found]:
        raise _malformed()
    return SubmissionAnswer(_number(fields.get("first")), _number(fields.get("expected")), found, _note(fields))


def parse_enrolment(data: bytes) -> tuple[str, LineProof, str]:
    """Return the device's name in the log, the proof of its first line, and the checkpoint.

    Raises:
        LogError: "log.malformed".
    """
    fields = _object(data)
    device = fields.get("device")
    if not isinstance(device, str):
        raise _malformed()
    return device, _proof(fields.get("line")), _note(fields)


def parse_path(data: bytes) -> tuple[bytes, ...]:
    """Return the hashes of a proof.

    Raises:
        LogError: "log.malformed".
    """
    return _path(_object(data).get("path"))


def parse_problem(data: bytes) -> Problem:
    """Return why a request was refused. Anything but a code of the usual form is not repeated: it is the server's text."""
    try:
        fields = _object(data)
    except LogError:
        return Problem()
    reason, expected = fields.get("code"), fields.get("expected")
    known = isinstance(reason, str) and _REASON.fullmatch(reason) is not None
    is_number = isinstance(expected, int) and not isinstance(expected, bool) and 0 <= expected <= _LARGEST_NUMBER
    return Problem(str(reason) if known else "", expected if is_number else None)


def _object(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise _malformed() from None
    if not isinstance(fields, dict):
        raise _malformed()
    return fields


def _proof(value: object) -> LineProof:
    if not isinstance(value, dict):
        raise _malformed()
    return LineProof(_number(value.get("number")), _path(value.get("path")))


def _path(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > _MOST_HASHES or not all(isinstance(item, str) for item in value):
        raise _malformed()
    return tuple(parse_hash(item) for item in value)


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_NUMBER:
        raise _malformed()
    return value


def _note(fields: dict[str, Any]) -> str:
    note = fields.get("checkpoint")
    if not isinstance(note, str) or len(note) > LARGEST_NOTE_BYTES:
        raise _malformed()
    return note


def _malformed() -> LogError:
    return LogError("log.malformed", "The log server's answer is not of the form expected.")
