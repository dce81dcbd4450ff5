"""The device key: Ed25519 (RFC 8032) signatures, each bound to what it is a signature of."""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from facekeep.errors import TrustError

SIGNATURE_BYTES = 64


class DeviceKey:
    """An Ed25519 private key that signs in stated domains only.

    Args:
        seed: 32 secret bytes.
    """

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_bytes: bytes = self._private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"DeviceKey({key_fingerprint(self.public_bytes)})"

    def sign(self, domain: str, message: bytes) -> bytes:
        """Return the 64-byte signature of `message` as a document of `domain`."""
        return self._private.sign(_in_domain(domain, message))

    def sign_note(self, text: bytes) -> bytes:
        """Return the signature of the text of a C2SP signed note, which by its specification has no domain in front."""
        return self._private.sign(text)


def verify_signature(public_key: bytes, domain: str, message: bytes, signature: bytes) -> None:
    """Return if `signature` was made by the holder of `public_key` over `message` in `domain`.

    Raises:
        TrustError: "trust.bad_signature".
    """
    verify_raw(public_key, _in_domain(domain, message), signature)


def verify_raw(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Return if `signature` is a plain Ed25519 signature of `message`.

    Raises:
        TrustError: "trust.bad_signature".
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise TrustError("trust.bad_signature", "The signature does not verify under the key expected.") from None


def key_fingerprint(public_key: bytes) -> str:
    """Return the first 16 hexadecimal digits of SHA-256 of a public key: to show and to compare, never to trust."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def _in_domain(domain: str, message: bytes) -> bytes:
    # A signature made for one kind of document must never pass as one for another kind.
    if "\n" in domain or not domain.isascii():
        raise ValueError("a domain is one line of ASCII")
    return b"facekeep " + domain.encode("ascii") + b"\n" + message
