"""Statistics on private records with Google's differential privacy library (`python-dp`), pure ε, Laplace noise.

The library bounds nothing by itself. So each patient first gives at most k records, drawn uniformly, and every call
below states ε, both bounds, the dtype (never int32, whose sums wrap round without a word) and how much one patient may
contribute. Each library object is made here, asked once and dropped: a quantile tree would answer a second time at no
charge. Nothing of `Percentile`, `quick_result` or any default is used.

What is counted: `count` counts patients. Sum, mean, variance, quantiles, histogram and crosstab are over the chosen
records, at most k per patient, hold-out included. The variance is the population's (divided by n). Ranks below 0.005
or above 0.995 answer as those, which is the library's rule. Every answer is finite and has its declared shape whatever
the records are, none at all included.

Sums of floats depend on their order, and by more than a sensitivity computed in real numbers allows (Casacuberta et al.
2022, arXiv:2207.10635). So values are moved to [-1, 1] by public bounds and rounded to a public grid on which every
sum that fits in memory is exact; the answer is moved back.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydp.algorithms.laplacian import BoundedMean, BoundedSum, BoundedVariance, Count
from pydp.algorithms.quantile_tree import QuantileTree

from datasites.engine.matrix import PATIENT, GroupedRows
from policies.errors import DatasiteError, IsolationMissing
from policies.privacy.draws import TREE_BRANCHING, TREE_HEIGHT, epsilon_per_query
from policies.privacy.mechanisms import Query, Statistics
from policies.schema.columns import Column
from policies.schema.noise_scales import half_range
from policies.schema.schemas import Schema

FloatArray = npt.NDArray[np.float64]

SUM_GRID = 2.0**-20  # 2^33 values in [-1, 1] sum exactly in a float64's 53 bits
SQUARE_GRID = 2.0**-13  # their squares lie on 2^-26: 2^27 of them sum exactly

_first_process: int | None = None


class Uniforms(Protocol):
    """A secure source of random numbers: what `datasites.engine.noise.NoiseSource` gives."""

    def uniforms(self, count: int, /) -> FloatArray:
        """`count` numbers, uniform in [0, 1)."""
        ...


def answer(
    mechanism: Statistics, schema: Schema, records: npt.ArrayLike | GroupedRows, source: Uniforms
) -> dict[str, npt.NDArray[np.float64]]:
    """One noisy answer per query: float64 arrays of `schema.statistic_shape`, by `query.key`.

    Satisfies `mechanism.epsilon`-DP with patients as unit, added or removed: every query gets an equal share of ε, and
    the shares add up. That all queries see the same chosen records changes nothing: given everybody else's draws,
    one patient more or less is at most k records more or less.

    Args:
      records: the private matrix [N, 2 + C], patient code first; N may be 0.
      source: draws which records of a patient are used; keyed from the operating system, a constructor argument.

    Raises:
      UnsupportedMechanism: a query does not fit the schema (decided before the records are read).
      IsolationMissing: python-dp was asked before this process was forked, so that its noise would repeat.
      DatasiteError: the library failed; the message holds nothing of what it was given.
    """
    _refuse_repeated_noise()
    shapes = {query: schema.statistic_shape(query, mechanism.bins) for query in mechanism.queries}
    try:
        matrix = np.asarray(records, dtype=np.float64)
        most = mechanism.records_per_patient
        if isinstance(records, GroupedRows):
            both = [records.begins(held_out=side).astype(np.intp) for side in (False, True)]
            rows = _chosen(np.concatenate([both[0][:-1], both[1]]), most, source)
        else:
            rows = choose_records(matrix[:, PATIENT], most, source)
        chosen = matrix[np.sort(rows)]
        patients = len(_begins(np.sort(chosen[:, PATIENT])))  # of whom each gave one
        answers = {query.key: _answer_one(query, mechanism, schema, chosen, patients) for query in mechanism.queries}
        return {query.key: _shaped(answers[query.key], shapes[query]) for query in mechanism.queries}
    except Exception:
        # The library's own messages quote its arguments, which are private. Raised below, outside this block, the
        # error that leaves has no context that could print them.
        pass
    raise DatasiteError("The statistics could not be computed. Ask the owner, who can see why.")


def choose_records(patients: FloatArray, most: int, source: Uniforms) -> npt.NDArray[np.intp]:
    """Rows to use: at most `most` of each patient, every such subset equally likely, in order of row.

    What is drawn goes with the number of patients and `most`: for one with a million records no more is than for one
    with twice as many as are used. Draws of other patients play no part.
    """
    order = np.argsort(patients, kind="stable")
    ends = np.append(_begins(patients[order]), len(patients))
    return np.sort(order[_chosen(ends, most, source)])


def _chosen(begins: npt.NDArray[np.intp], most: int, source: Uniforms) -> npt.NDArray[np.intp]:
    """The same of rows by patient, by where each patient's begin and where the last one's end."""
    begins, sizes = begins[:-1], np.diff(begins)
    few = sizes <= most
    firsts = np.cumsum(sizes[few]) - sizes[few]
    all_of_few = np.arange(int(sizes[few].sum())) + np.repeat(begins[few] - firsts, sizes[few])
    some_of_many = begins[~few, np.newaxis] + _subsets(sizes[~few], most, source)
    return np.concatenate([all_of_few, some_of_many.ravel()])


def _begins(ordered: FloatArray) -> npt.NDArray[np.intp]:
    """Where each patient's rows begin among rows in order."""
    changes = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    return np.concatenate([np.zeros(min(1, len(ordered)), dtype=np.intp), changes])


