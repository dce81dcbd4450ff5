"""What the log says of federated rounds and releases: the coordinator's lines and the devices' own, put together. No IO."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final

from facekeep.audit.event import OK

Details = dict[str, str | int | bool]
FEDERATED: Final = frozenset(
    {
        "round.planned",
        "round.completed",
        "round.aborted",
        "round.joined",
        "round.refused",
        "reply.refused",
        "release.published",
        "release.offered",
        "release.withheld",
        "release.adopted",
        "release.refused",
        "release.rolled_back",
    }
)


@dataclass(slots=True)
class RoundLine:
    """A round.

    Attributes:
        federation: name of the federation.
        number: of the round.
        plan: digest of its plan.
        entry: place in the log of the line that says it was planned; None if no such line is there.
        planned: when, or "".
        kind: what was computed, or "".
        level: what training moved, or "".
        cohort: devices invited.
        minimum: fewest devices of a sum.
        epsilon: what it costs a device, as text.
        delta: likewise.
        state: "planned", "completed" or "aborted".
        step: at which it was aborted, or "".
        reason: code of what ended it, or "".
        ended: when, or "".
        prepared: devices that went on to train.
        survivors: devices in the sum.
        suspects: devices that did what no honest device does.
        joined: devices whose own trail says that they joined.
        refused: code -> how many refusals, by devices and of devices.
    """

    federation: str
    number: int
    plan: str
    entry: int | None = None
    planned: str = ""
    kind: str = ""
    level: str = ""
    cohort: int | None = None
    minimum: int | None = None
    epsilon: str = ""
    delta: str = ""
    state: str = "planned"
    step: str = ""
    reason: str = ""
    ended: str = ""
    prepared: int | None = None
    survivors: int | None = None
    suspects: int | None = None
    joined: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class ReleaseLine:
    """A release, or a candidate that never became one.

    Attributes:
        federation: name of the federation.
        digest: of the release; "" for a candidate that the gate withheld.
        version: of the release.
        parent: digest of the one it continues, or "".
        entry: place in the log of the line that published or withheld it; None if only devices speak of it.
        at: when that was, or "".
        level: which numbers it sets.
        rounds: behind it, as text.
        epsilon: what all rounds so far cost a device, as text.
        delta: likewise.
        signatures: of release keys.
        state: "published", "fleet" or "withheld"; "unknown" if only devices speak of it.
        reason: why it was withheld, or "".
        adopted: devices whose own trail says that they adopted it.
        refused: code -> how many devices refused it.
        rolled_back: devices that went back from it.
    """

    federation: str
    digest: str
    version: int
    parent: str = ""
    entry: int | None = None
    at: str = ""
    level: str = ""
    rounds: str = ""
    epsilon: str = ""
    delta: str = ""
    signatures: int | None = None
    state: str = "unknown"
    reason: str = ""
    adopted: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    rolled_back: set[str] = field(default_factory=set)


class FederatedRecord:
    """Rounds and releases in the order in which the log tells of them.

    Attributes:
        rounds: (federation, number, digest of the plan) -> round.
        releases: (federation, digest, version) -> release.
        spent: (federation, number of the round) -> the largest epsilon that a device says it has spent by then.
    """

    def __init__(self) -> None:
        self.rounds: dict[tuple[str, int, str], RoundLine] = {}
        self.releases: dict[tuple[str, str, int], ReleaseLine] = {}
        self.spent: dict[tuple[str, int], float] = {}

    def copy(self) -> FederatedRecord:
        """Return the record as it is now: what `take` changes later does not change it."""
        made = FederatedRecord()
        made.rounds = {
            key: replace(line, joined=set(line.joined), refused=Counter(line.refused)) for key, line in self.rounds.items()
        }
        made.releases = {
            key: replace(line, adopted=set(line.adopted), refused=Counter(line.refused), rolled_back=set(line.rolled_back))
            for key, line in self.releases.items()
        }
        made.spent = dict(self.spent)
        return made

    def take(self, number: int, device: str, event: str, outcome: str, at: str, details: Details) -> None:
        """Follow one entry of `FEDERATED`."""
        if event.startswith("release."):
            self._release(number, device, event, outcome, at, details)
        else:
            self._round(number, device, event, outcome, at, details)

    def _round(self, number: int, device: str, event: str, outcome: str, at: str, details: Details) -> None:
        plan = _text(details, "plan")
        key = (_text(details, "federation"), _whole(details, "round") or 0, plan)
        if not plan:
            # A refused reply names its round only: it belongs to the newest plan of that number.
            key = next((known for known in reversed(self.rounds) if known[:2] == key[:2]), key)
        if event == "round.refused" and key not in self.rounds and not key[1]:
            return
        line = self.rounds.get(key)
        if line is None:
            line = self.rounds[key] = RoundLine(*key)
        if event == "round.planned":
            line.entry, line.planned = number, at
            line.kind, line.level = _text(details, "kind"), _text(details, "level")
            line.cohort, line.minimum = _whole(details, "cohort"), _whole(details, "minimum")
            line.epsilon, line.delta = _text(details, "epsilon"), _text(details, "delta")
        elif event in ("round.completed", "round.aborted"):
            line.state, line.ended = event.removeprefix("round."), at
            line.step, line.reason = _text(details, "step"), "" if outcome == OK else outcome
            line.prepared, line.survivors = _whole(details, "prepared"), _whole(details, "survivors")
            line.suspects = _whole(details, "suspects")
        elif event == "round.joined":
            line.joined.add(device)
            self._spend(key, _text(details, "spent"))
        else:
            line.refused[outcome] += 1

    def _release(self, number: int, device: str, event: str, outcome: str, at: str, details: Details) -> None:
        key = (_text(details, "federation"), _text(details, "release"), _whole(details, "version") or 0)
        if event == "release.refused" and not key[1]:
            # What was offered was so far from a release that not even its name is known.
            return
        line = self.releases.get(key)
        if line is None:
            line = self.releases[key] = ReleaseLine(*key)
        if event == "release.published":
            line.entry, line.at, line.state = number, at, "published"
            line.parent, line.level = _text(details, "parent"), _text(details, "level")
            line.rounds, line.signatures = _text(details, "rounds"), _whole(details, "signatures")
            line.epsilon, line.delta = _text(details, "epsilon"), _text(details, "delta")
        elif event == "release.offered":
            line.state = "fleet"
        elif event == "release.withheld":
            line.state, line.reason = "withheld", f"{outcome}: {_text(details, 'reason')}"
            line.entry, line.at = (number, at) if line.entry is None else (line.entry, line.at)
        elif event == "release.adopted" and outcome == OK:
            line.adopted.add(device)
        elif event == "release.rolled_back" and outcome == OK:
            line.rolled_back.add(device)
        else:
            line.refused[outcome] += 1

    def _spend(self, key: tuple[str, int, str], spent: str) -> None:
        try:
            value = float(spent)
        except ValueError:
            return
        self.spent[key[:2]] = max(value, self.spent.get(key[:2], 0.0))


def numbers_of(text: str) -> frozenset[int]:
    """Return the rounds that a release names as "1-3,5"; what is no such text names none."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last.isdigit() or not last) and len(part) <= 32:
            begin, end = int(first), int(last or first)
            if begin <= end <= begin + 4096:
                found |= set(range(begin, end + 1))
    return frozenset(found)


def _text(details: Details, name: str) -> str:
    return str(details.get(name, ""))


def _whole(details: Details, name: str) -> int | None:
    value = details.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
