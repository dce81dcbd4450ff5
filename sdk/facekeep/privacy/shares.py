"""The two shares that one device gives one neighbour, sealed so that the server in between cannot read them.

HPKE (RFC 9180), base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305. The context is bound by `info`: a sealed
pair that the server moves to another round, sender or receiver does not open. Who sent it is shown by the signature around it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from facekeep.errors import FederationError
from facekeep.privacy.sharing import SHARE_SIZE, Share
from facekeep.privacy.stream import bind

SEALED_SIZE = 32 + 1 + 2 * SHARE_SIZE + 16
_LABEL = b"facekeep shares v1"
_VERSION = b"\x01"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


@dataclass(frozen=True, slots=True)
class SharePair:
    """A neighbour's share of the mask key and of the seed of the own mask, both at its point.

    Never both revealed: with both secrets of one device the server reads its update.
    """

    mask_key: Share
    self_seed: Share

    def __post_init__(self) -> None:
        if self.mask_key.point != self.self_seed.point:
            raise FederationError("federation.malformed", "the two shares of a pair lie at one point")

    def to_bytes(self) -> bytes:
        """Return the version marker and the two values, 67 bytes always."""
        return _VERSION + self.mask_key.to_bytes() + self.self_seed.to_bytes()

    @classmethod
    def parse(cls, point: int, data: bytes) -> SharePair:
        """Return the pair at `point`.

        Raises:
            FederationError: "federation.malformed".
        """
        if data[:1] != _VERSION or len(data) != 1 + 2 * SHARE_SIZE:
            raise FederationError("federation.malformed", "a pair of shares has another length or version")
        return cls(Share.parse(point, data[1 : 1 + SHARE_SIZE]), Share.parse(point, data[1 + SHARE_SIZE :]))


def seal_pair(pair: SharePair, receiver_public: bytes, *, plan: bytes, sender: int, receiver: int) -> bytes:
    """Return `SEALED_SIZE` bytes that only the receiver's exchange key opens.

    Args:
        pair: at the receiver's point.
        receiver_public: X25519 exchange key of the receiver, 32 bytes.
        plan: digest of the plan.
        sender: place of the sender in the cohort.
        receiver: place of the receiver in the cohort.

    Raises:
        FederationError: "federation.malformed" if the key cannot be used.
        ValueError: if the pair lies at another point than the receiver's.
    """
    if pair.mask_key.point != receiver + 1:
        raise ValueError("a pair is sealed for the device at whose point it lies")
    try:
        return _SUITE.encrypt(pair.to_bytes(), X25519PublicKey.from_public_bytes(receiver_public), _info(plan, sender, receiver))
    except ValueError as error:
        raise FederationError("federation.malformed", "an exchange key cannot be used") from error


def open_pair(sealed: bytes, private: bytes, *, plan: bytes, sender: int, receiver: int) -> SharePair:
    """Return the pair that `sender` sealed for `receiver` in this round.

    Raises:
        FederationError: "federation.malformed" if it was sealed for another round, sender or receiver, or was changed.
    """
    if len(sealed) != SEALED_SIZE:
        raise FederationError("federation.malformed", f"a sealed pair of shares has {SEALED_SIZE} bytes")
    try:
        data = _SUITE.decrypt(sealed, X25519PrivateKey.from_private_bytes(private), _info(plan, sender, receiver))
    except (InvalidTag, ValueError) as error:
        raise FederationError("federation.malformed", "a sealed pair of shares does not open in this context") from error
    return SharePair.parse(receiver + 1, data)


def _info(plan: bytes, sender: int, receiver: int) -> bytes:
    return bind(_LABEL, plan, sender.to_bytes(4, "big"), receiver.to_bytes(4, "big"))
