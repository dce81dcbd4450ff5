"""From masked sums and revealed shares to the mean update: the only place where anything is opened, and only ever a sum.

Pure. The norm check is all that masking leaves to check: it bounds what hostile devices of a group can do together, not what one
device does. A device that stays within the clip is believed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.privacy.masking import mask_public_key
from facekeep.privacy.ring import from_ring
from facekeep.privacy.sharing import Share, recover
from facekeep.privacy.unmasking import unmask
from facekeep.protocol import EXTRA_SHARE, RoundPlan, SignedPlan, Topology, seed_commitment
from facekeep_server.rounds.report import GroupOutcome

# The chance that honest noise passes the bound.
_FALSE_ALARM_BITS = 40
# Beyond the threshold: two false shares among them are found and left out.
_SPARE_SHARES = 4


@dataclass(frozen=True, slots=True)
class Announced:
    """What a device announced in PREPARE, as far as opening needs it.

    Attributes:
        mask_key: public mask key.
        commitment: to the seed of its own mask.
    """

    mask_key: bytes
    commitment: bytes


@dataclass(slots=True)
class Secrets:
    """What the shares gave.

    Attributes:
        seeds: survivor -> seed of its own mask.
        mask_keys: dropped device -> private mask key.
        false_shares: places of those who revealed a share that was not the one they were dealt.
        false_dealers: places of those whose shares give no secret, or another than they announced.
    """

    seeds: dict[int, bytes] = field(default_factory=dict, repr=False)
    mask_keys: dict[int, bytes] = field(default_factory=dict, repr=False)
    false_shares: set[int] = field(default_factory=set)
    false_dealers: set[int] = field(default_factory=set)


def recover_secrets(
    signed: SignedPlan,
    survivors: NDArray[np.bool_],
    announced: Mapping[int, Announced],
    shares: Mapping[int, Sequence[Share]],
) -> Secrets:
    """Return one secret for each device that the survivors used the key of: the seed of a survivor, the mask key of another.

    Args:
        signed: the plan.
        survivors: (cohort,) bool.
        announced: place -> what it announced.
        shares: place -> shares of it that survivors revealed.

    Raises:
        FederationError: "federation.aborted" if a device has fewer shares than the threshold.
    """
    found = Secrets()
    for place, given in shares.items():
        if survivors[place]:
            target, right = found.seeds, _opens(signed.digest, place, announced[place].commitment)
        else:
            target, right = found.mask_keys, _is_key_of(announced[place].mask_key)
        try:
            target[place], points = _recover(given, signed.plan.threshold, right)
        except FederationError as error:
            if error.code == "federation.aborted":
                raise
            found.false_dealers.add(place)
        else:
            found.false_shares |= {point - 1 for point in points}
    return found


def open_group(
    signed: SignedPlan,
    topology: Topology,
    members: NDArray[np.int64],
    masked_sum: NDArray[np.uint32],
    survivors: NDArray[np.bool_],
    announced: Mapping[int, Announced],
    secrets: Secrets,
    *,
    threads: int,
) -> tuple[NDArray[np.int64], GroupOutcome]:
    """Return the sum of one group, (size,) int64 in units of the ring, and how it looks."""
    inside = [int(place) for place in members if survivors[place]]
    partners: dict[int, dict[int, bytes]] = {}
    for place in inside:
        for peer in topology.neighbours(place):
            if peer in announced and not survivors[peer]:
                partners.setdefault(peer, {})[place] = announced[place].mask_key
    opened = unmask(
        masked_sum,
        self_seeds={place: secrets.seeds[place] for place in inside},
        dropped_keys={peer: secrets.mask_keys[peer] for peer in partners},
        partners=partners,
        context=signed.digest,
        threads=threads,
    )
    total = from_ring(opened)
    plan = signed.plan
    norm, bound = math.sqrt(float(np.sum(total.astype(np.float64) ** 2))), norm_bound(plan, len(inside))
    return total, GroupOutcome(len(inside), norm * plan.step, bound * plan.step, is_counted=norm <= bound)


def norm_bound(plan: RoundPlan, devices: int) -> float:
    """Return the largest norm of the sum of so many honest devices, in units of the ring, but for a chance of 2**-40.

    Each part is at most the sensitivity. The noise is sub-Gaussian, so its squared norm has the tail of chi-squared
    (Hsu, Kakade, Zhang 2012, theorem 1, with the identity).
    """
    risk = _FALSE_ALARM_BITS * math.log(2)
    square = plan.size + 2 * math.sqrt(plan.size * risk) + 2 * risk
    return devices * plan.scale.sensitivity + math.sqrt(devices * plan.noise_variance * square)


def mean_of(plan: RoundPlan, total: NDArray[np.int64], devices: int) -> tuple[NDArray[np.float32], dict[str, float]]:
    """Return the mean update, (P,) float32 read-only, and the mean of each extra.

    Raises:
        ValueError: without a device: a mean of nobody would be a model of zeroes.
    """
    if devices < 1:
        raise ValueError("a mean is over somebody")
    mean = total.astype(np.float64) * plan.step / devices
    update = mean[: plan.length].astype(np.float32)
    update.flags.writeable = False
    share = plan.scale.clip / EXTRA_SHARE
    extras = {extra.name: float(value / share * extra.most) for extra, value in zip(plan.extras, mean[plan.length :], strict=True)}
    return update, extras


def _recover(given: Sequence[Share], threshold: int, is_right: Callable[[bytes], bool]) -> tuple[bytes, tuple[int, ...]]:
    # Decoding takes the square of their number, and false shares are rare: all of them only where a few do not do.
    few = given[: threshold + _SPARE_SHARES]
    try:
        return recover(few, threshold, is_right)
    except FederationError as error:
        if error.code == "federation.aborted" or len(few) == len(given):
            raise
    return recover(given, threshold, is_right)


def _opens(plan: bytes, place: int, commitment: bytes) -> Callable[[bytes], bool]:
    return lambda seed: seed_commitment(plan, place, seed) == commitment


def _is_key_of(public: bytes) -> Callable[[bytes], bool]:
    return lambda private: mask_public_key(private) == public
