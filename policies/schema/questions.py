"""What a request for statistics asks of a schema: its groups, its cells, and the shapes of its answers, all public.

A mean, a variance and quantiles are of records whose number is not always public: where a column may be missing, a
condition chooses, or groups divide. Then the noisy number of records, which the mechanism draws anyway or has in its
tree, comes last in the answer, and the answer's error is made of it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from policies.errors import UnsupportedMechanism
from policies.numbers import counted
from policies.privacy.grouping import Grouping
from policies.privacy.mechanisms import Query, Statistics
from policies.schema.columns import TIMES, Column, IntArray, time_in
from policies.schema.filters import Filter, compiled, condition_sentences
from policies.schema.schemas import MOST_CELLS, Schema

MOST_GROUPS = 1000
MISSING = "missing"
PRESENT = "present"
DIVIDED = ("mean", "variance", "quantiles")  # by a number of records
CELLS = ("histogram", "crosstab", "missing", "describe")


@dataclass(frozen=True)
class Groups:
    """Disjoint groups of records.

    Args:
      columns: that they are made by.
      labels: of each column's own groups, in order.
    """

    columns: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    _groupings: tuple[Grouping, ...]
    _schema: Schema

    @property
    def shape(self) -> tuple[int, ...]:
        """How many groups each column makes."""
        return tuple(len(labels) for labels in self.labels)

    @property
    def count(self) -> int:
        """Groups in all."""
        return math.prod(self.shape)

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Labels of every group, the last column's varying fastest."""
        names: list[tuple[str, ...]] = [()]
        for labels in self.labels:
            names = [(*name, label) for name in names for label in labels]
        return tuple(names)

    def index(self, matrix: npt.ArrayLike) -> IntArray:
        """Each record's group, int64 [N] below `count`."""
        cells = [
            _group_index(self._schema, matrix, grouping, len(labels))
            for grouping, labels in zip(self._groupings, self.labels, strict=True)
        ]
        return np.ravel_multi_index(cells, self.shape).astype(np.int64)


def check_statistics(mechanism: Statistics, schema: Schema) -> None:
    """Raise `UnsupportedMechanism`, saying what may be asked, unless every part of a request fits the schema."""
    for query in mechanism.queries:
        answer_shape(query, mechanism, schema)
    filter_of(mechanism, schema)


def filter_of(mechanism: Statistics, schema: Schema) -> Filter | None:
    """The condition on records; None where all of them count. Raises `UnsupportedMechanism`."""
    return compiled(mechanism.where, schema) if mechanism.where else None


@lru_cache(maxsize=64)
def _groups(groupings: tuple[Grouping, ...], schema: Schema) -> Groups:
    labels = tuple(_labels(grouping, schema) for grouping in groupings)
    groups = Groups(tuple(grouping.column for grouping in groupings), labels, groupings, schema)
    if groups.count > MOST_GROUPS:
        raise UnsupportedMechanism(
            f"group_by makes {groups.count:,} groups, above {MOST_GROUPS:,}. Name fewer columns."
        )
    return groups


def groups_of(mechanism: Statistics, schema: Schema) -> Groups | None:
    """The groups that are answered apart; None where all records are answered together.

    Raises:
      UnsupportedMechanism: a column has no labels and got no edges, or edges outside its bounds; or too many groups.
    """
    return _groups(mechanism.group_by, schema) if mechanism.group_by else None


def answer_shape(query: Query, mechanism: Statistics, schema: Schema) -> tuple[int, ...]:
    """Shape of a statistic's tensor in a release: groups first, the number of records last.

    Raises:
      UnsupportedMechanism: the query or the groups do not fit the schema, or there are too many cells.
    """
    schema.check_query(query)
    groups = groups_of(mechanism, schema)
    if query.name in CELLS:
        own = tuple(len(labels) for labels in cell_labels(query, mechanism, schema))
    else:
        numbers = len(query.ranks) if query.name == "quantiles" else 1
        own = (numbers + 1,) if is_counted(query, mechanism, schema) else (numbers,)
    shape = own if groups is None else (groups.count, *own) if own != (1,) else (groups.count,)
    if math.prod(shape) > MOST_CELLS:
        raise UnsupportedMechanism(
            f"{query.key} has {math.prod(shape)} cells, above {MOST_CELLS}. Use fewer bins or fewer groups."
        )
    return shape


