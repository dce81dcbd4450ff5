"""Rounds with a real SuperLink and real SuperNodes, in a network namespace where there is nothing but loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

ROOT = Path(__file__).parents[2]
# Started as root of a namespace of its own: whatever tries to reach the network fails at once.
ALONE = [
    "unshare",
    "--net",
    *([] if os.geteuid() == 0 else ["--map-root-user"]),
    "sh",
    "-c",
    'ip link set lo up && exec "$@"',
    "sh",
]


def why_not_alone() -> str | None:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "unshare and ip are not installed"
    done = subprocess.run([*ALONE, "true"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"no network namespace is permitted here: {done.stderr.strip()[:100]}"


def run_alone(folder: Path, *phases: str) -> dict[str, Any]:
    reason = why_not_alone()
    if reason:
        pytest.skip(reason)
    command = [*ALONE, sys.executable, "-m", "tests.server.loopback_scenario", str(folder), *phases]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
    logs = {path.name: path.read_text(errors="replace")[-1500:] for path in (folder / "logs").glob("*.log")}
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}\n{logs}"
    for name, text in logs.items():
        assert "Traceback" not in text, (name, text)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def require_right(found: dict[str, Any], survivors: int) -> None:
    assert found["aborted"] is None, found
    assert found["survivors"] == survivors, found
    assert found["error"] < 1e-4, found


def require_only_the_fleet_interface(answers: dict[str, tuple[int, str]]) -> None:
    """What is not the Fleet interface never reaches the SuperLink: nginx answers it with a page of its own. What is, does."""
    behind = "/v1/fleet/nothing"
    asked = {place.removeprefix("proxy ") for place in answers if place.startswith("proxy ")}
    assert behind in asked
    for path in asked - {behind}:
        status, body = answers[f"proxy {path}"]
        assert (status, "<center>nginx" in body) == (404, True), path
        assert answers[f"superlink {path}"][0] != 404, f"the SuperLink itself answers {path}: it is the proxy that keeps it away"
    assert answers[f"proxy {behind}"] == answers[f"superlink {behind}"], "the SuperLink's own answer"
    assert "nginx" not in answers[f"proxy {behind}"][1]


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_signed_apps_alone_run_and_what_is_killed_is_taken_up_where_it_was(tmp_path: Path) -> None:
    """One fleet for all of it: starting a SuperLink and four SuperNodes is most of the time of a phase."""
    found = run_alone(tmp_path, "unsigned", "server_app_killed", "superlink_killed", "node_killed")
    if found["proxy"]:
        require_only_the_fleet_interface(found["proxy"])
    assert found["unsigned"]["nodes that refused"] == 4
    assert found["unsigned"]["aborted"] == "federation.cohort_too_small"
    # Flower calls a run without a single valid reply completed; here it is a failure.
    assert found["unsigned"]["status"] == "finished:failed"
    assert found["server_app_killed"]["killed"] >= 1
    assert found["server_app_killed"]["was open"] is True
    for phase in ("server_app_killed", "superlink_killed"):
        require_right(found[phase], 4)
        assert found[phase]["status"] == "finished:completed"
    # A node that is killed costs its update, and is back for the next round.
    require_right(found["node_killed"], 3)
    require_right(found["node_killed"]["next"], 4)
    assert found["node_killed"]["next"]["status"] == "finished:completed"
