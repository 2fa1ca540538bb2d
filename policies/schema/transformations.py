"""What the functions of `policies.schema.terms` compute: numbers in [-1, 1] of one row, from public constants.

A term is fitted to the declared columns once; from then on it is arithmetic on one row at a time. Every number that
it makes is finite and in [-1, 1] whatever stands in the matrix, and which instructions run depends on no value: the
logarithm and the circle are polynomials of our own, a band is comparisons. Nothing is taken from the data: knots, cuts
and ranges are written in the term or follow from the declared bounds.

A missing cell is read as the declared constant. Where the column declares an indicator, a term that reads it brings
the indicator along, once among all inputs of a model; `missing(column)` names it where the column declares none.
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.errors import UnsupportedMechanism
from policies.schema.columns import Column, FloatArray
from policies.schema.terms import Constant, Factor, Term

MOST_OUTPUTS = 1000  # of one term
MOST_LISTED = 20  # of names in a message
MOST_SPLINES = 30
FEWEST_SPLINES = 3
MONTHS = tuple("January February March April May June July August September October November December".split())
WEEKDAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
DAYS_OF_A_YEAR = 365.2425
_TO_1970 = datetime.date(1970, 1, 1).toordinal()

Made = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Fitted:
    """A term, or a column, as inputs of a model.

    Args:
      names: of what it gives, in order, without indicators.
      columns: that it reads.
      factors: what makes each factor's numbers [N, k] from a column's raw cells.
    """

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    factors: tuple[tuple[str, Made], ...]

    def values(self, raw: Mapping[str, FloatArray]) -> FloatArray:
        """Its numbers [N, len(names)], finite and in [-1, 1], from the raw cells of its columns."""
        made = None
        for column, make in self.factors:
            factor = make(raw[column])
            made = factor if made is None else (made[:, :, None] * factor[:, None, :]).reshape(len(factor), -1)
        assert made is not None
        return np.clip(made, -1.0, 1.0)  # the last digit of a division may be outside


def fitted(term: Term, columns: Mapping[str, Column]) -> Fitted:
    """A term on declared columns. Raises `UnsupportedMechanism`, naming value, bound and what may be written."""
    made = [_factor(factor, _column(factor.column, columns)) for factor in term.factors]
    outputs = math.prod(len(names) for names, _ in made)
    if outputs > MOST_OUTPUTS:
        raise UnsupportedMechanism(
            f"{term} gives {outputs} inputs, above {MOST_OUTPUTS}. Use fewer bands, or among(...) for some categories."
        )
    names: tuple[str, ...] = ("",)
    for factor_names, _ in made:
        names = tuple(f"{left} * {right}" if left else right for left in names for right in factor_names)
    return Fitted(
        names=names,
        columns=tuple(columns[name] for name in term.columns),
        factors=tuple((factor.column, make) for factor, (_, make) in zip(term.factors, made, strict=True)),
    )


def indicator_name(column: Column) -> str:
    """The name of the input that is 1 where a cell of `column` is missing."""
    return f"{column.name} missing"


def is_missing(raw: FloatArray) -> FloatArray:
    """1 where a cell is missing, else 0, [N, 1]."""
    return np.asarray(~np.isfinite(raw)[:, None], dtype=np.float64)


def _column(name: str, columns: Mapping[str, Column]) -> Column:
    column = columns.get(name)
    if column is None:
        raise UnsupportedMechanism(
            f"{name!r} is not a column that inputs are made of: the target, the patient and held_out are none. "
            f"Use {', '.join(list(columns)[:MOST_LISTED])}{', ...' if len(columns) > MOST_LISTED else ''}."
        )
    return column


def _factor(factor: Factor, column: Column) -> tuple[tuple[str, ...], Made]:
    if not factor.function:
        width = len(column.input_names) - column.indicator
        return column.input_names[:width], lambda raw: column.scaled(raw)[:, :width].astype(np.float64)
    function = FUNCTIONS[factor.function]
    if column.kind not in function.kinds:
        raise UnsupportedMechanism(
            f"{factor} is of a column of kind {' or '.join(function.kinds)}, and {column.name!r} is {column.kind}. "
            f"Write it as {function.usage}."
        )
    names, make = function.fit(_Asked(factor, column, function.usage))
    if factor.function == "missing":
        return names, make
    return names, lambda raw: make(column.natural(raw))


class _Asked:
    """A function's column and constants, with the messages that refuse them."""

    def __init__(self, factor: Factor, column: Column, usage: str) -> None:
        self.text, self.column, self.constants, self._usage = str(factor), column, factor.constants, usage

    def refused(self, why: str) -> UnsupportedMechanism:
        return UnsupportedMechanism(f"{self.text}: {why}. Write it as {self._usage}.")

    def scale(self, values: FloatArray, low: float, high: float) -> FloatArray:
        return np.asarray((np.clip(values, low, high) - low) / (high - low) * 2 - 1, dtype=np.float64)

    def none(self) -> None:
        if self.constants:
            raise self.refused(f"it takes no constants, and has {len(self.constants)}")

    def points(self, least: int, most: int) -> list[float]:
        """So many constants in matrix units, each inside the declared bounds and above the one before."""
        column, points = self.column, [self._point(constant) for constant in self.constants]
        if not least <= len(points) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise self.refused(f"it takes {wanted} points of {column.name!r}, and has {len(points)}")
        for constant, point in zip(self.constants, points, strict=True):
            if not column.low <= point <= column.high:
                bounds = f"[{column.written(column.low)}, {column.written(column.high)}]"
                raise self.refused(f"{_plain(constant)} is outside the declared bounds {bounds}")
        if any(later <= earlier for earlier, later in itertools.pairwise(points)):
            raise self.refused("its points do not ascend")
        return points

    def _point(self, constant: Constant) -> float:
        kind = self.column.kind
        if kind == "date":
            if not isinstance(constant, datetime.date):
                raise self.refused(f"{_plain(constant)} is not a date as 2026-01-31")
            return float((constant - datetime.date.fromisoformat(self.column.origin)).days)
        if not isinstance(constant, float):
            raise self.refused(f"{_plain(constant)} is not a number")
        if kind == "integer" and not constant.is_integer():
            raise self.refused(f"{_plain(constant)} is not whole, and {self.column.name!r} is an integer")
        return constant

    def number(self, usual: float | None = None) -> float:
        """The only constant, a number; `usual` where there is none."""
        if not self.constants and usual is not None:
            return usual
        if len(self.constants) != 1 or not isinstance(self.constants[0], float):
            raise self.refused("it takes one number")
        return self.constants[0]


