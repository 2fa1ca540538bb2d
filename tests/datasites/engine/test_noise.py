import copy
import math
import os
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from datasites.engine import noise
from datasites.engine.noise import NoiseSource
from policies.errors import DatasiteError, IsolationMissing, UnsupportedMechanism
from tests.datasites.engine.training_factories import source

DRAWS = 200_000


def chi_square(observed: np.ndarray, expected: np.ndarray) -> float:
    """Deviations above the mean of a chi-square statistic with len(observed) - 1 degrees of freedom."""
    degrees = len(observed) - 1
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return (statistic - degrees) / math.sqrt(2 * degrees)


def test_equal_keys_give_equal_numbers_and_others_do_not() -> None:
    assert (source(1).words(100) == source(1).words(100)).all()
    assert not (source(1).words(100) == source(2).words(100)).any()
    assert not (NoiseSource.from_os().words(100) == NoiseSource.from_os().words(100)).any()


def test_a_stream_does_not_depend_on_how_it_is_cut() -> None:
    one, other = source(), source()
    cut = np.concatenate([other.words(count) for count in (1, 10_000, 3, 20_000)])
    assert (one.words(30_004) == cut).all()


def test_no_words_repeat_in_a_stream() -> None:
    assert len(np.unique(source().words(DRAWS))) == DRAWS  # 64 bits: a repeat has a chance of 1e-9


def test_children_are_apart_and_leave_the_parent_alone() -> None:
    parent = source()
    before = source().words(10)
    child, other = parent.child("sampling"), parent.child("gaussian")
    assert (parent.words(10) == before).all()
    assert not (child.words(10) == other.words(10)).any()
    assert (parent.child("sampling").words(10) == source().child("sampling").words(10)).all()


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(DatasiteError, match="32 bytes"):
        NoiseSource(bytes(length))


def test_a_key_stands_in_no_repr() -> None:
    assert "4242" not in repr(NoiseSource(b"\x42" * 32))
    assert "BB" not in repr(NoiseSource(b"\x42" * 32))


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_source_is_neither_copied_nor_pickled(copier: Callable[[NoiseSource], object]) -> None:
    with pytest.raises(IsolationMissing, match="repeat"):
        copier(source())


@pytest.mark.parametrize("same_process_id", [False, True])
def test_a_source_is_refused_after_a_fork(monkeypatch: pytest.MonkeyPatch, same_process_id: bool) -> None:
    # A child in a PID namespace of its own may have the number that its parent had: forks are counted as well.
    if same_process_id:
        monkeypatch.setattr(noise.os, "getpid", lambda: 1)
    made = NoiseSource.from_os()
    child = os.fork()
    if not child:
        code = 1
        try:
            for use in (lambda: made.words(1), lambda: made.uniforms(0), lambda: made.child("x")):
                with pytest.raises(IsolationMissing, match="fork"):
                    use()
            NoiseSource.from_os().words(1)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    made.words(1)


def test_uniforms_have_53_bits_and_are_uniform() -> None:
    drawn = source().uniforms(DRAWS)
    assert drawn.dtype == np.float64
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert (drawn * 2**53 % 1 == 0).all()
    assert (drawn * 2**52 % 1 != 0).any()
    observed = np.bincount((drawn * 100).astype(int), minlength=100)
    assert abs(chi_square(observed, np.full(100, DRAWS / 100))) < 5


@pytest.mark.parametrize("chance", [0.0, 2.0**-64, 1e-4, 0.06, 0.5, 1 - 2.0**-53, 1.0])
def test_flags_come_true_with_their_chance(chance: float) -> None:
    hits = int(source().bernoulli(DRAWS, chance).sum())
    deviation = math.sqrt(DRAWS * chance * (1 - chance))
    assert abs(hits - DRAWS * chance) <= 5 * deviation + (0 if chance in (0.0, 1.0) else 1)


def test_flags_compare_a_64_bit_integer_with_a_threshold() -> None:
    # Near 2^-16 every true flag is a tie of the upper 16 bits (0 < 1) or a tie decided by the lower 48.
    chance = 1.5 * 2.0**-16
    hits = int(source().bernoulli(20_000_000, chance).sum())
    expected = 20_000_000 * chance  # 457.8, against 305.2 if the lower bits were not looked at
    assert abs(hits - expected) < 5 * math.sqrt(expected)


