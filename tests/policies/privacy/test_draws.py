"""Statistics cost what their draws of noise cost: exact values to 60 digits, another accountant, and the real grid."""

from __future__ import annotations

import math
from dataclasses import replace

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.errors import UnsupportedMechanism
from policies.privacy.accountant import ORDERS, charge_for, pure_divergence, renyi_divergence, resolve
from policies.privacy.draws import PARTS, TREE_HEIGHT, laplace_divergence, parts_of
from policies.privacy.mechanisms import STATISTICS, Query, Statistics

COLUMNS = {"count": 0, "crosstab": 2}
orders = st.sampled_from(ORDERS)
epsilons = st.floats(1e-6, 100.0)


def query(name: str, number: int = 0) -> Query:
    columns = tuple(f"c{number}{place}" for place in range(COLUMNS.get(name, 1)))
    return Query(name, columns, (0.5,) if name == "quantiles" else ())


def asked(*names: str, epsilon: float = 1.0, records: int = 1) -> Statistics:
    queries = tuple(query(name, number) for number, name in enumerate(names))
    return Statistics(queries=queries, epsilon=epsilon, records_per_patient=records)


def exact_laplace(epsilon: float, order: int) -> mpmath.mpf:
    """log(α/(2α-1) e^{(α-1)ε} + (α-1)/(2α-1) e^{-αε}) / (α-1) to 60 digits."""
    with mpmath.workdps(60):
        x, a = mpmath.mpf(epsilon), mpmath.mpf(order)
        terms = a / (2 * a - 1) * mpmath.exp((a - 1) * x), (a - 1) / (2 * a - 1) * mpmath.exp(-a * x)
        return mpmath.log(mpmath.fsum(terms)) / (a - 1)


def exact_steps(rate: mpmath.mpf, steps: mpmath.mpf, order: int) -> mpmath.mpf:
    """Divergence of discrete Laplace noise P[z] ∝ e^{-rate |z|} against itself moved by `steps`, summed in full."""
    p, a = mpmath.exp(-rate), mpmath.mpf(order)
    beside = (mpmath.exp((a - 1) * rate * steps) + mpmath.exp(-a * rate * steps)) / (1 - p)
    q = mpmath.exp(-(2 * a - 1) * rate)
    between = mpmath.exp((a - 1) * rate * steps) * (q - q**steps) / (1 - q)
    return mpmath.log((1 - p) / (1 + p) * (beside + between)) / (a - 1)


@settings(deadline=None)
@given(epsilon=epsilons, order=orders)
def test_the_divergence_of_laplace_noise_is_exact(epsilon: float, order: int) -> None:
    found, exact = mpmath.mpf(laplace_divergence(epsilon, order)), exact_laplace(epsilon, order)
    assert abs(found - exact) <= exact * mpmath.mpf("1e-14")


