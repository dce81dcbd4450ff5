"""The messages of each step, made of what the round knows: the same bytes whenever they are made again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from facekeep.protocol import ConfirmRequest, PrepareRequest, TrainRequest, UnmaskRequest, pack_bits

if TYPE_CHECKING:
    from facekeep_server.rounds.round import Round


def prepare_request(running: Round, place: int) -> bytes:
    """Return what a device is sent in PREPARE."""
    indices = [running.cohort.indices[item] for item in (place, *running.topology.neighbours(place))]
    excerpt = running.roster.excerpt(indices)
    return PrepareRequest(running.signed.note, running.roster_note, running.cohort.to_bytes(), excerpt).to_bytes()


def train_request(running: Round, place: int) -> bytes:
    """Return what a device is sent in TRAIN: the neighbours that prepared, and the numbers to begin with."""
    adverts = []
    for peer in running.topology.neighbours(place):
        if running.takes_part[peer]:
            slot = int(np.searchsorted(running.topology.table[peer], place))
            adverts.append(running.members[peer].advert(peer, slot))
    return TrainRequest(running.signed.digest, tuple(adverts), running.start).to_bytes()


def confirm_request(running: Round) -> bytes:
    """Return what the committee is sent in CONFIRM."""
    return ConfirmRequest(running.signed.digest, pack_bits(running.survivors)).to_bytes()


def unmask_requests(running: Round, places: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield place and message of UNMASK: no more confirmations than the quorum takes; what its surviving neighbours signed."""
    confirmed = [place for place in running.topology.committee if running.members[place].confirmation]
    quorum = confirmed[: running.signed.plan.quorum]
    request = UnmaskRequest(
        running.signed.digest,
        pack_bits(running.survivors),
        running.cohort.to_bytes(),
        tuple((place, running.members[place].confirmation) for place in quorum),
        running.roster.excerpt([running.cohort.indices[place] for place in quorum]),
        (),
    )
    # The head is the same for all, and each statement for all neighbours of a device: written once.
    head, survivors = request.head(), np.flatnonzero(running.survivors).tolist()
    written = {place: item.to_bytes() for place in survivors if (item := running.members[place].masked) is not None}
    for place in places:
        parts = [written[peer] for peer in running.topology.neighbours(place) if peer in written]
        yield place, head + len(parts).to_bytes(2, "big") + b"".join(parts)
