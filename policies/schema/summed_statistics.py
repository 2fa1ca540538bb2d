"""Statistics that leave as sums over hospitals: which numbers they are made of, and on which public grid those lie.

What adds up is not a mean but what it is made of. So under secure aggregation a hospital answers with the noisy sums
and counts themselves, at the same ε and by the same draws, and quantiles with their whole tree of noisy counts: as its
domain is the column's public bounds, trees of all hospitals have the same cells. The answers of all hospitals together
are then read from the sums, as if their records lay in one table.

Every number is rounded, after its noise, to a multiple of a step that follows from the plan alone: the smallest power
of two, and of counts no less than 1, with which what a hospital may have fits into its part of a word. Sums are in
halves of the column's range about its middle, or over the larger bound, as the mechanism draws them. Under shared noise
each lies on the grid of its noise, of which what a patient moves is a whole number of steps; sums are rounded to it
before the noise, each once.

Hospitals add up only where these numbers mean the same: a digest of all that is public about them stands in the
request (`grid_digest`), and a datasite whose own columns give another one refuses it before anything is charged.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.canonical import canonical
from policies.errors import UnsupportedMechanism
from policies.privacy.draws import PARTS, epsilon_per_query
from policies.privacy.mechanisms import Query, Statistics
from policies.privacy.secure_aggregation import SecureAggregation
from policies.privacy.shared_mechanisms import shared_draws
from policies.privacy.shared_sums import check_fits, grid_of
from policies.schema.columns import Column
from policies.schema.filters import condition_sentences
from policies.schema.noise_scales import half_range
from policies.schema.quantile_trees import NODES, read_tree, whole_tree
from policies.schema.questions import CELLS, answer_shape, cell_labels, groups_of, is_counted
from policies.schema.schemas import MOST_CELLS, Schema

FloatArray = npt.NDArray[np.float64]
RECORDS, SQUARES = "records", "squares"
SUMMED = ("sum", "mean", "variance")  # of values; all others are counts
_TAIL = 64.0  # scales of noise that fit beside what a hospital has: beyond it once in 10^27 draws
_FINEST = 2.0**-20  # no step below it, on which the sums themselves lie


@dataclass(frozen=True)
class SummedNumbers:
    """One tensor of a release that leaves in a sum.

    Args:
      shape: of it, groups first.
      step: what one unit stands for.
    """

    shape: tuple[int, ...]
    step: float


def summed_numbers(mechanism: Statistics, schema: Schema) -> dict[str, SummedNumbers]:
    """Every tensor of a release in sums, by name.

    Raises:
      UnsupportedMechanism: a query does not fit the schema, or has more than a million numbers; or hospitals that share
        one noise are too large for it, or ask for too many numbers.
    """
    declared = _declared(mechanism)
    if declared.shares_noise:
        return _sharing_noise(mechanism, schema)
    numbers: dict[str, SummedNumbers] = {}
    for query in mechanism.queries:
        whole, fine = (_step(query, mechanism, declared, least) for least in (1.0, _FINEST))
        numbers |= {
            name: SummedNumbers(shape, whole if is_whole else fine)
            for name, (shape, is_whole) in _shapes(query, mechanism, schema).items()
        }
    for name, part in numbers.items():
        if math.prod(part.shape) > MOST_CELLS:
            raise UnsupportedMechanism(
                f"{name} has {math.prod(part.shape)} numbers in a sum over hospitals, above {MOST_CELLS}. Use fewer"
                " groups or fewer bins, or ask without secure_aggregation."
            )
    return numbers


def _sharing_noise(mechanism: Statistics, schema: Schema) -> dict[str, SummedNumbers]:
    shared = shared_draws(mechanism)
    assert shared is not None
    numbers: dict[str, SummedNumbers] = {}
    for query in mechanism.queries:
        _, steps = grid_of(epsilon_per_query(mechanism) / PARTS[query.name])
        numbers |= {
            name: SummedNumbers(shape, (0.5 if name.endswith(f"/{SQUARES}") else 1.0) / steps)
            for name, (shape, _) in _shapes(query, mechanism, schema).items()
        }
    check_fits(shared, sum(math.prod(part.shape) for part in numbers.values()))
    return numbers


def grid_digest(mechanism: Statistics, schema: Schema) -> str:
    """Hex digest of what every number of a release in sums means: steps, shapes, bounds, labels, groups, condition."""
    facts = {
        "numbers": {name: [list(part.shape), part.step] for name, part in summed_numbers(mechanism, schema).items()},
        "columns": [schema.column(name).meaning for query in mechanism.queries for name in query.columns],
        "cells": [_labels(query, mechanism, schema) for query in mechanism.queries],
        "groups": [list(name) for name in groups.names] if (groups := groups_of(mechanism, schema)) else [],
        "condition": condition_sentences(mechanism.where, schema),
    }
    return hashlib.sha256(canonical(facts)).hexdigest()


def summed_steps(mechanism: Statistics, schema: Schema) -> dict[str, float]:
    """What one unit of each tensor stands for, by its name."""
    return {name: part.step for name, part in summed_numbers(mechanism, schema).items()}


def answers_from(
    sums: Mapping[str, npt.ArrayLike], mechanism: Statistics, schema: Schema
) -> dict[str, npt.NDArray[np.float64]]:
    """What sums over hospitals say, as one hospital would have answered: tensors of `answer_shape`, by `query.key`."""
    given = {name: np.asarray(value, dtype=np.float64) for name, value in sums.items()}
    return {
        query.key: _answer(query, given, mechanism, schema).reshape(answer_shape(query, mechanism, schema))
        for query in mechanism.queries
    }


def rounding_of(mechanism: Statistics, schema: Schema) -> float:
    """How much larger rounding makes the deviation of a hospital's noise: at least 1, by the coarsest number of all."""
    if (shared := shared_draws(mechanism)) is not None:
        summed = [query for query in mechanism.queries for _ in range(PARTS[query.name])]
        named = zip(summed, range(len(shared.draws)), strict=True)
        return max((shared.rounding(draw) for query, draw in named if query.name in SUMMED), default=1.0)
    scale = mechanism.records_per_patient / epsilon_per_query(mechanism)  # no draw has a smaller one but a count's
    coarse = max((part.step for part in summed_numbers(mechanism, schema).values() if part.step != 1.0), default=0.0)
    return math.sqrt(1 + (coarse / scale) ** 2 / 24)  # step² / 12 beside 2 scale²


