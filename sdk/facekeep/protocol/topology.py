"""Who masks with whom, who confirms, and which survivors may be summed: all of it follows from the digest of the plan.

Device and server compute the same, so the server cannot choose a device's neighbours. It can still lie about who survived: to see
one update alone it would say that all neighbours of that device dropped out, for then their pairwise masks are opened. Hence
`require_summable`: what is left of the graph hangs together, and every survivor keeps at least `threshold` surviving neighbours,
more than can side with the server.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.privacy.graph import committee, neighbour_table
from facekeep.privacy.stream import Stream, bind, derive
from facekeep.protocol.plan import RoundPlan

_GROUPS = bind(b"facekeep groups v1")


class Topology:
    """Groups, graphs and committee of one round. Places are those of the cohort.

    Args:
        plan: the plan.
        digest: its digest, 32 bytes.
    """

    def __init__(self, plan: RoundPlan, digest: bytes) -> None:
        self._plan, self._digest = plan, digest
        self._last: tuple[bytes, bool] = (b"", False)

    @cached_property
    def groups(self) -> tuple[NDArray[np.int64], ...]:
        """Places of each group, ascending."""
        size, count = self._plan.cohort_size, self._plan.groups
        order = np.arange(size) if count == 1 else Stream(self._digest, _GROUPS).permutation(size)
        return tuple(np.sort(part) for part in np.array_split(order, count))

    @cached_property
    def group_of(self) -> NDArray[np.int64]:
        """(cohort,) number of the group at each place."""
        found = np.empty(self._plan.cohort_size, dtype=np.int64)
        for number, members in enumerate(self.groups):
            found[members] = number
        return found

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """(cohort, neighbours) places of the neighbours of each place, ascending."""
        found = np.empty((self._plan.cohort_size, self._plan.neighbours), dtype=np.int64)
        for number, members in enumerate(self.groups):
            seed = derive(self._digest, bind(b"facekeep group v1", number.to_bytes(4, "big")))
            found[members] = members[neighbour_table(len(members), self._plan.neighbours, seed)]
        return found

    @cached_property
    def committee(self) -> tuple[int, ...]:
        """Places of those who confirm, ascending."""
        return committee(self._plan.cohort_size, self._plan.committee, self._digest)

    def neighbours(self, place: int) -> tuple[int, ...]:
        """Return the places of a device's neighbours, ascending."""
        return tuple(int(peer) for peer in self.table[place])

    def summable(self, alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the largest part of `alive` that may be summed: (cohort,) bool.

        Devices with too few surviving neighbours go, until none is left that has too few; then every group that fell below the
        minimum or apart.
        """
        kept = alive.copy()
        while (few := kept & (kept[self.table].sum(axis=1) < self._plan.threshold)).any():
            kept &= ~few
        for members in self.groups:
            if kept[members].any() and not self._is_summable(members, kept):
                kept[members] = False
        return kept

    def require_summable(self, alive: NDArray[np.bool_]) -> None:
        """Return if the sums of these survivors may be opened, group by group.

        Raises:
            FederationError: "federation.cohort_too_small".
        """
        key = alive.tobytes()
        if self._last[0] != key:
            self._last = (key, bool(alive.any()) and np.array_equal(self.summable(alive), alive))
        if not self._last[1]:
            raise FederationError(
                "federation.cohort_too_small",
                f"Of {int(alive.sum())} survivors some group is below {self._plan.minimum} devices, has fallen apart, or holds a "
                f"device with fewer than {self._plan.threshold} surviving neighbours: its sum could tell of single devices.",
            )

    def require_masked_edges(self, place: int, masked_with: NDArray[np.bool_], alive: NDArray[np.bool_]) -> None:
        """Return if a survivor masked with every neighbour that is counted as a survivor, too.

        Args:
            place: of the survivor.
            masked_with: (neighbours,) bool: those it masked with.
            alive: (cohort,) bool: the survivors.

        Raises:
            FederationError: "federation.cohort_too_small".
        """
        # Few adverts: an edge without a mask holds nothing together. A server that shows a device some neighbours only, and counts
        # just those as dropped, would open its update alone.
        if (alive[self.table[place]] & ~masked_with).any():
            raise FederationError(
                "federation.cohort_too_small",
                f"The update of place {place} is not masked with all of its neighbours that are counted as survivors.",
            )

    def _is_summable(self, members: NDArray[np.int64], alive: NDArray[np.bool_]) -> bool:
        inside = members[alive[members]]
        if inside.size < self._plan.minimum:
            return False
        reached = np.zeros(alive.size, dtype=bool)
        frontier = inside[:1]
        while frontier.size:
            reached[frontier] = True
            found = np.unique(self.table[frontier])
            frontier = found[alive[found] & ~reached[found]]
        return int(reached.sum()) == inside.size


@lru_cache(maxsize=8)
def topology_of(plan: RoundPlan, digest: bytes) -> Topology:
    """Return the topology of a plan; the last few are remembered, for every step of a round asks."""
    return Topology(plan, digest)
