"""What the benches share: a device on real packs, and timing that a noisy machine disturbs least."""

from __future__ import annotations

import atexit
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facekeep import Device, KeyFile, Notice, PackStore, Purpose, Settings

DETECTOR = "yunet-s/onnx-dynamic"
EMBEDDER = "reid-retail-0095/onnx-fp32"
WEIGHTS = ("detectors/yunet_s_dynamic.onnx", "embedders/face_reid_retail_0095.onnx")
NOTICE = Notice("Benchmark: your face is compared with your own template on this machine.")
ALL = {Purpose.ENROLMENT, Purpose.VERIFICATION, Purpose.IDENTIFICATION}


def import_packs(shared: Path, home: Path, weights: Sequence[str] = WEIGHTS) -> PackStore:
    store = PackStore(home / "packs")
    for name in weights:
        store.import_file(shared / "models" / name)
    return store


@contextmanager
def real_device(shared: Path, settings: Settings | None = None) -> Iterator[Device]:
    """A device in a throw-away home, with YuNet-s and reid-retail-0095 fp32."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        store = import_packs(shared, Path(folder))
        with Device.open(
            home, key=KeyFile(Path(folder) / "device.key"), detector=DETECTOR, embedder=EMBEDDER, packs=store, settings=settings
        ) as device:
            yield device


def single_face_frame(shared: Path, width: int = 640, height: int = 480) -> NDArray[np.uint8]:
    """A real photograph of one person on a camera-sized canvas."""
    with Image.open(shared / "data/photos/compreface_002_A.jpg") as picture:
        picture = picture.convert("RGB")
        picture.thumbnail((width, height))
        canvas = Image.new("RGB", (width, height), (96, 96, 96))
        canvas.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
        return np.array(canvas)


def interleaved(rounds: int, *runs: Callable[[], object]) -> list[float]:
    """Median seconds of each run, taken in turns so that a busy moment hits all of them alike."""
    times: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    for _ in range(rounds):
        for run, found in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def report(name: str, value: str, target: str = "") -> None:
    print(f"{name:<66} {value:>16}   {target}", flush=True)


def temporary_folder() -> Path:
    """A folder that goes when the process does."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Path(folder.name)
