"""What the server sends: one type for each action. Nothing in it is true before the device has checked it.

Every message after the first names the digest of the plan, so that one of another round is refused before it is read further.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from facekeep.errors import CODES
from facekeep.privacy.shares import SEALED_SIZE
from facekeep.protocol.codec import Reader, Writer, malformed
from facekeep.protocol.cohort import MOST_BITMAP_BYTES, MOST_COHORT_BYTES
from facekeep.protocol.plan import MOST_COHORT, MOST_COMMITTEE, MOST_NEIGHBOURS, MOST_PARAMETERS
from facekeep.protocol.roster import MOST_EXCERPT_BYTES, RosterExcerpt
from facekeep.signing import SIGNATURE_BYTES
from facekeep.tlog.notes import LARGEST_NOTE_BYTES

MOST_REQUEST_BYTES: Final = 1 << 22
MOST_START_BYTES: Final = 4 * MOST_PARAMETERS
DIGEST_BYTES: Final = 32
NONCE_BYTES: Final = 32
_CHALLENGE, _PREPARE, _TRAIN, _CONFIRM, _UNMASK, _ABANDON = 0x01, 0x10, 0x20, 0x30, 0x40, 0x48


@dataclass(frozen=True, slots=True)
class Challenge:
    """HELLO: who are you?

    Attributes:
        federation: which federation the server speaks for.
        nonce: 32 fresh bytes: an answer kept from before does not fit.
    """

    federation: str
    nonce: bytes

    def to_bytes(self) -> bytes:
        """Return the message."""
        return Writer(_CHALLENGE).sized(self.federation.encode()).fixed(self.nonce, NONCE_BYTES).to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> Challenge:
        """Return the message of its bytes. Raises: FederationError: "federation.malformed"."""
        reader = Reader(data, _CHALLENGE, 256)
        found = cls(reader.text(64), reader.fixed(NONCE_BYTES))
        reader.end()
        return found


@dataclass(frozen=True, slots=True)
class PrepareRequest:
    """PREPARE: the plan, who is invited, and the keys of the device itself and of its neighbours.

    Attributes:
        plan_note: signed plan.
        roster_note: signed head of the roster.
        cohort: bytes of the cohort.
        excerpt: entries of this device and its neighbours, with their proof.
    """

    plan_note: str
    roster_note: str
    cohort: bytes
    excerpt: RosterExcerpt

    def to_bytes(self) -> bytes:
        """Return the message."""
        writer = Writer(_PREPARE).sized(self.plan_note.encode()).sized(self.roster_note.encode()).sized(self.cohort)
        return writer.sized(self.excerpt.to_bytes()).to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> PrepareRequest:
        """Return the message of its bytes. Raises: FederationError: "federation.malformed"."""
        reader = Reader(data, _PREPARE, MOST_REQUEST_BYTES)
        plan, roster = reader.text(LARGEST_NOTE_BYTES), reader.text(LARGEST_NOTE_BYTES)
        found = cls(plan, roster, reader.sized(MOST_COHORT_BYTES), RosterExcerpt.parse(reader.sized(MOST_EXCERPT_BYTES)))
        reader.end()
        return found


@dataclass(frozen=True, slots=True)
class Advert:
    """What one neighbour announced: the part of its `Prepared` that concerns everybody, and the pair of shares for the receiver.

    Attributes:
        place: its place in the cohort.
        mask_key: its X25519 public key of this round, 32 bytes.
        commitment: to the seed of its own mask, 32 bytes.
        sealed_digest: SHA-256 over the sealed pairs of all its neighbours.
        signature: by its device key, over all of these.
        sealed: the pair for the receiver.
    """

    place: int
    mask_key: bytes
    commitment: bytes
    sealed_digest: bytes
    signature: bytes
    sealed: bytes

    def write(self, writer: Writer) -> None:
        """Append the advert to a message."""
        writer.number(self.place, 4).fixed(self.mask_key, 32).fixed(self.commitment, 32).fixed(self.sealed_digest, 32)
        writer.fixed(self.signature, SIGNATURE_BYTES).fixed(self.sealed, SEALED_SIZE)

    @classmethod
    def read(cls, reader: Reader) -> Advert:
        """Return the next advert of a message."""
        place, mask_key, commitment, digest = reader.number(4, MOST_COHORT), reader.fixed(32), reader.fixed(32), reader.fixed(32)
        return cls(place, mask_key, commitment, digest, reader.fixed(SIGNATURE_BYTES), reader.fixed(SEALED_SIZE))


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """TRAIN: the neighbours that prepared, and where training begins.

    Attributes:
        plan: digest of the plan.
        adverts: in order of their places.
        start: little-endian float32 numbers that the plan names by its setting `start`; empty where it names none.
    """

    plan: bytes
    adverts: tuple[Advert, ...]
    start: bytes = field(default=b"", repr=False)

    def to_bytes(self) -> bytes:
        """Return the message."""
        writer = Writer(_TRAIN).fixed(self.plan, DIGEST_BYTES).number(len(self.adverts), 2)
        for advert in self.adverts:
            advert.write(writer)
        return writer.sized(self.start).to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> TrainRequest:
        """Return the message of its bytes. Raises: FederationError: "federation.malformed"."""
        reader = Reader(data, _TRAIN, MOST_REQUEST_BYTES + MOST_START_BYTES)
        plan = reader.fixed(DIGEST_BYTES)
        adverts = tuple(Advert.read(reader) for _ in range(reader.number(2, MOST_NEIGHBOURS)))
        start = reader.sized(MOST_START_BYTES)
        reader.end()
        if any(a.place >= b.place for a, b in pairwise(adverts)):
            raise malformed("The adverts are not in order of their places, each once")
        return cls(plan, adverts, start)


@dataclass(frozen=True, slots=True)
class ConfirmRequest:
    """CONFIRM: who survived, in the server's words.

    Attributes:
        plan: digest of the plan.
        survivors: bitmap over the cohort.
    """

    plan: bytes
    survivors: bytes

    def to_bytes(self) -> bytes:
        """Return the message."""
        return Writer(_CONFIRM).fixed(self.plan, DIGEST_BYTES).sized(self.survivors).to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> ConfirmRequest:
        """Return the message of its bytes. Raises: FederationError: "federation.malformed"."""
        reader = Reader(data, _CONFIRM, MOST_REQUEST_BYTES)
        found = cls(reader.fixed(DIGEST_BYTES), reader.sized(MOST_BITMAP_BYTES))
        reader.end()
        return found


@dataclass(frozen=True, slots=True)
class MaskedStatement:
    """What a device signed of its masked update, but for the vector: whom it masked it with.

    Attributes:
        place: its place in the cohort.
        masked_with: bitmap over its neighbours: those whose mask keys are in its masks.
        without_shares: bitmap over its neighbours: those whose pair of shares did not open.
        vector_digest: SHA-256 of the vector's bytes.
        signature: by its device key, over all of these.
    """

    place: int
    masked_with: bytes
    without_shares: bytes
    vector_digest: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """Return the part of a message."""
        writer = Writer().number(self.place, 4).sized(self.masked_with).sized(self.without_shares)
        return writer.fixed(self.vector_digest, DIGEST_BYTES).fixed(self.signature, SIGNATURE_BYTES).to_bytes()

    @classmethod
    def read(cls, reader: Reader) -> MaskedStatement:
        """Return the next statement of a message."""
        place = reader.number(4, MOST_COHORT)
        masked_with, without = reader.sized(MOST_NEIGHBOURS // 8), reader.sized(MOST_NEIGHBOURS // 8)
        return cls(place, masked_with, without, reader.fixed(DIGEST_BYTES), reader.fixed(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True)
class UnmaskRequest:
    """UNMASK: who survived, as a quorum of the committee confirmed, and whom the receiver's neighbours among them masked with.

    Attributes:
        plan: digest of the plan.
        survivors: bitmap over the cohort.
        cohort: bytes of the cohort.
        confirmations: place and signature of each who confirmed, in order of the places.
        excerpt: their entries of the roster, with the proof.
        statements: one of each neighbour of the receiver that survived, in order of their places.
    """

    plan: bytes
    survivors: bytes
    cohort: bytes
    confirmations: tuple[tuple[int, bytes], ...]
    excerpt: RosterExcerpt
    statements: tuple[MaskedStatement, ...]

    def to_bytes(self) -> bytes:
        """Return the message."""
        parts = [statement.to_bytes() for statement in self.statements]
        return self.head() + Writer().number(len(parts), 2).to_bytes() + b"".join(parts)

    def head(self) -> bytes:
        """Return the part of the message that is the same for everybody: all before the statements."""
        writer = Writer(_UNMASK).fixed(self.plan, DIGEST_BYTES).sized(self.survivors).sized(self.cohort)
        writer.number(len(self.confirmations), 2)
        for place, signature in self.confirmations:
            writer.number(place, 4).fixed(signature, SIGNATURE_BYTES)
        return writer.sized(self.excerpt.to_bytes()).to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> UnmaskRequest:
        """Return the message of its bytes. Raises: FederationError: "federation.malformed"."""
        reader = Reader(data, _UNMASK, MOST_REQUEST_BYTES)
        plan, survivors, cohort = reader.fixed(DIGEST_BYTES), reader.sized(MOST_BITMAP_BYTES), reader.sized(MOST_COHORT_BYTES)
        count = reader.number(2, MOST_COMMITTEE)
        found = tuple((reader.number(4, MOST_COHORT), reader.fixed(SIGNATURE_BYTES)) for _ in range(count))
        excerpt = RosterExcerpt.parse(reader.sized(MOST_EXCERPT_BYTES))
        statements = tuple(MaskedStatement.read(reader) for _ in range(reader.number(2, MOST_NEIGHBOURS)))
        reader.end()
        # One member twice would count as two.
        if any(a >= b for (a, _), (b, _) in pairwise(found)):
            raise malformed("The confirmations are not in order of their places, each once")
        if any(a.place >= b.place for a, b in pairwise(statements)):
            raise malformed("The statements are not in order of their places, each once")
        return cls(plan, survivors, cohort, found, excerpt, statements)


@dataclass(frozen=True, slots=True)
class AbandonRequest:
    """ABANDON: the round is over for this device; it destroys what it kept of it.

    Attributes:
        plan: digest of the plan.
        reason: "ok" or the code of what ended the round.
    """

    plan: bytes
    reason: str

    def to_bytes(self) -> bytes:
        """Return the message."""
        return Writer(_ABANDON).fixed(self.plan, DIGEST_BYTES).sized(self.reason.encode()).to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> AbandonRequest:
        """Return the message of its bytes. Raises: FederationError: "federation.malformed"."""
        reader = Reader(data, _ABANDON, 256)
        found = cls(reader.fixed(DIGEST_BYTES), reader.text(64))
        reader.end()
        if found.reason != "ok" and found.reason not in CODES:
            raise malformed("The reason is not one of the known codes")
        return found