def _subsets(sizes: npt.NDArray[np.intp], most: int, source: Uniforms) -> npt.NDArray[np.intp]:
    """Of each size n a uniform set of `most` different numbers below it: [len(sizes), most] (Floyd's algorithm).

    For j = n - most, …, n - 1 a number is drawn from 0 to j, and j itself taken where that one is taken already.
    """
    chosen = np.empty((len(sizes), most), dtype=np.intp)
    for place in range(most if len(sizes) else 0):
        last = sizes - most + place
        drawn = np.minimum((source.uniforms(len(sizes)) * (last + 1)).astype(np.intp), last)
        taken = np.any(chosen[:, :place] == drawn[:, np.newaxis], axis=1)
        chosen[:, place] = np.where(taken, last, drawn)
    return chosen


def _answer_one(query: Query, mechanism: Statistics, schema: Schema, chosen: FloatArray, patients: int) -> Any:
    epsilon, most = epsilon_per_query(mechanism), mechanism.records_per_patient
    if query.name == "count":
        # One patient adds 1 once: sensitivity 1, however many records there are.
        return _noisy_count(patients, epsilon=epsilon, partitions=1)
    if query.name in ("histogram", "crosstab"):
        return _cells(query, mechanism, schema, chosen)
    column = schema.column(query.columns[0])
    values = schema.values(chosen, query.columns[0])
    if query.name == "sum":
        return _sum(values, column, epsilon=epsilon, most=most)
    if query.name == "mean":
        return _mean(values, column, epsilon=epsilon, most=most)
    if query.name == "variance":
        return _variance(values, column, epsilon=epsilon, most=most)
    return _quantiles(values, column, query.ranks, epsilon=epsilon, most=most)


def _noisy_count(entries: int, *, epsilon: float, partitions: int) -> int:
    counter = Count(epsilon=epsilon, l0_sensitivity=partitions, linf_sensitivity=1, dtype="int64")
    counter.add_entries([1] * entries)
    return int(counter.result())


def _cells(query: Query, mechanism: Statistics, schema: Schema, chosen: FloatArray) -> list[int]:
    """A noisy count of chosen records in every public cell, empty ones too, in C order.

    A patient's k records fall into k cells or into one: over all cells they add at most k in L1 either way, which is
    all that Laplace noise depends on. Declared as k partitions of one contribution each: scale k/ε in every cell.
    """
    shape = schema.statistic_shape(query, mechanism.bins)
    places = [schema.cell_index(chosen, name, mechanism.bins) for name in query.columns]
    flat = np.ravel_multi_index(places, shape)
    counts = np.bincount(flat, minlength=int(np.prod(shape)))
    epsilon, most = epsilon_per_query(mechanism), mechanism.records_per_patient
    return [_noisy_count(int(count), epsilon=epsilon, partitions=most) for count in counts]


