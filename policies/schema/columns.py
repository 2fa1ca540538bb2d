"""One declared column: its kind, its public bounds, and what its private cells become.

A cell of the private matrix is a float64 in the column's *matrix units*: real and integer columns as they are, a
boolean as 0 or 1, a category as its index, a date as days since its declared minimum; NaN is a missing cell. Whatever
stands in a cell, NaN, infinity or a value outside the bounds, every array made here is finite and inside public bounds.
Nothing here depends on more than one row at a time.
"""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.errors import DataRefused

KINDS = ("real", "integer", "boolean", "category", "date")
LARGEST_BOUND = 1e15
LARGEST_NAME = 63
LARGEST_LABEL = 100
LARGEST_DESCRIPTION = 2000
MOST_CATEGORIES = 1000
BOOLEAN_LABELS = ("no", "yes")

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column as its owner declares it; every field is public.

    Args:
      name: letters, digits, `_`, `.`, `-` and inner spaces, beginning with a letter or `_`; at most 63 characters.
      kind: one of `KINDS`.
      unit: as `"°C"`, for people to read.
      minimum: smallest value in matrix units; 0 for a date; None for booleans and categories.
      maximum: largest value in matrix units, above `minimum`.
      categories: 2 to 1000 labels, in the order of their indices; only for a category.
      missing: `"refuse"`, or the constant in matrix units that stands in for a missing cell.
      indicator: whether a model also gets an input that is 1 where the cell is missing.
      outside: `"refuse"` or, for real, integer and date, `"clamp"`: what publishing does outside the bounds.
      feature: whether it is among a model's `"features"`.
      origin: a date column's minimum as `YYYY-MM-DD`, day 0 of its matrix units.

    Raises:
      DataRefused: a declaration is missing, unsafe or outside its limits.
    """

    name: str
    kind: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    missing: str | float = "refuse"
    indicator: bool = False
    outside: str = "refuse"
    feature: bool = True
    description: str = ""
    origin: str = ""

    def __post_init__(self) -> None:
        check_name("column", self.name)
        where = f"Column {self.name!r}"
        check_choice(f"{where}: kind", self.kind, KINDS)
        check_text(f"{where}: unit", self.unit, most=40)
        check_text(f"{where}: description", self.description, most=LARGEST_DESCRIPTION, lines=True)
        check_choice(f"{where}: outside", self.outside, ("refuse", "clamp"))
        for name, value in (("indicator", self.indicator), ("feature", self.feature)):
            if not isinstance(value, bool):
                raise DataRefused(f"{where}: {name}={value!r} is neither true nor false.")
        if self.kind in ("real", "integer", "date"):
            self._check_bounds(where)
        else:
            self._check_labels(where)
        if self.kind != "date" and self.origin:
            raise DataRefused(f"{where}: origin is for dates alone. Leave it out.")
        self._check_missing(where)

    def _check_bounds(self, where: str) -> None:
        if self.categories:
            raise DataRefused(f"{where}: categories are for kind='category', not {self.kind!r}. Leave them out.")
        for name, bound in (("minimum", self.minimum), ("maximum", self.maximum)):
            if bound is None:
                raise DataRefused(
                    f"{where} needs a {name}: bounds are public and never taken from the data. "
                    f"Write the {name} that is possible for anybody."
                )
            if not is_number(bound) or abs(bound) > LARGEST_BOUND:
                raise DataRefused(f"{where}: {name}={bound!r} is not a number within ±{LARGEST_BOUND:g}.")
            if self.kind != "real" and bound != int(bound):
                raise DataRefused(f"{where}: {name}={bound} is not whole. Write a whole number, or kind = 'real'.")
        assert self.minimum is not None
        assert self.maximum is not None
        # A range far below a float's precision at its own size would make cells that cannot be told apart.
        if self.maximum - self.minimum <= 1e-9 * max(abs(self.minimum), abs(self.maximum)):
            raise DataRefused(f"{where}: maximum={self.maximum} is not above minimum={self.minimum}. Widen the bounds.")
        if self.kind == "date":
            self._check_dates(where)

    def _check_dates(self, where: str) -> None:
        try:
            datetime.date.fromisoformat(self.origin) + datetime.timedelta(days=int(self.high))
        except (ValueError, TypeError, OverflowError):
            raise DataRefused(
                f"{where}: origin={self.origin!r} is not a date as 2020-01-31 within its bounds."
            ) from None
        if self.minimum != 0:
            raise DataRefused(f"{where}: a date counts days from its origin, so minimum={self.minimum} should be 0.")

    def _check_labels(self, where: str) -> None:
        if self.minimum is not None or self.maximum is not None:
            raise DataRefused(f"{where}: minimum and maximum are not for kind={self.kind!r}. Leave them out.")
        if self.outside != "refuse":
            raise DataRefused(f"{where}: outside='clamp' is not for kind={self.kind!r}. Write outside = 'refuse'.")
        if self.kind == "boolean":
            if self.categories:
                raise DataRefused(f"{where}: categories are for kind='category', not 'boolean'. Leave them out.")
            return
        if not isinstance(self.categories, tuple) or not 2 <= len(self.categories) <= MOST_CATEGORIES:
            raise DataRefused(
                f"{where} needs 2 to {MOST_CATEGORIES} categories: they are public and never taken from the data. "
                f"Write categories = ['...', '...'] with every label that may occur."
            )
        for label in self.categories:
            check_text(f"{where}: category", label, most=LARGEST_LABEL, empty=False)
            if label != label.strip():
                raise DataRefused(f"{where}: category {label!r} begins or ends with a space. Remove it.")
        if len(set(self.categories)) != len(self.categories):
            raise DataRefused(f"{where}: a category is listed twice. List each once.")

    def _check_missing(self, where: str) -> None:
        if self.missing == "refuse":
            if self.indicator:
                raise DataRefused(f"{where}: an indicator needs missing = {{constant = ..., indicator = true}}.")
            return
        if not is_number(self.missing) or not self.low <= float(self.missing) <= self.high:
            raise DataRefused(
                f"{where}: missing constant {self.missing!r} is outside [{self.low:g}, {self.high:g}]. "
                "Choose a value inside the declared bounds, or missing = 'refuse'."
            )
        if self.kind != "real" and float(self.missing) != int(self.missing):
            raise DataRefused(f"{where}: missing constant {self.missing!r} is not whole.")

    @property
    def low(self) -> float:
        """Smallest value in matrix units, for every kind."""
        return 0.0 if self.minimum is None else float(self.minimum)

    @property
    def high(self) -> float:
        """Largest value in matrix units, for every kind."""
        return float(len(self.labels) - 1) if self.maximum is None else float(self.maximum)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the values 0, 1, ... of a boolean or category; empty for other kinds."""
        return BOOLEAN_LABELS if self.kind == "boolean" else self.categories

    @property
    def fill(self) -> float:
        """What stands in for a missing or non-finite cell: the declared constant, else the lowest value. Public."""
        return self.low if isinstance(self.missing, str) else float(self.missing)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs that a model gets from this column: one-hot above two categories, then the indicator."""
        if self.kind == "category":
            shown = self.categories[1:] if len(self.categories) == 2 else self.categories
            names = tuple(f"{self.name}={label}" for label in shown)
        else:
            names = (self.name,)
        return (*names, f"{self.name} missing") if self.indicator else names

    def natural(self, raw: FloatArray) -> FloatArray:
        """Cells filled and clamped to [low, high]; whole for every kind but real. Always finite."""
        filled = np.where(np.isfinite(raw), raw, self.fill)
        if self.kind != "real":
            filled = np.rint(filled)
        return np.asarray(np.clip(filled, self.low, self.high), dtype=np.float64)

    def scaled(self, raw: FloatArray) -> npt.NDArray[np.float32]:
        """The inputs [N, len(input_names)] of a model: numbers in [-1, 1], booleans, categories, indicators 0 or 1."""
        values = self.natural(raw)
        if self.kind == "category" and len(self.categories) > 2:
            inputs = values[:, None] == np.arange(len(self.categories))
        elif self.labels:
            inputs = values[:, None]
        else:
            inputs = np.clip((values[:, None] - self.low) / (self.high - self.low) * 2 - 1, -1, 1)
        if self.indicator:
            inputs = np.concatenate([inputs, ~np.isfinite(raw)[:, None]], axis=1)
        return np.asarray(inputs, dtype=np.float32)

    def cells(self, bins: int) -> tuple[tuple[str, ...], FloatArray | None]:
        """Public cells of a histogram: their labels and, for numeric kinds, their len(labels) + 1 edges.

        Numeric columns are cut into `bins` of equal width, the last one closed; an integer or date with at most `bins`
        possible values gets one cell per value.
        """
        if self.labels:
            return self.labels, None
        if self.kind != "real" and self.high - self.low + 1 <= bins:
            edges = np.arange(self.low, self.high + 2) - 0.5
            return tuple(self.written(value) for value in np.arange(self.low, self.high + 1)), edges
        edges = np.linspace(self.low, self.high, bins + 1)
        ends = [self.written(edge) for edge in edges]
        closing = [")"] * (bins - 1) + ["]"]
        return tuple(f"[{a}, {b}{end}" for a, b, end in zip(ends, ends[1:], closing, strict=False)), edges

    def cell_index(self, raw: FloatArray, bins: int) -> IntArray:
        """Index of each row's cell [N] in `cells(bins)`."""
        values = self.natural(raw)
        _, edges = self.cells(bins)
        cells = values if edges is None else np.searchsorted(edges[1:-1], values, side="right")
        return cells.astype(np.int64)

    def written(self, value: float) -> str:
        """A value in matrix units as people write it: a label, a date, a number."""
        if self.labels:
            return self.labels[int(value)]
        if self.kind == "date":
            return (datetime.date.fromisoformat(self.origin) + datetime.timedelta(days=int(value))).isoformat()
        return f"{int(value)}" if float(value).is_integer() else f"{value:.6g}"


