"""What the operator states in the configuration, and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterable

from facekeep_server.evidence.table import Fact

NOT_STATED = "not stated"


def stated(key: str, label: str, value: str | Iterable[str], setting: str) -> Fact:
    """Return a fact of the configuration, or that it is missing and which setting states it."""
    text = value if isinstance(value, str) else "; ".join(value)
    return Fact(key, label, text.strip() or f"{NOT_STATED}: set compliance.{setting}", state="" if text.strip() else "bad")
