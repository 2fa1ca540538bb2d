"""Real public patients, against the libraries that people use: errors lie inside the stated intervals."""

from __future__ import annotations

import numpy as np
import pytest

from datasites.engine.noise import NoiseSource
from datasites.engine.regression import regression_sums
from datasites.engine.survival import survival_table
from policies.privacy.accountant import resolve
from policies.privacy.regression import Regression
from policies.privacy.survival import KaplanMeier
from policies.schema.columns import Column
from policies.schema.design import design_of
from policies.schema.schemas import Schema
from policies.schema.survival_cells import TENSOR, survival_groups, time_grid
from researcher.coefficients import fit_of
from researcher.survival_curves import curves_of, log_rank

lifelines = pytest.importorskip("lifelines", reason="lifelines is among what the tests install")

RECIDIVISM = Schema(
    name="rossi",
    population="p",
    patient="id",
    columns=(
        Column(name="week", kind="integer", minimum=0, maximum=52, unit="weeks"),
        Column(name="arrest", kind="boolean"),
        Column(name="prio", kind="category", categories=("few", "many")),
    ),
)
DIABETES = Schema(
    name="diabetes",
    population="p",
    patient="id",
    columns=(
        Column(name="age", kind="real", minimum=18, maximum=100),
        Column(name="bmi", kind="real", minimum=15, maximum=50),
        Column(name="bp", kind="real", minimum=50, maximum=150),
        Column(name="progression", kind="real", minimum=0, maximum=350),
    ),
)


def matrix(*columns: np.ndarray) -> np.ndarray:
    size = len(columns[0])
    return np.column_stack([np.arange(size), np.zeros(size), *columns]).astype(np.float64)


@pytest.mark.parametrize("epsilon", [1.0, 3.0])
def test_curves_of_432_prisoners_hold_those_of_lifelines(epsilon: float) -> None:
    from lifelines.datasets import load_rossi
    from lifelines.statistics import logrank_test

    people = load_rossi()
    many = (people["prio"] > 2).to_numpy()
    asked = KaplanMeier(time="week", event="arrest", by="prio", epsilon=epsilon, bins=13)
    rows = matrix(people["week"], people["arrest"], many)
    table = survival_table(asked, RECIDIVISM, rows, NoiseSource(bytes(32)))[TENSOR]
    grid, labels = time_grid(asked, RECIDIVISM), survival_groups(asked, RECIDIVISM)
    curves = curves_of(table, labels, grid, epsilon=epsilon)
    for label, chosen in zip(labels, (~many, many), strict=True):
        fitter = lifelines.KaplanMeierFitter().fit(people["week"][chosen], people["arrest"][chosen])
        curve = curves[label]
        assert curve.told > 10
        true, (low, high) = fitter.predict(curve.times).to_numpy(), curve.band
        assert ((low <= true) & (true <= high)).all()
    theirs = logrank_test(people["week"][many], people["week"][~many], people["arrest"][many], people["arrest"][~many])
    ours = log_rank(list(curves.values()))
    assert ours is not None
    assert theirs.p_value < 0.01
    assert ours.p_value < (0.1 if epsilon >= 3 else 1.0)


def test_coefficients_of_442_diabetics_hold_those_of_least_squares() -> None:
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import LinearRegression

    people = load_diabetes(as_frame=True, scaled=False).frame
    inputs, outcome = people[["age", "bmi", "bp"]].to_numpy(), people["target"].to_numpy()
    theirs = LinearRegression().fit(inputs, outcome)
    asked = resolve(Regression(outcome="progression", terms=("age", "bmi", "bp"), family="gaussian", epsilon=3.0))
    assert isinstance(asked, Regression)
    released = regression_sums(asked, DIABETES, matrix(*inputs.T, outcome), NoiseSource(bytes(32)))
    found = fit_of(asked, design_of(asked, DIABETES), released).coefficients()
    for name, value in zip(("intercept", "age", "bmi", "bp"), [theirs.intercept_, *theirs.coef_], strict=True):
        low, high = found[name].interval
        assert low < value < high
    assert found["bmi"].p_value < 0.05
