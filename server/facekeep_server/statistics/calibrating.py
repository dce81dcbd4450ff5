"""From the summed histogram of a calibration round to the threshold for a false match rate, with its interval. Pure.

The rate at a threshold is the sum of all bins from it on, over devices and gain. Three things make it uncertain, and the interval
holds all of them:
- noise: of each bin, of known variance: that of all devices in the sum, colluding or not
- rounding: at most a quarter of a squared step for each device and bin
- sampling: devices are a sample of all devices there might be. How much they differ cannot be seen in a sum. But a device's tail
  lies between 0 and what the clip lets through, so that its variance is at most p (B - p) (Bhatia and Davis 2000)
What clipping takes away cannot be seen either, and makes rates look lower than they are: the share of clipped devices is told by an
extra, and a round in which it is above a stated share gives no threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.protocol import EXTRA_SHARE, RoundPlan
from facekeep.protocol.statistics import CalibrationSettings
from facekeep.rates import Z95

# Of the devices' tails, no more than this share may have been clipped.
MOST_CLIPPED: Final = 0.05


@dataclass(frozen=True, slots=True)
class CalibratedPoint:
    """A threshold from a calibration.

    Attributes:
        target_fmr: asked for.
        threshold: lowest edge of a bin from which on no rate passes the target.
        fmr: rate at it, as summed; may be below 0 by the noise.
        fmr_interval: 95 %, sampling, rounding and noise together.
        devices: in the sum.
        comparisons: non-mated comparisons behind it, at least so many with 97.5 % certainty.
    """

    target_fmr: float
    threshold: float
    fmr: float
    fmr_interval: tuple[float, float]
    devices: int
    comparisons: int


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The tail of non-mated scores over a fleet.

    Attributes:
        thresholds: (bins,) edges.
        fmr: (bins,) rate at each of them.
        low: (bins,) lower end of the 95 % interval.
        high: (bins,) upper end.
        devices: in the sum.
        clipped: share of devices whose contribution was clipped, as summed.
        clipped_low: lower end of its 95 % interval.
        comparisons: at least so many.
    """

    thresholds: NDArray[np.float64]
    fmr: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    devices: int
    clipped: float
    clipped_low: float
    comparisons: int

    def point(self, target_fmr: float, *, within: float = 2.0) -> CalibratedPoint:
        """Return the threshold for a false match rate.

        Args:
            target_fmr: that must not be passed.
            within: the interval has to end below so many times the target: a rate that drowned in noise looks like any other.

        Raises:
            FederationError: "federation.invalid_update" if too many devices were clipped, or no threshold of the histogram keeps
                the rate, or its interval reaches too far beyond it.
        """
        if self.clipped_low > MOST_CLIPPED:
            raise _useless(f"{self.clipped:.0%} of the devices were clipped; plan the round again with a smaller gain")
        above = np.flatnonzero(self.fmr > target_fmr)
        place = int(above[-1]) + 1 if above.size else 0
        if place == 0:
            raise _useless(f"every threshold of it keeps {target_fmr:g}; begin the histogram lower")
        if place == len(self.fmr):
            raise _useless(f"no threshold of it keeps {target_fmr:g}; let the histogram end higher")
        if not self.high[place] <= within * target_fmr:
            raise _useless(
                f"at {self.thresholds[place]:.4f} the rate may be {self.high[place]:.2g}; more devices, a larger gain or a "
                "looser target are needed"
            )
        interval = (float(f"{self.low[place]:.3g}"), float(f"{self.high[place]:.3g}"))
        # Rounded up: at a threshold of four decimals no more match than at the edge.
        threshold = min(1.0, math.ceil(self.thresholds[place] * 10_000 - 1e-6) / 10_000)
        return CalibratedPoint(target_fmr, threshold, float(self.fmr[place]), interval, self.devices, self.comparisons)


def read_calibration(plan: RoundPlan, mean: NDArray[np.float32], extras: Mapping[str, float], devices: int) -> Calibration:
    """Return what a completed round of calibration says.

    Args:
        plan: of the round.
        mean: (bins,) the mean contribution.
        extras: mean of each extra.
        devices: in the sum.

    Raises:
        FederationError: "federation.plan_refused" for a plan of another kind.
    """
    settings = CalibrationSettings.parse(plan.settings)
    if mean.shape != (settings.bins,) or devices < 1:
        raise ValueError("one mean for each bin, over somebody")
    tail = np.cumsum(mean[::-1].astype(np.float64))[::-1] / settings.gain
    bins = np.arange(settings.bins, 0, -1)
    unit = plan.step / settings.gain
    noise = bins * (plan.noise_variance + 0.25) * unit**2 / devices
    most = np.minimum(1.0, plan.update_clip * np.sqrt(bins) / settings.gain)
    low, high = _interval(tail, noise, most, devices)
    share = plan.scale.clip / EXTRA_SHARE
    spread = math.sqrt((plan.noise_variance + 0.25) * plan.step**2 / devices) / share
    clipped, pairs = extras["clipped"], extras["pairs"]
    most_pairs = {extra.name: extra.most for extra in plan.extras}["pairs"]
    clipped_spread = math.hypot(spread, math.sqrt(max(0.0, clipped * (1 - clipped)) / devices))
    comparisons = max(devices, math.floor((pairs - Z95 * spread * most_pairs) * devices))
    return Calibration(settings.edges, tail, low, high, devices, clipped, clipped - Z95 * clipped_spread, comparisons)


def _interval(
    rate: NDArray[np.float64], noise: NDArray[np.float64], most: NDArray[np.float64], devices: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the rates p with (rate - p)**2 <= z**2 (noise + p (most - p) / devices): a score interval, within 0 and 1."""
    square = Z95**2
    a = 1 + square / devices
    b = -(2 * rate + square * most / devices)
    c = rate**2 - square * noise
    root = np.sqrt(np.maximum(b**2 - 4 * a * c, 0.0))
    return np.clip((-b - root) / (2 * a), 0.0, 1.0), np.clip((-b + root) / (2 * a), 0.0, 1.0)


def _useless(why: str) -> FederationError:
    return FederationError("federation.invalid_update", f"The calibration gives no threshold: {why}.")
