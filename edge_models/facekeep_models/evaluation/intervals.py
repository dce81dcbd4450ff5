"""Exact intervals of a rate, for trials that are independent. Pure.

Pairs of faces seldom are: one person takes part in many. Then `facekeep_models.evaluation.bootstrap` is the interval to
believe, and this one shows how wide it would be at least.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

_TINY: Final = 1e-300
_CLOSE: Final = 1e-15
_BISECTIONS: Final = 1100  # down to the smallest double


def clopper_pearson(errors: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a rate from `errors` in `trials` independent trials.

    Clopper and Pearson 1934, Biometrika 26, "The use of confidence or fiducial limits illustrated in the case of the
    binomial": the bounds at which so few, or so many, errors have a probability of (1 - confidence) / 2. It covers the true
    rate at least as often as it says, also where few errors were seen or none.
    """
    if not 0 <= errors <= trials or trials < 1:
        raise ValueError("errors lie between 0 and the number of trials")
    if not 0.0 < confidence < 1.0:
        raise ValueError("a confidence lies between 0 and 1")
    tail = (1.0 - confidence) / 2.0
    rate = errors / trials
    low, high = 0.0, 1.0
    if errors == trials:
        low = math.exp(math.log(tail) / trials)
    elif errors > 0:
        low = _root(lambda p: at_least(errors, trials, p) - tail, 0.0, rate)
    if errors == 0:
        high = -math.expm1(math.log(tail) / trials)
    elif errors < trials:
        # At most k errors in n is at least n - k successes in n.
        high = _root(lambda p: tail - at_least(trials - errors, trials, 1.0 - p), rate, 1.0)
    return low, high


def at_least(errors: int, trials: int, rate: float) -> float:
    """Return the probability of at least `errors` errors in `trials` trials: I_rate(errors, trials - errors + 1).

    The regularised incomplete beta function, DLMF 8.17.5 (https://dlmf.nist.gov/8.17#E5).
    """
    if errors <= 0:
        return 1.0
    if errors > trials or rate <= 0.0:
        return 0.0
    if rate >= 1.0:
        return 1.0
    a, b = float(errors), float(trials - errors + 1)
    # Where the fraction below converges fast; else by I_x(a, b) = 1 - I_1-x(b, a), DLMF 8.17.4.
    if rate < (a + 1.0) / (a + b + 2.0):
        return _beta_term(a, b, rate) * _fraction(a, b, rate) / a
    return 1.0 - _beta_term(b, a, 1.0 - rate) * _fraction(b, a, 1.0 - rate) / b


def _beta_term(a: float, b: float, x: float) -> float:
    """Return x^a (1 - x)^b / B(a, b), in logarithms: the powers alone leave the range of a double."""
    return math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))


def _fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of DLMF 8.17.22, by the method of Lentz (1976)."""
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value, step = d, 0
    while True:
        step += 1
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        d, c = 1.0 / _away_from_zero(1.0 + even * d), _away_from_zero(1.0 + even / c)
        value *= d * c
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        d, c = 1.0 / _away_from_zero(1.0 + odd * d), _away_from_zero(1.0 + odd / c)
        value *= d * c
        if abs(d * c - 1.0) <= _CLOSE * 10:
            return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Return where a rising function crosses zero, by bisection down to neighbouring doubles."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        if not low < middle < high or high - low <= _CLOSE * high:
            break
        low, high = (low, middle) if rising(middle) > 0.0 else (middle, high)
    return (low + high) / 2.0
