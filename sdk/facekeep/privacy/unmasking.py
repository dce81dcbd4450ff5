"""What the server does with the secrets that shares gave back: masks made again and taken off the sum. Pure, memory flat.

The sum of all survivors goes in, and the only thing that comes out is that sum without masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.privacy.masking import pairwise_mask, pairwise_seed, self_mask


def sum_updates(updates: Iterable[NDArray[np.uint32]], size: int) -> NDArray[np.uint32]:
    """Return the sum of masked updates modulo 2**32, taken one at a time.

    Raises:
        FederationError: "federation.invalid_update" if one is not (size,) uint32.
    """
    total = np.zeros(size, dtype=np.uint32)
    for update in updates:
        if update.shape != (size,) or update.dtype != np.uint32:
            raise FederationError("federation.invalid_update", f"a masked update of this plan is ({size},) uint32")
        total += update
    return total


def unmask(
    masked_sum: NDArray[np.uint32],
    *,
    self_seeds: Mapping[int, bytes],
    dropped_keys: Mapping[int, bytes],
    partners: Mapping[int, Mapping[int, bytes]],
    context: bytes,
    threads: int = 1,
) -> NDArray[np.uint32]:
    """Return the sum of the survivors' noised updates modulo 2**32.

    Masks between two survivors have cancelled; left are each survivor's own mask, and those towards devices that dropped out after
    their keys had been handed round.

    Args:
        masked_sum: (size,) uint32, the sum over the survivors.
        self_seeds: place of every survivor -> seed of its own mask.
        dropped_keys: place of every dropped device whose key a survivor used -> its mask private key.
        partners: dropped device -> place of each survivor that was shown its key -> that survivor's mask public key.
        context: digest of the plan.
        threads: how many at once; each holds one sum and one mask.

    Raises:
        ValueError: if a device counts as survivor and as dropped (both secrets of one device open its update), or a dropped
            device's partners are not survivors, or not given.
    """
    if self_seeds.keys() & dropped_keys.keys():
        raise ValueError("a device either survived or dropped out")
    if dropped_keys.keys() != partners.keys() or any(peers.keys() - self_seeds.keys() for peers in partners.values()):
        raise ValueError("masks to take off lie between a dropped device and a survivor")
    work: list[tuple[int, bytes, int | None, bytes]] = [(place, seed, None, b"") for place, seed in self_seeds.items()]
    for place, key in dropped_keys.items():
        work.extend((place, key, peer, public) for peer, public in partners[place].items())

    def masks_of(part: list[tuple[int, bytes, int | None, bytes]]) -> NDArray[np.uint32]:
        total = np.zeros(masked_sum.size, dtype=np.uint32)
        for place, secret, peer, public in part:
            if peer is None:
                total += self_mask(secret, context, total.size)
            elif peer < place:  # the survivor has the lower place: it added the mask
                total += pairwise_mask(pairwise_seed(secret, public, context), context, total.size)
            else:
                total -= pairwise_mask(pairwise_seed(secret, public, context), context, total.size)
        return total

    if threads <= 1:
        return masked_sum - masks_of(work)
    with ThreadPoolExecutor(threads) as pool:
        return masked_sum - sum_updates(pool.map(masks_of, [work[start::threads] for start in range(threads)]), masked_sum.size)