Fit = Callable[[_Asked], tuple[tuple[str, ...], Made]]


def _bands(asked: _Asked) -> tuple[tuple[str, ...], Made]:
    """One-hot: a value equal to a cut is in the band above it."""
    cuts, column = asked.points(1, 50), asked.column
    if cuts[0] <= column.low:
        raise asked.refused(f"nothing is below {column.written(cuts[0])}, the declared minimum. Leave that cut out")
    # Whole values are written to the last one in a band, as 18 to 39; real ones to the cut that is not in it.
    inside = "to below" if column.kind == "real" else "to"
    last = [column.written(cut if column.kind == "real" else cut - 1) for cut in cuts]
    name, first = column.name, [column.written(cut) for cut in cuts]
    middle = [f"{name} {low} {inside} {high}" for low, high in zip(first, last[1:], strict=False)]
    edges = np.array([-np.inf, *cuts, np.inf])

    def make(values: FloatArray) -> FloatArray:
        reached = values[:, None] >= edges
        return (reached[:, :-1] & ~reached[:, 1:]).astype(np.float64)

    return (f"{name} below {first[0]}", *middle, f"{name} {first[-1]} or more"), make


def _above(asked: _Asked) -> tuple[tuple[str, ...], Made]:
    (point,), column = asked.points(1, 1), asked.column
    if point <= column.low:
        raise asked.refused(f"everything is {column.written(point)} or more, the declared minimum")
    return (f"{column.name} {column.written(point)} or more",), lambda values: _wide(values >= point)