def mean_of(summed: FloatArray, number: FloatArray, column: Column) -> FloatArray:
    """Means from sums about the middle, in halves of the range, and numbers of records."""
    centred = np.clip(summed / np.maximum(number, 1), -1.0, 1.0)
    return np.asarray((column.low + column.high) / 2 + half_range(column) * centred)


def variance_of(summed: FloatArray, squares: FloatArray, number: FloatArray, column: Column) -> FloatArray:
    """Variances from such sums, sums of squares about ½, and numbers.

    No variance is above a quarter of the range squared, so it stops there, and at 0.
    """
    divisor = np.maximum(number, 1)
    mean = np.clip(summed / divisor, -1.0, 1.0)
    return np.asarray(np.clip(squares / divisor + 0.5 - mean**2, 0.0, 1.0) * half_range(column) ** 2)


def _declared(mechanism: Statistics) -> SecureAggregation:
    if mechanism.secure_aggregation is None:
        raise UnsupportedMechanism("These statistics are released by each hospital. Ask with secure_aggregation=True.")
    return mechanism.secure_aggregation


def _step(query: Query, mechanism: Statistics, declared: SecureAggregation, least: float) -> float:
    """The smallest power of two from `least` with which a hospital's numbers fit.

    A hospital has about as many patients as the roster says of those it trains on, which are half of them or more.
    """
    records = mechanism.records_per_patient
    noise = _TAIL * records * PARTS[query.name] / epsilon_per_query(mechanism)
    reach = 2.0 * records * declared.most_patients + noise
    return max(least, math.ldexp(1.0, math.ceil(math.log2(reach / declared.largest))))


def _shapes(query: Query, mechanism: Statistics, schema: Schema) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Shape of each tensor of a statistic, and whether it holds counts."""
    shape, groups = answer_shape(query, mechanism, schema), groups_of(mechanism, schema)
    each = (groups.count if groups else 1,)
    if query.name == "quantiles":
        return {query.key: ((*each, NODES), True)}
    if query.name not in ("mean", "variance"):
        return {query.key: (shape, query.name != "sum")}
    sums: dict[str, tuple[tuple[int, ...], bool]] = {query.key: (each, False), f"{query.key}/{RECORDS}": (each, True)}
    if query.name == "variance":
        sums[f"{query.key}/{SQUARES}"] = (each, False)
    return sums


def _answer(query: Query, given: Mapping[str, FloatArray], mechanism: Statistics, schema: Schema) -> FloatArray:
    numbers = given[query.key]
    if query.name == "count" or query.name in CELLS:
        return numbers
    column = schema.column(query.columns[0])
    if query.name == "sum":
        return numbers * max(abs(column.low), abs(column.high))
    with_number = is_counted(query, mechanism, schema)
    if query.name == "quantiles":
        middle, half = (column.low + column.high) / 2, half_range(column)
        found = [read_tree(query.ranks, whole_tree(tree)) for tree in numbers]
        return np.array(
            [[*(middle + half * np.array(values)), *([number] if with_number else [])] for values, number in found]
        )
    records = given[f"{query.key}/{RECORDS}"]
    if query.name == "mean":
        value = mean_of(numbers, records, column)
    else:
        value = variance_of(numbers, given[f"{query.key}/{SQUARES}"], records, column)
    return np.column_stack([value, records]) if with_number else value


def _labels(query: Query, mechanism: Statistics, schema: Schema) -> list[list[str]]:
    return [list(labels) for labels in cell_labels(query, mechanism, schema)] if query.name in CELLS else []
