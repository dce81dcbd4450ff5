"""ISO 8601 durations, the form in which a consent states its term ("P30D", "P3Y", "PT12H")."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

_PATTERN = re.compile(
    r"P(?=\d|T\d)(?:(?P<years>\d{1,4})Y)?(?:(?P<months>\d{1,5})M)?(?:(?P<weeks>\d{1,6})W)?(?:(?P<days>\d{1,6})D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d{1,8})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,9})S)?)?",
    re.ASCII,
)


def add_duration(start: datetime, duration: str | timedelta) -> datetime:
    """Return `start` plus an ISO 8601 duration.

    Years and months are calendar steps: one month after 31 January is the last day of February.

    Raises:
        ValueError: if the text is not such a duration, if it is not positive, or if the result is past the year 9999.
    """
    if isinstance(duration, timedelta):
        result = _shift(start, 0, duration)
    else:
        match = _PATTERN.fullmatch(duration)
        if match is None:
            raise ValueError('it is not an ISO 8601 duration such as "P30D" or "PT12H"')
        part = {name: int(value or 0) for name, value in match.groupdict().items()}
        clock_part = timedelta(
            weeks=part["weeks"], days=part["days"], hours=part["hours"], minutes=part["minutes"], seconds=part["seconds"]
        )
        result = _shift(start, 12 * part["years"] + part["months"], clock_part)
    if result <= start:
        raise ValueError("a duration has to be longer than zero")
    return result


def _shift(start: datetime, months: int, rest: timedelta) -> datetime:
    try:
        year, month0 = divmod(start.year * 12 + start.month - 1 + months, 12)
        day = min(start.day, _days_of(year, month0 + 1))
        return start.replace(year=year, month=month0 + 1, day=day) + rest
    except (OverflowError, ValueError, IndexError) as error:
        raise ValueError("the duration ends after the year 9999") from error


def _days_of(year: int, month: int) -> int:
    # Not `calendar.monthrange`: that module brings `locale` along, which costs a cold device more than anything else here.
    if month == 12:
        return 31
    return (date(year, month + 1, 1) - date(year, month, 1)).days
