"""Identifiers: what callers call a subject, and what we call our own records."""

from __future__ import annotations

import unicodedata
import uuid

from facekeep.errors import VaultError

_LONGEST_SUBJECT_BYTES = 256


def require_subject_id(subject: str) -> str:
    """Return `subject` if it can name a subject.

    A subject identifier is chosen by the application: 1 to 256 bytes of UTF-8, printable, no white space at either end.

    Raises:
        VaultError: "vault.invalid_identifier".
    """
    if not isinstance(subject, str):
        raise VaultError("vault.invalid_identifier", f"A subject identifier is a string, not {type(subject).__name__}.")
    try:
        size = len(subject.encode("utf-8"))
    except UnicodeEncodeError:
        size = 0
    # Two spellings of one name would be two subjects, and withdrawing one would leave the other.
    if not unicodedata.is_normalized("NFC", subject):
        raise VaultError("vault.invalid_identifier", "A subject identifier is in Unicode normal form C: normalise it (NFC).")
    if not 1 <= size <= _LONGEST_SUBJECT_BYTES or not subject.isprintable() or subject != subject.strip():
        raise VaultError(
            "vault.invalid_identifier",
            f"A subject identifier is 1 to {_LONGEST_SUBJECT_BYTES} bytes of printable text without outer spaces; "
            f"found {size} bytes that do not qualify.",
        )
    return subject


def new_record_id() -> str:
    """Return a fresh random identifier, `urn:uuid:` and a version 4 UUID (RFC 9562)."""
    return uuid.uuid4().urn
