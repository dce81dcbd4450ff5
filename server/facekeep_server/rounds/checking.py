"""Every reply is judged here before anything else is done with it: form, place, signature, range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facekeep.errors import FederationError
from facekeep.privacy.masking import pairwise_seed
from facekeep.privacy.sharing import Share
from facekeep.protocol import Action, Confirmed, MaskedUpdate, Prepared, Revealed, pack_bits, require_masked, unpack_bits

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
    # Neighbours of both would refuse to mask with either.
    if reply.mask_key in running.mask_keys:
        raise FederationError("federation.malformed", "The device announces the mask key of another.")
    running.mask_keys.add(reply.mask_key)
    running.members[place].take_prepared(reply)


def _take_masked(running: Round, place: int, body: bytes) -> None:
    plan = running.signed.plan
    reply = MaskedUpdate.parse(body, plan)
    _require_place(place, reply.place)
    statement = reply.statement
    require_masked(statement, _key(running, place), running.signed.digest)
    # Exactly those it was shown. A survivor that lacks a surviving neighbour would end the round: nobody reveals its seed. One that
    # lacks a neighbour that dropped out, or names one more, would leave a mask in the sum. Whoever survives is among those shown.
    shown = running.takes_part[running.topology.table[place]]
    without = unpack_bits(reply.without_shares, plan.neighbours)
    if reply.masked_with != pack_bits(shown) or (without & ~shown).any():
        raise FederationError("federation.malformed", "The device masked with other neighbours than those it was shown.")
    # First the vector, then the word that it is there: a crash in between loses the reply, not the sum.
    running.updates.put(place, reply.vector)
    running.sums[running.topology.group_of[place]] += reply.vector
    running.members[place].masked = statement


def _take_confirmed(running: Round, place: int, body: bytes) -> None:
    reply = Confirmed.parse(body)
    _require_place(place, reply.place)
    reply.require_signed(_key(running, place), running.signed.digest, pack_bits(running.survivors))
    running.members[place].confirmation = reply.signature


def _take_revealed(running: Round, place: int, body: bytes) -> None:
    reply = Revealed.parse(body)
    _require_place(place, reply.place)
    reply.require_signed(_key(running, place), running.signed.digest)
    held = running.members[place].held(running.signed.plan.neighbours)
    if reply.holders != pack_bits(held) or len(reply.shares) != int(held.sum()):
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
