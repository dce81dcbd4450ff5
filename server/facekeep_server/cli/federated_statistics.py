"""`facekeep-server federate calibrate | demographics`: plan such a round, or read one that was completed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facekeep.clock import SystemClock
from facekeep_server.cli.federated_releases import StateOption
from facekeep_server.cli.opening import JsonOption, say
from facekeep_server.errors import ServerError
from facekeep_server.federation.state import FederationState

if TYPE_CHECKING:
    from facekeep.protocol import RoundPlan
    from facekeep_server.federation.planning import Request
    from facekeep_server.statistics.demographics import Rate

RoundOption = Annotated[int | None, typer.Option("--round", help="Completed round to read; left out: plan a new one.")]
CohortOption = Annotated[int, typer.Option(min=3, help="Devices to invite, if there are so many.")]
NoiseOption = Annotated[
    float | None, typer.Option(min=0, help="Noise multiplier; left out: what --budget-rounds such rounds can afford.")
]
BudgetOption = Annotated[int, typer.Option(min=1, help="Rounds like this one that a device's budget would last for.")]
HoursOption = Annotated[float, typer.Option(min=0.05, max=168, help="Until the deadline.")]
AnchorsOption = Annotated[
    bool, typer.Option("--anchors/--no-anchors", help="Also compare with the training kit's anchors, before any release.")
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(calibrate)
    app.command()(demographics)


def calibrate(
    state: StateOption,
    number: RoundOption = None,
    fmr: Annotated[list[float] | None, typer.Option(help="False match rate to give a threshold for; repeat.")] = None,
    low: Annotated[float, typer.Option(help="Lowest score that is told.")] = 0.1,
    high: Annotated[float, typer.Option(help="Scores above it are counted together.")] = 0.6,
    bins: Annotated[int, typer.Option(min=2, max=1024, help="Bins between the two.")] = 50,
    gain: Annotated[int, typer.Option(min=1, help="By what shares are multiplied before they are clipped.")] = 8,
    anchors: AnchorsOption = True,
    cohort: CohortOption = 1000,
    noise: NoiseOption = None,
    budget_rounds: BudgetOption = 30,
    hours: HoursOption = 12,
    as_json: JsonOption = False,
) -> None:
    """Threshold for a false match rate, from scores of different people on the devices themselves."""
    from facekeep.protocol.statistics import CalibrationSettings
    from facekeep_server.statistics.reading import calibrated_points, calibration_request, read_calibration_round

    found = FederationState.open(state)
    if number is None:
        try:
            settings = CalibrationSettings(low=low, high=high, bins=bins, gain=gain, anchors=anchors)
        except ValueError as error:
            raise ServerError("server.invalid_request", f"Such a histogram cannot be asked for: {error}.") from None
        wishes: dict[str, Any] = {"cohort": cohort, "noise_multiplier": noise, "budget_rounds": budget_rounds}
        plan_and_say(found, calibration_request(found, settings, lasts=timedelta(hours=hours), **wishes), as_json=as_json)
        return
    whole = read_calibration_round(found, number)
    lines, values = [f"{whole.devices} devices, {max(0.0, whole.clipped):.1%} clipped"], []
    for point in calibrated_points(found, number, fmr or [1e-2]):
        low_end, high_end = point.fmr_interval
        lines.append(f"FMR {point.target_fmr:g} at {point.threshold:.4f}: measured {point.fmr:.3g} ({low_end:g} to {high_end:g})")
        values.append(
            {
                "target_fmr": point.target_fmr,
                "threshold": point.threshold,
                "fmr": point.fmr,
                "interval": list(point.fmr_interval),
                "comparisons": point.comparisons,
            }
        )
    value = {"round": number, "devices": whole.devices, "clipped": whole.clipped, "points": values}
    say("\n".join(lines), value, as_json=as_json)


def demographics(
    state: StateOption,
    number: RoundOption = None,
    group: Annotated[list[str] | None, typer.Option(help="Group that subjects can have declared; repeat.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Operating threshold in use; the release's loosest if left out.")
    ] = None,
    comparisons: Annotated[int, typer.Option(min=1, help="Most mated comparisons counted for one subject.")] = 16,
    ratio: Annotated[int, typer.Option(min=1, help="Non-mated comparisons are counted in units of so many.")] = 100,
    floor: Annotated[int, typer.Option(min=1, help="Fewest subjects of a group that is told.")] = 50,
    anchors: AnchorsOption = True,
    cohort: CohortOption = 1000,
    noise: NoiseOption = None,
    budget_rounds: BudgetOption = 30,
    hours: HoursOption = 12,
    as_json: JsonOption = False,
) -> None:
    """Error rates by the groups that subjects declared themselves, none of them told where it is small."""
    from facekeep.protocol.statistics import DemographicSettings
    from facekeep_server.federation.candidates import newest_release
    from facekeep_server.statistics.reading import demographic_request, read_demographic_round

    found = FederationState.open(state)
    if number is None:
        newest = newest_release(found)
        if threshold is None and newest is None:
            raise ServerError("server.invalid_request", "Name the operating threshold in use with --threshold.")
        used = threshold if threshold is not None or newest is None else newest[0].operating_points[0].threshold
        try:
            settings = DemographicSettings(
                groups=tuple(group or ()), threshold=used or 0.0, comparisons=comparisons, ratio=ratio, anchors=anchors
            )
        except ValueError as error:
            raise ServerError("server.invalid_request", f"Such a report cannot be asked for: {error}.") from None
        wishes: dict[str, Any] = {"cohort": cohort, "noise_multiplier": noise, "budget_rounds": budget_rounds}
        plan_and_say(found, demographic_request(found, settings, lasts=timedelta(hours=hours), **wishes), as_json=as_json)
        return
    report = read_demographic_round(found, number, floor=floor)
    lines, values = [f"{report.devices} devices, at threshold {report.threshold:.4f}"], []
    for item in (*report.groups, *([report.total] if report.total else [])):
        name = item.name or "all"
        if item.is_suppressed:
            lines.append(f"{name}: not told, for the sake of a small group")
        else:
            lines.append(f"{name}: {item.subjects} subjects, FMR {_told(item.fmr)}, FNMR {_told(item.fnmr)}")
        values.append(
            {
                "group": name,
                "subjects": item.subjects,
                "suppressed": item.is_suppressed,
                "fmr": _value(item.fmr),
                "fnmr": _value(item.fnmr),
            }
        )
    value = {"round": number, "devices": report.devices, "threshold": report.threshold, "floor": report.floor, "groups": values}
    say("\n".join(lines), value, as_json=as_json)


def plan_and_say(state: FederationState, request: Request, *, as_json: bool) -> None:
    """Plan a round and say what it costs."""
    from facekeep.randomness import SystemRandomness
    from facekeep_server.federation.planning import plan_next

    with state.locked():
        made: RoundPlan = plan_next(state, request, SystemClock().now(), SystemRandomness())[0]
    text = (
        f"Round {made.round} ({made.kind}): {made.cohort_size} devices invited, at least {made.minimum} have to answer, "
        f"epsilon {made.epsilon:.3g} at delta {made.delta:g} for each. Run it: facekeep-server federate run"
    )
    value = {"round": made.round, "kind": made.kind.value, "cohort": made.cohort_size, "epsilon": made.epsilon}
    say(text, value, as_json=as_json)


def _told(rate: Rate | None) -> str:
    return "not measurable" if rate is None else f"{rate.value:.3g} ({rate.interval[0]:.2g} to {rate.interval[1]:.2g})"


def _value(rate: Rate | None) -> dict[str, Any] | None:
    return None if rate is None else {"rate": rate.value, "interval": list(rate.interval)}
