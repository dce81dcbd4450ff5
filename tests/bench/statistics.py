"""What federated statistics can tell at which size of a fleet: thresholds with intervals, rates by group. Sums, unmasked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from facekeep.errors import FederationError
from facekeep.participation import Contribution
from facekeep.participation.contribution import to_row
from facekeep.participation.statistics import SubjectCounts, calibration_contribution, demographic_contribution
from facekeep.privacy.accounting import spent
from facekeep.privacy.noise import discrete_gaussian
from facekeep.privacy.ring import quantise
from facekeep.protocol import Kind, Level, RoundPlan, charge_of
from facekeep.protocol.statistics import CALIBRATION_EXTRAS, CalibrationSettings, DemographicSettings
from facekeep.randomness import SystemRandomness
from facekeep_server.rounds.opening import mean_of
from facekeep_server.statistics.calibrating import read_calibration
from facekeep_server.statistics.demographics import read_demographics
from tests.simulators.federation import Fleet

SIZES = (300, 1000, 3000)
CALIBRATION = CalibrationSettings(low=0.15, high=0.45, bins=30, gain=8, anchors=True)
GROUPS = DemographicSettings(groups=("seven-tenths", "the-rest"), threshold=0.3, comparisons=16, ratio=100, anchors=True)


def statistics(shared: Path) -> None:
    """Noise multiplier 1 in both kinds; devices differ in how alike their people are; groups in how often they are missed."""
    generator = np.random.default_rng(1)
    for size in SIZES:
        fleet = Fleet(seed=1)
        fleet.add_light(size)
        scores: list[np.ndarray[Any, Any]] = []

        def calibrate(plan: RoundPlan, scores: list[np.ndarray[Any, Any]] = scores) -> Contribution:
            scores.append(generator.normal(0.02, generator.uniform(0.07, 0.11), 1000))
            return calibration_contribution(scores[-1], plan)

        settings: dict[str, Any] = {"length": CALIBRATION.bins, "extras": CALIBRATION_EXTRAS, "settings": CALIBRATION.to_settings()}
        plan, mean, extras = _summed(fleet, size, calibrate, kind=Kind.CALIBRATION, **settings)
        found = read_calibration(plan, mean, extras, size)
        print(f"{size} devices, epsilon {_epsilon(plan):.2f} a round, {max(0.0, found.clipped):.1%} clipped")
        for target in (3e-2, 1e-2, 3e-3, 1e-3):
            try:
                point = found.point(target)
            except FederationError:
                print(f"  FMR {target:g}: no threshold")
                continue
            truth = np.mean([np.mean(each >= point.threshold) for each in scores])
            low, high = point.fmr_interval
            print(f"  FMR {target:g}: {point.threshold:.3f}, {low:.2g} to {high:.2g}, truth {truth:.2g}")
        settings = {"length": GROUPS.length, "clip": 32.0, "extras": (), "settings": GROUPS.to_settings()}
        plan, mean, _ = _summed(
            fleet, size, lambda plan: demographic_contribution(_people(generator), plan), kind=Kind.DEMOGRAPHIC, **settings
        )
        for group in read_demographics(plan, mean, size).groups:
            rates = [
                f"{rate.value:.2g} ({rate.interval[0]:.2g} to {rate.interval[1]:.2g})" for rate in (group.fmr, group.fnmr) if rate
            ]
            print(f"  {group.name}: {group.subjects} subjects, FMR {rates[0]}, FNMR {rates[1]}")


def _people(generator: np.random.Generator) -> list[SubjectCounts]:
    found = []
    for _ in range(2):
        name, missed = ("seven-tenths", 0.05) if generator.random() < 0.7 else ("the-rest", 0.1)
        found.append(SubjectCounts(name, 12, int(generator.binomial(12, missed)), 1000, int(generator.binomial(1000, 0.01))))
    return found


def _summed(
    fleet: Fleet, size: int, make: Callable[[RoundPlan], Contribution], **wish: Any
) -> tuple[RoundPlan, Any, dict[str, float]]:
    plan, randomness = fleet.plan(level=Level.NONE, noise_multiplier=1.0, **wish)[0].plan, SystemRandomness()
    total = np.zeros(plan.size, np.int64)
    for _ in range(size):
        total += quantise(to_row(make(plan), plan), plan.scale, randomness)
        total += discrete_gaussian(plan.noise_variance, plan.size, randomness)
    mean, extras = mean_of(plan, total, size)
    return plan, mean, extras


def _epsilon(plan: RoundPlan) -> float:
    charge = charge_of(plan, 5)
    return 0.0 if charge is None else spent([charge], 1e-5)
