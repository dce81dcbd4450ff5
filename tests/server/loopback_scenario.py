"""A real SuperLink and real SuperNodes on loopback, and what goes wrong with processes. Run by test_federation_processes.py.

    python -m tests.server.loopback_scenario FOLDER [PHASE ...]

Prints one line of JSON at the end: what each phase found. Devices are virtual (`facekeep.flower.virtual`): what is tested is
Flower, the signed app and the coordinator, all of it real processes with TLS, node authentication and trusted entities.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.cli.build import build_fab_from_files

from facekeep.clock import SystemClock
from facekeep.flower.node import Launch, supernode_launch
from facekeep.flower.virtual import ENVIRONMENT, STATE_ENVIRONMENT, virtual_contribution, virtual_keys
from facekeep.protocol import Kind, Level, Roster
from facekeep.randomness import SystemRandomness
from facekeep_server.federation.creation import APP, AUTHORITY, key_name
from facekeep_server.federation.files import read_file, replace_file
from facekeep_server.federation.keys import load_signing_key
from facekeep_server.federation.loopback import LoopbackDevice, LoopbackFleet
from facekeep_server.federation.planning import Request, plan_next
from facekeep_server.federation.processes import Processes, free_port, is_listening
from facekeep_server.federation.rounds import RoundDirectory, open_rounds
from facekeep_server.federation.running import follow_run, run_until_over
from facekeep_server.federation.superlink import control_launch, list_runs, start_run
from facekeep_server.hub.bundle import APP_VERSION, PACKAGE, sign_app

DEVICES = 4
LENGTH = 2_000
CLIENT = b"""from facekeep.flower.answering import make_answering_app
from facekeep.flower.virtual import open_virtual

app = make_answering_app(open_virtual)
"""


class Scenario(LoopbackFleet):
    """A loopback fleet of virtual devices."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.proxy = f"127.0.0.1:{free_port()}" if shutil.which("nginx") else None
        super().__init__(folder, processes, DEVICES, epsilon=1e30, superlink=self.proxy)
        self.files = self._app_files()
        # As a vault does, it outlives the run and the SuperNode.
        self.states = folder / "states"
        self.states.mkdir()
        fab, _ = build_fab_from_files(self.files)
        self.app = sign_app(fab, load_signing_key(self.state.key_path(APP)), SystemClock().now())
        replace_file(self.state.root / "app" / "app.fab", self.app.fab)
        replace_file(self.state.root / "app" / "app.json", self.app.to_bytes())
        roster = Roster(self.state.settings.name, [virtual_keys(number).entry for number in range(DEVICES)])
        note = roster.head.sign(key_name(self.state.settings, AUTHORITY), load_signing_key(self.state.key_path(AUTHORITY)))
        target = self.state.folder("roster")
        replace_file(target / "roster", roster.to_bytes())
        replace_file(target / "head", note.encode())
        self.set_patience(step_seconds=120, meeting_seconds=90, resend_seconds=45, poll_seconds=0.5)

    def _app_files(self) -> dict[str, Any]:
        from importlib import resources

        template = resources.files("facekeep_server.hub") / "app"
        return {
            "pyproject.toml": (template / "pyproject.toml.txt").read_bytes().replace(b"VERSION", APP_VERSION.encode()),
            "LICENSE": (template / "LICENSE").read_bytes(),
            f"{PACKAGE}/__init__.py": b"",
            f"{PACKAGE}/client.py": CLIENT,
            f"{PACKAGE}/server.py": (template / "server.py.txt").read_bytes(),
        }

    def start_node(self, device: LoopbackDevice) -> None:
        launch = supernode_launch(self.state.kit_folder(device.name), device.home)
        number = self.devices.index(device)
        arguments = (*launch.arguments, "--node-config", f"partition-id={number}")
        policy = str(self.state.root / "device" / "policy.toml")
        self.processes.start(
            device.name,
            Launch(
                arguments, {**launch.environment, ENVIRONMENT: policy, STATE_ENVIRONMENT: str(self.states), "OMP_NUM_THREADS": "1"}
            ),
        )

    def start_proxy(self) -> None:
        """nginx with the configuration that `federate init` writes."""
        if self.proxy is None:
            return
        folder = self.folder / "nginx"
        folder.mkdir()
        places = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        included = self.state.root / "services" / "nginx.conf"
        head = f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}"
        whole = f"{head} http {{ access_log off; {places} include {included}; }}"
        (folder / "nginx.conf").write_text(whole)
        self.processes.start("nginx", Launch((shutil.which("nginx") or "", "-c", str(folder / "nginx.conf"), "-e", "stderr"), {}))
        self.processes.wait_until(lambda: is_listening(self.proxy or ""), 20, "nginx")

    def plan(self) -> RoundDirectory:
        request = Request(
            kind=Kind.TRAINING, level=Level.HEAD, length=LENGTH, base="00" * 32, clip=1.0, cohort=DEVICES, noise_multiplier=1e-6
        )
        _, directory = plan_next(self.state, request, SystemClock().now(), SystemRandomness())
        return directory

    def wait(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds} s for {what}")
            time.sleep(0.1)

    def has_begun(self, directory: RoundDirectory, step: str) -> bool:
        from facekeep_server.federation.creation import load_policy
        from facekeep_server.rounds import restore_round

        path = directory.path / "checkpoint"
        if not path.is_file():
            return False
        roster = Roster.parse(read_file(directory.path / "roster"))
        return restore_round(read_file(path), roster, load_policy(self.state).planner_keys).phase == step


