"""Confirming a sealed identification, and opening it: the two-person rule.

Steps:
    0 destroy what is due: results whose time has passed, or about somebody who is gone
    1 find the identification that waits
    2 confirm: the signature of an operator who was enrolled when the search ran, and each operator once
    3 open only with enough confirmations by operators who still are operators
    4 require that everybody in the result still consents to identification; else the result is destroyed
    5 append to the audit trail, success or refusal, and let go of what was sealed; no entry, no result
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from facekeep.audit import AuditEvent
from facekeep.biometric import Identification
from facekeep.confirmation import ConfirmationRule, PendingIdentification, SealedIdentification
from facekeep.errors import ConfirmationError, ConsentError, FacekeepError
from facekeep.flows.context import FlowContext
from facekeep.flows.sealing_results import (
    RULE_SETTING,
    destroy,
    is_over,
    open_result,
    read_roster,
    read_rule,
    read_waiting,
    sweep,
    write_waiting,
)
from facekeep.vault import VaultTransaction


@dataclass(frozen=True, slots=True)
class ConfirmedIdentification:
    """A result that was opened.

    Attributes:
        identification: who it is, if anyone.
        operators: who confirmed, in order.
        input_commitment: what the audit trail has of the picture.
        input_salt: 32 bytes: whoever kept the picture shows with it that it was this one. Kept nowhere else.
    """

    identification: Identification
    operators: tuple[str, ...]
    input_commitment: str
    input_salt: bytes = field(repr=False)


class Confirmations:
    """The identifications that wait on a device: `device.confirmations`."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context

    def rule(self) -> ConfirmationRule:
        """Return the rule in force: the stricter of what was adopted and what the settings say."""
        with self._context.vault.transaction(durable=False) as transaction:
            return read_rule(self._context, transaction)

    def adopt(self, confirmations: int, *, term: timedelta = timedelta(hours=1)) -> None:
        """Make this the rule of every identification from now on, whoever opens the device. What waits keeps its own.

        Args:
            confirmations: 0 for no rule, or 2 to 5 different operators.
            term: how long a result waits for them.

        Raises:
            ConfirmationError: "confirmation.invalid_policy".
        """
        rule = ConfirmationRule(confirmations, term)
        with self._context.vault.transaction() as transaction:
            if transaction.read_setting(RULE_SETTING) != rule.to_bytes():
                transaction.write_setting(RULE_SETTING, rule.to_bytes())
                policy = f"confirmations:{confirmations},term:{int(term.total_seconds())}"
                transaction.append_event(AuditEvent("policy.changed", details={"kind": "identification", "policy": policy}))

    def pending(self) -> tuple[PendingIdentification, ...]:
        """Return what waits, the oldest first."""
        sweep(self._context)
        with self._context.vault.transaction(durable=False) as transaction:
            waiting = read_waiting(transaction)
        return tuple(sorted((item.to_public() for item in waiting.values()), key=lambda item: item.created_at))

    def confirm(self, pending_id: str, operator: str, signature: bytes) -> PendingIdentification:
        """Count an operator's confirmation.

        Args:
            pending_id: of the `PendingIdentification`.
            operator: who signed.
            signature: `facekeep.confirmation.sign_confirmation` over its commitment with the operator's key.

        Raises:
            ConfirmationError: "confirmation.unknown", "confirmation.expired", "confirmation.unknown_operator",
                "confirmation.bad_signature", "confirmation.same_operator".
        """
        return confirm(self._context, pending_id, operator, signature)

    def open(self, pending_id: str) -> ConfirmedIdentification:
        """Return the result, once, and destroy what was sealed.

        Raises:
            ConfirmationError: "confirmation.unknown", "confirmation.expired", "confirmation.pending", "confirmation.void".
        """
        return open_identification(self._context, pending_id)


