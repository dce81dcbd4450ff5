"""A thousand virtual devices under Flower's simulation engine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

DEVICES, LENGTH = 1_000, 50_000


def simulation(shared: Path) -> None:
    """One round of 1,000 devices at 50,000 parameters, as `facekeep-server federate simulate` runs it."""
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(sys.executable).with_name("facekeep-server"))
        options = ["federate", "simulate", f"{folder}/state", "--devices", str(DEVICES), "--length", str(LENGTH), "--json"]
        done = subprocess.run([program, *options], stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.strip().splitlines()[-1])
    (report,) = found["rounds"]
    print(f"{DEVICES} devices, {LENGTH} numbers: {found['seconds']:.0f} s in all, {report['survivors']} in the sum")
    for step in report["steps"]:
        per = (step["sent"] + step["received"]) / DEVICES
        print(f"  {step['step']:8} {step['seconds']:7.1f} s  {per / 1000:8.1f} kB a device")