def outcome(directory: RoundDirectory) -> dict[str, Any]:
    """The report, and how far its mean is from the mean of the devices that are in it, if those were all or all but one."""
    report = directory.report()
    found = {name: report[name] for name in ("aborted", "survivors", "refusals")}
    found["seconds"] = round(sum(step["seconds"] for step in directory.steps()), 1)
    if report["aborted"] is None:
        plan = directory.plan()
        clip = min(1.0, plan.update_clip)
        vectors = np.array([virtual_contribution(number, plan).vector.astype(float) * clip for number in range(DEVICES)])
        there = range(DEVICES)
        subsets = [list(there)] if report["survivors"] == DEVICES else [[n for n in there if n != lost] for lost in there]
        found["error"] = float(min(np.abs(directory.update() - vectors[subset].mean(axis=0)).max() for subset in subsets))
    return found


def unsigned(fleet: Scenario) -> dict[str, Any]:
    """The very same app, handed to the SuperLink without its signature."""
    directory = fleet.plan()
    folder = fleet.folder / "unsigned-app"
    for name, content in fleet.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    fleet.set_patience(step_seconds=30, meeting_seconds=20, resend_seconds=20, poll_seconds=0.5)
    launch = control_launch(fleet.state, "run", str(folder), "facekeep", "--format", "json")
    done = subprocess.run(launch.arguments, env=launch.over(os.environ), capture_output=True, text=True, timeout=60, check=True)
    run = int(json.loads(done.stdout[done.stdout.index("{") :])["run-id"])
    status = follow_run(fleet.state, run, show=None)
    fleet.set_patience(step_seconds=120, meeting_seconds=90, resend_seconds=45, poll_seconds=0.5)
    refused = sum("could not be verified" in fleet.processes.log_text(device.name) for device in fleet.devices)
    return outcome(directory) | {"status": status, "nodes that refused": refused}


def signed(fleet: Scenario) -> dict[str, Any]:
    """A round from beginning to end."""
    directory = fleet.plan()
    began = time.monotonic()
    status = follow_run(fleet.state, start_run(fleet.state, APP_VERSION), show=None)
    return outcome(directory) | {"status": status, "whole seconds": round(time.monotonic() - began, 1)}


