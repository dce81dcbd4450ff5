"""Who masks with whom: regular, symmetric, connected, the same everywhere; and the bounds against simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from facekeep.errors import FederationError
from facekeep.privacy.bounds import collusion_bound, dropout_bound, recommended, splitting_bound
from facekeep.privacy.graph import committee, degree, neighbour_table, neighbours
from tests.sdk.privacy_setting import Seeded

SEED = bytes(range(32))


def is_connected(graph, alive) -> bool:
    """Tell whether the devices in `alive` hang together by edges among themselves."""
    rest = set(alive)
    if not rest:
        return False
    waiting = [rest.pop()]
    while waiting and rest:
        found = rest.intersection(int(peer) for peer in graph[waiting.pop()])
        rest -= found
        waiting.extend(found)
    return not rest


def require_regular(graph, cohort: int, count: int) -> None:
    assert len(graph) == cohort
    for index, peers in enumerate(graph):
        assert len(peers) == len(set(peers)) == count
        assert index not in peers
        assert list(peers) == sorted(peers)
        assert all(index in graph[peer] for peer in peers)
    assert is_connected(graph, range(cohort))


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 150), st.integers(2, 64), st.binary(min_size=32, max_size=32))
def test_any_cohort_gets_a_regular_symmetric_connected_graph(cohort, k, seed):
    graph = neighbours(cohort, k, seed)
    require_regular(graph, cohort, degree(cohort, k))
    assert graph == neighbours(cohort, k, seed)


@pytest.mark.parametrize(("cohort", "k"), list(itertools.product([2, 3, 4, 5, 6, 7, 8, 9, 10, 64, 65, 66, 67], [2, 3, 4, 63, 64])))
def test_small_cohorts(cohort, k):
    require_regular(neighbours(cohort, k, SEED), cohort, degree(cohort, k))
    assert degree(cohort, k) == min(k, cohort - 1) + (cohort * min(k, cohort - 1)) % 2


def test_a_large_cohort():
    graph = neighbours(3000, 64, SEED)
    require_regular(graph, 3000, 64)


@pytest.mark.parametrize(("cohort", "k"), [(1, 1), (0, 2), (5, 0), (5, 1), (2**20 + 1, 4)])
def test_a_graph_that_cannot_be_is_refused(cohort, k):
    with pytest.raises(ValueError, match="no connected graph"):
        neighbours(cohort, k, SEED)


def test_another_seed_another_graph_and_no_short_seeds():
    assert neighbours(40, 8, SEED) != neighbours(40, 8, bytes(32))
    with pytest.raises(ValueError, match="32 bytes"):
        neighbours(40, 8, bytes(4))


def test_the_table_is_the_same_graph():
    assert [tuple(row) for row in neighbour_table(50, 6, SEED).tolist()] == list(neighbours(50, 6, SEED))


def test_a_device_is_as_likely_next_to_any_other():
    # Chi-square over who is next to device 0 in 1,000 graphs; a fair construction fails with probability 1e-6.
    counts, randomness = np.zeros(30), Seeded("pairs")
    for _ in range(1000):
        counts[list(neighbours(30, 6, randomness.token(32))[0])] += 1
    rate = 6 / 29
    statistic = ((counts[1:] - 1000 * rate) ** 2 / (1000 * rate * (1 - rate))).sum() * 28 / 29
    assert stats.chi2.sf(statistic, 28) > 1e-6


def test_committees():
    assert committee(10, 512, SEED) == tuple(range(10))
    members = committee(5000, 512, SEED)
    assert len(set(members)) == 512
    assert list(members) == sorted(members)
    assert members == committee(5000, 512, SEED) != committee(5000, 512, bytes(32))
    for cohort, size in ((0, 5), (5, 0), (2**20 + 1, 5)):
        with pytest.raises(ValueError, match="committee"):
            committee(cohort, size, SEED)


def test_the_collusion_bound_covers_what_is_seen():
    # 60 devices, 12 of them colluding, 14 neighbours: how often somebody honest has 7 of them, in 400 graphs.
    seen, randomness = 0, Seeded("collusion")
    for _ in range(400):
        graph = neighbours(60, 14, randomness.token(32))
        seen += any(sum(peer < 12 for peer in graph[index]) >= 7 for index in range(12, 60))
    bound = collusion_bound(60, 14, 7, 12)
    assert 0.1 < bound < 1
    assert seen / 400 < bound + 5 * math.sqrt(bound / 400)
    assert seen / 400 > bound / 4  # and is not a bound of no use


def test_the_dropout_bound_covers_what_is_seen():
    seen, randomness = 0, Seeded("dropout")
    for _ in range(400):
        graph = neighbours(60, 14, randomness.token(32))
        seen += any(sum(peer >= 18 for peer in peers) < 6 for peers in graph)
    bound = dropout_bound(60, 14, 6, 18)
    assert 0.05 < bound < 1
    assert bound / 4 < seen / 400 < bound + 5 * math.sqrt(bound / 400)


@pytest.mark.parametrize("cohort", [5, 20, 66, 200, 629, 1000])
@pytest.mark.parametrize("colluding", [0.0, 0.02, 0.05])
def test_recommended_numbers_keep_every_bound(cohort, colluding):
    k, threshold = recommended(cohort, 0.3, colluding)
    bad, gone = math.ceil(colluding * cohort), math.ceil(0.3 * cohort)
    assert k <= 64
    assert k == degree(cohort, k)
    assert 1 <= threshold <= k
    assert collusion_bound(cohort, k, threshold, bad) <= 2**-40
    assert splitting_bound(cohort, k, threshold, bad, cohort - gone) <= 2**-40
    assert dropout_bound(cohort, k, threshold, gone) <= 1e-3


def test_where_no_number_of_neighbours_does_it_says_so():
    with pytest.raises(FederationError) as caught:
        recommended(1000, 0.3, 0.3)
    assert caught.value.code == "federation.plan_refused"
    with pytest.raises(ValueError, match="shares"):
        recommended(100, 30, 0.1)


def test_a_liar_splits_a_ring_easily_and_this_graph_hardly():
    # The server names drop-outs one by one to cut a part off that can still be opened. Greedy: the neighbours of a growing part.
    cohort, k, threshold = 200, 24, 8
    ring = [sorted((place + step) % cohort for step in range(-k // 2, k // 2 + 1) if step) for place in range(cohort)]
    arc = set(range(2 * threshold))
    dropped = {peer for member in arc for peer in ring[member]} - arc
    alive = set(range(cohort)) - dropped
    assert len(alive) > 0.7 * cohort
    assert not is_connected(ring, alive)
    assert all(sum(peer in alive for peer in ring[member]) >= threshold for member in arc)
    graph = neighbours(cohort, k, SEED)
    for start in range(0, cohort, 25):
        part = {start}
        while min(sum(peer in part for peer in graph[member]) for member in part) < threshold and len(part) < cohort // 2:
            part.add(max(set(range(cohort)) - part, key=lambda other: sum(peer in part for peer in graph[other])))
        boundary = {peer for member in part for peer in graph[member]} - part
        assert len(boundary) > 0.5 * cohort or len(part) >= cohort // 4
    assert splitting_bound(cohort, k, threshold, 0, 140) < 2**-39


def test_nobody_can_be_cut_off_where_everybody_is_joined():
    assert splitting_bound(20, 19, 5, 3, 12) == 0.0
