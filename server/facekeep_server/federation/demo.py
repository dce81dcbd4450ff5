"""`federate demo`: a whole federation on one machine, every part a real process, with people who do not exist.

Steps:
    1 make keys, certificates, kits; import the model that ships and its training kit
    2 make the devices, let them join, give each a synthetic person
    3 start hub, SuperLink and SuperNodes
    4 for each round: plan, run
    5 make a candidate of the round, have it judged by a process that has a model's eyes, sign it or withhold it
    6 offer the release; each device verifies, tests and adopts it, and its person passes by, so that the template follows
    7 draw the page
Five devices cannot hide in a crowd of five: the page says what privacy that costs, and what a real fleet does instead.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from facekeep.clock import SystemClock
from facekeep.errors import ReleaseError
from facekeep.flower.node import program
from facekeep.protocol import Kind, Level
from facekeep.randomness import SystemRandomness
from facekeep_server.errors import ServerError
from facekeep_server.federation.candidates import base_in_use, make_candidate
from facekeep_server.federation.coordinator import open_trail
from facekeep_server.federation.demo_page import TARGET, write_page
from facekeep_server.federation.files import read_file
from facekeep_server.federation.loopback import LoopbackFleet
from facekeep_server.federation.model import import_kit, import_model, read_model
from facekeep_server.federation.offers import ADOPTED, answers_of, request_offer
from facekeep_server.federation.planning import Request, plan_next, training_settings
from facekeep_server.federation.processes import Processes
from facekeep_server.federation.releasing import publish
from facekeep_server.federation.rounds import round_directory
from facekeep_server.federation.running import run_until_over
from facekeep_server.releases.contracts import ContractDescription
from facekeep_server.releases.evaluating import read_crops
from facekeep_server.releases.gate import GateLimits
from facekeep_server.releases.making import Evaluating

# Enough that a sum of five is not drowned; what it costs is on the page.
_NOISE: Final = 0.02
_CLIP: Final = 0.5
_EPSILON: Final = 1e6
_KIT_PEOPLE: Final = 96
_FIRST_PERSON: Final = 40
# With 110 people sampling alone moves the share of true matches by about as much.
_LIMITS: Final = GateLimits(most_fall={TARGET: 0.02})


@dataclass(slots=True)
class DemoRound:
    """What the page shows of a round.

    Attributes:
        report: outcome, with its steps.
        evaluation: what the gate measured of the candidate; None after an aborted round, or if its numbers alone were too much.
        outcome: "released" or why not.
        adopted: devices that use the release; None before it was offered.
        spent: epsilon that a device which was in every round has spent, as the devices say.
    """

    report: dict[str, Any]
    evaluation: dict[str, Any] | None
    outcome: str
    adopted: int | None = None
    spent: float | None = None


@dataclass(slots=True)
class Demo:
    """What was run.

    Attributes:
        page: the page.
        devices: how many.
        rounds: what came of each.
        memory: name of a kind of process -> resident megabytes of one, while it rested.
        seconds: of the whole demo.
    """

    page: Path
    devices: int
    rounds: list[DemoRound] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def run_demo(folder: Path, *, devices: int, rounds: int, level: str, training_kit: Path | None, say: Callable[[str], None]) -> Demo:
    """Run the demo in an empty folder.

    Raises:
        ServerError: "server.invalid_request" for a folder that is not empty; "server.unavailable" if a process fails.
    """
    folder = folder.expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ServerError("server.invalid_request", "The folder of the demo has to be empty or absent.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    began = time.monotonic()
    demo = Demo(folder / "page.html", devices)
    with Processes(folder / "logs") as processes:
        # 1 coordinator
        fleet = LoopbackFleet(folder, processes, devices, epsilon=_EPSILON)
        _models(fleet, training_kit, say)
        # 2 devices
        for number, device in enumerate(fleet.devices):
            say(f"{device.name}: vault, consent, template and samples of synthetic person {_FIRST_PERSON + number}")
            fleet.make_device(device)
            fleet.join([device])
            _process("person", str(device.home), str(device.key_file), str(_FIRST_PERSON + number))
            shutil.copytree(fleet.state.root / "device" / "training-kit", device.home / "training-kit")
        evaluating = _evaluating(fleet, say)
        # 3 processes
        fleet.set_patience(step_seconds=240, meeting_seconds=120, resend_seconds=100, poll_seconds=0.5)
        say("starting hub, SuperLink and SuperNodes")
        fleet.start_coordinator()
        fleet.register()
        for device in fleet.devices:
            fleet.start_node(device)
        for number in range(1, rounds + 1):
            demo.rounds.append(_round(fleet, number, Level(level), evaluating, say))
            if number == 1:
                demo.memory = memory_of(fleet)
            if demo.rounds[-1].outcome == "released":
                # 6 offer, adopt, follow
                _adopt(fleet, number, say)
        _settle(fleet, demo)
    demo.seconds = time.monotonic() - began
    # 7 page
    write_page(demo)
    return demo


def _models(fleet: LoopbackFleet, training_kit: Path | None, say: Callable[[str], None]) -> None:
    shipped = fleet.folder / "shipped"
    model = Path(_process("shipped", str(shipped))["model"])
    import_model(fleet.state, read_file(model), read_file(model.with_name(f"{model.stem}.patch.json")))
    if training_kit is None:
        say(f"making a training kit: anchors of {_KIT_PEOPLE} synthetic people, the training graph")
        training_kit = fleet.folder / "training-kit"
        run_part([program("facekeep-models"), "training-kit", "--into", str(training_kit), "--people", str(_KIT_PEOPLE), "--json"])
    import_kit(fleet.state, training_kit)


def _evaluating(fleet: LoopbackFleet, say: Callable[[str], None]) -> Evaluating:
    """Return what the gate measures with: crops of people whom no device holds, and the contract as a device tells it."""
    say("drawing the people that candidates are evaluated on")
    crops = _process("crops", str(fleet.folder / "crops"))["crops"]
    contract = fleet.folder / "contract.json"
    fleet.command(fleet.devices[0], "federate", "contract", "--out", str(contract))
    return Evaluating([read_crops(Path(folder)) for folder in crops], ContractDescription.parse(read_file(contract)))


def _round(fleet: LoopbackFleet, number: int, level: Level, evaluating: Evaluating, say: Callable[[str], None]) -> DemoRound:
    state = fleet.state
    table = read_model(state).table
    # 4 plan, run
    request = Request(
        kind=Kind.TRAINING,
        level=level,
        length=table.parameters.length_of(level.value),
        base=base_in_use(state),
        clip=_CLIP,
        cohort=len(fleet.devices),
        noise_multiplier=_NOISE,
        settings=training_settings([]),
        lasts=timedelta(hours=2),
    )
    plan_next(state, request, SystemClock().now(), SystemRandomness())
    say(f"round {number}: running")
    run_until_over(state, fleet.app.version, show=lambda line: say(line.strip()))
    directory = round_directory(state, number)
    report = directory.report() | {"steps": directory.steps()}
    if report["aborted"] is not None:
        return DemoRound(report, None, f"aborted: {report['aborted']}")
    # 5 candidate
    say(f"round {number}: judging the candidate")
    made = make_candidate(state, [number])
    outcome, clock = "released", SystemClock()
    with state.locked():
        trail, _ = open_trail(state, clock)
        try:
            publish(state, made, clock.now(), trail.record, evaluating=evaluating, limits=_LIMITS)
            request_offer(state, range(len(fleet.devices)))
        except ReleaseError as error:
            outcome = f"withheld: {error.args[0]}" if error.code == "release.gate" else error.code
    say(f"round {number}: {outcome}")
    # Where the numbers alone were too much for the gate, nothing was measured.
    is_measured = (made.folder / "evaluation.json").is_file()
    return DemoRound(report, made.evaluation() if is_measured else None, outcome)


def _adopt(fleet: LoopbackFleet, number: int, say: Callable[[str], None]) -> None:
    say(f"round {number}: offering the release")
    run_until_over(fleet.state, fleet.app.version, show=None)
    for place, device in enumerate(fleet.devices):
        visits = _process("verify", str(device.home), str(device.key_file), str(_FIRST_PERSON + place))["visits"]
        if visits:
            say(f"round {number}: the template on {device.name} followed after {visits} verifications")


def _settle(fleet: LoopbackFleet, demo: Demo) -> None:
    """Ask the devices what they spent and use; look up who adopted what."""
    version = 0
    for item in demo.rounds:
        if item.outcome == "released":
            version += 1
            answers = answers_of(fleet.state.root / "releases" / f"{version:05d}")
            item.adopted = sum(answer == ADOPTED for answer in answers.values())
    found = [fleet.command(device, "federate", "status") for device in fleet.devices]
    if demo.rounds:
        demo.rounds[-1].spent = max(float(status["spent"]) for status in found if status["spent"] is not None)


def memory_of(fleet: LoopbackFleet) -> dict[str, float]:
    """Return the resident megabytes of one process of each kind that runs for this fleet."""
    kinds = {"flower-superlink": "SuperLink", "flower-supernode": "SuperNode", "flower-superexec": "SuperExec"}
    places = [fleet.state.settings.control.rpartition(":")[2], *(str(device.port) for device in fleet.devices)]
    found: dict[str, float] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            resident = next(line for line in (path / "status").read_text().splitlines() if line.startswith("VmRSS"))
        except (OSError, StopIteration):
            continue
        kind = next((kinds[Path(word).name] for word in words if Path(word).name in kinds), None)
        if kind is not None and any(place in " ".join(words) for place in places):
            found[kind] = max(found.get(kind, 0.0), int(resident.split()[1]) / 1024)
    return found


def _process(command: str, *arguments: str) -> dict[str, Any]:
    """Run the part that may hold a face, as a process: this package imports nothing of it."""
    return run_part([sys.executable, "-m", "facekeep_models.federating", command, *arguments])


def run_part(command: list[str]) -> dict[str, Any]:
    """Run a program of ours; return the JSON object on its last line.

    Raises:
        ServerError: "server.unavailable" with what it printed, if it fails.
    """
    done = subprocess.run(  # noqa: S603 - our own programs, no shell
        command,
        capture_output=True,
        text=True,
        timeout=1800,
        stdin=subprocess.DEVNULL,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        # A command of ours says what is wrong as JSON on standard output; what broke it may stand on the other.
        told = "; ".join(text[-400:] for text in (done.stdout.strip(), done.stderr.strip()) if text)
        raise ServerError("server.unavailable", f"{' '.join(command[1:4])} failed: {told or f'exit status {done.returncode}'}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))
