"""Who may be processed, for what, until when. Pure: no clock, no store, no key of its own.

A consent is a chain of signed records about one principal; folding the chain gives what is consented to now. Everything
that is not a clear yes is a no, with the reason as a stable code. Receipts, verdicts and pages, which no gate needs, are in
modules of their own: `facekeep.consent.receipt`, `.verdict`, `.page`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from facekeep.consent.chain import verify_chain
from facekeep.consent.gate import CLOCK_TOLERANCE, ConsentGrant, require_clock, require_consent
from facekeep.consent.lifecycle import ConsentState, ConsentStatus, fold_chain, require_transition
from facekeep.consent.purposes import PURPOSE_TERMS, Purpose
from facekeep.consent.record import ConsentRecord, Lifecycle, SignedConsent, new_record, sign_record
from facekeep.consent.terms import Actor, Dependence, Notice, Party, Processing, WrittenRelease

# A device without a consent policy never needs these, and making a dataclass takes a millisecond of a cold start.
if TYPE_CHECKING:
    from facekeep.consent.controller import (
        ControllerKey,
        ControllerProof,
        Delegation,
        countersign,
        countersign_as_delegate,
        find_proof,
        new_delegation,
        proofs_of,
        with_proofs,
    )
    from facekeep.consent.policy import ConsentPolicy
    from facekeep.consent.revocation import (
        ListHead,
        RevocationList,
        RevokedEntry,
        commitment_of,
        new_revocation_list,
        open_revocation_list,
        require_newer,
        sign_revocation_list,
    )
    from facekeep.consent.verifier import VerifierKey

_HOME_OF = {
    **dict.fromkeys(
        (
            "ControllerKey",
            "ControllerProof",
            "Delegation",
            "countersign",
            "countersign_as_delegate",
            "find_proof",
            "new_delegation",
            "proofs_of",
            "with_proofs",
        ),
        "controller",
    ),
    "ConsentPolicy": "policy",
    **dict.fromkeys(
        (
            "ListHead",
            "RevocationList",
            "RevokedEntry",
            "commitment_of",
            "new_revocation_list",
            "open_revocation_list",
            "require_newer",
            "sign_revocation_list",
        ),
        "revocation",
    ),
    "VerifierKey": "verifier",
}

__all__ = [
    "CLOCK_TOLERANCE",
    "PURPOSE_TERMS",
    "Actor",
    "ConsentGrant",
    "ConsentPolicy",
    "ConsentRecord",
    "ConsentState",
    "ConsentStatus",
    "ControllerKey",
    "ControllerProof",
    "Delegation",
    "Dependence",
    "Lifecycle",
    "ListHead",
    "Notice",
    "Party",
    "Processing",
    "Purpose",
    "RevocationList",
    "RevokedEntry",
    "SignedConsent",
    "VerifierKey",
    "WrittenRelease",
    "commitment_of",
    "countersign",
    "countersign_as_delegate",
    "find_proof",
    "fold_chain",
    "new_delegation",
    "new_record",
    "new_revocation_list",
    "open_revocation_list",
    "proofs_of",
    "require_clock",
    "require_consent",
    "require_newer",
    "require_transition",
    "sign_record",
    "sign_revocation_list",
    "verify_chain",
    "with_proofs",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
