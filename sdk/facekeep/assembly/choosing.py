"""Which pack and which build: the best installed, and of its builds the fastest that was measured here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np

from facekeep.assembly.choice import ModelChoice
from facekeep.assembly.loading import Inference, Loader
from facekeep.biometric import Detection, Frame
from facekeep.errors import ModelError
from facekeep.packs import Build, LoadPolicy, Manifest, PackStore, choose_build, split_name

# Best first. Stand-ins for simulation are never on these lists: nobody gets them without naming them.
PREFERRED_DETECTORS: Final = ("yunet-s", "yunet-n")
PREFERRED_EMBEDDERS: Final = ("reid-retail-0095", "mobilefacenet-foamliu", "sface")
_MEASURED_RUNS: Final = 5


def choose_models(store: PackStore, asked: ModelChoice, *, policy: LoadPolicy, inference: Inference | None = None) -> ModelChoice:
    """Return `asked` with every gap filled: the best installed pack, and its fastest build on this machine.

    Raises:
        ModelError: "model.not_installed" with the commands that help; "model.not_permitted"; "model.wrong_task".
    """
    detector = asked.detector or _best_installed(store, PREFERRED_DETECTORS, policy, "detection")
    embedder = asked.embedder or _best_installed(store, PREFERRED_EMBEDDERS, policy, "embedding")
    loader = Loader(store, policy, inference or Inference())
    return ModelChoice(
        _with_build(loader, detector, "detection"),
        _with_build(loader, embedder, "embedding"),
        tuple(_with_build(loader, name, "pad") for name in asked.pads),
    )


def _best_installed(store: PackStore, preferred: Sequence[str], policy: LoadPolicy, task: str) -> str:
    refusals: list[ModelError] = []
    for pack_id in preferred:
        if not store.installed(pack_id):
            continue
        try:
            policy.require(store.manifest(pack_id))
        except ModelError as refusal:
            refusals.append(refusal)
            continue
        return pack_id
    if refusals:
        raise refusals[0]
    commands = " or ".join(f"`facekeep models pull {pack_id}`" for pack_id in preferred)
    raise ModelError(
        "model.not_installed",
        f"No pack for {task} is installed. Run {commands}, or bring a file in with `facekeep models import FILE`.",
    )


def _with_build(loader: Loader, name: str, task: str) -> str:
    manifest, build = loader.find(name, task)
    if split_name(name)[1] is not None:
        return name
    installed = loader.store.installed(manifest.id)
    if len(installed) > 1:
        build = choose_build(installed, lambda each: _seconds(loader, manifest, each))
    return f"{manifest.id}/{build.id}"


def _seconds(loader: Loader, manifest: Manifest, build: Build) -> float:
    """Return the median seconds of one inference on a fixed grey frame with noise: content does not matter for time."""
    if manifest.task == "embedding" and not build.operating_points:
        # Faster is no use where no threshold was ever measured.
        return float("inf")
    name = f"{manifest.id}/{build.id}"
    noise = np.random.default_rng(0).integers(96, 160, (480, 640, 3), dtype=np.uint8)
    frame = Frame(noise, datetime(2026, 1, 1, tzinfo=UTC))
    if manifest.task == "detection":
        detector = loader.detector(name)[0]
        return _median_seconds(lambda: detector.detect(frame))
    if manifest.task == "embedding":
        embedder, crop = loader.embedder(manifest, build), noise[:112, :112]
        return _median_seconds(lambda: embedder.embed(crop))
    pad, face = loader.pad(name), Detection((220.0, 140.0, 200.0, 200.0), None, 1.0)
    return _median_seconds(lambda: pad.examine(frame, face))


def _median_seconds(run: Callable[[], object]) -> float:
    run()  # the first run sets the runtime up
    times = []
    for _ in range(_MEASURED_RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]
