"""Transformations: what they compute, that they stay in [-1, 1] whatever the cells, and what schemas refuse."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from policies.errors import DataRefused, UnsupportedMechanism
from policies.schema.schemas import Schema
from policies.schema.transformations import circle, logarithm, months
from tests.timing import unevenness

TOML = """
name = "t"
population = "p"
patient = "pid"
target = "died"

[columns.age]
kind = "integer"
minimum = 0
maximum = 110

[columns.crp]
kind = "real"
minimum = 0
maximum = 500
missing = {constant = 5, indicator = true}

[columns.lactate]
kind = "real"
minimum = 0.5
maximum = 30
missing = {constant = 1}

[columns."base excess"]
kind = "real"
minimum = -30
maximum = 30

[columns.ward]
kind = "category"
categories = ["emergency", "general", "intensive"]

[columns.sex]
kind = "category"
categories = ["f", "m"]

[columns.smokes]
kind = "boolean"

[columns.admitted]
kind = "date"
minimum = 2025-10-01
maximum = 2026-04-30
feature = false

[columns.died]
kind = "boolean"

[sequences]
blood = ["crp", "crp"]
"""
SCHEMA = Schema.from_toml(TOML)
DECLARED = Schema.from_toml(
    TOML + '[transformations]\nbands = "bands(age, 18, 65)"\nseason = {term = "yearly(admitted)", feature = false}\n'
)
WIDTH = len(SCHEMA.matrix_columns)
TERMS = (
    "age", "ward", "bands(age, 18, 40, 65)", "bands(base excess, -3, 3)", "bands(admitted, 2026-01-01)",
    "above(age, 60)", "above(admitted, 2026-03-01)", "spline(age, 5)", "spline(crp, 3)", "spline(admitted, 30)",
    "log(crp, 1)", "log(lactate)", "log(base excess, 31)", "sqrt(crp)", "square(base excess)", "cube(base excess)",
    "clip(crp, 10, 200)", "among(ward, 'general', 'intensive')", "missing(lactate)", "month(admitted)",
    "weekday(admitted)", "yearly(admitted)", "age * ward", "age * crp * smokes", "bands(age, 65) * spline(crp, 4)",
    "missing(lactate) * sex", "age * bands(age, 65)",
)  # fmt: skip


def rows(**cells: object) -> np.ndarray:
    """Rows of the matrix with the given cells, a list for each column, zero elsewhere."""
    count = max(np.size(values) for values in cells.values())
    made = np.zeros((count, WIDTH))
    for name, values in cells.items():
        made[:, SCHEMA.matrix_columns.index(name.replace("_", " "))] = values
    return made


def made(term: str, **cells: object) -> list[list[float]]:
    return SCHEMA.inputs(rows(**cells), (term,)).tolist()  # type: ignore[no-any-return]


ANY_MATRIX = hnp.arrays(
    np.float64,
    st.integers(0, 12).map(lambda count: (count, WIDTH)),
    elements=st.floats(allow_nan=True, allow_infinity=True, width=64),
)


# What every term promises, whatever the private cells are


@settings(deadline=None)
@given(ANY_MATRIX, st.lists(st.sampled_from(TERMS), min_size=1, max_size=4, unique=True))
def test_inputs_are_finite_and_in_minus_one_to_one_whatever_the_cells(cells: np.ndarray, terms: list[str]) -> None:
    inputs = tuple(terms)
    shown = SCHEMA.inputs(cells, inputs)
    assert shown.dtype == np.float32
    assert shown.shape == (len(cells), *SCHEMA.input_shape(inputs)) == (len(cells), len(SCHEMA.input_names(inputs)))
    assert np.all(np.abs(shown) <= 1)  # and so no NaN


@pytest.mark.parametrize("term", TERMS)
def test_a_row_makes_the_same_bits_in_any_company(term: str) -> None:
    draw = np.random.default_rng(1)
    cells = draw.normal(0, 100, (9001, WIDTH)) * 10.0 ** draw.integers(-5, 5, (9001, 1))
    cells[::7] = np.nan
    cells[::11] = np.inf
    whole = SCHEMA.inputs(cells, (term,))
    for row in (0, 7, 11, 4095, 4096, 9000):
        assert np.array_equal(SCHEMA.inputs(cells[row : row + 1], (term,))[0], whole[row])


@pytest.mark.parametrize("term", TERMS)
def test_every_end_of_the_bounds_is_within_and_each_output_has_a_name_of_its_own(term: str) -> None:
    ends = [[column.low, column.high] for column in SCHEMA.columns]
    cells = np.array([[0, 0, *row] for row in zip(*ends, strict=True)])
    shown = SCHEMA.inputs(cells, (term,))
    names = SCHEMA.input_names((term,))
    assert shown.shape[1] == len(names) == len(set(names))
    assert np.all(np.abs(shown) <= 1)


def test_columns_beside_terms_are_what_they_are_alone() -> None:
    cells = np.random.default_rng(2).normal(0, 50, (500, WIDTH))
    cells[::3, 3] = np.nan
    plain = ("age", "crp", "ward", "sex", "smokes")
    alone = SCHEMA.inputs(cells, plain)
    beside = SCHEMA.inputs(cells, (*plain, "square(age)"))
    assert np.array_equal(beside[:, :-1], alone)
    assert SCHEMA.input_names((*plain, "square(age)")) == (*SCHEMA.input_names(plain), "square(age)")
    assert not SCHEMA.has_terms(plain)
    assert SCHEMA.has_terms((*plain, "square(age)"))


# What they compute


def test_bands_are_one_hot_and_a_cut_belongs_to_the_band_above() -> None:
    assert SCHEMA.input_names(("bands(age, 18, 40)",)) == ("age below 18", "age 18 to 39", "age 40 or more")
    assert SCHEMA.input_names(("bands(crp, 10, 100)",)) == (
        "crp below 10", "crp 10 to below 100", "crp 100 or more", "crp missing",
    )  # fmt: skip
    assert SCHEMA.input_names(("bands(admitted, 2026-01-01, 2026-02-01)",))[1] == "admitted 2026-01-01 to 2026-01-31"
    shown = made("bands(age, 18, 40)", age=[0, 17, 18, 39, 40, 110, 999, np.nan])
    assert shown == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1], [1, 0, 0]]


def test_thresholds_clips_powers_and_roots() -> None:
    assert made("above(age, 65)", age=[64, 65]) == [[0], [1]]
    assert made("clip(age, 20, 60)", age=[0, 20, 30, 60, 110]) == [[-1], [-1], [-0.5], [1], [1]]
    assert made("square(base excess)", base_excess=[-30, 15, 0]) == [[1], [0.25], [0]]
    assert made("cube(base excess)", base_excess=[-30, 15, 0]) == [[-1], [0.125], [0]]
    assert made("sqrt(crp)", crp=[0, 125, 500]) == [[-1, 0], [0, 0], [1, 0]]


def test_the_logarithm_is_scaled_by_that_of_the_bounds() -> None:
    assert made("log(crp, 1)", crp=[0, 500]) == [[-1, 0], [1, 0]]
    # ln of √501 is halfway between ln 1 and ln 501.
    assert made("log(crp, 1)", crp=[np.sqrt(501) - 1])[0][0] == pytest.approx(0, abs=1e-7)
    assert made("log(lactate)", lactate=[0.5, 30, np.sqrt(15)]) == [[-1], [1], [pytest.approx(0, abs=1e-7)]]


def test_a_logarithm_of_bounds_that_are_nearly_one_has_two_ends_or_is_refused() -> None:
    assert made("log(age, 1e14)", age=[0, 110]) == [[-1], [1]]
    narrow = Schema.from_toml(TOML.replace("minimum = 0.5\nmaximum = 30", "minimum = 1\nmaximum = 1.00000001"))
    with pytest.raises(UnsupportedMechanism, match="so large that all values become one"):
        narrow.input_shape(("log(lactate, 1e15)",))


def test_the_logarithm_the_circle_and_the_months_are_those_of_numpy() -> None:
    draw = np.random.default_rng(3)
    positive = np.exp(draw.uniform(-30, 35, 20_000))
    assert np.max(np.abs(logarithm(positive) - np.log(positive))) < 1e-13
    near = 1 + draw.uniform(-1e-6, 1e-6, 1000)
    assert np.max(np.abs(logarithm(near) - np.log(near))) < 1e-15
    turns = draw.uniform(-3000, 3000, 20_000)
    assert np.max(np.abs(circle(turns) - np.sin(2 * np.pi * turns))) < 1e-11
    days = np.arange(-719_162.0, 2_932_896.0, 1)  # from year 1 to 9999
    expected = days.astype("datetime64[D]").astype("datetime64[M]").astype(int) % 12 + 1
    assert np.array_equal(months(days), expected)


@pytest.mark.parametrize("size", [3, 4, 5, 12, 30])
def test_splines_are_smooth_bumps_that_add_up_to_one(size: int) -> None:
    from scipy.interpolate import BSpline

    places = np.linspace(0, 500, 1001)
    basis = SCHEMA.inputs(rows(crp=places), (f"spline(crp, {size})",))[:, :-1]  # the indicator is last
    degree = min(3, size - 1)
    knots = np.concatenate([np.zeros(degree), np.linspace(0, 1, size - degree + 1), np.ones(degree)])
    expected = BSpline.design_matrix(places / 500, knots, degree).toarray()
    assert basis == pytest.approx(expected, abs=1e-6)
    assert basis.sum(1) == pytest.approx(np.ones(len(places)), abs=1e-6)


def test_dates_become_months_weekdays_and_places_in_the_year() -> None:
    names = SCHEMA.input_names(("month(admitted)",))
    assert names == tuple(f"admitted in {month}" for month in (
        "January", "February", "March", "April", "October", "November", "December",
    ))  # fmt: skip
    assert made("month(admitted)", admitted=[0, 92])[0] == [0, 0, 0, 0, 1, 0, 0]  # 1 October
    assert made("month(admitted)", admitted=[92])[0] == [1, 0, 0, 0, 0, 0, 0]  # 1 January
    assert SCHEMA.input_names(("weekday(admitted)",))[2] == "admitted on Wednesday"
    assert made("weekday(admitted)", admitted=[0])[0] == [0, 0, 1, 0, 0, 0, 0]  # 2025-10-01 was a Wednesday
    cosine, sine = np.array(made("yearly(admitted)", admitted=[0, 91])).T
    assert cosine**2 + sine**2 == pytest.approx([1, 1])
    assert cosine[1] > 0.99  # around the turn of the year


def test_products_are_of_every_pair_in_order() -> None:
    names = SCHEMA.input_names(("age * ward",))
    assert names == ("age * ward=emergency", "age * ward=general", "age * ward=intensive")
    assert made("age * ward", age=[110, 0], ward=[1, 2]) == [[0, 1, 0], [0, 0, -1]]
    assert made("age * bands(age, 55)", age=[110]) == [[0, 1]]
    assert SCHEMA.input_names(("sex * smokes",)) == ("sex=m * smokes",)


def test_an_indicator_comes_along_once_and_can_be_asked_for_where_none_is_declared() -> None:
    inputs = ("log(crp, 1)", "crp * sex", "crp")
    assert SCHEMA.input_names(inputs) == ("log(crp, 1)", "crp missing", "crp * sex=m", "crp")
    shown = SCHEMA.inputs(rows(crp=[np.nan, 5.0]), inputs)
    assert shown[0].tolist() == [*shown[1, :1], 1, *shown[1, 2:]]  # read as the declared 5, and marked
    assert shown[1, 1] == 0
    assert made("missing(lactate)", lactate=[np.nan, 1, np.inf]) == [[1], [0], [1]]
    assert made("missing(crp) * smokes", crp=[np.nan], smokes=[1]) == [[1, 1]]


# What is refused


@pytest.mark.parametrize(
    ("term", "says"),
    [
        ("log(died)", "'died' is not a column that inputs are made of: the target, the patient and held_out are none"),
        ("age * died", "'died' is not a column"),
        ("missing(pid)", "'pid' is not a column"),
        ("square(held_out)", "'held_out' is not a column"),
        ("log(nothing)", "Use age, crp, lactate"),
        ("log(ward)", "kind real or integer, and 'ward' is category"),
        ("month(age)", "kind date, and 'age' is integer. Write it as month(admitted)"),
        ("among(age, 1)", "kind category"),
        ("among(ward, 'morgue')", "'morgue' is not a category of 'ward', which has emergency, general, intensive"),
        ("among(ward)", "it takes categories, each once"),
        ("among(ward, 'general', 'general')", "it takes categories, each once"),
        ("bands(age)", "it takes 1 to 50 points of 'age', and has 0"),
        ("bands(age, 40, 18)", "its points do not ascend"),
        ("bands(age, 18, 18)", "its points do not ascend"),
        ("bands(age, 18, 111)", "111 is outside the declared bounds [0, 110]"),
        ("bands(age, 17.5)", "17.5 is not whole, and 'age' is an integer"),
        ("bands(age, 0)", "nothing is below 0, the declared minimum"),
        ("bands(age, 'old')", "'old' is not a number"),
        ("bands(age, 2026-01-01)", "2026-01-01 is not a number"),
        ("bands(admitted, 5)", "5 is not a date as 2026-01-31"),
        ("bands(admitted, 2030-01-01)", "outside the declared bounds [2025-10-01, 2026-04-30]"),
        ("above(age, 0)", "everything is 0 or more"),
        ("above(age)", "it takes 1 points of 'age', and has 0"),
        ("clip(age, 10)", "it takes 2 points"),
        ("clip(age, 10, 10)", "do not ascend"),
        ("spline(age, 2)", "2 is not a whole number in [3, 30]"),
        ("spline(age, 31)", "31 is not a whole number in [3, 30]"),
        ("spline(age, 4.5)", "4.5 is not a whole number"),
        ("spline(age)", "it takes one number"),
        ("log(crp)", "'crp' may be 0, and of 0 and below there is no logarithm. Add a constant"),
        ("log(base excess, 30)", "no logarithm"),
        ("log(crp, 'x')", "it takes one number"),
        ("sqrt(base excess)", "may be -30, below 0"),
        ("square(age, 2)", "it takes no constants, and has 1"),
        ("missing(age)", "no cell of 'age' is missing"),
        ("spline(age, 30) * spline(crp, 30) * spline(lactate, 30)", "gives 27000 inputs, above 1000"),
    ],
)
def test_a_term_that_does_not_fit_the_schema_names_value_bound_and_what_may_be_written(term: str, says: str) -> None:
    with pytest.raises(UnsupportedMechanism) as refused:
        SCHEMA.input_shape((term,))
    assert says in str(refused.value)
    with pytest.raises(DataRefused, match="Transformation 'mine'"):
        Schema.from_dict({**SCHEMA.as_dict(), "transformations": [{"name": "mine", "term": term}]})


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (("square(age)", "square( age )"), "inputs give 'square\\(age\\)' twice"),
        (("crp", "missing(crp)"), "inputs give 'crp missing' twice"),
        (("square(age)", "square(age)"), "once each"),
        (tuple(f"clip(age, 0, {top})" for top in range(1, 111)) * 5, "once each"),
        (tuple(f"spline(crp, 30) * bands(age, 20, 40, 60, {top})" for top in range(61, 99)), "more than 4096"),
        ("square(age)", "not known. Use one of features, blood, or a tuple of columns and terms"),
        (("died",), "without the target"),
        (("blood",), "not a column"),
    ],
)
def test_inputs_are_bounded_and_named_once(inputs: str | tuple[str, ...], says: str) -> None:
    with pytest.raises(UnsupportedMechanism, match=says):
        SCHEMA.input_shape(inputs)


# What an owner declares


def test_declared_transformations_are_features_unless_the_owner_says_otherwise() -> None:
    assert DECLARED.feature_names[-3:] == ("age below 18", "age 18 to 64", "age 65 or more")
    assert not any("yearly" in name for name in DECLARED.feature_names)
    assert DECLARED.input_names(("season", "age * ward"))[:2] == ("admitted yearly cosine", "admitted yearly sine")
    assert DECLARED.has_terms()
    cells = rows(age=[20, 70])
    assert np.array_equal(DECLARED.inputs(cells)[:, -3:], [[0, 1, 0], [0, 0, 1]])
    assert np.array_equal(DECLARED.inputs(cells)[:, :-3], SCHEMA.inputs(cells))


def test_a_declaration_survives_json_and_toml_in_its_order() -> None:
    backwards = Schema.from_toml(TOML + '[transformations]\nz = "square(age)"\na = "cube(age)"\n')
    for schema in (DECLARED, backwards):
        assert Schema.from_toml(schema.to_toml()) == schema
        text = json.dumps(schema.as_dict(), sort_keys=True)
        assert Schema.from_dict(json.loads(text)) == schema
    assert backwards.feature_names[-2:] == ("square(age)", "cube(age)")


def test_a_schema_without_any_is_written_as_before() -> None:
    assert "transformations" not in SCHEMA.as_dict()
    assert "transformations" not in SCHEMA.to_toml()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('age = "square(age)"', "has the name of something else"),
        ('blood = "square(age)"', "has the name of something else"),
        ('features = "square(age)"', "has the name of something else"),
        ('pid = "square(age)"', "has the name of something else"),
        ('x = "age"', "'age', a column as it is. Write a function, as bands"),
        ('x = "season"\nseason = "yearly(admitted)"', "a column as it is"),
        ('season = "yearly(admitted)"\nx = "season * ward"', "'season' is not a column"),
        ('x = "square(died)"', "'died' is not a column"),
        ("x = 3", "needs a term, as 'log\\(crp, 1\\)'"),
        ('x = {term = "square(age)", features = true}', "'features', which is not known"),
        ('x = {term = "square(age)", feature = 1}', "neither true nor false"),
        (
            'x = "square(age)"\ny = "square( age)"',
            "The features do not go together: inputs give 'square\\(age\\)' twice",
        ),
        ('"<b>" = "square(age)"', "cannot name a transformation"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused_to_the_owner(table: str, says: str) -> None:
    with pytest.raises(DataRefused, match=says):
        Schema.from_toml(TOML + "[transformations]\n" + table + "\n")


def test_more_declarations_than_may_be_are_refused() -> None:
    many = "".join(f'x{number} = {{term = "clip(crp, 0, {number})", feature = false}}\n' for number in range(1, 202))
    with pytest.raises(DataRefused, match="201 transformations are above 200"):
        Schema.from_toml(TOML + "[transformations]\n" + many)
    with pytest.raises(DataRefused, match="is a table of names and terms"):
        Schema.from_dict({**SCHEMA.as_dict(), "transformations": 5})


# How long it takes


def test_a_million_rows_take_a_second() -> None:
    cells = np.random.default_rng(4).uniform(0, 60, (1_000_000, WIDTH))
    began = time.process_time()
    SCHEMA.inputs(cells, ("bands(age, 18, 40, 65)", "spline(crp, 5)", "log(lactate)", "age * ward", "month(admitted)"))
    assert time.process_time() - began < 3  # 0.5 s on a machine of 2024


@pytest.mark.parametrize("term", [term for term in TERMS if "(" in term])
def test_no_value_moves_the_time_of_a_term(term: str) -> None:
    """A library takes a third longer for most logarithms and third powers than for those of 1; nothing here does."""
    draw = np.random.default_rng(5)
    tables = {str(value): np.full((40_000, WIDTH), value) for value in (np.nan, 1.0, 1e300)}
    tables["any"] = draw.uniform(-60, 60, (40_000, WIDTH))
    assert unevenness(lambda cells: SCHEMA.inputs(cells, (term,)), tables, even=1.12, most_turns=180) < 1.25
