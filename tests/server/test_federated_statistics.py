"""Calibration and demographic rounds over the simulator: what the server reads agrees with plain sums over all devices."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.errors import FederationError
from facekeep.participation.statistics import SubjectCounts, calibration_contribution, demographic_contribution
from facekeep.protocol import Kind, Level, RoundPlan
from facekeep.protocol.statistics import CALIBRATION_EXTRAS, CalibrationSettings, DemographicSettings
from facekeep_server.rounds import RoundReport
from facekeep_server.statistics.calibrating import read_calibration
from facekeep_server.statistics.demographics import read_demographics, suppressed
from tests.simulators.federation import Fleet

DEVICES = 60
SETTINGS = CalibrationSettings(low=0.1, high=0.5, bins=40, gain=4, anchors=False)
GROUPS = DemographicSettings(groups=("north", "south", "west"), threshold=0.3, comparisons=16, ratio=20, anchors=False)


def run(fleet: Fleet, make: Any, **changes: Any) -> tuple[RoundPlan, RoundReport]:
    for number, device in enumerate(fleet.devices):
        device.make = lambda plan, subjects, number=number: make(number, plan)
    signed, cohort = fleet.plan(level=Level.NONE, **changes)
    report = fleet.run(signed, cohort).report
    assert report is not None
    assert report.is_complete
    assert report.update is not None
    return signed.plan, report


@pytest.fixture(scope="module")
def scores() -> list[np.ndarray[Any, Any]]:
    """Of each device another number of scores, and another spread: people look alike in some places more than in others."""
    generator = np.random.default_rng(3)
    return [generator.normal(0.02, generator.uniform(0.08, 0.14), int(generator.integers(50, 2000))) for _ in range(DEVICES)]


def calibrate(scores: list[np.ndarray[Any, Any]], noise: float, **changes: Any) -> tuple[RoundPlan, RoundReport]:
    fleet = Fleet(seed=5)
    fleet.allow(epsilon=1e9)
    fleet.add_light(DEVICES)
    wish = {
        "kind": Kind.CALIBRATION,
        "length": SETTINGS.bins,
        "noise_multiplier": noise,
        "extras": CALIBRATION_EXTRAS,
        "settings": SETTINGS.to_settings(),
    }
    return run(fleet, lambda number, plan: calibration_contribution(scores[number], plan), **(wish | changes))


def test_calibration_agrees_with_plain_sums(scores: list[np.ndarray[Any, Any]]) -> None:
    plan, report = calibrate(scores, noise=1e-3)
    assert report.update is not None
    found = read_calibration(plan, report.update, report.extras, report.contributors)
    # Slow and obvious: of each device the share of its scores at and above the edge; the mean over devices.
    plain = np.array([np.mean([np.mean(one >= edge) for one in scores]) for edge in SETTINGS.edges])
    assert found.devices == DEVICES
    assert found.clipped == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(found.fmr, plain, atol=2e-4)
    assert (found.low <= plain).all()
    assert (plain <= found.high).all()
    for target in (0.05, 0.01):
        point = found.point(target, within=10)
        rate = np.mean([np.mean(one >= point.threshold) for one in scores])
        assert rate <= target + 2e-4
        assert point.fmr_interval[0] <= rate <= point.fmr_interval[1]
        # The edge before it would not have kept the target.
        assert np.mean([np.mean(one >= point.threshold - 0.01) for one in scores]) > target - 2e-4
    assert 0.9 * sum(map(len, scores)) < found.comparisons <= 1.01 * sum(map(len, scores))


def test_the_interval_of_a_noisy_calibration_covers_the_truth(scores: list[np.ndarray[Any, Any]]) -> None:
    plan, report = calibrate(scores, noise=0.5)
    assert report.update is not None
    found = read_calibration(plan, report.update, report.extras, report.contributors)
    plain = np.array([np.mean([np.mean(one >= edge) for one in scores]) for edge in SETTINGS.edges])
    assert np.mean((found.low <= plain) & (plain <= found.high)) >= 0.9
    assert (np.abs(found.fmr - plain) > 1e-3).any()
    # A target far below the noise is not promised.
    with pytest.raises(FederationError) as caught:
        found.point(1e-5)
    assert caught.value.code == "federation.invalid_update"


def test_intervals_hold_noise_and_sampling_of_many_draws() -> None:
    """Coverage over many fleets, devices and noise drawn anew: nominal 95 %; below 92 % of 400 by chance less than once in 200."""
    generator = np.random.default_rng(8)
    devices, settings = 200, CalibrationSettings(low=0.2, high=0.4, bins=4, gain=5, anchors=False)
    plan, _ = calibrate([np.full(10, 0.0)] * DEVICES, 1e-3, length=4, settings=settings.to_settings())
    truth, covered = 0.02, 0
    for _ in range(400):
        shares = np.zeros((devices, 4))
        shares[:, 1] = generator.choice([0.0, 0.1], p=[0.8, 0.2], size=devices)
        spread = math.sqrt(plan.noise_variance / devices) * plan.step
        mean = (shares * settings.gain).mean(axis=0) + generator.normal(0, spread, 4)
        found = read_calibration(plan, mean.astype(np.float32), {"clipped": 0.0, "pairs": 10.0}, devices)
        covered += bool(found.low[1] <= truth <= found.high[1])
    assert covered / 400 >= 0.92


def test_clipped_devices_give_no_threshold(scores: list[np.ndarray[Any, Any]]) -> None:
    settings = replace(SETTINGS, gain=200)
    plan, report = calibrate(scores, noise=1e-3, settings=settings.to_settings())
    assert report.update is not None
    found = read_calibration(plan, report.update, report.extras, report.contributors)
    assert found.clipped > 0.9
    with pytest.raises(FederationError, match="clipped"):
        found.point(0.05)


def people() -> list[list[SubjectCounts]]:
    generator = np.random.default_rng(4)
    found: list[list[SubjectCounts]] = []
    for number in range(DEVICES):
        subjects = []
        for _ in range(int(generator.integers(1, 4))):
            group = generator.choice(["north", "south", "west", "elsewhere"], p=[0.5, 0.4, 0.05, 0.05])
            mated, non_mated = int(generator.integers(3, 12)), int(generator.integers(50, 300))
            missed = int(generator.binomial(mated, 0.1 if group == "north" else 0.3))
            subjects.append(SubjectCounts(str(group), mated, missed, non_mated, int(generator.binomial(non_mated, 0.02))))
        found.append([*subjects, SubjectCounts("north" if number % 2 else "south", 4, 0, 100, 2)])
    return found


def test_demographics_agree_with_plain_sums() -> None:
    fleet, everybody = Fleet(seed=6), people()
    fleet.allow(epsilon=1e9)
    fleet.add_light(DEVICES)
    plan, report = run(
        fleet,
        lambda number, plan: demographic_contribution(everybody[number], plan),
        kind=Kind.DEMOGRAPHIC,
        length=GROUPS.length,
        clip=64.0,
        noise_multiplier=1e-3,
        extras=(),
        settings=GROUPS.to_settings(),
    )
    assert report.update is not None
    found = read_demographics(plan, report.update, report.contributors, floor=20)
    by_name = {group.name: group for group in found.groups}
    subjects = [item for device in everybody for item in device]
    for name in ("north", "south", "west"):
        mine = [item for item in subjects if item.group == name]
        if len(mine) < 20:
            assert by_name[name].is_suppressed
            assert by_name[name].subjects is None
            continue
        shown = by_name[name]
        if shown.is_suppressed:
            continue
        assert shown.subjects == len(mine)
        assert shown.fnmr is not None
        assert shown.fmr is not None
        fnmr = sum(item.non_matches for item in mine) / sum(item.mated for item in mine)
        fmr = sum(item.false_matches for item in mine) / sum(item.non_mated for item in mine)
        assert shown.fnmr.value == pytest.approx(fnmr, abs=2e-3)
        assert shown.fmr.value == pytest.approx(fmr, abs=2e-3)
        assert shown.fnmr.interval[0] <= fnmr <= shown.fnmr.interval[1]
    # "west" is small: alone it could be had from a total, so that the smaller of the two others goes with it.
    assert sum(group.is_suppressed for group in found.groups) == 2
    assert found.total is None
    everything = read_demographics(plan, report.update, report.contributors, floor=1)
    assert everything.total is not None
    assert everything.total.subjects == sum(item.group in GROUPS.groups for item in subjects)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8), st.integers(1, 200))
def test_nobody_is_suppressed_alone(sizes: list[int], floor: int) -> None:
    hidden = suppressed([float(size) for size in sizes], floor)
    assert {place for place, size in enumerate(sizes) if size < floor} <= hidden
    assert len(hidden) != 1 or len(sizes) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"low": "0.5", "high": "0.1"},
        {"low": 0.1},
        {"bins": 1},
        {"bins": True},
        {"gain": 0},
        {"anchors": 2},
        {"further": 1},
        {"low": "nan"},
        {"bins": 5000},
    ],
)
def test_settings_of_another_form_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FederationError) as caught:
        CalibrationSettings.parse(SETTINGS.to_settings() | changes)
    assert caught.value.code == "federation.plan_refused"


def test_settings_come_back() -> None:
    assert CalibrationSettings.parse(SETTINGS.to_settings()) == SETTINGS
    assert DemographicSettings.parse(GROUPS.to_settings()) == GROUPS
    for changes in ({"groups": "a,a"}, {"groups": "UPPER"}, {"threshold": "2.0"}, {"comparisons": 0}, {"groups": ""}):
        with pytest.raises(FederationError):
            DemographicSettings.parse(GROUPS.to_settings() | changes)
