"""From the names of model packs to models that run: which packs, which build, loaded and wired to the stages.

A build is chosen once, by measurement, and then kept by the device: templates of another build belong to another contract.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Generic, Literal, Self, TypeVar, cast

import numpy as np

from facekeep.biometric import Frame, OperatingPoint
from facekeep.canonical import parse_canonical, to_canonical
from facekeep.contract import ModelIdentity, contract_id
from facekeep.detection import open_detector
from facekeep.embedding import CosineEmbedder
from facekeep.errors import ModelError, VaultError
from facekeep.packs import Build, LoadPolicy, Manifest, PackStore, choose_build, fix_command, split_name
from facekeep.pad import CombinedPADetector, MiniFASDetector
from facekeep.ports import Detector, Embedder, PADetector
from facekeep.runtime import open_session

# Best first. Stand-ins for simulation are never on these lists: nobody gets them without naming them.
PREFERRED_DETECTORS: Final = ("yunet-s", "yunet-n")
PREFERRED_EMBEDDERS: Final = ("reid-retail-0095", "mobilefacenet-foamliu", "sface")
_MEASURED_RUNS = 5
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which packs a device uses, each as "pack" or "pack/build". Kept in the vault once it is complete.

    Attributes:
        detector: detection pack, or None for the best installed.
        embedder: embedding pack, or None for the best installed.
        pads: packs for presentation attack detection, all of which have to agree.
    """

    detector: str | None
    embedder: str | None
    pads: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """Return canonical JSON."""
        return to_canonical({"v": 1, "detector": self.detector, "embedder": self.embedder, "pads": list(self.pads)})

    @classmethod
    def parse(cls, data: bytes) -> ModelChoice:
        """Return the choice that `to_bytes` wrote.

        Raises:
            VaultError: "vault.corrupt", or "vault.newer_version".
        """
        try:
            fields = parse_canonical(data)
            if fields["v"] != 1:
                raise VaultError("vault.newer_version", "The models of this vault were chosen by a newer Facekeep. Update.")
            return cls(fields["detector"], fields["embedder"], tuple(fields["pads"]))
        except (ValueError, KeyError, TypeError):
            raise VaultError("vault.corrupt", "The record of the models this vault uses is not readable.") from None


@dataclass(frozen=True, slots=True)
class LoadedModels:
    """Models that run.

    Attributes:
        detector: finds faces.
        embedder: turns admitted samples into vectors.
        pad: examines presentation attacks, or None.
        contract_id: the contract of every embedding they make.
        operating_points: thresholds measured for exactly this build of the embedder.
        choice: their names, builds included.
    """

    detector: Detector
    embedder: Embedder
    pad: PADetector | None
    contract_id: str
    operating_points: tuple[OperatingPoint, ...]
    choice: ModelChoice


def choose_models(store: PackStore, asked: ModelChoice, *, policy: LoadPolicy, threads: int = 1) -> ModelChoice:
    """Return `asked` with every gap filled: the best installed pack, and its fastest build on this machine.

    Raises:
        ModelError: "model.not_installed" with the commands that help; "model.not_permitted"; "model.wrong_task".
    """
    detector = asked.detector or _best_installed(store, PREFERRED_DETECTORS, policy, "detection")
    embedder = asked.embedder or _best_installed(store, PREFERRED_EMBEDDERS, policy, "embedding")
    return ModelChoice(
        _with_build(store, detector, "detection", policy, threads),
        _with_build(store, embedder, "embedding", policy, threads),
        tuple(_with_build(store, name, "pad", policy, threads) for name in asked.pads),
    )


def load_models(
    store: PackStore, choice: ModelChoice, *, policy: LoadPolicy, threads: int = 1, longest_side: int = 640
) -> LoadedModels:
    """Return the models of a complete choice.

    Raises:
        ModelError: "model.not_installed", "model.hash_mismatch", "model.not_permitted", "model.wrong_task",
            "model.runtime_missing", "model.invalid_model" and their kind.
    """
    if choice.detector is None or choice.embedder is None:
        raise ModelError("model.unknown_pack", "A detector and an embedder have to be named or chosen first.")
    found = _Loader(store, policy, threads, longest_side)
    # Side by side: a runtime sets a session up without holding the interpreter, and a cold device has a second core idle.
    with _Aside(found.detector, choice.detector) as aside:
        embedder, embedder_identity, points = found.embedder(choice.embedder)
    detector, detector_identity = aside.result()
    pads = tuple(found.pad(name) for name in choice.pads)
    pad = pads[0] if len(pads) == 1 else CombinedPADetector(pads) if pads else None
    return LoadedModels(detector, embedder, pad, contract_id(detector_identity, embedder_identity), points, choice)


class _Aside(Generic[_Result]):
    """One call in a thread of its own, for as long as a with block takes."""

    def __init__(self, call: Callable[[str], _Result], argument: str) -> None:
        self._found: list[_Result] = []
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(call, argument))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.join()

    def result(self) -> _Result:
        """Return what the call returned, or raise what it raised."""
        if self._failed:
            raise self._failed[0]
        return self._found[0]

    def _run(self, call: Callable[[str], _Result], argument: str) -> None:
        try:
            self._found.append(call(argument))
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._failed.append(error)


