"""Destroying training samples: with their consent, with their age, or when the device leaves the federation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from facekeep.audit import AuditEvent
from facekeep.flows.context import FlowContext
from facekeep.flows.standing import Standing
from facekeep.vault import SubjectHandle, VaultTransaction

# A device that only verifies and withdraws loads nothing of a federation.
if TYPE_CHECKING:
    from facekeep.protocol.policy import FederationPolicy


def destroy_samples(context: FlowContext, subject: str, reason: str) -> int:
    """Destroy every training sample of a subject, so that no copy opens, and return how many there were."""
    found: list[tuple[SubjectHandle, int]] = []

    def drop(transaction: VaultTransaction) -> None:
        handle = transaction.find_subject(subject)
        if handle is not None:
            found.append((handle, transaction.drop_samples(handle)))

    context.vault.shred(drop, lambda epoch: erased_events(found, epoch, reason))
    return sum(count for _, count in found)


def destroy_all_samples(context: FlowContext, reason: str) -> int:
    """Destroy every training sample on the device, and return how many there were."""
    found: list[tuple[SubjectHandle, int]] = []

    def drop(transaction: VaultTransaction) -> None:
        found.extend((handle, transaction.drop_samples(handle)) for handle in transaction.subjects())

    context.vault.shred(drop, lambda epoch: erased_events(found, epoch, reason))
    return sum(count for _, count in found)


def destroy_overdue(context: FlowContext, policy: FederationPolicy) -> int:
    """Destroy training samples that are older than the policy allows, and return how many.

    Costs a look at the rows while there is nothing to do.
    """
    with context.vault.transaction(durable=False) as transaction:
        if not _overdue(context, transaction, policy):
            return 0
    found: list[tuple[SubjectHandle, int]] = []

    def drop(transaction: VaultTransaction) -> None:
        for handle, slots in _overdue(context, transaction, policy).items():
            found.append((handle, transaction.drop_samples(handle, slots)))

    context.vault.shred(drop, lambda epoch: erased_events(found, epoch, "age"))
    return sum(count for _, count in found)


def erased_events(found: Sequence[tuple[SubjectHandle, int]], epoch: int, reason: str) -> list[AuditEvent]:
    """Return the entries that record the end of some samples, one a subject that had any."""
    return [
        AuditEvent("sample.erased", subject=handle.commitment, details={"count": count, "epoch": epoch, "reason": reason})
        for handle, count in found
        if count
    ]


def judged_instant(context: FlowContext, transaction: VaultTransaction) -> datetime:
    """Return the instant to judge terms by: the clock's, or the last one recorded if the clock stands before it."""
    # A clock set back prolongs nothing.
    now, last = context.clock.now(), Standing(transaction).last_event
    return now if last is None else max(now, last)


def _overdue(context: FlowContext, transaction: VaultTransaction, policy: FederationPolicy) -> dict[SubjectHandle, list[int]]:
    limit = judged_instant(context, transaction) - policy.samples_term
    found: dict[SubjectHandle, list[int]] = {}
    for item in transaction.stored_samples():
        if item.kept_at <= limit:
            found.setdefault(transaction.read_subject(item.subject_slot), []).append(item.slot)
    return found