def server_app_killed(fleet: Scenario) -> dict[str, Any]:
    """The ServerApp's process killed in the middle of a step; a new run takes the round up."""
    directory = fleet.plan()
    run = start_run(fleet.state, APP_VERSION)
    fleet.wait(lambda: fleet.has_begun(directory, "train"), 150, "the step train")
    killed = kill_server_apps(fleet)
    fleet.wait(lambda: list_runs(fleet.state).get(run, "").startswith("finished"), 120, "Flower to notice")
    still_open = open_rounds(fleet.state) != []
    status = follow_run(fleet.state, start_run(fleet.state, APP_VERSION), show=None)
    return outcome(directory) | {"status": status, "killed": killed, "was open": still_open}


def node_killed(fleet: Scenario) -> dict[str, Any]:
    """A SuperNode killed while its device trains: its state is gone with it, the others finish; it comes back for the next
    round."""
    directory = fleet.plan()
    run = start_run(fleet.state, APP_VERSION)
    fleet.wait(lambda: fleet.has_begun(directory, "train"), 150, "the step train")
    fleet.processes.kill(fleet.devices[0].name)
    status = follow_run(fleet.state, run, show=None)
    # Not before Flower noticed that it was gone: the supervisor of a device waits as long.
    time.sleep(60)
    fleet.start_node(fleet.devices[0])
    again = signed(fleet)
    return outcome(directory) | {"status": status, "next": again}


def superlink_killed(fleet: Scenario) -> dict[str, Any]:
    """The SuperLink killed in the middle of a round and started again on its database: the nodes come back, the round goes on,
    in as many runs as it takes: the ServerApp of the first may live on for a while and hold the state."""
    directory = fleet.plan()
    start_run(fleet.state, APP_VERSION)
    fleet.wait(lambda: fleet.has_begun(directory, "train"), 150, "the step train")
    fleet.processes.kill("superlink")
    time.sleep(3)
    fleet.start_coordinator()
    ended = run_until_over(fleet.state, APP_VERSION, show=None)
    return outcome(directory) | {"status": ended.outcome}


def proxy(fleet: Scenario) -> dict[str, Any]:
    """What a stranger reaches through the reverse proxy, and on the SuperLink itself: status and body of each answer."""
    if fleet.proxy is None:
        return {}
    context = ssl.create_default_context(cafile=str(fleet.state.certificate_authority))
    found = {}
    for path in ("/v1/control/list-runs", "/docs", "/openapi.json", "/v1/runtime/get-nodes", "/v1/fleet/nothing"):
        for where, address in (("proxy", fleet.proxy), ("superlink", fleet.state.settings.control)):
            host, _, port = address.rpartition(":")
            connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=10)
            connection.request("GET", path)
            answer = connection.getresponse()
            found[f"{where} {path}"] = [answer.status, answer.read(200).decode(errors="replace")]
            connection.close()
    return found


def kill_server_apps(fleet: Scenario) -> int:
    """SIGKILL every process that runs a ServerApp of this scenario's SuperLink; return how many."""
    address, count = fleet.state.settings.control, 0
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word.endswith(b"flwr-serverapp") for word in words) and address.encode() in b" ".join(words):
                os.kill(int(path.name), signal.SIGKILL)
                count += 1
    return count


PHASES: dict[str, Callable[[Scenario], dict[str, Any]]] = {
    "unsigned": unsigned,
    "signed": signed,
    "server_app_killed": server_app_killed,
    "node_killed": node_killed,
    "superlink_killed": superlink_killed,
}


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(PHASES)
    found: dict[str, Any] = {}
    with Processes(folder / "logs") as processes:
        fleet = Scenario(folder, processes)
        fleet.start_coordinator()
        fleet.start_proxy()
        found["proxy"] = proxy(fleet)
        fleet.register()
        for device in fleet.devices:
            fleet.start_node(device)
        for name in names:
            found[name] = PHASES[name](fleet)
            print(name, found[name], file=sys.stderr, flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