class _Loader:
    """Reads packs under one policy and opens them with the same settings."""

    def __init__(self, store: PackStore, policy: LoadPolicy, threads: int, longest_side: int) -> None:
        self._store, self._policy, self._threads, self._longest_side = store, policy, threads, longest_side

    def detector(self, name: str) -> tuple[Detector, ModelIdentity]:
        """Return the detector and what the contract hashes of it."""
        manifest, build = _find(self._store, name, "detection", self._policy)
        if not manifest.output.landmarks:
            raise ModelError(
                "model.wrong_task", f"{manifest.id} finds boxes without landmarks, so nothing can be aligned by it. Use yunet-s."
            )
        contract = build.input or manifest.input
        options = {name: str(value) for name, value in manifest.options}
        options.pop("confidence", None)
        detector = open_detector(
            manifest.family,
            open_session(build.runtime, self._store.read_files(manifest.id, build.id), threads=self._threads),
            contract,
            longest_side=self._longest_side,
            confidence=_number(manifest, "confidence") if "confidence" in dict(manifest.options) else None,
            options=options,
        )
        return detector, _identity(manifest, build)

    def embedder(self, name: str) -> tuple[Embedder, ModelIdentity, tuple[OperatingPoint, ...]]:
        """Return the embedder, what the contract hashes of it, and its operating points."""
        manifest, build = _find(self._store, name, "embedding", self._policy)
        if manifest.output.dimension is None:
            raise ModelError("model.invalid_manifest", f"{manifest.id} does not say how long its vectors are.")
        session = open_session(build.runtime, self._store.read_files(manifest.id, build.id), threads=self._threads)
        embedder = CosineEmbedder(session, build.input or manifest.input, manifest.output.dimension)
        return embedder, _identity(manifest, build), build.operating_points

    def pad(self, name: str) -> PADetector:
        """Return a detector of presentation attacks."""
        manifest, build = _find(self._store, name, "pad", self._policy)
        session = open_session(build.runtime, self._store.read_files(manifest.id, build.id), threads=self._threads)
        return MiniFASDetector(
            manifest.id,
            session,
            build.input or manifest.input,
            bona_fide_class=manifest.output.classes.index("bona_fide"),
            accept_at=_number(manifest, "accept_at"),
            reject_at=_number(manifest, "reject_at"),
            recipe=cast("Literal['minivision', 'celebaspoof']", dict(manifest.options).get("recipe", "minivision")),
        )


def _number(manifest: Manifest, option: str) -> float:
    value = dict(manifest.options).get(option)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(
            "model.invalid_manifest", f"The option {option} of {manifest.id} is a number; found {type(value).__name__}."
        )
    return float(value)


def _find(store: PackStore, name: str, task: str, policy: LoadPolicy) -> tuple[Manifest, Build]:
    pack_id, build_id = split_name(name)
    manifest = store.manifest(pack_id)
    if manifest.task != task:
        raise ModelError("model.wrong_task", f"{pack_id} is a pack for {manifest.task}; one for {task} is expected.")
    policy.require(manifest)
    if build_id is not None:
        return manifest, manifest.build(build_id)
    installed = store.installed(pack_id)
    if not installed:
        raise ModelError("model.not_installed", f"{pack_id} is not here. Run: {fix_command(manifest, manifest.builds[0])}")
    return manifest, installed[0]


def _identity(manifest: Manifest, build: Build) -> ModelIdentity:
    return ModelIdentity(
        manifest.id,
        build.id,
        manifest.family,
        {file.name: file.sha256 for file in build.files},
        build.input or manifest.input,
        tuple((name, str(value)) for name, value in manifest.options),
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


def _with_build(store: PackStore, name: str, task: str, policy: LoadPolicy, threads: int) -> str:
    manifest, build = _find(store, name, task, policy)
    if split_name(name)[1] is not None:
        return name
    installed = store.installed(manifest.id)
    if len(installed) > 1:
        build = choose_build(installed, lambda each: _seconds(store, manifest, each, task, policy, threads))
    return f"{manifest.id}/{build.id}"


def _seconds(store: PackStore, manifest: Manifest, build: Build, task: str, policy: LoadPolicy, threads: int) -> float:
    """Return the median seconds of one inference on a fixed grey frame with noise: content does not matter for time."""
    if task == "embedding" and not build.operating_points:
        # Faster is no use where no threshold was ever measured.
        return float("inf")
    loader, name = _Loader(store, policy, threads, 640), f"{manifest.id}/{build.id}"
    noise = np.random.default_rng(0).integers(96, 160, (480, 640, 3), dtype=np.uint8)
    frame = Frame(noise, datetime(2026, 1, 1, tzinfo=UTC))
    if task == "detection":
        detector = loader.detector(name)[0]
        return _median_seconds(lambda: detector.detect(frame))
    if task == "embedding":
        embedder, crop = loader.embedder(name)[0], noise[:112, :112]
        return _median_seconds(lambda: embedder.embed(crop))
    return 0.0


def _median_seconds(run: Callable[[], object]) -> float:
    run()  # the first run sets the runtime up
    times = []
    for _ in range(_MEASURED_RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]
