"""Schemas: what they refuse, what they promise of every array, and that they are public and nothing else."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from policies.errors import DataRefused, UnsupportedMechanism
from policies.privacy.mechanisms import Query
from policies.schema import schemas
from policies.schema.as_written import UNITS, USUAL_FILE, FileFormat, normal_header
from policies.schema.columns import BOOLEAN_LABELS, MOST_CATEGORIES, Column
from policies.schema.schemas import MOST_COLUMNS, STATISTICS_OF, Schema

EXAMPLE = textwrap.dedent(schemas.__doc__[schemas.__doc__.index('    name = "flu"') :])
FLU = Schema.from_toml(EXAMPLE)
WIDTH = 2 + len(FLU.columns)

HEAD = 'name = "t"\npopulation = "p"\npatient = "pid"\n'
AGE = '[columns.age]\nkind = "integer"\nminimum = 0\nmaximum = 110\n'


def matrix(**cells: float) -> np.ndarray:
    """One row of the example's matrix with the given cells, zero elsewhere."""
    row = np.zeros((1, WIDTH))
    for name, value in cells.items():
        row[0, FLU.matrix_columns.index(name)] = value
    return row


ANY_MATRIX = hnp.arrays(
    np.float64,
    st.integers(1, 20).map(lambda rows: (rows, WIDTH)),
    elements=st.floats(allow_nan=True, allow_infinity=True, width=64),
)


# What every array promises, whatever the private cells are


@given(ANY_MATRIX)
def test_inputs_are_finite_and_in_minus_one_to_one_whatever_the_cells(cells: np.ndarray) -> None:
    for inputs in ("features", "fever", ("age", "ward")):
        made = FLU.inputs(cells, inputs)
        assert made.dtype == np.float32
        assert made.shape == (len(cells), *FLU.input_shape(inputs))
        assert np.all(np.isfinite(made))
        assert np.all((made >= -1) & (made <= 1))


@given(ANY_MATRIX)
def test_values_targets_and_cells_stay_inside_public_bounds_whatever_the_cells(cells: np.ndarray) -> None:
    targets = FLU.targets(cells)
    assert targets.dtype == np.int64
    assert set(targets) <= {0, 1}
    for column in FLU.columns:
        values = FLU.values(cells, column.name)
        assert np.all((values >= column.low) & (values <= column.high))
        for bins in (2, 7, 1000):
            index = FLU.cell_index(cells, column.name, bins)
            assert index.dtype == np.int64
            assert np.all((index >= 0) & (index < len(FLU.cells(column.name, bins)[0])))


@settings(deadline=None)  # the first example imports pandas
@given(ANY_MATRIX)
def test_frame_shows_any_matrix_without_failing(cells: np.ndarray) -> None:
    cells[:, :2] = 0
    assert tuple(FLU.frame(cells).columns) == FLU.matrix_columns


def test_inputs_of_one_row_do_not_depend_on_the_others() -> None:
    rows = np.concatenate([matrix(age=30, ward=1), matrix(age=np.nan, ward=np.inf), matrix(age=1e300)])
    alone = np.concatenate([FLU.inputs(row[None]) for row in rows])
    np.testing.assert_array_equal(FLU.inputs(rows), alone)


# What the arrays hold


def test_inputs_are_scaled_by_declared_bounds() -> None:
    # age 27.5 of [0, 110] is a quarter of the way; whole columns are rounded, so 27.5 reads as 28: 28/110*2-1.
    assert FLU.inputs(matrix(age=110), ("age",))[0, 0] == 1
    assert FLU.inputs(matrix(age=0), ("age",))[0, 0] == -1
    assert FLU.inputs(matrix(age=28), ("age",))[0, 0] == pytest.approx(28 / 110 * 2 - 1)
    assert FLU.inputs(matrix(temperature_1=38.0), ("temperature_1",))[0].tolist() == [0, 0]


def test_missing_cell_takes_the_declared_constant_and_sets_its_indicator() -> None:
    shown = FLU.inputs(matrix(temperature_1=np.nan), ("temperature_1",))[0]
    assert shown.tolist() == [-0.25, 1.0]  # 37 of [34, 42] is 3/8: 2*3/8-1
    assert FLU.values(matrix(temperature_1=np.inf), "temperature_1")[0] == 37.0


