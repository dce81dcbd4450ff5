"""Numbers of things in words: one person, two people."""

from __future__ import annotations


def counted(number: int, one: str, many: str) -> str:
    """Return a number and what is counted: `one` for exactly one, `many` otherwise."""
    return f"{number:,} {one if number == 1 else many}"


def people(number: int) -> str:
    """Return a number of people."""
    return counted(number, "person", "people")


def listed(names: tuple[str, ...] | list[str]) -> str:
    """Return names one after the other, the last after "and"."""
    return " and ".join([part for part in (", ".join(names[:-1]), *names[-1:]) if part])
