"""Receipts and countersignatures: a subject's chain on its way out of the device, the controller's signatures on their way in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from facekeep.audit import AuditEvent
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.consent import (
    ControllerKey,
    ControllerProof,
    Delegation,
    Notice,
    VerifierKey,
    countersign,
    find_proof,
    proofs_of,
    with_proofs,
)
from facekeep.consent.receipt import new_receipt
from facekeep.errors import ConsentError, TrustError
from facekeep.flows.context import FlowContext
from facekeep.flows.gate import read_records
from facekeep.flows.standing import DELEGATION_SETTING, Standing, require_controller
from facekeep.identifiers import new_record_id, require_subject_id
from facekeep.vault import SubjectHandle, VaultTransaction


def make_receipt(context: FlowContext, subject: str, notices: Iterable[Notice]) -> bytes:
    """Return a subject's signed receipt, canonical JSON.

    Raises:
        ConsentError: "consent.none", "consent.corrupt", "consent.invalid_request" for a notice that no record names.
    """
    with context.vault.transaction(durable=False) as transaction:
        handle = known_subject(transaction, subject)
        read_records(context.vault, transaction, handle)
        chain = transaction.consents(handle)
    now = parse_rfc3339(to_rfc3339(context.clock.now()))
    return new_receipt(chain, receipt_id=new_record_id(), issued_at=now, key=context.vault.device_key, notices=notices)


def install_delegation(context: FlowContext, data: bytes) -> Delegation:
    """Keep the controller's delegation: from now on its signature is attached to every record at once.

    Raises:
        ConsentError: "consent.unknown_issuer" if the policy names no controller.
        TrustError: "trust.malformed"; "trust.bad_signature" if it is not the controller's, or for another device.
    """
    delegation = Delegation.parse(data)
    with context.vault.transaction() as transaction:
        policy = require_controller(Standing(transaction))
        if policy.controller_key is not None:
            delegation.verify(policy.controller_key, context.vault.device_key.public_bytes)
        transaction.write_setting(DELEGATION_SETTING, delegation.to_bytes())
        until = to_rfc3339(delegation.valid_until)
        transaction.append_event(AuditEvent("policy.changed", details={"kind": "delegation", "policy": f"until {until}"}))
    return delegation


def countersign_here(context: FlowContext, subject: str, key: ControllerKey) -> int:
    """Sign every record of a subject with the controller's key, where that is on the device, and return how many.

    Raises:
        ConsentError: "consent.none", "consent.corrupt", "consent.unknown_issuer".
        TrustError: "trust.bad_signature" if the policy names another controller.
    """
    with context.vault.transaction() as transaction:
        handle = known_subject(transaction, subject)
        proofs = {signed.digest: countersign(key, signed.body) for signed in transaction.consents(handle)}
        return _attach(context, transaction, handle, proofs)


def attach_countersignatures(context: FlowContext, subject: str, proofs: Mapping[str, ControllerProof]) -> int:
    """Attach signatures that a controller made elsewhere, and return to how many records.

    Args:
        context: the device.
        subject: whose records.
        proofs: digest of a record -> its proof, from `parse_countersignatures`.

    Raises:
        ConsentError: "consent.none", "consent.corrupt", "consent.unknown_issuer"; "consent.invalid_request" if a signature
            is for none of this subject's records.
        TrustError: "trust.bad_signature" if one does not verify; then none is attached.
    """
    with context.vault.transaction() as transaction:
        return _attach(context, transaction, known_subject(transaction, subject), proofs)


def _attach(
    context: FlowContext, transaction: VaultTransaction, handle: SubjectHandle, proofs: Mapping[str, ControllerProof]
) -> int:
    device_key = context.vault.device_key.public_bytes
    controller = require_controller(Standing(transaction)).controller_key
    records = read_records(context.vault, transaction, handle)
    chain = transaction.consents(handle)
    if not proofs or not proofs.keys() <= {signed.digest for signed in chain}:
        raise ConsentError("consent.invalid_request", "The countersignatures are not for this subject's records.")
    attached = 0
    for signed, record in zip(chain, records, strict=True):
        proof = proofs.get(signed.digest)
        if proof is None or controller is None:
            continue
        proof.verify(signed.body, controller, device_key)
        if _is_signed_directly(find_proof(signed, controller, device_key)):
            continue
        # A delegate's signature stands in for the controller's own and gives way to it; other controllers' stay.
        others = [item for item in proofs_of(signed) if not _verifies(item, signed.body, controller, device_key)]
        transaction.attach_proofs(handle, with_proofs(signed, [proof, *others]))
        details: dict[str, str | int | bool] = {
            "record": record.record_id,
            "controller": controller.name,
            "delegated": proof.delegation is not None,
        }
        transaction.append_event(AuditEvent("consent.countersigned", subject=handle.commitment, details=details))
        attached += 1
    return attached


def known_subject(transaction: VaultTransaction, subject: str) -> SubjectHandle:
    """Return the subject of this name.

    Raises:
        ConsentError: "consent.none" when nothing is on record.
    """
    handle = transaction.find_subject(require_subject_id(subject))
    if handle is None:
        raise ConsentError("consent.none", "Nothing is on record for this subject: never given, or erased.")
    return handle


def _is_signed_directly(proof: ControllerProof | None) -> bool:
    return proof is not None and proof.delegation is None


def _verifies(proof: ControllerProof, body: bytes, controller: VerifierKey, device_key: bytes) -> bool:
    try:
        proof.verify(body, controller, device_key)
    except TrustError:
        return False
    return True
