"""Attacks on what a federation lets out: membership of devices, and faces out of sums. Pure; arrays in, figures out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]


def area_under_curve(members: Floats, others: Floats) -> float:
    """Return how often a member scores above one who is none: 0.5 is what guessing does."""
    ordered = np.sort(others)
    # A tie counts half.
    below = np.searchsorted(ordered, members, "left") + np.searchsorted(ordered, members, "right")
    return float(below.mean()) / (2 * len(others))


def best_case_area(noise_multiplier: float, rounds: int) -> float:
    """Return the area of an attacker who knows every other device's change and sees every noised sum: what epsilon allows.

    One device moves the sum by the clip in each round, against noise of `noise_multiplier` times that; Dong, Roth, Su 2022,
    "Gaussian differential privacy", equation 6 and corollary 3.3.
    """
    # The normal distribution at root(rounds) / multiplier / root(2).
    return 0.5 * (1 + math.erf(math.sqrt(rounds) / noise_multiplier / 2))


def chance_cosine(dimension: int) -> float:
    """Return the mean of the absolute cosine of two random directions."""
    return float(np.sqrt(2 / (np.pi * dimension)))


def recovered_cosines(changes: Floats, seen: Floats, secrets: Floats, *, known: int, ridge: float) -> NDArray[np.float64]:
    """Return the cosine between each secret and the best linear guess at it.

    The attacker has devices of its own, whose changes and secrets it knows: the first `known`. It fits a linear map by least
    squares and applies it to what it sees of the others. The mean secret, which is a guess that needs no leak at all, is taken away
    from both sides.

    Args:
        changes: (D, P) what devices send, without noise.
        seen: (D, P) what the attacker sees of each; the first `known` rows are not used.
        secrets: (D, 256) the embedding that each device has to hide.
        known: devices of the attacker's own.
        ridge: penalty, as a share of the mean squared length of a change.
    """
    learned = changes[:known].astype(np.float64)
    middle, mean = learned.mean(axis=0), secrets[:known].mean(axis=0)
    learned = learned - middle
    gram = learned @ learned.T
    penalty = ridge * float(np.trace(gram)) / known
    dual = np.linalg.solve(gram + penalty * np.eye(known), secrets[:known] - mean)
    guessed = (seen[known:].astype(np.float64) - middle) @ learned.T @ dual
    true = secrets[known:] - mean
    lengths = np.linalg.norm(guessed, axis=1) * np.linalg.norm(true, axis=1)
    return np.asarray((guessed * true).sum(axis=1) / np.maximum(lengths, 1e-12), np.float64)
