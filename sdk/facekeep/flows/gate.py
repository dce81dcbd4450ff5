"""The consent gate in front of every flow: reads the subject's chain from the vault and asks `facekeep.consent`."""

from __future__ import annotations

from facekeep.clock import Clock
from facekeep.consent import ConsentGrant, ConsentRecord, Purpose, require_clock, require_consent, verify_chain
from facekeep.errors import ConsentError
from facekeep.identifiers import require_subject_id
from facekeep.vault import SQLiteVault, SubjectHandle, VaultTransaction


def read_records(vault: SQLiteVault, transaction: VaultTransaction, handle: SubjectHandle) -> tuple[ConsentRecord, ...]:
    """Return the chain of a subject, every signature and link checked.

    Raises:
        ConsentError: "consent.corrupt".
    """
    return verify_chain(transaction.consents(handle), handle.principal_id, vault.device_key.public_bytes)


def require_grant(
    vault: SQLiteVault, transaction: VaultTransaction, clock: Clock, subject: str, purpose: Purpose
) -> tuple[ConsentGrant, SubjectHandle]:
    """Return the grant in force for exactly this subject and purpose, now.

    Raises:
        ConsentError: with the code of the reason; the caller MUST NOT go on.
    """
    now, last_event = clock.now(), transaction.last_event_time
    handle = transaction.find_subject(require_subject_id(subject))
    if handle is None:
        require_clock(now, last_event)
        raise ConsentError(
            "consent.none", "No consent is on record for this subject: never given, or erased. Record a grant first."
        )
    records = read_records(vault, transaction, handle)
    grant = require_consent(records, subject=subject, purpose=purpose, now=now, last_event=last_event)
    return grant, handle
