"""Trail entries read fast: the one spelling that nearly all have, matched as such; everything else goes the slow way.

An auditor reads millions of entries. `read_entry` accepts exactly what `parse_entry` accepts (a test compares them on arbitrary
bytes): a canonical entry is a fixed frame around plain values, so a match of the frame is a proof of canonical form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from facekeep.audit.event import EVENTS, OK
from facekeep.audit.trail import parse_entry
from facekeep.clock import parse_rfc3339
from facekeep.errors import CODES

# 15 digits stay below the 53 bits of canonical JSON. The text is that of `AuditEvent`: nothing in it needs an escape.
_VALUE = rb'(?:"[A-Za-z0-9._:/+,\- ]{0,128}"|-?[1-9][0-9]{0,14}|0|true|false)'
_ITEM = rb'"[a-z_]+":' + _VALUE
_ENTRY = re.compile(
    rb'\{"details":\{((?:' + _ITEM + rb"(?:," + _ITEM + rb')*)?)\},"event":"([a-z._]+)","outcome":"([a-z._]+)",'
    rb'"prev":(?:null|"([0-9a-f]{64})"),"seq":(0|[1-9][0-9]{0,14}),"subject":(?:null|"([0-9a-f]{64})"),'
    rb'"time":"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z)","v":1\}'
)
_DETAIL = re.compile(rb'"([a-z_]+)":(' + _VALUE + rb")")
_EVENTS: Final[dict[bytes, tuple[str, frozenset[bytes]]]] = {
    code.encode(): (code, frozenset(key.encode() for key in keys)) for code, keys in EVENTS.items()
}
_OUTCOMES: Final[dict[bytes, str]] = {code.encode(): code for code in (OK, *CODES)}
_WORDS: Final[dict[bytes, bool]] = {b"true": True, b"false": False}


class Entry(NamedTuple):
    """An entry of a trail, read.

    Attributes:
        seq: number in the trail.
        time: UTC.
        event: code of `EVENTS`.
        outcome: "ok" or the code of an error.
        subject: commitment, 64 hexadecimal digits, or None.
        prev: leaf hash of the entry before, hexadecimal, or None.
        details: what the event carries.
    """

    seq: int
    time: datetime
    event: str
    outcome: str
    subject: bytes | None
    prev: bytes | None
    details: Mapping[str, str | int | bool]


def read_entry(body: bytes) -> Entry:
    """Return the entry of canonical bytes.

    Raises:
        AuditError: "audit.broken_chain", as `parse_entry`.
    """
    match = _ENTRY.fullmatch(body)
    if match is None:
        return _read_slowly(body)
    raw, event, outcome, prev, seq, subject, time = match.groups()
    known, ended = _EVENTS.get(event), _OUTCOMES.get(outcome)
    if known is None or ended is None:
        return _read_slowly(body)
    details: dict[str, str | int | bool] = {}
    if raw:
        last = b""
        for key, value in _DETAIL.findall(raw):
            if key <= last or key not in known[1]:
                return _read_slowly(body)
            last = key
            if value[:1] == b'"':
                details[key.decode()] = value[1:-1].decode()
            else:
                word = _WORDS.get(value)
                details[key.decode()] = int(value) if word is None else word
    try:
        instant = datetime.fromisoformat(time.decode())
    except ValueError:
        return _read_slowly(body)
    return Entry(int(seq), instant, known[0], ended, subject, prev, details)


def _read_slowly(body: bytes) -> Entry:
    fields = parse_entry(body)
    subject, prev = fields["subject"], fields["prev"]
    return Entry(
        # Never equal to any expected number, whatever it was.
        fields["seq"] if isinstance(fields["seq"], int) and not isinstance(fields["seq"], bool) else -1,
        parse_rfc3339(fields["time"]),
        fields["event"],
        fields["outcome"],
        subject.encode() if subject is not None else None,
        prev.encode("utf-8", "surrogatepass") if isinstance(prev, str) else (None if prev is None else b"?"),
        fields["details"],
    )
