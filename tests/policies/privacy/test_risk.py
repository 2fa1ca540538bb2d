"""Both risks are said, rounded against ourselves, with a chance that is true of the privacy loss itself."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.privacy.accountant import ORDERS, best_order, conversion, resolve, swapped, tail_gap
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import DPSGD, Query, Statistics
from policies.privacy.risk import (
    NO_LOSS,
    PrivacyLoss,
    belief,
    loss_in_filter,
    loss_of,
    pure_loss,
    risk_sentences,
    rounded_up,
)

TRAINING = DPSGD(
    loss="cross_entropy",
    rounds=1,
    steps=1,
    sampling_rate=1.0,
    clipping_norm=1.0,
    learning_rate=1.0,
    noise_multiplier=2.0,
)
TOTAL = loss_in_filter(6.0, 1e-5, 5)


def test_the_figures_of_a_pure_epsilon() -> None:
    loss = pure_loss(2.0)
    assert math.floor(100 * belief(loss.membership)) == 88
    assert math.floor(100 * belief(loss.record)) == 98
    assert belief(NO_LOSS.membership) == belief(NO_LOSS.record) == 0.5


@given(st.floats(0, 100), st.floats(0, 100), st.sampled_from(ORDERS))
def test_more_epsilon_never_means_less_risk(one: float, other: float, order: int) -> None:
    low, high = sorted((one, other))
    for loss in (pure_loss, lambda epsilon: loss_in_filter(epsilon, 1e-5, order)):
        less, more = loss(low), loss(high)
        assert belief(less.membership) <= belief(more.membership) <= belief(more.record) <= 1.0


@given(st.floats(0.01, 10))
def test_the_bound_is_what_randomized_response_reaches(epsilon: float) -> None:
    # Truth with chance p, else a lie: after seeing "yes", Bayes turns 1/2 into p/(p + (1 - p)) = e^ε / (1 + e^ε).
    truth, lie = math.exp(epsilon) / (1 + math.exp(epsilon)), 1 / (1 + math.exp(epsilon))
    assert belief(pure_loss(epsilon).membership) == pytest.approx(0.5 * truth / (0.5 * truth + 0.5 * lie))


# -- the chance of failing --------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(noise=st.floats(0.3, 200.0), delta=st.sampled_from((1e-7, 1e-5, 1e-3)))
def test_the_loss_of_a_gaussian_is_exceeded_no_more_often_than_delta(noise: float, delta: float) -> None:
    # One step over everybody: with μ = 1/σ the loss is normal with mean μ²/2 and variance μ², and of a swapped record,
    # whose gradients may point in opposite directions, the same with 2μ.
    loss = loss_of(replace(TRAINING, noise_multiplier=noise, delta=delta), 1e-5)

    def beyond(bound: float, mu: float) -> float:
        return float(mpmath.ncdf(-(bound - mu**2 / 2) / mu))

    assert beyond(loss.membership, 1 / noise) <= delta
    assert beyond(loss.record, 2 / noise) <= delta
    assert loss.delta == delta


def test_epsilon_itself_is_exceeded_far_more_often_than_delta() -> None:
    # Stated as "except with a chance of about δ", the chance was wrong by these factors even for a single Gaussian.
    for epsilon, least in ((0.1, 5), (2.0, 2)):
        noise = resolve(replace(TRAINING, noise_multiplier=None, epsilon=epsilon)).noise_multiplier  # type: ignore[union-attr]
        mu = 1 / float(noise or 0)
        assert mpmath.ncdf(-(epsilon - mu**2 / 2) / mu) > least * 1e-5


@settings(max_examples=12, deadline=None)
@given(rate=st.sampled_from((0.01, 0.1, 0.5)), noise=st.sampled_from((0.6, 1.0, 3.0)), steps=st.sampled_from((1, 50)))
def test_the_loss_of_sampled_steps_is_exceeded_no_more_often_than_delta(rate: float, noise: float, steps: int) -> None:
    # dp-accounting's distributions of the loss, which are pessimistic by at most an interval a step.
    from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism

    loss = loss_of(replace(TRAINING, sampling_rate=rate, noise_multiplier=noise, steps=steps), 1e-5)
    interval = 1e-4
    pld = from_gaussian_mechanism(noise, value_discretization_interval=interval, sampling_prob=rate).self_compose(steps)
    for pmf in (pld._pmf_remove.to_dense_pmf(), pld._pmf_add.to_dense_pmf()):
        losses = (np.arange(len(pmf._probs)) + pmf._lower_loss) * interval
        beyond = pmf._probs[losses > loss.membership + steps * interval].sum()
        assert beyond <= 1e-5


def test_the_gap_above_epsilon_is_what_markovs_inequality_leaves() -> None:
    # ε = D + conversion; x = D + log(1/δ)/(α-1), at which e^{(α-1)(D - x)} = δ.
    for order in ORDERS:
        exact = math.log(1e5) / (order - 1) - conversion(order, 1e-5)
        assert tail_gap(order) == pytest.approx(exact)


def exact_divergence(p: list[mpmath.mpf], q: list[mpmath.mpf], order: mpmath.mpf) -> mpmath.mpf:
    return mpmath.log(mpmath.fsum(a**order * b ** (1 - order) for a, b in zip(p, q, strict=True))) / (order - 1)


@settings(max_examples=200, deadline=None)
@given(
    order=st.sampled_from((2, 3, 5, 17)),
    parts=st.lists(st.tuples(*[st.floats(1e-6, 1.0)] * 3), min_size=2, max_size=6),
    delta=st.sampled_from((1e-3, 1e-5)),
)
def test_swapping_a_record_is_bounded_for_any_three_distributions(
    order: int, parts: list[tuple[float, float, float]], delta: float
) -> None:
    with mpmath.workdps(60):
        sums = [mpmath.fsum(column) for column in zip(*parts, strict=True)]
        p, r, s = ([part[i] / sums[i] for part in parts] for i in range(3))
        a = mpmath.mpf(order)
        one = max(exact_divergence(x, y, a) for x, y in ((p, r), (r, p), (s, r), (r, s)))
        beta = a**2 / (2 * a - 1)
        assert exact_divergence(p, s, beta) <= one * (2 * a - 1) / (a - 1) + mpmath.mpf("1e-50")
        loss = one + mpmath.log(1 / delta) / (a - 1)
        bound = swapped(float(loss), order) * (1 + 1e-12)
        assert mpmath.fsum(x for x, y in zip(p, s, strict=True) if mpmath.log(x / y) > bound) <= delta


# -- sentences --------------------------------------------------------------------------------------------------------


def test_sentences_say_both_risks_and_a_chance_that_is_true() -> None:
    order = best_order(PrivacyBudget(2.0, 1e-5))
    first, second = risk_sentences(loss_in_filter(2.0, 1e-5, order))
    assert "in the data becomes at most 91.4 %" in first  # 2 + log(10)/9 - log(0.9) = 2.361; e^x / (1 + e^x) = 0.9138
    assert "which of two records a known patient has becomes at most 99.4 %" in second  # 19/9 of that: 0.99321
    assert all("except with a chance of at most 0.00001." in sentence for sentence in (first, second))


@pytest.mark.parametrize("document", ["README.md", "docs/threat-model.md"])
def test_the_documents_state_the_figures_that_are_computed(document: str) -> None:
    text = " ".join((Path(__file__).parents[3] / document).read_text().split())
    order = best_order(PrivacyBudget(2.0, 1e-5))
    member, record = (
        sentence.split("at most ")[1][:6] for sentence in risk_sentences(loss_in_filter(2.0, 1e-5, order))
    )
    assert f"becomes at most {member} sure" in text
    assert f"known patient has, at most {record}, each except with a chance of at most δ" in text
    pure = [sentence.split("at most ")[1][:6] for sentence in risk_sentences(pure_loss(2.0))]
    assert f"{pure[0]} and {pure[1]}, always" in text
    assert "about δ" not in text


def test_a_pure_release_never_fails() -> None:
    statistics = Statistics(queries=(Query("count"),), epsilon=0.1, rounds=2)
    assert loss_of(statistics, 1e-5) == PrivacyLoss(0.2, 0.0, 0.2, 0.4)
    assert all("except" not in sentence for sentence in risk_sentences(pure_loss(0.2)))


def test_the_total_is_said_beside_the_request() -> None:
    last = risk_sentences(pure_loss(0.2), total=TOTAL)[-1]
    assert "ε = 6, δ = 0.00001 in total" in last
    assert "99.9 %" in last  # 6 + log(5)/4 - log(0.8) = 6.6255
    assert "as good as completely" in last
    assert last.endswith("except with a chance of at most 0.00001.")


@given(st.floats(0, 100))
def test_percentages_are_rounded_up(epsilon: float) -> None:
    first = risk_sentences(pure_loss(epsilon))[0]
    if "at most" in first:
        stated = float(first.split("at most ")[1].split(" %")[0])
        assert stated >= 100 * belief(epsilon) - 1e-6
        assert stated <= 100 * belief(epsilon) + 0.1
    else:
        assert belief(epsilon) > 0.999


@given(st.floats(1e-6, 100))
def test_epsilon_is_shown_rounded_up(epsilon: float) -> None:
    assert epsilon - 1e-9 <= float(rounded_up(epsilon)) <= epsilon + 1.1e-4
