"""Time as an argument: nothing in Facekeep reads the clock of the machine except `SystemClock`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the present instant, timezone-aware, in UTC."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the present instant in UTC."""
        return datetime.now(UTC)


class ManualClock:
    """A clock that moves only when told to: the test double of `Clock`.

    Args:
        start: timezone-aware first instant.
    """

    def __init__(self, start: datetime) -> None:
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """Return the instant set last."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Move by `by`, which may be negative: a clock set back."""
        self._now += by


def to_rfc3339(instant: datetime) -> str:
    """Return `instant` as RFC 3339 in UTC with milliseconds, e.g. "2026-11-21T21:03:00.000Z".

    Raises:
        ValueError: if `instant` has no timezone.
    """
    if instant.tzinfo is None:
        raise ValueError("an instant needs a timezone")
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> datetime:
    """Return the instant that `to_rfc3339` wrote.

    Raises:
        ValueError: if `text` is not exactly of that form, so that one instant has one spelling.
    """
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None or to_rfc3339(instant) != text:
        raise ValueError("not an instant of the form 2026-11-21T21:03:00.000Z")
    return instant.astimezone(UTC)
