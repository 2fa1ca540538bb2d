"""Cohort filters on a schema's columns: which records a condition holds for, in our own operators.

A condition (`policies.privacy.conditions`) is text of the researcher's, and public. Here its names and values are held
against the schema, and it becomes comparisons of whole columns: every operator reads every record, whatever the values
are, so how long it takes says nothing of them. A missing value meets no comparison and no opposite of one, as in SQL:
`not (age >= 65)` is about patients whose age is known. Ask `age is missing` for the others.

What each record answers depends on that record alone. So a patient's records that pass are still the patient's own, and
a mechanism on them moves by no more than without a filter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from policies.errors import UnsupportedMechanism
from policies.privacy.conditions import Comparison, Condition, Every, Not, Value, comparisons, parse
from policies.schema.columns import TIMES, BoolArray, Column, FloatArray, time_in

if TYPE_CHECKING:
    from policies.schema.schemas import Schema

_COMPARED: dict[str, Callable[[FloatArray, float], BoolArray]] = {
    "==": lambda values, bound: values == bound,
    "!=": lambda values, bound: values != bound,
    "<": lambda values, bound: values < bound,
    "<=": lambda values, bound: values <= bound,
    ">": lambda values, bound: values > bound,
    ">=": lambda values, bound: values >= bound,
}
_WORDS = {
    "==": "is", "!=": "is not", "<": "is below", "<=": "is at most", ">": "is above", ">=": "is at least",
}  # fmt: skip
_WHOLE = "whole {} without an offset. Write one in quotes, as '2025-10-01 14:00', or a bare date"
_DATE_WORDS = {**_WORDS, "<": "is before", "<=": "is on or before", ">": "is after", ">=": "is on or after"}
MOST_NAMED = 20  # categories or columns in a message


@dataclass(frozen=True)
class Filter:
    """A condition that fits a schema.

    Args:
      text: as the researcher wrote it.
      columns: that it reads, each once.
      words: the same as people say it, for an owner's page.
    """

    text: str
    columns: tuple[str, ...]
    words: str
    _schema: Schema
    _condition: Condition

    def holds(self, matrix: npt.ArrayLike) -> BoolArray:
        """For which records of a private matrix [N, 2 + C] the condition holds."""
        return _truths(self._condition, self._schema, np.asarray(matrix, dtype=np.float64))[0]


@lru_cache(maxsize=64)
def compiled(text: str, schema: Schema) -> Filter:
    """The filter that a condition is on a schema.

    Raises:
      UnsupportedMechanism: the text is not understood, names what is no column, or compares a column with what it
        cannot be; the message says what may be written.

    >>> from policies.schema.schemas import Schema
    >>> column = Column(name="age", kind="integer", unit="years", minimum=0, maximum=110)
    >>> compiled("age >= 65", Schema(name="a", population="b", patient="p", columns=(column,))).words
    'age is at least 65 years'
    """
    condition = parse(text)
    for comparison in comparisons(condition):
        _check(comparison, schema)
    columns = tuple(dict.fromkeys(comparison.column for comparison in comparisons(condition)))
    return Filter(text, columns, _words(condition, schema), schema, condition)


def condition_sentences(text: str, schema: Schema) -> list[str]:
    """Whose records count, in plain words; nothing where all of them do, as `text` is empty."""
    if not text:
        return []
    said = f"Only records count for which {compiled(text, schema).words}."
    return [f"{said} A condition does not hold where its value is missing."]


def _truths(condition: Condition, schema: Schema, matrix: FloatArray) -> tuple[BoolArray, BoolArray]:
    """Where a condition holds, and where its opposite does; neither where a value that it needs is missing."""
    if isinstance(condition, Comparison):
        return _compared(condition, schema, matrix)
    if isinstance(condition, Not):
        holds, fails = _truths(condition.part, schema, matrix)
        return fails, holds
    parts = [_truths(part, schema, matrix) for part in condition.parts]
    every, either = np.logical_and.reduce, np.logical_or.reduce
    if not isinstance(condition, Every):
        every, either = either, every
    return every([holds for holds, _ in parts]), either([fails for _, fails in parts])


def _compared(comparison: Comparison, schema: Schema, matrix: FloatArray) -> tuple[BoolArray, BoolArray]:
    column = schema.column(comparison.column)
    present = schema.present(matrix, comparison.column)
    if comparison.operator == "missing":
        return ~present, present
    values = schema.values(matrix, comparison.column)
    bounds = [_number(column, value) for value in comparison.values]
    order = "==" if comparison.operator == "in" else comparison.operator
    met = np.logical_or.reduce([_COMPARED[order](values, bound) for bound in bounds])
    return present & met, present & ~met


def _check(comparison: Comparison, schema: Schema) -> None:
    name = comparison.column
    if name in (schema.patient, "held_out"):
        raise UnsupportedMechanism(
            f"where names {name!r}, which no condition may: it stands for the patient or the hold-out. Name columns"
            f" among {_listed([column.name for column in schema.columns])}."
        )
    if name not in {column.name for column in schema.columns}:
        strange = "".join(f" {sign!r} is U+{ord(sign):04X}." for sign in dict.fromkeys(name) if not sign.isascii())
        raise UnsupportedMechanism(
            f"where: {name[:63]!r} is not a column of {schema.name!r}.{strange} It has"
            f" {_listed([column.name for column in schema.columns])}."
        )
    column = schema.column(name)
    if comparison.operator in ("<", "<=", ">", ">=") and column.labels:
        raise UnsupportedMechanism(
            f"where: {name!r} is {column.kind} and has no order. Write ==, != or in, with {_choices(column)}."
        )
    for value in comparison.values:
        _number(column, value)


def _number(column: Column, value: Value) -> float:
    """A value of a condition in the column's matrix units. Raises `UnsupportedMechanism`."""
    if column.kind == "boolean" and isinstance(value, bool):
        return float(value)
    if column.kind == "category" and isinstance(value, str) and value in column.categories:
        return float(column.categories.index(value))
    if column.kind in TIMES and isinstance(value, str):
        return _within(column, _time(column, value), value)
    if column.kind in ("real", "integer") and isinstance(value, float):
        return _within(column, value, f"{value:g}")
    shown = ("yes" if value else "no") if isinstance(value, bool) else repr(value)
    raise UnsupportedMechanism(
        f"where compares {column.name!r} with {shown}, and it is {column.kind}. Compare it with {_choices(column)}."
    )


