"""Destroying training samples: with their consent, with their age, or when the device leaves the federation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from facekeep.audit import AuditEvent
from facekeep.flows.context import FlowContext
from facekeep.flows.standing import Standing
from facekeep.vault import SubjectHandle, VaultTransaction

# A device that only verifies and withdraws loads nothing of a federation.
if TYPE_CHECKING:
    from facekeep.protocol.policy import FederationPolicy

# Subject -> rows of its samples, None for all of them.
_Chosen: TypeAlias = Mapping[SubjectHandle, Sequence[int] | None]


def destroy_samples(context: FlowContext, subject: str, reason: str) -> None:
    """Destroy every training sample of a subject, so that no copy opens."""

    def choose(transaction: VaultTransaction) -> _Chosen:
        handle = transaction.find_subject(subject)
        return {} if handle is None else {handle: None}

    _destroy(context, choose, reason)


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
