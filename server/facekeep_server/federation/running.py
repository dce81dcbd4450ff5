"""Runs of Flower until every planned round is over: progress is in the state directory, how a run ended is what Flower says.

A run ends with its ServerApp or its SuperLink, and Flower starts none again; a round goes on from its checkpoint in the next run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from facekeep_server.errors import ServerError
from facekeep_server.federation.reporting import as_text, describe
from facekeep_server.federation.rounds import open_rounds, round_directory
from facekeep_server.federation.state import FederationState
from facekeep_server.federation.superlink import list_runs, start_run

_LOOK_SECONDS: Final = 3.0
# A SuperLink that was killed is back when its supervisor says so; its ServerApp may outlive it for a while and hold the state.
_AGAIN_SECONDS: Final = (5.0, 15.0, 30.0, 60.0, 120.0)
Show = Callable[[str], None]
Pause = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended.

    Attributes:
        runs: Flower's numbers of the runs that it took.
        outcome: of the last one, as Flower calls it.
        open: numbers of the rounds that are not over.
    """

    runs: tuple[int, ...]
    outcome: str
    open: tuple[int, ...]


def run_until_over(state: FederationState, version: str, *, show: Show | None, pause: Pause = time.sleep) -> Ended:
    """Start runs of the signed app until every planned round is over, or five in a row brought none of them further.

    Args:
        state: of the federation.
        version: of the app.
        show: shows a line of progress, if given.
        pause: sleeps for so many seconds.

    Raises:
        ServerError: "server.unavailable" if the SuperLink does not answer, and still does not after some minutes.
    """
    runs: list[int] = []
    outcome, fruitless = "", 0
    while True:
        before = _progress(state)
        trouble: ServerError | None = None
        try:
            runs.append(start_run(state, version))
            outcome = follow_run(state, runs[-1], show=show, pause=pause)
        except ServerError as error:
            if error.code != "server.unavailable":
                raise
            trouble = error
        waiting = tuple(open_rounds(state))
        if trouble is None and not waiting:
            return Ended(tuple(runs), outcome, waiting)
        fruitless = 0 if _progress(state) != before else fruitless + 1
        if fruitless > len(_AGAIN_SECONDS):
            if trouble is not None:
                raise trouble
            return Ended(tuple(runs), outcome, waiting)
        seconds = _AGAIN_SECONDS[max(fruitless - 1, 0)]
        if show is not None:
            why = "the SuperLink does not answer" if trouble is not None else f"the run ended ({outcome})"
            show(f"{why}, {len(waiting)} rounds are open: again in {seconds:.0f} s")
        pause(seconds)


def follow_run(state: FederationState, run: int, *, show: Show | None, pause: Pause = time.sleep) -> str:
    """Return how a run ended, as Flower calls it, once it has; show what changes meanwhile.

    Raises:
        ServerError: "server.unavailable" if the SuperLink does not answer.
    """
    shown = ""
    while True:
        text = "\n".join(line for line in as_text(describe(state)).splitlines() if line.startswith("  round"))
        if show is not None and text != shown:
            show(text.splitlines()[-1] if text else "nothing planned")
            shown = text
        outcome = list_runs(state).get(run, "")
        if outcome.startswith("finished"):
            return outcome
        pause(_LOOK_SECONDS)


def _progress(state: FederationState) -> list[tuple[int, int]]:
    """Return the rounds that are not over, each with the number of its steps that began: another once one got further."""
    return [(number, len(round_directory(state, number).steps())) for number in open_rounds(state)]
