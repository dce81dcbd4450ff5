"""What the entries of one device or coordinator say about federated rounds and releases, and what they may not say.

Rules, checked entry by entry:
- a device answers each round once, in the order of their numbers: never another plan of a number, never an older one
- a device adopts releases in the order of their versions: never an older one, never one it went back from
- a coordinator publishes releases in the order of their versions, of rounds that it recorded as completed
- the privacy that its releases state never decreases
Each federation by itself: a device may leave one and join another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from facekeep.audit.event import OK
from facekeep.audit.reading import Entry

FEDERATED: Final = frozenset({"round.joined", "round.completed", "release.adopted", "release.published"})
_MOST_ROUNDS: Final = 4096
Report = Callable[[str, int | None], None]


class _Federation:
    """Where one device stands in one federation."""

    __slots__ = ("adopted", "completed", "epsilon", "joined", "plan", "published")

    def __init__(self) -> None:
        self.joined = 0
        self.plan = ""
        self.adopted = 0
        self.published = 0
        self.completed: set[int] = set()
        self.epsilon = 0.0


class FederatedLife:
    """Follows the entries of `FEDERATED` of one device.

    Args:
        report: told of each violation and the place of its entry.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._federations: dict[str, _Federation] = {}

    def take(self, index: int, entry: Entry) -> None:
        """Follow one entry; `index` is its place in the log."""
        if entry.outcome != OK:
            return
        stand = self._federations.setdefault(str(entry.details.get("federation", "")), _Federation())
        if entry.event == "round.joined":
            self._join(index, entry, stand)
        elif entry.event == "round.completed":
            stand.completed.add(_whole(entry, "round"))
        elif entry.event == "release.published":
            self._publish(index, entry, stand)
        elif entry.event == "release.adopted":
            version = _whole(entry, "version")
            if version <= stand.adopted:
                self._report(f"release.adopted of version {version} after {stand.adopted}", index)
            stand.adopted = max(stand.adopted, version)

    def _join(self, index: int, entry: Entry, stand: _Federation) -> None:
        # One entry for each subject whose samples were used: all of them name one plan.
        number, plan = _whole(entry, "round"), str(entry.details.get("plan", ""))
        if number < stand.joined or (number == stand.joined and plan != stand.plan):
            self._report(f"round.joined of round {number} after round {stand.joined}", index)
        if number >= stand.joined:
            stand.joined, stand.plan = number, plan

    def _publish(self, index: int, entry: Entry, stand: _Federation) -> None:
        version = _whole(entry, "version")
        if version <= stand.published:
            self._report(f"release.published of version {version} after {stand.published}", index)
        stand.published = max(stand.published, version)
        rounds = parse_rounds(str(entry.details.get("rounds", "")))
        if rounds is None:
            self._report("release.published that does not say which rounds it is made of", index)
        elif missing := sorted(rounds - stand.completed):
            self._report(f"release.published of round {missing[0]}, which was not completed", index)
        try:
            epsilon = float(str(entry.details.get("epsilon", "")))
        except ValueError:
            epsilon = -1.0
        # Not the other way round: a NaN compares false.
        if not epsilon >= stand.epsilon:
            self._report(f"release.published states less privacy spent than a release before it ({stand.epsilon:g})", index)
        else:
            stand.epsilon = epsilon


def parse_rounds(text: str) -> frozenset[int] | None:
    """Return the rounds of a text such as "1-3,5"; none for an empty one; None if it is no such text."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, dash, last = part.partition("-")
        if not (first.isascii() and first.isdigit() and len(first) <= 13) or (dash and not (last.isascii() and last.isdigit())):
            return None
        begin, end = int(first), int(last[:13] or first)
        if not begin <= end < begin + _MOST_ROUNDS:
            return None
        found.update(range(begin, end + 1))
    return frozenset(found)


def _whole(entry: Entry, name: str) -> int:
    value = entry.details.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