def test_integers_are_uniform_below_a_bound_each() -> None:
    bounds = np.tile([1, 2, 3, 7, 1000], DRAWS // 5)
    drawn = source().integers(DRAWS, bounds)
    assert (drawn >= 0).all()
    assert (drawn < bounds).all()
    for bound in (2, 3, 7, 1000):
        observed = np.bincount(drawn[bounds == bound], minlength=bound)
        assert abs(chi_square(observed, np.full(bound, DRAWS / 5 / bound))) < 5


def test_integers_are_not_biased_towards_small_ones() -> None:
    # Below 3 · 2^61, taking 64-bit words modulo the bound would give the lower third half of all draws, not a third.
    drawn = source().integers(DRAWS, 3 * 2**61)
    share = (drawn < 2**61).mean()
    assert abs(share - 1 / 3) < 5 * math.sqrt(2 / 9 / DRAWS)


def test_a_bound_below_one_is_refused() -> None:
    with pytest.raises(UnsupportedMechanism, match="at least 1"):
        source().integers(2, np.array([3, 0]))
    for count, high in ((1, [3, 4]), (3, [3, 4]), (2, [[3, 4]])):
        with pytest.raises(UnsupportedMechanism, match="not one for each"):
            source().integers(count, np.array(high))


@pytest.mark.parametrize(("std", "grid"), [(1.0, 2.0**-20), (3.0, 1.0), (2.0**20, 1.0), (0.05, 2.0**-6)])
def test_gaussian_noise_has_its_deviation_and_is_on_the_grid(std: float, grid: float) -> None:
    drawn = source().gaussian_on_grid((DRAWS // 2, 2), std, grid)
    assert drawn.shape == (DRAWS // 2, 2)
    assert drawn.dtype == np.float64
    assert (drawn / grid % 1 == 0).all()
    # n s² / σ² is chi-square with n degrees of freedom: mean n, deviation √2n. Rounding adds grid² / 12.
    statistic = (drawn**2).sum() / (std**2 + grid**2 / 12)
    assert abs(statistic - DRAWS) < 5 * math.sqrt(2 * DRAWS)
    assert abs(drawn.mean()) < 5 * std / math.sqrt(DRAWS)


def test_gaussian_noise_is_gaussian() -> None:
    drawn = np.sort(source().gaussian_on_grid(DRAWS, 2.0**20, 1.0)) / 2.0**20
    normal = np.array([0.5 * (1 + math.erf(z / math.sqrt(2))) for z in drawn])
    # Kolmogorov and Smirnov: √n · distance exceeds 1.95 once in a thousand samples.
    distance = np.abs(normal - (np.arange(DRAWS) + 0.5) / DRAWS).max()
    assert distance * math.sqrt(DRAWS) < 1.95


def test_neighbouring_gaussians_are_not_correlated() -> None:
    drawn = source().gaussian_on_grid(DRAWS, 1.0, 2.0**-20)
    halves = drawn[: DRAWS // 2], drawn[DRAWS // 2 :]  # the two of one Box–Muller pair
    for one, other in (halves, (drawn[:-1], drawn[1:]), (halves[0] ** 2 - 1, halves[1] ** 2 - 1)):
        assert abs((one * other).mean()) < 5 * (one * other).std() / math.sqrt(len(one))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 65_537])
def test_every_count_of_gaussians_can_be_drawn(count: int) -> None:
    assert source().gaussian_on_grid(count, 1.0, 2.0**-20).shape == (count,)


@pytest.mark.parametrize(("std", "grid"), [(-1.0, 1.0), (math.nan, 1.0), (1.0, 0.0), (2.0**41, 1.0)])
def test_noise_that_the_grid_cannot_hold_is_refused(std: float, grid: float) -> None:
    with pytest.raises(UnsupportedMechanism, match="grid"):
        source().gaussian_on_grid(1, std, grid)


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0, 3.0])
def test_discrete_laplace_has_its_distribution(epsilon: float) -> None:
    count = 50_000
    drawn = source().discrete_laplace(count, epsilon)
    # P(k) = tanh(ε/2) e^{-ε|k|}; cells wide enough for 50 draws or more, the rest together.
    p = math.exp(-epsilon)
    width = max(1, round(0.25 / epsilon))
    cells = np.clip(np.floor(drawn / width + 0.5), -6, 6).astype(int) + 6
    far = np.arange(-200 * width, 200 * width + 1)
    chances = np.bincount(
        np.clip(np.floor(far / width + 0.5), -6, 6).astype(int) + 6, weights=p ** np.abs(far) * math.tanh(epsilon / 2)
    )
    kept = chances * count > 20
    assert abs(chi_square(np.bincount(cells, minlength=13)[kept], (chances * count)[kept])) < 5


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf, 1e-9])
def test_an_epsilon_out_of_range_is_refused(epsilon: float) -> None:
    with pytest.raises(UnsupportedMechanism, match="epsilon"):
        source().discrete_laplace(1, epsilon)


@pytest.mark.parametrize("epsilon", [2.0**-23, 0.1, 7.7, 100.0, 2.0**20])
def test_every_epsilon_in_range_can_be_drawn(epsilon: float) -> None:
    drawn = source().discrete_laplace(100, epsilon)
    assert np.abs(drawn).max() <= 60 / epsilon
