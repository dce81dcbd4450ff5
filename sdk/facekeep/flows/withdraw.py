"""Withdrawal: consent ends at once, and what was stored under it is destroyed so that no backup brings it back.

Steps:
    0 find the subject
    1 wipe every opened template from memory
    2 in one durable transaction: record the withdrawal, destroy the subject's data key, delete the rows, re-wrap all
      other keys under a new wrap key, append to the audit trail
    3 destroy the old wrap key in the keystore: an older copy of the vault stays shut
    4 hand out the receipt
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from facekeep.audit import AuditEvent
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.consent import ConsentState, Lifecycle, Purpose, fold_chain, new_record, sign_record
from facekeep.errors import ConsentError
from facekeep.flows.context import FlowContext
from facekeep.flows.gate import read_records
from facekeep.identifiers import new_record_id, require_subject_id
from facekeep.vault import SubjectHandle, VaultTransaction


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """What an erasure destroyed, with the proof that the device recorded it.

    Attributes:
        references: number of templates destroyed.
        key_epoch: epoch of the wrap key from now on; keys of earlier epochs are gone.
        commitment: how the audit trail named the subject; its salt is destroyed, so nothing leads from it to a name.
        checkpoint: signed head of the audit trail that includes the erasure (C2SP signed note).
        erased_at: when.
    """

    references: int
    key_epoch: int
    commitment: str
    checkpoint: str
    erased_at: datetime


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

    def record_withdrawal(transaction: VaultTransaction, handle: SubjectHandle) -> None:
        found.append(handle)
        state = fold_chain(read_records(context.vault, transaction, handle))
        if state.purposes:
            _append_withdrawal(context, transaction, handle, state, state.purposes)

    erased = context.vault.erase(
        require_subject_id(subject),
        before=record_withdrawal,
        event=lambda references, epoch: AuditEvent(
            "template.erased", subject=found[-1].commitment, details={"references": references, "epoch": epoch}
        ),
    )
    # 1 once more: a search in another thread may have opened the gallery again in between
    context.gallery.wipe()
    if erased is None:
        raise ConsentError("consent.none", "Nothing is on record for this subject: never given, or erased already.")

    # 4 receipt
    return ErasureReceipt(erased.references, erased.epoch, found[-1].commitment, context.vault.trail_note(), context.clock.now())


def withdraw_purposes(context: FlowContext, subject: str, purposes: Iterable[Purpose]) -> None:
    """End consent for some purposes, keeping the rest.

    Without enrolment nothing may be stored, so withdrawing that one is `withdraw`.

    Raises:
        ConsentError: "consent.none", or "consent.invalid_request" for enrolment or for no purpose.
    """
    wanted = frozenset(purposes)
    if not wanted or Purpose.ENROLMENT in wanted:
        raise ConsentError(
            "consent.invalid_request", "Name the purposes to withdraw. Withdrawing enrolment means erasing: withdraw the subject."
        )
    context.gallery.wipe()
    with context.vault.transaction() as transaction:
        handle = transaction.find_subject(require_subject_id(subject))
        if handle is None:
            raise ConsentError("consent.none", "Nothing is on record for this subject: never given, or erased already.")
        state = fold_chain(read_records(context.vault, transaction, handle))
        missing = wanted - state.purposes
        if missing:
            raise ConsentError("consent.wrong_purpose", f"Consent for {', '.join(sorted(missing))} is not in force.")
        _append_withdrawal(context, transaction, handle, state, wanted)
    context.gallery.wipe()


def _append_withdrawal(
    context: FlowContext, transaction: VaultTransaction, handle: SubjectHandle, state: ConsentState, purposes: frozenset[Purpose]
) -> None:
    if state.in_force is None:
        raise ConsentError("consent.none", "No consent is in force that could be withdrawn.")
    now = parse_rfc3339(to_rfc3339(context.clock.now()))
    record = new_record(
        record_id=new_record_id(),
        principal_id=handle.principal_id,
        chain=transaction.consents(handle),
        state=Lifecycle.WITHDRAWN,
        purposes=purposes,
        valid_from=state.in_force.valid_from,
        valid_until=state.in_force.valid_until,
        notice=state.in_force,
        recorded_at=now,
    )
    transaction.append_consent(handle, sign_record(record, context.vault.device_key))
    transaction.append_event(
        AuditEvent(
            "consent.withdrawn",
            subject=handle.commitment,
            details={"record": record.record_id, "purposes": ",".join(sorted(purposes))},
        )
    )