def test_features_are_one_hot_above_two_categories_and_leave_out_target_and_others() -> None:
    assert FLU.feature_names == (
        "age", "temperature_1", "temperature_1 missing", "temperature_2", "temperature_2 missing",
        "ward=emergency", "ward=general", "ward=intensive",
        "age below 18", "age 18 to 39", "age 40 to 64", "age 65 or more",  # of [transformations]
    )  # fmt: skip
    assert FLU.inputs(matrix(ward=2), ("ward",))[0].tolist() == [0, 0, 1]
    two = Column(name="sex", kind="category", categories=("f", "m"))
    assert two.input_names == ("sex=m",)
    assert two.scaled(np.array([0.0, 1.0])).tolist() == [[0], [1]]


def test_sequence_has_steps_then_channels() -> None:
    assert FLU.input_shape("fever") == (2, 2)
    shown = FLU.inputs(matrix(temperature_1=34, temperature_2=np.nan), "fever")
    assert shown.tolist() == [[[-1, 0], [-0.25, 1]]]


def test_dates_count_days_from_their_minimum() -> None:
    assert FLU.column("admitted").high == 211  # 2025-10-01 to 2026-04-30
    assert str(FLU.frame(matrix(admitted=31))["admitted"][0]) == "2025-11-01 00:00:00"


def test_frame_shows_labels_numbers_and_missing_cells() -> None:
    shown = FLU.frame(matrix(patient_id=4, held_out=1, age=np.nan, ward=1, influenza=1)).iloc[0]
    assert (shown["patient_id"], shown["held_out"], shown["ward"], shown["influenza"]) == (4, True, "general", True)
    assert FLU.frame(matrix(age=np.nan))["age"].isna().all()


@pytest.mark.parametrize("column", FLU.columns, ids=lambda column: column.name)
@pytest.mark.parametrize("bins", [2, 10, 111, 1000])
def test_cells_have_a_label_each_and_edges_that_the_index_obeys(column: Column, bins: int) -> None:
    labels, edges = FLU.cells(column.name, bins)
    assert len(set(labels)) == len(labels)
    if edges is None:
        assert labels == column.labels
        return
    assert len(edges) == len(labels) + 1
    assert np.all(np.diff(edges) > 0)
    middles = np.rint(np.linspace(column.low, column.high, 50))
    index = column.cell_index(middles, bins)
    assert np.all((edges[index] <= middles) & (middles <= edges[index + 1]))


def test_integer_with_few_values_gets_a_cell_each() -> None:
    assert FLU.cells("age", 111)[0][:3] == ("0", "1", "2")
    assert len(FLU.cells("age", 111)[0]) == 111
    assert len(FLU.cells("age", 110)[0]) == 110
    assert FLU.cell_index(matrix(age=17), "age", 111).tolist() == [17]


# Statistics


@pytest.mark.parametrize("column", FLU.columns, ids=lambda column: column.name)
@pytest.mark.parametrize("name", ["sum", "mean", "variance", "quantiles", "histogram"])
def test_query_is_refused_where_the_kind_does_not_allow_it(column: Column, name: str) -> None:
    query = Query(name, (column.name,), (0.5,) if name == "quantiles" else ())
    if name in STATISTICS_OF[column.kind]:
        FLU.check_query(query)
    else:
        with pytest.raises(UnsupportedMechanism, match=f"'{column.name}' cannot be asked: it is {column.kind}"):
            FLU.check_query(query)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (Query("mean", ("height",)), "'height' is not a column"),
        (Query("mean", ("patient_id",)), "'patient_id' is not a column"),
        (Query("crosstab", ("ward", "ward")), "twice"),
    ],
)
def test_query_that_makes_no_sense_is_refused(query: Query, words: str) -> None:
    with pytest.raises(UnsupportedMechanism, match=words):
        FLU.check_query(query)


@pytest.mark.parametrize("inputs", ["height", ("influenza",), ("age", "age"), (), ("height",), ("patient_id",)])
def test_inputs_that_are_not_declared_are_refused(inputs: str | tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedMechanism):
        FLU.input_shape(inputs)


