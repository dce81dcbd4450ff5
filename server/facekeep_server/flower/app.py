"""The ServerApp: offers the newest release to whom it is to be offered, then takes up every round that was planned and is not over.

Which federation it drives, the environment of the SuperLink says (FACEKEEP_FEDERATION); a run's configuration, which whoever
reaches the Control interface can choose, is not looked at. A round that was aborted ends the run as failed: Flower would call it
completed.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from facekeep.clock import Clock, SystemClock
from facekeep.errors import FederationError
from facekeep.protocol import Roster
from facekeep.randomness import SystemRandomness
from facekeep_server.errors import ServerError
from facekeep_server.federation.coordinator import open_trail
from facekeep_server.federation.files import read_file
from facekeep_server.federation.fleet import read_roster
from facekeep_server.federation.offers import keep_answer, open_offer, request_offer
from facekeep_server.federation.patience import Patience, load_patience
from facekeep_server.federation.rounds import load_round, open_rounds, recorder, round_directory
from facekeep_server.federation.state import ENVIRONMENT, FederationState
from facekeep_server.flower.carrier import Carrier
from facekeep_server.flower.conducting import Conductor
from facekeep_server.flower.meeting import Meeting
from facekeep_server.flower.offering import offer
from facekeep_server.releases.rollout import advance, open_canary_offer
from facekeep_server.rounds import RoundReport


def make_server_app() -> ServerApp:
    """Return the app that a SuperLink runs."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        where = os.environ.get(ENVIRONMENT)
        if not where:
            raise ServerError("server.invalid_configuration", f"{ENVIRONMENT} is not set on the SuperLink.")
        state = FederationState.open(Path(where))
        reports = drive(state, grid, SystemClock(), load_patience(state))
        aborted = [report for report in reports if not report.is_complete]
        if aborted:
            raise FederationError(
                "federation.aborted", f"{len(aborted)} of {len(reports)} rounds were aborted: {aborted[0].aborted}."
            )

    return app


def drive(
    state: FederationState,
    grid: Grid,
    clock: Clock,
    patience: Patience,
    *,
    pause: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] | None = None,
) -> list[RoundReport]:
    """Offer the newest release to whom it is to be offered, then drive every open round; return the rounds' reports in order.

    Raises:
        ServerError: "server.unavailable" if another process drives this federation.
    """
    with state.locked():
        record, reports, shown = recorder(open_trail(state, clock)[0]), [], say or _print
        carrier = Carrier(grid, clock, pause, patience)
        met: dict[bytes, Meeting] = {}

        def meeting_of(roster: Roster) -> Meeting:
            return met.setdefault(roster.head.root, Meeting(carrier, roster, SystemRandomness()))

        # First: the plan of a round names the release that devices have to have.
        for find in (open_canary_offer, open_offer):
            decided = advance(state, clock.now(), record)
            if decided == "fleet":
                request_offer(state, range(len(read_roster(state).roster)))
            if decided:
                shown(f"canaries: {decided}")
            found = find(state)
            if found is not None:
                folder, digest, to = found
                keep = functools.partial(keep_answer, folder)
                meeting = meeting_of(read_roster(state).roster)
                offer(read_file(folder / "bundle"), digest, to, carrier, meeting, clock, patience, say=shown, keep=keep)
        for number in open_rounds(state):
            running = load_round(state, number, record)
            conductor = Conductor(carrier, meeting_of(running.roster), clock, patience, shown)
            reports.append(conductor.conduct(running, round_directory(state, number)))
        return reports


def _print(line: str) -> None:
    # Standard output of a ServerApp is what `flwr run --stream` and the log of the SuperLink show.
    print(line, file=sys.stdout, flush=True)  # noqa: T201
