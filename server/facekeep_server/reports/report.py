"""A report: sections with what they were made from, to be kept, printed or read by a program."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from facekeep_server.pages import Section, render, style


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report.

    Attributes:
        name: which one.
        title: heading.
        law: what it is meant to help with.
        about: of which log, at which size and root it was made.
        generated_at: RFC 3339.
        checkpoint: the signed note of the log it was made from, or None where it says nothing of the log.
        sections: what it says.
    """

    name: str
    title: str
    law: str
    about: str
    generated_at: str
    checkpoint: str | None
    sections: tuple[Section, ...]

    @property
    def content_security_policy(self) -> str:
        """What the page may load: nothing but the style in it."""
        return (
            f"default-src 'none'; style-src 'sha256-{_style_hash()}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "schema_version": "urn:facekeep:report:1",
            "report": self.name,
            "title": self.title,
            "law": self.law,
            "about": self.about,
            "generated_at": self.generated_at,
            "facekeep": version("facekeep"),
            "checkpoint": self.checkpoint,
            "sections": [section.to_json() for section in self.sections],
        }

    def to_text(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"

    def to_html(self) -> str:
        """Return the report as one page that needs nothing else."""
        return render("report.html", report=self, version=version("facekeep"), style_text=style()[0], style_hash=_style_hash())


def _style_hash() -> str:
    return base64.b64encode(hashlib.sha256(style()[0].encode()).digest()).decode()
