"""Secrets that are shown once and kept as hashes: enrolment codes and tokens.

Form: PREFIX-ID-SECRET in Crockford's base 32. The ID finds the row; the secret (120 bits) is compared with its scrypt hash
(RFC 7914, N = 2^13, r = 8, p = 1: 8 MiB, some 25 ms) in constant time.
"""

from __future__ import annotations

import hmac
import re
import threading
from dataclasses import dataclass

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from facekeep.randomness import Randomness

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_FORM = re.compile(r"([a-z]{2,8})-([0-9A-Z]{8})-([0-9A-Z]{24})")
_ID_CHARACTERS, _SECRET_CHARACTERS = 8, 24
# A secret nobody was given: what an unknown ID is compared with, so that it takes as long as a known one.
_NOBODY = (bytes(16), bytes(32))
# Each takes 8 MiB: whoever sends wrong secrets in masses waits.
_HASHING = threading.BoundedSemaphore(4)


@dataclass(frozen=True, slots=True, repr=False)
class Presented:
    """A secret that somebody showed.

    Attributes:
        id: public part.
        secret: what proves it.
    """

    id: str
    secret: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """A fresh secret.

    Attributes:
        text: to show, once.
        id: public part.
        salt: 16 bytes.
        hash: 32 bytes.
    """

    text: str
    id: str
    salt: bytes
    hash: bytes


def issue(prefix: str, randomness: Randomness) -> Issued:
    """Return a fresh secret and the hash to keep of it."""
    drawn = "".join(_ALPHABET[byte & 31] for byte in randomness.token(_ID_CHARACTERS + _SECRET_CHARACTERS))
    identifier, secret = drawn[:_ID_CHARACTERS], drawn[_ID_CHARACTERS:]
    salt = randomness.token(16)
    return Issued(f"{prefix}-{identifier}-{secret}", identifier, salt, _hash(salt, secret.encode()))


def parse_secret(prefix: str, text: str) -> Presented | None:
    """Return the parts of a secret, or None for anything else. Letters may be typed small."""
    head, _, rest = text.partition("-")
    match = _FORM.fullmatch(f"{head.lower()}-{rest.upper()}") if text.isascii() else None
    if match is None or match[1] != prefix:
        return None
    return Presented(match[2], match[3].encode())


def is_secret(presented: Presented, salt: bytes | None, digest: bytes | None) -> bool:
    """Tell whether the secret has this hash; with None as quick as for a wrong secret, and never so."""
    known_salt, known = (salt, digest) if salt is not None and digest is not None else _NOBODY
    return hmac.compare_digest(_hash(known_salt, presented.secret), known) and digest is not None


def _hash(salt: bytes, secret: bytes) -> bytes:
    with _HASHING:
        return Scrypt(salt=salt, length=32, n=2**13, r=8, p=1).derive(secret)
