"""What the server knows of each invited device while a round runs. Nothing in it is of use without the devices' shares."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facekeep.privacy.shares import SEALED_SIZE
from facekeep.privacy.sharing import SHARE_SIZE, Share
from facekeep.protocol import Advert, MaskedStatement, Prepared, Revealed, unpack_bits
from facekeep.protocol.codec import Reader, Writer
from facekeep.protocol.plan import MOST_NEIGHBOURS
from facekeep_server.rounds.opening import Announced


@dataclass(slots=True)
class Member:
    """One place of the cohort.

    Attributes:
        announced: what it announced in PREPARE; None before.
        sealed_digest: SHA-256 over its sealed pairs.
        signature: over its announcement.
        sealed: the sealed pairs, one after the other; emptied when nobody needs them any more.
        masked: what it signed of its masked update; None before that came.
        confirmation: its signature of the list of survivors; empty before.
        holders: bitmap over its neighbours: whose shares it revealed; None before.
        shares: those, 33 bytes each.
    """

    announced: Announced | None = None
    sealed_digest: bytes = b""
    signature: bytes = b""
    sealed: bytes = field(default=b"", repr=False)
    masked: MaskedStatement | None = None
    confirmation: bytes = b""
    holders: bytes | None = None
    shares: bytes = field(default=b"", repr=False)

    def has_answered(self, step: str) -> bool:
        """Return whether a valid reply to a step is here."""
        return {
            "prepare": self.announced is not None,
            "train": self.masked is not None,
            "confirm": bool(self.confirmation),
            "unmask": self.holders is not None,
        }.get(step, False)

    def take_prepared(self, reply: Prepared) -> None:
        """Keep an announcement."""
        advert = reply.advert_for(0)
        self.announced = Announced(reply.mask_key, reply.commitment)
        self.sealed_digest, self.signature, self.sealed = advert.sealed_digest, reply.signature, b"".join(reply.sealed)

    def take_revealed(self, reply: Revealed) -> None:
        """Keep revealed shares."""
        self.holders, self.shares = reply.holders, b"".join(reply.shares)

    def advert(self, place: int, slot: int) -> Advert:
        """Return what the neighbour number `slot` of this device is shown of it."""
        if self.announced is None:
            raise ValueError("a device that has not prepared has nothing to announce")
        sealed = self.sealed[slot * SEALED_SIZE : (slot + 1) * SEALED_SIZE]
        return Advert(place, self.announced.mask_key, self.announced.commitment, self.sealed_digest, self.signature, sealed)

    def share(self, number: int, point: int) -> Share:
        """Return the share it revealed as number `number`."""
        return Share.parse(point, self.shares[number * SHARE_SIZE : (number + 1) * SHARE_SIZE])

    def held(self, neighbours: int) -> NDArray[np.bool_]:
        """Return of which of its neighbours it holds shares: (neighbours,) bool; only once its masked update is here."""
        if self.masked is None:
            raise ValueError("a device that has sent no update has not said whose shares it holds")
        return unpack_bits(self.masked.masked_with, neighbours) & ~unpack_bits(self.masked.without_shares, neighbours)

    def write(self, writer: Writer) -> None:
        """Append to a checkpoint."""
        writer.number(self.announced is not None, 1)
        if self.announced is not None:
            writer.fixed(self.announced.mask_key + self.announced.commitment + self.sealed_digest, 96)
            writer.sized(self.signature).sized(self.sealed)
        writer.number(self.masked is not None, 1)
        if self.masked is not None:
            part = self.masked.to_bytes()
            writer.fixed(part, len(part))
        writer.number(self.holders is not None, 1).sized(self.holders or b"")
        writer.sized(self.confirmation).sized(self.shares)

    @classmethod
    def read(cls, reader: Reader) -> Member:
        """Return the next device of a checkpoint."""
        member = cls()
        if reader.number(1, 1):
            member.announced = Announced(reader.fixed(32), reader.fixed(32))
            member.sealed_digest, member.signature = reader.fixed(32), reader.sized(64)
            member.sealed = reader.sized(MOST_NEIGHBOURS * SEALED_SIZE)
        if reader.number(1, 1):
            member.masked = MaskedStatement.read(reader)
        flag, bits = reader.number(1, 1), reader.sized(MOST_NEIGHBOURS // 8)
        member.holders = bits if flag else None
        member.confirmation, member.shares = reader.sized(64), reader.sized(MOST_NEIGHBOURS * SHARE_SIZE)
        return member
