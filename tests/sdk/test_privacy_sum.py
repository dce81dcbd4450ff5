"""The fast secure sum against the slow one, over random cohorts with drop-outs at every step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.errors import FederationError
from facekeep.privacy.graph import neighbours
from facekeep.privacy.masking import add_masks, mask_public_key, pairwise_seed
from facekeep.privacy.ring import from_ring, to_ring
from facekeep.privacy.shares import SharePair, open_pair, seal_pair
from facekeep.privacy.sharing import Share, recover, split
from facekeep.privacy.unmasking import sum_updates, unmask
from tests.reference.secure_sum import ReferenceDevice, plain_sum, secure_sum

PLAN = hashlib.sha256(b"plan").digest()


@dataclass
class Seeded:
    """Repeatable randomness for tests."""

    seed: int
    count: int = field(default=0)

    def token(self, size: int) -> bytes:
        self.count += 1
        return hashlib.shake_256(f"{self.seed} {self.count}".encode()).digest(size)


def is_key_of(public: bytes):
    return lambda key: mask_public_key(key) == public


def fast_sum(devices, threshold, *, after_prepare, after_train, silent, randomness, threads=1, liars=frozenset()):
    """The round as the protocol runs it, without transport: None where it has to be aborted."""
    exchange = {index: randomness.token(32) for index in devices}
    prepared = sorted(set(devices) - silent)
    sealed: dict[tuple[int, int], bytes] = {}
    for index in prepared:
        device = devices[index]
        points = [peer + 1 for peer in device.neighbours]
        keys = split(device.mask_key, threshold, points, randomness)
        seeds = split(device.self_seed, threshold, points, randomness)
        for peer, key, seed in zip(device.neighbours, keys, seeds, strict=True):
            public = mask_public_key(exchange[peer])
            sealed[index, peer] = seal_pair(SharePair(key, seed), public, plan=PLAN, sender=index, receiver=peer)
    public = {index: mask_public_key(devices[index].mask_key) for index in prepared}
    survivors = [index for index in prepared if index not in after_prepare]
    updates = {}
    for index in survivors:
        device = devices[index]
        pair_seeds = {p: pairwise_seed(device.mask_key, public[p], PLAN) for p in device.neighbours if p in public}
        if len(pair_seeds) < threshold:
            return None
        values = to_ring(np.array(device.values, dtype=np.int64))
        updates[index] = add_masks(values, index=index, self_seed=device.self_seed, pair_seeds=pair_seeds, context=PLAN)
    revealed: dict[int, list[Share]] = {index: [] for index in prepared}
    for peer in survivors:
        if peer in after_train:
            continue
        for index in devices[peer].neighbours:
            if index in revealed:
                pair = open_pair(sealed[index, peer], exchange[peer], plan=PLAN, sender=index, receiver=peer)
                share = pair.self_seed if index in updates else pair.mask_key
                revealed[index].append(Share(share.point, share.value ^ 1) if peer in liars else share)
    dropped = [i for i in prepared if i not in updates and any(p in updates for p in devices[i].neighbours)]
    try:
        seeds = {index: recover(revealed[index], threshold)[0] for index in updates}
        keys = {index: recover(revealed[index], threshold, is_key_of(public[index]))[0] for index in dropped}
    except FederationError:
        return None
    partners = {index: {peer: public[peer] for peer in devices[index].neighbours if peer in updates} for index in dropped}
    total = sum_updates(updates.values(), len(next(iter(devices.values())).values))
    return unmask(total, self_seeds=seeds, dropped_keys=keys, partners=partners, context=PLAN, threads=threads)


def cohort_of(size: int, k: int, length: int, randomness: Seeded) -> dict[int, ReferenceDevice]:
    graph = neighbours(size, k, randomness.token(32))
    return {
        index: ReferenceDevice(
            index,
            from_ring(np.frombuffer(randomness.token(4 * length), "<u4")).tolist(),
            randomness.token(32),
            randomness.token(32),
            graph[index],
        )
        for index in range(size)
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 14), st.integers(2, 8), st.integers(1, 40), st.integers(0, 10**6), st.data())
def test_the_fast_sum_equals_the_slow_one_and_the_plain_one(size, k, length, seed, data):
    randomness = Seeded(seed)
    devices = cohort_of(size, k, length, randomness)
    threshold = data.draw(st.integers(1, max(1, len(devices[0].neighbours) // 2)))
    fates = data.draw(st.lists(st.sampled_from(["stays"] * 6 + ["silent", "prepared", "trained"]), min_size=size, max_size=size))
    gone = {fate: {index for index in devices if fates[index] == fate} for fate in ("silent", "prepared", "trained")}
    if len(gone["silent"] | gone["prepared"]) == size:
        return
    steps = {"after_prepare": gone["prepared"], "after_train": gone["trained"], "silent": gone["silent"]}
    slow = secure_sum(devices, threshold, PLAN, **steps)
    fast = fast_sum(devices, threshold, **steps, randomness=randomness, threads=data.draw(st.sampled_from([1, 3])))
    if fast is None:  # the fast path is stricter: it also refuses to train with too few neighbours
        lonely = any(sum(p not in gone["silent"] for p in device.neighbours) < threshold for device in devices.values())
        assert slow is None or lonely
        return
    trained = [devices[index].values for index in devices if index not in gone["silent"] | gone["prepared"]]
    assert fast.tolist() == slow == plain_sum(trained)


@pytest.mark.parametrize("step", ["after_prepare", "after_train", "silent"])
def test_thirty_percent_drop_out_at_each_step(step):
    randomness = Seeded(5)
    devices = cohort_of(30, 16, 8, randomness)
    steps = {"after_prepare": set(), "after_train": set(), "silent": set(), step: set(range(1, 30, 3)) - {28}}
    total = fast_sum(devices, 6, **steps, randomness=randomness)
    kept = [devices[i].values for i in devices if step == "after_train" or i not in steps[step]]
    assert total is not None
    assert total.tolist() == plain_sum(kept)


def test_false_shares_of_a_few_neighbours_do_not_ruin_the_sum():
    randomness = Seeded(6)
    devices = cohort_of(20, 19, 4, randomness)
    steps = {"after_prepare": {3}, "after_train": set(), "silent": set()}
    total = fast_sum(devices, 7, **steps, randomness=randomness, liars={1, 2, 4, 5})
    assert total is not None
    assert total.tolist() == plain_sum([devices[i].values for i in devices if i != 3])


def test_below_the_threshold_nothing_comes_out():
    randomness = Seeded(7)
    devices = cohort_of(6, 5, 4, randomness)
    steps = {"after_prepare": set(), "after_train": {0, 1, 2}, "silent": set()}
    assert fast_sum(devices, 4, **steps, randomness=randomness) is None
    assert secure_sum(devices, 4, PLAN, **steps) is None


def test_unmasking_takes_no_device_as_survivor_and_as_dropped():
    seed = bytes(32)
    with pytest.raises(ValueError, match="either survived or dropped"):
        unmask(np.zeros(2, np.uint32), self_seeds={1: seed}, dropped_keys={1: seed}, partners={1: {}}, context=PLAN)
    with pytest.raises(ValueError, match="between a dropped device and a survivor"):
        unmask(np.zeros(2, np.uint32), self_seeds={1: seed}, dropped_keys={2: seed}, partners={2: {3: seed}}, context=PLAN)


@pytest.mark.parametrize("bad", [np.zeros(3, np.uint32), np.zeros(2, np.int64), np.zeros((2, 1), np.uint32)])
def test_a_masked_update_of_another_shape_is_refused(bad):
    with pytest.raises(FederationError, match="invalid_update"):
        sum_updates([np.zeros(2, np.uint32), bad], 2)


def test_a_recovered_mask_key_has_to_be_the_announced_one():
    randomness = Seeded(8)
    key = randomness.token(32)
    shares = split(key, 3, range(1, 6), randomness)
    assert recover(shares, 3, is_key_of(mask_public_key(key))) == (key, ())
    with pytest.raises(FederationError, match="malformed"):
        recover(shares, 3, is_key_of(mask_public_key(randomness.token(32))))


def test_why_a_seed_is_revealed_only_for_a_device_that_masked_with_every_survivor():
    # A lying server shows device 0 the keys of four neighbours alone, then calls those dropped out and all others survivors.
    # The others hold shares of 0's seed as well; with them its update lies open. Differential privacy page, rule 5.
    randomness = Seeded(9)
    devices = cohort_of(12, 8, 6, randomness)
    victim, shown = devices[0], devices[0].neighbours[:4]
    public = {index: mask_public_key(device.mask_key) for index, device in devices.items()}
    pairs = {peer: pairwise_seed(victim.mask_key, public[peer], PLAN) for peer in shown}
    values = to_ring(np.array(victim.values, dtype=np.int64))
    masked = add_masks(values, index=0, self_seed=victim.self_seed, pair_seeds=pairs, context=PLAN)
    keys = {peer: devices[peer].mask_key for peer in shown}
    partners = {peer: {0: public[0]} for peer in shown}
    opened = unmask(masked, self_seeds={0: victim.self_seed}, dropped_keys=keys, partners=partners, context=PLAN)
    assert opened.tolist() == values.tolist()
    assert set(victim.neighbours) - set(shown)  # and these, survivors, would have to have been masked with
