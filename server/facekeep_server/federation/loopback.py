"""A whole federation on one machine, each part a real process: hub, SuperLink, and a SuperNode for each device. For demo and tests.

Nothing leaves 127.0.0.1. Devices are made by the `facekeep` command, as an operator would: this package knows nothing of what is in
them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from facekeep.clock import SystemClock
from facekeep.flower.node import Launch, program
from facekeep_server.errors import ServerError
from facekeep_server.federation.app import write_signed_app
from facekeep_server.federation.creation import create_federation, create_kit
from facekeep_server.federation.files import replace_file
from facekeep_server.federation.fleet import admit
from facekeep_server.federation.processes import Processes, free_port, is_listening
from facekeep_server.federation.state import ENVIRONMENT, Settings
from facekeep_server.federation.superlink import register_node, superlink_launch

_START_SECONDS: Final = 90
# All of it shares the cores of one machine: a runtime that takes them all for itself only slows the others down.
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class LoopbackDevice:
    """One device of the loopback fleet.

    Attributes:
        name: of its kit.
        home: of the device.
        key_file: that guards its key.
        port: of its SuperNode's own interface.
    """

    name: str
    home: Path
    key_file: Path
    port: int


class LoopbackFleet:
    """Makes and runs the processes; `processes` ends them.

    Args:
        folder: for everything.
        processes: what starts and ends them.
        devices: how many.
        minimum_cohort: of the policy.
        epsilon: of the policy.
        packs: directory of model packs for every device, or None.
        superlink: HOST:PORT of a reverse proxy in front of the SuperLink, or None for none.
    """

    def __init__(
        self,
        folder: Path,
        processes: Processes,
        devices: int,
        *,
        minimum_cohort: int = 3,
        epsilon: float = 8.0,
        packs: Path | None = None,
        superlink: str | None = None,
    ) -> None:
        self.folder, self.processes, self._packs = folder, processes, packs
        address = f"127.0.0.1:{free_port()}"
        settings = Settings("demo.facekeep.example", superlink or address, address, f"http://127.0.0.1:{free_port()}", 3, 2)
        now = SystemClock().now()
        self.state = create_federation(folder / "coordinator", settings, now, minimum_cohort=minimum_cohort, epsilon=epsilon)
        self.app = write_signed_app(self.state, now)
        self.devices: list[LoopbackDevice] = []
        for number in range(1, devices + 1):
            name = f"device-{number}"
            port = free_port()
            create_kit(self.state, name, port=port)
            self.devices.append(LoopbackDevice(name, folder / name / "home", folder / name / "device.key", port))

    def command(self, device: LoopbackDevice, *arguments: str, seconds: float = 300) -> dict[str, Any]:
        """Run `facekeep` for a device; return what it prints as JSON.

        Raises:
            ServerError: "server.unavailable" with the code that the command gave.
        """
        device.home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        whole = [program("facekeep"), *self._options(device), *arguments, "--json"]
        done = subprocess.run(  # noqa: S603 - our own program, no shell
            whole,
            env=os.environ | _ONE_THREAD,
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        try:
            answer = dict(json.loads(done.stdout))
        except ValueError:
            answer = {"error": {"code": done.stderr[-500:]}}
        if done.returncode:
            raise ServerError("server.unavailable", f"`facekeep {' '.join(arguments[:2])}` on {device.name}: {answer.get('error')}")
        return answer

    def make_device(self, device: LoopbackDevice) -> None:
        """Make the device; it takes part in nothing yet."""
        self.command(device, "init")

    def join(self, devices: Sequence[LoopbackDevice] | None = None) -> None:
        """Let devices join under the policy, and put them on the roster."""
        introductions = []
        for device in self.devices if devices is None else devices:
            policy = str(self.state.kit_folder(device.name) / "policy.toml")
            introductions.append(self.command(device, "federate", "join", policy)["introduction"].encode())
        admit(self.state, introductions)

    def start_coordinator(self) -> None:
        """Start hub and SuperLink; return when both listen."""
        if not self.processes.is_running("hub"):
            environment = {ENVIRONMENT: str(self.state.root)}
            self.processes.start("hub", Launch((program("facekeep-server"), "hub"), environment))
        self.processes.start("superlink", superlink_launch(self.state), _ONE_THREAD)
        hub, control = self.state.settings.hub.removeprefix("http://"), self.state.settings.control
        self.processes.wait_until(lambda: is_listening(hub) and is_listening(control), _START_SECONDS, "hub and SuperLink")

    def register(self) -> None:
        """Tell the SuperLink of every device's node."""
        for device in self.devices:
            register_node(self.state, self.state.kit_folder(device.name) / "node.key.pub")

    def start_node(self, device: LoopbackDevice) -> None:
        """Start a device's SuperNode; it connects in its own time."""
        arguments = (program("facekeep"), *self._options(device), "federate", "node", str(self.state.kit_folder(device.name)))
        self.processes.start(device.name, Launch(arguments, _ONE_THREAD))

    def set_patience(self, **seconds: float) -> None:
        """Write `patience.toml`."""
        text = "".join(f"{name} = {value}\n" for name, value in seconds.items())
        replace_file(self.state.root / "patience.toml", text.encode())

    def _options(self, device: LoopbackDevice) -> list[str]:
        options = ["--home", str(device.home), "--key-file", str(device.key_file)]
        return options + (["--packs", str(self._packs)] if self._packs is not None else [])
