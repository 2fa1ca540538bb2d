"""One column's cells: what is read as a number, and which flag each fault gets."""

from __future__ import annotations

import datetime
import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from datasites.vault.cells import EMPTY, FINE, MALFORMED, OUTSIDE, Words, arrow_array, fault_text, read_cells, words_of
from policies.schema.columns import Column

REAL = Column(name="x", kind="real", minimum=0.0, maximum=10.0)
INTEGER = Column(name="x", kind="integer", minimum=0.0, maximum=10.0)
BOOLEAN = Column(name="x", kind="boolean")
CATEGORY = Column(name="x", kind="category", categories=("7", "general", "ward b"))
DATE = Column(name="x", kind="date", minimum=0, maximum=366, origin="2020-01-01")


def read(column: Column, *cells: Any) -> list[tuple[float | None, int]]:
    values, flags = read_cells(column, pa.array(cells))
    return [(None if math.isnan(value) else value, flag) for value, flag in zip(values, flags.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("column", "cell", "value", "flag"),
    [
        (REAL, "3.25", 3.25, FINE),
        (REAL, " +3e0 ", 3.0, FINE),
        (REAL, ".5", 0.5, FINE),
        (REAL, "10.5", 10.5, OUTSIDE),
        (REAL, "-1", -1.0, OUTSIDE),
        (REAL, "1,5", None, MALFORMED),
        (REAL, "nan", None, MALFORMED),
        (REAL, "inf", None, MALFORMED),
        (REAL, "0x1", None, MALFORMED),
        (REAL, "", None, EMPTY),
        (REAL, "  ", None, EMPTY),
        (REAL, math.inf, None, MALFORMED),
        (REAL, 4, 4.0, FINE),
        (INTEGER, "7.0", 7.0, FINE),
        (INTEGER, "7.5", None, MALFORMED),
        (INTEGER, 7.5, None, MALFORMED),
        (BOOLEAN, "Yes", 1.0, FINE),
        (BOOLEAN, "FALSE", 0.0, FINE),
        (BOOLEAN, "2", None, MALFORMED),
        (BOOLEAN, 2, None, MALFORMED),
        (CATEGORY, "general", 1.0, FINE),
        (CATEGORY, "7.0", 0.0, FINE),
        (CATEGORY, "General", None, MALFORMED),
        (DATE, "2020-01-31", 30.0, FINE),
        (DATE, "2020-01-31 00:00:00", 30.0, FINE),
        (DATE, datetime.date(2020, 1, 2), 1.0, FINE),
        (DATE, "2020-01-31T12:00", None, MALFORMED),
        (DATE, "31.1.2020", None, MALFORMED),
        (DATE, "2022-01-01", 731.0, OUTSIDE),
    ],
)
def test_a_cell_is_read_or_flagged(column: Column, cell: Any, value: float | None, flag: int) -> None:
    assert read(column, cell) == [(value, flag)]


def test_each_row_gets_its_own_cell_however_often_a_text_occurs() -> None:
    assert read(REAL, "1", "2", None, "1", "x", "2") == [
        (1.0, FINE), (2.0, FINE), (None, EMPTY), (1.0, FINE), (None, MALFORMED), (2.0, FINE),
    ]  # fmt: skip


def test_values_are_clamped_and_missing_ones_kept_where_the_schema_says_so() -> None:
    column = Column(name="x", kind="real", minimum=0.0, maximum=10.0, outside="clamp", missing=5.0)
    assert read(column, "-5", "50", "", "x") == [(0.0, FINE), (10.0, FINE), (None, FINE), (None, MALFORMED)]


@pytest.mark.parametrize(
    ("column", "flag", "value", "said"),
    [
        (REAL, EMPTY, None, "is empty and the schema refuses missing values"),
        (REAL, OUTSIDE, "10.5", "'10.5' is outside [0"),
        (REAL, MALFORMED, "1,5", "'1,5' is not a number with a decimal point"),
        (CATEGORY, MALFORMED, "General", "is not one of the declared categories (7, general, ward b)"),
        (DATE, MALFORMED, "31.1.2020", "is not a date as 2020-01-31"),
    ],
)
def test_a_fault_names_row_column_value_and_bound(column: Column, flag: int, value: object, said: str) -> None:
    text = fault_text(column, 12, flag, value)
    assert text.startswith("row 12, column 'x': ")
    assert said in text


def test_a_long_value_is_not_repeated_whole() -> None:
    assert len(fault_text(REAL, 2, MALFORMED, "y" * 10_000)) < 200


def test_a_mixed_column_becomes_text() -> None:
    array = arrow_array(pd.Series([1, "two", None, pd.NaT, b"x"], dtype=object))
    assert pa.types.is_string(array.type)
    assert array.to_pylist() == ["1", "two", None, None, "b'x'"]


def test_words_are_distinct_trimmed_and_tell_nothing() -> None:
    words = words_of(pa.array(["a", " a", "", None, "b"]))
    texts = words.distinct.to_pylist()
    assert [texts[index] if index >= 0 else None for index in words.indices] == ["a", "a", None, None, "b"]
    assert repr(Words(None, np.zeros(0, np.int64))) == "Words(…)"


# What a schema says of how the table writes things

SEX = Column(name="x", kind="category", categories=("male", "female"), label_map=(("F", "female"), ("M", "male")))
SMOKER = Column(name="x", kind="boolean", label_map=(("J", "yes"), ("N", "no")))
FILLED = Column(name="x", kind="real", minimum=0.0, maximum=10.0, missing=5.0)


def read_as(column: Column, *cells: Any, words: tuple[str, ...] = (), decimal: str = ".") -> list[float | str | None]:
    values, flags = read_cells(column, pa.array(cells), missing_words=words, decimal=decimal)
    names = {EMPTY: "empty", MALFORMED: "malformed", OUTSIDE: "outside"}
    return [
        names[flag] if flag else None if math.isnan(value) else value
        for value, flag in zip(values.tolist(), flags.tolist(), strict=True)
    ]


def test_words_for_missing_are_missing_and_nothing_else_is() -> None:
    assert read_as(FILLED, "NA", " NA ", "na", "3", "", words=("NA",)) == [None, None, "malformed", 3.0, None]
    assert read_as(REAL, "NA", words=("NA",)) == ["empty"]  # the schema refuses missing cells
    assert read_as(CATEGORY, "7", "-", words=("-",)) == [0.0, "empty"]


@pytest.mark.parametrize("cells", [("-999", "-999.0", "3"), (-999, -999, 3), (-999.0, -999.0, 3.0)])
def test_a_number_that_stands_for_missing_is_missing_however_it_is_written(cells: tuple[Any, ...]) -> None:
    assert read_as(FILLED, *cells, words=("-999",)) == [None, None, 3.0]


def test_a_number_that_stands_for_missing_is_no_boolean() -> None:
    assert read_as(BOOLEAN, 1, 9, words=("9",)) == [1.0, "empty"]


def test_labels_of_the_table_mean_what_the_schema_says() -> None:
    assert read_as(SEX, "M", "F", "male", "f") == [0.0, 1.0, 0.0, "malformed"]
    assert read_as(SMOKER, "J", "N", "yes", "j") == [1.0, 0.0, 1.0, "malformed"]
    assert "one of the labels that the schema reads (J, N)" in fault_text(SMOKER, 2, MALFORMED, "j")


def test_decimal_comma_is_read_and_a_point_then_is_no_number() -> None:
    assert read_as(REAL, "3,5", "3", "3.5", "1.000,5", decimal=",") == [3.5, 3.0, "malformed", "malformed"]
    assert read_as(INTEGER, "7,0", "7,5", decimal=",") == [7.0, "malformed"]
    assert read_as(REAL, 3.5, decimal=",") == [3.5]  # a typed number has no notation
    assert read_as(FILLED, "-999,0", words=("-999",), decimal=",") == [None]
    assert "a decimal comma" in fault_text(REAL, 2, MALFORMED, "3.5", decimal=",")
