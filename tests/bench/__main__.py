"""`python -m tests.bench [NAME ...]`: the figures of docs/performance.md, as ratios against a baseline of the same run.

Needs ../shared (real weights, real pictures). Absolute times of a shared machine are noise; nothing here is asserted in tests.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # for the bare scripts that the benches start

from tests.bench import (
    accuracy,
    admission,
    audit,
    consent,
    federation,
    models,
    privacy,
    rounds,
    search,
    server,
    speed,
    startup,
    statistics,
    tamper,
    training,
    vault,
)

SHARED = Path(__file__).parents[2].parent / "shared"

BENCHES: dict[str, Callable[[Path], None]] = {
    "counts": accuracy.counts,
    "reference": accuracy.reference,
    "accuracy": accuracy.accuracy,
    "shipped": models.shipped,
    "quality": admission.quality,
    "pad": admission.pad,
    "overhead": speed.overhead,
    "stages": speed.stages,
    "growth": speed.growth,
    "import": startup.importing,
    "cold": startup.cold,
    "memory": startup.memory,
    "identify": search.identify,
    "gallery": vault.gallery,
    "writes": vault.writes,
    "consent": consent.consent,
    "audit": audit.audit,
    "tamper": tamper.tamper,
    "log": server.log,
    "faults": server.faults,
    "simulation": federation.simulation,
    "privacy": privacy.privacy,
    "rounds": rounds.rounds,
    "training": training.training,
    "statistics": statistics.statistics,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="which; all of them if left out")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with models/ and data/")
    arguments = parser.parse_args()
    if not (arguments.shared / "models").is_dir():
        sys.exit(f"{arguments.shared} has no models/: the figures are measured on real weights and pictures")
    for name in arguments.names or BENCHES:
        print(f"== {name}", flush=True)
        BENCHES[name](arguments.shared)


if __name__ == "__main__":
    main()
