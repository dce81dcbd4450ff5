"""From what is wished for to a plan that devices accept: cohort, graph, threshold, quorum, step of the ring, noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from facekeep.errors import FederationError
from facekeep.privacy.accounting import PrivacyCharge, spent
from facekeep.privacy.bounds import MOST_NEIGHBOURS, collusion_bound, recommended, splitting_bound
from facekeep.privacy.graph import degree
from facekeep.privacy.noise import LARGEST_VARIANCE
from facekeep.privacy.ring import Scale
from facekeep.protocol import Account, Cohort, Extra, Kind, Level, Roster, RoundPlan, drawing_order, least_quorum, most_colluding
from facekeep.protocol.acceptance import RISK_BITS
from facekeep.protocol.plan import MOST_COMMITTEE
from facekeep.randomness import Randomness

# A step finer than this gains nothing over float32.
_FINEST = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a round is to do.

    Attributes:
        kind: what is computed.
        level: what training moves.
        length: P.
        base: hexadecimal SHA-256 of what is trained on.
        clip: largest L2 norm of one device's contribution.
        cohort: how many devices are invited, if there are so many.
        noise_multiplier: deviation of the noise of the honest devices of the smallest sum, over the sensitivity; 0 for none.
        delta: at which the cost is stated.
        extras: numbers that travel with the update.
        settings: of the kind.
        groups: into how many separately summed groups the cohort falls. Each is one check of the norm, and each costs noise.
        dropout: share of the devices that may be lost without ending the round.
        colluding_percent: share of the fleet that may side with the server: at least what the devices' policies say.
        lasts: from the beginning to the deadline.
    """

    kind: Kind
    level: Level
    length: int
    base: str
    clip: float
    cohort: int
    noise_multiplier: float
    delta: float = 1e-5
    extras: tuple[Extra, ...] = ()
    settings: Mapping[str, int | str] = field(default_factory=dict)
    groups: int = 1
    dropout: float = 0.3
    colluding_percent: int = 5
    lasts: timedelta = timedelta(hours=12)


def plan_round(
    wish: Wish,
    *,
    number: int,
    roster: Roster,
    now: datetime,
    randomness: Randomness,
    candidates: Sequence[int] | None = None,
    account: Account = spent,
) -> tuple[RoundPlan, Cohort]:
    """Return a plan, not yet signed, and the cohort it invites.

    Args:
        wish: what the round is to do.
        number: of the round: higher than of any before.
        roster: of the federation.
        now: the present instant.
        randomness: where the seed comes from; it decides who is invited, too.
        candidates: roster indices that may be invited: without suspects, for instance; left out: everybody.
        account: what a charge costs.

    Raises:
        FederationError: "federation.cohort_too_small" with fewer than three candidates; "federation.plan_refused" if no graph or no
            step of the ring does what is wished for.
    """
    able = sorted(set(range(len(roster)) if candidates is None else candidates))
    size = min(wish.cohort, len(able))
    seed = randomness.token(32)
    if size < 3 * wish.groups:
        raise FederationError("federation.cohort_too_small", f"{len(able)} devices can be invited; a group takes three at least.")
    cohort, drawn = _draw(able, size, seed, len(roster))
    group, smallest = -(-size // wish.groups), size // wish.groups
    inside = min(size, drawn * wish.colluding_percent // 100)
    colluding = most_colluding(size, inside, group if wish.groups > 1 else size)
    neighbours, threshold, minimum = _graph(group, smallest, colluding, wish.dropout)
    honest = max(1, minimum - colluding)
    scale, variance = _scale(wish, group, honest)
    plan = RoundPlan(
        federation=roster.federation,
        round=number,
        kind=wish.kind,
        level=wish.level,
        roster_size=len(roster),
        roster_root=roster.head.root.hex(),
        drawn=drawn,
        cohort_size=size,
        cohort_digest=cohort.digest,
        groups=wish.groups,
        neighbours=neighbours,
        threshold=threshold,
        committee=(committee := min(size, MOST_COMMITTEE)),
        quorum=least_quorum(size, inside, committee),
        minimum=minimum,
        length=wish.length,
        extras=wish.extras,
        clip_units=scale.clip_units,
        step=scale.step,
        noise_variance=variance,
        base=wish.base,
        settings=wish.settings,
        issued=now,
        deadline=now + wish.lasts,
        seed=seed.hex(),
        noise_multiplier=0.0,
        epsilon=0.0,
        delta=wish.delta,
    )
    if not variance:
        return plan, cohort
    charge = PrivacyCharge(number, variance, honest, scale.squared_sensitivity, plan.size)
    return replace(plan, noise_multiplier=charge.noise_multiplier, epsilon=account([charge], wish.delta)), cohort


def _draw(able: Sequence[int], size: int, seed: bytes, roster: int) -> tuple[Cohort, int]:
    """Return the first `size` devices that may be invited, in the order that the seed draws in, and how many it drew for them."""
    if size >= roster:
        return Cohort.of(able), roster
    chosen: list[int] = []
    allowed, drawn = frozenset(able), 0
    for index in drawing_order(seed.hex(), roster):
        drawn += 1
        if index in allowed:
            chosen.append(index)
            if len(chosen) == size:
                break
    return Cohort.of(chosen), drawn


def _graph(group: int, smallest: int, colluding: int, dropout: float) -> tuple[int, int, int]:
    """Return neighbours, threshold and minimum for groups of these sizes."""
    neighbours, threshold = recommended(group, dropout, colluding / group, private_bits=RISK_BITS)
    minimum = max(3, smallest - math.ceil(dropout * smallest))
    # One degree for every group: an odd one only where every group has an even number of devices.
    if neighbours > smallest - 1 or degree(smallest, neighbours) != neighbours or degree(group, neighbours) != neighbours:
        neighbours = min(neighbours + 1, MOST_NEIGHBOURS, smallest - 1)
        neighbours -= neighbours % 2
    while threshold < neighbours and collusion_bound(group, neighbours, threshold, colluding) > 2.0**-RISK_BITS:
        threshold += 1
    threshold = max(2, min(threshold, neighbours))
    if (
        collusion_bound(group, neighbours, threshold, colluding) > 2.0**-RISK_BITS
        or splitting_bound(group, neighbours, threshold, colluding, minimum) > 2.0**-RISK_BITS
    ):
        raise FederationError(
            "federation.plan_refused",
            f"No graph holds {minimum} survivors of {group} together while {colluding} collude: invite more, or bear less loss.",
        )
    return neighbours, threshold, minimum


def _scale(wish: Wish, devices: int, honest: int) -> tuple[Scale, int]:
    """Return the finest step with which the sum still fits into the ring, and the noise that goes with it."""
    for bits in range(_FINEST, -1, -1):
        scale = Scale(wish.clip / (1 << bits), 1 << bits, wish.length + len(wish.extras))
        variance = math.ceil(wish.noise_multiplier**2 * scale.squared_sensitivity / honest)
        try:
            if variance <= LARGEST_VARIANCE:
                scale.require_room(devices, variance)
                return scale, variance
        except FederationError:
            continue
    raise FederationError("federation.plan_refused", "No step of the ring holds the sum with its noise.")
