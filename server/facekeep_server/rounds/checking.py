"""Every reply is judged here before anything else is done with it: form, place, signature, range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facekeep.errors import FederationError
from facekeep.privacy.masking import pairwise_seed
from facekeep.privacy.sharing import Share
from facekeep.protocol import Action, Confirmed, MaskedUpdate, Prepared, Revealed, pack_bits, unpack_bits

if TYPE_CHECKING:
    from facekeep_server.rounds.round import Round

# Any private key does: what is asked is whether the public key gives a shared secret at all.
_PROBE = bytes(range(32))


def take_reply(running: Round, place: int, action: Action, body: bytes) -> None:
    """Keep a reply in the step that runs.

    Raises:
        FederationError: "federation.malformed", "federation.invalid_update", "federation.not_a_member".
        TrustError: "trust.bad_signature".
    """
    _TAKE[action](running, place, body)


def _take_prepared(running: Round, place: int, body: bytes) -> None:
    reply = Prepared.parse(body)
    _require_place(place, reply.place)
    reply.require_signed(_key(running, place), running.signed.digest)
    if len(reply.sealed) != running.signed.plan.neighbours:
        raise FederationError("federation.malformed", "The device gave shares to another number of neighbours than it has.")
    # A key of low order would end the round of every neighbour that was shown it.
    pairwise_seed(_PROBE, reply.mask_key, running.signed.digest)
    running.members[place].take_prepared(reply)


def _take_masked(running: Round, place: int, body: bytes) -> None:
    plan = running.signed.plan
    reply = MaskedUpdate.parse(body, plan)
    _require_place(place, reply.place)
    reply.require_signed(_key(running, place), running.signed.digest)
    unpack_bits(reply.without_shares, plan.neighbours)
    # First the vector, then the word that it is there: a crash in between loses the reply, not the sum.
    running.updates.put(place, reply.vector)
    running.sums[running.topology.group_of[place]] += reply.vector
    running.members[place].take_masked(reply)


def _take_confirmed(running: Round, place: int, body: bytes) -> None:
    reply = Confirmed.parse(body)
    _require_place(place, reply.place)
    reply.require_signed(_key(running, place), running.signed.digest, pack_bits(running.survivors))
    running.members[place].confirmation = reply.signature


def _take_revealed(running: Round, place: int, body: bytes) -> None:
    reply = Revealed.parse(body)
    _require_place(place, reply.place)
    reply.require_signed(_key(running, place), running.signed.digest)
    count = running.signed.plan.neighbours
    without = unpack_bits(running.members[place].without_shares or b"", count)
    peers = running.topology.neighbours(place)
    wanted = [bool(running.takes_part[peer]) and not without[slot] for slot, peer in enumerate(peers)]
    if reply.holders != pack_bits(wanted) or len(reply.shares) != sum(wanted):
        raise FederationError("federation.malformed", "The device reveals shares of others than those it holds shares of.")
    for share in reply.shares:
        Share.parse(place + 1, share)
    running.members[place].take_revealed(reply)


_TAKE = {
    Action.PREPARE: _take_prepared,
    Action.TRAIN: _take_masked,
    Action.CONFIRM: _take_confirmed,
    Action.UNMASK: _take_revealed,
}


def _require_place(expected: int, found: int) -> None:
    if found != expected:
        raise FederationError("federation.not_a_member", "The device speaks for another place in the cohort than its own.")


def _key(running: Round, place: int) -> bytes:
    return running.roster.entries[running.cohort.indices[place]].device_key
