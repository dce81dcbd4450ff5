"""`federate simulate`: the same ServerApp and the same steps of devices under Flower's simulation engine, with virtual devices.

Needs Ray (extra `simulation`). What it measures is the server and the protocol with many devices, not training.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from facekeep.clock import SystemClock
from facekeep.protocol import Kind, Level
from facekeep.randomness import SystemRandomness
from facekeep_server.errors import ServerError
from facekeep_server.federation.creation import AUTHORITY, create_federation, key_name
from facekeep_server.federation.files import replace_file
from facekeep_server.federation.keys import load_signing_key
from facekeep_server.federation.patience import Patience
from facekeep_server.federation.planning import Request, plan_next
from facekeep_server.federation.rounds import round_directory
from facekeep_server.federation.state import FederationState, Settings

_NAME: Final = "simulation.facekeep.example"


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a simulation measured.

    Attributes:
        devices: virtual devices.
        length: numbers in an update.
        seconds: of the whole run, the start of the engine included.
        rounds: report of each round, with its steps.
    """

    devices: int
    length: int
    seconds: float
    rounds: tuple[dict[str, Any], ...]


def simulate(
    folder: Path, *, devices: int, rounds: int, length: int, workers: int, noise: float = 8.0, say: Callable[[str], None] = print
) -> Simulated:
    """Run rounds with virtual devices in an empty folder.

    Raises:
        ServerError: "server.invalid_configuration" where Ray is not installed.
    """
    try:
        import ray  # noqa: F401
        from flwr.simulation import run_simulation
    except ImportError:
        raise ServerError("server.invalid_configuration", "A simulation takes Ray: pip install 'facekeep[simulation]'.") from None
    from facekeep.flower.answering import make_answering_app
    from facekeep.flower.virtual import ENVIRONMENT, open_virtual

    state = make_virtual_federation(folder, devices)
    os.environ |= {
        ENVIRONMENT: str(state.root / "device" / "policy.toml"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    began = time.monotonic()
    reports = []

    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp

    from facekeep_server.flower.app import drive

    server = ServerApp()
    patience = Patience(step_seconds=3600, meeting_seconds=600, poll_seconds=0.5, resend_seconds=3600, group=250)

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        for _ in range(rounds):
            plan_next(
                state,
                Request(
                    kind=Kind.TRAINING,
                    level=Level.DEEP,
                    length=length,
                    base="00" * 32,
                    clip=1.0,
                    cohort=devices,
                    noise_multiplier=noise,
                ),
                SystemClock().now(),
                SystemRandomness(),
            )
            drive(state, grid, SystemClock(), patience, say=say)

    backend = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": workers, "include_dashboard": False}}
    run_simulation(server, make_answering_app(open_virtual), devices, backend_config=backend)  # type: ignore[arg-type]
    for number in state.round_numbers:
        directory = round_directory(state, number)
        if directory.is_over:
            reports.append(directory.report() | {"steps": directory.steps()})
    return Simulated(devices, length, time.monotonic() - began, tuple(reports))


def make_virtual_federation(folder: Path, devices: int) -> FederationState:
    """Return a state directory whose roster holds virtual devices only."""
    from facekeep.flower.virtual import virtual_keys
    from facekeep.protocol import Roster

    settings = Settings(_NAME, "127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1:1", 1, 1)
    state = create_federation(folder, settings, SystemClock().now(), minimum_cohort=3, epsilon=1e6)
    roster = Roster(_NAME, [virtual_keys(number).entry for number in range(devices)])
    signer = load_signing_key(state.key_path(AUTHORITY))
    target = state.folder("roster")
    replace_file(target / "roster", roster.to_bytes())
    replace_file(target / "head", roster.head.sign(key_name(settings, AUTHORITY), signer).encode())
    return state