def test_schema_without_target_refuses_training() -> None:
    schema = Schema.from_toml(HEAD + AGE)
    with pytest.raises(UnsupportedMechanism, match="no target"):
        _ = schema.classes
    with pytest.raises(UnsupportedMechanism, match="no target"):
        schema.targets(np.zeros((1, 3)))


def test_matrix_of_another_width_is_refused_without_its_number_of_rows() -> None:
    with pytest.raises(DataRefused) as refusal:
        FLU.inputs(np.zeros((4321, 3)))
    assert "4321" not in str(refusal.value)


# Reading and writing


def test_schema_survives_toml_and_json() -> None:
    assert Schema.from_toml(FLU.to_toml()) == FLU
    assert Schema.from_dict(json.loads(json.dumps(FLU.as_dict(), allow_nan=False))) == FLU


def test_usual_bound_on_a_patients_records_is_not_written_and_another_is() -> None:
    """So a schema from before there was one is the same schema, and the same mock is drawn from it."""
    assert FLU.most_records_per_patient == 1000
    assert "most_records_per_patient" not in FLU.as_dict()
    fewer = Schema.from_toml(EXAMPLE.replace("patient = 1000", "patient = 12"))
    assert fewer.most_records_per_patient == 12
    assert Schema.from_toml(fewer.to_toml()) == Schema.from_dict(fewer.as_dict()) == fewer


@pytest.mark.parametrize("most", [0, 10_001, 1.5, "many", True])
def test_a_bound_on_a_patients_records_outside_its_own_is_refused(most: object) -> None:
    with pytest.raises(DataRefused, match=r"most_records_per_patient=.* is not a whole number in \[1, 10000\]"):
        Schema.from_dict({**FLU.as_dict(), "most_records_per_patient": most})


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters='<>"`\\', exclude_categories=("C", "Z")), max_size=20)


WRITTEN = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=20)


@st.composite
def columns(draw: st.DrawFn, name: str) -> Column:
    kind = draw(st.sampled_from(schemas.KINDS))
    fields: dict[str, Any] = {"unit": draw(TEXTS), "description": draw(TEXTS), "feature": draw(st.booleans())}
    if kind == "category":
        fields["categories"] = tuple(draw(st.lists(TEXTS.filter(bool), min_size=2, max_size=5, unique=True)))
        high = len(fields["categories"]) - 1  # type: ignore[arg-type]
        low = 0
    elif kind == "boolean":
        low, high = 0, 1
    else:
        low = 0 if kind in ("date", "datetime") else draw(st.integers(-1000, 1000))
        high = low + draw(st.integers(1, 1000))
        fields |= {"minimum": float(low), "maximum": float(high), "outside": draw(st.sampled_from(["refuse", "clamp"]))}
        if kind == "date":
            fields["origin"] = "2001-02-03"
        if kind == "datetime":
            fields["origin"] = "2001-02-03T00:00:00"
            fields |= {"truncate": draw(st.sampled_from(tuple(UNITS))), "zone": draw(st.sampled_from(["", "UTC"]))}
        if kind in ("date", "datetime"):
            fields["format"] = draw(st.sampled_from(["", "%d.%m.%Y"]))
    fields["header"] = draw(WRITTEN)
    fields["missing_values"] = draw(st.none() | st.lists(WRITTEN.filter(bool), max_size=3, unique=True).map(tuple))
    labels: tuple[str, ...] = BOOLEAN_LABELS if kind == "boolean" else fields.get("categories", ())
    if labels:
        fields["missing_values"] = draw(st.sampled_from([None, (), ("N/A",)]))
        words = draw(st.sampled_from([(), ("M/F",), ("M/F", "?!")]))
        fields["label_map"] = tuple(sorted((word, draw(st.sampled_from(labels))) for word in words))
    if draw(st.booleans()):
        fields |= {"missing": float(draw(st.integers(low, high))), "indicator": draw(st.booleans())}
    return Column(name=name, kind=kind, **fields)  # type: ignore[arg-type]


