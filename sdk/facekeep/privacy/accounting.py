"""What rounds cost one device in differential privacy, computed from the plan that ran. dp-accounting composes and converts.

Unit: the device. Neighbouring runs differ in the update of one device, whole, against zeros in its place (zero-out; that it took
part is no secret of this mechanism). A charge counts the noise of honest contributors only, never that of colluders, who know
theirs, or of drop-outs, whose noise is not in the sum. More honest noise than counted can only help: adding it is post-processing.

Source: Kairouz, Liu, Steinke, ICML 2021, arXiv 2102.06387, proposition 14: a sum of n discrete Gaussians is no discrete Gaussian,
and `tau` says how far from one it is. Zhu, Wang, "Poisson Subsampled Renyi Differential Privacy", ICML 2019, theorem 6.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from facekeep.errors import FederationError
from facekeep.privacy.noise import LARGEST_VARIANCE

_FIELDS = ("round", "variance", "contributors", "squared_sensitivity", "length")
# Finer than dp-accounting's own below 12, where large epsilons are decided; all whole from 2 on for the bound under subsampling.
_ORDERS = [1 + step / 50 for step in range(1, 550)] + [float(order) for order in range(12, 257)] + [320.0, 512.0, 1024.0, 2048.0]


@dataclass(frozen=True, slots=True)
class PrivacyCharge:
    """What one round costs a device: whole numbers only, so that a ledger keeps exactly what was charged.

    Attributes:
        round: number of the round.
        variance: of the discrete Gaussian noise that each device adds to each coordinate, in squared ring units.
        contributors: honest devices whose noise is surely in the sum, this one included: the plan's minimum less the colluders that
            the policy reckons with.
        squared_sensitivity: largest squared L2 norm of one update, in squared ring units (`Scale.squared_sensitivity`).
        length: number of coordinates.
    """

    round: int
    variance: int
    contributors: int
    squared_sensitivity: int
    length: int

    def __post_init__(self) -> None:
        if self.round < 0 or not 1 <= self.variance <= LARGEST_VARIANCE or not 1 <= self.contributors <= 2**20:
            raise FederationError("federation.malformed", "a charge has a round, a variance and contributors within range")
        if not 1 <= self.squared_sensitivity < 2**63 or not 1 <= self.length <= 2**24:
            raise FederationError("federation.malformed", "a charge has a sensitivity and a length within range")

    @property
    def tau(self) -> float:
        """How far, in log-probability of a coordinate, the sum of the noises is from one discrete Gaussian at most."""
        return _tau(self.variance, self.contributors)

    @property
    def rho(self) -> float:
        """The round satisfies rho-zCDP: half of (sensitivity / deviation of the sum + tau sqrt(length)) squared."""
        noise = math.sqrt(self.contributors * self.variance)
        return (math.sqrt(self.squared_sensitivity) / noise + self.tau * math.sqrt(self.length)) ** 2 / 2

    @property
    def noise_multiplier(self) -> float:
        """Deviation of the counted noise in the sum over the L2 sensitivity."""
        return math.sqrt(self.contributors * self.variance / self.squared_sensitivity)

    def to_value(self) -> dict[str, Any]:
        """Return the charge as a canonical JSON value. Numbers beyond 53 bits do not fit into JSON: the sensitivity is a string."""
        return {
            "v": 1,
            "round": self.round,
            "variance": self.variance,
            "contributors": self.contributors,
            "squared_sensitivity": str(self.squared_sensitivity),
            "length": self.length,
        }

    @classmethod
    def parse(cls, value: object) -> PrivacyCharge:
        """Return the charge of a canonical JSON value.

        Raises:
            FederationError: "federation.malformed".
        """
        if not isinstance(value, dict) or value.keys() != {"v", *_FIELDS} or value["v"] != 1 or value["v"] is True:
            raise FederationError("federation.malformed", "a charge has other fields or another version")
        found = {name: value[name] for name in _FIELDS}
        text = found["squared_sensitivity"]
        if not isinstance(text, str) or not (text.isascii() and text.isdigit() and len(text) < 20 and str(int(text)) == text):
            raise FederationError("federation.malformed", "the sensitivity of a charge is a number written as text")
        found["squared_sensitivity"] = int(text)
        if any(type(number) is not int for number in found.values()):
            raise FederationError("federation.malformed", "a charge holds whole numbers")
        return cls(**found)


def spent(charges: Iterable[PrivacyCharge], delta: float) -> float:
    """Return the epsilon that all charges of one device come to at `delta`, against whoever sees the sums: the server too.

    Raises:
        FederationError: "federation.no_accounting" where dp-accounting is not installed.
        ValueError: if delta is not within 0 .. 1.
    """
    rho = math.fsum(charge.rho for charge in charges)
    if not 0 < delta < 1:
        raise ValueError("delta lies between 0 and 1")
    if rho == 0:
        return 0.0
    dp_accounting, rdp = _accounting()
    accountant = rdp.RdpAccountant(_ORDERS)
    accountant.compose(dp_accounting.ZCDpEvent(rho))
    return float(accountant.get_epsilon(delta))


def variance_for(epsilon: float, delta: float, rounds: int, contributors: int, squared_sensitivity: int, *, length: int) -> int:
    """Return the least variance for each device with which `rounds` rounds spend no more than `epsilon`.

    Raises:
        FederationError: "federation.plan_refused" if none up to 2**40 does: a coarser step or more contributors are needed;
            "federation.no_accounting".
    """

    def cost(variance: int) -> float:
        return spent([PrivacyCharge(0, variance, contributors, squared_sensitivity, length)] * rounds, delta)

    low, high = 0, 1
    while cost(high) > epsilon:
        if high >= LARGEST_VARIANCE:
            raise FederationError("federation.plan_refused", "no noise that fits into the ring keeps the privacy asked for")
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if cost(middle) <= epsilon else (middle, high)
    return high


def spent_against_readers(charge: PrivacyCharge, delta: float, *, rate: float, rounds: int) -> float:
    """Estimate the epsilon against those who see the releases only, and not who was invited, over all rounds of a fleet.

    Each device has to be invited to each round by a coin of its own that falls with probability `rate` (Poisson sampling). It says
    nothing against the server, which knows who was invited, or against readers of a log that lists them. It takes the noise of a
    round as given; really it is one device's share more when this device was invited, which the theorem does not cover. So no
    budget is kept by it: `spent` is the guarantee.

    Raises:
        FederationError: "federation.no_accounting".
    """
    if not 0 < rate <= 1 or rounds < 1:
        raise ValueError("a rate lies between 0 and 1, and there is a round")
    _, rdp = _accounting()
    orders = list(range(2, 257))
    sampled = [rounds * min(order * charge.rho, _sampled(order, charge.rho, rate)) for order in orders]
    return min(float(rdp.compute_epsilon(orders, sampled, delta)[0]), spent([charge] * rounds, delta))


def spelled(epsilon: float) -> str:
    """Return epsilon as text with three decimals, rounded up: what a document states must not be less than what was spent.

    Infinity, where a round added no noise, is "inf".
    """
    return "inf" if math.isinf(epsilon) else f"{math.ceil(round(epsilon * 1000, 6)) / 1000:.3f}"


@functools.lru_cache(maxsize=256)
def _tau(variance: int, contributors: int) -> float:
    count = np.arange(1, contributors, dtype=np.float64)
    return 10 * float(np.exp(-2 * math.pi**2 * variance * count / (count + 1)).sum())


def _sampled(order: int, rho: float, rate: float) -> float:
    """Renyi divergence of a whole order >= 2 under Poisson sampling: theorem 6 of Zhu and Wang, for any mechanism."""
    logs = [(order - 1) * math.log1p(-rate) + math.log(order * rate - rate + 1)] if rate < 1 else []
    for drawn in range(2, order + 1):
        left = (order - drawn) * math.log1p(-rate) if rate < 1 else (0.0 if drawn == order else -math.inf)
        choose = math.lgamma(order + 1) - math.lgamma(drawn + 1) - math.lgamma(order - drawn + 1)
        logs.append(choose + left + drawn * math.log(rate) + (drawn - 1) * drawn * rho + (math.log(3) if drawn > 2 else 0.0))
    top = max(logs)
    return (top + math.log(math.fsum(math.exp(value - top) for value in logs))) / (order - 1)


def _accounting() -> tuple[Any, Any]:
    try:
        import dp_accounting
        from dp_accounting import rdp
    except ImportError as error:
        raise FederationError(
            "federation.no_accounting", "privacy cannot be accounted for: install facekeep[federated], which brings dp-accounting"
        ) from error
    return dp_accounting, rdp