def _sum(values: FloatArray, column: Column, *, epsilon: float, most: int) -> float:
    """Divided by the larger of |low| and |high|, one value moves the sum by at most 1, k of them by k: scale k/ε."""
    largest = max(abs(column.low), abs(column.high))
    low, high = np.floor(column.low / largest / SUM_GRID), np.ceil(column.high / largest / SUM_GRID)
    summed = BoundedSum(
        epsilon=epsilon,
        delta=0.0,
        lower_bound=float(low * SUM_GRID),
        upper_bound=float(high * SUM_GRID),
        l0_sensitivity=1,
        linf_sensitivity=most,
        dtype="float",
    )
    summed.add_entries(_on_grid(values / largest, SUM_GRID))
    return float(summed.result()) * largest


def _mean(values: FloatArray, column: Column, *, epsilon: float, most: int) -> float:
    """The library spends ε/2 on a sum about the middle, which k values in [-1, 1] move by k, and ε/2 on a count of
    records, which they move by k; tests measure both."""
    mean = BoundedMean(
        epsilon=epsilon,
        delta=0.0,
        lower_bound=-1.0,
        upper_bound=1.0,
        l0_sensitivity=1,
        linf_sensitivity=most,
        dtype="float",
    )
    mean.add_entries(_on_grid(_centred(values, column), SUM_GRID))
    return (column.low + column.high) / 2 + half_range(column) * float(mean.result())


def _variance(values: FloatArray, column: Column, *, epsilon: float, most: int) -> float:
    """ε/3 each on a sum (moved by k), a sum of squares about ½ (by k/2) and a count of records (by k).

    The library's own upper end is the range squared; no variance is above a quarter of it, so we stop there.
    """
    variance = BoundedVariance(
        epsilon=epsilon,
        delta=0.0,
        lower_bound=-1.0,
        upper_bound=1.0,
        l0_sensitivity=1,
        linf_sensitivity=most,
        dtype="float",
    )
    variance.add_entries(_on_grid(_centred(values, column), SQUARE_GRID))
    return min(float(variance.result()), 1.0) * half_range(column) ** 2


def _quantiles(
    values: FloatArray, column: Column, ranks: tuple[float, ...], *, epsilon: float, most: int
) -> FloatArray:
    """On every level of the tree a patient adds at most k to one level's counts in L1; the library divides ε by the
    height. All ranks in one call read one noisy tree."""
    tree = QuantileTree(-1.0, 1.0, TREE_HEIGHT, TREE_BRANCHING)
    for value in _on_grid(_centred(values, column), SUM_GRID):
        tree.add_entry(value)
    answers = tree.compute_quantiles(
        epsilon=epsilon,
        delta=0.0,
        max_partitions_contributed=1,
        max_contributions_per_partition=most,
        quantiles=list(ranks),
        noise_type="laplace",
    )
    centred = np.clip(np.nan_to_num(np.asarray(answers, dtype=np.float64)), -1.0, 1.0)
    return np.asarray((column.low + column.high) / 2 + half_range(column) * centred, dtype=np.float64)


def _centred(values: FloatArray, column: Column) -> FloatArray:
    """Values moved to [-1, 1] by the column's public bounds."""
    return np.asarray((values - (column.low + column.high) / 2) / half_range(column), dtype=np.float64)


def _on_grid(values: FloatArray, grid: float) -> list[float]:
    """Values in [-1, 1] rounded to a multiple of `grid`, as plain floats. Never NaN, whose library meaning is other."""
    rounded = np.rint(np.clip(np.nan_to_num(values), -1.0, 1.0) / grid) * grid
    return [float(value) for value in rounded]


def _shaped(value: Any, shape: tuple[int, ...]) -> FloatArray:
    return np.nan_to_num(np.asarray(value, dtype=np.float64)).reshape(shape)


def _refuse_repeated_noise() -> None:
    """Python-dp buffers random bytes from the operating system; children forked after the first draw share the buffer
    and repeat each other's noise. So a process whose forebear has asked may not ask."""
    global _first_process
    if _first_process is None:
        _first_process = os.getpid()
    if _first_process != os.getpid():
        raise IsolationMissing(
            "python-dp was asked before this process was forked: its noise would repeat. Fork first."
        )
