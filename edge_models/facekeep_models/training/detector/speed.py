"""How much faster than its teacher, in turns and on one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import numpy as np

from facekeep.biometric import Frame
from facekeep.ports import Detector
from facekeep.runtime import open_session
from facekeep_models.people import draw_person, synthetic_person

# (height, width) of what each is given: 320x240 is padded to the stride.
OURS_PX: Final = (256, 320)
THEIRS_PX: Final = (320, 320)
_ROUNDS: Final = 200


def speed_ratio(ours: bytes, theirs: Mapping[str, bytes], *, rounds: int = _ROUNDS) -> dict[str, str | float]:
    """Return median milliseconds of one run of each model alone, and how many of ours fit in one of theirs.

    Args:
        ours: ONNX file, run on a frame of 320x240 padded to 320x256.
        theirs: files of YuNet-s, run on 320x320.
        rounds: runs of each, taken in turns so that a busy moment hits both alike.
    """
    runs = [_run({"model.onnx": ours}, OURS_PX), _run(theirs, THEIRS_PX)]
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for run, found in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
    medians = [statistics.median(found) * 1000 for found in times]
    return {
        "320x240, ours, ms": round(medians[0], 3),
        "320x320, YuNet-s, ms": round(medians[1], 3),
        "times as fast": round(medians[1] / medians[0], 2),
    }


def frame_ratio(detectors: Mapping[str, Detector], *, rounds: int = _ROUNDS) -> dict[str, str | float]:
    """Return median milliseconds of a whole `detect`, decoder and all, on a frame of 320x240 with one drawn person.

    Args:
        detectors: by name, in turns.
        rounds: runs of each.
    """
    drawn = draw_person(synthetic_person(0), 0, side_px=240)
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[:, 40:280] = drawn.pixels
    frame = Frame(pixels, datetime(2026, 1, 1, tzinfo=UTC))
    times: dict[str, list[float]] = {name: [] for name in detectors}
    for _ in range(rounds):
        for name, detector in detectors.items():
            start = time.perf_counter()
            detector.detect(frame)
            times[name].append(time.perf_counter() - start)
    return {f"frame with one face, {name}, ms": round(statistics.median(each) * 1000, 3) for name, each in times.items()}


def _run(files: Mapping[str, bytes], size: tuple[int, int]) -> Callable[[], object]:
    session = open_session("onnx", files, threads=1)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 3, *size)).astype(np.float32)
    name = next(iter(session.inputs))

    def run() -> object:
        return session.run({name: pixels})

    for _ in range(10):
        run()
    return run