@given(st.data(), st.lists(NAMES, min_size=1, max_size=6, unique=True))
def test_any_schema_survives_toml_and_json(data: st.DataObject, names: list[str]) -> None:
    made = tuple(data.draw(columns(name)) for name in names if name not in ("pid", "held_out"))
    if not made:
        return
    headers = [normal_header(column.header or column.name) for column in made]
    if len({*headers, "pid"}) <= len(headers) or not all(headers):
        return  # which a schema refuses: two columns of one header
    words = data.draw(st.lists(WRITTEN.filter(bool), max_size=3, unique=True))
    schema = Schema(
        name="t", population="p", patient="pid", columns=made, holdout=0.25, missing_values=tuple(words),
        file=data.draw(st.sampled_from([USUAL_FILE, FileFormat(separator="\t", decimal=",", codes=("8867-4",))])),
    )  # fmt: skip
    assert Schema.from_toml(schema.to_toml()) == schema
    assert Schema.from_dict(json.loads(json.dumps(schema.as_dict()))) == schema


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "not TOML"),
        (HEAD, "declares no columns"),
        (HEAD + "columns = 3", "declares no columns"),
        ('name = "t"\npatient = "pid"\n' + AGE, "needs population"),
        ('name = "t"\npopulation = "p"\n' + AGE, "needs patient"),
        (HEAD + "colour = 1\n" + AGE, "'colour', which is not known"),
        (HEAD + AGE + "colour = 1", "Column 'age' has 'colour'"),
        (HEAD + "[columns.age]\nminimum = 0", "needs a kind"),
        (HEAD + '[columns.age]\nkind = "number"', "kind='number' is not known"),
        (HEAD + '[columns.age]\nkind = "integer"\nmaximum = 1', "needs a minimum.*never taken from the data"),
        (HEAD + '[columns.age]\nkind = "real"\nminimum = 1', "needs a maximum"),
        (HEAD + '[columns.age]\nkind = "real"\nminimum = 1\nmaximum = 1', r"maximum=1.0 is not above minimum=1.0"),
        (HEAD + '[columns.age]\nkind = "real"\nminimum = 1\nmaximum = inf', "maximum=inf is not a number within"),
        (HEAD + f'[columns.age]\nkind = "real"\nminimum = 1\nmaximum = 1{"0" * 400}', "not a number within"),
        (HEAD + '[columns.age]\nkind = "real"\nminimum = 1e14\nmaximum = 100000000000001', "is not above minimum"),
        (HEAD + '[columns.age]\nkind = "integer"\nminimum = 0.5\nmaximum = 1', "minimum=0.5 is not whole"),
        (HEAD + '[columns.age]\nkind = "real"\nminimum = true\nmaximum = 1', "minimum=True is not a number"),
        (
            HEAD + '[columns.day]\nkind = "date"\nminimum = "2020-01-01"\nmaximum = 2021-01-01',
            "is not a date. Write it",
        ),
        (HEAD + '[columns.day]\nkind = "date"\nmaximum = 2021-01-01', "needs a minimum"),
        (HEAD + '[columns.day]\nkind = "date"\nminimum = 2021-01-01\nmaximum = 2020-01-01', "is not after minimum"),
        (HEAD + '[columns.w]\nkind = "category"', "needs 2 to 1000 categories.*never taken from the data"),
        (HEAD + '[columns.w]\nkind = "category"\ncategories = ["a", "a"]', "listed twice"),
        (HEAD + '[columns.w]\nkind = "category"\ncategories = ["a", 3]', "should be text"),
        (HEAD + '[columns.w]\nkind = "category"\ncategories = "ab"', "should be a list"),
        (HEAD + '[columns.w]\nkind = "category"\ncategories = ["a", "<b>"]', r"has '<', U\+003C \(LESS-THAN"),
        (HEAD + '[columns.w]\nkind = "category"\ncategories = ["a", " b"]', "begins or ends with a space"),
        (HEAD + '[columns.w]\nkind = "boolean"\nminimum = 0\nmaximum = 1', "not for kind='boolean'"),
        (HEAD + '[columns.w]\nkind = "boolean"\noutside = "clamp"', "outside='clamp' is not for"),
        (HEAD + AGE + 'outside = "drop"', "outside='drop' is not known"),
        (HEAD + AGE + 'missing = "mean"', "missing='mean' is neither"),
        (HEAD + AGE + "missing = {indicator = true}", "needs a constant"),
        (HEAD + AGE + "missing = {constant = 111}", r"111.0 is outside \[0, 110\]"),
        (HEAD + AGE + 'missing = {constant = "x"}', "'x' is not a value of kind 'integer'"),
        (HEAD + AGE + "missing = {constant = 1, indicator = 3}", "indicator=3 is neither"),
        (HEAD + AGE + "feature = 1", "feature=1 is neither"),
        (HEAD + 'target = "flu"\n' + AGE, "target='flu' is not a declared column"),
        (
            HEAD + 'target = "d"\n[columns.d]\nkind = "date"\nminimum = 2020-01-01\nmaximum = 2021-01-01',
            "target='d' is date. A target is a boolean, a category, a number",
        ),
        (
            HEAD + 'target = "f"\n[columns.f]\nkind = "boolean"\nmissing = {constant = false}',
            "cannot be filled where missing",
        ),
        (HEAD + "holdout = 0.6\n" + AGE, r"holdout=0.6 is outside \[0, 0.5\]"),
        (HEAD + AGE + "[columns.pid]\nkind = 'boolean'", "'pid' cannot be a declared column"),
        (HEAD + AGE + "[columns.held_out]\nkind = 'boolean'", "'held_out' cannot be a declared column"),
        (HEAD + AGE + '[sequences]\ns = ["height"]', "names 'height', which is not"),
        (HEAD + AGE + "[sequences]\ns = []", "has no columns"),
        (HEAD + AGE + '[sequences]\ns = [["age"], ["age", "age"]]', "steps of different widths"),
        (HEAD + AGE + '[sequences]\nage = ["age"]', "has the name of something else"),
        (HEAD + AGE + '[sequences]\nfeatures = ["age"]', "has the name of something else"),
        (HEAD + AGE + "[sequences]\ns = 3", "should be a list"),
    ],
)
def test_bad_schema_is_refused_with_what_and_why(text: str, words: str) -> None:
    with pytest.raises(DataRefused, match=words):
        Schema.from_toml(text)


