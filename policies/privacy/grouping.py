"""Groups of records by declared columns: disjoint, public, and named before anything is read.

A column of categories or a boolean gives a group per label; a column of numbers or dates gives bands between public
edges. What a record belongs to depends on that record alone, and it belongs to one group. How many groups one patient
can stand in is bounded by the records that the patient may give.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policies.errors import UnsupportedMechanism

MOST_COLUMNS = 3
MOST_EDGES = 50
EXAMPLE = "group_by='ward', group_by=['sex', 'ward'] or group_by={'age': [18, 65]}"

Edge = float | str


@dataclass(frozen=True)
class Grouping:
    """One column that records are grouped by.

    Args:
      column: its name.
      edges: where bands of numbers begin, increasing, or of dates as `"2025-10-01"`; none for labels. The bands of
        (18, 65) are below 18, from 18 to below 65, and from 65.
    """

    column: str
    edges: tuple[Edge, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.column, str) or not self.column:
            raise UnsupportedMechanism(f"group_by={self.column!r:.60} is no column. Write {EXAMPLE}.")
        if not isinstance(self.edges, tuple) or len(self.edges) > MOST_EDGES:
            raise UnsupportedMechanism(f"group_by {self.column!r} has more than {MOST_EDGES} edges. Give fewer.")
        numbers = all(isinstance(edge, int | float) and not isinstance(edge, bool) for edge in self.edges)
        if numbers and not all(math.isfinite(edge) and abs(edge) <= 1e15 for edge in self.edges):  # type: ignore[arg-type]
            raise UnsupportedMechanism(f"group_by {self.column!r} has an edge beyond ±1e15. Give it within the bounds.")
        if not numbers and not all(isinstance(edge, str) for edge in self.edges):
            raise UnsupportedMechanism(f"group_by {self.column!r} has edges that are neither numbers nor dates.")
        if any(not low < high for low, high in zip(self.edges, self.edges[1:], strict=False)):  # type: ignore[operator]
            raise UnsupportedMechanism(f"group_by {self.column!r} has edges that do not increase. Sort them.")


def groupings_from(value: Any) -> tuple[Grouping, ...]:
    """What `group_by=` means: a column, a list of columns, or edges by column. Raises `UnsupportedMechanism`.

    >>> groupings_from({"age": [18, 65], "ward": []})
    (Grouping(column='age', edges=(18.0, 65.0)), Grouping(column='ward', edges=()))
    """
    if isinstance(value, str) and value:
        return (Grouping(value),)
    if isinstance(value, list | tuple) and all(isinstance(column, str) for column in value):
        return tuple(Grouping(column) for column in value)
    if isinstance(value, Mapping) and all(isinstance(edges, list | tuple) for edges in value.values()):
        return tuple(Grouping(column, tuple(map(_edge, edges))) for column, edges in value.items())
    raise UnsupportedMechanism(f"group_by={value!r:.60} is not understood. Write {EXAMPLE}.")


def as_literal(groupings: tuple[Grouping, ...]) -> Any:
    """What a request's source writes for them, from which `groupings_from` makes equal ones."""
    if any(grouping.edges for grouping in groupings):
        return {grouping.column: [_shortest(edge) for edge in grouping.edges] for grouping in groupings}
    columns = [grouping.column for grouping in groupings]
    return columns[0] if len(columns) == 1 else columns


def check_groupings(groupings: object) -> None:
    """Raise `UnsupportedMechanism` unless they are at most `MOST_COLUMNS` different columns."""
    if not isinstance(groupings, tuple) or not all(isinstance(grouping, Grouping) for grouping in groupings):
        raise UnsupportedMechanism(f"group_by={groupings!r:.60} is not understood. Write {EXAMPLE}.")
    columns = [grouping.column for grouping in groupings]
    if len(columns) > MOST_COLUMNS or len(set(columns)) != len(columns):
        raise UnsupportedMechanism(f"group_by names {len(columns)} columns. Name at most {MOST_COLUMNS}, each once.")


def _edge(edge: Any) -> Edge:
    if isinstance(edge, int | float) and not isinstance(edge, bool):
        try:
            return float(edge)
        except OverflowError:
            return math.inf
    if isinstance(edge, str):
        return edge
    raise UnsupportedMechanism(f"group_by has the edge {edge!r:.60}, which is neither a number nor a date.")


def _shortest(edge: Edge) -> int | float | str:
    return int(edge) if isinstance(edge, float) and edge.is_integer() else edge
