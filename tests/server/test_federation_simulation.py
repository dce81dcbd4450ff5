"""The same steps and the same driver under Flower's simulation engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_virtual_devices_complete_a_round_under_the_simulation_engine(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("facekeep-server"))
    options = ["federate", "simulate", str(tmp_path / "state"), "--devices", "12", "--length", "500", "--json"]
    environment = os.environ | {"FLWR_HOME": str(tmp_path / "flower"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([program, *options], env=environment, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    (report,) = found["rounds"]
    assert (report["aborted"], report["survivors"]) == (None, 12)
    assert [step["step"] for step in report["steps"]] == ["prepare", "train", "confirm", "unmask"]