def is_counted(query: Query, mechanism: Statistics, schema: Schema) -> bool:
    """Whether an answer ends with the noisy number of records that it is made of."""
    chosen = bool(mechanism.where or mechanism.group_by)
    return query.name in DIVIDED and (chosen or schema.column(query.columns[0]).missing != "refuse")


def cell_labels(query: Query, mechanism: Statistics, schema: Schema) -> tuple[tuple[str, ...], ...]:
    """Labels of a table's cells, per column."""
    if query.name == "missing":
        return ((PRESENT, MISSING),)
    labels = tuple(schema.cells(name, mechanism.bins)[0] for name in query.columns)
    if query.name == "describe" and schema.column(query.columns[0]).missing != "refuse":
        return (_with_missing(labels[0]),)
    return labels


def count_sensitivity(mechanism: Statistics, schema: Schema) -> int:
    """By how much one patient moves counts of patients, in all groups together."""
    groups = groups_of(mechanism, schema)
    return 1 if groups is None else min(mechanism.records_per_patient, groups.count)


def scope_sentences(mechanism: Statistics, schema: Schema) -> list[str]:
    """Whose records count and in which groups they are answered, in plain words; nothing where all count together."""
    said, groups = condition_sentences(mechanism.where, schema), groups_of(mechanism, schema)
    if groups is not None:
        said.append(f"Each is answered apart for {counted(groups.count, 'group')}, by {', '.join(groups.columns)}.")
    return said


def _labels(grouping: Grouping, schema: Schema) -> tuple[str, ...]:
    column = schema.column(grouping.column)
    labels = column.labels
    if labels and grouping.edges:
        raise UnsupportedMechanism(
            f"group_by {column.name!r} is {column.kind} and takes no edges. Write an empty list."
        )
    if not labels:
        edges = _edges(grouping, column)
        ends = [column.written(edge) for edge in edges]
        unit = f" {column.unit}" if column.unit else ""
        between = [f"{low} to below {high}{unit}" for low, high in itertools.pairwise(ends)]
        first, last = ("before", "from") if column.kind in TIMES else ("below", "from")
        labels = (f"{first} {ends[0]}{unit}", *between, f"{last} {ends[-1]}{unit}")
    return _with_missing(labels) if column.missing != "refuse" else labels


def _with_missing(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels and one for what is missing, by another name where an owner's category has that one."""
    return (*labels, MISSING if MISSING not in labels else "no value")


def _edges(grouping: Grouping, column: Column) -> list[float]:
    if not grouping.edges:
        raise UnsupportedMechanism(
            f"group_by {column.name!r} is {column.kind}: say where its bands begin, as"
            f" group_by={{{column.name!r}: [...]}}, with values from {column.written(column.low)} to"
            f" {column.written(column.high)}."
        )
    edges = [_edge(column, edge) for edge in grouping.edges]
    for edge in edges:
        if not column.low < edge <= column.high:
            raise UnsupportedMechanism(
                f"group_by {column.name!r} has the edge {column.written(edge)},"
                f" outside ({column.written(column.low)}, {column.written(column.high)}]. Give edges within the bounds."
            )
    return edges


def _edge(column: Column, edge: float | str) -> float:
    if column.kind not in TIMES and not isinstance(edge, str):
        return float(edge)
    try:
        assert isinstance(edge, str)
        if column.kind not in TIMES:
            raise ValueError
        return time_in(column, edge)
    except (ValueError, AssertionError):
        wanted = {"date": "a date as '2025-10-01'", "datetime": f"a whole {column.truncate} as '2025-10-01 14:00'"}.get(
            column.kind, "a number"
        )
        raise UnsupportedMechanism(f"group_by {column.name!r} has the edge {edge!r}, which is not {wanted}.") from None


def _group_index(schema: Schema, matrix: npt.ArrayLike, grouping: Grouping, count: int) -> IntArray:
    column = schema.column(grouping.column)
    values = schema.values(matrix, grouping.column)
    if column.labels:
        index = values.astype(np.int64)
    else:
        index = np.searchsorted(np.array(_edges(grouping, column)), values, side="right").astype(np.int64)
    if column.missing == "refuse":
        return index
    return np.where(schema.present(matrix, grouping.column), index, count - 1)
