"""A round in progress on a device: everything it has to remember between two messages, each handled by a process of its own.

The bytes hold secrets. They are kept sealed under the device's wrap key, and destroyed with the round.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from facekeep.errors import FederationError
from facekeep.note import unsafe_note_text
from facekeep.privacy.sharing import SHARE_SIZE
from facekeep.protocol import SignedPlan, Topology, topology_of
from facekeep.protocol.codec import Reader, Writer
from facekeep.protocol.cohort import MOST_BITMAP_BYTES
from facekeep.protocol.plan import MOST_COHORT, MOST_NEIGHBOURS, MOST_PARAMETERS, RoundPlan
from facekeep.tlog.notes import LARGEST_NOTE_BYTES

_KIND: Final = 0x60
_MOST_ANSWER: Final = 4 * MOST_PARAMETERS + 4096
_MOST_BYTES: Final = 2 * _MOST_ANSWER


@dataclass(frozen=True, slots=True)
class Peer:
    """A neighbour in the graph.

    Attributes:
        place: its place in the cohort.
        device_key: Ed25519 public key, as the roster has it.
    """

    place: int
    device_key: bytes


@dataclass(frozen=True, slots=True)
class HeldPair:
    """A neighbour's pair of shares. One of the two leaves the device, never both.

    Attributes:
        place: whose shares they are.
        mask_key: share of its mask key, 33 bytes.
        self_seed: share of the seed of its own mask, 33 bytes.
    """

    place: int
    mask_key: bytes = field(repr=False)
    self_seed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that was given: the same question gets the same bytes, any other question is refused.

    Attributes:
        question: SHA-256 of the request.
        answer: what was answered.
    """

    question: bytes
    answer: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundState:
    """What a device knows of the round it is in.

    Attributes:
        note: signed plan.
        place: own place in the cohort.
        peers: the neighbours, in order of their places.
        mask_key: private X25519 key of this round; empty once it is of no more use.
        self_seed: seed of the own mask; likewise.
        pairs: shares held of neighbours, in order of their places; empty once revealed.
        masked_with: bitmap over the neighbours that were shown in TRAIN; empty before.
        confirmed: the list of survivors this device signed; empty before.
        given: step -> what was answered.
        used: pseudonyms, 32 bytes each, of the subjects that the masked update was made of.
    """

    note: str = field(repr=False)
    place: int
    peers: tuple[Peer, ...]
    mask_key: bytes = field(repr=False)
    self_seed: bytes = field(repr=False)
    pairs: tuple[HeldPair, ...] = ()
    masked_with: bytes = b""
    confirmed: bytes = b""
    given: tuple[tuple[str, Given], ...] = ()
    used: tuple[bytes, ...] = ()

    @property
    def signed(self) -> SignedPlan:
        """The plan; its signature was checked before the state was made."""
        return _plan_of(self.note)

    @property
    def topology(self) -> Topology:
        """Groups, graph and committee of the plan."""
        return topology_of(self.signed.plan, self.signed.digest)

    def find_given(self, step: str) -> Given | None:
        """Return what was answered in a step, or None."""
        return dict(self.given).get(step)

    def answer_to(self, step: str) -> bytes:
        """Return the answer to a step that was taken."""
        return dict(self.given)[step].answer

    def to_bytes(self) -> bytes:
        """Return the bytes to seal."""
        writer = Writer(_KIND).sized(self.note.encode()).number(self.place, 4).number(len(self.peers), 2)
        for peer in self.peers:
            writer.number(peer.place, 4).fixed(peer.device_key, 32)
        writer.sized(self.mask_key).sized(self.self_seed).number(len(self.pairs), 2)
        for pair in self.pairs:
            writer.number(pair.place, 4).fixed(pair.mask_key, SHARE_SIZE).fixed(pair.self_seed, SHARE_SIZE)
        writer.sized(self.masked_with).sized(self.confirmed).number(len(self.given), 1)
        for step, given in self.given:
            writer.sized(step.encode()).fixed(given.question, 32).sized(given.answer)
        writer.number(len(self.used), 4).fixed(b"".join(self.used), 32 * len(self.used))
        return writer.to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> RoundState:
        """Return the state of its bytes.

        Raises:
            FederationError: "federation.malformed".
        """
        reader = Reader(data, _KIND, _MOST_BYTES)
        note, place = reader.text(LARGEST_NOTE_BYTES), reader.number(4, MOST_COHORT)
        peers = tuple(Peer(reader.number(4, MOST_COHORT), reader.fixed(32)) for _ in range(reader.number(2, MOST_NEIGHBOURS)))
        mask_key, self_seed = reader.sized(32), reader.sized(32)
        count = reader.number(2, MOST_NEIGHBOURS)
        pairs = tuple(
            HeldPair(reader.number(4, MOST_COHORT), reader.fixed(SHARE_SIZE), reader.fixed(SHARE_SIZE)) for _ in range(count)
        )
        masked_with, confirmed = reader.sized(MOST_NEIGHBOURS // 8), reader.sized(MOST_BITMAP_BYTES)
        given = tuple((reader.text(16), Given(reader.fixed(32), reader.sized(_MOST_ANSWER))) for _ in range(reader.number(1, 8)))
        used = tuple(reader.fixed(32) for _ in range(reader.number(4, 1 << 20)))
        reader.end()
        return cls(
            note=note,
            place=place,
            peers=peers,
            mask_key=mask_key,
            self_seed=self_seed,
            pairs=pairs,
            masked_with=masked_with,
            confirmed=confirmed,
            given=given,
            used=used,
        )


@lru_cache(maxsize=4)
def _plan_of(note: str) -> SignedPlan:
    return SignedPlan(note, RoundPlan.parse(unsafe_note_text(note)))


def wrong_step(what: str) -> FederationError:
    """Return the error for a message that comes out of order, or differs from the one that was answered."""
    return FederationError("federation.wrong_step", f"{what}.")
