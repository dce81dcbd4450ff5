"""A crowd: devices whose answers one process makes that knows all their secrets. The server cannot tell it from a fleet.

For measuring servers at sizes at which real devices take hours on one machine: shares are dealt in memory, so nothing is sealed
or opened (in the place of a sealed pair stands noise), and the seed of a pair is agreed once, not twice. Every mask, share,
commitment and signature is real. Nothing of what a device checks is checked: that is for `tests.simulators.federation`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from facekeep.participation import Contribution, DeviceKeys, to_row
from facekeep.privacy.masking import add_masks, mask_public_key, pairwise_seed
from facekeep.privacy.noise import discrete_gaussian
from facekeep.privacy.ring import quantise, to_ring
from facekeep.privacy.shares import SEALED_SIZE
from facekeep.privacy.sharing import split
from facekeep.protocol import Action, Confirmed, MaskedUpdate, Prepared, Revealed, pack_bits, seed_commitment
from facekeep.signing import DeviceKey
from facekeep_server.rounds import Round
from tests.simulators.federation import MakeContribution, SeededRandomness, uniform_contribution


class Crowd:
    """Answers for everybody.

    Args:
        count: devices.
        seed: everything follows from it.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.randomness = SeededRandomness("crowd", seed)
        self.keys = [DeviceKeys(DeviceKey(self.randomness.token(32)), self.randomness.token(32)) for _ in range(count)]
        self.contributions: list[MakeContribution] = [uniform_contribution(seed, number) for number in range(count)]
        self._secrets: dict[int, tuple[bytes, bytes]] = {}
        self._shares: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        self._seeds: dict[tuple[int, int], bytes] = {}

    def answer(self, running: Round, action: Action, index: int) -> bytes:
        """The answer of one device, by its roster index, to what the round asks now."""
        place = running.cohort.place_of[index]
        make: dict[Action, Any] = {
            Action.PREPARE: self._prepare,
            Action.TRAIN: self._train,
            Action.CONFIRM: self._confirm,
            Action.UNMASK: self._unmask,
        }
        return bytes(make[action](running, place).signed(*self._signing(running, action, index)).to_bytes())

    def _signing(self, running: Round, action: Action, index: int) -> tuple[Any, ...]:
        base = (self.keys[index].device, running.signed.digest)
        return (*base, pack_bits(running.survivors)) if action is Action.CONFIRM else base

    def _prepare(self, running: Round, place: int) -> Prepared:
        plan, peers = running.signed.plan, running.topology.neighbours(place)
        mask_key, seed = self.randomness.token(32), self.randomness.token(32)
        points = [peer + 1 for peer in peers]
        dealt = [split(secret, plan.threshold, points, self.randomness) for secret in (mask_key, seed)]
        for peer, ours, own in zip(peers, *dealt, strict=True):
            self._shares[place, peer] = ours.to_bytes(), own.to_bytes()
        self._secrets[place] = mask_key, seed
        sealed = tuple(self.randomness.token(SEALED_SIZE) for _ in peers)
        return Prepared(place, mask_public_key(mask_key), seed_commitment(running.signed.digest, place, seed), sealed)

    def _train(self, running: Round, place: int) -> MaskedUpdate:
        plan, digest, peers = running.signed.plan, running.signed.digest, running.topology.neighbours(place)
        mask_key, seed = self._secrets[place]
        seeds = {}
        for peer in peers:
            if running.takes_part[peer]:
                pair = min(place, peer), max(place, peer)
                if pair not in self._seeds:
                    announced = running.members[peer].announced
                    assert announced is not None
                    self._seeds[pair] = pairwise_seed(mask_key, announced.mask_key, digest)
                seeds[peer] = self._seeds[pair]
        contribution: Contribution = self.contributions[running.cohort.indices[place]](plan, 1)
        values = quantise(to_row(contribution, plan), plan.scale, self.randomness)
        if plan.noise_variance:
            values = values + discrete_gaussian(plan.noise_variance, plan.size, self.randomness)
        vector = add_masks(to_ring(values), index=place, self_seed=seed, pair_seeds=seeds, context=digest)
        return MaskedUpdate(place, pack_bits([peer in seeds for peer in peers]), pack_bits([False] * len(peers)), vector)

    def _confirm(self, running: Round, place: int) -> Confirmed:
        return Confirmed(place)

    def _unmask(self, running: Round, place: int) -> Revealed:
        peers = running.topology.neighbours(place)
        held = np.array([bool(running.takes_part[peer]) for peer in peers])
        shares = [self._shares[peer, place][int(running.survivors[peer])] for peer in np.array(peers)[held].tolist()]
        return Revealed(place, pack_bits(held), tuple(shares))
