"""Who may be processed, for what, until when. Pure: no clock, no store, no key of its own.

A consent is a chain of signed records about one principal; folding the chain gives what is consented to now. Everything
that is not a clear yes is a no, with the reason as a stable code.
"""

from facekeep.consent.gate import ConsentGrant, ConsentState, ConsentStatus, fold_chain, require_clock, require_consent
from facekeep.consent.record import ConsentRecord, Lifecycle, Notice, Purpose, SignedConsent, new_record, sign_record, verify_chain

__all__ = [
    "ConsentGrant",
    "ConsentRecord",
    "ConsentState",
    "ConsentStatus",
    "Lifecycle",
    "Notice",
    "Purpose",
    "SignedConsent",
    "fold_chain",
    "new_record",
    "require_clock",
    "require_consent",
    "sign_record",
    "verify_chain",
]
