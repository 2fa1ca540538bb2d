"""The inputs of a regression: a row of bounded numbers for each record, and what its coefficients mean in real units.

Each term is a product of factors (`policies.schema.terms`), each factor a number in [-1, 1] or a few numbers whose
squares add up to at most 1 (one-hot labels and bands, splines, a point on a circle). So the numbers of a term, products
of these, have a norm of at most 1, and a row with its intercept one of at most √(1 + terms), whatever stands in it.

Where a factor's numbers add up to a constant (the labels of a category) its first one is left out as the reference. A
product is taken only with all of its parts as terms of their own, so that which one is the reference changes no fit;
and so what is known of scaled numbers can be said of the units in which the columns are declared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from policies.errors import UnsupportedMechanism
from policies.privacy.regression import Regression
from policies.schema.columns import Column, FloatArray
from policies.schema.filters import compiled
from policies.schema.schemas import FIRST_COLUMN, Schema
from policies.schema.terms import Factor, Term, parse
from policies.schema.transformations import fitted

MOST_INPUTS = 100
INTERCEPT = "intercept"

ONE_HOT = ("bands", "month", "weekday", "spline")  # functions whose numbers add up to 1: the first is the reference


Place = tuple[frozenset[Factor], tuple[tuple[str, str], ...]]
"""Which input of a design: the factors of its term, and of each factor, by its text, which of its numbers."""


@dataclass(frozen=True)
class Scale:
    """How a factor's scaled number comes from its real one: (real - middle) / half."""

    middle: float = 0.0
    half: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """A regression's outcome: y in public bounds, scaled where it is a number to be predicted.

    Args:
      low, high: in the column's own units, between which it is held.
    """

    column: Column
    family: str
    low: float
    high: float

    @property
    def scale(self) -> Scale:
        """From real to the numbers that the engine sees: in [-1, 1] for a linear regression, as they are else."""
        if self.family == "gaussian":
            return Scale((self.low + self.high) / 2, (self.high - self.low) / 2)
        return Scale()

    def values(self, raw: FloatArray) -> FloatArray:
        """The outcome of each record, [N], inside its bounds whatever stands in a cell."""
        scale = self.scale
        return np.asarray((np.clip(self.column.natural(raw), self.low, self.high) - scale.middle) / scale.half)


@dataclass(frozen=True)
class Design:
    """Terms on a schema.

    Args:
      terms: parsed, in order.
      names: of the inputs, the intercept first.
      columns: that terms and outcome read.
    """

    terms: tuple[Term, ...]
    names: tuple[str, ...]
    columns: tuple[str, ...]
    outcome: Outcome
    _schema: Schema
    _to_units: tuple[tuple[float, ...], ...]

    @property
    def norm(self) -> float:
        """The largest L2 norm that a row of inputs has."""
        return math.sqrt(1 + len(self.terms))

    @property
    def to_units(self) -> FloatArray:
        """What takes coefficients of scaled inputs to those of real ones, [inputs, inputs]."""
        return np.array(self._to_units)

    def inputs(self, records: FloatArray) -> FloatArray:
        """A row of inputs for each record, [N, len(names)], each number in [-1, 1]."""
        columns, raw = _columns(self._schema), self._raw(records)
        blocks = [np.ones((len(records), 1))]
        for term in self.terms:
            made = None
            for factor in term.factors:
                numbers = fitted(Term((factor,)), columns).values(raw)
                numbers = numbers[:, 1:] if _has_reference(factor, columns[factor.column]) else numbers
                made = numbers if made is None else (made[:, :, None] * numbers[:, None, :]).reshape(len(numbers), -1)
            assert made is not None
            blocks.append(made)
        return np.concatenate(blocks, axis=1)

    def outcomes(self, records: FloatArray) -> FloatArray:
        """The outcome of each record, [N]."""
        return self.outcome.values(self._raw(records)[self.outcome.column.name])

    def _raw(self, records: FloatArray) -> dict[str, FloatArray]:
        names = [column.name for column in self._schema.columns]
        return {name: records[:, FIRST_COLUMN + names.index(name)] for name in self.columns}


