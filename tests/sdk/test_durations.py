import calendar
import contextlib
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.durations import add_duration

START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("P30D", datetime(2026, 3, 2, 12, tzinfo=UTC)),
        ("P1M", datetime(2026, 2, 28, 12, tzinfo=UTC)),
        ("P3Y", datetime(2029, 1, 31, 12, tzinfo=UTC)),
        ("P2W", datetime(2026, 2, 14, 12, tzinfo=UTC)),
        ("PT12H", datetime(2026, 2, 1, 0, tzinfo=UTC)),
        ("P1Y2M3DT4H5M6S", datetime(2027, 4, 3, 16, 5, 6, tzinfo=UTC)),
        ("PT90S", datetime(2026, 1, 31, 12, 1, 30, tzinfo=UTC)),
    ],
)
def test_known_durations(text: str, expected: datetime) -> None:
    assert add_duration(START, text) == expected


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1DT", "30D", "P-1D", "P1.5D", "P0D", "PT0S", "p1d", "P1H", "P1D ", "P9999Y", "P999999W"]
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|year"):
        add_duration(START, text)


@given(st.dates(), st.integers(1, 600))
def test_months_are_those_of_the_calendar(day: date, months: int) -> None:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if year > 9999:
        with pytest.raises(ValueError, match="9999"):
            add_duration(start, f"P{months}M")
        return
    last = calendar.monthrange(year, month + 1)[1]
    assert add_duration(start, f"P{months}M") == start.replace(year=year, month=month + 1, day=min(day.day, last))


def test_a_cold_device_does_not_load_the_calendar() -> None:
    code = "import datetime, sys, facekeep.durations as d; d.add_duration(datetime.datetime.now(), 'P1Y')"
    code += "; sys.exit('locale' in sys.modules)"
    assert subprocess.run([sys.executable, "-I", "-c", code], check=False).returncode == 0


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=4000)))
def test_a_timedelta_is_added_as_it_is(duration: timedelta) -> None:
    assert add_duration(START, duration) - START == duration


@given(st.text(max_size=12))
def test_no_text_raises_anything_but_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert add_duration(START, text) > START
