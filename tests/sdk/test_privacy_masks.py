"""Masks, shares and their sealing: cancel exactly, bound to their context, constant in size, wrong ones refused."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from facekeep.errors import FederationError
from facekeep.privacy.masking import add_masks, mask_public_key, mask_stream, pairwise_mask, pairwise_seed, self_mask
from facekeep.privacy.shares import SEALED_SIZE, SharePair, open_pair, seal_pair
from facekeep.privacy.sharing import PRIME, SHARE_SIZE, Share, combine, recover, split
from facekeep.privacy.stream import Stream, bind, derive
from tests.sdk.privacy_setting import Seeded

PLAN, OTHER_PLAN = bytes(range(32)), bytes(range(1, 33))
# RFC 7748 section 6.1 and the points of order 1, 2, 4 and 8 listed at https://cr.yp.to/ecdh.html
LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.integers(1, 200), st.integers(0, 10**6))
def test_pairwise_masks_cancel_exactly_in_the_sum(cohort, length, seed):
    randomness = Seeded(seed)
    keys, seeds = ([randomness.token(32) for _ in range(cohort)] for _ in range(2))
    values = [np.frombuffer(randomness.token(4 * length), "<u4") for _ in range(cohort)]
    total, plain = np.zeros(length, np.uint32), np.zeros(length, np.uint32)
    for index in range(cohort):
        pairs = {peer: pairwise_seed(keys[index], mask_public_key(keys[peer]), PLAN) for peer in range(cohort) if peer != index}
        total += add_masks(values[index], index=index, self_seed=seeds[index], pair_seeds=pairs, context=PLAN)
        total -= self_mask(seeds[index], PLAN, length)
        plain += values[index]
    assert np.array_equal(total, plain)


def test_both_sides_of_a_pair_have_one_seed_and_every_context_another():
    randomness = Seeded("pair")
    left, right = randomness.token(32), randomness.token(32)
    seed = pairwise_seed(left, mask_public_key(right), PLAN)
    assert seed == pairwise_seed(right, mask_public_key(left), PLAN)
    assert seed != pairwise_seed(left, mask_public_key(right), OTHER_PLAN)
    streams = [
        self_mask(seed, PLAN, 64),
        pairwise_mask(seed, PLAN, 64),
        self_mask(seed, OTHER_PLAN, 64),
        mask_stream(seed, PLAN, 64),
    ]
    for one, other in itertools.combinations(streams, 2):
        assert (one == other).sum() <= 1


@pytest.mark.parametrize("bit", [0, 1, 7, 31, 100, 128, 200, 254, 255])
def test_every_bit_of_a_seed_counts(bit):
    # Folding the seed to 32 bits is what made another secure aggregation unsound.
    seed = Seeded("bits").token(32)
    flipped = (int.from_bytes(seed, "big") ^ 1 << bit).to_bytes(32, "big")
    assert not np.array_equal(mask_stream(seed, b"", 4), mask_stream(flipped, b"", 4))


@pytest.mark.parametrize("size", [0, 4, 16, 31, 33])
def test_a_seed_of_another_size_is_refused(size):
    for attempt in (
        lambda: derive(bytes(size), b""),
        lambda: Stream(bytes(size), b""),
        lambda: mask_stream(bytes(size), b"", 4),
        lambda: pairwise_seed(bytes(size), mask_public_key(b"\x01" * 32), PLAN),
        lambda: mask_public_key(bytes(size)),
    ):
        with pytest.raises(ValueError, match="32 bytes"):
            attempt()


@pytest.mark.parametrize("public", [*map(bytes.fromhex, LOW_ORDER), b"", bytes(31), bytes(33)])
def test_a_key_whose_secret_the_server_would_know_is_refused(public):
    with pytest.raises(FederationError) as caught:
        pairwise_seed(b"\x01" * 32, public, PLAN)
    assert caught.value.code == "federation.malformed"


def test_an_update_without_a_neighbour_is_not_masked():
    for pairs in ({}, {3: bytes(32)}):
        with pytest.raises(ValueError, match="neighbour"):
            add_masks(np.zeros(4, np.uint32), index=3, self_seed=bytes(32), pair_seeds=pairs, context=PLAN)


def test_a_masked_update_looks_random():
    # Chi-square over the bytes of a masked constant; a uniform source fails with probability 1e-6.
    masked = add_masks(
        np.full(50_000, 7, np.uint32), index=0, self_seed=Seeded("a").token(32), pair_seeds={1: bytes(32)}, context=PLAN
    )
    counts = np.bincount(masked.view(np.uint8), minlength=256)
    assert stats.chi2.sf(((counts - 781.25) ** 2 / 781.25).sum(), 255) > 1e-6


def test_lengths_are_part_of_a_context():
    assert bind(b"ab", b"c") != bind(b"a", b"bc") != bind(b"abc")


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 20), st.integers(0, 20), st.integers(0, 10**6), st.randoms())
def test_any_threshold_shares_give_the_secret_back(secret, threshold, more, seed, chance):
    points = chance.sample(range(1, 2**32), threshold + more)
    shares = split(secret, threshold, points, Seeded(seed))
    assert [share.point for share in shares] == points
    assert {len(share.to_bytes()) for share in shares} == {SHARE_SIZE}
    assert all(Share.parse(share.point, share.to_bytes()) == share for share in shares)
    some = chance.sample(shares, chance.randint(threshold, len(shares)))
    assert combine(some, threshold) == secret
    assert recover(some, threshold) == (secret, ())


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, (2**256 - 1).to_bytes(32, "big"), b"\x00" * 31 + b"\x01"])
def test_the_extremes_of_a_secret(secret):
    assert combine(split(secret, 3, [5, 9, 2**32], Seeded("edge")), 3) == secret


def test_the_field_is_a_field():
    chance = random.Random(1)
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(40):  # Miller and Rabin: a composite passes with probability 4**-40
        power = pow(chance.randrange(2, PRIME - 1), odd, PRIME)
        assert power in (1, PRIME - 1) or any((power := power * power % PRIME) == PRIME - 1 for _ in range(twos - 1))
    assert PRIME > 2**256


def test_fewer_shares_than_the_threshold_fit_every_secret():
    # For each of the 2**8 secrets tried there is a polynomial through the same two shares: they say nothing.
    shares = split(Seeded("a").token(32), 3, [1, 2, 3], Seeded("b"))[:2]
    for guess in range(256):
        through = [Share(2**32, guess), *shares]
        assert len(combine(through, 3)) == 32 if _value_at_zero(through) < 2**256 else True
    with pytest.raises(FederationError) as caught:
        combine(shares, 3)
    assert caught.value.code == "federation.aborted"


def test_the_values_of_shares_are_uniform():
    # Top bytes of 4,000 shares of one constant secret; fails a right splitting with probability 1e-6.
    randomness = Seeded("uniform")
    tops = [split(bytes(32), 2, [1, 2], randomness)[0].value >> 248 for _ in range(4000)]
    counts = np.bincount(tops, minlength=257)[:256]
    assert stats.chi2.sf(((counts - 15.625) ** 2 / 15.625).sum(), 255) > 1e-6


@pytest.mark.parametrize("points", [[1, 1, 2], [0, 1, 2], [1, 2, 2**32 + 1], [-1, 1, 2]])
def test_wrong_points_are_refused(points):
    with pytest.raises(FederationError) as caught:
        split(bytes(32), 2, points, Seeded("p"))
    assert caught.value.code == "federation.malformed"


def test_a_share_given_twice_does_not_count_twice():
    share = split(bytes(32), 2, [1, 2], Seeded("p"))[0]
    for attempt in (combine, recover):
        with pytest.raises(FederationError, match="malformed"):
            attempt([share, share], 2)


@pytest.mark.parametrize("value", [PRIME, 2**264 - 1])
def test_a_value_outside_the_field_is_refused(value):
    with pytest.raises(FederationError, match="field"):
        Share.parse(1, value.to_bytes(33, "big"))


@pytest.mark.parametrize("size", [0, 32, 34])
def test_a_share_of_another_size_is_refused(size):
    with pytest.raises(FederationError, match="33 bytes"):
        Share.parse(1, bytes(size))


@pytest.mark.parametrize(("size", "threshold"), [(31, 1), (33, 1), (32, 0), (32, 4)])
def test_a_splitting_that_cannot_be_is_refused(size, threshold):
    with pytest.raises(ValueError, match=r"32 bytes|threshold"):
        split(bytes(size), threshold, [1, 2, 3], Seeded("s"))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 14), st.integers(0, 10**6), st.randoms())
def test_false_shares_are_found_up_to_half_of_the_surplus(threshold, surplus, seed, chance):
    secret = Seeded(seed).token(32)
    shares = list(split(secret, threshold, range(1, threshold + surplus + 1), Seeded(seed + 1)))
    false = sorted(chance.sample(range(len(shares)), chance.randint(0, surplus // 2)))
    for place in false:
        shares[place] = Share(shares[place].point, (shares[place].value + chance.randrange(1, PRIME)) % PRIME)
    assert recover(shares, threshold) == (secret, tuple(place + 1 for place in false))
    if false:
        with pytest.raises(FederationError, match="malformed"):
            combine(shares, threshold)


def test_more_false_shares_than_that_give_no_wrong_secret():
    chance, refused = random.Random(2), 0
    for trial in range(50):
        shares = list(split(Seeded(trial).token(32), 4, range(1, 11), Seeded(trial + 100)))
        for place in chance.sample(range(10), 5):
            shares[place] = Share(shares[place].point, chance.randrange(PRIME))
        with pytest.raises(FederationError, match="malformed"):
            recover(shares, 4)
        refused += 1
    assert refused == 50


def test_a_secret_that_is_not_the_announced_one_is_refused():
    shares = split(bytes(32), 2, [1, 2, 3], Seeded("x"))
    assert recover(shares, 2, lambda secret: secret == bytes(32)) == (bytes(32), ())
    with pytest.raises(FederationError, match="malformed"):
        recover(shares, 2, lambda secret: False)


def test_a_sealed_pair_opens_in_its_own_context_only():
    randomness = Seeded("seal")
    key, other = randomness.token(32), randomness.token(32)
    pair = SharePair(Share(6, 1), Share(6, PRIME - 1))
    sealed = seal_pair(pair, mask_public_key(key), plan=PLAN, sender=2, receiver=5)
    assert len(sealed) == SEALED_SIZE == 115
    assert open_pair(sealed, key, plan=PLAN, sender=2, receiver=5) == pair
    changed = bytearray(sealed)
    changed[40] ^= 1
    for data, private, context in (
        (sealed, key, (OTHER_PLAN, 2, 5)),
        (sealed, key, (PLAN, 3, 5)),
        (sealed, key, (PLAN, 5, 2)),
        (sealed, key, (PLAN, 2, 6)),
        (sealed, other, (PLAN, 2, 5)),
        (bytes(changed), key, (PLAN, 2, 5)),
        (sealed[:-1], key, (PLAN, 2, 5)),
        (b"", key, (PLAN, 2, 5)),
        (bytes(SEALED_SIZE), key, (PLAN, 2, 5)),
    ):
        with pytest.raises(FederationError) as caught:
            open_pair(data, private, plan=context[0], sender=context[1], receiver=context[2])
        assert caught.value.code == "federation.malformed"


def test_a_pair_is_sealed_at_the_receivers_point_only():
    pair = SharePair(Share(6, 1), Share(6, 2))
    with pytest.raises(ValueError, match="point"):
        seal_pair(pair, mask_public_key(bytes([1]) * 32), plan=PLAN, sender=2, receiver=6)
    with pytest.raises(FederationError, match="malformed"):
        seal_pair(pair, bytes(32), plan=PLAN, sender=2, receiver=5)
    with pytest.raises(FederationError, match="one point"):
        SharePair(Share(6, 1), Share(7, 2))
    for data in (b"", bytes(67), b"\x01" + bytes(65), b"\x01" + bytes(67)):
        with pytest.raises(FederationError, match="length or version"):
            SharePair.parse(6, data)


def test_no_repr_shows_a_share():
    assert "12345" not in repr(SharePair(Share(6, 12345), Share(6, 123456)))


def _value_at_zero(shares: list[Share]) -> int:
    total = 0
    for share in shares:
        above, below = share.value, 1
        for other in shares:
            if other is not share:
                above, below = above * -other.point, below * (share.point - other.point)
        total += above * pow(below, -1, PRIME)
    return total % PRIME
