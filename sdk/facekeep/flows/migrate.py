"""Templates follow the model: exactly where their features allow it, at the next strict verification where not.

Steps:
    1 find the templates of other contracts than the one of the model in use
    2 of those whose features are of its base: apply the last map to each frame, normalise, take the mean direction
    3 have the self-test look at each, and in the end at all of them
    4 write each in the place of the old one, with the same reference and the same age, and record it: all in one transaction
    5 the rest wait: they are compared under their own contract, by the model that made them, and with nothing else
    6 when their subject is verified, and matches at a tenth of the rate asked for: embed the same crop with the model in use
    7 write it in the place of the template that matched, consent to enrolment checked, and record it
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.audit import AuditEvent
from facekeep.biometric import Embedding, FaceSample, Features, Template
from facekeep.biometric.arrays import wipe
from facekeep.calibration import fmr_for_fpir, operating_point_for
from facekeep.comparison import compare
from facekeep.consent import Purpose
from facekeep.embedding import mean_direction
from facekeep.errors import ComparisonError, ConsentError, FacekeepError
from facekeep.flows.acquisition import embed_sample, feature_base_of
from facekeep.flows.context import FlowContext, Models
from facekeep.flows.gate import require_grant
from facekeep.flows.trial import PeopleTrial
from facekeep.training.head import embed_features
from facekeep.vault import StoredTemplate, SubjectHandle, VaultTransaction

# A template that follows a person's probe follows whoever passes for them: so the bar is higher than for letting them in.
STRICTER: Final = 10.0


@dataclass(frozen=True, slots=True)
class MovedCounts:
    """What a migration did.

    Attributes:
        migrated: templates that moved.
        waiting: templates that wait for their subject.
    """

    migrated: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Destination:
    """Where templates move.

    Attributes:
        contract_id: of the model in use from now on.
        base: what everything in front of its last map is known by.
        head: (D, F) its last map.
    """

    contract_id: str
    base: str
    head: NDArray[np.float32]


def migrate_all(transaction: VaultTransaction, destination: Destination, trial: PeopleTrial | None) -> MovedCounts:
    """Move every template that can be moved exactly, and return how many moved and how many wait.

    Args:
        transaction: durable; the caller makes the model the one in use in the same transaction.
        destination: where.
        trial: looks on; None where the model has served before.

    Raises:
        ReleaseError: "release.failed_selftest". VaultError: "vault.sealed" and its kind. Nothing moves then.
    """
    try:
        return _migrate_all(transaction, destination, trial)
    finally:
        if trial is not None:
            trial.forget()


def _migrate_all(transaction: VaultTransaction, destination: Destination, trial: PeopleTrial | None) -> MovedCounts:
    migrated = waiting = 0
    for handle in transaction.subjects():
        # 1 of other contracts
        moved: Counter[str] = Counter()
        for stored in transaction.templates_of(handle):
            if stored.contract_id == destination.contract_id:
                continue
            if _move_exactly(transaction, handle, stored, destination, trial):
                moved[stored.contract_id] += 1
            else:
                # 5 wait
                waiting += 1
        for parent, count in moved.items():
            transaction.append_event(_event(handle, count, destination.contract_id, parent))
        migrated += moved.total()
    if trial is not None:
        trial.require_apart()
    return MovedCounts(migrated, waiting)


def follow(context: FlowContext, handle: SubjectHandle, sample: FaceSample, models: Models, *, target_fmr: float) -> None:
    """Move one waiting template of a subject who was just verified, if the match is strict enough.

    Args:
        context: the device.
        handle: whose.
        sample: the admitted crop of the verification.
        models: in use.
        target_fmr: false match rate that the verification was decided at.

    Raises:
        FacekeepError: with a stable code; the verification stands, and the template waits on.
    """
    with context.vault.transaction(durable=False) as transaction:
        waiting = [item for item in transaction.templates_of(handle) if item.contract_id != models.contract_id]
        held = [(item, transaction.open_template(handle, item.slot)) for item in waiting]
    try:
        # 5 under their own contract, 6 strictly
        best = _best_strict(context, sample, held, target_fmr)
    finally:
        for _, template in held:
            wipe(template.vector)
    if best is None:
        return
    embedding, features = embed_sample(sample, models)
    kept = Features(features[np.newaxis], feature_base_of(models)) if len(features) else None
    with context.vault.transaction() as transaction:
        # 7 what is made anew is stored under consent to enrolment, which may have been withdrawn meanwhile
        _, found = require_grant(context.vault, transaction, context.clock, handle.name, Purpose.ENROLMENT)
        if found != handle or best not in transaction.templates_of(handle):
            return
        template = Template(embedding.vector, models.contract_id, best.reference_id, best.enrolled_at)
        transaction.move_template(handle, best.slot, template, kept)
        transaction.append_event(_event(handle, 1, models.contract_id, best.contract_id, best.reference_id))


def follow_if_possible(
    context: FlowContext, handle: SubjectHandle, sample: FaceSample, models: Models, *, target_fmr: float
) -> None:
    """Follow as `follow`; what stands in the way is recorded, and changes nothing of the verification."""
    try:
        follow(context, handle, sample, models, target_fmr=target_fmr)
    except ConsentError:
        # No consent to store anything: the template waits, and goes when its term is over.
        return
    except FacekeepError as error:
        context.record_failure("template.migrated", error, handle.commitment)


def earlier_probe(context: FlowContext, sample: FaceSample, contracts: set[str]) -> tuple[Embedding, Models] | None:
    """Return the embedding of an admitted crop under an earlier contract, with the models that made it; None if none is known.

    Args:
        context: the device.
        sample: the crop.
        contracts: of the templates there are.
    """
    for contract in sorted(contracts):
        models = context.workshop.models_of(contract) if context.workshop is not None else None
        if models is not None:
            return embed_sample(sample, models)[0], models
    return None


def _move_exactly(
    transaction: VaultTransaction,
    handle: SubjectHandle,
    stored: StoredTemplate,
    destination: Destination,
    trial: PeopleTrial | None,
) -> bool:
    features = transaction.features(handle, stored.slot)
    if features is None or features.base != destination.base:
        return False
    # 2 the last map on each frame: what the model would give for the same frames
    frames = embed_features(destination.head, features.rows)
    template = Template(mean_direction(list(frames)), destination.contract_id, stored.reference_id, stored.enrolled_at)
    before = transaction.open_template(handle, stored.slot)
    try:
        # 3 self-test
        if trial is not None:
            trial.take(handle.slot, before.vector, frames, template.vector)
        # 4 write
        transaction.move_template(handle, stored.slot, template)
    finally:
        for array in (features.rows, frames, before.vector, template.vector):
            wipe(array)
    return True


def _best_strict(
    context: FlowContext, sample: FaceSample, held: list[tuple[StoredTemplate, Template]], target_fmr: float
) -> StoredTemplate | None:
    by_contract: dict[str, list[tuple[StoredTemplate, Template]]] = {}
    for item in held:
        by_contract.setdefault(item[0].contract_id, []).append(item)
    for contract, items in sorted(by_contract.items()):
        probe = earlier_probe(context, sample, {contract})
        if probe is None:
            continue
        embedding, models = probe
        try:
            point = operating_point_for(models.operating_points, fmr_for_fpir(target_fmr / STRICTER, len(items)))
        except ComparisonError:
            # The model was not measured at such a rate: nothing can be said to match at it.
            continue
        score, best = max(((compare(embedding, template).value, stored) for stored, template in items), key=lambda pair: pair[0])
        if score >= point.threshold:
            return best
    return None


def _event(handle: SubjectHandle, count: int, contract: str, parent: str, reference: str = "") -> AuditEvent:
    details: dict[str, str | int | bool] = {"references": count, "contract": contract, "parent": parent}
    if reference:
        details["reference"] = reference
    return AuditEvent("template.migrated", subject=handle.commitment, details=details)
