"""A chain of consent records: every signature, every link, every step from one to the next."""

from __future__ import annotations

from collections.abc import Sequence

from facekeep.consent.lifecycle import ConsentState, require_transition
from facekeep.consent.record import RECORD_DOMAIN, ConsentRecord, SignedConsent
from facekeep.errors import ConsentError, TrustError
from facekeep.signing import verify_signature


def verify_chain(chain: Sequence[SignedConsent], principal_id: str, public_key: bytes) -> tuple[ConsentRecord, ...]:
    """Return the records of a chain after checking every signature, every link and every transition.

    Raises:
        ConsentError: "consent.corrupt" if one was changed, dropped, reordered or belongs to another principal;
            "consent.illegal_transition" if the device signed a step that the life of a consent does not have.
    """
    records: list[ConsentRecord] = []
    previous: str | None = None
    state = ConsentState()
    for signed in chain:
        try:
            verify_signature(public_key, RECORD_DOMAIN, signed.body, signed.signature)
        except TrustError:
            raise ConsentError(
                "consent.corrupt", "A consent record is not signed by this device; nothing is allowed by it."
            ) from None
        record = ConsentRecord.parse(signed.body)
        if record.principal_id != principal_id or record.previous != previous:
            raise ConsentError("consent.corrupt", "The chain of consent records is broken; nothing is allowed by it.")
        require_transition(state, record)
        state = state.after(record)
        previous = signed.digest
        records.append(record)
    return tuple(records)
