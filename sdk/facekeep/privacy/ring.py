"""From a float update to whole numbers modulo 2**32, with a bound on its length that rounding cannot break.

Secure aggregation and discrete noise need integers; differential privacy needs a bound on how far one device can move the sum.
`quantise` enforces that bound on the integers themselves, after rounding, so no argument about floating point is needed.

Source: Kairouz, Liu, Steinke, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation",
ICML 2021, arXiv 2102.06387, section 4.1 and lemma 29 (conditional randomised rounding).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facekeep.errors import FederationError
from facekeep.privacy.stream import SEED_SIZE, Stream, bind
from facekeep.randomness import Randomness

_HALF = 2**31
_ROUNDING = bind(b"facekeep rounding v1")
_TRIES = 64


@dataclass(frozen=True, slots=True)
class Scale:
    """How a float update becomes integers: the grid, the length and the bound.

    Attributes:
        step: width of one ring unit, in the units of the parameters.
        clip_units: bound on the L2 norm before rounding, in ring units; the clip in parameter units is `clip_units * step`.
        length: number of coordinates.
    """

    step: float
    clip_units: int
    length: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.step) and self.step > 0):
            raise FederationError("federation.plan_refused", "the quantisation step has to be a positive number")
        if not 1 <= self.clip_units < _HALF or not 1 <= self.length <= 2**24:
            raise FederationError("federation.plan_refused", "the clip or the number of parameters is out of range")

    @property
    def clip(self) -> float:
        """Bound on the L2 norm of an update in the units of the parameters."""
        return self.clip_units * self.step

    @property
    def squared_sensitivity(self) -> int:
        """Largest squared L2 norm of what `quantise` returns, in ring units: one device more or less moves the sum by no more.

        min((c + sqrt(d))**2, c**2 + d/4 + sqrt(2 ln(1/b)) (c + sqrt(d)/2)) with b = exp(-1/2), so the root is 1, rounded down (a
        squared norm of integers is an integer).
        """
        clip, root = self.clip_units, math.sqrt(self.length)
        return min(math.floor((clip + root) ** 2), clip**2 + math.floor(self.length / 4 + clip + root / 2))

    @property
    def sensitivity(self) -> float:
        """L2 sensitivity in ring units: root of `squared_sensitivity`."""
        return math.sqrt(self.squared_sensitivity)

    def require_room(self, devices: int, variance: int) -> None:
        """Check that the sum of so many devices and their noise cannot leave the ring.

        A coordinate of one update is at most the sensitivity. The noise of a discrete Gaussian is no wider than a Gaussian's
        (sub-Gaussian, Canonne et al. 2020, corollary 17), so all sums lie within the bound but for a chance of 2**-40.

        Raises:
            FederationError: "federation.plan_refused" if the sum could wrap around: a wrapped sum is a wrong model.
        """
        spread = math.sqrt(2 * devices * variance * (41 * math.log(2) + math.log(self.length)))
        if devices < 1 or variance < 0 or devices * self.sensitivity + spread >= _HALF:
            raise FederationError("federation.plan_refused", "the sum of the cohort would not fit into 32 bits: use a coarser step")


def clip(update: ArrayLike, norm: float) -> NDArray[np.float32]:
    """Return the update, scaled down to L2 norm `norm` if it is longer.

    Raises:
        FederationError: "federation.invalid_update" if a coordinate is not finite.
    """
    return _clipped(update, norm).astype(np.float32)


def quantise(update: ArrayLike, scale: Scale, randomness: Randomness) -> NDArray[np.int64]:
    """Return the clipped update in ring units, each coordinate rounded up or down at random so that its mean is right.

    The rounding is drawn again until the squared norm is within `scale.squared_sensitivity`; each draw succeeds with probability at
    least 1 - exp(-1/2). Should none of 64 do (probability below 2**-40), coordinates are cut towards zero, which never lengthens.

    Returns:
        (length,) int64 whose squared norm never passes `scale.squared_sensitivity`, whatever the input.

    Raises:
        FederationError: "federation.invalid_update" if the shape is not (length,) or a coordinate is not finite.
    """
    values = np.asarray(update)
    if values.shape != (scale.length,):
        raise FederationError("federation.invalid_update", f"an update of this plan has {scale.length} parameters")
    units = _clipped(values, scale.clip) / scale.step
    units *= min(1.0, scale.clip_units / max(float(np.linalg.norm(units)), 1e-300))
    lower = np.floor(units)
    fraction, stream = units - lower, Stream(randomness.token(SEED_SIZE), _ROUNDING)
    for _ in range(_TRIES):
        uniform = (stream.words64(scale.length) >> np.uint64(11)) * 2.0**-53
        rounded = (lower + (uniform < fraction)).astype(np.int64)
        if _squared_norm(rounded) <= scale.squared_sensitivity:
            return rounded
    return np.trunc(units * (1 - 1e-9)).astype(np.int64)


def to_ring(values: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the values modulo 2**32.

    Raises:
        FederationError: "federation.invalid_update" outside -2**31 .. 2**31 - 1: two values would get the same residue.
    """
    if values.size and (int(values.min()) < -_HALF or int(values.max()) >= _HALF):
        raise FederationError("federation.invalid_update", "a value does not fit into the ring")
    return values.astype(np.int64).astype(np.uint32)


def from_ring(residues: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return the centred representatives, -2**31 .. 2**31 - 1."""
    return np.ascontiguousarray(residues, dtype=np.uint32).view(np.int32).astype(np.int64)


def _clipped(update: ArrayLike, norm: float) -> NDArray[np.float64]:
    values = np.asarray(update, dtype=np.float64)
    peak = float(np.max(np.abs(values), initial=0.0))
    if not math.isfinite(peak):
        raise FederationError("federation.invalid_update", "the update holds values that are not finite")
    # Divided by the largest coordinate first: squaring 1e200 would overflow, and an infinite norm would clip to nothing.
    length = peak * float(np.linalg.norm(values / peak)) if peak else 0.0
    return values if length <= norm else values / length * norm


def _squared_norm(values: NDArray[np.int64]) -> int:
    # |v| < 2**31 + 1, at most 2**24 coordinates: halves of 16 bits keep every partial sum below 2**63; Python adds them exactly.
    size = np.abs(values)
    low, high = size & 0xFFFF, size >> 16
    return int(np.sum(low * low)) + (int(np.sum(low * high)) << 17) + (int(np.sum(high * high)) << 32)
