"""Who is invited, and who is still there: sorted indices of the roster, and one bit for each of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.privacy.stream import Stream, bind
from facekeep.protocol.codec import malformed
from facekeep.protocol.plan import MOST_COHORT

_DRAWN = bind(b"facekeep cohort v1")
MOST_COHORT_BYTES = 5 * MOST_COHORT
MOST_BITMAP_BYTES = MOST_COHORT // 8


@dataclass(frozen=True)
class Cohort:
    """The devices invited to a round. A device's *place* is where its roster index stands in here.

    Attributes:
        indices: roster indices, ascending.

    Raises:
        ValueError: if they are not ascending, or too many.
    """

    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise((-1, *self.indices, 1 << 32)))
        if not self.indices or len(self.indices) > MOST_COHORT or not rising:
            raise ValueError("a cohort is a list of different roster indices, ascending")

    @classmethod
    def of(cls, indices: Iterable[int]) -> Cohort:
        """Return the cohort of these roster indices in any order."""
        return cls(tuple(sorted(set(indices))))

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def place_of(self) -> dict[int, int]:
        """Roster index -> place."""
        return {index: place for place, index in enumerate(self.indices)}

    @cached_property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the bytes: what the plan names the cohort by."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the distances from one index to the next, less one, each in groups of seven bits, the lowest first (LEB128)."""
        out, before = bytearray(), -1
        for index in self.indices:
            distance, before = index - before - 1, index
            while distance > 0x7F:
                out.append(distance & 0x7F | 0x80)
                distance >>= 7
            out.append(distance)
        return bytes(out)

    @classmethod
    def parse(cls, data: bytes) -> Cohort:
        """Return the cohort of its bytes.

        Raises:
            FederationError: "federation.malformed".
        """
        if not 0 < len(data) <= MOST_COHORT_BYTES or data[-1] & 0x80:
            raise malformed("The list of the cohort is not of its form")
        indices, before, distance, shift = [], -1, 0, 0
        for byte in data:
            distance |= (byte & 0x7F) << shift
            shift += 7
            # A group of zeroes at the end would be a second spelling; five groups hold every index.
            if shift > 35 or (byte == 0 and shift > 7):
                raise malformed("A distance in the list of the cohort has another spelling")
            if not byte & 0x80:
                before += distance + 1
                indices.append(before)
                distance, shift = 0, 0
        if len(indices) > MOST_COHORT or before >= 1 << 32:
            raise malformed("The list of the cohort is too long")
        return cls(tuple(indices))


@lru_cache(maxsize=2)
def drawn_devices(seed: str, roster_size: int, drawn: int) -> frozenset[int]:
    """Return the roster indices that a plan's seed draws: among whom a server may choose whom it invites.

    Without it a server would invite the devices that side with it, and one that does not.
    """
    return frozenset(range(roster_size) if drawn >= roster_size else drawing_order(seed, roster_size)[:drawn])


def drawing_order(seed: str, roster_size: int) -> list[int]:
    """Return all roster indices in the order in which a plan's seed draws them."""
    found: list[int] = Stream(bytes.fromhex(seed), _DRAWN).permutation(roster_size).tolist()
    return found


def pack_bits(bits: Sequence[bool] | NDArray[np.bool_]) -> bytes:
    """Return one bit for each place, the lowest bit of a byte first."""
    return np.packbits(np.asarray(bits, dtype=bool), bitorder="little").tobytes()


def unpack_bits(data: bytes, size: int) -> NDArray[np.bool_]:
    """Return the (size,) bool array of a bitmap.

    Raises:
        FederationError: "federation.malformed" for another length or a bit beyond the last place.
    """
    if len(data) != (size + 7) // 8:
        raise FederationError("federation.malformed", "The bitmap has another length than the list it is about.")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little").astype(bool)
    if bits[size:].any():
        raise malformed("The bitmap has bits beyond its end")
    return bits[:size]
