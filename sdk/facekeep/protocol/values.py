"""Spellings that several documents share: real numbers, keys, digests and names; and notes signed by one of several keys."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final

from facekeep.canonical import HEX_DIGEST
from facekeep.errors import LogError, TrustError
from facekeep.signing import verify_raw
from facekeep.tlog import NoteKey, NoteKind, SignedNote

NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


def to_decimal(value: float) -> str:
    """Return the one spelling of a finite real number in a document: the shortest that reads back as the same double.

    Raises:
        ValueError: if it is not finite.
    """
    if not math.isfinite(value):
        raise ValueError("a number has to be finite")
    return repr(float(value))


def parse_decimal(text: object) -> float:
    """Return the number that `to_decimal` wrote.

    Raises:
        ValueError: for every other spelling.
    """
    if not isinstance(text, str) or len(text) > 32:
        raise ValueError("a real number is written as a short text")
    value = float(text)
    if to_decimal(value) != text:
        raise ValueError("a real number has one spelling")
    return value


def require_digest(text: object) -> str:
    """Return `text` if it is 64 lower-case hexadecimal digits.

    Raises:
        ValueError: if it is not.
    """
    if not isinstance(text, str) or not HEX_DIGEST.fullmatch(text):
        raise ValueError("a digest is 64 hexadecimal digits")
    return text


def require_whole(name: str, value: object, least: int, most: int) -> int:
    """Return `value` if it is an integer between the bounds.

    Raises:
        ValueError: if it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} is a whole number from {least} to {most}")
    return value


def require_keys(name: str, keys: Iterable[NoteKey]) -> tuple[NoteKey, ...]:
    """Return Ed25519 note keys without doubles, at least one and at most 16.

    Raises:
        ValueError: if they are not that.
    """
    found = tuple(keys)
    # A key listed twice would count as two signers.
    if not 1 <= len(found) <= 16 or len({key.public_key for key in found}) != len(found):
        raise ValueError(f"{name} are 1 to 16 different keys")
    if any(key.kind is not NoteKind.ED25519 for key in found):
        raise ValueError(f"{name} are Ed25519 note keys")
    return found


def require_signed(note: str, keys: Iterable[NoteKey], quorum: int = 1) -> str:
    """Return the text of a C2SP signed note that at least `quorum` of `keys` signed; signatures by others are ignored.

    Raises:
        TrustError: "trust.malformed", or "trust.bad_signature" for too few signers and for a false signature of a known key.
    """
    try:
        signed = SignedNote.parse(note)
    except LogError as error:
        raise TrustError("trust.malformed", f"The signed document is not a note: {error.args[0]}") from None
    signers = set()
    for key in keys:
        for line in signed.signatures:
            if line.is_by(key):
                verify_raw(key.public_key, signed.text.encode(), line.signature)
                signers.add(key.public_key)
    if len(signers) < quorum:
        raise TrustError("trust.bad_signature", f"{len(signers)} of the keys in the policy signed; {quorum} have to.")
    return signed.text
