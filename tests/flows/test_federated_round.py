"""A round from end to end: the right sum under every drop-out that the plan bears, a clear abort beyond."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekeep.protocol import Action, Extra
from facekeep_server.rounds import Phase, Round, RoundReport
from tests.simulators.federation import Dump, Fleet, drop_share


def fleet_of(count: int, seed: int = 1, **policy: Any) -> Fleet:
    fleet = Fleet(seed)
    fleet.allow(**({"unsafe_without_noise": True} | policy))
    fleet.add_light(count)
    return fleet


def survivors_of(running: Round) -> list[int]:
    return [running.cohort.indices[place] for place in np.flatnonzero(running.survivors)]


def completed(running: Round) -> RoundReport:
    assert running.report is not None
    assert running.report.aborted is None, running.report
    return running.report


def require_right_sum(fleet: Fleet, running: Round) -> None:
    """The mean is that of the survivors in the clear, up to rounding to the ring."""
    report = completed(running)
    assert report.update is not None
    expected = fleet.expected(running.signed, survivors_of(running))
    assert np.abs(report.update - expected).max() < 2 * running.signed.plan.step + 1e-6


@pytest.mark.parametrize("count", [3, 5, 12, 40, 90])
def test_the_sum_is_that_of_the_contributions_in_the_clear(count: int) -> None:
    fleet = fleet_of(count)
    signed, cohort = fleet.plan(noise_multiplier=0.0, dropout=0.0 if count == 3 else 0.3)
    running = fleet.run(signed, cohort)
    require_right_sum(fleet, running)
    report = completed(running)
    assert (report.cohort, report.prepared, report.survivors, report.suspects) == (count, count, count, ())
    assert set(report.extras) == {"loss", "samples"}
    assert 0 < report.extras["loss"] < 10 and 0 < report.extras["samples"] < 50  # noqa: PT018


@pytest.mark.parametrize("step", [Action.PREPARE, Action.TRAIN, Action.CONFIRM, Action.UNMASK])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_thirty_percent_may_drop_out_at_any_step(step: Action, seed: int) -> None:
    fleet = fleet_of(60, seed)
    signed, cohort = fleet.plan(noise_multiplier=0.0, dropout=0.4)
    lost = sorted(cohort.indices, key=lambda index: (index * 7919 + seed * 104729) % 60)[: int(0.3 * 60)]
    running = fleet.run(signed, cohort, drop=lambda action, index: action is step and index in lost)
    require_right_sum(fleet, running)
    kept = {Action.PREPARE: 42, Action.TRAIN: 42}.get(step, 60)
    assert completed(running).survivors == kept


def test_ten_percent_may_drop_out_at_every_step() -> None:
    fleet = fleet_of(80)
    signed, cohort = fleet.plan(noise_multiplier=0.0, dropout=0.4)
    drops = [drop_share(0.1, step, number) for number, step in enumerate(Action)]
    running = fleet.run(signed, cohort, drop=lambda action, index: any(drop(action, index) for drop in drops))
    require_right_sum(fleet, running)
    assert completed(running).survivors < 80


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (Action.PREPARE, "federation.cohort_too_small"),
        (Action.TRAIN, "federation.cohort_too_small"),
        (Action.CONFIRM, "federation.no_quorum"),
        (Action.UNMASK, "federation.aborted"),
    ],
)
def test_too_many_drop_outs_abort_the_round_and_say_so(step: Action, code: str) -> None:
    fleet = fleet_of(30)
    signed, cohort = fleet.plan(noise_multiplier=0.0)
    running = fleet.run(signed, cohort, drop=lambda action, index: action is step and index % 10 < 8)
    assert running.phase is Phase.ABORTED
    report = running.report
    assert report is not None
    assert (report.aborted, report.update, report.groups) == (code, None, ())
    assert fleet.events[-1].code == "round.aborted"
    assert (fleet.events[-1].outcome, fleet.events[-1].details["step"]) == (code, step.value)


def test_nobody_at_all_is_no_success() -> None:
    fleet = fleet_of(10)
    running = fleet.run(*fleet.plan(noise_multiplier=0.0), drop=lambda action, index: True)
    assert running.report is not None
    assert running.report.aborted == "federation.cohort_too_small"


def test_the_sum_with_noise_is_as_noisy_as_the_plan_says() -> None:
    fleet = fleet_of(20, unsafe_without_noise=False)
    signed, cohort = fleet.plan(length=20_000, noise_multiplier=1.0, extras=())
    running = fleet.run(signed, cohort)
    report = completed(running)
    assert report.update is not None
    plan = signed.plan
    noise = (report.update - fleet.expected(signed, survivors_of(running))) * report.survivors / plan.step
    expected = np.sqrt(report.survivors * plan.noise_variance)
    # Standard error of a deviation over 20,000 coordinates is 0.5 %; six of them fail one run in 5e8.
    assert 0.97 < noise.std() / expected < 1.03
    assert report.groups[0].is_counted


def test_groups_are_summed_apart_and_counted_together() -> None:
    fleet = fleet_of(60)
    signed, cohort = fleet.plan(noise_multiplier=0.0, groups=3)
    running = fleet.run(signed, cohort, drop=drop_share(0.1, Action.TRAIN, 5))
    require_right_sum(fleet, running)
    report = completed(running)
    assert len(report.groups) == 3
    assert sum(group.survivors for group in report.groups) == report.contributors == report.survivors


def test_a_group_below_its_minimum_is_left_out_and_stays_masked() -> None:
    fleet = fleet_of(60)
    signed, cohort = fleet.plan(noise_multiplier=0.0, groups=3)
    running = fleet.begin(signed, cohort)
    lost = {cohort.indices[place] for place in running.topology.groups[1][2:]}
    running = fleet.run(signed, cohort, drop=lambda action, index: action is Action.TRAIN and index in lost)
    require_right_sum(fleet, running)
    assert [group.survivors for group in completed(running).groups] == [20, 20]


def test_rounds_follow_each_other_and_the_dump_holds_every_message(tmp_path: Path) -> None:
    fleet = fleet_of(8)
    fleet.dump = Dump(tmp_path)
    for number in (1, 2):
        running = fleet.run(*fleet.plan(noise_multiplier=0.0))
        require_right_sum(fleet, running)
        assert completed(running).round == number
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.bin")}
    assert {"round-0001/prepare/00000-request.bin", "round-0002/unmask/00007-reply.bin"} <= files
    assert [event.code for event in fleet.events] == ["round.planned", "round.completed"] * 2
    assert all(device.state is None for device in fleet.devices), "the state of a round ends with it"


def test_the_same_seed_gives_the_same_round() -> None:
    seen = []
    for _ in range(2):
        fleet = fleet_of(8, seed=11)
        report = completed(fleet.run(*fleet.plan(extras=(Extra("loss", 1.0),), noise_multiplier=2.0)))
        assert report.update is not None
        # Sealed shares differ, for HPKE takes its ephemeral keys from the operating system; what is in the sum does not.
        vectors = [data[:-64] for name, data in fleet.dump.seen if name.endswith("reply.bin") and "/train/" in name]
        seen.append((report.plan != "", report.update.tobytes(), vectors))
    assert seen[0] == seen[1]


def test_hello_introduces_each_device_once() -> None:
    fleet = fleet_of(5)
    assert fleet.meet_devices() == {number: number for number in range(5)}
