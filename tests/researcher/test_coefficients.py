"""Coefficients from noisy sums: those of the library that people use, with intervals that hold as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from datasites.engine.noise import NoiseSource
from datasites.engine.regression import regression_sums
from policies.privacy.accountant import resolve
from policies.privacy.regression import Regression
from policies.schema.columns import Column
from policies.schema.design import design_of
from policies.schema.regression_fits import moved_by_squares
from policies.schema.schemas import Schema
from researcher.chances import chi_square_tail, normal_tails
from researcher.coefficients import Coefficient, fit_of, hidden, together

SCHEMA = Schema(
    name="t",
    population="p",
    patient="id",
    columns=(
        Column(name="age", kind="real", minimum=0, maximum=100, unit="years"),
        Column(name="bmi", kind="real", minimum=10, maximum=60),
        Column(name="ward", kind="category", categories=("a", "b", "c")),
        Column(name="smoker", kind="boolean"),
        Column(name="sbp", kind="real", minimum=60, maximum=260, unit="mmHg"),
        Column(name="dead", kind="boolean"),
        Column(name="visits", kind="integer", minimum=0, maximum=20),
    ),
)
TERMS = ("age", "bmi", "ward", "smoker")
OUTCOMES = {"gaussian": "sbp", "binomial": "dead", "poisson": "visits"}
TRUTH = {
    "gaussian": np.array([60, 0.6, 1, 5, -4, 6]),
    "binomial": np.array([-4, 0.05, 0.02, 0.5, -0.3, 0.6]),
    "poisson": np.array([-1, 0.015, 0.01, 0.3, -0.2, 0.2]),
}


def patients(rng: np.random.Generator, size: int) -> np.ndarray:
    """Patients whose outcomes are as `TRUTH` has them."""
    age, bmi = np.clip(rng.normal(55, 18, size), 0, 100), np.clip(rng.normal(27, 6, size), 10, 60)
    ward, smoker = rng.choice(3, size, p=[0.5, 0.3, 0.2]), rng.random(size) < 0.3
    inputs = np.column_stack([np.ones(size), age, bmi, ward == 1, ward == 2, smoker])
    linear = {family: inputs @ truth for family, truth in TRUTH.items()}
    sbp = np.clip(linear["gaussian"] + rng.normal(0, 15, size), 60, 260)
    dead = rng.random(size) < 1 / (1 + np.exp(-linear["binomial"]))
    visits = np.minimum(rng.poisson(np.exp(linear["poisson"])), 20)
    return np.column_stack([np.arange(size), np.zeros(size), age, bmi, ward, smoker, sbp, dead, visits])


def asked(family: str, **changes: object) -> Regression:
    facts = {"outcome": OUTCOMES[family], "terms": TERMS, "family": family, "epsilon": 1.0, "delta": 1e-5}
    found = resolve(Regression(**{**facts, **changes}))  # type: ignore[arg-type]
    assert isinstance(found, Regression)
    return found


def coverage(family: str, size: int, epsilon: float, *, hospitals: int = 1, times: int) -> tuple[float, float]:
    """How often intervals hold, infinite ones included, and how often noise hides all."""
    rng, mechanism = np.random.default_rng(size + int(10 * epsilon)), asked(family, epsilon=epsilon)
    design, held, hid = design_of(mechanism, SCHEMA), [], 0
    for _ in range(times):
        fits = []
        for _hospital in range(hospitals):
            released = regression_sums(mechanism, SCHEMA, patients(rng, size), NoiseSource(rng.bytes(32)))
            fits.append(fit_of(mechanism, design, released))
        coefficients = together(fits).coefficients()
        hid += not np.isfinite(coefficients["age"].value)
        ends = [coefficient.interval for coefficient in coefficients.values()]
        held.append(np.mean([low <= true <= high for (low, high), true in zip(ends, TRUTH[family], strict=True)]))
    return float(np.mean(held)), hid / times


@pytest.mark.parametrize("family", OUTCOMES)
def test_without_noise_they_are_those_of_newtons_method_to_its_end_with_its_standard_errors(family: str) -> None:
    rng = np.random.default_rng(0)
    rows = patients(rng, 20_000)
    mechanism = Regression(outcome=OUTCOMES[family], terms=TERMS, family=family, noise_multiplier=1e-7)
    design = design_of(mechanism, SCHEMA)
    fit = fit_of(mechanism, design, regression_sums(mechanism, SCHEMA, rows, NoiseSource(bytes(32))))
    ward = rows[:, 4]
    inputs = np.column_stack([np.ones(len(rows)), rows[:, 2], rows[:, 3], ward == 1, ward == 2, rows[:, 5]])
    expected, errors = by_newton(family, inputs, rows[:, {"gaussian": 6, "binomial": 7, "poisson": 8}[family]])
    sampling = np.sqrt(np.diag(fit.sampling))
    # Rows that are long weigh a little less, so estimates differ by less than their errors and errors by a few percent.
    assert np.abs(fit.values - expected).max() < 0.6 * errors.max()
    assert (np.abs(fit.values - expected) / errors).max() < 0.6
    assert sampling == pytest.approx(errors, rel=0.15)
    assert (sampling > 0.95 * errors).all()
    assert np.sqrt(np.diag(fit.noise)).max() < 1e-3 * errors.max()


def by_newton(family: str, inputs: np.ndarray, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximum likelihood and its standard errors."""
    beta = np.linalg.lstsq(inputs, outcomes if family == "gaussian" else outcomes * 0, rcond=None)[0]
    for _ in range(30):
        linear = inputs @ beta
        mean = {"gaussian": linear, "binomial": 1 / (1 + np.exp(-linear)), "poisson": np.exp(np.minimum(linear, 20))}
        slope = {"gaussian": np.ones_like(linear), "binomial": mean["binomial"] * (1 - mean["binomial"])}
        slope["poisson"] = mean["poisson"]
        information = inputs.T @ (inputs * slope[family][:, None])
        beta = beta + np.linalg.solve(information, inputs.T @ (outcomes - mean[family]))
    spread = np.var(outcomes - inputs @ beta) if family == "gaussian" else 1.0
    return beta, np.sqrt(np.diag(np.linalg.inv(information)) * spread)


