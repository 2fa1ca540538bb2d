"""A hospital's part of a step of training: discrete Gaussians, exactly, on a sum that one patient moves by a bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from datasites.engine import discrete_gaussians as gaussians
from datasites.engine import shared_step, training
from datasites.engine.discrete_gaussians import discrete_gaussians
from datasites.engine.grid import grid_of
from datasites.engine.noise import NoiseSource
from datasites.engine.shared_step import rounded, step_noise, with_part
from datasites.engine.training import train_round
from policies.errors import DatasiteError, UnsupportedMechanism
from policies.privacy.mechanisms import DPSGD
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.release.summed_step import step_of, stepped, whole_words
from policies.secure_sums.encoding import flat
from tests.datasites.engine.training_factories import Sigmoid, exported, matrix, mechanism, schema, source

PATIENTS = 40
ROSTER = SecureAggregation(
    threshold=3,
    hospitals=tuple(Party(f"Hospital {number}", f"{number:064x}", PATIENTS) for number in range(4)),
    mode="shared-noise",
    may_collude=1,
)


def shared(**changes: Any) -> DPSGD:
    return mechanism(**{"secure_aggregation": ROSTER, "clipping_norm": 0.7, "noise_multiplier": 2.0, **changes})


def train(made: DPSGD, table: Any, *, seed: int = 0) -> dict[str, torch.Tensor]:
    graph, weights = exported(Sigmoid)
    return train_round(graph, made, schema(), PATIENTS, table, weights, source(seed))


def silent(count: int, variance: int, source: object) -> Any:
    return np.zeros(count, dtype=np.int64)


@pytest.mark.parametrize("variance", [1, 3, 17])
def test_they_have_the_exact_chances(variance: int) -> None:
    drawn = discrete_gaussians(200_000, variance, NoiseSource(b"2" * 32))
    reach = int(3.2 * variance**0.5)
    chances = np.exp(-(np.arange(-40 * variance, 40 * variance + 1) ** 2.0) / (2 * variance))
    chances /= chances.sum()
    inner = chances[40 * variance - reach : 40 * variance + reach + 1]
    seen = np.array([(drawn == value).sum() for value in range(-reach, reach + 1)])
    wanted = np.append(inner, 1 - inner.sum()) * len(drawn)
    assert stats.chisquare(np.append(seen, len(drawn) - seen.sum()), wanted).pvalue > 1e-6


@pytest.mark.parametrize("variance", [2**20 + 7, 10**10, 2**45])
def test_wide_ones_are_gaussian(variance: int) -> None:
    drawn = discrete_gaussians(200_000, variance, NoiseSource(b"3" * 32)) / variance**0.5
    assert stats.kstest(drawn, "norm").pvalue > 1e-6
    assert abs(drawn.var() - 1) < 5 * np.sqrt(2 / len(drawn))


def test_what_floats_leave_open_is_decided_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    for variance, width in ((3, 2), (10**6, 1024), (2**45, 2**22)):
        drawn = NoiseSource(b"4" * 32).discrete_laplace(2000, 1 / width)
        decided = gaussians._are_kept(drawn, variance, width, NoiseSource(b"5" * 32))
        assert 0.4 < decided.mean() < 0.9
        with monkeypatch.context() as patch:
            patch.setattr(gaussians, "DOUBT", 1.0)  # nothing is taken from floats but what is far too unlikely
            exactly = gaussians._are_kept(drawn, variance, width, NoiseSource(b"5" * 32))
        np.testing.assert_array_equal(decided, exactly)


def test_more_bits_decide_where_64_do_not() -> None:
    from fractions import Fraction

    class Ones:
        asked = 0

        def words(self, count: int) -> Any:
            self.asked += 1
            return np.full(count, 2**64 - 1, dtype=np.uint64)

        def discrete_laplace(self, count: int, epsilon: float) -> Any:
            raise AssertionError

    bits = Ones()
    power = Fraction(1, 2**70)  # e^-power is 1 - 2^-70: within the last of 2^64 places, and above its next 64 bits' end
    assert not gaussians._is_below(2**64 - 1, power, bits)
    assert bits.asked == 1


@pytest.mark.parametrize("variance", [0, -1, 2**45 + 1])
def test_a_variance_that_cannot_be_drawn_is_named(variance: int) -> None:
    with pytest.raises(UnsupportedMechanism, match=f"variance={variance} is outside"):
        discrete_gaussians(1, variance, source())


def test_one_patient_moves_a_rounded_sum_by_no_more_than_the_sensitivity() -> None:
    made, rng = shared(), np.random.default_rng(0)
    step = step_noise(made)
    longest = made.clipping_norm / grid_of(made.clipping_norm)
    for size in (1, 50, 20_000):
        for scale in (1e4, 2.0**34):  # the second is held to the bound
            others = rng.normal(0, scale, size).astype(np.int64)
            one = rng.normal(0, 1, size)
            one = np.trunc(one / np.linalg.norm(one) * longest).astype(np.int64)
            moved = rounded(others + one, step, made.clipping_norm) - rounded(others, step, made.clipping_norm)
            assert np.linalg.norm(moved) <= float(step.where.units) + np.sqrt(size) <= step.where.sensitivity
            assert np.abs(rounded(others, step, made.clipping_norm)).max() <= step.where.largest


def test_just_enough_parts_make_the_whole_noise() -> None:
    made = shared()
    step, nothing = step_noise(made), np.zeros(20_000, dtype=np.int64)
    assert step.parts == 2
    one, other = (with_part(nothing, made, source(seed)) for seed in (1, 2))
    whole = (2.0 * float(step.where.units)) ** 2
    assert abs((one + other).var() / whole - 1) < 6 * np.sqrt(2 / nothing.size)
    assert abs(one.var() / whole - 0.5) < 6 * np.sqrt(2 / nothing.size)  # one too few: the rest is missing


@pytest.mark.parametrize("lanes", [True, False])
def test_a_round_gives_the_clipped_sum_and_the_step_is_the_mean_of_steps(
    monkeypatch: pytest.MonkeyPatch, lanes: bool
) -> None:
    if not lanes:
        monkeypatch.setattr(training, "sums_for", lambda *_, **__: None)
    made = shared(weight_decay=0.05, learning_rate=0.5, sampling_rate=1.0)
    alone = mechanism(clipping_norm=0.7, noise_multiplier=1e-6, weight_decay=0.05, learning_rate=0.5)
    _, weights = exported(Sigmoid)
    begun = {name: value.numpy() for name, value in weights.items()}
    monkeypatch.setattr(shared_step, "discrete_gaussians", silent)
    released = [train(made, matrix(PATIENTS, seed=seed)) for seed in (1, 2)]
    for name, value in released[0].items():
        assert value.dtype == torch.int64
        assert tuple(value.shape) == begun[name].shape
    one = step_of(flat(released[0]), begun, made, round=1, patients=PATIENTS)
    total = whole_words(released[0]) + whole_words(released[1])
    both = stepped(total, begun, made, round=1, parties=[2, 4])
    wanted = [train(alone, matrix(PATIENTS, seed=seed)) for seed in (1, 2)]
    for name in begun:
        np.testing.assert_allclose(one[name], wanted[0][name].numpy(), atol=2e-5)
        mean = (wanted[0][name].numpy() + wanted[1][name].numpy()) / 2
        np.testing.assert_allclose(both[name], mean, atol=2e-5)


def test_rows_move_the_sum_and_nothing_else() -> None:
    """With one key two tables differ by their sums to the last step: noise and its bits know nothing of rows."""
    made = shared()
    one, other = matrix(PATIENTS, seed=1), matrix(PATIENTS - 1, seed=2)
    noisy = flat(train(made, one)) - flat(train(made, other))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_step, "discrete_gaussians", silent)
        exact = flat(train(made, one)) - flat(train(made, other))
    np.testing.assert_array_equal(noisy, exact)
    assert np.abs(exact).max() > 100
    empty = train(made, matrix(0))
    assert {name: (value.shape, value.dtype) for name, value in empty.items()} == {
        name: (value.shape, value.dtype) for name, value in train(made, one).items()
    }


def test_words_go_around_as_their_sum_does() -> None:
    parts = [{"w": np.array([2**31 + 5, -3])}, {"w": np.array([-(2**31), 2])}]
    total = whole_words(parts[0]) + whole_words(parts[1])
    assert total.astype(np.int32).tolist() == [5, -1]


def test_a_training_whose_noise_is_its_own_has_no_part() -> None:
    with pytest.raises(DatasiteError, match="has no part of one"):
        with_part(np.zeros(3, dtype=np.int64), mechanism(), source())
