"""The discrete Gaussian against its exact probabilities. Every test here fails a right sampler with probability below 1e-6."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from facekeep.privacy import noise
from facekeep.privacy.noise import LARGEST_VARIANCE, discrete_gaussian
from facekeep.privacy.stream import Stream
from tests.sdk.privacy_setting import Seeded

FALSE_ALARM = 1e-6


def exact_pmf(variance: int, reach: int) -> np.ndarray:
    weights = np.exp(-(np.arange(-reach, reach + 1, dtype=np.float64) ** 2) / (2 * variance))
    return weights / weights.sum()


@pytest.mark.parametrize("variance", [1, 2, 3, 4, 5, 6, 7, 12, 100, 2500])
def test_counts_follow_the_exact_probabilities(variance):
    size = 200_000
    drawn = discrete_gaussian(variance, size, Seeded(f"chi-square {variance}"))
    reach = math.ceil(8 * math.sqrt(variance)) + 2
    expected = exact_pmf(variance, reach) * size
    counts = np.bincount(np.clip(drawn, -reach, reach) + reach, minlength=2 * reach + 1).astype(float)
    common = expected >= 10
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    assert stats.chi2.sf(statistic, observed.size - 1) > FALSE_ALARM


@pytest.mark.parametrize("variance", [2**20 + 7, 2**31 - 1, LARGEST_VARIANCE])
def test_wide_noise_follows_the_normal_law(variance):
    # At these widths the two laws differ by less than 1e-6 in distribution, far below what 100,000 draws could show.
    drawn = discrete_gaussian(variance, 100_000, Seeded(f"ks {variance}"))
    assert stats.kstest(drawn / math.sqrt(variance), "norm").pvalue > FALSE_ALARM


@pytest.mark.parametrize("variance", [1, 3, 100, 2**30 + 7, LARGEST_VARIANCE])
def test_moments(variance):
    size = 400_000
    drawn = discrete_gaussian(variance, size, Seeded(f"moments {variance}")).astype(np.float64) / math.sqrt(variance)
    reach = math.ceil(12 * math.sqrt(min(variance, 10**6))) + 2
    pmf, support = exact_pmf(min(variance, 10**6), reach), np.arange(-reach, reach + 1) / math.sqrt(min(variance, 10**6))
    limit = stats.norm.isf(FALSE_ALARM / 8)  # four two-sided tests
    for power in (1, 2, 3, 4):
        mean, spread = (pmf * support**power).sum(), math.sqrt((pmf * support ** (2 * power)).sum() / size)
        assert abs((drawn**power).mean() - mean) < limit * spread, power


def test_low_bits_are_uniform_and_neighbours_are_independent():
    drawn = discrete_gaussian(2**30, 256_000, Seeded("low bits"))
    counts = np.bincount(drawn & 255, minlength=256)
    assert stats.chi2.sf(((counts - 1000) ** 2 / 1000).sum(), 255) > FALSE_ALARM
    scaled = drawn / 2**15
    for lag in (1, 2, 7):
        assert abs((scaled[lag:] * scaled[:-lag]).mean()) * math.sqrt(scaled.size) < stats.norm.isf(FALSE_ALARM / 6)


@pytest.mark.parametrize(("above", "below"), [(1, 1), (0, 5), (1, 2), (3, 7), (10**6, 10**6 + 1), (2**41, 2**42)])
def test_a_coin_with_an_exponential_probability(above, below):
    tries, stream = 300_000, Stream(Seeded(f"{above}/{below}").token(32), b"coin")
    hits = int(noise._exponential(np.full(tries, above, dtype=np.uint64), below, stream).sum())
    assert stats.binomtest(hits, tries, math.exp(-above / below)).pvalue > FALSE_ALARM


def test_the_three_factors_multiply_to_the_probability_of_acceptance():
    # In rational arithmetic, over every candidate that matters: exponents add up exactly to (|x| - V/t)**2 / 2V.
    for variance in (1, 2, 3, 4, 5, 6, 99, 100, 2**20 + 3, LARGEST_VARIANCE):
        scale = math.isqrt(variance) + 1 if variance > 1 else 1
        for size in {0, 1, 2, scale - 1, scale, scale + 1, 5 * scale + 3, 40 * scale + 1}:
            quotient, rest = divmod(abs(size * scale - variance), scale**2)
            first = Fraction(rest, scale**2) * Fraction(rest, 2 * variance)
            second, third = quotient * Fraction(rest, variance), quotient**2 * Fraction(scale**2, 2 * variance)
            assert first + second + third == (size - Fraction(variance, scale)) ** 2 / (2 * variance)
            assert 0 <= Fraction(rest, scale**2) <= 1
            assert rest <= 2 * variance  # so that each factor of the first is a probability


@pytest.mark.parametrize("size", [0, 1, 2, 50_000])
def test_as_many_as_asked_for_and_the_same_from_the_same_seed(size):
    first, again = (discrete_gaussian(1000, size, Seeded("same")) for _ in range(2))
    assert first.shape == (size,)
    assert first.dtype == np.int64
    assert np.array_equal(first, again)


@pytest.mark.parametrize("variance", [0, -1, LARGEST_VARIANCE + 1])
def test_a_variance_out_of_range_is_refused(variance):
    with pytest.raises(ValueError, match="variance"):
        discrete_gaussian(variance, 4, Seeded("range"))


def test_every_draw_takes_fresh_randomness_of_full_width():
    class Counting(Seeded):
        sizes: list[int]

        def token(self, size: int) -> bytes:
            self.sizes.append(size)
            return super().token(size)

    randomness = Counting("width")
    randomness.sizes = []
    first = discrete_gaussian(10**6, 100, randomness)
    assert not np.array_equal(first, discrete_gaussian(10**6, 100, randomness))
    assert randomness.sizes == [32, 32]


@pytest.mark.parametrize("bound", [1, 2, 3, 256, 1000, 2**40 + 1, 2**63])
def test_uniform_draws_below_a_bound(bound):
    drawn = Stream(Seeded(f"below {bound}").token(32), b"x").below(bound, 100_000)
    assert int(drawn.max()) < bound
    cells = np.bincount((drawn.astype(object) * min(bound, 64) // bound).astype(np.int64), minlength=min(bound, 64))
    shares = np.array([-(-(cell + 1) * bound // min(bound, 64)) - -(-cell * bound // min(bound, 64)) for cell in range(cells.size)])
    wanted = 100_000 * (shares / bound).astype(float)
    assert stats.chi2.sf(((cells - wanted) ** 2 / wanted).sum(), max(1, cells.size - 1)) > FALSE_ALARM
    with pytest.raises(ValueError, match="bound"):
        Stream(bytes(32), b"x").below(2**63 + 1, 1)