@pytest.mark.parametrize(
    "name", ["", " age", "a  b", "<b>", "a/b", "a\nb", "1st", "a'b", "../x", "a" * 64, "ﬁ", "a\u202eb", 3, None]
)
def test_name_that_is_not_like_an_identifier_is_refused(name: object) -> None:
    with pytest.raises(DataRefused, match="cannot name a column"):
        Column(name=name, kind="boolean")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["age", "mean radius", "größe", "t_1", "icu-stays", "v1.2"])
def test_usual_name_is_fine(name: str) -> None:
    assert Column(name=name, kind="boolean").name == name


def test_limits_on_columns_and_categories_hold() -> None:
    many = tuple(Column(name=f"c{index}", kind="boolean") for index in range(MOST_COLUMNS + 1))
    Schema(name="t", population="p", patient="pid", columns=many[:-1])
    with pytest.raises(DataRefused, match="501 columns"):
        Schema(name="t", population="p", patient="pid", columns=many)
    labels = tuple(str(index) for index in range(MOST_CATEGORIES + 1))
    Column(name="c", kind="category", categories=labels[:-1])
    with pytest.raises(DataRefused, match="2 to 1000"):
        Column(name="c", kind="category", categories=labels)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([*FLU.as_dict(), "other"]), JUNK)
def test_malformed_plain_data_is_refused_and_nothing_else_is_raised(name: str, junk: object) -> None:
    try:
        Schema.from_dict({**FLU.as_dict(), name: junk})
    except DataRefused:
        return
    assert name != "other"


@given(st.sampled_from([*FLU.as_dict()["columns"][0], "other"]), st.integers(0, len(FLU.columns) - 1), JUNK)
def test_malformed_column_is_refused_and_nothing_else_is_raised(name: str, place: int, junk: object) -> None:
    data = FLU.as_dict()
    data["columns"][place][name] = junk
    try:
        Schema.from_dict(data)
    except DataRefused:
        return
    assert name != "other"
