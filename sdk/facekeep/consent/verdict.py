"""What a third party may conclude from a receipt, offline, with public keys only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from facekeep.consent.controller import find_proof
from facekeep.consent.lifecycle import ConsentStatus
from facekeep.consent.purposes import Purpose
from facekeep.consent.receipt import ConsentReceipt
from facekeep.consent.record import ConsentRecord, Lifecycle, SignedConsent
from facekeep.consent.revocation import RevocationList, good_until
from facekeep.consent.verifier import VerifierKey


class Verdict(StrEnum):
    """Where the consent of a verified receipt stands at one instant. Only `IN_FORCE` is a yes."""

    IN_FORCE = "in force"
    NOT_YET_VALID = "not yet valid"
    EXPIRED = "expired"
    REQUESTED = "requested"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"
    STALE = "stale"
    ERASED = "erased"


class ControllerVerdict(StrEnum):
    """Who signed a record for the controller."""

    SIGNED = "signed"
    DELEGATED = "signed by delegation"
    MISSING = "missing"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class ReceiptVerdict:
    """The outcome of `judge_receipt`.

    Attributes:
        verdict: where the consent stands.
        at: the instant it was judged for.
        purposes: what is in force; empty unless the verdict is a yes.
        controller: who signed the record in force for the controller; "missing" also where the signature does not verify.
        records: one line for each record: when, what, and who signed it for the controller.
        names_a_controller: whether the record in force names the controller, as ISO/IEC TS 27560 asks.
    """

    verdict: Verdict
    at: datetime
    purposes: frozenset[Purpose]
    controller: ControllerVerdict
    records: tuple[tuple[ConsentRecord, ControllerVerdict], ...]
    names_a_controller: bool


def judge_receipt(
    receipt: ConsentReceipt,
    *,
    at: datetime,
    controller: VerifierKey | None = None,
    revocations: RevocationList | None = None,
) -> ReceiptVerdict:
    """Return where the consent of a receipt stands.

    Args:
        receipt: what `open_receipt` returned.
        at: the instant to judge for.
        controller: the controller's public key; without it nobody's signature for the controller is checked.
        revocations: the newest list of the issuer, verified; without it a consent that depends on lists counts from its record.
    """
    device = receipt.device_key.public_key
    signers = [_signer(signed, controller, device) for signed in receipt.chain]
    pairs = tuple(zip(receipt.records, signers, strict=True))
    record = receipt.state.in_force
    signer = next((who for item, who in pairs if item == record), signers[-1])
    purposes = _kept(receipt, revocations)
    verdict = _verdict(receipt, at, purposes, revocations)
    in_force = purposes if verdict is Verdict.IN_FORCE else frozenset[Purpose]()
    return ReceiptVerdict(verdict, at, in_force, signer, pairs, record is not None and record.processing.names_a_controller)


def _signer(signed: SignedConsent, controller: VerifierKey | None, device: bytes) -> ControllerVerdict:
    if controller is None:
        return ControllerVerdict.NOT_CHECKED
    proof = find_proof(signed, controller, device)
    if proof is None:
        return ControllerVerdict.MISSING
    return ControllerVerdict.SIGNED if proof.delegation is None else ControllerVerdict.DELEGATED


def _kept(receipt: ConsentReceipt, revocations: RevocationList | None) -> frozenset[Purpose]:
    """Return the purposes given and named by no revocation list."""
    record, purposes = receipt.state.in_force, receipt.state.purposes
    entry = revocations.entry_for(receipt.principal_id) if revocations else None
    if record is None or entry is None or not entry.covers(record.recorded_at):
        return purposes
    return frozenset() if entry.purposes is None else purposes - entry.purposes


def _verdict(receipt: ConsentReceipt, at: datetime, kept: frozenset[Purpose], revocations: RevocationList | None) -> Verdict:
    state = receipt.state
    record = state.in_force
    if state.last is not None and state.last.state is Lifecycle.ERASED:
        return Verdict.ERASED
    if record is None or not state.purposes:
        return _without_consent({status for _, status in state.status})
    if at < record.valid_from:
        return Verdict.NOT_YET_VALID
    if at >= record.valid_until:
        return Verdict.EXPIRED
    if not kept:
        return Verdict.REVOKED
    if record.dependence is not None:
        head = revocations.head if revocations and revocations.issuer == record.dependence.issuer else None
        if at >= good_until(record.recorded_at, record.dependence.max_age, head):
            return Verdict.STALE
    return Verdict.IN_FORCE


def _without_consent(statuses: set[ConsentStatus]) -> Verdict:
    order = (
        (ConsentStatus.WITHDRAWN, Verdict.WITHDRAWN),
        (ConsentStatus.EXPIRED, Verdict.EXPIRED),
        (ConsentStatus.REFUSED, Verdict.REFUSED),
    )
    return next((verdict for status, verdict in order if status in statuses), Verdict.REQUESTED)
