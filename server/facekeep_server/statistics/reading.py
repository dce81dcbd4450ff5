"""Completed rounds of statistics in the state directory, read; and what plans of them ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from facekeep.protocol import Kind, Level, RoundPlan
from facekeep.protocol.statistics import CALIBRATION_EXTRAS, CalibrationSettings, DemographicSettings
from facekeep_server.errors import ServerError
from facekeep_server.federation.candidates import base_in_use
from facekeep_server.federation.planning import Request
from facekeep_server.federation.rounds import RoundDirectory, round_directory
from facekeep_server.federation.state import FederationState
from facekeep_server.statistics.calibrating import CalibratedPoint, Calibration, read_calibration
from facekeep_server.statistics.demographics import FLOOR, DemographicReport, read_demographics

# Of a calibration: shares lie within the clip unless the gain makes them larger.
CALIBRATION_CLIP: Final = 1.0


def calibration_request(state: FederationState, settings: CalibrationSettings, **wishes: Any) -> Request:
    """Return what to plan for a calibration of the model in use."""
    return Request(
        kind=Kind.CALIBRATION,
        level=Level.NONE,
        length=settings.bins,
        base=base_in_use(state),
        clip=CALIBRATION_CLIP,
        settings=settings.to_settings(),
        extras=CALIBRATION_EXTRAS,
        **wishes,
    )


def demographic_request(state: FederationState, settings: DemographicSettings, **wishes: Any) -> Request:
    """Return what to plan for a report by groups. The clip is that of two subjects whose counts are as high as they can be."""
    return Request(
        kind=Kind.DEMOGRAPHIC,
        level=Level.NONE,
        length=settings.length,
        base=base_in_use(state),
        clip=2.0 * settings.comparisons,
        settings=settings.to_settings(),
        extras=(),
        **wishes,
    )


def read_calibration_round(state: FederationState, number: int) -> Calibration:
    """Return what a completed calibration says.

    Raises:
        ServerError: "server.invalid_request" for a round that is not a completed calibration.
    """
    plan, directory = _completed(state, number, Kind.CALIBRATION)
    report = directory.report()
    return read_calibration(plan, directory.update(), report["extras"], int(report["contributors"]))


def calibrated_points(state: FederationState, number: int, rates: Sequence[float]) -> tuple[CalibratedPoint, ...]:
    """Return thresholds for false match rates from a completed calibration of the model in use.

    Raises:
        ServerError: "server.invalid_request" if it was of another model.
        FederationError: "federation.invalid_update" if it gives no threshold for one of them.
    """
    plan, _ = _completed(state, number, Kind.CALIBRATION)
    if plan.base != base_in_use(state):
        raise ServerError("server.invalid_request", "The calibration is of another model than the one in use.")
    found = read_calibration_round(state, number)
    return tuple(found.point(rate) for rate in rates)


def read_demographic_round(state: FederationState, number: int, *, floor: int = FLOOR) -> DemographicReport:
    """Return what a completed demographic round says.

    Raises:
        ServerError: "server.invalid_request" for a round that is not a completed one of that kind.
    """
    plan, directory = _completed(state, number, Kind.DEMOGRAPHIC)
    return read_demographics(plan, directory.update(), int(directory.report()["contributors"]), floor=floor)


def _completed(state: FederationState, number: int, kind: Kind) -> tuple[RoundPlan, RoundDirectory]:
    directory = round_directory(state, number)
    if not directory.is_over or directory.report()["aborted"] is not None:
        raise ServerError("server.invalid_request", f"Round {number} was not completed.")
    plan = directory.plan()
    if plan.kind is not kind:
        raise ServerError("server.invalid_request", f"Round {number} is of the kind {plan.kind}, not {kind}.")
    return plan, directory
