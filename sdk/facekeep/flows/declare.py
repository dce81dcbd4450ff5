"""A group that a subject declares for reports by groups. Kept sealed under calibration statistics, and nowhere else.

Steps:
    1 require consent for calibration statistics
    2 in one durable transaction: seal it in the place of what was declared before, or forget it and retire the key it was under
    3 append to the audit trail that something is held, or no more; never what
"""

from __future__ import annotations

from facekeep.audit import AuditEvent
from facekeep.consent import Purpose
from facekeep.errors import ConsentError, FacekeepError, FederationError
from facekeep.flows.context import FlowContext
from facekeep.flows.gate import require_grant
from facekeep.identifiers import require_subject_id
from facekeep.protocol.statistics import require_group
from facekeep.vault import SubjectHandle, VaultTransaction

EVENT = "group.declared"


def declare(context: FlowContext, subject: str, group: str) -> None:
    """Keep the group that `subject` declares.

    Raises:
        FederationError: "federation.malformed" for a name that no group has.
        ConsentError, VaultError: with a stable code; nothing is kept then.
    """
    found: list[SubjectHandle] = []

    def keep(transaction: VaultTransaction) -> None:
        # 1 consent
        _, handle = require_grant(context.vault, transaction, context.clock, subject, Purpose.CALIBRATION_STATISTICS)
        found.append(handle)
        # 2 seal
        transaction.declare(handle, group)

    try:
        require_group(group)
        # 3 append
        context.vault.shred(keep, lambda epoch: [declared_event(found[-1], is_held=True)])
    except ValueError as error:
        raise FederationError("federation.malformed", f"Such a group cannot be declared: {error}.") from None
    except FacekeepError as error:
        context.record_failure(EVENT, error, found[-1].commitment if found else None)
        raise


def forget_declared(context: FlowContext, subject: str) -> None:
    """Destroy what `subject` declared, if anything, so that no copy opens. Takes no consent.

    Raises:
        ConsentError: "consent.none". VaultError: with a stable code.
    """
    found: list[SubjectHandle] = []

    def drop(transaction: VaultTransaction) -> None:
        handle = transaction.find_subject(require_subject_id(subject))
        if handle is None:
            raise ConsentError("consent.none", "Nothing is on record for this subject: never given, or erased already.")
        if transaction.declare(handle, None):
            found.append(handle)

    context.vault.shred(drop, lambda epoch: [declared_event(handle, is_held=False) for handle in found])


def declared_event(handle: SubjectHandle, *, is_held: bool) -> AuditEvent:
    """Return the entry that says whether something is held. What was declared is nobody's business who reads the trail."""
    return AuditEvent(EVENT, subject=handle.commitment, details={"held": is_held})
