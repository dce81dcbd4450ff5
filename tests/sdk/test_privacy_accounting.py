"""Privacy spent: the formula of the paper, dp-accounting's own numbers, and a ledger that keeps what was charged."""

from __future__ import annotations

import builtins
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.errors import FederationError
from facekeep.privacy.accounting import (
    PrivacyCharge,
    spelled,
    spent,
    spent_against_readers,
    variance_for,
)
from facekeep.privacy.ring import Scale

dp_accounting = pytest.importorskip("dp_accounting")
from dp_accounting import pld, rdp  # noqa: E402

CHARGE = PrivacyCharge(round=7, variance=2**31, contributors=42, squared_sensitivity=2**36, length=53_000)


def gaussian(multiplier: float, rounds: int, delta: float, accountant=None) -> float:
    accountant = accountant or rdp.RdpAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(multiplier), rounds)
    return accountant.get_epsilon(delta)


@pytest.mark.parametrize("rounds", [1, 3, 10, 30])
def test_the_cost_lies_between_the_exact_gaussian_and_dp_accountings_renyi_bound(rounds):
    found = spent([CHARGE] * rounds, 1e-5)
    assert found <= gaussian(CHARGE.noise_multiplier, rounds, 1e-5) * (1 + 1e-9)
    assert found > gaussian(CHARGE.noise_multiplier, rounds, 1e-5, pld.PLDAccountant())


def test_the_formula_of_proposition_14():
    charge = PrivacyCharge(0, 1, 5, 100, 10)
    tau = 10 * sum(math.exp(-2 * math.pi**2 * k / (k + 1)) for k in range(1, 5))
    assert charge.tau == pytest.approx(tau)
    assert charge.rho == pytest.approx((10 / math.sqrt(5) + tau * math.sqrt(10)) ** 2 / 2)
    assert PrivacyCharge(0, 1, 1, 100, 10).tau == 0.0  # one discrete Gaussian is one
    assert CHARGE.tau == 0.0  # below 1e-300 at the widths of a round


@pytest.mark.parametrize(("variance", "contributors", "shift"), [(1, 2, 1), (1, 3, 2), (2, 2, 1), (1, 4, 3)])
def test_no_divergence_of_a_sum_of_discrete_gaussians_passes_the_bound(variance, contributors, shift):
    # The sum's distribution by convolution; Renyi divergence to itself moved by `shift`, at many orders.
    reach = 80
    one = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * variance))
    one /= one.sum()
    total = one
    for _ in range(contributors - 1):
        total = np.convolve(total, one)
    total = total[total > 1e-200]
    charge = PrivacyCharge(0, variance, contributors, shift**2, 1)
    for order in (1.1, 2, 3, 5, 8):
        p, q = np.log(total[shift:]), np.log(total[:-shift])
        divergence = math.log(np.exp(order * p + (1 - order) * q).sum()) / (order - 1)
        assert divergence <= order * charge.rho + 1e-9


def test_noise_of_colluders_and_drop_outs_is_not_counted():
    fewer = PrivacyCharge(7, 2**31, 20, 2**36, 53_000)
    assert spent([fewer], 1e-5) > spent([CHARGE], 1e-5)
    assert fewer.noise_multiplier == pytest.approx(CHARGE.noise_multiplier * math.sqrt(20 / 42))


def test_nothing_costs_nothing_and_more_costs_more():
    assert spent([], 1e-5) == 0.0
    costs = [spent([CHARGE] * rounds, 1e-5) for rounds in range(1, 8)]
    assert costs == sorted(costs)
    for delta in (0, 1, -1):
        with pytest.raises(ValueError, match="delta"):
            spent([CHARGE], delta)


@pytest.mark.parametrize(("epsilon", "rounds"), [(1.0, 1), (8.0, 3), (8.0, 30), (0.5, 2)])
def test_the_least_variance_that_keeps_a_budget(epsilon, rounds):
    squared = Scale(1e-6, 2**14, 53_000).squared_sensitivity
    variance = variance_for(epsilon, 1e-5, rounds, 42, squared, length=53_000)
    charges = [[PrivacyCharge(0, v, 42, squared, 53_000)] * rounds for v in (variance, variance - 1)]
    assert spent(charges[0], 1e-5) <= epsilon < spent(charges[1], 1e-5)


def test_a_budget_that_no_noise_keeps_is_refused():
    with pytest.raises(FederationError) as caught:
        variance_for(0.01, 1e-5, 100, 2, 2**40, length=10)
    assert caught.value.code == "federation.plan_refused"


def test_without_dp_accounting_no_round_is_priced(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.startswith("dp_accounting"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FederationError) as caught:
        spent([CHARGE], 1e-5)
    assert caught.value.code == "federation.no_accounting"


@pytest.mark.parametrize(("rate", "rounds"), [(0.1, 30), (0.05, 60), (0.01, 100)])
def test_sampling_helps_against_readers_and_stays_above_the_gaussian(rate, rounds):
    charge = PrivacyCharge(7, 2**33, 42, 2**36, 53_000)
    accountant = rdp.RdpAccountant(list(range(2, 257)))
    accountant.compose(dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(charge.noise_multiplier)), rounds)
    exact, found = accountant.get_epsilon(1e-5), spent_against_readers(charge, 1e-5, rate=rate, rounds=rounds)
    assert exact < found < 2 * exact
    assert found < spent([charge] * rounds, 1e-5)


def test_without_sampling_readers_learn_what_the_server_does():
    assert spent_against_readers(CHARGE, 1e-5, rate=1.0, rounds=3) == pytest.approx(spent([CHARGE] * 3, 1e-5), rel=1e-3)
    for rate, rounds in ((0.0, 1), (1.1, 1), (0.5, 0)):
        with pytest.raises(ValueError, match="rate"):
            spent_against_readers(CHARGE, 1e-5, rate=rate, rounds=rounds)


@given(st.integers(0, 2**40), st.integers(1, 2**40), st.integers(1, 2**20), st.integers(1, 2**63 - 1), st.integers(1, 2**24))
def test_a_ledger_keeps_a_charge_exactly(number, variance, contributors, squared, length):
    charge = PrivacyCharge(number, variance, contributors, squared, length)
    assert PrivacyCharge.parse(parse_canonical(to_canonical(charge.to_value()))) == charge


@pytest.mark.parametrize(
    "change",
    [{"v": 2}, {"v": True}, {"round": -1}, {"round": True}, {"variance": 0}, {"variance": 2**40 + 1}, {"contributors": 0},
     {"squared_sensitivity": 5}, {"squared_sensitivity": "05"}, {"squared_sensitivity": "-5"}, {"squared_sensitivity": "0"},
     {"squared_sensitivity": "9" * 30}, {"length": 0}, {"length": "5"}, {"extra": 1}],
)  # fmt: skip
def test_a_charge_that_is_not_one_is_refused(change):
    value = json.loads(to_canonical(CHARGE.to_value()))
    with pytest.raises(FederationError) as caught:
        PrivacyCharge.parse({**value, **change})
    assert caught.value.code == "federation.malformed"


@pytest.mark.parametrize("value", [None, [], "x", {}, {"v": 1}])
def test_what_is_no_charge_at_all_is_refused(value):
    with pytest.raises(FederationError, match="malformed"):
        PrivacyCharge.parse(value)


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [(1.234, "1.234"), (1.2340001, "1.235"), (0.1 + 0.2, "0.300"), (0.0, "0.000"), (8, "8.000"), (math.inf, "inf")],
)
def test_epsilon_is_spelled_rounded_up(epsilon, text):
    assert spelled(epsilon) == text
