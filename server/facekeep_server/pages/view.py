"""What a page shows, before it is HTML: facts, tables, text. Reports are JSON and HTML from the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from facekeep_server.evidence.chart import Chart
from facekeep_server.evidence.table import Fact, Table


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page or report.

    Attributes:
        title: heading, or "" for none.
        text: paragraphs.
        facts: label and value.
        table: or None.
        verbatim: text to show letter by letter, such as a signed note.
        links: label -> address on this server.
        chart: or None; a table beside it says the same.
    """

    title: str = ""
    text: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    table: Table | None = None
    verbatim: str | None = None
    links: Mapping[str, str] | None = None
    chart: Chart | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what it holds as plain values; parts that are empty are left out."""
        found: dict[str, Any] = {"title": self.title}
        if self.text:
            found["text"] = list(self.text)
        if self.facts:
            found["facts"] = {fact.key: fact.to_json() for fact in self.facts}
        if self.table is not None:
            found["table"] = self.table.to_json()
        if self.chart is not None:
            found["chart"] = self.chart.to_json()
        if self.verbatim is not None:
            found["verbatim"] = self.verbatim
        return found


@dataclass(frozen=True, slots=True)
class Field:
    """A field to narrow a page down by.

    Attributes:
        name: parameter.
        label: in words.
        value: as asked for, or "".
        options: what can be chosen, or empty for free text.
        hint: what can be typed.
    """

    name: str
    label: str
    value: str = ""
    options: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """A page of the console.

    Attributes:
        title: heading.
        lead: one or two sentences under it.
        sections: what it shows.
        fields: what it can be narrowed down by.
        asked: parameters it was asked for with, to go on with on its next page.
    """

    title: str
    lead: str
    sections: tuple[Section, ...]
    fields: tuple[Field, ...] = ()
    asked: Mapping[str, str] | None = None

    def table(self, key: str | None) -> Table | None:
        """Return the table of this name, or the first; None if there is none."""
        tables = [section.table for section in self.sections if section.table is not None]
        return next((table for table in tables if key in (None, table.key)), None)
