"""The accountant agrees with closed forms, published values and two other accountants, and never understates."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from policies.errors import BudgetTooSmall, UnsupportedMechanism
from policies.privacy import accountant
from policies.privacy.accountant import (
    ORDERS,
    best_order,
    charge_for,
    conversion,
    epsilon_of,
    noise_multiplier_for,
    pld_epsilon,
    renyi_divergence,
    resolve,
    standalone_epsilon,
)
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import DPSGD, Evaluation, Query, Regression, Statistics, check_range

TRAINING = DPSGD(
    loss="cross_entropy",
    rounds=5,
    steps=40,
    sampling_rate=0.1,
    clipping_norm=1.0,
    learning_rate=1.0,
    noise_multiplier=3.0,
)
COUNT = Statistics(queries=(Query("count"),), epsilon=0.2, rounds=3)
SCORES = Evaluation(loss="cross_entropy", epsilon=0.5, rounds=2)
rates = st.floats(1e-4, 1.0)
noises = st.floats(0.3, 100.0)
orders = st.sampled_from(ORDERS)


def training(**changes: float | int | None) -> DPSGD:
    return replace(TRAINING, **changes)  # type: ignore[arg-type]


# -- divergences --------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(order=orders, noise=noises, steps=st.integers(1, 1000))
def test_without_sampling_the_divergence_is_the_gaussians(order: int, noise: float, steps: int) -> None:
    found = renyi_divergence(training(sampling_rate=1.0, noise_multiplier=noise, steps=steps), order)
    expected = steps * order / (2 * noise**2)  # α / 2σ² a step, each rounded up by 1e-12
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9 + 2e-12 * steps)


def exact_step(rate: float, noise: float, order: int) -> mpmath.mpf:
    """log(Σ_k C(α,k) (1-q)^(α-k) q^k e^{(k²-k)/2σ²}) / (α-1) to 60 digits (Mironov et al. 2019, section 3.3)."""
    with mpmath.workdps(60):
        q, sigma = mpmath.mpf(rate), mpmath.mpf(noise)
        terms = (
            mpmath.binomial(order, k) * (1 - q) ** (order - k) * q**k * mpmath.exp((k * k - k) / (2 * sigma**2))
            for k in range(order + 1)
        )
        return mpmath.log(mpmath.fsum(terms)) / (order - 1)


@settings(max_examples=30, deadline=None)
@given(rate=st.floats(1e-4, 0.99), noise=st.floats(0.1, 300.0), order=st.sampled_from((2, 3, 8, 33, 128, 512)))
def test_divergence_never_understates_and_is_tight(rate: float, noise: float, order: int) -> None:
    found = mpmath.mpf(renyi_divergence(training(steps=1, sampling_rate=rate, noise_multiplier=noise), order))
    exact = exact_step(rate, noise, order)
    assert exact <= found <= exact * (1 + mpmath.mpf("1e-11")) + mpmath.mpf("3e-12")


@settings(deadline=None)
@given(epsilon=st.floats(1e-6, 20.0), order=orders)
def test_pure_divergence_is_that_of_randomized_response(epsilon: float, order: int) -> None:
    with mpmath.workdps(60):
        p = 1 / (1 + mpmath.exp(-mpmath.mpf(epsilon)))  # the truth is told with chance e^ε / (1 + e^ε)
        terms = p**order * (1 - p) ** (1 - order) + (1 - p) ** order * p ** (1 - order)
        exact = mpmath.log(terms) / (order - 1)
        found = mpmath.mpf(renyi_divergence(replace(SCORES, epsilon=epsilon), order))
        assert exact * (1 - mpmath.mpf("1e-15")) <= found <= exact * (1 + mpmath.mpf("1e-9"))


@settings(deadline=None)
@given(epsilon=st.floats(1e-9, 100.0), order=orders)
def test_pure_divergence_is_never_above_epsilon(epsilon: float, order: int) -> None:
    for mechanism in (COUNT, SCORES):
        assert 0 < renyi_divergence(replace(mechanism, epsilon=epsilon), order) <= epsilon


@settings(max_examples=50, deadline=None)
@given(rate=rates, noise=st.floats(0.3, 50), order=st.integers(2, 511), less=st.floats(0.1, 0.99))
def test_more_noise_less_sampling_and_a_smaller_order_never_cost_more(
    rate: float, noise: float, order: int, less: float
) -> None:
    def cost(rate: float, noise: float, order: int) -> float:
        return renyi_divergence(training(sampling_rate=rate, noise_multiplier=noise), order)

    most = cost(rate, noise, order) * (1 + 1e-9) + 1e-9
    assert cost(rate, noise / less, order) <= most
    assert cost(rate * less, noise, order) <= most
    assert cost(rate, noise, order) <= cost(rate, noise, order + 1) * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("mechanism", [TRAINING, COUNT, SCORES], ids=lambda each: each.kind)
def test_rounds_add_up(mechanism: DPSGD | Statistics | Evaluation) -> None:
    assert renyi_divergence(mechanism, 8, rounds=3) == pytest.approx(3 * renyi_divergence(mechanism, 8))
    assert epsilon_of(mechanism, 1e-5, rounds=2) > epsilon_of(mechanism, 1e-5, rounds=1)
    assert epsilon_of(mechanism, 1e-5) == epsilon_of(mechanism, 1e-5, rounds=mechanism.rounds)


# -- charges ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", [TRAINING, COUNT, SCORES], ids=lambda each: each.kind)
@pytest.mark.parametrize("order", ORDERS[::9])
def test_a_charge_is_the_divergence_of_one_release_rounded_up(mechanism: DPSGD | Statistics, order: int) -> None:
    charge, exact = charge_for(mechanism, order), renyi_divergence(mechanism, order)
    assert Fraction(exact) * 10**9 - 1 <= charge.divergence_nano - 1 <= Fraction(exact) * 10**9
    assert charge.delta == 0.0


def test_a_pure_charge_names_its_epsilon_as_it_was_written() -> None:
    assert charge_for(COUNT, 8).pure_epsilon_nano == 200_000_000
    assert charge_for(replace(COUNT, epsilon=0.3), 8).pure_epsilon_nano == 300_000_000
    assert charge_for(TRAINING, 8).pure_epsilon_nano is None


def test_the_smallest_release_still_costs_something() -> None:
    assert charge_for(replace(COUNT, epsilon=1e-9), 2).divergence_nano == 1
    assert charge_for(replace(SCORES, epsilon=1e-12), 2).divergence_nano == 1
    tiny = training(steps=1, sampling_rate=1e-9, noise_multiplier=1000.0)
    assert charge_for(tiny, 2).divergence_nano >= 1


def test_a_charge_beyond_any_budget_is_refused() -> None:
    with pytest.raises(UnsupportedMechanism, match="Ask for more noise or fewer steps"):
        charge_for(training(steps=100_000, noise_multiplier=0.05, sampling_rate=1.0), 512)


def test_what_is_not_accounted_for_is_refused() -> None:
    with pytest.raises(UnsupportedMechanism, match="resolve"):
        charge_for(training(epsilon=2.0, noise_multiplier=None), 8)
    with pytest.raises(UnsupportedMechanism, match=r"outside \[0\.05, 1000"):
        resolve(training(noise_multiplier=0.01))
    for order in (1, 0, 513, 2.5, True):
        with pytest.raises(UnsupportedMechanism, match="order"):
            charge_for(COUNT, order)  # type: ignore[arg-type]


# -- ε ------------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(divergence=st.floats(1e-6, 5.0), order=orders, delta=st.floats(1e-12, 1e-2))
def test_conversion_solves_the_bound_on_delta(divergence: float, order: int, delta: float) -> None:
    # Canonne, Kamath & Steinke: δ = e^{(α-1)(τ-ε)} / (α-1) · (1 - 1/α)^α
    epsilon = divergence + conversion(order, delta)
    back = (order - 1) * (divergence - epsilon) - math.log(order - 1) + order * math.log1p(-1 / order)
    assert back == pytest.approx(math.log(delta), abs=1e-6)


def test_the_value_that_abadi_et_al_published() -> None:
    # "σ = 4, q = 0.01, δ = 1e-5, E = 100: ε ≈ 1.26" (arXiv:1607.00133, section 3.2): T = E / q = 10,000 steps,
    # log moments λ = α - 1 ≤ 32, and ε = divergence + log(1/δ) / λ. The conversion that is used here gives less.
    run = training(rounds=1, steps=10_000, sampling_rate=0.01, noise_multiplier=4.0)
    classic = min(renyi_divergence(run, order) + math.log(1e5) / (order - 1) for order in range(2, 34))
    assert classic == pytest.approx(1.26, abs=0.005)
    assert 1.0 < epsilon_of(run, 1e-5) < classic


def test_the_values_that_were_pinned() -> None:
    # q=0.01, σ=1.1, 1000 steps with a pure 0.2 beside it. With a Laplace event in its stead dp-accounting said 1.8396
    # by RDP and 1.6472 by PLD; a pure event may lose at least as much.
    run = training(rounds=1, steps=1000, sampling_rate=0.01, noise_multiplier=1.1)
    pure = replace(COUNT, rounds=1)
    both = min(renyi_divergence(run, a) + renyi_divergence(pure, a) + conversion(a, 1e-5) for a in ORDERS)
    assert 1.8396 - 1e-3 <= both <= 1.8396 + 0.02
    assert 1.6472 - 0.2 <= pld_epsilon(run, 1e-5) <= 1.6472


@settings(max_examples=25, deadline=None)
@given(rate=rates, noise=st.floats(0.5, 20.0), steps=st.integers(1, 2000))
def test_epsilon_never_understates_what_dp_accounting_says(rate: float, noise: float, steps: int) -> None:
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(list(ORDERS))
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    accountant.compose(dp_accounting.SelfComposedDpEvent(event, steps))
    theirs = accountant.get_epsilon(1e-5)
    ours = epsilon_of(training(rounds=1, steps=steps, sampling_rate=rate, noise_multiplier=noise), 1e-5)
    assert theirs <= ours <= theirs * (1 + 1e-9) + 1e-6 or theirs == 0  # they also bound by KL, down to ε = 0


@pytest.mark.parametrize(
    ("rate", "noise", "steps"), [(0.01, 1.1, 1000), (0.06, 2.0, 200), (0.5, 8.0, 50), (1.0, 20, 10)]
)
def test_opacus_agrees_at_the_same_orders(rate: float, noise: float, steps: int) -> None:
    from opacus.accountants import RDPAccountant

    theirs = RDPAccountant()
    theirs.history = [(noise, rate, steps)]
    run = training(rounds=1, steps=steps, sampling_rate=rate, noise_multiplier=noise)
    assert epsilon_of(run, 1e-5) == pytest.approx(theirs.get_epsilon(1e-5, alphas=list(ORDERS)), rel=1e-6)


def test_pure_mechanisms_have_the_sum_of_their_epsilon() -> None:
    assert epsilon_of(COUNT, 1e-5) == 0.6  # 3 x 0.2, not 0.6000000000000001
    assert epsilon_of(SCORES, 1e-9) == 1.0


@pytest.mark.parametrize("mechanism", [TRAINING, COUNT, SCORES, training(noise_multiplier=0.3)])
def test_pld_is_tighter_than_rdp(mechanism: DPSGD | Statistics | Evaluation) -> None:
    assert 0 < pld_epsilon(mechanism, 1e-5) <= epsilon_of(mechanism, 1e-5)


def test_pld_of_a_gaussian_is_never_below_the_exact_value() -> None:
    # One Gaussian (q = 1, σ = 1, sensitivity 1): δ(ε) = Φ(1/2 - ε) - e^ε Φ(-1/2 - ε), Balle & Wang 2018.
    epsilon = pld_epsilon(training(rounds=1, steps=1, sampling_rate=1.0, noise_multiplier=1.0), 1e-5)
    delta = mpmath.ncdf(0.5 - epsilon) - mpmath.exp(epsilon) * mpmath.ncdf(-0.5 - epsilon)
    assert 0.99e-5 <= delta <= 1e-5


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (5.0, 40), (30.0, 400), (90.0, 10_000)])
@pytest.mark.parametrize("delta", [1e-7, 1e-5, 1e-3])
def test_standalone_epsilon_is_just_above_that_of_60_digits(noise: float, steps: int, delta: float) -> None:
    # Steps over everybody compose to one Gaussian with μ = √steps / σ, whose δ(ε) is Balle & Wang's.
    epsilon = standalone_epsilon(
        training(rounds=1, steps=steps, sampling_rate=1.0, noise_multiplier=noise, delta=delta), delta
    )
    with mpmath.workdps(60):
        mu = mpmath.sqrt(steps) / noise

        def exact(at: float) -> mpmath.mpf:
            return mpmath.ncdf(mu / 2 - at / mu) - mpmath.exp(at) * mpmath.ncdf(-mu / 2 - at / mu)

        assert exact(epsilon) <= delta
        assert exact(epsilon * 0.99 - 1e-3) > delta


@pytest.mark.parametrize(("rate", "noise", "steps"), [(0.01, 1.1, 1000), (0.05, 2.35, 400), (0.5, 8.0, 50)])
def test_standalone_epsilon_is_what_dp_accountings_own_accountant_says(rate: float, noise: float, steps: int) -> None:
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    theirs = PLDAccountant(value_discretization_interval=1e-4)  # ten times as fine as ours
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    theirs.compose(dp_accounting.SelfComposedDpEvent(event, steps))
    ours = standalone_epsilon(training(rounds=1, steps=steps, sampling_rate=rate, noise_multiplier=noise), 1e-5)
    assert theirs.get_epsilon(1e-5) * (1 - 1e-6) <= ours <= theirs.get_epsilon(1e-5) * 1.01


def test_a_charge_is_of_the_divergence_and_knows_nothing_of_the_standalone_epsilon() -> None:
    mechanism = resolve(training(noise_multiplier=None, epsilon=2.0))
    assert isinstance(mechanism, DPSGD)
    assert standalone_epsilon(mechanism, mechanism.delta) < 0.95 * epsilon_of(mechanism, mechanism.delta)
    for order in (2, 10, 64):
        assert charge_for(mechanism, order).divergence_nano >= renyi_divergence(mechanism, order) * 1e9
    sums = Regression(outcome="y", terms=("x",), family="gaussian", noise_multiplier=4.0)
    assert 0.9 < standalone_epsilon(sums, sums.delta) < 0.95 * epsilon_of(sums, sums.delta)
    assert standalone_epsilon(SCORES, 1e-5) == epsilon_of(SCORES, 1e-5)  # pure: without a δ, which promises more


# -- noise --------------------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(epsilon=st.floats(0.05, 20.0), delta=st.sampled_from((1e-7, 1e-5, 1e-3)), rate=rates, steps=st.integers(1, 5000))
def test_noise_fits_the_budget_and_a_thousandth_less_does_not(
    epsilon: float, delta: float, rate: float, steps: int
) -> None:
    most = training(rounds=1, steps=steps, sampling_rate=rate, noise_multiplier=1000.0)
    assume(epsilon_of(most, delta) <= epsilon)  # else no noise that may be declared is enough
    noise = noise_multiplier_for(PrivacyBudget(epsilon, delta), sampling_rate=rate, steps=steps)
    assert noise * 1000 == pytest.approx(round(noise * 1000), abs=1e-6)
    run = training(rounds=1, steps=steps, sampling_rate=rate, noise_multiplier=noise)
    assert epsilon_of(run, delta) <= epsilon
    if noise > 0.05:
        assert epsilon_of(replace(run, noise_multiplier=round(noise * 1000 - 1) / 1000), delta) > epsilon


def test_a_target_for_all_rounds_becomes_one_noise_multiplier() -> None:
    asked = training(noise_multiplier=None, epsilon=2.0)
    found = resolve(asked)
    assert isinstance(found, DPSGD)
    assert found.epsilon is None
    assert 1.99 < epsilon_of(found, asked.delta) <= 2.0
    assert resolve(found) == found
    assert resolve(COUNT) is COUNT


def test_a_budget_too_small_names_what_would_be_needed() -> None:
    with pytest.raises(BudgetTooSmall, match="Ask for fewer steps or a larger ε") as caught:
        noise_multiplier_for(PrivacyBudget(0.01, 1e-9), sampling_rate=1.0, steps=100_000)
    assert caught.value.least > 0.01  # type: ignore[attr-defined]


@pytest.mark.parametrize(("rate", "steps"), [(0.0, 1), (1.1, 1), (math.nan, 1), (0.1, 0), (0.1, 1.5)])
def test_noise_for_arguments_outside_their_range_is_refused(rate: float, steps: int) -> None:
    with pytest.raises(UnsupportedMechanism):
        noise_multiplier_for(PrivacyBudget(1.0, 1e-5), sampling_rate=rate, steps=steps)


# -- the ledger's order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 6.0, 20.0])
def test_best_order_lets_most_gaussian_releases_fit(epsilon: float) -> None:
    budget = PrivacyBudget(epsilon, 1e-5)
    release = training(sampling_rate=1.0, steps=1, noise_multiplier=100.0)

    def fitting(order: int) -> int:
        return int((epsilon - conversion(order, 1e-5)) * 1e9 / charge_for(release, order).divergence_nano)

    assert fitting(best_order(budget)) >= max(map(fitting, ORDERS)) - 1


def test_one_order_chosen_beforehand_costs_a_single_gaussian_run_nothing() -> None:
    # At the budget's best order the run that just fits needs hardly more noise than with all orders to choose from.
    budget = PrivacyBudget(2.0, 1e-5)
    noise = noise_multiplier_for(budget, sampling_rate=1.0, steps=100)
    run = training(rounds=1, steps=100, sampling_rate=1.0, noise_multiplier=noise)
    order = best_order(budget)
    assert renyi_divergence(run, order) + conversion(order, 1e-5) == pytest.approx(2.0, abs=1e-3)


# -- habits -------------------------------------------------------------------------------------------------------


def test_no_warning_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        noise_multiplier_for(PrivacyBudget(1.7, 1e-5), sampling_rate=0.0613, steps=777)
        pld_epsilon(training(sampling_rate=0.0613), 1e-5)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.process
def test_importing_the_accountant_does_not_import_its_library() -> None:
    code = "import sys, policies.privacy.accountant; sys.exit('dp_accounting' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_orders_are_whole_and_ascending() -> None:
    assert all(type(order) is int for order in ORDERS)
    assert list(np.unique(ORDERS)) == list(ORDERS)
    assert (ORDERS[0], ORDERS[-1]) == (2, 512)


def test_a_search_for_noise_checks_its_delta_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    def check(name: str, *arguments: object, **options: object) -> None:
        checked.append(name)
        check_range(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(accountant, "check_range", check)
    accountant._conversions.cache_clear()
    noise_multiplier_for(PrivacyBudget(1.25, 3.25e-6), sampling_rate=0.0625, steps=321)
    assert checked.count("delta") <= 10  # it was some two thousand times
