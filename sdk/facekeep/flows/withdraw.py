"""Withdrawal: consent ends at once, and what was stored under it is destroyed so that no backup brings it back.

Steps:
    0 find the subject
    1 wipe every opened template from memory
    2 in one durable transaction: record withdrawal and erasure, destroy the subject's data key, delete the rows, re-wrap all
      other keys under a new wrap key, append to the audit trail
    3 destroy the old wrap key in the keystore: an older copy of the vault stays shut
    4 hand out the receipt
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from facekeep.audit import AuditEvent
from facekeep.canonical import parse_canonical
from facekeep.clock import parse_rfc3339
from facekeep.consent import Actor, Purpose
from facekeep.errors import ConsentError, VaultError
from facekeep.flows.context import FlowContext
from facekeep.flows.recording import record_erasure, record_withdrawal
from facekeep.flows.sample_erasure import Remains
from facekeep.flows.sealing_results import sweep
from facekeep.identifiers import require_subject_id
from facekeep.retention import ErasureReceipt
from facekeep.vault import SubjectHandle, VaultTransaction


def withdraw(context: FlowContext, subject: str) -> ErasureReceipt:
    """Return the receipt of the erasure of `subject`.

    Raises:
        ConsentError: "consent.none" when nothing is on record for the subject.
        VaultError: with a stable code; then nothing has been acknowledged, and opening the vault again completes or
            discards what was begun.
    """
    # 1 wipe first: whatever fails below, memory holds nothing any more
    context.gallery.wipe()

    # 0 find, 2 record and destroy, 3 retire the old wrap key
    found: list[SubjectHandle] = []

    def close_chain(transaction: VaultTransaction, handle: SubjectHandle) -> None:
        found.append(handle)
        record_erasure(context, transaction, handle)
        if samples := transaction.sample_count(handle):
            details: dict[str, str | int | bool] = {"count": samples, "reason": "withdrawn"}
            transaction.append_event(AuditEvent("sample.erased", subject=handle.commitment, details=details))

    erased = context.vault.erase(
        require_subject_id(subject),
        before=close_chain,
        event=lambda references, epoch: AuditEvent(
            "template.erased", subject=found[-1].commitment, details={"references": references, "epoch": epoch}
        ),
    )
    # 1 once more: a search in another thread may have opened the gallery again in between
    context.gallery.wipe()
    if erased is None:
        raise ConsentError("consent.none", "Nothing is on record for this subject: never given, or erased already.")

    # 4 receipt
    if erased.inclusion is None:
        raise AssertionError("an erasure is recorded")
    # A result that waits and names the subject goes as well. It cannot be opened any more in any case: the receipt comes first.
    with contextlib.suppress(VaultError):
        sweep(context)
    recorded_at = parse_rfc3339(parse_canonical(erased.inclusion.entry)["time"])
    key = context.vault.device_key
    return ErasureReceipt(
        erased.references, erased.epoch, found[-1].commitment, recorded_at, erased.inclusion, erased.marks, key.public_bytes
    ).signed_by(key)


def withdraw_purposes(context: FlowContext, subject: str, purposes: Iterable[Purpose], guardian: str | None = None) -> None:
    """End consent for some purposes, keeping the rest.

    Without enrolment nothing may be stored, so withdrawing that one is `withdraw`.

    Args:
        context: the device.
        subject: whose consent.
        purposes: which.
        guardian: the application's identifier of the guardian who withdraws for a minor; kept as a pseudonym.

    Raises:
        ConsentError: "consent.none", or "consent.invalid_request" for enrolment or for no purpose.
    """
    wanted = frozenset(purposes)
    if not wanted or Purpose.ENROLMENT in wanted:
        raise ConsentError(
            "consent.invalid_request", "Name the purposes to withdraw. Withdrawing enrolment means erasing: withdraw the subject."
        )
    context.gallery.wipe()
    remains = Remains()

    def record(transaction: VaultTransaction) -> None:
        handle = transaction.find_subject(require_subject_id(subject))
        if handle is None:
            raise ConsentError("consent.none", "Nothing is on record for this subject: never given, or erased already.")
        actor = None if guardian is None else Actor("guardian", transaction.guardian_pseudonym(handle, guardian))
        record_withdrawal(context, transaction, handle, wanted, actor=actor)
        # In the same transaction: no instant at which something is held that nobody consents to.
        remains.drop(transaction, handle, wanted)

    context.vault.shred(record, remains.events)
    context.gallery.wipe()
