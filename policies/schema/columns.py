"""One declared column: its kind, its public bounds, and what its private cells become.

A cell of the private matrix is a float64 in the column's *matrix units*: real and integer columns as they are, a
boolean as 0 or 1, a category as its index, a date as days since its declared minimum; NaN is a missing cell. Whatever
stands in a cell, NaN, infinity or a value outside the bounds, every array made here is finite and inside public bounds.
A time is units of a clock (days, hours, minutes or seconds, as the column says) since its declared minimum.
Nothing here depends on more than one row at a time.
"""

from __future__ import annotations

import datetime
import math
import re
import unicodedata
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.errors import DataRefused
from policies.schema.as_written import (
    UNITS,
    check_header,
    check_shown,
    check_words,
    check_zone,
    format_pattern,
    named,
)

KINDS = ("real", "integer", "boolean", "category", "date", "datetime")
TIMES = ("date", "datetime")
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
      outside: `"refuse"` or, but for booleans and categories, `"clamp"`: what publishing does outside the bounds.
      feature: whether it is among a model's `"features"`.
      origin: a date column's minimum as `YYYY-MM-DD`, day 0 of its matrix units; a time's as `YYYY-MM-DDTHH:MM:SS`.
      header: the table's, where it is not the name; any that can be seen.
      missing_values: texts that stand for a missing cell, in place of the schema's own; None for the schema's.
      label_map: for booleans and categories: texts of the table, each with the label that it means.
      truncate: for times, the unit that they are truncated to: one of `UNITS`.
      zone: for times, the time zone whose clock they are on, as `"Europe/Berlin"`: a cell with another offset is
        converted, one without is on that clock already. Without a zone, a cell with an offset is refused.
      format: for dates and times, how the table writes them, as `"%d.%m.%Y"`; empty for ISO 8601.

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
    header: str = ""
    missing_values: tuple[str, ...] | None = None
    label_map: tuple[tuple[str, str], ...] = ()
    truncate: str = ""
    zone: str = ""
    format: str = ""

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
        self._check_times(where)
        if self.kind in ("boolean", "category"):
            self._check_labels(where)
        else:
            self._check_bounds(where)
        self._check_missing(where)
        self._check_as_written(where)

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
        if self.kind in TIMES:
            self._check_origin(where)

    def _check_times(self, where: str) -> None:
        """Refuse what is for dates and times alone at another kind, and a time without its unit."""
        if self.kind == "datetime":
            check_choice(f"{where}: truncate", self.truncate, tuple(UNITS))
            check_zone(where, self.zone)
        for name in ("truncate", "zone"):
            if self.kind != "datetime" and getattr(self, name):
                raise DataRefused(f"{where}: {name} is for kind='datetime', not {self.kind!r}. Leave it out.")
        for name in ("origin", "format"):
            if self.kind not in TIMES and getattr(self, name):
                raise DataRefused(f"{where}: {name} is for dates alone. Leave it out.")
        if self.format:
            pattern = format_pattern(f"{where}: format", self.format)
            if self.kind == "date" and "?P<H>" in pattern:
                raise DataRefused(
                    f"{where}: format={self.format!r} has a time, and the kind is 'date'. Write kind = 'datetime' and"
                    " truncate = 'day'."
                )

    def _check_origin(self, where: str) -> None:
        shown = "2020-01-31" if self.kind == "date" else "2020-01-31T12:00:00"
        try:
            if self.written_time(0) != self.origin:
                raise ValueError
            self.written_time(self.high)
        except (ValueError, TypeError, OverflowError):
            raise DataRefused(
                f"{where}: origin={self.origin!r} is not a {self.kind} as {shown} within its bounds."
            ) from None
        if self.minimum != 0:
            unit = "days" if self.kind == "date" else f"{self.truncate}s"
            raise DataRefused(
                f"{where}: a {self.kind} counts {unit} from its origin, so minimum={self.minimum} should be 0."
            )

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

    def _check_as_written(self, where: str) -> None:
        check_header(f"{where}: header", self.header)
        if self.missing_values is not None:
            check_words(f"{where}: missing_values", self.missing_values)
        if self.label_map and not self.labels:
            raise DataRefused(
                f"{where}: labels are for booleans and categories, not kind={self.kind!r}. Leave them out."
            )
        if not isinstance(self.label_map, tuple) or len(self.label_map) > MOST_CATEGORIES:
            raise DataRefused(f"{where}: labels should be a table of at most {MOST_CATEGORIES} texts.")
        check_words(f"{where}: labels", tuple(text for text, _ in self.label_map), most=MOST_CATEGORIES)
        for text, label in self.label_map:
            if label not in self.labels:
                raise DataRefused(
                    f"{where}: labels says that {text!r} means {label!r}, which is not one of {', '.join(self.labels)}."
                    " List it among the categories, or write one that is."
                )
            if text in self.labels and text != label:
                raise DataRefused(f"{where}: labels says that {text!r} means {label!r}, and it is a category itself.")
        for word in self.missing_values or ():
            if word in self.categories or word in dict(self.label_map):
                raise DataRefused(f"{where}: {word!r} is a label and stands for a missing cell. Take it out of one.")

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what came later is left out where it is as usual, so that older schemas stay."""
        fields = {**asdict(self), "categories": list(self.categories)}
        for name in ("header", "missing_values", "label_map", "truncate", "zone", "format"):
            if fields[name] in ("", None, ()):
                del fields[name]
        if self.missing_values is not None:
            fields["missing_values"] = list(self.missing_values)
        if self.label_map:
            fields["label_map"] = dict(self.label_map)
        return fields

    @property
    def meaning(self) -> dict[str, Any]:
        """What its numbers are, as plain data: columns that agree in this can be counted and added up together."""
        return {
            "name": self.name,
            "kind": self.kind,
            "unit": self.unit,
            "bounds": [self.low, self.high],
            "labels": list(self.labels),
            "may be missing": self.missing != "refuse",
            "time": [self.truncate or "", self.zone or "", self.origin or ""],
        }

    @property
    def unit_seconds(self) -> int:
        """Seconds in one matrix unit of a date or time."""
        return UNITS[self.truncate or "day"]

    @property
    def counted_in(self) -> str:
        """What the numbers of a date or time count, as `"hours"`."""
        return f"{self.truncate or 'day'}s"

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
        if self.kind in TIMES:
            text = self.written_time(value).replace("T", " ")
            return text if self.truncate in ("", "second") else text[: 10 if self.truncate == "day" else 16]
        return f"{int(value)}" if float(value).is_integer() else f"{value:.6g}"

    def written_time(self, value: float) -> str:
        """A date, or a time to the second, in matrix units, in ISO 8601."""
        if self.kind == "date":
            return (datetime.date.fromisoformat(self.origin) + datetime.timedelta(days=int(value))).isoformat()
        origin = datetime.datetime.fromisoformat(self.origin)
        seconds = int((origin - datetime.datetime(1970, 1, 1)).total_seconds()) + int(value) * self.unit_seconds
        if seconds % self.unit_seconds:
            raise ValueError
        return (datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)).isoformat(timespec="seconds")


def time_in(column: Column, text: str) -> float:
    """A date or a time, as text, in a column's matrix units: `2025-10-01`, `2025-10-01 14:00`, `2025-10-01T14:00`.

    Raises `ValueError` where it is none, has an offset, or falls between two of the column's units.
    """
    if column.kind == "date":
        return float((datetime.date.fromisoformat(text) - datetime.date.fromisoformat(column.origin)).days)
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        raise ValueError
    seconds = (moment - datetime.datetime.fromisoformat(column.origin)) / datetime.timedelta(seconds=1)
    if seconds % column.unit_seconds:
        raise ValueError
    return float(seconds // column.unit_seconds)


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
            f"{shown!r} cannot name a {what}{_first_unsafe(name)}. Use letters, digits, '_', '.', '-' and inner spaces,"
            f" beginning with a letter, at most {LARGEST_NAME} characters."
        )


def _first_unsafe(name: object) -> str:
    """Which character of a name is none for names, as a message goes on to say it; empty where it is not that."""
    for character in name if isinstance(name, str) else "":
        if not (character in " .-" or f"a{character}".isidentifier()):
            return f": it has {named(character)}"
    return ""


def check_text(what: str, text: object, *, most: int, empty: bool = True, lines: bool = False) -> None:
    """Raise `DataRefused` unless `text` is short and printable, without what markup or escapes are made of."""
    if not isinstance(text, str) or len(text) > most or (not text and not empty):
        raise DataRefused(f"{what} should be text of {0 if empty else 1} to {most} characters.")
    check_shown(what, text.replace("\n", " ") if lines else text, most=most)
    for character in text:
        if character in '<>"`\\':
            raise DataRefused(f'{what} {text[:40]!r} has {named(character)}. Write it without < > " ` and \\.')
