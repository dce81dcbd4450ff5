"""Rounds of statistics: scores of this device's own templates in, noised counts out. No frame is taken, and nothing is stored.

Both kinds ask for the purpose of calibration statistics. "calibration" tells a histogram of scores of different people,
"demographic" counts right and wrong matches for each group that subjects declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric.arrays import wipe
from facekeep.consent import Purpose
from facekeep.errors import FederationError
from facekeep.flows.acquisition import feature_base_of
from facekeep.flows.context import FlowContext
from facekeep.flows.training_rounds import read_kit
from facekeep.flows.workshop import require_workshop
from facekeep.participation import Contribution
from facekeep.participation.statistics import SubjectCounts, calibration_contribution, demographic_contribution
from facekeep.protocol import FederationPolicy, RoundPlan
from facekeep.protocol.statistics import CalibrationSettings, DemographicSettings
from facekeep.training.head import embed_features
from facekeep.vault import SubjectHandle, VaultTransaction

_MOST_FRAMES: Final = 64


@dataclass(frozen=True, slots=True)
class _Bench:
    """What the statistics take besides the subjects' own.

    Attributes:
        contract_id: of the model in use.
        feature_base: of features that its last map belongs to.
        head: (D, F) its last map.
        anchors: (A, D) embeddings of other people; none where the plan does not ask for them, or they are of another model.
    """

    contract_id: str
    feature_base: str
    head: NDArray[np.float32] = field(repr=False)
    anchors: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Subject:
    """One subject's part: copies, held for the time of one contribution.

    Attributes:
        templates: (T, D).
        frames: for each template the embeddings of the frames it was made of, (N, D); none where they are not kept.
        group: as declared, or "".
    """

    templates: NDArray[np.float32] = field(repr=False)
    frames: tuple[NDArray[np.float32], ...] = field(repr=False)
    group: str = field(repr=False)

    def wipe(self) -> None:
        """Overwrite what was copied."""
        for array in (self.templates, *self.frames):
            wipe(array)


class _Statistics:
    """What both kinds have in common."""

    purpose = Purpose.CALIBRATION_STATISTICS

    def _bench(self, context: FlowContext, policy: FederationPolicy, plan: RoundPlan, *, with_anchors: bool) -> _Bench:
        models = context.load_models()
        model = require_workshop(context.workshop).trainable()
        # Scores of another model say nothing about the threshold of this one.
        if plan.base != model.in_use:
            raise FederationError("federation.plan_refused", "The plan is refused: it is about another model than the one in use.")
        # Imported here: every message of a round loads this module, and few of them are about statistics.
        from facekeep.flows.adopt import head_of

        anchors = np.zeros((0, model.table.parameters.dimension), np.float32)
        # Anchors are embeddings of the model that shipped. Under a release they are in another space: what they score there is
        # lower than what people would, and the threshold would be too low.
        if with_anchors and model.in_use == model.base:
            kit = read_kit(context, policy)
            if kit.rest_sha256 != model.table.rest_sha256:
                raise FederationError("federation.plan_refused", "The plan is refused: the training kit is of another model.")
            anchors = kit.anchors
        return _Bench(model.contract_id, feature_base_of(models), head_of(model.content, model.table), anchors)

    def gather(self, ready: _Bench, transaction: VaultTransaction, handle: SubjectHandle, plan: RoundPlan) -> _Subject | None:
        """Return a subject's templates under the model in use, the frames they were made of, and the group; None without any."""
        stored = [item for item in transaction.templates_of(handle) if item.contract_id == ready.contract_id]
        if not stored:
            return None
        opened = [transaction.open_template(handle, item.slot).vector for item in stored]
        templates = np.stack(opened)
        for vector in opened:
            wipe(vector)
        frames = []
        for item in stored:
            features = transaction.features(handle, item.slot)
            found = np.zeros((0, len(ready.head)), np.float32)
            if features is not None:
                if features.base == ready.feature_base:
                    found = embed_features(ready.head, features.rows[:_MOST_FRAMES])
                wipe(features.rows)
            frames.append(found)
        return _Subject(templates, tuple(frames), transaction.declared(handle) or "")


class CalibrationContribution(_Statistics):
    """Contributes a histogram of scores of different people."""

    def ready(self, context: FlowContext, policy: FederationPolicy, plan: RoundPlan) -> _Bench:
        """Return what it takes.

        Raises:
            FederationError: "federation.plan_refused". ReleaseError, ModelError, VaultError: with a stable code.
        """
        return self._bench(context, policy, plan, with_anchors=CalibrationSettings.parse(plan.settings).anchors)

    def contribute(self, ready: _Bench, plan: RoundPlan, gathered: Sequence[_Subject]) -> Contribution:
        """Return the contribution of all these subjects together.

        Raises:
            FederationError: "federation.nothing_to_contribute", "federation.plan_refused".
        """
        try:
            pairs = [
                (one.templates @ other.templates.T).ravel()
                for number, one in enumerate(gathered)
                for other in gathered[number + 1 :]
            ]
            pairs += [(one.templates @ ready.anchors.T).ravel() for one in gathered]
            return calibration_contribution(np.concatenate(pairs), plan)
        finally:
            for item in gathered:
                item.wipe()


class DemographicContribution(_Statistics):
    """Contributes counts of right and wrong matches for each group."""

    def ready(self, context: FlowContext, policy: FederationPolicy, plan: RoundPlan) -> _Bench:
        """Return what it takes.

        Raises:
            FederationError: "federation.plan_refused". ReleaseError, ModelError, VaultError: with a stable code.
        """
        return self._bench(context, policy, plan, with_anchors=DemographicSettings.parse(plan.settings).anchors)

    def contribute(self, ready: _Bench, plan: RoundPlan, gathered: Sequence[_Subject]) -> Contribution:
        """Return the contribution of all these subjects together.

        Raises:
            FederationError: "federation.nothing_to_contribute", "federation.plan_refused".
        """
        threshold = DemographicSettings.parse(plan.settings).threshold
        try:
            counts = []
            for number, one in enumerate(gathered):
                others = [other.templates for place, other in enumerate(gathered) if place != number]
                mated = _mated_scores(one)
                non_mated = (one.templates @ np.concatenate([*others, ready.anchors]).T).ravel()
                non_matches, false_matches = int((mated < threshold).sum()), int((non_mated >= threshold).sum())
                counts.append(SubjectCounts(one.group, len(mated), non_matches, len(non_mated), false_matches))
            return demographic_contribution(counts, plan)
        finally:
            for item in gathered:
                item.wipe()


def _mated_scores(subject: _Subject) -> NDArray[np.float32]:
    """Return scores of the subject with itself: each frame with the template of the others, and with every other template."""
    found: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
    for number, frames in enumerate(subject.frames):
        if len(frames) > 1:
            rest = frames.sum(axis=0, dtype=np.float64) - frames
            lengths = np.maximum(np.linalg.norm(rest, axis=1), 1e-12)
            # Without the frame itself: a frame always matches what it is part of.
            found.append(((frames * rest).sum(axis=1) / lengths).astype(np.float32))
        others = np.delete(subject.templates, number, axis=0)
        found.append((frames @ others.T).ravel())
    return np.concatenate(found)
