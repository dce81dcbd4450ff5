"""Packs read, sessions opened, stages wired."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

from facekeep.assembly.choice import ModelChoice
from facekeep.biometric import OperatingPoint
from facekeep.contract import ModelIdentity, contract_id
from facekeep.detection import open_detector
from facekeep.embedding import CosineEmbedder
from facekeep.errors import ModelError, ReleaseError
from facekeep.packs import Build, LoadPolicy, Manifest, PackStore, fix_command, split_name
from facekeep.pad import CombinedPADetector, MiniFASDetector
from facekeep.ports import Detector, Embedder, PADetector, Session
from facekeep.runtime import open_session

if TYPE_CHECKING:
    from facekeep.training.patching import PatchTable


@dataclass(frozen=True, slots=True)
class Inference:
    """How models run. None of it is part of the contract: the vectors stay comparable.

    Attributes:
        threads: threads inside one session.
        providers: execution providers of ONNX Runtime in order of preference; the other runtimes ignore them.
        longest_side: pixels to which the longest side of a frame is reduced for detection.
    """

    threads: int = 1
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    longest_side: int = 640


@dataclass(frozen=True, slots=True)
class ReleasedModel:
    """A model file that a release made, to run in the place of the one that shipped.

    Attributes:
        digest: of the release.
        content: the file.
        sha256: of the file.
        operating_points: measured with it.
    """

    digest: str
    content: bytes = field(repr=False)
    sha256: str
    operating_points: tuple[OperatingPoint, ...]


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
        feature_base: what everything in front of the embedder's last linear map is known by; the contract where nothing finer is.
        release: digest of the release in use, or "" for the model that shipped.
    """

    detector: Detector
    embedder: Embedder
    pad: PADetector | None
    contract_id: str
    operating_points: tuple[OperatingPoint, ...]
    choice: ModelChoice
    feature_base: str
    release: str = ""


def load_models(
    store: PackStore,
    choice: ModelChoice,
    *,
    policy: LoadPolicy,
    inference: Inference | None = None,
    released: ReleasedModel | None = None,
) -> LoadedModels:
    """Return the models of a complete choice.

    Args:
        store: where the packs lie.
        choice: which.
        policy: which are acceptable.
        inference: how they run.
        released: what runs in the place of the embedder's own file, if a release is in use.

    Raises:
        ModelError: "model.not_installed", "model.hash_mismatch", "model.not_permitted", "model.wrong_task",
            "model.runtime_missing", "model.invalid_model" and their kind.
    """
    if choice.detector is None or choice.embedder is None:
        raise ModelError("model.unknown_pack", "A detector and an embedder have to be named or chosen first.")
    found = Loader(store, policy, inference or Inference())
    manifest, build = found.find(choice.embedder, "embedding")
    files = store.read_files(manifest.id, build.id)
    trainable = find_trainable(files)
    identity, points = identity_of(manifest, build), build.operating_points
    if released is not None:
        if trainable is None:
            raise ReleaseError("release.wrong_model", f"{manifest.id}/{build.id} has no patch table, so no release was made of it.")
        files = files | {trainable[0]: released.content}
        identity, points = identity.made_of(released.sha256), released.operating_points
    embedder = found.embedder(manifest, build, files)
    detector, detector_identity = found.detector(choice.detector)
    pads = tuple(found.pad(name) for name in choice.pads)
    pad = pads[0] if len(pads) == 1 else CombinedPADetector(pads) if pads else None
    contract = base = contract_id(detector_identity, identity)
    if trainable is not None:
        front = front_hashes(files[trainable[0]], trainable[1])
        base = contract_id(detector_identity, identity.made_of(*front))
    release = released.digest if released else ""
    return LoadedModels(detector, embedder, pad, contract, points, choice, base, release)