def _among(asked: _Asked) -> tuple[tuple[str, ...], Made]:
    column = asked.column
    for label in asked.constants:
        if label not in column.labels:
            known = ", ".join(column.labels[:MOST_LISTED])
            raise asked.refused(f"{_plain(label)} is not a category of {column.name!r}, which has {known}")
    if not asked.constants or len(set(asked.constants)) != len(asked.constants):
        raise asked.refused("it takes categories, each once")
    codes = [column.labels.index(str(label)) for label in asked.constants]

    def make(values: FloatArray) -> FloatArray:
        return _wide((values[:, None] == np.array(codes, dtype=np.float64)).any(axis=1))

    return (f"{column.name} among {', '.join(map(str, asked.constants))}",), make


def _clip(asked: _Asked) -> tuple[tuple[str, ...], Made]:
    low, high = asked.points(2, 2)
    return (asked.text,), lambda values: _wide(asked.scale(values, low, high))


def _power(exponent: int) -> Fit:
    def fit(asked: _Asked) -> tuple[tuple[str, ...], Made]:
        asked.none()
        column = asked.column
        return (asked.text,), lambda values: _wide(_raised(asked.scale(values, column.low, column.high), exponent))

    return fit


def _raised(values: FloatArray, exponent: int) -> FloatArray:
    """A power by multiplication: a library's takes longer on some values than on others."""
    product = values
    for _ in range(exponent - 1):
        product = product * values
    return product


def _sqrt(asked: _Asked) -> tuple[tuple[str, ...], Made]:
    asked.none()
    column = asked.column
    if column.low < 0:
        raise asked.refused(f"{column.name!r} may be {column.written(column.low)}, below 0")
    low, high = math.sqrt(column.low), math.sqrt(column.high)
    return (asked.text,), lambda values: _wide(asked.scale(np.sqrt(values), low, high))


def _log(asked: _Asked) -> tuple[tuple[str, ...], Made]:
    column, added = asked.column, asked.number(0.0)
    if column.low + added <= 0:
        raise asked.refused(
            f"{column.name!r} may be {column.written(column.low)}, and of 0 and below there is no logarithm. "
            "Add a constant that lifts it above 0"
        )
    low, high = (float(logarithm(np.array([bound + added]))[0]) for bound in (column.low, column.high))
    if not low < high:
        raise asked.refused(f"{_plain(added)} is so large that all values become one. Add a smaller constant")
    return (asked.text,), lambda values: _wide(asked.scale(logarithm(values + added), low, high))


def _spline(asked: _Asked) -> tuple[tuple[str, ...], Made]:
    """B-splines on even knots between the declared bounds: at most cubic, in [0, 1], adding up to 1 (de Boor 1978)."""
    count = asked.number()
    if not count.is_integer() or not FEWEST_SPLINES <= count <= MOST_SPLINES:
        raise asked.refused(f"{_plain(count)} is not a whole number in [{FEWEST_SPLINES}, {MOST_SPLINES}]")
    size, column = int(count), asked.column
    degree = min(3, size - 1)
    knots = np.concatenate([np.zeros(degree), np.linspace(0, 1, size - degree + 1), np.ones(degree)])

    def make(values: FloatArray) -> FloatArray:
        place = (asked.scale(values, column.low, column.high)[:, None] + 1) / 2
        reached = place >= knots
        reached[:, size:] = False  # the last piece has its upper end
        basis = (reached[:, :-1] & ~reached[:, 1:]).astype(np.float64)
        for order in range(1, degree + 1):
            ends = size + degree - order
            rising = _share(place, knots[:ends], knots[order : order + ends])
            falling = 1 - _share(place, knots[1 : ends + 1], knots[order + 1 : order + 1 + ends])
            basis = basis[:, :-1] * rising + basis[:, 1:] * falling
        return np.asarray(basis, dtype=np.float64)

    return tuple(f"{column.name} spline {number} of {size}" for number in range(1, size + 1)), make


