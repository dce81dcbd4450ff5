"""Rounds that begin elsewhere than at the model in use: what a device refuses, and what a crash changes (nothing)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekeep import Purpose
from facekeep.errors import FederationError
from facekeep.flows.contributing import StatedContribution
from facekeep.participation import Contribution
from facekeep.protocol import Action, Kind, Level, RoundPlan, TrainRequest
from facekeep_server.rounds import Outgoing, Phase, Round
from tests.flows.test_federated_round import completed
from tests.flows.test_federated_round_hostile_server import Scene, code_of
from tests.simulators.federation import Fleet

START = np.arange(200, dtype="<f4").tobytes()
NAN = np.full(200, np.nan, "<f4").tobytes()


def settings_of(start: bytes) -> dict[str, int | str]:
    return {"steps": 1, "start": hashlib.sha256(start).hexdigest()}


def scene_at(start: bytes) -> tuple[Scene, TrainRequest]:
    """A round at TRAIN whose plan names `start`, and the honest request but for its start."""
    scene = Scene.__new__(Scene)
    scene.fleet = Scene(Phase.PREPARE).fleet
    scene.signed, scene.cohort = scene.fleet.plan(noise_multiplier=0.0, settings=settings_of(start))
    scene.running = scene.fleet.begin(scene.signed, scene.cohort, start=start)
    scene.fleet.step(scene.running)
    scene.running.close_step(scene.fleet.clock.now())
    scene.out = next(iter(scene.running.outbox()))
    scene.device = scene.fleet.devices[scene.out.index]
    return scene, TrainRequest.parse(scene.out.body)


def test_other_numbers_than_the_plan_names_are_refused_before_anything_else() -> None:
    scene, request = scene_at(START)
    assert request.start == START
    for wrong in (b"", START[:-4], START + b"\x00" * 4, START[:-1], START[::-1], bytes(len(START)), NAN):
        # Without adverts, so that nothing else can have been looked at first.
        for asked in (replace(request, start=wrong), TrainRequest(request.plan, (), wrong)):
            assert scene.ask(asked.to_bytes()) == "federation.malformed"
    scene.finish()


def test_numbers_that_are_none_are_refused_even_where_the_plan_names_them() -> None:
    for wrong in (NAN, np.full(200, -np.inf, "<f4").tobytes(), START[:-4] + NAN[:4]):
        scene, request = scene_at(wrong)
        assert scene.ask(request.to_bytes()) == "federation.invalid_update"


def test_a_plan_that_names_no_numbers_gets_none() -> None:
    scene = Scene(Phase.TRAIN)
    request = TrainRequest.parse(scene.out.body)
    assert request.start == b""
    assert scene.ask(replace(request, start=START).to_bytes()) == "federation.malformed"
    scene.finish()


def test_a_server_begins_no_round_with_other_numbers_than_its_plan_names() -> None:
    scene, _ = scene_at(START)
    for wrong in (b"", START[:-4], NAN):
        assert code_of(lambda wrong=wrong: scene.fleet.begin(scene.signed, scene.cohort, start=wrong)) == "federation.malformed"
    short = scene.fleet.plan(settings=settings_of(START[:-4]))
    assert code_of(lambda: scene.fleet.begin(*short, start=START[:-4])) == "federation.malformed"


@pytest.mark.parametrize("start", ["", "ab", "AB" * 32, 7])
def test_a_plan_names_them_by_a_digest(start: int | str) -> None:
    with pytest.raises(ValueError, match="digest"):
        Scene(Phase.PREPARE).fleet.plan(settings={"start": start})


def test_only_a_training_plan_names_any() -> None:
    signed, _ = Scene(Phase.PREPARE).fleet.plan(kind=Kind.CALIBRATION, level=Level.NONE, settings=settings_of(START))
    assert signed.plan.start is None


@dataclass(frozen=True)
class Pulling(StatedContribution):
    """Contributes a tenth of the way from where it begins to its own numbers."""

    purpose: Purpose = Purpose.FEDERATED_TRAINING
    make: Any = None
    began: list[bytes] = field(default_factory=list)

    def start_from(self, ready: Any, plan: RoundPlan, start: bytes) -> bytes:
        self.began.append(start)
        return start

    def contribute(self, ready: Any, plan: RoundPlan, gathered: Sequence[Any]) -> Contribution:
        row = np.zeros(plan.length, np.float32) if ready is None else np.frombuffer(ready, "<f4")
        return Contribution(((1 - row) / 10).astype(np.float32), {extra.name: 1.0 for extra in plan.extras})


def vault_fleet(folder: Path, contributing: Any) -> Fleet:
    fleet = Fleet(5)
    fleet.allow(unsafe_without_noise=True, epsilon=1e30)
    for _ in range(4):
        fleet.add_vaults(folder, 1, contributing=contributing)
    return fleet


def test_devices_begin_where_the_plan_says_and_a_crash_changes_nothing(tmp_path: Path) -> None:
    kind = Pulling()
    fleet, start = vault_fleet(tmp_path, kind), np.full(4, 0.5, "<f4").tobytes()
    changes: dict[str, Any] = {"length": 4, "clip": 8.0, "noise_multiplier": 0.0, "dropout": 0.0}
    signed, cohort = fleet.plan(settings=settings_of(start), **changes)
    running = fleet.begin(signed, cohort, start=start)
    fleet.step(running)
    running.close_step(fleet.clock.now())
    # The server dies in the middle of TRAIN, after two devices answered, and again asks everybody.
    kept, answers = running.to_bytes(), {}
    for out in list(running.outbox())[:2]:
        answers[out.index] = fleet.devices[out.index].handle(out.action, out.body)
    with pytest.raises(FederationError, match="begin with"):
        Round.parse(kept, fleet.roster, fleet.policy.planner_keys)
    running = Round.parse(kept, fleet.roster, fleet.policy.planner_keys, start=start, record=fleet.events.append)
    asked: list[Outgoing] = list(running.outbox())
    assert len(asked) == 4
    for out in asked:
        answer = fleet.devices[out.index].handle(out.action, out.body)
        assert answers.get(out.index, answer) == answer
        assert running.receive(out.index, out.action, answer).is_accepted
        # Answered once: no other start, be it as good as this one.
        other = replace(TrainRequest.parse(out.body), start=b"")
        assert code_of(lambda out=out, other=other: fleet.devices[out.index].handle(out.action, other.to_bytes())) == (
            "federation.wrong_step"
        )
    assert kind.began == [start] * 4, "nobody trained twice"
    while not running.has_ended:
        running.close_step(fleet.clock.now())
        fleet.step(running)
    update = completed(running).update
    assert update is not None
    np.testing.assert_allclose(update, 0.05, atol=1e-4)
    # Without a start, at the model in use.
    update = completed(fleet.run(*fleet.plan(**changes))).update
    assert update is not None
    np.testing.assert_allclose(update, 0.1, atol=1e-4)


def test_a_vault_refuses_another_start_before_it_loads_anything(tmp_path: Path) -> None:
    kind = Pulling()
    fleet, start = vault_fleet(tmp_path, kind), np.full(4, 0.5, "<f4").tobytes()
    signed, cohort = fleet.plan(settings=settings_of(start), length=4, noise_multiplier=0.0)
    running = fleet.run(signed, cohort, options={"start": start}, request=without_start)
    assert running.report is not None
    assert running.report.aborted is not None
    assert running.report.refusals["federation.malformed"] == 4
    assert kind.began == []


def without_start(out: Outgoing) -> bytes:
    return out.body if out.action is not Action.TRAIN else replace(TrainRequest.parse(out.body), start=b"").to_bytes()


def test_a_kind_that_cannot_begin_elsewhere_says_so(tmp_path: Path) -> None:
    def never(plan: RoundPlan, subjects: int) -> Contribution:
        raise AssertionError("it would have begun at the wrong place")

    fleet = vault_fleet(tmp_path, StatedContribution(Purpose.FEDERATED_TRAINING, never))
    start = np.zeros(4, "<f4").tobytes()
    signed, cohort = fleet.plan(settings=settings_of(start), length=4, noise_multiplier=0.0)
    running = fleet.run(signed, cohort, options={"start": start})
    assert running.report is not None
    assert running.report.refusals["federation.plan_refused"] == 4