@lru_cache(maxsize=64)
def design_of(mechanism: Regression, schema: Schema) -> Design:
    """The design of a regression.

    Raises:
      UnsupportedMechanism: a term cannot be read or is not of this schema, a product's part is no term, or the outcome
        does not fit the family; names what may be written.
    """
    columns = _columns(schema)
    if mechanism.where:
        compiled(mechanism.where, schema)
    outcome = _outcome(mechanism, schema)
    terms = tuple(parse(text) for text in mechanism.terms)
    known = {frozenset(term.factors) for term in terms} | {frozenset[Factor]()}
    if len(known) != len(terms) + 1:
        raise UnsupportedMechanism("Two terms say the same. Write each once.")
    for term in terms:
        if outcome.column.name in term.columns:
            raise UnsupportedMechanism(f"The term {term} reads the outcome. Leave it out.")
        for size in range(1, len(term.factors)):
            for part in itertools.combinations(term.factors, size):
                if frozenset(part) not in known:
                    raise UnsupportedMechanism(
                        f"The term {term} needs {Term(part)} as a term of its own: else what its coefficients mean"
                        " depends on how columns are scaled. Add it."
                    )
    names = [INTERCEPT]
    labels: dict[Place, int] = {(frozenset[Factor](), ()): 0}
    scales: dict[Factor, Scale] = {}
    for term in terms:
        levels = [_levels(factor, columns) for factor in term.factors]
        scales.update({factor: scale_of(factor, columns[factor.column]) for factor in term.factors})
        for chosen in itertools.product(*levels):
            place = frozenset(term.factors), tuple(sorted(zip(map(str, term.factors), chosen, strict=True)))
            labels[place] = len(names)
            names.append(" × ".join(chosen))
    if len(names) > MOST_INPUTS:
        raise UnsupportedMechanism(f"The terms give {len(names)} coefficients, above {MOST_INPUTS}. Use fewer.")
    read = dict.fromkeys(name for term in terms for name in term.columns)
    to_units = _unscaling(len(names), labels, scales)
    return Design(
        terms, tuple(names), (*read, outcome.column.name), outcome, schema, tuple(map(tuple, to_units.tolist()))
    )


def sum_shapes(mechanism: Regression, schema: Schema) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a regression's release; what they are is said in the datasite's engine."""
    size = len(design_of(mechanism, schema).names)
    return {
        "start": (size,),
        "turn": (size, size),
        "score": (size,),
        "information": (size, size),
        "squares": (1,),
        "patients": (1,),
        "noise": (3,),
    }


def scale_of(factor: Factor, column: Column) -> Scale:
    """How a factor's number was scaled; numbers that have no unit of their own are left as they are."""
    if column.labels or factor.function not in ("", "clip", "log", "sqrt"):
        return Scale()
    low, high = column.low, column.high
    if factor.function == "clip":
        low, high = (float(constant) for constant in factor.constants if isinstance(constant, float))
    elif factor.function == "log":
        added = next((float(constant) for constant in factor.constants if isinstance(constant, float)), 0.0)
        low, high = math.log(low + added), math.log(high + added)
    elif factor.function == "sqrt":
        low, high = math.sqrt(low), math.sqrt(high)
    return Scale((low + high) / 2, (high - low) / 2)


def _unscaling(
    size: int,
    labels: Mapping[Place, int],
    scales: Mapping[Factor, Scale],
) -> FloatArray:
    """Each scaled input as a sum of real ones: Π (real - middle) / half, multiplied out over its numeric factors."""
    spread = np.zeros((size, size))
    for (factors, chosen), place in labels.items():
        numeric = [factor for factor in factors if scales[factor] != Scale()]
        for count in range(len(numeric) + 1):
            for kept in itertools.combinations(numeric, count):
                left_out = [factor for factor in numeric if factor not in kept]
                weight = math.prod(1 / scales[factor].half for factor in kept) * math.prod(
                    -scales[factor].middle / scales[factor].half for factor in left_out
                )
                gone = {str(factor) for factor in left_out}
                part = factors - frozenset(left_out), tuple(level for level in chosen if level[0] not in gone)
                spread[labels[part], place] += weight
    return spread


def _columns(schema: Schema) -> dict[str, Column]:
    return {column.name: column for column in schema.columns}


def _has_reference(factor: Factor, column: Column) -> bool:
    return factor.function in ONE_HOT or (not factor.function and len(column.categories) > 2)


def _levels(factor: Factor, columns: Mapping[str, Column]) -> tuple[str, ...]:
    names = fitted(Term((factor,)), columns).names
    return names[1:] if _has_reference(factor, columns[factor.column]) else names


def _outcome(mechanism: Regression, schema: Schema) -> Outcome:
    column, family = schema.column(mechanism.outcome), mechanism.family
    low, high = column.low, column.high
    fits = {
        "gaussian": column.kind in ("real", "integer"),
        "binomial": len(column.labels) == 2,
        "poisson": column.kind == "integer" and low >= 0,
    }
    if not fits[family]:
        wanted = {
            "gaussian": "a real or integer column",
            "binomial": "a boolean, or a category of two labels of which the second counts as 1",
            "poisson": "an integer column of counts, with minimum = 0 or more",
        }
        raise UnsupportedMechanism(
            f"outcome={column.name!r} is {column.kind} from {column.written(low)}; {family} takes {wanted[family]}."
        )
    if mechanism.outcome_range is not None:
        least, most = mechanism.outcome_range
        if not low <= least < most <= high:
            raise UnsupportedMechanism(
                f"outcome_range={mechanism.outcome_range} is not within {column.written(low)} to"
                f" {column.written(high)}, the bounds of {column.name!r}."
            )
        low, high = least, most
    return Outcome(column, family, low, high)
