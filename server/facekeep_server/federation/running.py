"""Following a run: its progress is in the state directory, its end is what Flower says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from facekeep_server.federation.reporting import as_text, describe
from facekeep_server.federation.rounds import open_rounds
from facekeep_server.federation.state import FederationState
from facekeep_server.federation.superlink import list_runs

_LOOK_SECONDS: Final = 3.0


def follow_run(
    state: FederationState, run: int, *, show: Callable[[str], None] | None, pause: Callable[[float], None] = time.sleep
) -> str:
    """Return how a run ended, as Flower calls it, once it has; show what changes meanwhile."""
    shown = ""
    while True:
        text = "\n".join(line for line in as_text(describe(state)).splitlines() if line.startswith("  round"))
        if show is not None and text != shown:
            show(text.splitlines()[-1] if text else "nothing planned")
            shown = text
        outcome = list_runs(state).get(run, "")
        if outcome.startswith("finished"):
            waiting = open_rounds(state)
            return outcome if not waiting else f"{outcome}, {len(waiting)} rounds still open"
        pause(_LOOK_SECONDS)