def _within(column: Column, number: float, shown: str) -> float:
    if not column.low <= number <= column.high:
        raise UnsupportedMechanism(
            f"where compares {column.name!r} with {shown}, outside its public bounds {column.written(column.low)} to"
            f" {column.written(column.high)}. Compare it with a value between them."
        )
    return number


def _time(column: Column, text: str) -> float:
    try:
        return time_in(column, text)
    except ValueError:
        what = "date. Write one as 2025-10-01" if column.kind == "date" else _WHOLE.format(column.truncate)
        raise UnsupportedMechanism(f"where compares {column.name!r} with {text!r}, which is no {what}.") from None


def _choices(column: Column) -> str:
    if column.kind == "boolean":
        return "yes or no"
    if column.kind == "category":
        return _listed([f"'{label}'" for label in column.categories])
    what = {"date": "a date", "datetime": "a time in quotes"}.get(column.kind, "a number")
    return f"{what} from {column.written(column.low)} to {column.written(column.high)}"


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _words(condition: Condition, schema: Schema) -> str:
    if isinstance(condition, Comparison):
        return _comparison_words(condition, schema.column(condition.column))
    if isinstance(condition, Not):
        return f"not ({_words(condition.part, schema)})"
    joint = " and " if isinstance(condition, Every) else " or "
    return joint.join(
        _words(part, schema) if isinstance(part, Comparison) else f"({_words(part, schema)})"
        for part in condition.parts
    )


def _comparison_words(comparison: Comparison, column: Column) -> str:
    if comparison.operator == "missing":
        return f"{column.name} is missing"
    labels = [column.written(_number(column, value)) for value in comparison.values]
    unit = f" {column.unit}" if column.unit else ""
    if comparison.operator == "in":
        return f"{column.name} is one of {', '.join(labels)}{unit}"
    words = _DATE_WORDS if column.kind in TIMES else _WORDS
    return f"{column.name} {words[comparison.operator]} {labels[0]}{unit}"
