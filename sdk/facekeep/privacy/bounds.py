"""How likely it is that colluders or drop-outs beat the neighbourhoods, and the numbers to plan with.

A neighbourhood is a uniform choice of `k` among the others (see `graph`), so the colluders in it follow a hypergeometric law; the
bounds add that up over all devices. They hold for a seed that nobody could choose: whoever may try 2**b seeds before signing a plan
multiplies each bound by 2**b.
"""

from __future__ import annotations

import math

import numpy as np

from facekeep.errors import FederationError
from facekeep.privacy.graph import degree

MOST_NEIGHBOURS = 64
_TILTS = [step / 20 for step in range(101)]


def collusion_bound(cohort: int, k: int, threshold: int, colluding: int) -> float:
    """Bound the probability that some honest device has `threshold` colluders or more among its neighbours.

    Those could put together both of its secrets, and with the server's help read its update.
    """
    count = degree(cohort, k)
    return min(1.0, (cohort - colluding) * _tail(cohort - 1, min(colluding, cohort - 1), count, threshold))


def dropout_bound(cohort: int, k: int, threshold: int, dropped: int) -> float:
    """Bound the probability that `dropped` devices at random leave somebody with fewer than `threshold` neighbours.

    The round would have to be aborted: nobody could take that device's mask off. Nothing is revealed by it.
    """
    count = degree(cohort, k)
    return min(1.0, cohort * _tail(cohort - 1, min(dropped, cohort - 1), count, count - threshold + 1))


def splitting_bound(cohort: int, k: int, threshold: int, colluding: int, survivors: int) -> float:
    """Bound the expected number of ways in which a lying server could cut the honest survivors in two and learn both sums.

    The server names whom it likes as dropped out, as long as `survivors` are left, and knows the masks of the colluders. A part of
    s devices can be opened only if each has `threshold` neighbours in it or colluding; it is cut off only if no edge leads from it
    to the other honest survivors. First moment over all parts, in the model where each pair is joined independently with
    probability p = k / (cohort - 1); the degrees are bounded after Chernoff, so that each term holds for any exponent tried.
    """
    count, honest = degree(cohort, k), survivors - colluding
    if count == cohort - 1 or honest < 2:
        return 0.0
    joined, size = count / (cohort - 1), np.arange(1, honest // 2 + 1)
    pairs, other = size * (size - 1) / 2, honest - size
    opened = np.minimum.reduce(
        [
            size * (colluding * math.log1p(joined * math.expm1(tilt)) - tilt * threshold)
            + pairs * math.log1p(joined * math.expm1(2 * tilt))
            for tilt in _TILTS
        ]
    )
    left = np.array([_log_choose(cohort - colluding - part, honest - part) for part in size.tolist()])
    parts = np.array([_log_choose(cohort - colluding, part) for part in size.tolist()])
    cut = left + size * other * math.log1p(-joined)
    return min(1.0, float(np.exp(np.minimum(0.0, parts + opened + np.minimum(0.0, cut))).sum()))


def recommended(
    cohort: int, dropout: float, colluding: float, *, private_bits: int = 40, failing: float = 1e-3, most: int = MOST_NEIGHBOURS
) -> tuple[int, int]:
    """Return (k, threshold), with the fewest neighbours that keep all three bounds.

    Args:
        cohort: devices invited.
        dropout: share of them that may drop out, 0 .. 1; the plan's minimum has to be the rest, cohort - ceil(dropout * cohort).
        colluding: share of them that may collude with the server, 0 .. 1.
        private_bits: `collusion_bound` and `splitting_bound` have to be at most 2**-private_bits.
        failing: `dropout_bound` may be at most this: how often a round may fail for this reason.
        most: largest number of neighbours.

    Raises:
        FederationError: "federation.plan_refused" if no number of neighbours up to `most` does.
    """
    if not 0 <= dropout < 1 or not 0 <= colluding < 1:
        raise ValueError("drop-out and collusion are shares from 0 to 1")
    bad, gone, limit = math.ceil(colluding * cohort), math.ceil(dropout * cohort), 2.0**-private_bits
    for k in range(min(2, cohort - 1), min(most, cohort - 1) + 1):
        count = degree(cohort, k)
        lowest = next((t for t in range(1, count + 1) if collusion_bound(cohort, k, t, bad) <= limit), count + 1)
        highest = next((t for t in range(count, 0, -1) if dropout_bound(cohort, k, t, gone) <= failing), 0)
        if count > most or lowest > highest:
            continue
        # Half-way, so that both sides get some of the room; all the way to where fewer drop-outs are borne if cutting asks for it.
        for threshold in ((lowest + highest + 1) // 2, highest):
            if splitting_bound(cohort, k, threshold, bad, cohort - gone) <= limit:
                return count, threshold
    raise FederationError(
        "federation.plan_refused",
        f"no {most} neighbours bear {gone} drop-outs and {bad} colluders in a cohort of {cohort}: invite more, or expect less",
    )


def _tail(population: int, marked: int, drawn: int, least: int) -> float:
    """Probability that at least `least` of `drawn` without replacement are marked."""
    if least <= 0:
        return 1.0
    whole = _log_choose(population, drawn)
    first, last = max(least, drawn - (population - marked)), min(marked, drawn)
    logs = [_log_choose(marked, n) + _log_choose(population - marked, drawn - n) - whole for n in range(first, last + 1)]
    return min(1.0, math.fsum(math.exp(value) for value in logs))


def _log_choose(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)
