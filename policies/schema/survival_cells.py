"""The cells of a survival table: a public grid of time over a column's bounds, by group and by what happened.

A row of the table, one for each group, has 2 B + 1 cells for B intervals of time: patients whose event was seen in each
interval, patients lost from sight in each, and those who were followed to the end of the grid without event. The last
is one cell and not an interval's, since they are at risk all the way to the end.

Interval k reaches from the end of the one before, left out, to its own end, so that the curve after it is the one that
counts all events up to that moment. Whole numbers that are no more than the intervals asked for get an interval each:
then the table loses nothing of the times, and the curve is exactly Kaplan and Meier's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.errors import UnsupportedMechanism
from policies.privacy.survival import KaplanMeier
from policies.schema.columns import Column, FloatArray, IntArray
from policies.schema.filters import compiled
from policies.schema.schemas import FIRST_COLUMN, Schema

MOST_CELLS = 100_000
TENSOR = "patients"
EVERYBODY = "all patients"


@dataclass(frozen=True)
class TimeGrid:
    """Intervals of time.

    Args:
      start: where the first one begins.
      ends: where each ends, itself included.
      exact: whether each holds one possible value.
    """

    start: float
    ends: tuple[float, ...]
    exact: bool

    @property
    def until(self) -> float:
        """Where the last interval ends."""
        return self.ends[-1]


def time_grid(mechanism: KaplanMeier, schema: Schema) -> TimeGrid:
    """The public grid of a survival table. Raises `UnsupportedMechanism` where the column has no such times."""
    column = schema.column(mechanism.time)
    if column.kind not in ("real", "integer") or column.low < 0:
        raise UnsupportedMechanism(
            f"time={mechanism.time!r} is {column.kind} from {column.written(column.low)}. Name a real or integer column"
            " of times since each patient's beginning, with minimum = 0 or more."
        )
    until = column.high if mechanism.until is None else float(mechanism.until)
    if not column.low < until <= column.high or (column.kind == "integer" and until != int(until)):
        raise UnsupportedMechanism(
            f"until={mechanism.until} does not lie above {column.written(column.low)} and up to"
            f" {column.written(column.high)}, the bounds of {mechanism.time!r}, or is not whole where they are."
        )
    if column.kind == "integer":
        if until - column.low + 1 <= mechanism.bins:
            return TimeGrid(column.low, tuple(np.arange(column.low, until + 1).tolist()), exact=True)
        edges = np.floor(np.linspace(column.low, until, mechanism.bins + 1))
    else:
        edges = np.linspace(column.low, until, mechanism.bins + 1)
    return TimeGrid(column.low, tuple(edges[1:].tolist()), exact=False)


def survival_groups(mechanism: KaplanMeier, schema: Schema) -> tuple[str, ...]:
    """Labels of the groups; one for everybody where none were asked for."""
    if mechanism.by is None:
        return (EVERYBODY,)
    labels = schema.column(mechanism.by).labels
    if not labels:
        raise UnsupportedMechanism(
            f"by={mechanism.by!r} is {schema.column(mechanism.by).kind}. Name a boolean or a category."
        )
    return labels


def survival_shape(mechanism: KaplanMeier, schema: Schema) -> tuple[int, int]:
    """Groups and cells of each.

    Raises:
      UnsupportedMechanism: a column cannot be asked for this, or there are too many cells.
    """
    if mechanism.where:
        compiled(mechanism.where, schema)
    event = schema.column(mechanism.event)
    if len(event.labels) != 2:
        raise UnsupportedMechanism(
            f"event={mechanism.event!r} is {event.kind}. Name a boolean, or a category of two labels of which the"
            " second is the event."
        )
    shape = len(survival_groups(mechanism, schema)), 2 * len(time_grid(mechanism, schema).ends) + 1
    if math.prod(shape) > MOST_CELLS:
        raise UnsupportedMechanism(f"The table has {math.prod(shape):,} cells, above {MOST_CELLS:,}. Use fewer bins.")
    return shape


def survival_labels(mechanism: KaplanMeier, schema: Schema) -> tuple[str, ...]:
    """What the cells of a group are, in order."""
    grid, column = time_grid(mechanism, schema), schema.column(mechanism.time)
    starts = (column.written(grid.start), *(column.written(end) for end in grid.ends))
    spans = [f"{start} to {moment(column, end)}" for start, end in zip(starts, grid.ends, strict=False)]
    if grid.exact:
        spans = [moment(column, end) for end in grid.ends]
    return (
        *(f"{mechanism.event} at {span}" for span in spans),
        *(f"last seen at {span}" for span in spans),
        f"followed to {moment(column, grid.until)}",
    )


def columns_of(mechanism: KaplanMeier) -> tuple[str, ...]:
    """The columns that it reads."""
    return (mechanism.time, mechanism.event, *([mechanism.by] if mechanism.by else []))


def cells_of(mechanism: KaplanMeier, schema: Schema, records: npt.ArrayLike) -> IntArray:
    """The one cell of each record in the table, flattened, int64 [N]: comparisons alone, inside the table always."""
    grid, (_, width) = time_grid(mechanism, schema), survival_shape(mechanism, schema)
    intervals = len(grid.ends)
    times, seen = schema.values(records, mechanism.time), schema.values(records, mechanism.event) > 0
    places = np.minimum(np.searchsorted(grid.ends, times, side="left"), intervals - 1)
    followed = (times > grid.until) | ((times == grid.until) & ~seen)
    cells = np.where(followed, 2 * intervals, np.where(seen, places, intervals + places))
    groups = schema.values(records, mechanism.by).astype(np.int64) if mechanism.by else 0
    return np.asarray(groups * width + cells, dtype=np.int64)


def present(schema: Schema, records: FloatArray, columns: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Where all of these columns have a value, bool [N]: what fills the others is a constant and counts for nothing."""
    places = [FIRST_COLUMN + [column.name for column in schema.columns].index(name) for name in columns]
    return np.asarray(np.isfinite(records[:, places]).all(axis=1), dtype=np.bool_)


def moment(column: Column, value: float) -> str:
    """A time as people read it, with its unit."""
    return f"{column.written(value)} {column.unit}".rstrip()
