"""A process of its own that adopts releases one after the other, for the tests that kill it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from facekeep import Device, KeyFile, PackStore, Settings
from facekeep.clock import ManualClock
from tests.flows.release_setting import DETECTOR, EMBEDDER

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def open_device(home: Path, packs: Path) -> Device:
    return Device.open(
        home,
        key=KeyFile(home.parent / "key"),
        detector=DETECTOR,
        embedder=EMBEDDER,
        packs=PackStore(packs),
        clock=ManualClock(START),
        settings=Settings(target_fpir=0.05),
    )


def main(home: Path, packs: Path, *bundles: Path) -> None:
    """Adopt every bundle that is still to be adopted; acknowledge each when it has returned."""
    with open_device(home, packs) as device:
        print("ready", flush=True)
        for bundle in bundles[device.federation.status().release :]:
            receipt = device.federation.adopt(bundle.read_bytes())
            print("adopted", receipt.version, receipt.migrated, flush=True)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
