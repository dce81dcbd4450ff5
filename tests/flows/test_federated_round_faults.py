"""Fifty kills over devices and server in a run of ten rounds: the right sum or a clear abort, never a wrong model.

Devices die by SIGKILL, in a process of their own, in the middle of a message; the server loses everything but its last checkpoint.
"""

from __future__ import annotations

import os
import random
import select
import signal
import time
from pathlib import Path

import pytest

from facekeep.errors import FederationError
from facekeep.protocol import Action
from facekeep.randomness import SystemRandomness
from facekeep_server.federation.updates import UpdatesOnDisk
from facekeep_server.rounds import Outgoing, Phase, Round, restore_round
from tests.flows.test_federated_round import completed, fleet_of, require_right_sum
from tests.simulators.federation import Fleet

ROUNDS, DEVICES, KILLS = 10, 8, 50


class Storm:
    """The server's driver under fire. What is not in the checkpoint file, or in the folder of updates, does not survive a kill."""

    def __init__(self, fleet: Fleet, folder: Path, seed: int) -> None:
        self.fleet, self.folder, self.chance = fleet, folder, random.Random(seed)
        self.device_kills = self.server_kills = self.deadly = 0

    @property
    def kills(self) -> int:
        return self.device_kills + self.server_kills

    def run(self) -> Round:
        signed, cohort = self.fleet.plan(noise_multiplier=0.0, dropout=0.3)
        running = self.fleet.begin(signed, cohort, updates=self._updates())
        self._write(running)
        while not running.has_ended:
            # Some kills fall anywhere in a step, some between the end of a step and its checkpoint, some right after.
            alive = self._step(running)
            if alive:
                running.close_step(self.fleet.clock.now())
                if running.has_ended:
                    break
                if self._strikes(0.12):
                    alive = False
                else:
                    self._write(running)
                    alive = not self._strikes(0.12)
            if not alive:
                self.server_kills += 1
                running = self._restore()
        self.fleet.step(running)
        return running

    def _step(self, running: Round) -> bool:
        for out in list(running.outbox()):
            if self._strikes(0.02):
                return False
            answer = self._ask_and_kill(out) if self._strikes(0.07) else self.fleet.ask(out.index, out.action, out.body)
            if answer is None:
                # The node comes back and is asked again, as Flower does; now and then it stays away for this step.
                answer = self.fleet.ask(out.index, out.action, out.body) if self.chance.random() < 0.9 else None
            if answer is not None:
                assert running.receive(out.index, out.action, answer).is_accepted
                if self._strikes(0.02):
                    return False
        return True

    def _strikes(self, probability: float) -> bool:
        return self.kills < KILLS and self.chance.random() < probability

    def _ask_and_kill(self, out: Outgoing) -> bytes | None:
        """Handle a message in a child that is killed at a random moment; its answer, if it was quicker, arrives or is lost."""
        self.device_kills += 1
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            answer = self.fleet.ask(out.index, out.action, out.body)
            os.write(writing, answer[:1])
            os._exit(0)
        os.close(writing)
        select.select([reading], [], [], self.chance.random() * 0.15)
        time.sleep(self.chance.random() * 0.01)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(reading)
        self.deadly += os.WIFSIGNALED(status)
        return None

    def _updates(self) -> UpdatesOnDisk:
        return UpdatesOnDisk(self.folder / "updates")

    def _write(self, running: Round) -> None:
        draft = self.folder / "round.draft"
        draft.write_bytes(running.to_bytes())
        draft.replace(self.folder / "round.checkpoint")

    def _restore(self) -> Round:
        data = (self.folder / "round.checkpoint").read_bytes()
        planners = self.fleet.policy.planner_keys
        return restore_round(data, self.fleet.roster, planners, updates=self._updates(), record=self.fleet.events.append)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [20261126])
def test_fifty_kills_in_ten_rounds(tmp_path: Path, seed: int) -> None:
    fleet = Fleet(seed)
    fleet.allow(unsafe_without_noise=True)
    fleet.add_vaults(tmp_path / "devices", DEVICES)
    for device in fleet.devices:
        # A child's draws are lost with it: seeded bytes would come a second time.
        device.randomness = SystemRandomness()
    (tmp_path / "server").mkdir()
    storm = Storm(fleet, tmp_path / "server", seed)
    outcomes = []
    for _ in range(ROUNDS):
        running = storm.run()
        report = running.report
        assert report is not None
        if report.aborted is None:
            require_right_sum(fleet, running)
        else:
            assert report.aborted.startswith("federation.")
            assert report.update is None
        outcomes.append(report.aborted or "completed")
    assert storm.kills == KILLS, (storm.device_kills, storm.server_kills)
    assert storm.device_kills >= 10
    assert storm.server_kills >= 10
    assert outcomes.count("completed") >= 7, outcomes
    print(
        f"{storm.device_kills} devices ({storm.deadly} before they were done) and {storm.server_kills} servers killed: {outcomes}"
    )
    for device in fleet.devices:
        assert device.trail(), "the trail verifies after every kill"
        with device.open() as opened:
            opened.verify_vault()


