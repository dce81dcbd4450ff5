"""Destroying what was kept for a federation alone: with its consent, with its age, or when the device leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from facekeep.audit import AuditEvent
from facekeep.consent import Purpose
from facekeep.flows.context import FlowContext
from facekeep.flows.standing import Standing
from facekeep.vault import SubjectHandle, VaultTransaction

# A device that only verifies and withdraws loads nothing of a federation.
if TYPE_CHECKING:
    from facekeep.protocol.policy import FederationPolicy

# Subject -> rows of its samples, None for all of them.
_Chosen: TypeAlias = Mapping[SubjectHandle, Sequence[int] | None]


@dataclass(slots=True)
class Remains:
    """What consent to a purpose alone kept, and what became of it when that ended: training samples, a declared group."""

    _dropped: list[tuple[SubjectHandle, int]] = field(default_factory=list)
    _undeclared: list[SubjectHandle] = field(default_factory=list)

    def drop(self, transaction: VaultTransaction, handle: SubjectHandle, ended: Set[Purpose]) -> None:
        """Drop what a subject has under purposes that ended. For use inside `SQLiteVault.shred`."""
        if Purpose.FEDERATED_TRAINING in ended:
            self._dropped.append((handle, transaction.drop_samples(handle)))
        if Purpose.CALIBRATION_STATISTICS in ended and transaction.declare(handle, None):
            self._undeclared.append(handle)

    def events(self, epoch: int) -> list[AuditEvent]:
        """Return the entries that record it."""
        held = {"held": False}
        forgotten = [AuditEvent("group.declared", subject=handle.commitment, details=held) for handle in self._undeclared]
        return [*erased_events(self._dropped, epoch, "withdrawn"), *forgotten]


def destroy_remains(context: FlowContext, ended: Mapping[str, Set[Purpose]]) -> None:
    """Destroy what subjects had under purposes that have ended, so that no copy opens. Rotates no key where there is nothing."""

    def holders(transaction: VaultTransaction) -> list[tuple[SubjectHandle, Set[Purpose]]]:
        found = []
        for subject, purposes in ended.items():
            handle = transaction.find_subject(subject)
            if handle is None:
                continue
            has_samples = Purpose.FEDERATED_TRAINING in purposes and transaction.sample_count(handle) > 0
            if has_samples or (Purpose.CALIBRATION_STATISTICS in purposes and transaction.declared(handle) is not None):
                found.append((handle, purposes))
        return found

    with context.vault.transaction(durable=False) as transaction:
        if not holders(transaction):
            return
    remains = Remains()

    def drop(transaction: VaultTransaction) -> None:
        for handle, purposes in holders(transaction):
            remains.drop(transaction, handle, purposes)

    context.vault.shred(drop, remains.events)


def destroy_all_samples(context: FlowContext, reason: str) -> None:
    """Destroy every training sample on the device."""
    _destroy(context, lambda transaction: dict.fromkeys(transaction.subjects()), reason)


def destroy_overdue(context: FlowContext, policy: FederationPolicy) -> None:
    """Destroy training samples that are older than the policy allows. Costs a look at the rows while there is nothing to do."""
    with context.vault.transaction(durable=False) as transaction:
        if not _overdue(context, transaction, policy):
            return
    _destroy(context, lambda transaction: _overdue(context, transaction, policy), "age")


def erased_events(found: Sequence[tuple[SubjectHandle, int]], epoch: int, reason: str) -> list[AuditEvent]:
    """Return the entries that record the end of some samples, one a subject that had any."""
    return [
        AuditEvent("sample.erased", subject=handle.commitment, details={"count": count, "epoch": epoch, "reason": reason})
        for handle, count in found
        if count
    ]


def _destroy(context: FlowContext, choose: Callable[[VaultTransaction], _Chosen], reason: str) -> None:
    found: list[tuple[SubjectHandle, int]] = []

    def drop(transaction: VaultTransaction) -> None:
        found.extend((handle, transaction.drop_samples(handle, slots)) for handle, slots in choose(transaction).items())

    context.vault.shred(drop, lambda epoch: erased_events(found, epoch, reason))


def _overdue(context: FlowContext, transaction: VaultTransaction, policy: FederationPolicy) -> _Chosen:
    limit = Standing(transaction).judged(context.clock.now()) - policy.samples_term
    found: dict[SubjectHandle, list[int]] = {}
    for item in transaction.stored_samples():
        if item.kept_at <= limit:
            found.setdefault(transaction.read_subject(item.subject_slot), []).append(item.slot)
    return found