@settings(max_examples=25, deadline=None)
@given(epsilon=st.floats(0.01, 20.0), order=st.integers(2, 64))
def test_the_divergence_of_laplace_noise_is_the_integral(epsilon: float, order: int) -> None:
    # ∫ P^α Q^(1-α) of two Laplace densities of scale 1 at 0 and ε, in three pieces.
    with mpmath.workdps(30):

        def density(x: mpmath.mpf) -> mpmath.mpf:
            return mpmath.exp(-order * abs(x) - (1 - order) * abs(x - epsilon)) / 2

        total = mpmath.quad(density, [-mpmath.inf, 0]) + mpmath.quad(density, [0, epsilon])
        exact = mpmath.log(total + mpmath.quad(density, [epsilon, mpmath.inf])) / (order - 1)
        assert laplace_divergence(epsilon, order) == pytest.approx(float(exact), rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    names=st.lists(st.sampled_from(STATISTICS), min_size=1, max_size=8).filter(lambda names: names.count("count") < 2),
    epsilon=st.floats(0.01, 20.0),
)
def test_another_accountant_composes_the_draws_to_the_same(names: list[str], epsilon: float) -> None:
    from dp_accounting import ComposedDpEvent, LaplaceDpEvent
    from dp_accounting.rdp import RdpAccountant

    mechanism = asked(*names, epsilon=epsilon)
    accountant = RdpAccountant(list(ORDERS))
    accountant.compose(ComposedDpEvent([LaplaceDpEvent(1 / part) for part in parts_of(mechanism)]))
    for order, theirs in zip(ORDERS, accountant._rdp, strict=True):
        assert renyi_divergence(mechanism, order) == pytest.approx(min(theirs, epsilon), rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(name=st.sampled_from(STATISTICS), epsilon=st.floats(1e-6, 100.0), records=st.integers(1, 100), order=orders)
def test_a_charge_covers_the_grid_that_the_library_draws_on(
    name: str, epsilon: float, records: int, order: int
) -> None:
    # g is the next power of two above scale / 2^40, λ = gε/(Δ+g), and k records move k values by one each or one by k.
    mechanism = asked(name, epsilon=epsilon, records=records)
    with mpmath.workdps(60):
        exact = mpmath.mpf(0)
        for part in parts_of(mechanism):
            grid = mpmath.mpf(2) ** mpmath.ceil(mpmath.log(mpmath.mpf(records) / part / 2**40, 2))
            rate = grid * part / (records + grid)
            spread = records * exact_steps(rate, mpmath.ceil(1 / grid), order)
            at_once = exact_steps(rate, mpmath.floor((records + grid) / grid), order)
            exact += max(spread, at_once)
        assert exact <= renyi_divergence(mechanism, order) or renyi_divergence(mechanism, order) == epsilon
        assert exact <= mpmath.mpf(charge_for(mechanism, order).divergence_nano) / 10**9


@pytest.mark.parametrize("order", [2, 3, 8, 64])
@pytest.mark.parametrize(("rate", "steps"), [(0.5, 1), (0.5, 4), (0.1, 30), (0.01, 7)])
def test_the_divergence_on_a_grid_is_the_sum_and_its_closed_form(rate: float, steps: int, order: int) -> None:
    with mpmath.workdps(60):
        noise = mpmath.mpf(rate)
        weights = [
            mpmath.exp(-noise * (order * abs(z) + (1 - order) * abs(z - steps)))
            for z in range(-int(150 / rate), steps + int(150 / rate))
        ]
        summed = mpmath.fsum(weights) * mpmath.tanh(noise / 2)
        above, below = mpmath.exp((order - 1) * noise * steps), mpmath.exp(-order * noise * steps)
        ratio = mpmath.tanh(noise / 2) / mpmath.tanh((2 * order - 1) * noise / 2)
        assert mpmath.almosteq(summed, (above + below) / 2 + (above - below) / 2 * ratio, rel_eps=1e-50)
        exact = mpmath.log(summed) / (order - 1)
        assert mpmath.almosteq(exact, exact_steps(noise, mpmath.mpf(steps), order), rel_eps=1e-50)
        most = mpmath.log1p(((2 * order - 1) * noise / 2) ** 2 / 3) / (order - 1)  # what the grid adds
        assert exact_laplace(rate * steps, order) < exact <= exact_laplace(rate * steps, order) + most


@given(whole=epsilons, share=st.floats(0.0, 1.0), order=orders)
def test_moving_one_value_by_everything_is_the_worst(whole: float, share: float, order: int) -> None:
    one, other = whole * share, whole * (1 - share)
    apart = laplace_divergence(one, order) + laplace_divergence(other, order)
    assert apart <= laplace_divergence(whole, order) * (1 + 1e-9) + 1e-12


@given(names=st.lists(st.sampled_from(STATISTICS), min_size=1, max_size=6), epsilon=epsilons, order=orders)
def test_draws_never_cost_more_than_their_epsilon_together(names: list[str], epsilon: float, order: int) -> None:
    names = ["count", *(name for name in names if name != "count")]
    mechanism = asked(*names, epsilon=epsilon)
    assert math.fsum(parts_of(mechanism)) == pytest.approx(epsilon)
    assert renyi_divergence(mechanism, order) <= pure_divergence(epsilon, order) * (1 + 1e-9) + 1e-9


def test_what_the_audit_found_three_queries_and_32_histograms_to_cost() -> None:
    # Charged as one pure ε they cost 0.0887 and 0.9217 nats: log((e^{5ε} + e^{-4ε}) / (1 + e^ε)) / 4.
    three, many = asked("count", "mean", "histogram", epsilon=0.2), asked(*["histogram"] * 32)
    assert pure_divergence(0.2, 5) == pytest.approx(0.0887, abs=1e-4)
    assert renyi_divergence(three, 5) == pytest.approx(0.0269, abs=1e-4)
    assert pure_divergence(1.0, 5) == pytest.approx(0.9217, abs=1e-4)
    assert renyi_divergence(many, 5) == pytest.approx(0.0771, abs=1e-4)


def test_every_statistic_says_its_parts() -> None:
    assert set(PARTS) == set(STATISTICS)
    assert (PARTS["mean"], PARTS["variance"], PARTS["quantiles"]) == (2, 3, TREE_HEIGHT)
    assert parts_of(asked("variance", "sum", epsilon=1.2)) == pytest.approx((0.2, 0.2, 0.2, 0.6))


def test_so_little_epsilon_that_noise_is_coarser_than_a_count_is_refused_before_anything_is_spent() -> None:
    for mechanism in (asked("count", epsilon=1e-10), asked("quantiles", epsilon=3.9e-9)):
        for refuse in (resolve, lambda mechanism: charge_for(mechanism, 8)):
            with pytest.raises(UnsupportedMechanism, match="Ask for a larger epsilon or fewer statistics"):
                refuse(mechanism)
    assert charge_for(replace(asked("quantiles"), epsilon=4e-9), 8).divergence_nano == 1
