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

# Best first. Ours come last: they ship, so that a fresh device works, and whoever brings in a larger pack wants that one. Stand-ins
# for simulation are never on these lists: nobody gets them without naming them.
PREFERRED_DETECTORS: Final = ("yunet-s", "yunet-n", "facekeep-detector")
PREFERRED_EMBEDDERS: Final = ("reid-retail-0095", "mobilefacenet-foamliu", "sface", "facekeep-embedder")
_MEASURED_RUNS: Final = 7
_COMPARED_AT: Final = 1e-3


def choose_models(store: PackStore, asked: ModelChoice, *, policy: LoadPolicy, inference: Inference | None = None) -> ModelChoice:
    """Return `asked` with every gap filled: the best installed pack, and its fastest build on this machine.

    Raises:
        ModelError: "model.not_installed" with the commands that help; "model.not_permitted"; "model.wrong_task".
    """
    detector = asked.detector or _best_installed(store, PREFERRED_DETECTORS, policy, "detection")
    embedder = asked.embedder or _best_installed(store, PREFERRED_EMBEDDERS, policy, "embedding")
    loader = Loader(store, policy, inference or Inference())
    _require_one_world(store, [detector, embedder, *asked.pads])
    return ModelChoice(
        _with_build(loader, detector, "detection"),
        _with_build(loader, embedder, "embedding"),
        tuple(_with_build(loader, name, "pad") for name in asked.pads),
    )


def _require_one_world(store: PackStore, names: Sequence[str]) -> None:
    stand_ins = [name for name in names if "simulation" in store.manifest(split_name(name)[0]).permitted_uses]
    if stand_ins and len(stand_ins) < len(names):
        raise ModelError(
            "model.wrong_task",
            f"{stand_ins[0]} knows drawn figures only and cannot be combined with packs for real faces. "
            "Use drawn packs alone, or not at all.",
        )


def _best_installed(store: PackStore, preferred: Sequence[str], policy: LoadPolicy, task: str) -> str:
    refusals: list[ModelError] = []
    for pack_id in preferred:
        if not store.has_installed(pack_id):
            continue
        try:
            policy.require(store.manifest(pack_id))
        except ModelError as refusal:
            refusals.append(refusal)
            continue
        return pack_id
    commands = " or ".join(f"`facekeep models pull {pack_id}`" for pack_id in preferred if _is_obtainable(store, pack_id, policy))
    if refusals:
        help_ = f"Run {commands}." if commands else f"No pack for {task} that is known here is permitted: bring in one of your own."
        raise ModelError(refusals[0].code, f"{refusals[0].args[0]} {help_}")
    run = f"Run {commands}, or bring" if commands else "Bring"
    raise ModelError("model.not_installed", f"No pack for {task} is installed. {run} a file in with `facekeep models import FILE`.")


def _is_obtainable(store: PackStore, pack_id: str, policy: LoadPolicy) -> bool:
    """Whether a pack can be pulled and the policy would then let it be loaded."""
    try:
        manifest = store.manifest(pack_id)
        policy.require(manifest)
    except ModelError:
        return False
    return any(build.can_be_pulled for build in manifest.builds)


def _with_build(loader: Loader, name: str, task: str) -> str:
    manifest, build = loader.find(name, task)
    if split_name(name)[1] is not None:
        return name
    candidates = _as_accurate(loader.store.installed(manifest.id))
    if len(candidates) > 1:
        build = choose_build(candidates, lambda each: _seconds(loader, manifest, each))
    elif candidates:
        build = candidates[0]
    return f"{manifest.id}/{build.id}"


def _as_accurate(builds: Sequence[Build]) -> Sequence[Build]:
    """Return the builds that are not measurably worse than the best of them at `_COMPARED_AT`, or all where none was measured.

    Speed must not cost recognitions that nobody decided to give up: the int8 file of one embedder misses two and a half times
    as many mated comparisons as its fp32 file. Whoever wants it names it.
    """
    points = {build.id: point for build in builds for point in build.operating_points if point.fmr == _COMPARED_AT}
    if not points:
        return builds
    limit = min(points.values(), key=lambda point: point.fnmr).fnmr_interval[1]
    return [build for build in builds if build.id in points and points[build.id].fnmr <= limit]


def _seconds(loader: Loader, manifest: Manifest, build: Build) -> float:
    """Return the least seconds of several inferences on a fixed grey frame with noise: content does not matter for time."""
    name = f"{manifest.id}/{build.id}"
    noise = np.random.default_rng(0).integers(96, 160, (480, 640, 3), dtype=np.uint8)
    frame = Frame(noise, datetime(2026, 1, 1, tzinfo=UTC))
    if manifest.task == "detection":
        detector = loader.detector(name)[0]
        return _least_seconds(lambda: detector.detect(frame))
    if manifest.task == "embedding":
        embedder, crop = loader.embedder(manifest, build), noise[:112, :112]
        return _least_seconds(lambda: embedder.embed(crop))
    pad, face = loader.pad(name), Detection((220.0, 140.0, 200.0, 200.0), None, 1.0)
    return _least_seconds(lambda: pad.examine(frame, face))


def _least_seconds(run: Callable[[], object]) -> float:
    run()  # the first run sets the runtime up
    times = []
    for _ in range(_MEASURED_RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
