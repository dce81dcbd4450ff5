"""Jinja with autoescape on, undefined names refused, and the few filters the templates use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE: Final = Path(__file__).parent
STYLE_PATH: Final = "/console/static/console.css"
# Looked up, never made from the value: a value can be anything.
_TONES: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("in force", "active", "ok", "signs", "cosigned", "held", "identified", "verified", "good", "completed", "fleet"), "good"
    ),
    **dict.fromkeys(
        ("due soon", "silent", "not heard", "requested", "not cosigned", "stated in part", "aborted", "published"), "warn"
    ),
    **dict.fromkeys(("overdue", "revoked", "no end", "not verified", "not stated", "bad", "withheld"), "bad"),
    **dict.fromkeys(("erased", "ended", "refused", "none", "retired", "unknown", "not_identified", "planned"), "plain"),
}


def render(template: str, **values: Any) -> str:
    """Return a page.

    Args:
        template: file name among the templates.
        values: what it shows; everything is escaped.
    """
    return _environment().get_template(template).render(**values)


@cache
def style() -> tuple[str, str]:
    """Return the one style sheet and a short hash of it."""
    text = (_HERE / "static" / "console.css").read_text(encoding="utf-8")
    return text, hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(tone=_tone, instant=_instant, short=_short, number=_number, query=_query)
    environment.globals["style_address"] = f"{STYLE_PATH}?v={style()[1]}"
    return environment


def _tone(value: object) -> str:
    return _TONES.get(str(value), "warn" if "." in str(value) else "plain")


def _instant(value: str) -> str:
    """Return "2026-11-21 12:00:00" of an RFC 3339 instant; anything else as it is."""
    return value[:19].replace("T", " ") if len(value) == 24 and value[10] == "T" and value.endswith("Z") else value


def _short(value: str) -> str:
    return value if len(value) <= 16 else f"{value[:12]}…"


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _query(asked: Mapping[str, str] | None, **more: object) -> str:
    """Return a query string of what was asked for and more; what is None is left out."""
    values = {**(asked or {}), **more}
    return "?" + urlencode({key: str(value) for key, value in values.items() if value is not None and value != ""})
