"""Revocation lists: withdrawals that were made elsewhere take effect here, and nothing undoes them.

Steps:
    0 open the list: signed by the issuer that the policy names, in the one form expected
    1 refuse a list older than the newest seen, and another list of the same epoch
    2 in one durable transaction: record the withdrawal of everyone it names, keep the list, append to the audit trail
    3 wipe every opened template from memory
    4 erase those whose enrolment is withdrawn by it
    5 hand out the report
"""

from __future__ import annotations

from dataclasses import dataclass

from facekeep.audit import AuditEvent
from facekeep.consent import (
    Actor,
    ConsentStatus,
    ListHead,
    Purpose,
    RevocationList,
    RevokedEntry,
    commitment_of,
    fold_chain,
    open_revocation_list,
    require_newer,
)
from facekeep.errors import ConsentError
from facekeep.flows.context import FlowContext
from facekeep.flows.gate import read_records
from facekeep.flows.recording import record_withdrawal
from facekeep.flows.sample_erasure import destroy_remains
from facekeep.flows.standing import HEAD_SETTING, LIST_SETTING, Standing
from facekeep.flows.withdraw import withdraw
from facekeep.retention import ErasureReceipt
from facekeep.vault import SubjectHandle, VaultTransaction


@dataclass(frozen=True, slots=True)
class RevocationReport:
    """What importing a list did.

    Attributes:
        head: the list.
        is_new: whether it had not been seen before.
        withdrawn: how many subjects' consents were ended by it now.
        erasures: a receipt for each subject erased now.
    """

    head: ListHead
    is_new: bool
    withdrawn: int
    erasures: tuple[ErasureReceipt, ...]


@dataclass(frozen=True, slots=True)
class RevocationStatus:
    """Where this device stands with revocation lists.

    Attributes:
        issuer: name of the issuer's key in the policy, or None.
        max_age: ISO 8601 duration of the policy, or None.
        newest: the newest list seen of that issuer, or None.
        dependent: subjects with a consent in force that depends on lists.
        stale: those of them that are refused now for want of a fresh one.
    """

    issuer: str | None
    max_age: str | None
    newest: ListHead | None
    dependent: int
    stale: int


class Revocations:
    """The revocation lists of a device: `device.revocations`."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context

    def import_list(self, data: bytes) -> RevocationReport:
        """Apply a signed revocation list. The same list again completes what a crash cut short, and is no error.

        Raises:
            ConsentError: "consent.unknown_issuer", "consent.revocation_older", "consent.revocation_fork".
            TrustError: "trust.malformed", "trust.bad_signature".
            VaultError: with a stable code; withdrawals already recorded stand, and importing again goes on.
        """
        return import_list(self._context, data)

    def status(self) -> RevocationStatus:
        """Return which list was seen last and who depends on it.

        Raises:
            ConsentError: "consent.corrupt".
        """
        return _status(self._context)

    def newest(self) -> bytes | None:
        """Return the newest list of the policy's issuer as it was imported, or None."""
        with self._context.vault.transaction(durable=False) as transaction:
            issuer = Standing(transaction).policy.revocation_issuer
            return None if issuer is None else transaction.read_setting(LIST_SETTING + issuer.name)


