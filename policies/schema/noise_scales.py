"""How much noise a statistic carries: pure arithmetic on public numbers, the same on both sides.

The datasite's engine adds the noise and `researcher.estimates` reads it back; the scales below are what the engine does
with a statistic's share of ε, held by tests against the engine itself. With k records per patient, each in [low, high],
half = (high - low) / 2 and ε the statistic's own share, adding or removing one patient moves

    count            by 1, since it counts patients: Laplace of scale 1/ε; by groups at most min(k, groups)
    sum              by k * max(|low|, |high|), in all groups together: Laplace of that over ε
    histogram,       by at most k over all cells together in L1: Laplace of scale k/ε in every cell
      crosstab,
      missing,
      describe
    mean             a centred sum by k * half and a count of records by k, at ε/2 each, and divides them
    variance         a centred sum by k * half, a centred sum of squares by k * half² / 2 and a count of records by k,
                     at ε/3 each, and combines them
    quantiles        on each of a tree's levels counts by k in L1, at ε/height each

Sampling error is not here: it is not noise, and `researcher.estimates` names it apart.
"""

from __future__ import annotations

import math

from policies.errors import UnsupportedMechanism
from policies.privacy.draws import TREE_BRANCHING, TREE_HEIGHT, epsilon_per_query
from policies.privacy.mechanisms import Query, Statistics
from policies.schema.columns import Column
from policies.schema.questions import CELLS, count_sensitivity
from policies.schema.schemas import Schema

# Laplace: sd = √2 scale, and |noise| stays below scale * ln 20 with a chance of 95 %.
LAPLACE_95 = math.log(20) / math.sqrt(2)

# Counts are answered in whole numbers. So much added to their scale makes that interval half a unit wider, which is
# what rounding may take from it: at ε = 1 it would else hold 92 % of the time.
ROUNDING = 0.5 / math.log(20)


def half_range(column: Column) -> float:
    """Half the width of a column's public bounds, in matrix units."""
    return (column.high - column.low) / 2


def laplace_scale(query: Query, mechanism: Statistics, schema: Schema) -> float:
    """Scale of the one Laplace draw in a count, a sum or each cell: L1 sensitivity over ε.

    Raises:
      UnsupportedMechanism: another statistic, whose noise is not one draw.
    """
    schema.check_query(query)
    epsilon, records = epsilon_per_query(mechanism), mechanism.records_per_patient
    if query.name == "count":
        return count_sensitivity(mechanism, schema) / epsilon
    if query.name in CELLS:
        return records / epsilon
    if query.name == "sum":
        column = schema.column(query.columns[0])
        return records * max(abs(column.low), abs(column.high)) / epsilon
    raise UnsupportedMechanism(f"The noise of {query.key} is not a single Laplace draw. Ask for its standard_error.")


def mean_error(column: Column, *, epsilon: float, records: int, patients: float, mean: float | None = None) -> float:
    """Standard error, from noise alone, of a mean at its own share `epsilon`; never above the column's range.

    The number of records is at least that of patients, so the size that is public bounds the error from above; where
    not all records count, `patients` is the number that was released with the mean. With the released `mean` the error
    is smaller: noise in the count weighs only the distance from the middle.
    """
    scaled = 1.0 if mean is None else _position(column, mean)
    # S/c with sd √2·k/(ε/2) on S (in halves of the range) and on c: ∂S = 1/c, ∂c = -mean/c.
    error = math.sqrt(2) * records / (epsilon / 2) * math.hypot(1, scaled) / max(patients, 1)
    return half_range(column) * min(error, 2.0)


def variance_error(
    column: Column,
    *,
    epsilon: float,
    records: int,
    patients: float,
    mean: float | None = None,
    variance: float | None = None,
) -> float:
    """Standard error, from noise alone, of a variance; never above half² (the largest variance that there is).

    With Q = Σ(x² - ½), S = Σx, c records and x in halves of the range from its middle, variance = Q/c + ½ - (S/c)².
    ∂Q = 1/c, ∂S = -2m/c, ∂c = (m² - v + ½)/c. Without a released mean and variance, the worst m = 1, v = 0 is taken.
    """
    half = half_range(column)
    m = 1.0 if mean is None else _position(column, mean)
    v = 0.0 if variance is None else min(max(variance / half**2, 0.0), 1.0)
    slope = math.sqrt(0.5**2 + (2 * m) ** 2 + (m * m - v + 0.5) ** 2)
    error = math.sqrt(2) * records / (epsilon / 3) * slope / max(patients, 1)
    return half**2 * min(error, 1.0)


def rank_error(*, epsilon: float, records: int, patients: float) -> float:
    """Standard error, from noise alone, of a quantile's *rank*, as a share in [0, 1]; never above one half.

    A quantile's error in natural units depends on how dense the values are, which nothing public says. On one level of
    the tree, `TREE_BRANCHING` counts of scale b = height * k / ε give a prefix at rank q an error with variance
    branching * q(1-q) * 2b², at most branching * b² / 2; all levels together have height times that. An upper value.
    """
    scale = TREE_HEIGHT * records / epsilon
    return min(scale * math.sqrt(TREE_HEIGHT * TREE_BRANCHING / 2) / max(patients, 1), 0.5)


def rank_shift(*, epsilon: float, records: int, patients: float) -> float:
    """How far, at most on average, a quantile's *rank* is shifted to one side, as a share; never above one.

    The tree takes noisy counts below 0 for 0, so that a node of nobody holds b/2 on average, with b the scale of
    `rank_error`. Where all values lie at one end of their nodes, the other `TREE_BRANCHING` - 1 of each level are all
    on one side. Where values are spread out there is no such shift, which nothing public says.
    """
    scale = TREE_HEIGHT * records / epsilon
    return min(TREE_HEIGHT * (TREE_BRANCHING - 1) * scale / 2 / max(patients, 1), 1.0)


def standard_error(query: Query, mechanism: Statistics, schema: Schema, *, patients: float | None = None) -> float:
    """Standard error of one statistic (of each of its cells) from noise alone, before anything is released.

    Args:
      patients: the public number of patients, which mean, variance and quantiles need since they divide by it.

    Returns:
      In the statistic's own units; for quantiles, a share of ranks in [0, 0.5].

    Raises:
      UnsupportedMechanism: the query does not fit the schema, or `patients` is missing where it is needed.
    """
    if query.name == "sum":
        return math.sqrt(2) * laplace_scale(query, mechanism, schema)
    if query.name == "count" or query.name in CELLS:
        return math.sqrt(2) * (laplace_scale(query, mechanism, schema) + ROUNDING)
    schema.check_query(query)
    if patients is None:
        raise UnsupportedMechanism(f"The noise of {query.key} depends on how many patients there are. Give patients=.")
    column = schema.column(query.columns[0])
    epsilon, records = epsilon_per_query(mechanism), mechanism.records_per_patient
    if query.name == "mean":
        return mean_error(column, epsilon=epsilon, records=records, patients=patients)
    if query.name == "variance":
        return variance_error(column, epsilon=epsilon, records=records, patients=patients)
    return rank_error(epsilon=epsilon, records=records, patients=patients)


def _position(column: Column, value: float) -> float:
    """Where a value lies between the bounds, -1 to 1."""
    middle = (column.low + column.high) / 2
    return min(max((value - middle) / half_range(column), -1.0), 1.0)