def test_where_noise_hides_all_nothing_is_said() -> None:
    mechanism = asked("gaussian", epsilon=0.5)
    rows = patients(np.random.default_rng(0), 100)
    fit = fit_of(
        mechanism, design_of(mechanism, SCHEMA), regression_sums(mechanism, SCHEMA, rows, NoiseSource(bytes(32)))
    )
    assert not fit.told
    age = fit.coefficients()["age"]
    assert age.interval == (-np.inf, np.inf)
    assert age.p_value == 1.0
    assert together([fit, hidden(design_of(mechanism, SCHEMA))]).told is False


def test_hospitals_are_weighed_by_precision_and_one_that_is_hidden_is_left_out() -> None:
    mechanism = asked("gaussian", epsilon=3.0)
    design, rng = design_of(mechanism, SCHEMA), np.random.default_rng(0)
    fits = [
        fit_of(mechanism, design, regression_sums(mechanism, SCHEMA, patients(rng, size), NoiseSource(rng.bytes(32))))
        for size in (3000, 1000, 30)
    ]
    assert [fit.told for fit in fits] == [True, True, False]
    both = together(fits)
    precisions = [1 / fit.coefficients()["age"].error ** 2 for fit in fits[:2]]
    assert 1 / both.coefficients()["age"].error ** 2 == pytest.approx(sum(precisions), rel=0.1)
    assert both.residual == pytest.approx(15, rel=0.2)


def test_a_ratio_is_e_to_the_coefficient_and_p_is_of_both_errors() -> None:
    found = Coefficient("age", 0.5, noise_error=0.3, sampling_error=0.4, ratio="odds ratio")
    assert found.error == pytest.approx(0.5)
    assert found.p_value == pytest.approx(normal_tails(1.0))
    value, low, high = found.exponent
    assert (value, low, high) == pytest.approx(np.exp([0.5, 0.5 - 0.98, 0.5 + 0.98]), rel=1e-4)
    assert Coefficient("age", 1000.0, 0.0, 1.0).exponent[0] == np.inf


def test_tails_are_those_of_the_distributions() -> None:
    assert normal_tails(1.959964) == pytest.approx(0.05, abs=1e-6)
    assert chi_square_tail(3.841459, 1) == pytest.approx(0.05, abs=1e-6)
    assert chi_square_tail(-1.0, 2) == 1.0


def test_the_covariance_of_noise_on_a_vector_is_the_one_that_is_drawn() -> None:
    rng, vector = np.random.default_rng(0), np.array([1.0, -2.0, 0.5])
    above = np.triu(rng.normal(0, 1 / np.sqrt(2), (40_000, 3, 3)), 1)
    noise = above + np.swapaxes(above, 1, 2) + np.einsum("nj,jk->njk", rng.normal(size=(40_000, 3)), np.eye(3))
    assert np.cov((noise @ vector).T) == pytest.approx(moved_by_squares(vector, 1.0), abs=0.08)


@pytest.mark.parametrize(
    ("family", "size", "epsilon"),
    [("gaussian", 300, 3.0), ("gaussian", 3000, 1.0), ("binomial", 1000, 3.0), ("poisson", 3000, 3.0)],
)
def test_intervals_hold_and_are_told(family: str, size: int, epsilon: float) -> None:
    held, hid = coverage(family, size, epsilon, times=40)
    # Six intervals of a fit hold together or not at all at worst: 93 % less three standard errors of forty.
    assert held > 0.93 - 3 * np.sqrt(0.93 * 0.07 / 40) * 0.6
    assert hid < 0.3


@pytest.mark.nightly
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("hospitals", [1, 3])
@pytest.mark.parametrize("size", [300, 1000, 3000, 10_000])
@pytest.mark.parametrize("family", OUTCOMES)
def test_intervals_hold_over_sizes_and_epsilon(family: str, size: int, hospitals: int) -> None:
    for epsilon in (0.5, 1.0, 3.0, 10.0):
        held, _ = coverage(family, size, epsilon, hospitals=hospitals, times=200)
        assert held > 0.93 - 3 * np.sqrt(0.93 * 0.07 / 200) * 0.6, (epsilon, held)
