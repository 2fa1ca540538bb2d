"""Publishing: every fault is found and named, and the matrix says nothing but what it should."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datasites.engine.matrix import in_groups
from datasites.vault.encoding import (
    check_table,
    encode,
    is_held_out,
    read_table,
    unused_columns,
)
from policies.errors import DataRefused
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from tests.datasites.vault.dataset_factories import FLU, HEADER, ROWS, SECRET, write_csv

IN_ORDER = np.arange


def in_order(frame: pd.DataFrame, schema: Schema = FLU) -> np.ndarray:
    return encode(frame, schema, population_secret=SECRET, shuffle=IN_ORDER)


def refusal(frame: pd.DataFrame, schema: Schema = FLU) -> DataRefused:
    """What checking says, which encoding says alike."""
    with pytest.raises(DataRefused) as checked:
        check_table(frame, schema)
    with pytest.raises(DataRefused) as encoded:
        in_order(frame, schema)
    assert str(checked.value) == str(encoded.value)
    return checked.value


def one_column(*cells: object, **fields: object) -> tuple[pd.DataFrame, Schema]:
    """A table of one declared column `x`, a patient per row, and its schema."""
    schema = Schema(name="t", population="p", patient="pid", columns=(Column(name="x", **fields),))  # type: ignore[arg-type]
    return pd.DataFrame({"pid": [f"p{index}" for index in range(len(cells))], "x": list(cells)}), schema


# What the matrix holds


def test_matrix_has_the_layout_of_the_schema(tmp_path: Path) -> None:
    matrix = in_order(read_table(write_csv(tmp_path / "flu.csv")))
    assert matrix.dtype == np.float64
    nan = np.nan
    expected = [[30, 37.5, nan, 0, 0, 1], [31, 38.25, 39, 1, 31, 0], [110, nan, 36.5, 2, 211, 1]]  # 200 years clamped
    np.testing.assert_array_equal(matrix[:, 2:], expected)
    assert matrix[:, 0].tolist() == [0, 0, 1]


REAL = st.floats(-1000, 1000, allow_nan=False)
MATRICES = st.integers(1, 30).flatmap(
    lambda rows: st.tuples(
        hnp.arrays(np.float64, rows, elements=st.integers(0, 5)),
        hnp.arrays(np.float64, rows, elements=REAL | st.just(np.nan)),
        hnp.arrays(np.float64, rows, elements=st.integers(-9, 9) | st.just(np.nan)),
        hnp.arrays(np.float64, rows, elements=st.sampled_from([0, 1, np.nan])),
        hnp.arrays(np.float64, rows, elements=st.sampled_from([0, 1, 2, np.nan])),
        hnp.arrays(np.float64, rows, elements=st.integers(0, 5000) | st.just(np.nan)),
    )
)
EVERY_KIND = Schema(
    name="t",
    population="p",
    patient="pid",
    holdout=0.3,
    columns=(
        Column(name="real", kind="real", minimum=-1000, maximum=1000, missing=0.0),
        Column(name="integer", kind="integer", minimum=-9, maximum=9, missing=0.0),
        Column(name="boolean", kind="boolean", missing=0.0),
        Column(name="category", kind="category", categories=("a", "2", "é, b"), missing=0.0),
        Column(name="date", kind="date", minimum=0, maximum=5000, origin="1999-12-31", missing=0.0),
    ),
)


@settings(deadline=None)  # the first example imports pyarrow
@given(MATRICES)
def test_frame_encode_frame_is_a_round_trip_through_memory_csv_and_parquet(
    tmp_path_factory: pytest.TempPathFactory, columns: tuple[np.ndarray, ...]
) -> None:
    held_out = [is_held_out(str(int(code)), SECRET, 0.3) for code in columns[0]]
    matrix = np.column_stack([columns[0], held_out, *columns[1:]]).astype(np.float64)
    frame = EVERY_KIND.frame(matrix)
    folder = tmp_path_factory.mktemp("tables")
    frame.to_csv(folder / "t.csv", index=False)
    frame.to_parquet(folder / "t.parquet")
    for table in (frame, read_table(folder / "t.csv"), read_table(folder / "t.parquet")):
        check_table(table, EVERY_KIND)
        again = encode(table, EVERY_KIND, population_secret=SECRET, shuffle=IN_ORDER)
        np.testing.assert_array_equal(again[:, 1:], matrix[:, 1:])
        # Codes are numbered anew, one for one.
        pairs = set(zip(matrix[:, 0], again[:, 0], strict=True))
        assert len(pairs) == len(set(matrix[:, 0])) == len(set(again[:, 0]))


@pytest.mark.parametrize(
    ("fields", "cells", "expected"),
    [
        ({"kind": "boolean"}, ["0", "1", "yes", "No", " TRUE ", "false"], [0, 1, 1, 0, 1, 0]),
        ({"kind": "boolean"}, [True, False], [1, 0]),
        ({"kind": "boolean"}, [1, 0], [1, 0]),
        ({"kind": "boolean"}, [1.0, 0.0], [1, 0]),
        (
            {"kind": "real", "minimum": -2e5, "maximum": 1e3},
            ["1", "+1.", ".5", "-1e5", "1E-3"],
            [1, 1, 0.5, -1e5, 1e-3],
        ),
        ({"kind": "real", "minimum": 0, "maximum": 9}, [decimal.Decimal("1.5"), 2, 2.5], [1.5, 2, 2.5]),
        ({"kind": "integer", "minimum": -9, "maximum": 9}, ["1", "+2", "-3", "4.0", "007"], [1, 2, -3, 4, 7]),
        ({"kind": "integer", "minimum": 0, "maximum": 9}, [1.0, 2.0], [1, 2]),
        ({"kind": "category", "categories": ("1", "2")}, [1, 2], [0, 1]),
        ({"kind": "category", "categories": ("1", "2")}, [1.0, 2.0], [0, 1]),
        ({"kind": "category", "categories": ("NA", "b")}, ["NA", " b "], [0, 1]),
        (
            {"kind": "date", "minimum": 0, "maximum": 400, "origin": "2020-01-01"},
            ["2020-01-02", "2020-02-29 00:00:00", "2020-12-31T00:00"],
            [1, 59, 365],
        ),
        (
            {"kind": "date", "minimum": 0, "maximum": 400, "origin": "2020-01-01"},
            [datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)],
            [1, 0],
        ),
        (
            {"kind": "date", "minimum": 0, "maximum": 400, "origin": "2020-01-01"},
            [pd.Timestamp("2020-01-02"), pd.Timestamp("2020-01-01")],
            [1, 0],
        ),
    ],
)
def test_every_usual_way_of_writing_a_value_is_read(
    fields: dict[str, object], cells: list[object], expected: list[float]
) -> None:
    frame, schema = one_column(*cells, **fields)
    assert in_order(frame, schema)[:, 2].tolist() == expected


@pytest.mark.parametrize("empty", ["", "  ", None, np.nan, pd.NA])
def test_empty_cell_is_missing(empty: object) -> None:
    frame, schema = one_column("1", empty, kind="integer", minimum=0, maximum=9, missing=0.0)
    assert np.isnan(in_order(frame, schema)[1, 2])


def test_column_that_is_empty_throughout_is_missing() -> None:
    frame, schema = one_column(None, None, kind="real", minimum=0, maximum=9, missing=0.0)
    assert np.isnan(in_order(frame, schema)[:, 2]).all()


def test_numeric_values_outside_are_clamped_where_the_owner_says_so() -> None:
    frame, schema = one_column("-5", "50", kind="real", minimum=0, maximum=9, outside="clamp")
    assert in_order(frame, schema)[:, 2].tolist() == [0, 9]


# Faults


@pytest.mark.parametrize(
    ("fields", "cell", "words"),
    [
        ({"kind": "integer", "minimum": 0, "maximum": 110}, "130", r"'130' is outside \[0, 110\]"),
        ({"kind": "integer", "minimum": 0, "maximum": 110}, -1, r"'-1' is outside \[0, 110\]"),
        ({"kind": "integer", "minimum": 0, "maximum": 110}, "3.5", "'3.5' is not a whole number"),
        ({"kind": "integer", "minimum": 0, "maximum": 110}, 3.5, "'3.5' is not a whole number"),
        (
            {"kind": "integer", "minimum": 0, "maximum": 9999},
            "1,200",
            "'1,200' is not a whole number without thousands",
        ),
        ({"kind": "real", "minimum": 0, "maximum": 1}, "1.01", r"'1.01' is outside \[0, 1\]"),
        ({"kind": "real", "minimum": 0, "maximum": 99}, "37,5", "'37,5' is not a number with a decimal point"),
        ({"kind": "real", "minimum": 0, "maximum": 99}, "NA", "'NA' is not a number"),
        ({"kind": "real", "minimum": 0, "maximum": 99}, "nan", "'nan' is not a number"),
        ({"kind": "real", "minimum": 0, "maximum": 99, "outside": "clamp"}, "inf", "'inf' is not a number"),
        ({"kind": "real", "minimum": 0, "maximum": 99, "outside": "clamp"}, "1e999", "'1e999' is not a number"),
        ({"kind": "real", "minimum": 0, "maximum": 99, "outside": "clamp"}, np.inf, "'inf' is not a number"),
        ({"kind": "real", "minimum": 0, "maximum": 99}, True, "'True' is not a number"),
        ({"kind": "boolean"}, "maybe", "'maybe' is not one of 0, 1, yes, no, true, false"),
        ({"kind": "boolean"}, 2, "'2' is not one of"),
        ({"kind": "category", "categories": ("f", "m")}, "x", r"'x' is not one of the declared categories \(f, m\)"),
        ({"kind": "category", "categories": ("f", "m")}, "F", "'F' is not one of the declared categories"),
        (
            {"kind": "date", "minimum": 0, "maximum": 366, "origin": "2020-01-01"},
            "2021-01-02",
            r"'2021-01-02' is outside \[2020-01-01, 2021-01-01\]",
        ),
        ({"kind": "date", "minimum": 0, "maximum": 9, "origin": "2020-01-01"}, "2020-02-30", "is not a date"),
        ({"kind": "date", "minimum": 0, "maximum": 9, "origin": "2020-01-01"}, "01.02.2020", "is not a date"),
        ({"kind": "date", "minimum": 0, "maximum": 9, "origin": "2020-01-01"}, "20200102", "is not a date"),
        ({"kind": "date", "minimum": 0, "maximum": 9, "origin": "2020-01-01"}, "2020-01-02 13:30", "is not a date"),
        ({"kind": "real", "minimum": 0, "maximum": 1}, "", "is empty and the schema refuses missing values"),
        ({"kind": "real", "minimum": 0, "maximum": 1}, None, "is empty and the schema refuses missing values"),
        ({"kind": "real", "minimum": 0, "maximum": 1}, np.nan, "is empty and the schema refuses missing values"),
    ],
)
def test_fault_names_row_column_value_and_bound(fields: dict[str, object], cell: object, words: str) -> None:
    frame, schema = one_column(cell, **fields)
    found = refusal(frame, schema)
    assert found.total == 1
    assert re.search("^row 0, column 'x': .*" + words, found.faults[0])


def test_first_twenty_faults_are_listed_in_order_of_rows_and_all_are_counted() -> None:
    frame = pd.DataFrame({"pid": [""] * 30, "x": ["9"] * 30})
    _, schema = one_column(kind="integer", minimum=0, maximum=1)
    found = refusal(frame, schema)
    assert (len(found.faults), found.total) == (20, 60)
    assert [fault.split(",")[0] for fault in found.faults[:4]] == ["row 0", "row 0", "row 1", "row 1"]
    assert "60 fault(s)" in str(found)


def test_rows_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    rows = [ROWS[0], '"p\n9",30,37,37,general,2025-10-01,1', ROWS[1].replace("general", "kitchen")]
    found = refusal(read_table(write_csv(tmp_path / "flu.csv", *rows)))
    assert found.faults[0].startswith("row 4, column 'ward': 'kitchen'")


def test_long_value_is_shortened_in_a_fault() -> None:
    frame, schema = one_column("x" * 10_000, kind="boolean")
    assert len(str(refusal(frame, schema))) < 1000


def test_row_without_a_patient_is_refused(tmp_path: Path) -> None:
    found = refusal(read_table(write_csv(tmp_path / "flu.csv", ROWS[0], ROWS[1].replace("p1", " "))))
    assert found.faults == (
        "row 3, column 'patient_id': is empty or longer than 200 characters, so it identifies nobody",
    )


def test_absent_column_is_refused_and_an_extra_one_is_named_to_the_owner(tmp_path: Path) -> None:
    frame = read_table(write_csv(tmp_path / "flu.csv"))
    assert "Column 'ward' is declared and not in the table" in str(refusal(frame.drop(columns="ward")))
    assert "Column 'patient_id' is declared" in str(refusal(frame.drop(columns="patient_id")))
    wider = frame.assign(phone="555")
    assert unused_columns(wider, FLU) == ("phone",)
    np.testing.assert_array_equal(in_order(wider), in_order(frame))


def test_two_columns_of_one_name_are_refused() -> None:
    frame, schema = one_column("1", kind="boolean")
    assert "2 columns named 'x'" in str(refusal(pd.concat([frame, frame[["x"]]], axis=1), schema))


def test_table_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flu.csv"
    path.write_text(HEADER + "\n", encoding="utf-8")
    assert "no rows" in str(refusal(read_table(path)))


def test_column_that_holds_no_numbers_texts_or_dates_is_refused() -> None:
    for cell in ([1, 2], b"\xff", {"a": 1}, datetime.timedelta(3), datetime.time(3)):
        frame, schema = one_column(cell, kind="boolean")
        assert "Column 'x' holds" in str(refusal(frame, schema))


@pytest.mark.process
def test_publishing_modules_import_neither_pandas_nor_torch() -> None:
    program = "import sys, datasites.vault.mocks; print({'pandas', 'pyarrow', 'torch'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == "set()"


def test_short_population_secret_is_refused() -> None:
    frame, schema = one_column("1", kind="boolean")
    with pytest.raises(DataRefused, match="fewer than 16 bytes"):
        encode(frame, schema, population_secret=b"short")


# Patients, codes, order and the hold-out

MANY = pd.DataFrame({"pid": [f"p{index // 2}" for index in range(2000)], "x": np.arange(2000) % 2})
SPLIT = Schema(name="t", population="p", patient="pid", holdout=0.2, columns=(Column(name="x", kind="boolean"),))


@pytest.mark.parametrize("cells", [[17, 18], ["17", "18"], [" 17 ", "18"], [17.0, 18.0], ["17.0", "18.00"]])
def test_one_patient_has_one_identifier_however_it_is_typed(cells: list[object]) -> None:
    schema = Schema(name="t", population="p", patient="pid", holdout=0.5, columns=(Column(name="x", kind="boolean"),))
    secrets = [bytes([index]) * 16 for index in range(20)]
    for secret in secrets:
        matrix = encode(pd.DataFrame({"pid": cells, "x": [0, 1]}), schema, population_secret=secret, shuffle=IN_ORDER)
        assert matrix[:, 1].tolist() == [is_held_out("17", secret, 0.5), is_held_out("18", secret, 0.5)]


def test_accented_identifier_is_one_patient_however_it_is_composed() -> None:
    frame, schema = one_column(0, 1, kind="boolean")
    frame["pid"] = ["é", "e\u0301"]
    assert in_order(frame, schema)[:, 0].tolist() == [0, 0]


def held_out_patients(frame: pd.DataFrame, schema: Schema, secret: bytes) -> set[str]:
    matrix = encode(frame, schema, population_secret=secret, shuffle=IN_ORDER)
    flags = pd.Series(matrix[:, 1]).groupby(frame["pid"].to_numpy()).agg(["min", "max"])
    assert (flags["min"] == flags["max"]).all()  # all records of a patient are on one side
    return set(flags.index[flags["max"] == 1])


def test_holdout_is_stable_across_tables_and_versions_and_differs_across_secrets() -> None:
    whole = held_out_patients(MANY, SPLIT, SECRET)
    part = MANY.iloc[500:1500].sample(frac=1, random_state=1).reset_index(drop=True)
    other_schema = Schema(
        name="other",
        population="p",
        patient="pid",
        holdout=0.2,
        columns=(Column(name="x", kind="integer", minimum=0, maximum=5),),
    )
    assert held_out_patients(part, other_schema, SECRET) == whole & set(part["pid"])
    assert held_out_patients(MANY, SPLIT, SECRET + b"2") != whole
    # 1000 patients at 0.2: mean 200, standard deviation 12.6; six of them either way.
    assert 125 < len(whole) < 275


def test_larger_holdout_contains_the_smaller() -> None:
    patients = [f"p{index}" for index in range(500)]
    small = {each for each in patients if is_held_out(each, SECRET, 0.1)}
    large = {each for each in patients if is_held_out(each, SECRET, 0.3)}
    assert small < large
    assert not any(is_held_out(each, SECRET, 0.0) for each in patients)


def test_codes_and_order_are_permuted_anew_at_each_publication() -> None:
    first, second = (encode(MANY, SPLIT, population_secret=SECRET) for _ in range(2))
    plain = in_order(MANY, SPLIT)
    for made in (first, second):
        assert sorted(pd.Series(made[:, 0]).value_counts()) == sorted(pd.Series(plain[:, 0]).value_counts())
        assert not np.array_equal(made[:, 2], plain[:, 2])
    assert not set(first[:, 0]) & set(second[:, 0])


def test_rows_lie_in_groups() -> None:
    made = encode(MANY.sample(frac=1, random_state=1), SPLIT, population_secret=SECRET)
    assert in_groups(made, 2).matrix is made
    assert len(set(made[:, 0])) == 1000


def test_so_many_records_of_a_patient_are_kept_as_the_schema_says() -> None:
    frame = pd.DataFrame({"pid": ["heavy"] * 5000 + ["light"] * 3, "x": [1] * 5000 + [0] * 3})
    for most, kept in ((None, 1000), (2, 2), (7, 7)):
        schema = SPLIT if most is None else dataclasses.replace(SPLIT, most_records_per_patient=most)
        made = encode(frame, schema, population_secret=SECRET)
        assert sorted(np.unique(made[:, 0], return_counts=True)[1]) == [min(3, kept), kept]
        assert np.count_nonzero(made[:, 2]) == kept
    assert len(encode(frame, SPLIT, population_secret=SECRET, shuffle=IN_ORDER)) == 5003  # a mock keeps all


def test_a_table_that_is_taken_apart_gives_the_same_matrix_and_lets_its_columns_go(tmp_path: Path) -> None:
    frame = read_table(write_csv(tmp_path / "flu.csv"))
    whole = in_order(frame)
    taken = encode(frame, FLU, population_secret=SECRET, shuffle=IN_ORDER, taken_apart=True)
    np.testing.assert_array_equal(taken, whole)
    assert list(frame.columns) == [FLU.patient]


def test_identifiers_are_one_patients_whatever_else_is_written_beside_them() -> None:
    """All at once where they are plain ASCII, one by one where one is not: the same patients either way."""
    plain = ["17", "17.", " 17.000", "17.5", "017", "a.0", "17.0.0", ".0", ".0", "x" * 200]
    frame, schema = one_column(*[0] * len(plain), kind="boolean")
    frame["pid"] = plain
    codes = in_order(frame, schema)[:, 0]
    frame, schema = one_column(*[0] * (len(plain) + 1), kind="boolean")
    frame["pid"] = [*plain, "é"]
    assert in_order(frame, schema)[:-1, 0].tolist() == codes.tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 5, 6]


def test_records_that_are_kept_are_drawn_by_chance() -> None:
    frame = pd.DataFrame({"pid": ["heavy"] * 100, "x": range(100)})
    schema = Schema(
        name="t",
        population="p",
        patient="pid",
        columns=(Column(name="x", kind="integer", minimum=0, maximum=99),),
        most_records_per_patient=10,
    )
    draws = [frozenset(encode(frame, schema, population_secret=SECRET)[:, 2]) for _ in range(60)]
    assert len(set(draws)) == 60
    assert len(frozenset().union(*draws)) > 95  # each is missed by all with chance 0.9^60 = 0.002


def test_shuffle_moves_whole_rows() -> None:
    made = encode(MANY.assign(x=(MANY.index // 2) % 2), SPLIT, population_secret=SECRET)
    of_patient = pd.DataFrame(made).groupby(0)[2].nunique()
    assert (of_patient == 1).all()


# What is public


def test_public_schema_is_the_same_whatever_the_table(tmp_path: Path) -> None:
    before = json.dumps(FLU.as_dict())
    for rows in (ROWS, ROWS * 50):
        frame = read_table(write_csv(tmp_path / "flu.csv", *rows))
        check_table(frame, FLU)
        in_order(frame)
    assert json.dumps(FLU.as_dict()) == before
    declared = {"name", "population", "description", "patient", "target", "holdout", "columns", "sequences"}
    assert set(FLU.as_dict()) == declared | {"transformations"}
    assert set(replace(FLU, transformations=()).as_dict()) == declared


LARGE = """
import resource, sys
from datasites.vault.encoding import check_table, encode, read_table
from policies.schema.schemas import Schema
schema = Schema.from_toml(open(sys.argv[2], encoding="utf-8").read())
frame = read_table(sys.argv[1])
check_table(frame, schema)
assert encode(frame, schema, population_secret=b"0" * 32).shape == (2_000_000, 13)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.nightly
@pytest.mark.process
def test_two_million_rows_are_published_within_one_and_a_half_gigabytes(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv

    random = np.random.default_rng(0)
    names = [f"c{index}" for index in range(11)]
    cells = {name: random.uniform(0, 100, 2_000_000).round(4) for name in names}
    csv.write_csv(pa.table({"pid": random.integers(0, 700_000, 2_000_000), **cells}), tmp_path / "large.csv")
    columns = tuple(Column(name=name, kind="real", minimum=0, maximum=100) for name in names)
    schema = Schema(name="large", population="p", patient="pid", columns=columns, holdout=0.2)
    (tmp_path / "schema.toml").write_text(schema.to_toml(), encoding="utf-8")
    command = [sys.executable, "-c", LARGE, str(tmp_path / "large.csv"), str(tmp_path / "schema.toml")]
    shown = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(shown.stdout) < 1500
