"""Results under the two-person rule, into the vault and out of it again: by pseudonym, so that an erased subject is nobody."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from facekeep.audit import AuditEvent
from facekeep.biometric import Candidate, ComparisonScore, Frame, Identification, OperatingPoint
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.confirmation import (
    MOST_WAITING,
    ConfirmationRule,
    PendingIdentification,
    Roster,
    SealedIdentification,
    padded_result,
    parse_waiting,
    waiting_to_bytes,
)
from facekeep.errors import ConfirmationError, VaultError
from facekeep.flows.context import FlowContext
from facekeep.flows.standing import Standing
from facekeep.randomness import SystemRandomness
from facekeep.vault import VaultTransaction

RULE_SETTING: Final = "identification.rule"
ROSTER_SETTING: Final = "identification.operators"
WAITING: Final = "identifications"


def read_rule(context: FlowContext, transaction: VaultTransaction) -> ConfirmationRule:
    """Return the stricter of the rule kept in the vault and that of the settings.

    Raises:
        ConfirmationError: "confirmation.invalid_policy".
    """
    settings = context.settings
    asked = ConfirmationRule(settings.confirmations, settings.confirmation_term)
    stored = transaction.read_setting(RULE_SETTING)
    return asked if stored is None else ConfirmationRule.parse(stored).stricter(asked)


def read_roster(transaction: VaultTransaction) -> Roster:
    """Return the operators of this device.

    Raises:
        ConfirmationError: "confirmation.invalid_operator".
    """
    stored = transaction.read_setting(ROSTER_SETTING)
    return Roster() if stored is None else Roster.parse(stored)


def require_rule_can_be_kept(context: FlowContext) -> ConfirmationRule:
    """Return the rule in force, if there are operators enough to ever open a result; looked at before the camera is.

    Raises:
        ConfirmationError: "confirmation.too_few_operators", "confirmation.too_many".
    """
    with context.vault.transaction(durable=False) as transaction:
        rule = read_rule(context, transaction)
    if rule.confirmations:
        sweep(context)
        with context.vault.transaction(durable=False) as transaction:
            _require_room(transaction, rule)
    return rule


def commit_to_input(frame: Frame, salt: bytes) -> str:
    """Return a commitment to the picture searched for: whoever has picture and salt can check it, nobody else can guess it."""
    message = f"{frame.height}x{frame.width}\n".encode() + frame.pixels.tobytes()
    return f"hmac-sha256:{hmac.new(salt, message, hashlib.sha256).hexdigest()}"


def seal_result(
    transaction: VaultTransaction,
    rule: ConfirmationRule,
    result: Identification,
    commitments: Mapping[str, str],
    details: Mapping[str, str | int | bool],
    salt: bytes,
    now: datetime,
) -> PendingIdentification:
    """Seal a result in the vault and return what may be seen of it.

    Args:
        transaction: durable.
        rule: in force when the search began.
        result: what it found.
        commitments: name of each candidate -> pseudonym in the trail.
        details: what the trail says of the search, now and when it is opened; nothing of the result.
        salt: the one the input was committed to with.
        now: when the search ended.

    Raises:
        ConfirmationError: "confirmation.too_few_operators", "confirmation.too_many".
    """
    roster = _require_room(transaction, rule)
    now = parse_rfc3339(to_rfc3339(Standing(transaction).judged(now)))
    sealed = SealedIdentification(
        id=SystemRandomness().token(16).hex(),
        created_at=now,
        expires_at=now + rule.term,
        required=rule.confirmations,
        eligible={operator.id: operator.public_key.hex() for operator in roster.operators},
        details=details,
        result=padded_result(_to_fields(result, commitments)),
        salt=salt,
    )
    write_waiting(transaction, {**read_waiting(transaction), sealed.id: sealed})
    seen = sealed.to_public()
    until = to_rfc3339(seen.expires_at)
    shown: dict[str, str | int | bool] = {
        "pending": seen.id,
        "commitment": seen.commitment,
        "required": seen.required,
        "until": until,
    }
    transaction.append_event(AuditEvent("identification.sealed", details={**details, **shown}))
    return seen


def open_result(sealed: SealedIdentification, names: Mapping[str, str]) -> Identification:
    """Return the result.

    Args:
        sealed: what waited.
        names: pseudonym -> name of those whose consent to identification holds now.

    Raises:
        ConfirmationError: "confirmation.void" if a candidate is not among them.
    """
    if not sealed.subjects <= names.keys():
        raise ConfirmationError(
            "confirmation.void", "Somebody in the result withdrew, was erased or may not be searched any more. It was destroyed."
        )
    return _from_fields(sealed.result, names)


def read_waiting(transaction: VaultTransaction) -> dict[str, SealedIdentification]:
    """Return everything that waits, by id.

    Raises:
        VaultError: "vault.sealed", "vault.corrupt".
    """
    stored = transaction.read_sealed(WAITING)
    return {} if stored is None else parse_waiting(stored)


def write_waiting(transaction: VaultTransaction, waiting: Mapping[str, SealedIdentification]) -> None:
    """Keep what waits, in place of what was kept."""
    transaction.write_sealed(WAITING, waiting_to_bytes(waiting.values()) if waiting else None)


def sweep(context: FlowContext) -> None:
    """Destroy results whose time has passed, and those about somebody who is not in the vault any more."""
    with context.vault.transaction(durable=False) as transaction:
        if not _due(transaction, context.clock.now()):
            return
    with context.vault.transaction() as transaction:
        waiting = read_waiting(transaction)
        for sealed in _due(transaction, context.clock.now()):
            destroy(transaction, waiting.pop(sealed.id))
        write_waiting(transaction, waiting)


def destroy(transaction: VaultTransaction, sealed: SealedIdentification) -> None:
    """Record that a result was destroyed unopened; the caller writes what is left."""
    details: dict[str, str | int | bool] = {"pending": sealed.id, "count": len(sealed.confirmations)}
    transaction.append_event(AuditEvent("identification.destroyed", details=details))


def is_over(transaction: VaultTransaction, sealed: SealedIdentification, now: datetime) -> bool:
    """Whether the time to confirm has passed; a clock set back gives no more of it."""
    return Standing(transaction).judged(now) >= sealed.expires_at


def _due(transaction: VaultTransaction, now: datetime) -> list[SealedIdentification]:
    waiting = read_waiting(transaction)
    if not waiting:
        return []
    here = {handle.commitment for handle in transaction.subjects()}
    return [item for item in waiting.values() if is_over(transaction, item, now) or not item.subjects <= here]


def _require_room(transaction: VaultTransaction, rule: ConfirmationRule) -> Roster:
    roster = read_roster(transaction)
    if len(roster.operators) < rule.confirmations:
        raise ConfirmationError(
            "confirmation.too_few_operators",
            f"{rule.confirmations} operators have to confirm an identification; {len(roster.operators)} are enrolled. Add them.",
        )
    if len(read_waiting(transaction)) >= MOST_WAITING:
        raise ConfirmationError(
            "confirmation.too_many", f"{MOST_WAITING} identifications wait already. Have them confirmed, or let them expire."
        )
    return roster


def _to_fields(result: Identification, commitments: Mapping[str, str]) -> dict[str, Any]:
    point = result.operating_point
    # As text, for canonical JSON holds no floats; `repr` is exact.
    rates = [point.threshold, point.fmr, *point.fmr_interval, point.fnmr, *point.fnmr_interval]
    return {
        "outcome": result.outcome,
        "candidates": [[commitments[item.subject], repr(item.score.value)] for item in result.candidates],
        "fpir": repr(result.target_fpir),
        "gallery": result.gallery_size,
        "waiting": result.waiting,
        "rates": [repr(float(rate)) for rate in rates],
        "dataset": point.dataset,
        "counts": [point.mated, point.non_mated],
    }


def _from_fields(fields: Mapping[str, Any], names: Mapping[str, str]) -> Identification:
    try:
        threshold, fmr, fmr_low, fmr_high, fnmr, fnmr_low, fnmr_high = (float(rate) for rate in fields["rates"])
        mated, non_mated = fields["counts"]
        point = OperatingPoint(
            threshold, fmr, (fmr_low, fmr_high), fnmr, (fnmr_low, fnmr_high), fields["dataset"], mated, non_mated
        )
        candidates = tuple(Candidate(names[who], ComparisonScore(float(score))) for who, score in fields["candidates"])
        fpir, sizes = float(fields["fpir"]), (fields["gallery"], fields.get("waiting", 0))
        return Identification(fields["outcome"], candidates, point, fpir, *sizes)
    except (KeyError, TypeError, ValueError):
        raise VaultError("vault.corrupt", "A sealed result is not of its form.") from None
