"""What low bits tell: much of a naive sampler's noise, nothing of ours."""

import numpy as np
import pytest

from datasites.engine import statistics
from datasites.engine.grid import grid_of
from datasites.engine.noise import NoiseSource
from tests.proof.floats import NaiveGaussian, NaiveLaplace, reached_on_grid

RELEASES = 300
CLEAR = 0.2  # of releases at least, in which a naive sampler rules a candidate out for certain


def test_the_attack_reads_a_naive_laplace() -> None:
    rng, naive = np.random.default_rng(0), NaiveLaplace(1.0)
    seen = [naive.released(0.0, rng) for _ in range(RELEASES)]
    assert all(naive.reaches(0.0, each) for each in seen)  # what is true is never ruled out
    assert np.mean([not naive.reaches(1.0, each) for each in seen]) > CLEAR


def test_the_attack_reads_a_naive_gaussian() -> None:
    rng, naive = np.random.default_rng(0), NaiveGaussian(1.0)
    seen = [naive.released((0.0, 0.0), rng) for _ in range(RELEASES)]
    assert all(naive.reaches((0.0, 0.0), each) for each in seen)
    assert np.mean([not naive.reaches((1.0, 0.0), each) for each in seen]) > CLEAR


@pytest.mark.parametrize("noise_multiplier", [0.5, 1.0, 4.0])
def test_no_release_of_ours_rules_out_a_neighbour(noise_multiplier: float) -> None:
    # Values are whole grid units; a neighbour's differ by a clipped gradient, here at its largest and along one axis.
    norm = int(1.0 / grid_of(1.0))
    std = noise_multiplier * norm
    drawn = NoiseSource(bytes(32)).gaussian_on_grid((RELEASES, 2), std, 1.0).astype(int)
    for one, other in drawn.tolist():
        assert reached_on_grid((one, other), std)
        assert reached_on_grid((one - norm, other), std)
        assert reached_on_grid((one - norm + 1, other - 1), std)  # and the value that differs in its last unit


@pytest.mark.parametrize("std", [2.0**19, 2.0**20, 2.0**23, 2.0**30])
def test_every_pair_of_whole_numbers_within_ten_deviations_can_be_drawn(std: float) -> None:
    # With 63 bits for a radius, pairs were missing from 8 deviations at 2^20 units, and from 7 at 2^30.
    rng = np.random.default_rng(0)
    lengths, turns = rng.uniform(0.001, 10, RELEASES), rng.uniform(0, 2 * np.pi, RELEASES)
    for length, turn in zip(lengths, turns, strict=True):
        assert reached_on_grid((round(std * length * np.cos(turn)), round(std * length * np.sin(turn))), std)


def test_counts_of_ours_are_whole_numbers_whatever_the_noise() -> None:
    drawn = NoiseSource(bytes(32)).discrete_laplace(10_000, 0.1)
    assert drawn.dtype == np.int64  # exact in integers: there are no low bits, and every integer can come


def test_a_noisy_sum_lies_on_one_grid_whatever_was_summed() -> None:
    # The library adds noise on a grid of a power of two that its parameters alone decide; ours moves values to one too.
    def summed(rows: int, value: float) -> float:
        on_grid = statistics._on_grid(np.full(rows, value), statistics.SUM_GRID)
        return float(statistics.noisy(np.array([on_grid.sum()]), epsilon=1.0, sensitivity=1.0)[0])

    sums = [summed(rows, value) for rows in (1006, 1007, 1008) for value in (0.1, 1 / 3, 0.7) for _ in range(50)]
    assert all((each / statistics.SUM_GRID) % 2.0**-40 == 0 for each in sums)
    fine = [each * 2.0**40 for each in sums]
    assert all(each == int(each) for each in fine)
    assert len({each % 1.0 for each in sums}) == len(sums)
