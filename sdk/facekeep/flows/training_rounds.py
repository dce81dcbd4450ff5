"""Rounds of training: this device's samples and templates in, an update out. The door between what stays and what is masked.

The training kit lies in the folder "training-kit" of the device's home; the policy states its hash, so that nobody but the operator
decides which graph runs here and against which anchors it trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric.arrays import wipe
from facekeep.consent import Purpose
from facekeep.errors import FederationError
from facekeep.flows.acquisition import feature_base_of
from facekeep.flows.context import FlowContext
from facekeep.flows.workshop import TrainableModel, require_workshop
from facekeep.keys.files import typed_os_errors
from facekeep.participation import Contribution
from facekeep.protocol import START_SETTING, FederationPolicy, Level, RoundPlan
from facekeep.training import (
    TrainingKit,
    TrainingSamples,
    TrainingSettings,
    parse_training_kit,
    parse_training_settings,
    read_parameters,
    train_locally,
)
from facekeep.training.kit import ANCHORS_FILE, DESCRIPTION_FILE, GRAPH_FILE, KIT_DIRECTORY
from facekeep.vault import SubjectHandle, VaultTransaction

_MOST_KIT_BYTES: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class _Bench:
    """What training takes besides the subjects' own."""

    model: TrainableModel
    kit: TrainingKit
    settings: TrainingSettings
    feature_base: str
    providers: tuple[str, ...]
    threads: int
    # Row of parameters that training begins with.
    parameters: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Subject:
    """One subject's part: copies, held for the time of one training."""

    crops: NDArray[np.uint8] = field(repr=False)
    features: NDArray[np.float32] | None = field(repr=False)
    centre: NDArray[np.float32] = field(repr=False)

    def wipe(self) -> None:
        """Overwrite what was copied."""
        for array in (self.crops, self.features, self.centre):
            if array is not None:
                wipe(array)