@pytest.mark.parametrize("phase", [Phase.PREPARE, Phase.TRAIN, Phase.CONFIRM, Phase.UNMASK])
@pytest.mark.parametrize("when", ["before", "in the middle", "after"])
def test_a_restored_round_ends_in_the_same_bits(phase: Phase, when: str, tmp_path: Path) -> None:
    """Killed before a step's first message, in the middle of its replies, or between its end and the next checkpoint."""
    results = []
    for killed in (False, True):
        fleet = fleet_of(14, seed=3)
        signed, cohort = fleet.plan(noise_multiplier=3.0)
        folder = tmp_path / str(killed)
        options = {"updates": UpdatesOnDisk(folder), "record": fleet.events.append}
        running = fleet.begin(signed, cohort, updates=UpdatesOnDisk(folder))
        drop = {Action.TRAIN: {cohort.indices[2], cohort.indices[9]}, Action.UNMASK: {cohort.indices[4]}}
        while not running.has_ended:
            checkpoint = running.to_bytes()
            lost = drop.get(Action(running.phase.value), set())

            def stays_away(action: Action, index: int, lost: set[int] = lost) -> bool:
                return index in lost

            if killed and running.phase is phase:
                if when == "in the middle":
                    fleet.step(running, drop=lambda action, index, lost=lost: index in lost or index % 2 == 0)
                    checkpoint = running.to_bytes()
                if when == "after":
                    fleet.step(running, drop=stays_away)
                    running.close_step(fleet.clock.now())
                running = restore_round(checkpoint, fleet.roster, fleet.policy.planner_keys, **options)
                killed = False
            fleet.step(running, drop=stays_away)
            running.close_step(fleet.clock.now())
        report = completed(running)
        assert report.update is not None
        results.append((report.update.tobytes(), dict(report.extras), report.survivors, report.suspects, report.plan))
    assert results[0] == results[1]


def test_a_checkpoint_that_was_cut_or_changed_is_refused() -> None:
    fleet = fleet_of(6)
    running = fleet.begin(*fleet.plan(noise_multiplier=0.0))
    fleet.step(running)
    data = running.to_bytes()
    assert Round.parse(data, fleet.roster, fleet.policy.planner_keys).to_bytes() == data
    for wrong in (b"", data[:-1], data[:100], data[:60] + bytes([data[60] ^ 1]) + data[61:]):
        with pytest.raises(FederationError) as caught:
            Round.parse(wrong, fleet.roster, fleet.policy.planner_keys)
        assert caught.value.code == "federation.malformed"


def test_a_checkpoint_holds_no_secret_of_a_device() -> None:
    fleet = fleet_of(6)
    running = fleet.begin(*fleet.plan(noise_multiplier=0.0))
    while not running.has_ended:
        from facekeep.participation import RoundState

        data = running.to_bytes()
        for device in fleet.devices:
            state = None if device.state is None else RoundState.parse(device.state)
            for secret in () if state is None else (state.mask_key, state.self_seed):
                assert not secret or secret not in data
        fleet.step(running)
        running.close_step(fleet.clock.now())


def test_the_deadline_ends_the_round_on_either_side() -> None:
    from datetime import timedelta

    fleet = fleet_of(6)
    signed, cohort = fleet.plan(noise_multiplier=0.0)
    running = fleet.begin(signed, cohort)
    fleet.step(running)
    running.close_step(fleet.clock.now())
    fleet.clock.advance(timedelta(hours=13))
    fleet.step(running)
    assert running.refusals == {"federation.expired": 6}
    assert running.close_step(fleet.clock.now()) is Phase.ABORTED
    assert running.report is not None
    assert running.report.aborted == "federation.expired"


def test_a_full_disk_on_the_server_costs_a_reply_and_not_the_round(tmp_path: Path) -> None:
    class FullAtThird(UpdatesOnDisk):
        puts = 0

        def put(self, place: int, vector: object) -> None:
            self.puts += 1
            if self.puts == 3:
                raise OSError(28, "No space left on device")
            super().put(place, vector)  # type: ignore[arg-type]

    fleet = fleet_of(12)
    running = fleet.run(*fleet.plan(noise_multiplier=0.0), options={"updates": FullAtThird(tmp_path)})
    require_right_sum(fleet, running)
    report = completed(running)
    assert (report.survivors, report.suspects) == (11, ())
