"""What the server gets of a round: the sum of quantised changes and of everybody's discrete Gaussian noise, modulo 2**32.

The arithmetic of the devices themselves (`facekeep.privacy`), without the masks, which cancel exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.privacy.accounting import PrivacyCharge, spent, variance_for
from facekeep.privacy.noise import discrete_gaussian
from facekeep.privacy.ring import Scale, from_ring, quantise, to_ring
from facekeep_models.training.federated.recommended import Plan

_STREAM: Final = 0x4015E


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A `Randomness` for experiments only: whoever knows the seed can take the noise away.

    Attributes:
        generator: what it draws from.
    """

    generator: np.random.Generator

    def token(self, size: int) -> bytes:
        """Return `size` bytes."""
        return self.generator.bytes(size)


@dataclass(frozen=True, slots=True)
class Mechanism:
    """Clip, quantise, noise, sum.

    Attributes:
        scale: of the ring.
        variance: of the noise of each device and coordinate, in squared units of the ring.
        contributors: devices whose noise is counted.
        rounds: in which every device takes part.
        delta: at which epsilon is stated.
    """

    scale: Scale
    variance: int
    contributors: int
    rounds: int
    delta: float

    @classmethod
    def of(cls, plan: Plan, *, devices: int, length: int) -> Mechanism:
        """Return the mechanism of a plan for a fleet: the least noise that keeps within its epsilon."""
        scale = Scale(plan.clip / plan.clip_units, plan.clip_units, length)
        contributors = max(1, int(devices * plan.minimum))
        variance = variance_for(plan.epsilon, plan.delta, plan.rounds, contributors, scale.squared_sensitivity, length=length)
        scale.require_room(devices, variance)
        return cls(scale, variance, contributors, plan.rounds, plan.delta)

    @property
    def charge(self) -> PrivacyCharge:
        """Return what one round costs a device."""
        return PrivacyCharge(0, self.variance, self.contributors, self.scale.squared_sensitivity, self.scale.length)

    @property
    def epsilon(self) -> float:
        """Return what all rounds cost a device, against the server too."""
        return spent([self.charge] * self.rounds, self.delta)

    def noise(self, devices: int, number: int, *, seed: int, keep: Path | None = None) -> NDArray[np.int64]:
        """Return (length,) the sum of the noise of so many devices in a round.

        It does not depend on what is trained, and a fleet draws ten million numbers a round: made once, kept in the folder `keep`.
        """
        name = f"noise-{seed}-{number}-{devices}-{self.variance}-{self.scale.length}.npy"
        if keep is not None and (keep / name).exists():
            kept: NDArray[np.int64] = np.load(keep / name)
            return kept
        source = Repeatable(np.random.default_rng([_STREAM, seed, number]))
        total = np.zeros(self.scale.length, np.int64)
        for _ in range(devices):
            total += discrete_gaussian(self.variance, self.scale.length, source)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            part = keep / f"{name}.part.npy"
            np.save(part, total)
            part.replace(keep / name)
        return total

    def summed(self, changes: NDArray[np.float32], noise: NDArray[np.int64], *, seed: int, number: int) -> NDArray[np.float64]:
        """Return (length,) what the server makes of the masked sum of a round.

        Args:
            changes: (D, length) of the devices that did not drop out.
            noise: of as many devices.
            seed: of the rounding.
            number: of the round.
        """
        source = Repeatable(np.random.default_rng([_STREAM, seed, number, 1]))
        total = to_ring(noise)
        for change in changes:
            total = total + to_ring(quantise(change, self.scale, source))
        return np.asarray(from_ring(total) * self.scale.step, np.float64)