def import_list(context: FlowContext, data: bytes) -> RevocationReport:
    """Return the report of applying a list: see `Revocations.import_list`."""
    # 0 open
    with context.vault.transaction(durable=False) as transaction:
        issuer = Standing(transaction).policy.revocation_issuer
    if issuer is None:
        raise ConsentError("consent.unknown_issuer", "The consent policy names no issuer of revocation lists. Set one first.")
    revocations = open_revocation_list(data, issuer)
    head = revocations.head
    context.gallery.wipe()
    try:
        with context.vault.transaction() as transaction:
            # 1 refuse what is older
            is_new = require_newer(Standing(transaction).head_of(issuer.name), head)
            # 2 withdraw and keep
            withdrawn, to_erase, ended = _apply(context, transaction, revocations)
            if is_new:
                transaction.write_setting(HEAD_SETTING + issuer.name, head.to_bytes())
                transaction.write_setting(LIST_SETTING + issuer.name, data)
                details: dict[str, str | int | bool] = {
                    "issuer": issuer.name,
                    "epoch": head.epoch,
                    "entries": head.entries,
                    "named": withdrawn,
                    "sha256": head.sha256,
                }
                transaction.append_event(AuditEvent("revocation.imported", details=details))
    except ConsentError as error:
        context.record_failure("revocation.imported", error, None)
        raise
    # 3 wipe: a search in another thread may have opened the gallery in between
    context.gallery.wipe()
    # 4 erase
    receipts = []
    for name in to_erase:
        try:
            receipts.append(withdraw(context, name))
        except ConsentError as error:
            # Somebody erased the subject in between: that is what was wanted.
            if error.code != "consent.none":
                raise
    # Of those who stay, what was kept for a purpose that has ended.
    destroy_remains(context, ended)
    # 5 report
    return RevocationReport(head, is_new, withdrawn, tuple(receipts))


def _apply(
    context: FlowContext, transaction: VaultTransaction, revocations: RevocationList
) -> tuple[int, list[str], dict[str, frozenset[Purpose]]]:
    """Record withdrawals; return how many subjects', whom to erase, and to what no listed subject consents any more."""
    index, actor = revocations.index(), Actor("controller", issuer=revocations.issuer, epoch=revocations.epoch)
    withdrawn, to_erase = 0, []
    ended: dict[str, frozenset[Purpose]] = {}
    for handle in transaction.subjects():
        entry = index.get(commitment_of(revocations.salt, handle.principal_id))
        if entry is None:
            continue
        purposes = _named(context, transaction, handle, entry)
        if purposes:
            record_withdrawal(context, transaction, handle, purposes, actor=actor)
            withdrawn += 1
        if _is_to_erase(context, transaction, handle, entry):
            to_erase.append(handle.name)
        # Of every listed subject, so that a list again completes what was cut short.
        ended[handle.name] = frozenset(Purpose) - fold_chain(read_records(context.vault, transaction, handle)).purposes
    return withdrawn, to_erase, ended


def _named(context: FlowContext, transaction: VaultTransaction, handle: SubjectHandle, entry: RevokedEntry) -> frozenset[Purpose]:
    state = fold_chain(read_records(context.vault, transaction, handle))
    if state.in_force is None or not entry.covers(state.in_force.recorded_at):
        return frozenset()
    # Without enrolment nothing may be kept, so whoever withdraws that withdraws all.
    takes_all = entry.purposes is None or Purpose.ENROLMENT in entry.purposes
    return state.purposes if takes_all or entry.purposes is None else state.purposes & entry.purposes


def _is_to_erase(context: FlowContext, transaction: VaultTransaction, handle: SubjectHandle, entry: RevokedEntry) -> bool:
    state = fold_chain(read_records(context.vault, transaction, handle))
    is_ended = state.status_of(Purpose.ENROLMENT) in (ConsentStatus.WITHDRAWN, ConsentStatus.EXPIRED)
    takes_enrolment = entry.purposes is None or Purpose.ENROLMENT in entry.purposes
    return takes_enrolment and is_ended


def _status(context: FlowContext) -> RevocationStatus:
    with context.vault.transaction(durable=False) as transaction:
        standing = Standing(transaction)
        policy, now = standing.policy, standing.judged(context.clock.now())
        ends = []
        for handle in transaction.subjects():
            state = fold_chain(read_records(context.vault, transaction, handle))
            record = state.in_force
            if record is not None and state.purposes and now < record.valid_until:
                end = policy.good_until(record, standing.head_of)
                ends += [end] if end is not None else []
        issuer = policy.revocation_issuer
        newest = standing.head_of(issuer.name) if issuer else None
    name = issuer.name if issuer else None
    return RevocationStatus(name, policy.revocation_max_age, newest, len(ends), sum(now >= end for end in ends))
