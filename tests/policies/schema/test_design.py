"""A regression's inputs: bounded whatever stands in a record, and said again in the units of the columns."""

import numpy as np
import pytest

from policies.errors import UnsupportedMechanism
from policies.privacy.regression import Regression, parts_of
from policies.schema.columns import Column
from policies.schema.design import design_of
from policies.schema.schemas import Schema

SCHEMA = Schema(
    name="t",
    population="p",
    patient="id",
    columns=(
        Column(name="age", kind="integer", minimum=0, maximum=110, unit="years"),
        Column(name="crp", kind="real", minimum=0, maximum=400),
        Column(name="ward", kind="category", categories=("general", "icu", "day")),
        Column(name="smoker", kind="boolean"),
        Column(name="sbp", kind="real", minimum=60, maximum=260),
        Column(name="visits", kind="integer", minimum=0, maximum=20),
        Column(name="offset", kind="integer", minimum=-5, maximum=5),
    ),
)
EVERY = ("age", "crp", "ward", "smoker", "log(crp, 1)", "spline(age, 5)", "age * ward", "age * crp", "square(age)")


def declared(*terms: str, **changes: object) -> Regression:
    facts = {"outcome": "sbp", "terms": terms or EVERY, "family": "gaussian", "noise_multiplier": 1.0}
    return Regression(**{**facts, **changes})  # type: ignore[arg-type]


def records(size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = np.array([column.low for column in SCHEMA.columns])
    high = np.array([column.high for column in SCHEMA.columns])
    values = low + rng.random((size, len(low))) * (high - low)
    whole = [column.kind != "real" for column in SCHEMA.columns]
    values[:, whole] = np.rint(values[:, whole])
    return np.column_stack([np.arange(size), np.zeros(size), values])


def test_a_row_is_no_longer_than_its_public_bound_whatever_stands_in_a_record() -> None:
    design = design_of(declared(), SCHEMA)
    wild = np.random.default_rng(1).uniform(-1e9, 1e9, (500, 9))
    wild[::3, 2:] = np.inf
    wild[::5, 2:] = np.nan
    for rows in (records(500), wild):
        inputs = design.inputs(rows)
        assert inputs.shape == (500, len(design.names))
        assert np.isfinite(inputs).all()
        assert np.linalg.norm(inputs, axis=1).max() <= design.norm + 1e-9
        assert np.abs(design.outcomes(rows)).max() <= 1


def test_names_leave_the_reference_out_and_say_of_what_a_product_is() -> None:
    design = design_of(declared("age", "ward", "smoker", "age * ward"), SCHEMA)
    assert design.names == (
        "intercept", "age", "ward=icu", "ward=day", "smoker", "age × ward=icu", "age × ward=day",
    )  # fmt: skip
    assert design.columns == ("age", "ward", "smoker", "sbp")


def test_what_is_fitted_to_scaled_inputs_is_said_of_real_ones() -> None:
    design = design_of(declared("age", "crp", "ward", "log(crp, 1)", "age * crp", "age * ward"), SCHEMA)
    rows = records(400)
    age, crp, ward = rows[:, 2], rows[:, 3], rows[:, 4]
    icu, day = ward == 1, ward == 2
    real = np.column_stack([np.ones(400), age, crp, icu, day, np.log(crp + 1), age * crp, age * icu, age * day])
    scaled = np.random.default_rng(2).normal(size=len(design.names))
    # The same predictions by both, but for plain columns being scaled in float32.
    assert design.inputs(rows) @ scaled == pytest.approx(real @ (design.to_units @ scaled), rel=1e-5, abs=1e-5)


def test_the_outcome_is_held_to_narrower_bounds_where_they_are_declared() -> None:
    design = design_of(declared("age", outcome_range=(100, 180)), SCHEMA)
    rows = records(100)
    rows[:3, 6] = [60, 140, 260]
    assert design.outcomes(rows)[:3] == pytest.approx([-1, 0, 1])
    counts = design_of(declared("age", outcome="visits", family="poisson", outcome_range=(0, 8)), SCHEMA)
    assert counts.outcomes(rows).max() == 8


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"terms": ("age * ward",)}, "needs age as a term of its own"),
        ({"terms": ("age", "sbp")}, "reads the outcome"),
        ({"terms": ("age", "age * ward", "ward", "ward * age")}, "Two terms say the same"),
        ({"terms": ("weight",)}, "'weight' is not a column"),
        ({"terms": ("exp(age)",)}, "'exp' is not a function"),
        ({"terms": ("spline(age, 30)", "spline(crp, 30)", "spline(age, 30) * spline(crp, 30)")}, "above 100"),
        ({"outcome": "ward"}, "gaussian takes a real or integer column"),
        ({"family": "binomial"}, "binomial takes a boolean"),
        ({"family": "poisson"}, "poisson takes an integer column of counts"),
        ({"family": "poisson", "outcome": "offset"}, "minimum = 0 or more"),
        ({"outcome_range": (0, 100)}, "is not within 60 to 260"),
    ],
)
def test_what_cannot_be_asked_says_what_may_be(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UnsupportedMechanism, match=says):
        design_of(declared(**{"terms": ("age",), **changes}), SCHEMA)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"terms": ()}, "1 to 50"),
        ({"terms": ("age", "age")}, "no two alike"),
        ({"terms": (3,)}, "is no text"),
        ({"family": "gamma"}, "family='gamma' is not known"),
        ({"epsilon": 1.0}, "and not both"),
        ({"noise_multiplier": 0}, "noise_multiplier=0 is outside"),
        ({"delta": 0.5}, "delta=0.5 is outside"),
        ({"outcome_range": (3, 1)}, "does not ascend"),
        ({"outcome_range": (0, float("inf"))}, "not a number"),
        ({"outcome": "smoker", "family": "binomial", "outcome_range": (0, 1)}, "or the family is binomial"),
        ({"outcome": ""}, "is not a column's name"),
    ],
)
def test_a_declaration_out_of_bounds_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UnsupportedMechanism, match=says):
        declared(**{"terms": ("age",), **changes})


def test_the_shares_of_a_release_add_up_to_all_of_it() -> None:
    for family in ("gaussian", "binomial", "poisson"):
        shares = dict(parts_of(declared("age", family=family)))
        assert sum(shares.values()) == pytest.approx(1)
        assert len(shares) == (4 if family == "gaussian" else 6)