class Loader:
    """Reads packs under one policy and opens them with the same settings."""

    def __init__(self, store: PackStore, policy: LoadPolicy, inference: Inference) -> None:
        self.store, self._policy, self._inference = store, policy, inference

    def detector(self, name: str) -> tuple[Detector, ModelIdentity]:
        """Return the detector and what the contract hashes of it."""
        manifest, build = self.find(name, "detection")
        if not manifest.output.landmarks:
            raise ModelError(
                "model.wrong_task", f"{manifest.id} finds boxes without landmarks, so nothing can be aligned by it. Use yunet-s."
            )
        contract = build.input or manifest.input
        options = {name: str(value) for name, value in manifest.options}
        options.pop("confidence", None)
        files = dict(self.store.read_files(manifest.id, build.id))
        stem = options.pop("landmark_model", None)
        refining = _take_out(files, stem) if stem else {}
        if stem and not refining:
            raise ModelError(
                "model.invalid_manifest", f"{manifest.id} names {stem} for its landmarks; no file of {build.id} is called so."
            )
        detector = open_detector(
            manifest.family,
            self._session(manifest, build, files),
            contract,
            longest_side=self._inference.longest_side,
            confidence=_number(manifest, "confidence") if "confidence" in dict(manifest.options) else None,
            options=options,
        )
        if refining:
            from facekeep.detection.refining import RefiningDetector

            detector = RefiningDetector(detector, self._session(manifest, build, refining))
        return detector, identity_of(manifest, build)

    def embedder(self, manifest: Manifest, build: Build, files: Mapping[str, bytes] | None = None) -> Embedder:
        """Return the embedder of a build that `find` gave, of these files if they are not those of the store."""
        if manifest.output.dimension is None:
            raise ModelError("model.invalid_manifest", f"{manifest.id} does not say how long its vectors are.")
        return CosineEmbedder(self._session(manifest, build, files), build.input or manifest.input, manifest.output.dimension)

    def pad(self, name: str) -> PADetector:
        """Return a detector of presentation attacks."""
        manifest, build = self.find(name, "pad")
        session = self._session(manifest, build)
        return MiniFASDetector(
            manifest.id,
            session,
            build.input or manifest.input,
            bona_fide_class=manifest.output.classes.index("bona_fide"),
            accept_at=_number(manifest, "accept_at"),
            reject_at=_number(manifest, "reject_at"),
            recipe=cast("Literal['minivision', 'celebaspoof']", dict(manifest.options).get("recipe", "minivision")),
        )

    def find(self, name: str, task: str) -> tuple[Manifest, Build]:
        """Return pack and build of a name, the first installed build where the name gives none; policy and task checked."""
        pack_id, build_id = split_name(name)
        manifest = self.store.manifest(pack_id)
        if manifest.task != task:
            raise ModelError("model.wrong_task", f"{pack_id} is a pack for {manifest.task}; one for {task} is expected.")
        self._policy.require(manifest)
        if build_id is not None:
            return manifest, manifest.build(build_id)
        installed = self.store.installed(pack_id)
        if not installed:
            raise ModelError("model.not_installed", f"{pack_id} is not here. Run: {fix_command(manifest, manifest.builds[0])}")
        return manifest, installed[0]

    def _session(self, manifest: Manifest, build: Build, files: Mapping[str, bytes] | None = None) -> Session:
        files = self.store.read_files(manifest.id, build.id) if files is None else files
        return open_session(build.runtime, files, threads=self._inference.threads, providers=self._inference.providers)


def _take_out(files: dict[str, bytes], stem: str) -> dict[str, bytes]:
    """Move the files of this name, whatever their suffix, out of those of a build."""
    return {name: files.pop(name) for name in tuple(files) if name.rpartition(".")[0] == stem}


def _number(manifest: Manifest, option: str) -> float:
    value = dict(manifest.options).get(option)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(
            "model.invalid_manifest", f"The option {option} of {manifest.id} is a number; found {type(value).__name__}."
        )
    return float(value)


def find_trainable(files: Mapping[str, bytes]) -> tuple[str, PatchTable] | None:
    """Return the name of the file of a build that has a patch table beside it, and the table; None where none has.

    Raises:
        ReleaseError: "release.malformed" for a table that is none.
    """
    if len(files) < 2:
        return None
    # Imported here: a device that only recognises starts without what trains.
    from facekeep.training.patching import PATCH_SUFFIX, parse_patch_table

    tables = [name for name in files if name.endswith(PATCH_SUFFIX)]
    if len(tables) != 1:
        return None
    stem = tables[0].removesuffix(PATCH_SUFFIX)
    names = [name for name in files if name != tables[0] and name.rpartition(".")[0] == stem]
    return (names[0], parse_patch_table(files[tables[0]])) if len(names) == 1 else None


def front_hashes(content: bytes, table: PatchTable) -> tuple[str, str]:
    """Return what a model file is known by, its last linear map left out: hash of what never changes, and of what releases change.

    Two releases that differ in the last map alone have the same: features of one are features of the other.
    """
    end = table.offset + table.item_bytes * table.parameters.tensors[-1].start
    return table.rest_sha256, hashlib.sha256(memoryview(content)[table.offset : end]).hexdigest()


def identity_of(manifest: Manifest, build: Build) -> ModelIdentity:
    """Return what the contract hashes of a build."""
    return ModelIdentity(
        manifest.id,
        build.id,
        manifest.family,
        {file.name: file.sha256 for file in build.files},
        build.input or manifest.input,
        tuple((name, str(value)) for name, value in manifest.options),
    )
