"""`federate run` until every round is over: Flower's Control interface is played, the rounds are real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("flwr")

from flwr.app import Message

from facekeep.flower.envelope import RECORD
from facekeep_server.errors import ServerError
from facekeep_server.federation import running
from facekeep_server.federation.running import Ended, run_until_over
from tests.server.flower_fleet import FlowerFleet

Play = Callable[[], str]


class Control:
    """Plays Flower's Control interface: each run does what its turn says, and has ended when it is asked for."""

    def __init__(self, fleet: FlowerFleet, turns: list[Play], monkeypatch: pytest.MonkeyPatch) -> None:
        self.fleet, self.turns = fleet, turns
        self.outcomes: dict[int, str] = {}
        self.waits: list[float] = []
        self.shown: list[str] = []
        monkeypatch.setattr(running, "start_run", self.start)
        monkeypatch.setattr(running, "list_runs", lambda state: self.outcomes)

    def start(self, state: object, version: str) -> int:
        number = 100 + len(self.outcomes)
        turn = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        self.outcomes[number] = turn()
        return number

    def run(self) -> Ended:
        return run_until_over(self.fleet.state, "1.0", show=self.shown.append, pause=self.waits.append)


@pytest.fixture
def fleet(tmp_path: Path) -> FlowerFleet:
    return FlowerFleet(tmp_path)


def drives(fleet: FlowerFleet) -> Play:
    def play() -> str:
        reports = fleet.drive(fleet.grid())
        return "finished:completed" if all(report.is_complete for report in reports) else "finished:failed"

    return play


def dies_in_the_middle(fleet: FlowerFleet) -> Play:
    """A ServerApp whose process ends once the masked updates are on their way."""

    def fate(message: Message) -> Message | None:
        if message.content.config_records[RECORD].get("action") == "train":
            raise KeyboardInterrupt
        return message

    def play() -> str:
        with pytest.raises(KeyboardInterrupt):
            fleet.drive(fleet.grid(fate))
        return "finished:failed"

    return play


def silent() -> str:
    raise ServerError("server.unavailable", "The SuperLink did not do `flwr run`. Is it running?")


def test_a_run_that_ended_too_early_is_followed_by_another(fleet: FlowerFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = fleet.plan(1)
    control = Control(fleet, [dies_in_the_middle(fleet), lambda: "finished:failed", drives(fleet)], monkeypatch)
    ended = control.run()
    assert ended == Ended((100, 101, 102), "finished:completed", ())
    assert directory.report()["survivors"] == 6
    # The first brought the round further, the second did not.
    assert control.waits == [5.0, 5.0]
    assert any("1 rounds are open: again in 5 s" in line for line in control.shown)


def test_a_superlink_that_is_away_for_a_while_is_waited_for(fleet: FlowerFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.plan(1)
    control = Control(fleet, [silent, silent, drives(fleet)], monkeypatch)
    assert control.run().open == ()
    assert control.waits == [5.0, 15.0]
    assert any("the SuperLink does not answer" in line for line in control.shown)


def test_one_that_stays_away_is_said_so(fleet: FlowerFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.plan(1)
    control = Control(fleet, [silent], monkeypatch)
    with pytest.raises(ServerError) as caught:
        control.run()
    assert caught.value.code == "server.unavailable"
    assert control.waits == [5.0, 15.0, 30.0, 60.0, 120.0]


def test_runs_that_bring_nothing_further_end(fleet: FlowerFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.plan(1)
    control = Control(fleet, [lambda: "finished:failed"], monkeypatch)
    ended = control.run()
    assert (ended.outcome, ended.open, len(ended.runs)) == ("finished:failed", (1,), 6)


def test_an_aborted_round_is_over_and_not_tried_again(fleet: FlowerFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = fleet.plan(1)
    grid = fleet.grid()
    grid.offline.update(grid.apps)

    def play() -> str:
        fleet.drive(grid)
        return "finished:failed"

    control = Control(fleet, [play], monkeypatch)
    assert control.run() == Ended((100,), "finished:failed", ())
    assert directory.report()["aborted"] == "federation.cohort_too_small"
