"""Starting Flower's SuperLink as this package wants it, and asking its Control interface. Starts nothing by itself.

The SuperLink serves Control, Fleet and Runtime on one port, and its Control interface asks nobody who he is: it is bound to this
machine's loopback, and only `/v1/fleet/*` goes through the reverse proxy.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from facekeep.flower.node import QUIET, Launch, program
from facekeep_server.errors import ServerError
from facekeep_server.federation.files import replace_file
from facekeep_server.federation.state import ENVIRONMENT, FederationState
from facekeep_server.hub.bundle import APP_ID

CONNECTION: Final = "facekeep"
_CONTROL_SECONDS: Final = 60


def superlink_launch(state: FederationState) -> Launch:
    """Return how the SuperLink is started."""
    folder, tls = state.folder("superlink"), state.root / "tls"
    host, _, port = state.settings.control.rpartition(":")
    arguments = (
        program("flower-superlink"),
        *("--host", host, "--port", port),
        *("--ssl-ca-certfile", str(tls / "ca.pem")),
        *("--ssl-certfile", str(tls / "superlink.pem")),
        *("--ssl-keyfile", str(tls / "superlink.key")),
        "--enable-supernode-auth",
        *("--database", str(folder / "state.db")),
        # Without it every run asks the package index, and what it installs shadows what was reviewed.
        "--disable-runtime-dependency-installation",
    )
    return Launch(arguments, _environment(state))


def control_launch(state: FederationState, *arguments: str) -> Launch:
    """Return how Flower's own command line is started against this SuperLink."""
    home = state.folder("superlink/home")
    connection = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\naddress = "{state.settings.control}"\n'
        f"root-certificates = {json.dumps(str(state.certificate_authority))}\n"
    )
    replace_file(home / "config.toml", connection.encode())
    return Launch((program("flwr"), *arguments), _environment(state))


def register_node(state: FederationState, public_key: Path) -> int:
    """Tell the SuperLink of a device's node key; return the number Flower gives the node.

    Raises:
        ServerError: "server.unavailable" if the SuperLink does not answer or refuses, as it does for a key it knows.
    """
    answer = _control(state, "supernode", "register", str(public_key), CONNECTION, "--format", "json")
    return int(answer["node-id"])


def start_run(state: FederationState, version: str) -> int:
    """Start a run of the signed app; return Flower's number of it.

    Raises:
        ServerError: "server.unavailable".
    """
    # With its version: without one a SuperLink goes on using the first bundle it ever fetched.
    answer = _control(state, "run", f"{APP_ID}=={version}", CONNECTION, "--format", "json")
    return int(answer["run-id"])


def list_runs(state: FederationState) -> dict[int, str]:
    """Return the status of every run that Flower knows.

    Raises:
        ServerError: "server.unavailable".
    """
    answer = _control(state, "ls", CONNECTION, "--format", "json")
    return {int(run["run-id"]): str(run["status"]) for run in answer.get("runs", [])}


def _control(state: FederationState, *arguments: str) -> dict[str, Any]:
    launch = control_launch(state, *arguments)
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter's program, no shell
            launch.arguments,
            env=launch.over(os.environ),
            capture_output=True,
            text=True,
            timeout=_CONTROL_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        answer = json.loads(done.stdout[done.stdout.index("{") :])
        if not answer.get("success"):
            raise ValueError
    except (subprocess.TimeoutExpired, OSError, ValueError):
        raise ServerError("server.unavailable", f"The SuperLink did not do `flwr {arguments[0]}`. Is it running?") from None
    return dict(answer)


def _environment(state: FederationState) -> dict[str, str]:
    return {
        **QUIET,
        "FLWR_HOME": str(state.folder("superlink/home")),
        "FLWR_SUPERGRID_API_URL": f"{state.settings.hub}/v1",
        # Read by the ServerApp: which federation it drives is this machine's word, not the run's.
        ENVIRONMENT: str(state.root),
    }
