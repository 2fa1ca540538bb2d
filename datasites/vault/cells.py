"""Parse one column to float64 and flag invalid cells.

Vectorised over distinct values, so that millions of rows are read in seconds. Nothing is guessed: a cell that is empty
or has a declared word for missing is missing, everything else is what the schema declares or a fault. Faults speak of
private values and stay with the owner. Dates and times are read in `datasites.vault.times`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from datasites.vault.times import read_times
from policies.schema.as_written import DECIMALS
from policies.schema.columns import TIMES, Column, FloatArray

FINE, EMPTY, MALFORMED, OUTSIDE = range(4)
YES, NO = ("1", "yes", "true"), ("0", "no", "false")
NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
WHOLE = r"^[+-]?\d+(\.0*)?$"
LARGEST_SHOWN = 40

EXPECTED = {
    "real": "a number with {decimal} and no thousands separators",
    "integer": "a whole number without thousands separators",
    "boolean": "one of 0, 1, yes, no, true, false",
    "date": "a date as {form}",
    "datetime": "a time as {form}, {zone}",
}

Flags = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Words:
    """A column's distinct texts and, per row, the index of its own, or -1 where it is missing. Owner's side only."""

    distinct: Any
    indices: npt.NDArray[np.int64]

    def __repr__(self) -> str:
        return "Words(…)"


def arrow_array(values: Any) -> Any:
    """A pandas column as a pyarrow array; what has no one type, as a database's mixed column, becomes text."""
    import pyarrow as pa

    try:
        array = pa.Array.from_pandas(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        array = pa.array([None if _is_missing(value) else str(value) for value in values], pa.string())
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def words_of(array: Any) -> Words:
    """Distinct texts of an array, without surrounding spaces; empty is missing, 7.0 of a float column is "7"."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = array if pa.types.is_string(array.type) else pc.cast(array, pa.string())
    encoded = pc.dictionary_encode(text)
    indices = np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64)
    distinct = pc.utf8_trim_whitespace(encoded.dictionary)
    if pa.types.is_floating(array.type):
        indices[np.isnan(array.to_numpy(zero_copy_only=False).astype(np.float64))] = -1
    empty = pc.equal(distinct, "").to_numpy(zero_copy_only=False)
    if len(distinct):
        indices[(indices >= 0) & empty[indices]] = -1
    return Words(distinct, indices)


def read_cells(
    column: Column, array: Any, *, missing_words: Sequence[str] = (), decimal: str = "."
) -> tuple[FloatArray, Flags]:
    """Cells of `column` in matrix units [N], NaN where missing or at fault, and a flag per row.

    Flags: `FINE`, `EMPTY` (missing where the schema refuses it), `MALFORMED`, `OUTSIDE` (beyond a bound). Values beyond
    the bounds of a column with `outside = "clamp"` are clamped and fine.

    Args:
      missing_words: texts that stand for a missing cell, to the letter; one that is a number stands for that number,
        however it is written.
      decimal: `"."` or `","`, in texts that are numbers.
    """
    import pyarrow as pa

    numeric = pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type)
    if numeric and column.kind in ("real", "integer", "boolean"):
        values, missing = _from_numbers(array)
        missing |= np.isin(values, _constants(missing_words, decimal))
        malformed = ~missing & ~_is_of_kind(column, values)
    else:
        words = words_of(array)
        by_word = _from_words(column, words.distinct, decimal)
        # The last entry stands for index -1, a missing cell.
        missing = np.append(_mean_missing(column, words.distinct, by_word, missing_words, decimal), True)[words.indices]
        values = np.append(by_word, np.nan)[words.indices]
        malformed = ~missing & ~np.isfinite(values)
    return _flagged(column, np.where(malformed | missing, np.nan, values), missing, malformed)


def _mean_missing(
    column: Column, distinct: Any, by_word: FloatArray, missing_words: Sequence[str], decimal: str
) -> npt.NDArray[np.bool_]:
    """Which distinct texts stand for a missing cell."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(missing_words, distinct.type)
    missing = np.array(pc.is_in(distinct, wanted).to_numpy(zero_copy_only=False), dtype=np.bool_)
    if column.kind in ("real", "integer"):
        missing |= np.isin(by_word, _constants(missing_words, decimal))
    return missing


def _constants(words: Sequence[str], decimal: str) -> FloatArray:
    """The words that are numbers, in either notation: a schema's author need not think of the file's."""
    import pyarrow as pa

    listed = pa.array(words, pa.string())
    both: FloatArray = np.concatenate([_numbers(listed, NUMBER, "."), _numbers(listed, NUMBER, decimal)])
    return np.asarray(both[np.isfinite(both)], dtype=np.float64)


def _flagged(
    column: Column, values: FloatArray, missing: npt.NDArray[np.bool_], malformed: npt.NDArray[np.bool_]
) -> tuple[FloatArray, Flags]:
    flags = np.zeros(len(values), dtype=np.int8)
    if column.outside == "clamp":
        values = np.clip(values, column.low, column.high)
    else:
        flags[(values < column.low) | (values > column.high)] = OUTSIDE  # NaN compares false
    if column.missing == "refuse":
        flags[missing] = EMPTY
    flags[malformed] = MALFORMED
    return values, flags


def fault_text(column: Column, row: object, flag: int, value: object, *, decimal: str = ".") -> str:
    """What is wrong with one cell: row, column, the value as written, and the bound or what was expected."""
    where = f"row {row}, column {column.name!r}: "
    if flag == EMPTY:
        return where + "is empty and the schema refuses missing values"
    shown = repr(str(value)[:LARGEST_SHOWN])
    if flag == OUTSIDE:
        return where + f"{shown} is outside [{column.written(column.low)}, {column.written(column.high)}]"
    if column.kind == "category":
        listed = ", ".join(column.categories[:8]) + (", …" if len(column.categories) > 8 else "")
        return where + f"{shown} is not one of the declared categories ({listed})"
    return where + f"{shown} is not {_expected(column, decimal)}"


def _expected(column: Column, decimal: str) -> str:
    if column.label_map:
        return f"one of the labels that the schema reads ({', '.join(text for text, _ in column.label_map[:8])})"
    usual = "2020-01-31" if column.kind == "date" else "2020-01-31 12:00"
    zone = "with or without an offset" if column.zone else "without an offset (or declare the column's zone)"
    return EXPECTED[column.kind].format(decimal=DECIMALS[decimal], form=column.format or usual, zone=zone)


def _from_numbers(array: Any) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    values = np.asarray(values, dtype=np.float64)
    return values, np.isnan(values)


def _is_of_kind(column: Column, values: FloatArray) -> npt.NDArray[np.bool_]:
    fine: npt.NDArray[np.bool_] = np.isfinite(values)
    if column.kind == "boolean":
        fine &= (values == 0) | (values == 1)
    elif column.kind == "integer":
        fine &= values == np.rint(values)
    return fine


def _from_words(column: Column, distinct: Any, decimal: str) -> FloatArray:
    """Matrix units of each distinct text, NaN where it is not of the column's kind."""
    if column.kind in ("real", "integer"):
        return _numbers(distinct, NUMBER if column.kind == "real" else WHOLE, decimal)
    if column.kind in TIMES:
        return read_times(column, distinct)
    places = {label: float(index) for index, label in enumerate(column.labels)}
    places |= {text: places[label] for text, label in column.label_map}
    if column.kind == "boolean":
        known = dict.fromkeys(YES, 1.0) | dict.fromkeys(NO, 0.0)
        mapped = {text: places[label] for text, label in column.label_map}
        return _parsed(distinct, lambda word: mapped.get(word, known.get(word.lower())))
    return _parsed(distinct, lambda word: places.get(word, places.get(word.removesuffix(".0"))))


def _numbers(distinct: Any, pattern: str, decimal: str = ".") -> FloatArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if decimal != ".":  # a point would be a thousands separator: such a text becomes none that is a number
        distinct = pc.replace_substring(pc.replace_substring(distinct, ".", "?"), decimal, ".")
    fine = pc.match_substring_regex(distinct, pattern)
    digits = pc.if_else(fine, pc.replace_substring_regex(distinct, r"^\+", ""), pa.scalar(None, distinct.type))
    return np.asarray(pc.cast(digits, pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _parsed(distinct: Any, read: Callable[[str], float | None]) -> FloatArray:
    values = (read(word.as_py()) for word in distinct)
    return np.fromiter((np.nan if value is None else value for value in values), np.float64, count=len(distinct))


def _is_missing(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value))
