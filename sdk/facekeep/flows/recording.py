"""Adding one record to a subject's chain, signed, countersigned where it can be, with its entry in the audit trail."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from facekeep.audit import AuditEvent
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.consent import (
    Actor,
    ConsentRecord,
    ConsentState,
    Dependence,
    Lifecycle,
    Notice,
    Processing,
    Purpose,
    WrittenRelease,
    fold_chain,
    new_record,
    sign_record,
)
from facekeep.errors import ConsentError
from facekeep.flows.context import FlowContext
from facekeep.flows.gate import read_records
from facekeep.flows.standing import Standing
from facekeep.identifiers import new_record_id
from facekeep.vault import SubjectHandle, VaultTransaction


def append_record(
    context: FlowContext,
    transaction: VaultTransaction,
    handle: SubjectHandle,
    state: Lifecycle,
    purposes: Iterable[Purpose],
    *,
    notice: Notice | ConsentRecord,
    valid_from: datetime,
    valid_until: datetime,
    recorded_at: datetime,
    actor: Actor | None = None,
    processing: Processing | None = None,
    release: WrittenRelease | None = None,
    dependence: Dependence | None = None,
) -> ConsentRecord:
    """Append a record and its audit event, and return it.

    It is dated no earlier than the record before: time does not run backwards in a chain. An erasure has its own event,
    written by whoever erases.

    Raises:
        ConsentError: "consent.illegal_transition", "consent.invalid_request", "consent.corrupt".
    """
    chain = transaction.consents(handle)
    last = ConsentRecord.parse(chain[-1].body).recorded_at if chain else None
    record = new_record(
        record_id=new_record_id(),
        principal_id=handle.principal_id,
        chain=chain,
        state=state,
        purposes=purposes,
        valid_from=valid_from,
        valid_until=valid_until,
        notice=notice,
        recorded_at=recorded_at if last is None else max(recorded_at, last),
        actor=actor,
        processing=processing,
        release=release,
        dependence=dependence,
    )
    key = context.vault.device_key
    transaction.append_consent(handle, Standing(transaction).countersigned(sign_record(record, key), record, key))
    if state is not Lifecycle.ERASED:
        details: dict[str, str | int | bool] = {"record": record.record_id, "purposes": ",".join(sorted(record.purposes))}
        if state in (Lifecycle.GIVEN, Lifecycle.RENEWED):
            details["until"] = to_rfc3339(record.valid_until)
        transaction.append_event(AuditEvent(f"consent.{state.value}", subject=handle.commitment, details=details))
    return record


def record_withdrawal(
    context: FlowContext,
    transaction: VaultTransaction,
    handle: SubjectHandle,
    purposes: frozenset[Purpose],
    *,
    actor: Actor | None = None,
) -> None:
    """Record that these purposes are withdrawn. Asks no clock to be right: a withdrawal takes effect whatever it says.

    Raises:
        ConsentError: "consent.none" if nothing is in force, "consent.wrong_purpose", "consent.corrupt".
    """
    state = fold_chain(read_records(context.vault, transaction, handle))
    if state.in_force is None:
        raise ConsentError("consent.none", "No consent is in force that could be withdrawn.")
    missing = purposes - state.purposes
    if missing:
        raise ConsentError("consent.wrong_purpose", f"Consent for {', '.join(sorted(missing))} is not in force.")
    _follow(context, transaction, handle, state, Lifecycle.WITHDRAWN, purposes, _now(context), actor)


def record_expiry(context: FlowContext, transaction: VaultTransaction, handle: SubjectHandle, now: datetime) -> bool:
    """Record that a consent has come to its end, if it has and that is not on record, and return whether it was done.

    Args:
        now: the present instant, judged against a clock set back.
    """
    state = fold_chain(read_records(context.vault, transaction, handle))
    record = state.in_force
    if record is None or not state.purposes or now < record.valid_until:
        return False
    _follow(context, transaction, handle, state, Lifecycle.EXPIRED, state.purposes, now, Actor("device"))
    return True


def record_erasure(context: FlowContext, transaction: VaultTransaction, handle: SubjectHandle) -> None:
    """Close a chain: withdraw what is in force, and record that what was stored is erased.

    For the transaction that erases the subject, before its rows go. The records outlive it, linked to nobody.
    """
    state = fold_chain(read_records(context.vault, transaction, handle))
    if state.purposes:
        record_withdrawal(context, transaction, handle, state.purposes)
    if state.last is not None:
        ever = frozenset(purpose for purpose, _ in state.status)
        _follow(context, transaction, handle, state, Lifecycle.ERASED, ever, _now(context), Actor("device"))


def _follow(
    context: FlowContext,
    transaction: VaultTransaction,
    handle: SubjectHandle,
    state: ConsentState,
    what: Lifecycle,
    purposes: frozenset[Purpose],
    now: datetime,
    actor: Actor | None,
) -> None:
    of = state.in_force or state.last
    if of is None:
        raise ConsentError("consent.none", "Nothing is on record that this could follow.")
    append_record(
        context,
        transaction,
        handle,
        what,
        purposes,
        notice=of,
        valid_from=of.valid_from,
        valid_until=of.valid_until,
        recorded_at=now,
        actor=actor,
    )


def _now(context: FlowContext) -> datetime:
    return parse_rfc3339(to_rfc3339(context.clock.now()))
