"""A DataFrame or array of one's own as a table with a schema: each row is a person, bounds are declared.

Bounds are never taken from the data: they decide what the noise hides. Where they are lacking, the refusal has the
argument as the table at hand would need it, for its owner to correct.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.errors import DataRefused, InvalidRequest
from policies.schema.columns import Column
from policies.schema.schemas import Schema

if TYPE_CHECKING:
    import pandas as pd

ROW = "row"
Bounds = tuple[float, float] | Mapping[Any, tuple[float, float]] | None


@dataclass(frozen=True)
class LocalTable:
    """A table and its schema.

    Args:
      frame: the rows, under the schema's column names, the target last.
      schema: with the population and the hold-out that it is published with.
      names: of the data's own columns, by the schema's name.
    """

    frame: pd.DataFrame
    schema: Schema
    names: Mapping[str, Any]

    def csv(self) -> str:
        """The table as it is published, each row with its number."""
        written = self.frame.copy()
        for name in written.columns:
            if written[name].dtype == bool:
                written[name] = written[name].astype(int)
        written.insert(0, ROW, [f"r{number}" for number in range(len(written))])
        return str(written.to_csv(index=False))

    def inputs(self, data: Any) -> np.ndarray[Any, Any]:
        """What the model gets of rows like those that it was trained on: scaled by the declared bounds.

        Raises `InvalidRequest` where a column is lacking.
        """
        features = [name for name in self.frame.columns if name != self.schema.target]
        given = _frame(data)
        if isinstance(data, np.ndarray) and given.shape[1] == len(features):
            given.columns = [self.names[name] for name in features]
        lacking = [str(self.names[name]) for name in features if self.names[name] not in given.columns]
        if lacking:
            raise InvalidRequest(f"The rows lack {', '.join(lacking)}, which the model was trained on.")
        matrix = np.zeros((len(given), len(self.schema.matrix_columns)))
        for name in features:
            column = self.schema.column(name)
            cells = given[self.names[name]]
            if column.kind == "category":
                places = {label: place for place, label in enumerate(column.categories)}
                values = np.array([places.get(str(cell), np.nan) for cell in cells], dtype=np.float64)
            else:
                values = np.asarray(cells, dtype=np.float64)
            matrix[:, self.schema.matrix_columns.index(name)] = values
        return self.schema.inputs(matrix)


def local_table(
    data: Any,
    *,
    target: Any,
    classes: Callable[[int], int] | None,
    bounds: Bounds,
    holdout: float,
    name: str,
    population: str,
) -> LocalTable:
    """Read `data`: a DataFrame, an array, or a pair of features and target.

    Args:
      target: the target's column; None for the last.
      classes: how many the model tells apart, by the number of its inputs; None where it predicts a number.
      bounds: of every column by its name, or one pair for all; booleans and categories need none.

    Raises:
      InvalidRequest: it is no table, or a column's bounds or labels are not declared.
    """
    frame = _frame(data)
    if len(frame) < 2 or frame.shape[1] < 2:
        raise InvalidRequest(f"data has {len(frame)} rows and {frame.shape[1]} columns. Give a table with a target.")
    own = list(frame.columns)
    wanted = own[-1] if target is None else target
    if wanted not in own:
        raise InvalidRequest(f"target_column={target!r} is no column. There are {', '.join(map(str, own[:20]))}.")
    own = [column for column in own if column != wanted] + [wanted]
    frame = frame[own]
    names = _safe_names(own)
    _check_bounds_named(bounds, own)
    columns: list[Column] = []
    lacking: dict[Any, str] = {}
    made: dict[str, Any] = {}
    for column, safe in zip(own, names, strict=True):
        cells = frame[column]
        declared: dict[str, Any] | None
        if column == wanted and classes is not None and not lacking:
            width = sum(len(feature.input_names) for feature in columns)
            declared, made[safe] = _classes(column, cells, classes(width))
        elif column == wanted and classes is not None:
            break
        else:
            declared, made[safe] = _column(column, cells, _bounds_of(bounds, column))
        if declared is None:
            lacking[column] = _seen(cells)
        elif not lacking:
            columns.append(_declared(safe, declared))
    if lacking:
        shown = ", ".join(f"{column!r}: {low_high}" for column, low_high in lacking.items())
        raise InvalidRequest(
            f"bounds of {', '.join(repr(column) for column in lacking)} are not declared: taken from the data, they"
            " would tell of it what no noise covers. Say what is possible for anybody. This table's own would be"
            f" bounds={{{shown}}}."
        )
    import pandas as pd

    schema = Schema(
        name=name,
        population=population,
        description="",
        patient=ROW,
        target=names[-1],
        holdout=holdout,
        columns=tuple(columns),
    )
    return LocalTable(pd.DataFrame(made), schema, dict(zip(names, own, strict=True)))


def _declared(name: str, fields: Mapping[str, Any]) -> Column:
    try:
        return Column(name=name, **fields)
    except DataRefused as refused:
        raise InvalidRequest(str(refused)) from None


def _frame(data: Any) -> pd.DataFrame:
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return data.reset_index(drop=True)
    if isinstance(data, tuple | list) and len(data) == 2:
        features, target = (_frame(part) if np.ndim(part) == 2 else part for part in data)
        if isinstance(features, pd.DataFrame):
            values = np.asarray(target).reshape(len(features), -1) if len(features) else np.zeros((0, 1))
            if values.shape[1] != 1:
                raise InvalidRequest("data's target has several columns. Give one number or class for each row.")
            joined = features.copy()
            joined["target" if "target" not in joined.columns else "target_"] = values[:, 0]
            return joined
    if hasattr(data, "numpy") and not isinstance(data, np.ndarray):
        data = data.numpy()
    if isinstance(data, np.ndarray) and data.ndim == 2:
        return pd.DataFrame(data, columns=[f"x{number}" for number in range(data.shape[1])])
    raise InvalidRequest(
        f"data={type(data).__name__} is no table. Give a DataFrame, an array of rows, a pair (features, target), or"
        " network.dataset(...)."
    )


def _safe_names(own: list[Any]) -> list[str]:
    names: list[str] = []
    for number, column in enumerate(own):
        name = re.sub(r"\W+", "_", str(column), flags=re.ASCII).strip("_")[:50]
        if not name[:1].isalpha():
            name = f"c{number}_{name}".rstrip("_")
        if name in (*names, ROW):
            name = f"{name}_{number}"
        names.append(name)
    return names


def _check_bounds_named(bounds: Bounds, own: list[Any]) -> None:
    if isinstance(bounds, Mapping):
        unknown = [str(name) for name in bounds if name not in own]
        if unknown:
            raise InvalidRequest(f"bounds names {', '.join(unknown)}, which the table has not.")


def _bounds_of(bounds: Bounds, column: Any) -> tuple[float, float] | None:
    found = bounds.get(column) if isinstance(bounds, Mapping) else bounds
    if found is None:
        return None
    try:
        low, high = (float(bound) for bound in found)
    except (TypeError, ValueError):
        raise InvalidRequest(f"bounds of {column!r} are {found!r}. Write them as (0, 100).") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidRequest(f"bounds of {column!r} are {low:g} and {high:g}. Write the smaller one first.")
    return low, high


def _column(column: Any, cells: Any, bounds: tuple[float, float] | None) -> tuple[dict[str, Any] | None, Any]:
    import pandas as pd

    if cells.dtype == bool:
        return {"kind": "boolean"}, np.asarray(cells)
    if isinstance(cells.dtype, pd.CategoricalDtype):
        labels = [str(label) for label in cells.cat.categories]
        return {"kind": "category", "categories": tuple(labels)}, np.asarray(cells.astype(str))
    if not pd.api.types.is_numeric_dtype(cells.dtype):
        raise InvalidRequest(
            f"column {column!r} is text, and its labels are not declared. Say them, as"
            f" data[{column!r}] = data[{column!r}].astype(pandas.CategoricalDtype(['a', 'b']))."
        )
    if bounds is None:
        return None, None
    low, high = bounds
    return {"kind": "real", "minimum": low, "maximum": high, "outside": "clamp"}, np.asarray(cells, dtype=np.float64)


def _classes(column: Any, cells: Any, classes: int) -> tuple[dict[str, Any], Any]:
    """A target of classes: booleans, labels that are declared, or whole numbers below the number of classes."""
    import pandas as pd

    if isinstance(cells.dtype, pd.CategoricalDtype):
        labels = [str(label) for label in cells.cat.categories]
        if len(labels) != classes:
            raise InvalidRequest(f"{column!r} has {len(labels)} labels, and the model tells {classes} apart.")
        return {"kind": "category", "categories": tuple(labels)}, np.asarray(cells.astype(str))
    values = np.asarray(cells)
    numbers = values.astype(np.float64) if values.dtype.kind in "biuf" else np.full(len(values), np.nan)
    if not (np.isin(numbers, np.arange(classes)).all()):
        raise InvalidRequest(
            f"the target {column!r} is not made of whole numbers from 0 to {classes - 1}, one for each class that the"
            " model tells apart. Make it so, or a pandas.CategoricalDtype."
        )
    if classes == 2:
        return {"kind": "boolean"}, numbers.astype(bool)
    return {"kind": "category", "categories": tuple(str(label) for label in range(classes))}, numbers.astype(
        int
    ).astype(str)


def _seen(cells: Any) -> str:
    """Bounds that a column's own values would need, rounded outwards to two digits, as text."""
    values = np.asarray(cells, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return "(..., ...)"
    low, high = float(values.min()), float(values.max())
    scale = 10.0 ** (math.floor(math.log10(max(abs(low), abs(high), high - low, 1e-9))) - 1)
    return f"({math.floor(low / scale) * scale:g}, {math.ceil(high / scale) * scale:g})"
