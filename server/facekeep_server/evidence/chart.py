"""A chart: steps over time, drawn without script or inline style. What it shows is always in a table beside it as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

WIDTH: Final = 720
HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 28


@dataclass(frozen=True, slots=True)
class Series:
    """One line.

    Attributes:
        name: what it is.
        points: (when, how much), in order of time; between two of them the first holds.
    """

    name: str
    points: Sequence[tuple[datetime, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart.

    Attributes:
        key: name, for the page.
        caption: what it shows, in one line: also for those who cannot see it.
        unit: of the values.
        series: the lines.
    """

    key: str
    caption: str
    unit: str
    series: tuple[Series, ...]

    @property
    def width(self) -> int:
        """In units of the drawing."""
        return WIDTH

    @property
    def height(self) -> int:
        """In units of the drawing."""
        return HEIGHT

    @property
    def top(self) -> float:
        """Largest value of the scale: the next round number."""
        largest = max((value for series in self.series for _, value in series.points), default=0.0)
        return _round_up(largest)

    def ticks(self) -> list[tuple[str, float]]:
        """Return label and height of each line of the scale."""
        return [(f"{self.top * share / 4:g}", self._y(self.top * share / 4)) for share in range(5)]

    def days(self) -> list[tuple[str, float]]:
        """Return label and place of the first and the last day."""
        first, last = self._span()
        return [(first.strftime("%Y-%m-%d"), float(_LEFT)), (last.strftime("%Y-%m-%d"), float(WIDTH - _RIGHT))]

    def lines(self) -> list[dict[str, Any]]:
        """Return name, path and last point of each line."""
        found = []
        for number, series in enumerate(self.series):
            if not series.points:
                continue
            places = [(self._x(at), self._y(value)) for at, value in series.points]
            path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
            for x, y in places[1:]:
                path += f"H{x:.1f}V{y:.1f}"
            found.append(
                {"name": series.name, "number": number, "path": path, "end": places[-1], "value": f"{series.points[-1][1]:g}"}
            )
        return found

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(series.points for series in self.series)

    def to_json(self) -> dict[str, Any]:
        """Return the points."""
        series = [{"name": item.name, "points": [[at.isoformat(), value] for at, value in item.points]} for item in self.series]
        return {"name": self.key, "caption": self.caption, "unit": self.unit, "series": series}

    def _span(self) -> tuple[datetime, datetime]:
        times = [at for series in self.series for at, _ in series.points]
        return min(times), max(times)

    def _x(self, at: datetime) -> float:
        first, last = self._span()
        whole = (last - first).total_seconds()
        share = (at - first).total_seconds() / whole if whole else 0.5
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        share = value / self.top if self.top else 0.0
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    size = 1.0
    while size < value:
        size *= 10
    while size / 10 >= value:
        size /= 10
    return next(size / 10 * step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if size / 10 * step >= value * (1 - 1e-9))
