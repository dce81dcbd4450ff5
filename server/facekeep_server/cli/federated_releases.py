"""`facekeep-server federate candidate | offer | simulate | demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facekeep_server.cli.opening import JsonOption, say
from facekeep_server.errors import ServerError
from facekeep_server.federation.state import ENVIRONMENT, FederationState
from facekeep_server.releases import recommended
from facekeep_server.releases.optimising import KINDS, ServerOptimiser

StateOption = Annotated[
    Path, typer.Option("--state", envvar=ENVIRONMENT, help="State directory of the federation, made by `federate init`.")
]
KeysOption = Annotated[Path | None, typer.Option("--keys", help="Directory of the offline keys, where they were moved away.")]

OptimiserOption = Annotated[str, typer.Option(help="average, momentum or adam.")]
RateOption = Annotated[float | None, typer.Option(help="By which a step is multiplied; 1 for average and momentum.")]
MomentumOption = Annotated[float, typer.Option(help="Share of earlier updates that stays.")]
MemoryOption = Annotated[float, typer.Option(help="adam: share of earlier squares that stays.")]
FallsOption = Annotated[int, typer.Option(min=0, help="Rounds of one release over which the rate falls to nothing; 0 for never.")]
FirstOption = Annotated[
    int | None,
    typer.Option(min=0, help="Only the first so many numbers are taken over, 0 for all; left out: as recommended."),
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(candidate)
    app.command("offer")(offer_release)
    app.command()(simulate)
    app.command()(demo)


def candidate(
    rounds: Annotated[list[int], typer.Argument(help="Completed rounds of training on the model in use.")],
    state: StateOption,
    optimiser: OptimiserOption = recommended.OPTIMISER.kind,
    rate: RateOption = None,
    momentum: MomentumOption = recommended.OPTIMISER.momentum,
    memory: MemoryOption = recommended.OPTIMISER.memory,
    falls_over: FallsOption = recommended.ROUNDS,
    first: FirstOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make what the model in use becomes by these rounds. It has to be evaluated before it can be released."""
    from facekeep_server.releases.chaining import recommended_used
    from facekeep_server.releases.making import make_steered

    opened = FederationState.open(state)
    used = recommended_used(opened, rounds) if first is None else first
    found = make_steered(opened, rounds, steering_of(optimiser, rate, momentum, memory, falls_over), first=used)
    text = f"Candidate for release {found.version}: {found.folder}\nThen: facekeep-server federate release make"
    say(text, {"version": found.version, "folder": str(found.folder)}, as_json=as_json)


def steering_of(optimiser: str, rate: float | None, momentum: float, memory: float, falls_over: int) -> ServerOptimiser:
    """Return the server optimiser of an operator's options."""
    kind = next((item for item in KINDS if item == optimiser), None)
    if kind is None:
        raise ServerError("server.invalid_request", f"The optimiser is one of {', '.join(KINDS)}.")
    usual = recommended.OPTIMISER.rate if kind == "adam" else 1.0
    return ServerOptimiser(kind, usual if rate is None else rate, momentum, memory, falls_over)


def offer_release(
    state: StateOption,
    to: Annotated[list[int] | None, typer.Option(help="Roster index of a canary; repeat. Everybody if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Have the newest release offered to devices by the next `federate run`."""
    from facekeep_server.federation.fleet import read_roster
    from facekeep_server.federation.offers import request_offer

    found = FederationState.open(state)
    asked = to or list(range(len(read_roster(found).roster)))
    path = request_offer(found, asked)
    say(f"To be offered to {len(asked)} devices: {path}", {"devices": len(asked), "offer": str(path)}, as_json=as_json)


def simulate(
    folder: Annotated[Path, typer.Argument(help="Empty or absent folder to work in.")],
    devices: Annotated[int, typer.Option(min=3, help="Virtual devices.")] = 1_000,
    rounds: Annotated[int, typer.Option(min=1)] = 1,
    length: Annotated[int, typer.Option(min=1, help="Numbers in an update.")] = 50_000,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the simulation engine.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Run rounds with virtual devices under Flower's simulation engine (extra simulation), and say what they took."""
    from facekeep_server.federation.simulating import simulate as run_simulation

    found = run_simulation(folder, devices=devices, rounds=rounds, length=length, workers=workers, say=_err)
    lines = [f"{found.devices} devices, {found.length:,} numbers: {found.seconds:.1f} s with the start of the engine"]
    for report in found.rounds:
        steps = ", ".join(f"{step['step']} {step['seconds']:.1f} s" for step in report["steps"])
        moved = sum(step["sent"] + step["received"] for step in report["steps"])
        lines.append(f"round {report['round']}: {report['survivors']} in the sum, {steps}, {moved / 1e6:.1f} MB")
    value = {"devices": found.devices, "length": found.length, "seconds": found.seconds, "rounds": list(found.rounds)}
    say("\n".join(lines), value, as_json=as_json)


def demo(
    folder: Annotated[Path, typer.Argument(help="Empty or absent folder for everything, and for the page.")],
    devices: Annotated[int, typer.Option(min=3, max=20, help="Devices, each a real SuperNode with a vault of its own.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, max=50)] = 3,
    level: Annotated[str, typer.Option(help="head, channels or deep.")] = "channels",
    training_kit: Annotated[Path | None, typer.Option(help="Training kit made before; made anew if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a whole federation on this machine: real processes, synthetic people, rounds, releases, and a page that shows it."""
    from facekeep_server.federation.demo import run_demo
    from facekeep_server.federation.demo_page import describe_rounds

    made = run_demo(folder, devices=devices, rounds=rounds, level=level, training_kit=training_kit, say=_err)
    say(f"The page: {made.page}", {"page": str(made.page), "rounds": describe_rounds(made)}, as_json=as_json)


def _err(line: str) -> None:
    typer.echo(line, err=True)
