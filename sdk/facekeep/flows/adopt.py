"""Adopting a release: verified, staged, tested on this device, then put to use with every template that can follow, or not at all.

Steps:
    0 require membership and models that can be patched; see where the device stands
    1 verify the note: signatures, version, parent, level, base, term
    2 verify the log proof
    3 verify numbers and vectors
    4 make the model out of the one in use, and verify it and its contract
    5 stage its files, whole and on the disk
    6 self-test: it computes what it should
    7 activate, in one transaction: the state, every template that can follow, the audit events; the self-test looks at each of them
    8 discard files that nothing needs any more
    9 where it failed: record it; a release that failed its self-test is refused for ever
    10 go back, by the word of whoever runs the device: the state, the templates and the events likewise in one transaction
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from facekeep.audit import AuditEvent
from facekeep.errors import FacekeepError, ReleaseError, VaultError
from facekeep.flows.acquisition import feature_base_of
from facekeep.flows.context import FlowContext, Models
from facekeep.flows.membership import find_membership, require_membership
from facekeep.flows.migrate import Destination, MovedCounts, migrate_all
from facekeep.flows.release_state import KeptRelease, ReleaseState, read_release_state, write_release_state
from facekeep.flows.standing import Standing
from facekeep.flows.trial import PeopleTrial, require_computes
from facekeep.flows.workshop import TrainableModel, require_workshop
from facekeep.note import unsafe_note_text
from facekeep.packs.releases import MODEL_FILE, NOTE_FILE, PROOF_FILE
from facekeep.protocol.policy import FederationPolicy
from facekeep.protocol.release import ModelRelease, ReleaseBundle
from facekeep.training.patching import PatchTable, patched, read_parameters
from facekeep.trust import AcceptedRelease, ReleaseStanding, TrustedReleases


@dataclass(frozen=True, slots=True)
class AdoptionReceipt:
    """What an adoption did.

    Attributes:
        digest: of the release.
        version: of the release.
        contract_id: of the embeddings from now on.
        migrated: templates that moved.
        waiting: templates that wait for their subject to be verified.
    """

    digest: str
    version: int
    contract_id: str
    migrated: int
    waiting: int


@dataclass(frozen=True, slots=True)
class RollbackReceipt:
    """What going back did.

    Attributes:
        left: version that was left, and is refused from now on.
        version: version in use; 0 for the model that shipped.
        digest: of the release in use, or None for the model that shipped.
        migrated: templates that moved back.
        waiting: templates that wait for their subject to be verified.
    """

    left: int
    version: int
    digest: str | None
    migrated: int
    waiting: int


@dataclass(frozen=True, slots=True)
class _Stand:
    """Where the device stands: what everything below is judged against, and has to find again when it writes."""

    policy: FederationPolicy
    stored: ReleaseState | None
    state: ReleaseState
    model: TrainableModel
    now: datetime


def adopt(context: FlowContext, bundle: ReleaseBundle) -> AdoptionReceipt:
    """Return what adopting a release did.

    Raises:
        ReleaseError, FederationError, VaultError, ModelError: with a stable code; the model in use stays.
    """
    release: ModelRelease | None = None
    named: dict[str, str | int | bool] = {"federation": "", "release": "", "version": 0}
    try:
        # 0 where the device stands
        stand = _stand(context)
        named["federation"] = stand.policy.name
        if (known := _find_adopted(stand.state, bundle)) is not None:
            return AdoptionReceipt(known.digest, known.version, known.contract, 0, 0)
        workshop = require_workshop(context.workshop)
        trusted = TrustedReleases(stand.policy, _standing(stand), stand.now)
        # 1 note, 2 log, 3 numbers and vectors
        release = trusted.take_note(bundle.note)
        named |= {"release": release.digest, "version": release.version}
        trusted.take_proof(bundle.proof)
        trusted.take_parameters(bundle.parameters)
        trusted.take_vectors(bundle.vectors)
        # 4 model and contract
        table = stand.model.table
        content = patched(stand.model.content, table, release.level.value, bundle.parameters, sha256=release.model)
        accepted = trusted.take_model(content, workshop.contract_of(release.model))
        # Until it is active, what is staged looks to another process like what nothing needs.
        with workshop.hold():
            # And what that one activated meanwhile is not to be staged over.
            _require_unmoved(context, stand)
            # 5 stage
            workshop.stage(release.digest, _files(bundle, accepted, content))
            # 6 it computes what it should
            after, head = workshop.build(content, release), head_of(content, table)
            require_computes(after, head, bundle.vectors)
            # 7 activate
            moved = _activate(context, stand, accepted.release, after, head)
    except FacekeepError as error:
        # 9 record; nothing but the entry, and what may never be offered again, is left of it
        _refuse(context, release, named, error)
        raise
    # 8 discard
    _discard(context)
    return AdoptionReceipt(release.digest, release.version, release.contract, moved.migrated, moved.waiting)


def rollback(context: FlowContext) -> RollbackReceipt:
    """Return what going back to the model before the one in use did.

    Raises:
        ReleaseError: "release.none" if the model that shipped is in use, or the one before is not here.
        VaultError, ModelError: with a stable code; the model in use stays.
    """
    # 10 go back
    workshop = require_workshop(context.workshop)
    with context.vault.transaction(durable=False) as transaction:
        stored = read_release_state(transaction)
    left = stored.in_use if stored is not None else None
    if stored is None or left is None:
        raise ReleaseError("release.none", "The model that shipped is in use: there is nothing to go back to.")
    content, release = workshop.content_of(left.parent)
    # Nothing of the release that is left is opened: it may be the reason for going back.
    head = head_of(content, workshop.table())
    before = workshop.models_of(release.contract if release is not None else stored.origin)
    if before is None:
        raise ReleaseError("release.none", "The model before the one in use is not known here.")
    fresh = replace(stored, active=left.parent, refused=max(stored.refused, left.version))
    context.gallery.wipe()
    with context.vault.transaction() as transaction:
        if read_release_state(transaction) != stored:
            raise _changed()
        moved = migrate_all(transaction, Destination(before.contract_id, feature_base_of(before), head), None)
        write_release_state(transaction, fresh)
        membership = find_membership(transaction)
        details: dict[str, str | int | bool] = {
            "federation": membership.policy.name if membership else "",
            "release": left.digest,
            "version": left.version,
            "to": left.parent,
        }
        transaction.append_event(AuditEvent("release.rolled_back", details=details))
    context.gallery.wipe()
    return RollbackReceipt(left.version, fresh.version, left.parent or None, moved.migrated, moved.waiting)


def head_of(content: bytes, table: PatchTable) -> NDArray[np.float32]:
    """Return the (D, F) last linear map of a model file, as it is stored there."""
    return table.parameters.head_of(read_parameters(content, table))


def _stand(context: FlowContext) -> _Stand:
    with context.vault.transaction(durable=False) as transaction:
        policy = require_membership(transaction).policy
    # Loading makes the choice of packs final, which a release depends on.
    context.load_models()
    model = require_workshop(context.workshop).trainable()
    with context.vault.transaction(durable=False) as transaction:
        stored = read_release_state(transaction)
        now = Standing(transaction).judged(context.clock.now())
    state = stored or ReleaseState()
    if not state.is_over(model.detector, model.embedder):
        # Other packs than those the last release was for: a new beginning, but what was refused stays refused.
        state = ReleaseState(model.detector, model.embedder, origin=model.contract_id, refused=max(state.refused, state.version))
    return _Stand(policy, stored, state, model, now)


def _standing(stand: _Stand) -> ReleaseStanding:
    state = stand.state
    return ReleaseStanding(state.version, state.active or None, state.refused, stand.model.base)


def _find_adopted(state: ReleaseState, bundle: ReleaseBundle) -> KeptRelease | None:
    """Return the release in use if it is the one offered: an offer whose answer was lost on its way comes again."""
    with contextlib.suppress(ReleaseError):
        if ModelRelease.parse(unsafe_note_text(bundle.note)).digest == state.active:
            return state.in_use
    return None


def _files(bundle: ReleaseBundle, accepted: AcceptedRelease, content: bytes) -> dict[str, bytes]:
    files = {NOTE_FILE: accepted.note.encode(), MODEL_FILE: content}
    return files | {PROOF_FILE: bundle.proof} if bundle.proof else files


def _activate(context: FlowContext, stand: _Stand, release: ModelRelease, after: Models, head: NDArray[np.float32]) -> MovedCounts:
    before = context.load_models()
    trial = PeopleTrial(before, after)
    context.gallery.wipe()
    with context.vault.transaction() as transaction:
        if read_release_state(transaction) != stand.stored:
            raise _changed()
        # Every template that can follow does, or none: a gallery half of which nobody is recognised in would be the worst.
        moved = migrate_all(transaction, Destination(after.contract_id, feature_base_of(after), head), trial)
        fresh = stand.state.with_adopted(KeptRelease.of(release), list(transaction.contracts()))
        write_release_state(transaction, fresh)
        details: dict[str, str | int | bool] = {
            **release.for_trail(),
            "migrated": moved.migrated,
            "waiting": moved.waiting,
        }
        transaction.append_event(AuditEvent("release.adopted", details=details))
    context.gallery.wipe()
    return moved


def _refuse(context: FlowContext, release: ModelRelease | None, named: dict[str, str | int | bool], error: FacekeepError) -> None:
    event = AuditEvent("release.refused", error.code, details=dict(named))
    if release is None or error.code != "release.failed_selftest":
        context.record_refusal(event, error)
    else:
        try:
            with context.vault.transaction() as transaction:
                stored = read_release_state(transaction) or ReleaseState()
                write_release_state(transaction, replace(stored, refused=max(stored.refused, release.version)))
                transaction.append_event(event)
        except VaultError as second:
            error.add_note(f"The refusal could not be written: {second.code}.")
    if release is not None:
        _discard(context)


def _require_unmoved(context: FlowContext, stand: _Stand) -> None:
    with context.vault.transaction(durable=False) as transaction:
        if read_release_state(transaction) != stand.stored:
            raise _changed()


def _discard(context: FlowContext) -> None:
    def needed() -> list[str]:
        with context.vault.transaction(durable=False) as transaction:
            state = read_release_state(transaction) or ReleaseState()
        return [item.digest for item in state.kept]

    if context.workshop is not None:
        # What another process works on for so long can stay until the next adoption.
        with contextlib.suppress(VaultError):
            context.workshop.discard_except(needed)


def _changed() -> VaultError:
    return VaultError("vault.busy", "Another process changed the model in use meanwhile. Try again.")
