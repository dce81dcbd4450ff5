"""A table: plain values with a caption and columns that say what they are. HTML, CSV and JSON are made from the same one."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Value = str | int | bool | None
# What a spreadsheet takes for the beginning of a formula: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class Kind(StrEnum):
    """What the values of a column are, which decides how they are shown and where they lead."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"
    CODE = "code"
    STATE = "state"
    BAR = "bar"
    SUBJECT = "subject"
    DEVICE = "device"
    ENTRY = "entry"
    HASH = "hash"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        key: name in JSON and CSV.
        label: heading.
        kind: what its values are.
    """

    key: str
    label: str
    kind: Kind = Kind.TEXT


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        key: name, for files and anchors.
        caption: what it shows, in one line.
        columns: what stands in each row.
        rows: values, one for each column.
        empty: what to say where there is no row.
        note: how to read it, or "".
        following: parameters of the page after this one, or None at the end.
    """

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[tuple[Value, ...]]
    empty: str
    note: str = ""
    following: Mapping[str, str | int] | None = None

    def share(self, value: Value, place: int) -> int:
        """Return a number as percent of the largest in its column: the length of its bar; 0 for anything but a number."""
        largest = max((number for row in self.rows if isinstance(number := row[place], int)), default=0)
        if not isinstance(value, int) or largest <= 0:
            return 0
        return max(0, round(100 * value / largest))

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain values."""
        keys = [column.key for column in self.columns]
        return {
            "name": self.key,
            "caption": self.caption,
            "columns": [{"key": column.key, "label": column.label, "kind": column.kind.value} for column in self.columns],
            "rows": [dict(zip(keys, row, strict=True)) for row in self.rows],
            "note": self.note or None,
            "following": dict(self.following) if self.following else None,
        }

    def to_csv(self) -> str:
        """Return the table as CSV (RFC 4180), every field quoted, and none that a spreadsheet would run as a formula."""
        out = io.StringIO()
        writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
        writer.writerow([column.key for column in self.columns])
        writer.writerows([[_plain(value) for value in row] for row in self.rows])
        return out.getvalue()


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is so.

    Attributes:
        key: name in JSON.
        label: in words.
        value: what it is.
        kind: what sort of value.
        state: "good", "bad" or "" for neither.
    """

    key: str
    label: str
    value: Value
    kind: Kind = Kind.TEXT
    state: str = ""

    def to_json(self) -> dict[str, Value]:
        """Return label and value."""
        return {"label": self.label, "value": self.value}


def _plain(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    # A quote in front is how spreadsheets mark text; numbers of ours never begin like a formula but for a minus sign.
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