def _share(place: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """How far between two knots a place is; where both are one, its basis function is zero and so is this."""
    width = high - low
    return np.asarray(np.where(width > 0, (place - low) / np.where(width > 0, width, 1.0), 0.0), dtype=np.float64)


def _missing(asked: _Asked) -> tuple[tuple[str, ...], Made]:
    asked.none()
    if isinstance(asked.column.missing, str):
        raise asked.refused(f"no cell of {asked.column.name!r} is missing: publishing refuses such tables")
    return (indicator_name(asked.column),), is_missing


def _month(asked: _Asked) -> tuple[tuple[str, ...], Made]:
    """One-hot over the months that lie within the declared bounds."""
    asked.none()
    column, first = asked.column, _day_number(asked.column)
    days = first + np.arange(min(int(column.high), 366) + 1, dtype=np.float64)  # a year and a day have every month
    numbers = np.unique(months(days))

    def make(values: FloatArray) -> FloatArray:
        return np.asarray(months(values + first)[:, None] == numbers, dtype=np.float64)

    return tuple(f"{column.name} in {MONTHS[int(number) - 1]}" for number in numbers), make


def _weekday(asked: _Asked) -> tuple[tuple[str, ...], Made]:
    asked.none()
    first = _day_number(asked.column) + 3  # 1970-01-01 was a Thursday
    names = tuple(f"{asked.column.name} on {weekday}" for weekday in WEEKDAYS)
    return names, lambda values: (_remainder(values + first, 7)[:, None] == np.arange(7.0)).astype(np.float64)


def _yearly(asked: _Asked) -> tuple[tuple[str, ...], Made]:
    """Cosine and sine of the place in the year, so that December is beside January."""
    asked.none()
    first = _day_number(asked.column)

    def make(values: FloatArray) -> FloatArray:
        turns = (values + first) / DAYS_OF_A_YEAR
        return np.stack([circle(turns + 0.25), circle(turns)], axis=1)

    return (f"{asked.column.name} yearly cosine", f"{asked.column.name} yearly sine"), make


NUMBERS = ("real", "integer")
ORDERED = (*NUMBERS, "date")


@dataclass(frozen=True)
class Function:
    """What may stand before a bracket in a term: of which kinds of columns, how it is written, what it gives."""

    kinds: tuple[str, ...]
    usage: str
    gives: str
    fit: Fit


FUNCTIONS: Mapping[str, Function] = {
    "above": Function(ORDERED, "above(age, 65)", "1 where the value is 65 or more, else 0", _above),
    "among": Function(
        ("category",), "among(ward, 'general', 'intensive')", "1 where the category is one of these, else 0", _among
    ),
    "bands": Function(
        ORDERED,
        "bands(age, 18, 40, 65)",
        "a 1 in the band of the value, 0 in the others; a value equal to a cut is above it",
        _bands,
    ),
    "clip": Function(
        ORDERED, "clip(temperature, 35, 41)", "the value held between two, which are scaled to -1 and 1", _clip
    ),
    "cube": Function(NUMBERS, "cube(age)", "the third power of the value scaled to [-1, 1]", _power(3)),
    "log": Function(
        NUMBERS,
        "log(crp, 1)",
        "the logarithm of the value plus a constant (0 if left out), that of the bounds scaled to -1 and 1",
        _log,
    ),
    "missing": Function(
        (*ORDERED, "boolean", "category"), "missing(crp)", "1 where the cell is missing, else 0", _missing
    ),
    "month": Function(("date",), "month(admitted)", "a 1 in the month, of those within the bounds", _month),
    "spline": Function(
        ORDERED,
        "spline(age, 5)",
        f"so many cubic B-splines ({FEWEST_SPLINES} to {MOST_SPLINES}) on even knots between the bounds, in [0, 1]",
        _spline,
    ),
    "sqrt": Function(NUMBERS, "sqrt(stay)", "the square root, that of the bounds scaled to -1 and 1", _sqrt),
    "square": Function(NUMBERS, "square(age)", "the square of the value scaled to [-1, 1]", _power(2)),
    "weekday": Function(("date",), "weekday(admitted)", "a 1 in the day of the week, from Monday on", _weekday),
    "yearly": Function(("date",), "yearly(admitted)", "cosine and sine of the place in the year", _yearly),
}


def logarithm(values: FloatArray) -> FloatArray:
    """Natural logarithm of positive finite numbers, to 1e-13, by the same instructions for all.

    A number is m · 2^e with m in [√½, √2), read from its bits; ln m = 2 artanh((m - 1) / (m + 1)), whose series has
    terms below 0.1716^21 from the eleventh on. Libraries take another way near 1.
    """
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
    exponent = (bits >> 52) - 1023
    mantissa = ((bits & ((1 << 52) - 1)) | (1023 << 52)).view(np.float64)
    large = mantissa > math.sqrt(2)
    mantissa = np.where(large, mantissa / 2, mantissa)
    ratio = (mantissa - 1) / (mantissa + 1)
    square, series = ratio * ratio, np.zeros_like(ratio)
    for odd in range(21, 0, -2):
        series = series * square + 1 / odd
    return np.asarray((exponent + large) * math.log(2) + 2 * ratio * series, dtype=np.float64)


def circle(turns: FloatArray) -> FloatArray:
    """Sine of so many whole turns, to 1e-12, by the same instructions for all: an odd polynomial on a quarter turn."""
    place = turns - np.rint(turns)  # in [-1/2, 1/2]
    place = np.where(np.abs(place) > 0.25, np.copysign(0.5, place) - place, place)
    angle = place * (2 * math.pi)
    square, series = angle * angle, np.zeros_like(angle)
    for odd in range(21, 0, -2):
        series = series * square + (-1) ** (odd // 2) / math.factorial(odd)
    return np.asarray(angle * series, dtype=np.float64)


def months(days: FloatArray) -> FloatArray:
    """Month, 1 to 12, of days since 1970-01-01, in the Gregorian calendar.

    The arithmetic of `civil_from_days` (Hinnant, "chrono-compatible low-level date algorithms"): a year begins in
    March, so that the leap day is its last, and 400 years have 146,097 days.
    """
    of_era = _remainder(days + 719_468, 146_097)
    years = np.floor((of_era - np.floor(of_era / 1460) + np.floor(of_era / 36_524) - np.floor(of_era / 146_096)) / 365)
    of_year = of_era - (365 * years + np.floor(years / 4) - np.floor(years / 100))
    since_march = np.floor((5 * of_year + 2) / 153)
    return np.asarray(_remainder(since_march + 2, 12) + 1, dtype=np.float64)


def _remainder(values: FloatArray, divisor: int) -> FloatArray:
    return np.asarray(values - divisor * np.floor(values / divisor), dtype=np.float64)


def _day_number(column: Column) -> float:
    """A date column's day 0 in days since 1970-01-01."""
    return float(datetime.date.fromisoformat(column.origin).toordinal() - _TO_1970)


def _wide(values: npt.NDArray[np.generic]) -> FloatArray:
    return np.asarray(values[:, None], dtype=np.float64)


def _plain(constant: Constant) -> str:
    if isinstance(constant, float):
        return f"{int(constant)}" if constant.is_integer() else f"{constant:g}"
    return repr(constant) if isinstance(constant, str) else constant.isoformat()
