"""Who masks with whom: a random graph of one degree, from a seed, the same on every machine.

Every device computes the graph itself from the signed plan, so the server cannot choose a device's neighbours. Bell et al. (CCS
2020) take a ring with random places. There a server that lies about drop-outs cuts off a short arc by naming the devices at its two
ends. The union of random Hamiltonian cycles is an expander: to cut off a few devices, nearly everybody else has to be named.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facekeep.privacy.stream import Stream, bind

_GRAPH = bind(b"facekeep neighbours v1")
_COMMITTEE = bind(b"facekeep committee v1")
_LARGEST_COHORT = 2**20


def degree(cohort: int, k: int) -> int:
    """Return how many neighbours each device really gets: `k`, or all others if they are fewer; one more if the product is odd."""
    if cohort < 2 or cohort > _LARGEST_COHORT or k < 1 or (k < 2 and cohort > 2):
        raise ValueError(f"no connected graph for a cohort of {cohort} with {k} neighbours each")
    k = min(k, cohort - 1)
    return k + (cohort * k) % 2


def neighbours(cohort: int, k: int, seed: bytes) -> tuple[tuple[int, ...], ...]:
    """Return the neighbours of each device, ascending: regular of `degree(cohort, k)`, symmetric, connected.

    Raises:
        ValueError: if the seed has not 32 bytes, or no such graph exists.
    """
    return tuple(tuple(row) for row in neighbour_table(cohort, k, seed).tolist())


def neighbour_table(cohort: int, k: int, seed: bytes) -> NDArray[np.int32]:
    """Return the same as a (cohort, degree) int32 array: what a device with many in its cohort keeps of it."""
    count, stream = degree(cohort, k), Stream(seed, _GRAPH)
    # Dense: the complement of a sparse graph. It is connected, because each device is joined to half of the others or more.
    sparse = 2 * count <= cohort - 1
    table = _sparse(cohort, count, stream) if sparse else _complement(_sparse(cohort, cohort - 1 - count, stream))
    # New names for all at the end: whatever the repairs favoured, a device's neighbours are a uniform choice among the others.
    names, renamed = stream.permutation(cohort).astype(np.int32), np.empty_like(table)
    renamed[names] = np.sort(names[table], axis=1)
    return renamed


def committee(cohort: int, size: int, seed: bytes) -> tuple[int, ...]:
    """Return the places of the devices that confirm who survived, ascending: everybody if the cohort is no larger than `size`."""
    if size < 1 or not 1 <= cohort <= _LARGEST_COHORT:
        raise ValueError("a committee needs a member")
    return tuple(sorted(Stream(seed, _COMMITTEE).permutation(cohort)[:size].tolist()))


def _sparse(cohort: int, count: int, stream: Stream) -> NDArray[np.int32]:
    """Return a graph of degree `count` <= (cohort - 1) / 2: random Hamiltonian cycles, and a pairing if the degree is odd."""
    while True:
        table = np.full((cohort, count), -1, dtype=np.int32)
        if _fill(table, stream):
            return table


def _fill(table: NDArray[np.int32], stream: Stream) -> bool:
    count = table.shape[1]
    for column in range(0, count - 1, 2):
        order = _cycle(table[:, :column], stream)
        if order is None:
            return False
        table[order, column], table[order, column + 1] = np.roll(order, -1), np.roll(order, 1)
    if count % 2:
        order = _pairing(table[:, : count - 1], stream)
        if order is None:
            return False
        table[order[0::2], count - 1], table[order[1::2], count - 1] = order[1::2], order[0::2]
    return True


def _cycle(table: NDArray[np.int32], stream: Stream) -> NDArray[np.int64] | None:
    """Return an order around which no two devices in a row are neighbours already, or None when luck is against it."""
    cohort = len(table)
    order = stream.permutation(cohort)
    for _ in range(64):
        clashes = np.flatnonzero((table[order] == np.roll(order, -1)[:, None]).any(axis=1))
        if not clashes.size:
            return order
        for place, other in zip(np.repeat(clashes, 4).tolist(), stream.below(cohort, 4 * clashes.size).tolist(), strict=True):
            # The second device of the clash changes places with another, if neither then meets somebody it knows.
            here, there = (place + 1) % cohort, int(other)
            if order[here] in table[order[place]] and (here - there) % cohort not in (0, 1, cohort - 1):
                pairs = [(order[there], order[here - 1]), (order[there], order[(here + 1) % cohort])]
                pairs += [(order[here], order[there - 1]), (order[here], order[(there + 1) % cohort])]
                if not any(peer in table[device] for device, peer in pairs):
                    order[[here, there]] = order[[there, here]]
    return None


def _pairing(table: NDArray[np.int32], stream: Stream) -> NDArray[np.int64] | None:
    """Return an order whose devices 0 and 1, 2 and 3, ... are no neighbours yet, or None when luck is against it."""
    cohort = len(table)
    order = stream.permutation(cohort)
    for _ in range(64):
        clashes = np.flatnonzero((table[order[0::2]] == order[1::2][:, None]).any(axis=1))
        if not clashes.size:
            return order
        for pair, other in zip(clashes.tolist(), stream.below(cohort // 2, clashes.size).tolist(), strict=True):
            order[[2 * pair + 1, 2 * other + 1]] = order[[2 * other + 1, 2 * pair + 1]]
    return None


def _complement(table: NDArray[np.int32]) -> NDArray[np.int32]:
    cohort = len(table)
    apart = ~np.eye(cohort, dtype=bool)
    apart[np.arange(cohort)[:, None], table] = False
    return np.nonzero(apart)[1].reshape(cohort, -1).astype(np.int32)