def is_number(value: Any) -> bool:
    """Whether `value` is a finite float or an int that a float holds, and not a bool."""
    if isinstance(value, int) and abs(value) > LARGEST_BOUND:
        return False  # beyond what a float holds, `math.isfinite` itself raises
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_choice(what: str, value: object, known: tuple[str, ...]) -> None:
    """Raise `DataRefused` unless `value` is one of `known`."""
    if value not in known:
        raise DataRefused(f"{what}={value!r} is not known. Use one of {', '.join(known)}.")


def check_name(what: str, name: object) -> None:
    """Raise `DataRefused` unless `name` is like an identifier, so that it is safe in pages, queries and file names."""
    if (
        not isinstance(name, str)
        or len(name) > LARGEST_NAME
        or not re.sub(r"(?<=\S)[ .-](?=\S)", "_", name).isidentifier()
        or unicodedata.normalize("NFKC", name) != name
    ):
        shown = name[:LARGEST_NAME] if isinstance(name, str) else name
        raise DataRefused(
            f"{shown!r} cannot name a {what}. Use letters, digits, '_', '.', '-' and inner spaces, beginning with a "
            f"letter, at most {LARGEST_NAME} characters."
        )


def check_text(what: str, text: object, *, most: int, empty: bool = True, lines: bool = False) -> None:
    """Raise `DataRefused` unless `text` is short and printable, without what markup or escapes are made of."""
    if not isinstance(text, str) or len(text) > most or (not text and not empty):
        raise DataRefused(f"{what} should be text of {0 if empty else 1} to {most} characters.")
    printable = text.replace("\n", " ") if lines else text
    if not printable.isprintable() or set(text) & set('<>"`\\'):
        raise DataRefused(f'{what} {text[:40]!r} has one of < > " ` \\ or an invisible character. Write it without.')