def confirm(context: FlowContext, pending_id: str, operator: str, signature: bytes) -> PendingIdentification:
    """Return what waits after one more confirmation: see `Confirmations.confirm`."""
    known: dict[str, str | int | bool] = {}
    try:
        with context.vault.transaction() as transaction:
            # 1 find
            waiting, sealed = _find(context, transaction, pending_id)
            known["pending"] = sealed.id
            # 2 confirm
            roster = read_roster(transaction)
            if roster.find(operator) is not None:
                known["operator"] = operator
            sealed = sealed.confirmed(operator, signature, roster)
            write_waiting(transaction, {**waiting, sealed.id: sealed})
            # 5 append
            details = {**known, "count": len(sealed.confirmations)}
            transaction.append_event(AuditEvent("identification.confirmed", details=details))
    except ConfirmationError as error:
        context.record_refusal(AuditEvent("identification.confirmed", error.code, details=known), error)
        # 0 destroy
        sweep(context)
        raise
    return sealed.to_public()


def open_identification(context: FlowContext, pending_id: str) -> ConfirmedIdentification:
    """Return an opened result: see `Confirmations.open`."""
    known: dict[str, str | int | bool] = {}
    result: Identification | None = None
    void: ConfirmationError | None = None
    try:
        while True:
            # 4 who consents is read first, and the result is opened only against that state of the vault
            names, revision = _names(context)
            with context.vault.transaction() as transaction:
                # 1 find
                waiting, sealed = _find(context, transaction, pending_id)
                known["pending"] = sealed.id
                # 3 enough
                operators = sealed.require_confirmed(read_roster(transaction))
                if transaction.revision == revision:
                    del waiting[sealed.id]
                    write_waiting(transaction, waiting)
                    try:
                        result = open_result(sealed, names)
                    except ConfirmationError as error:
                        destroy(transaction, sealed)
                        void = error
                        break
                    # 5 append
                    transaction.append_event(_opened_event(sealed, result, operators))
                    break
    except FacekeepError as error:
        context.record_refusal(AuditEvent("identification", error.code, details=known), error)
        # 0 destroy
        sweep(context)
        raise
    if void is not None or result is None:
        raise _recorded(context, void, known)
    return ConfirmedIdentification(result, operators, str(sealed.details["input"]), sealed.salt)


def _recorded(context: FlowContext, void: ConfirmationError | None, known: dict[str, str | int | bool]) -> ConfirmationError:
    if void is None:
        raise AssertionError("a result was opened, or is void")
    context.record_refusal(AuditEvent("identification", void.code, details=known), void)
    return void


def _opened_event(sealed: SealedIdentification, result: Identification, operators: tuple[str, ...]) -> AuditEvent:
    # With the four fields of Article 12(3) of the AI Act: period of use, reference database, input, who verified.
    details = {
        **sealed.details,
        "result": result.outcome,
        "pending": sealed.id,
        "operators": ",".join(operators[: sealed.required]),
    }
    found = next(iter(sealed.subjects)) if result.outcome == "identified" else None
    return AuditEvent("identification", subject=found, details=details)


def _names(context: FlowContext) -> tuple[dict[str, str], int]:
    try:
        consenting = context.gallery.require_consenting(context.vault, context.clock)
    except ConsentError as error:
        if error.code in ("consent.clock_set_back", "consent.corrupt"):
            raise
        # Nobody may be searched: a result that names somebody is void, one that names nobody is not.
        with context.vault.transaction(durable=False) as transaction:
            return {}, transaction.revision
    return {handle.commitment: handle.name for handle in consenting.handles.values()}, consenting.revision


def _find(
    context: FlowContext, transaction: VaultTransaction, pending_id: str
) -> tuple[dict[str, SealedIdentification], SealedIdentification]:
    waiting = read_waiting(transaction)
    sealed = waiting.get(pending_id)
    if sealed is None:
        raise ConfirmationError(
            "confirmation.unknown", "No identification of this name waits: it was opened, it was destroyed, or there never was one."
        )
    if is_over(transaction, sealed, context.clock.now()):
        raise ConfirmationError("confirmation.expired", "The time to confirm has passed; the result is destroyed unopened.")
    return waiting, sealed
