"""A thousand virtual devices under Flower's simulation engine; and what the carrier and the conductor themselves cost."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
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


def carrier(shared: Path) -> None:
    """Rounds over the in-process Grid: everything but Flower's processes."""
    from tests.server.flower_fleet import FlowerFleet

    for size in (20, 200):
        with tempfile.TemporaryDirectory() as folder:
            fleet = FlowerFleet(Path(folder), size=size)
            began, rounds = time.perf_counter(), 3
            for number in range(1, rounds + 1):
                fleet.plan(number, length=1_000)
                (report,) = fleet.drive(fleet.grid())
                assert report.survivors == size
                fleet.clock.advance(timedelta(minutes=1))
            print(f"{size} light devices, 1,000 numbers: {(time.perf_counter() - began) / rounds:.2f} s a round")
