"""Parts of one noise: drawn exactly, t of them make the whole, and what fewer still promise is never said too low."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from policies.errors import UnsupportedMechanism
from policies.privacy import shared_noise
from policies.privacy.shared_noise import (
    divisibility_error,
    gaussian_divergence,
    laplace_loss,
    laplace_part,
    laplace_variance,
    rate_above,
    rate_of,
)

DRAWS = 20_000
FITS = 1e-4  # of a chi-squared test: a wrong distribution is far below
FloatArray = npt.NDArray[np.float64]


def polya(halvings: int, shape: float, most: int) -> FloatArray:
    """Chances of NB(shape, 1 - 2^-halvings) at 0, 1, ... up to `most`."""
    return np.asarray(stats.nbinom.pmf(np.arange(most), shape, 2.0**-halvings))


def difference(one: FloatArray) -> FloatArray:
    """Chances of X - Y at distances 0, 1, ..., both with the chances `one`."""
    return np.asarray(np.correlate(one, one, mode="full")[len(one) - 1 :])


def fits(drawn: list[int], chance_at: Callable[[int], float]) -> float:
    """The p of a chi-squared test; values that are rarely expected count together."""
    counts = Counter(drawn)
    shown = [value for value in sorted(counts) if len(drawn) * chance_at(value) >= 8]
    expected = np.array([len(drawn) * chance_at(value) for value in shown])
    seen = np.array([counts[value] for value in shown])
    seen, expected = np.append(seen, len(drawn) - seen.sum()), np.append(expected, len(drawn) - expected.sum())
    return float(stats.chi2.sf(((seen - expected) ** 2 / np.maximum(expected, 1e-9)).sum(), len(shown)))


@pytest.mark.parametrize(("halvings", "parties"), [(1, 1), (3, 2), (5, 3), (6, 51), (8, 1)])
def test_a_part_is_the_difference_of_two_polya_variables(halvings: int, parties: int) -> None:
    source = random.Random(halvings)
    chances = difference(polya(halvings, 1 / parties, 60 << halvings))
    drawn = [laplace_part(halvings, parties, source) for _ in range(DRAWS)]
    assert fits(drawn, lambda value: float(chances[abs(value)])) > FITS


@pytest.mark.parametrize("parties", [2, 5, 26])
def test_so_many_parts_are_discrete_laplace_noise_exactly(parties: int) -> None:
    source, halvings, a = random.Random(parties), 4, 1 - 2.0**-4
    drawn = [sum(laplace_part(halvings, parties, source) for _ in range(parties)) for _ in range(DRAWS // 4)]
    assert fits(drawn, lambda value: (1 - a) / (1 + a) * a ** abs(value)) > FITS


def test_one_part_that_is_forgotten_is_noticed_by_that_test() -> None:
    source, halvings, a = random.Random(4), 4, 1 - 2.0**-4
    drawn = [laplace_part(halvings, 2, source) for _ in range(DRAWS // 4)]
    assert fits(drawn, lambda value: (1 - a) / (1 + a) * a ** abs(value)) < FITS


def test_the_variance_is_that_of_so_many_wholes() -> None:
    chances = difference(polya(5, 0.5, 4000))
    exact = 2 * float((chances * np.arange(4000.0) ** 2).sum())
    assert laplace_variance(5, 0.5) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(("honest", "parties"), [(1, 2), (1, 3), (2, 3), (1, 51), (25, 51)])
@pytest.mark.parametrize("distance", [1, 7, 40])
def test_what_too_few_honest_parties_promise_is_never_said_too_low(honest: int, parties: int, distance: int) -> None:
    logs = np.log(difference(polya(5, honest / parties, 3000))[:1500])
    both = np.concatenate([logs[:0:-1], logs])  # symmetric
    exact = np.abs(both[distance:] - both[:-distance]).max()  # over every outcome, not the one that the proof names
    said = laplace_loss(5, honest=honest, parties=parties, distance=distance)
    assert exact <= said <= exact + 0.01
    assert said > laplace_loss(5, honest=parties, parties=parties, distance=distance)


def test_the_whole_noise_loses_its_rate_times_the_distance_and_rates_are_rounded_up() -> None:
    for halvings in range(1, 41):
        assert float(rate_above(halvings)) >= rate_of(halvings)
    assert laplace_loss(6, honest=3, parties=3, distance=10) == pytest.approx(10 * rate_of(6), rel=1e-3)
    assert laplace_loss(6, honest=5, parties=3, distance=10) == laplace_loss(6, honest=3, parties=3, distance=10)
    assert laplace_loss(6, honest=0, parties=3, distance=10) == math.inf
    assert laplace_loss(6, honest=0, parties=3, distance=0) == 0


@pytest.mark.parametrize(("part", "parties"), [(0.25, 2), (0.25, 5), (0.5, 3), (1.0, 2)])
def test_the_sum_of_parts_is_no_further_from_a_gaussian_than_is_said(part: float, parties: int) -> None:
    reach = 60
    weights = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * part))
    one = summed = weights / weights.sum()
    for _ in range(parties - 1):
        summed = np.convolve(summed, one)
    middle = len(summed) // 2
    shown = np.arange(-4, 5)  # further out float64 is too coarse
    whole = np.exp(-(np.arange(-400.0, 401) ** 2) / (2 * part * parties))
    exact = np.abs(np.log(summed[middle + shown]) - np.log((whole / whole.sum())[400 + shown])).max()
    said = divisibility_error(Fraction(part) * parties, parties)
    assert exact <= said
    assert said < 1000 * exact + 1e-12  # and it says something
    assert divisibility_error(Fraction(4 * 10_000), 10_000) < 1e-10


@pytest.mark.parametrize(("parties", "threshold"), [(3, 2), (10, 6), (50, 26)])
def test_both_losses_of_shared_gaussian_noise_are_those_of_gaussians(parties: int, threshold: int) -> None:
    """Against Balle and Wang's exact curve (2018, arXiv:1805.06530): with t honest ε = 2, and if all others collude."""
    delta, whole = 1e-5, Fraction(2000**2)  # two sensitivities wide
    orders = [1 + step / 20 for step in range(1, 2000)]

    def said(honest: int) -> float:
        return min(
            gaussian_divergence(whole, honest=honest, parties=threshold, order=o, sensitivity=1000, numbers=1)
            + math.log1p(-1 / o) - (math.log(delta) + math.log(o)) / (o - 1)
            for o in orders
        )  # fmt: skip

    def exact(honest: int) -> float:
        low, high, shift = 0.0, 100.0, math.sqrt(threshold / honest) / 2
        while high - low > 1e-6:
            e = (low + high) / 2
            hit = stats.norm.cdf(shift / 2 - e / shift) - math.exp(e) * stats.norm.cdf(-shift / 2 - e / shift)
            low, high = (e, high) if hit > delta else (low, e)
        return high

    for honest in {1, threshold // 2, threshold}:
        assert exact(honest) <= said(honest) <= 1.15 * exact(honest)
    assert said(parties) == said(threshold)  # more than the whole is not counted on
    assert said(0) == math.inf


def test_parts_that_cannot_be_made_are_refused() -> None:
    source = random.Random(1)
    with pytest.raises(UnsupportedMechanism, match="parties=0"):
        laplace_part(5, 0, source)
    with pytest.raises(UnsupportedMechanism, match="halvings=41"):
        laplace_part(41, 1, source)
    with pytest.raises(UnsupportedMechanism, match="variance / parties"):
        divisibility_error(Fraction(1, 2), 3)


def test_no_float_takes_part_in_a_draw() -> None:
    code = (shared_noise._polya, shared_noise._failures, shared_noise._polya_of_a_coin)
    assert not [name for function in code for name in function.__code__.co_names if name in ("random", "float", "math")]
