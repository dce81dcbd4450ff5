"""What a device answers: each signed in a domain of its own over the digest of the plan and the device's place.

A signature of one round, one step or one device fits no other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.privacy.shares import SEALED_SIZE
from facekeep.privacy.sharing import SHARE_SIZE
from facekeep.protocol.codec import Reader, Writer
from facekeep.protocol.plan import MOST_COHORT, MOST_NEIGHBOURS, RoundPlan
from facekeep.protocol.requests import DIGEST_BYTES, NONCE_BYTES, Advert, Challenge, MaskedStatement
from facekeep.protocol.roster import RosterEntry
from facekeep.signing import SIGNATURE_BYTES, DeviceKey, verify_signature

_INTRODUCTION, _PREPARED, _MASKED, _CONFIRMED, _REVEALED, _ABANDONED = 0x02, 0x11, 0x21, 0x31, 0x41, 0x49
_BLANK: Final = bytes(SIGNATURE_BYTES)
_COMMITMENT: Final = b"facekeep seed commitment v1\n"


@dataclass(frozen=True, slots=True)
class Introduction:
    """HELLO: who this device is.

    Attributes:
        entry: its keys as the roster has them.
        signature: over the challenge and the keys.
    """

    entry: RosterEntry
    signature: bytes = _BLANK

    def signed(self, key: DeviceKey, challenge: Challenge) -> Introduction:
        """Return it signed."""
        return replace(self, signature=key.sign("federation.hello/v1", challenge.to_bytes() + self.entry.to_bytes()))

    def require_signed(self, challenge: Challenge) -> None:
        """Return if the holder of the device key answered this challenge. Raises: TrustError: "trust.bad_signature"."""
        message = challenge.to_bytes() + self.entry.to_bytes()
        verify_signature(self.entry.device_key, "federation.hello/v1", message, self.signature)

    def to_bytes(self) -> bytes:
        """Return the message."""
        keys = self.entry.device_key + self.entry.exchange_key
        return Writer(_INTRODUCTION).fixed(keys, 64).fixed(self.signature, SIGNATURE_BYTES).to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> Introduction:
        """Return the message of its bytes. Raises: FederationError: "federation.malformed"."""
        reader = Reader(data, _INTRODUCTION, 256)
        found = cls(RosterEntry(reader.fixed(32), reader.fixed(32)), reader.fixed(SIGNATURE_BYTES))
        reader.end()
        return found


@dataclass(frozen=True, slots=True)
class Prepared:
    """PREPARE: this device takes part.

    Attributes:
        place: its place in the cohort.
        mask_key: X25519 public key of this round.
        commitment: to the seed of its own mask: the server sees whether what the shares give is that seed.
        sealed: a pair of shares for each neighbour, in order of their places.
        signature: over all of it.
    """

    place: int
    mask_key: bytes
    commitment: bytes
    sealed: tuple[bytes, ...]
    signature: bytes = _BLANK

    def signed(self, key: DeviceKey, plan: bytes) -> Prepared:
        """Return it signed."""
        return replace(self, signature=key.sign("federation.prepared/v1", self._statement(plan)))

    def require_signed(self, device_key: bytes, plan: bytes) -> None:
        """Return if `device_key` signed. Raises: TrustError: "trust.bad_signature"."""
        verify_signature(device_key, "federation.prepared/v1", self._statement(plan), self.signature)

    def advert_for(self, slot: int) -> Advert:
        """Return what the neighbour number `slot` is shown of this."""
        digest = hashlib.sha256(b"".join(self.sealed)).digest()
        return Advert(self.place, self.mask_key, self.commitment, digest, self.signature, self.sealed[slot])

    def _statement(self, plan: bytes) -> bytes:
        return _prepared_statement(plan, self.advert_for(0))

    def to_bytes(self) -> bytes:
        """Return the message."""
        writer = Writer(_PREPARED).number(self.place, 4).fixed(self.mask_key, 32).fixed(self.commitment, 32)
        writer.number(len(self.sealed), 2).fixed(b"".join(self.sealed), SEALED_SIZE * len(self.sealed))
        return writer.fixed(self.signature, SIGNATURE_BYTES).to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> Prepared:
        """Return the message of its bytes. Raises: FederationError: "federation.malformed"."""
        reader = Reader(data, _PREPARED, 256 + MOST_NEIGHBOURS * SEALED_SIZE)
        place, mask_key, commitment = reader.number(4, MOST_COHORT), reader.fixed(32), reader.fixed(32)
        sealed = tuple(reader.fixed(SEALED_SIZE) for _ in range(reader.number(2, MOST_NEIGHBOURS)))
        found = cls(place, mask_key, commitment, sealed, reader.fixed(SIGNATURE_BYTES))
        reader.end()
        return found


def require_advert(advert: Advert, device_key: bytes, plan: bytes) -> None:
    """Return if the neighbour signed what its advert says. Raises: TrustError: "trust.bad_signature"."""
    verify_signature(device_key, "federation.prepared/v1", _prepared_statement(plan, advert), advert.signature)


def seed_commitment(plan: bytes, place: int, seed: bytes) -> bytes:
    """Return the commitment to the 32-byte seed of a device's own mask; it hides the seed as SHA-256 hides 32 random bytes."""
    return hashlib.sha256(_COMMITMENT + plan + place.to_bytes(4, "big") + seed).digest()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class MaskedUpdate:
    """TRAIN: the update, clipped, noised and masked. Uniform numbers to whoever lacks the masks.

    Attributes:
        place: the device's place in the cohort.
        masked_with: bitmap over its neighbours: those it was shown, and masked with. Who holds its shares reveals none if
            somebody is missing here who is counted as a survivor.
        without_shares: bitmap over its neighbours: those whose pair of shares did not open; without enough holders of its shares
            a device cannot be counted as a survivor.
        vector: (size,) uint32, read-only: parameters and extras.
        signature: over all of it.
    """

    place: int
    masked_with: bytes
    without_shares: bytes
    vector: NDArray[np.uint32]
    signature: bytes = _BLANK

    def __repr__(self) -> str:
        return f"MaskedUpdate(place={self.place}, size={self.vector.size})"

    def signed(self, key: DeviceKey, plan: bytes) -> MaskedUpdate:
        """Return it signed."""
        return replace(self, signature=key.sign("federation.masked/v1", _masked_statement(plan, self.statement)))

    @property
    def statement(self) -> MaskedStatement:
        """What others are shown of this: all but the vector, of which it holds the digest."""
        digest = hashlib.sha256(self.vector.astype("<u4", copy=False).data).digest()
        return MaskedStatement(self.place, self.masked_with, self.without_shares, digest, self.signature)

    def to_bytes(self) -> bytes:
        """Return the message; numbers of the vector are little-endian."""
        writer = Writer(_MASKED).number(self.place, 4).sized(self.masked_with).sized(self.without_shares)
        return writer.sized(self.vector.astype("<u4", copy=False).tobytes()).fixed(self.signature, SIGNATURE_BYTES).to_bytes()

    @classmethod
    def parse(cls, data: bytes, plan: RoundPlan) -> MaskedUpdate:
        """Return the message of its bytes, for a vector of the plan's size. Raises: FederationError: "federation.invalid_update" or
        "federation.malformed"."""
        size = 4 * plan.size
        reader = Reader(data, _MASKED, 1024 + 2 * size)
        place, masked_with = reader.number(4, MOST_COHORT), reader.sized(MOST_NEIGHBOURS // 8)
        without = reader.sized(MOST_NEIGHBOURS // 8)
        if (found_size := reader.number(4, 1 << 31)) != size:
            raise FederationError("federation.invalid_update", f"A vector of {found_size} bytes came; the plan has {size}.")
        vector = np.frombuffer(reader.fixed(size), "<u4").astype(np.uint32, copy=False)
        found = cls(place, masked_with, without, vector, reader.fixed(SIGNATURE_BYTES))
        reader.end()
        return found


def require_masked(statement: MaskedStatement, device_key: bytes, plan: bytes) -> None:
    """Return if the device signed what is said of its masked update. Raises: TrustError: "trust.bad_signature"."""
    verify_signature(device_key, "federation.masked/v1", _masked_statement(plan, statement), statement.signature)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """CONFIRM: this member of the committee has seen one list of survivors, and will sign no other.

    Attributes:
        place: its place in the cohort.
        signature: over the plan and the bitmap.
    """

    place: int
    signature: bytes = _BLANK

    def signed(self, key: DeviceKey, plan: bytes, survivors: bytes) -> Confirmed:
        """Return it signed."""
        return replace(self, signature=key.sign("federation.confirmed/v1", plan + survivors))

    def require_signed(self, device_key: bytes, plan: bytes, survivors: bytes) -> None:
        """Return if `device_key` signed this list. Raises: TrustError: "trust.bad_signature"."""
        verify_signature(device_key, "federation.confirmed/v1", plan + survivors, self.signature)

    def to_bytes(self) -> bytes:
        """Return the message."""
        return Writer(_CONFIRMED).number(self.place, 4).fixed(self.signature, SIGNATURE_BYTES).to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> Confirmed:
        """Return the message of its bytes. Raises: FederationError: "federation.malformed"."""
        reader = Reader(data, _CONFIRMED, 256)
        found = cls(reader.number(4, MOST_COHORT), reader.fixed(SIGNATURE_BYTES))
        reader.end()
        return found


@dataclass(frozen=True, slots=True)
class Revealed:
    """UNMASK: one share for each neighbour whose pair this device holds: of the seed if it survived, of the mask key if not.

    Attributes:
        place: the device's place in the cohort.
        holders: bitmap over its neighbours: for which of them a share follows.
        shares: in order of their places, 33 bytes each.
        signature: over all of it.
    """

    place: int
    holders: bytes
    shares: tuple[bytes, ...]
    signature: bytes = _BLANK

    def signed(self, key: DeviceKey, plan: bytes) -> Revealed:
        """Return it signed."""
        return replace(self, signature=key.sign("federation.revealed/v1", plan + self._body()))

    def require_signed(self, device_key: bytes, plan: bytes) -> None:
        """Return if `device_key` signed. Raises: TrustError: "trust.bad_signature"."""
        verify_signature(device_key, "federation.revealed/v1", plan + self._body(), self.signature)

    def _body(self) -> bytes:
        writer = Writer(_REVEALED).number(self.place, 4).sized(self.holders).number(len(self.shares), 2)
        return writer.fixed(b"".join(self.shares), SHARE_SIZE * len(self.shares)).to_bytes()

    def to_bytes(self) -> bytes:
        """Return the message."""
        return self._body() + self.signature

    @classmethod
    def parse(cls, data: bytes) -> Revealed:
        """Return the message of its bytes. Raises: FederationError: "federation.malformed"."""
        reader = Reader(data, _REVEALED, 256 + MOST_NEIGHBOURS * SHARE_SIZE)
        place, holders = reader.number(4, MOST_COHORT), reader.sized(MOST_NEIGHBOURS // 8)
        shares = tuple(reader.fixed(SHARE_SIZE) for _ in range(reader.number(2, MOST_NEIGHBOURS)))
        found = cls(place, holders, shares, reader.fixed(SIGNATURE_BYTES))
        reader.end()
        return found


@dataclass(frozen=True, slots=True)
class Abandoned:
    """ABANDON: what was kept of the round is destroyed.

    Attributes:
        plan: digest of its plan.
    """

    plan: bytes

    def to_bytes(self) -> bytes:
        """Return the message."""
        return Writer(_ABANDONED).fixed(self.plan, DIGEST_BYTES).to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> Abandoned:
        """Return the message of its bytes. Raises: FederationError: "federation.malformed"."""
        reader = Reader(data, _ABANDONED, 256)
        found = cls(reader.fixed(DIGEST_BYTES))
        reader.end()
        return found


def _prepared_statement(plan: bytes, advert: Advert) -> bytes:
    writer = Writer().fixed(plan, DIGEST_BYTES).number(advert.place, 4).fixed(advert.mask_key, 32).fixed(advert.commitment, 32)
    return writer.fixed(advert.sealed_digest, 32).to_bytes()


def _masked_statement(plan: bytes, statement: MaskedStatement) -> bytes:
    writer = Writer().fixed(plan, DIGEST_BYTES).number(statement.place, 4).sized(statement.masked_with)
    return writer.sized(statement.without_shares).fixed(statement.vector_digest, 32).to_bytes()


__all__ = [
    "NONCE_BYTES",
    "Abandoned",
    "Confirmed",
    "Introduction",
    "MaskedUpdate",
    "Prepared",
    "Revealed",
    "require_advert",
    "require_masked",
    "seed_commitment",
]
