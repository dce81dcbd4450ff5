"""The consent gate in front of every flow: reads the subject's chain from the vault and asks `facekeep.consent`."""

from __future__ import annotations

from facekeep.clock import Clock
from facekeep.consent import ConsentGrant, ConsentRecord, Purpose, require_clock, require_consent, verify_chain
from facekeep.errors import ConsentError
from facekeep.flows.standing import Standing
from facekeep.identifiers import require_subject_id
from facekeep.vault import SQLiteVault, SubjectHandle, VaultTransaction


def read_records(vault: SQLiteVault, transaction: VaultTransaction, handle: SubjectHandle) -> tuple[ConsentRecord, ...]:
    """Return the chain of a subject, every signature, link and transition checked.

    Raises:
        ConsentError: "consent.corrupt", "consent.illegal_transition".
    """
    return verify_chain(transaction.consents(handle), handle.principal_id, vault.device_key.public_bytes)


def require_grant(
    vault: SQLiteVault, transaction: VaultTransaction, clock: Clock, subject: str, purpose: Purpose
) -> tuple[ConsentGrant, SubjectHandle]:
    """Return the grant in force for exactly this subject and purpose, now, under the consent policy of the device.

    Raises:
        ConsentError: with the code of the reason; the caller MUST NOT go on.
    """
    standing = Standing(transaction)
    now, last_event = clock.now(), standing.last_event
    handle = transaction.find_subject(require_subject_id(subject))
    if handle is None:
        require_clock(now, last_event)
        raise ConsentError(
            "consent.none", "No consent is on record for this subject: never given, or erased. Record a grant first."
        )
    chain, device_key = transaction.consents(handle), vault.device_key.public_bytes
    records = verify_chain(chain, handle.principal_id, device_key)
    grant = require_consent(records, subject=subject, purpose=purpose, now=now, last_event=last_event)
    signed = chain[records.index(grant.record)]
    standing.require(grant.record, signed, device_key=device_key, now=require_clock(now, last_event))
    return grant, handle