class TrainingContribution:
    """Contributes local training (`facekeep.training.train_locally`)."""

    purpose = Purpose.FEDERATED_TRAINING

    def ready(self, context: FlowContext, policy: FederationPolicy, plan: RoundPlan) -> _Bench:
        """Return model, kit and settings.

        Raises:
            FederationError: "federation.plan_refused" for another model than the one in use, another kit, or a level or
                length that it does not have.
            ReleaseError: "release.wrong_model" if nothing here can be trained.
            ModelError, VaultError: with a stable code.
        """
        models = context.load_models()
        model = require_workshop(context.workshop).trainable()
        # Trained on another model, an update would move this one somewhere nobody meant.
        if plan.base != model.in_use:
            raise _refused("it trains another model than the one in use here; adopt the release it is based on first")
        # Refuses a level, or a part of one, that this model does not have.
        model.table.parameters.range_of(plan.level.value, plan.length)
        kit = read_kit(context, policy)
        if kit.rest_sha256 != model.table.rest_sha256 or kit.parameters != model.table.parameters:
            raise _refused("the training kit of this device is of another model")
        if not kit.graph and plan.level is not Level.HEAD:
            raise _refused("the training kit of this device trains the last linear map alone")
        # Where to begin comes with TRAIN.
        settings = parse_training_settings({name: value for name, value in plan.settings.items() if name != START_SETTING})
        chosen, row = context.settings, read_parameters(model.content, model.table)
        return _Bench(model, kit, settings, feature_base_of(models), chosen.providers, chosen.threads, row)

    def start_from(self, ready: _Bench, plan: RoundPlan, start: bytes) -> _Bench:
        """Return the bench with the numbers that the plan names at its level; what is outside of the level stays the model's.

        Raises:
            FederationError: "federation.plan_refused" for a level this model does not have.
        """
        row = ready.parameters.copy()
        row[ready.model.table.parameters.range_of(plan.level.value, plan.length)] = np.frombuffer(start, "<f4")
        return replace(ready, parameters=row)

    def gather(self, ready: _Bench, transaction: VaultTransaction, handle: SubjectHandle, plan: RoundPlan) -> _Subject | None:
        """Return a subject's samples and the centre of their templates; None without both."""
        templates = transaction.open_templates(handle, ready.model.contract_id)
        try:
            vectors = [template.vector.astype(np.float64) for template in templates]
        finally:
            for template in templates:
                wipe(template.vector)
        total: NDArray[np.float64] = np.sum(vectors, axis=0, initial=0.0) if vectors else np.zeros(1)
        length = float(np.linalg.norm(total))
        samples = transaction.samples(handle)
        if plan.level is Level.HEAD:
            # Features of another front say nothing to this head.
            samples = tuple(sample for sample in samples if sample.base == ready.feature_base and sample.features.size)
        if not samples or length < 1e-6:
            return None
        features = np.stack([sample.features for sample in samples]) if plan.level is Level.HEAD else None
        found = _Subject(np.stack([sample.pixels for sample in samples]), features, np.asarray(total / length, np.float32))
        for sample in samples:
            wipe(sample.pixels)
            wipe(sample.features)
        return found

    def contribute(self, ready: _Bench, plan: RoundPlan, gathered: Sequence[_Subject]) -> Contribution:
        """Return the update of one training on all subjects' samples.

        Raises:
            FederationError: as `train_locally`. ModelError: if the training graph does not run.
        """
        counts = [len(subject.crops) for subject in gathered]
        is_head = plan.level is Level.HEAD
        features = np.concatenate([subject.features for subject in gathered if subject.features is not None]) if is_head else None
        crops = None if is_head else np.concatenate([subject.crops for subject in gathered])
        labels = np.repeat(np.arange(len(gathered), dtype=np.int64), counts)
        centres = np.stack([subject.centre for subject in gathered])
        samples = TrainingSamples(labels, crops, features)
        try:
            result = train_locally(
                plan.level.value,
                ready.parameters,
                samples,
                centres,
                ready.kit.anchors,
                ready.settings,
                table=ready.model.table.parameters,
                session=None if is_head else _open_graph(ready),
                seed=int(plan.seed[:15], 16),
                length=plan.length,
            )
        finally:
            for array in (centres, crops, features):
                if array is not None:
                    wipe(array)
            for subject in gathered:
                subject.wipe()
        extras = {"loss": result.losses[0], "samples": float(sum(counts)), "people": float(len(gathered))}
        return Contribution(result.update, {name: max(0.0, value) for name, value in extras.items()})


def _open_graph(ready: _Bench) -> Any:
    from facekeep.runtime import open_session

    return open_session("onnx", {GRAPH_FILE: ready.kit.graph}, threads=ready.threads, providers=ready.providers)


def read_kit(context: FlowContext, policy: FederationPolicy) -> TrainingKit:
    """Return the training kit of this device.

    Raises:
        FederationError: "federation.plan_refused" if there is none. ReleaseError: if it is not the one that the policy states.
    """
    if policy.training_kit is None:
        raise _refused("the policy of this device names no training kit")
    folder = context.vault.home / KIT_DIRECTORY
    with typed_os_errors("read the training kit"):
        if not (folder / DESCRIPTION_FILE).is_file():
            raise _refused(f'there is no training kit in the folder "{KIT_DIRECTORY}" of this device')
        found = [folder / name for name in (DESCRIPTION_FILE, ANCHORS_FILE, GRAPH_FILE)]
        if any(path.stat().st_size > _MOST_KIT_BYTES for path in found if path.is_file()):
            raise _refused("a file of the training kit is too large")
        files = {path.name: path.read_bytes() for path in found if path.is_file()}
    return parse_training_kit(files.pop(DESCRIPTION_FILE), files, sha256=policy.training_kit)


def _refused(why: str) -> FederationError:
    return FederationError("federation.plan_refused", f"The plan is refused: {why}.")
