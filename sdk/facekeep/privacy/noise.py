"""Discrete Gaussian noise, exact: whole numbers from a CSPRNG only, no logarithm, no exponential, no floating point.

A sampler that rounds floats does not have the distribution that the privacy proof is about, and its low bits give away more than
the proof allows (Mironov 2012). Source: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020,
arXiv 2004.00010, algorithms 1 to 3, here on whole arrays.

Ranges, so that no 64-bit word overflows: variance V <= 2**40, scale t <= 2**20 + 1, t**2 <= 2V for V > 1 (but V = 4, where 9 / 8
meets only remainders up to 8). A Laplace sample stays below 2**42 except with probability exp(-2**21), and such a one is never
used. Bounds of uniform draws are k * max(t, t**2, 2V) <= k * 2**42 with k, the length of a run of successes, below 2**20.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from facekeep.privacy.stream import SEED_SIZE, Stream, bind
from facekeep.randomness import Randomness

LARGEST_VARIANCE = 2**40
_CONTEXT = bind(b"facekeep discrete gaussian v1")

Whole = NDArray[np.uint64]
Truth = NDArray[np.bool_]


def discrete_gaussian(variance: int, size: int, randomness: Randomness) -> NDArray[np.int64]:
    """Return (size,) int64 with P(x) proportional to exp(-x**2 / (2 * variance)) over all integers.

    Raises:
        ValueError: if the variance is not within 1 .. 2**40.
    """
    if not 1 <= variance <= LARGEST_VARIANCE:
        raise ValueError("the variance is a whole number from 1 to 2**40")
    stream = Stream(randomness.token(SEED_SIZE), _CONTEXT)
    # Any scale is right; near the deviation the fewest candidates are refused.
    scale = math.isqrt(variance) + 1 if variance > 1 else 1
    parts, missing = [np.zeros(0, dtype=np.int64)], size
    while missing > 0:
        candidates = _discrete_laplace(scale, 5 * missing // 2 + 32, stream)
        parts.append(candidates[_is_kept(np.abs(candidates), scale, variance, stream)][:missing])
        missing -= parts[-1].size
    return np.concatenate(parts)


def _discrete_laplace(scale: int, tries: int, stream: Stream) -> NDArray[np.int64]:
    """Algorithm 2: integers with P(x) proportional to exp(-|x| / scale), as many of `tries` as come out."""
    low = stream.below(scale, tries)
    low = low[_exponential(low, scale, stream)]
    high, rising = np.zeros(low.size, dtype=np.uint64), np.arange(low.size)
    while rising.size:
        rising = rising[_exponential(np.ones(rising.size, dtype=np.uint64), 1, stream)]
        high[rising] += np.uint64(1)
    sizes: NDArray[np.int64] = (low + np.uint64(scale) * high).astype(np.int64)
    negative = stream.below(2, sizes.size) == 1
    # Zero would otherwise come with either sign, twice as often as it should.
    counted = ~(negative & (sizes == 0)) & (high < 2**21)
    sizes[negative] *= -1
    drawn: NDArray[np.int64] = sizes[counted]
    return drawn


def _is_kept(sizes: NDArray[np.int64], scale: int, variance: int, stream: Stream) -> Truth:
    """Algorithm 3: keep x with probability exp(-(|x| - V/t)**2 / 2V).

    With w = | |x| t - V | = q t**2 + r that is exp(-(r/t**2)(r/2V)) * exp(-r/V)**q * exp(-t**2/2V)**(q**2): every number fits into
    64 bits, where w**2 over 2 V t**2 would need 160.
    """
    square = scale**2
    quotient, rest = np.divmod(np.abs(sizes * scale - variance).astype(np.uint64), np.uint64(square))
    kept = _exponential(rest, square, stream, rest, 2 * variance)
    for counts, above, below in ((quotient, rest, variance), (quotient**2, np.full_like(rest, square), 2 * variance)):
        alive = np.flatnonzero(kept & (counts > 0))
        kept[alive] = _power(counts[alive], above[alive], below, stream)
    return kept


def _power(counts: Whole, above: Whole, below: int, stream: Stream) -> Truth:
    """Bernoulli(exp(-above / below)) to the power of `counts`: true where so many in a row succeed; above / below may pass 1."""
    whole, rest = np.divmod(above, np.uint64(below))
    return _repeated(counts, rest, below, stream) & _repeated(counts * whole, np.ones_like(rest), 1, stream)


def _repeated(counts: Whole, above: Whole, below: int, stream: Stream) -> Truth:
    success, left, done = np.ones(counts.size, dtype=bool), np.flatnonzero(counts > 0), 0
    while left.size:
        hit = _exponential(above[left], below, stream)
        success[left[~hit]] = False
        done += 1
        left = left[hit]
        left = left[counts[left] > done]
    return success


def _exponential(above: Whole, below: int, stream: Stream, also: Whole | None = None, also_below: int = 1) -> Truth:
    """Algorithm 1: Bernoulli(exp(-x)) for x = above / below, times also / also_below, each factor within 0 .. 1.

    Draws Bernoulli(x/1), Bernoulli(x/2), ... up to the first failure; the answer is whether that was an odd draw. A product is
    drawn as one Bernoulli for each factor.
    """
    answer, running, draw = np.zeros(above.size, dtype=bool), np.arange(above.size), 1
    while running.size:
        hit = stream.below(draw * below, running.size) < above[running]
        if also is not None:
            again = np.flatnonzero(hit)
            hit[again] = stream.below(also_below, again.size) < also[running[again]]
        answer[running[~hit]] = draw % 2 == 1
        running = running[hit]
        draw += 1
    return answer
