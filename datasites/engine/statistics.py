"""Statistics on private records with pure ε, by the Laplace noise of Google's library for it (`python-dp`).

Exact counts and sums are made here, over whole columns at once, and the library adds its noise to them: every draw
below states its ε and by how much one patient moves the numbers under it. Each mechanism is made here, used for one
part of one answer and dropped.

Whose records count. Each patient first gives at most k records, drawn uniformly, of those for which the request's
condition holds. Which numbers are read goes with the patients and k: of a patient with fewer records that pass, the
others are read as well and count for nothing. A missing value counts for nothing either; the constant that a schema
declares for it is for models alone.

What is counted: `count` counts patients, by groups in every group in which they have a record. Sum, mean, variance,
quantiles, histogram, crosstab and what is missing are over the chosen records, at most k per patient, hold-out
included. The variance is the population's (divided by n). Ranks below 0.005 or above 0.995 answer as those. Every
answer is finite and has its declared shape whatever the records are, none at all included.

Sums of floats depend on their order, and by more than a sensitivity computed in real numbers allows (Casacuberta et al.
2022, arXiv:2207.10635). So values are moved to [-1, 1] by public bounds and rounded to a public grid on which every
sum that fits in memory is exact; the answer is moved back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydp._pydp._mechanisms import LaplaceMechanism

from datasites.engine.matrix import PATIENT, GroupedRows
from datasites.engine.quantile_trees import leaf_index, quantiles_of, whole_tree_of
from datasites.engine.shared_parts import Words, with_part
from policies.errors import DatasiteError, IsolationMissing
from policies.privacy.draws import epsilon_per_query
from policies.privacy.mechanisms import Query, Statistics
from policies.schema.columns import Column
from policies.schema.filters import Filter
from policies.schema.noise_scales import half_range
from policies.schema.quantile_trees import LEAVES
from policies.schema.questions import answer_shape, cell_labels, count_sensitivity, filter_of, groups_of, is_counted
from policies.schema.schemas import Schema
from policies.schema.summed_statistics import RECORDS, SQUARES, mean_of, summed_numbers, variance_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Noise = Callable[..., npt.NDArray[Any]]
"""Exact numbers with noise, as `noisy`."""

SUM_GRID = 2.0**-20  # 2^33 values in [-1, 1] sum exactly in a float64's 53 bits
SQUARE_GRID = 2.0**-13  # their squares lie on 2^-26: 2^27 of them sum exactly

_first_process: int | None = None


class Uniforms(Protocol):
    """A secure source of random numbers: what `datasites.engine.noise.NoiseSource` gives."""

    def uniforms(self, count: int, /) -> FloatArray:
        """`count` numbers, uniform in [0, 1)."""
        ...


@dataclass(frozen=True, repr=False)
class Chosen:
    """The records that are read, those of a patient together. Private in all its parts.

    Args:
      matrix: [M, 2 + C].
      patients: a number for each record's patient, from 0 in steps of 0 or 1.
      counts: whether a record counts.
      groups: the group of each record, below `group_count`.
    """

    matrix: FloatArray
    patients: IntArray
    counts: BoolArray
    groups: IntArray
    group_count: int


def answer(
    mechanism: Statistics, schema: Schema, records: npt.ArrayLike | GroupedRows, source: Uniforms
) -> dict[str, npt.NDArray[np.float64]]:
    """One noisy answer per query: float64 arrays of `questions.answer_shape`, by `query.key`; for a sum over hospitals
    what answers are made of, of `summed_statistics.summed_numbers`, which are neither rounded nor masked yet. Of shared
    noise they have this hospital's part alone (`shared_parts`).

    Satisfies `mechanism.epsilon`-DP with patients as unit, added or removed: every query gets an equal share of ε, and
    the shares add up. That all queries see the same chosen records changes nothing: given everybody else's draws,
    one patient more or less is at most k records more or less, each in one group and in the cohort or not by itself.

    Args:
      records: the private matrix [N, 2 + C], patient code first; N may be 0.
      source: draws which records of a patient are used; keyed from the operating system, a constructor argument.

    Raises:
      UnsupportedMechanism: a query, the condition or a group does not fit the schema (decided before the records are
        read).
      IsolationMissing: python-dp was asked before this process was forked, so that its noise would repeat.
      DatasiteError: the library failed; the message holds nothing of what it was given.
    """
    _refuse_repeated_noise()
    shapes = {query.key: answer_shape(query, mechanism, schema) for query in mechanism.queries}
    if mechanism.secure_aggregation is not None:
        shapes = {name: part.shape for name, part in summed_numbers(mechanism, schema).items()}
    passing, grouping = filter_of(mechanism, schema), groups_of(mechanism, schema)
    try:
        chosen = _chosen_records(records, mechanism.records_per_patient, passing, source)
        if grouping is not None:
            chosen = replace(chosen, groups=grouping.index(chosen.matrix), group_count=grouping.count)
        answers: dict[str, Any] = {}
        for query in mechanism.queries:
            answers |= _answer_one(query, mechanism, schema, chosen, _noise_of(query, mechanism, source))
        return {name: _shaped(answers[name], shape) for name, shape in shapes.items()}
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


def choose_passing(patients: FloatArray, passes: BoolArray, most: int, source: Uniforms) -> npt.NDArray[np.intp]:
    """Rows to use: of those of each patient that pass at most `most`, every such subset equally likely.

    As many rows are used of each patient as without a condition, whatever passes: where fewer pass, others fill up.
    One number is drawn for every row. Those that pass come first, in the order of their numbers. Rows of a patient lie
    together.
    """
    order = np.argsort(patients, kind="stable")
    begins = _begins(patients[order])
    sizes = np.diff(np.append(begins, len(patients)))
    keys = np.repeat(np.arange(len(begins), dtype=np.float64), sizes)
    keys += (source.uniforms(len(patients)) + ~passes[order]) / 2
    order = order[np.argsort(keys, kind="stable")]
    places = np.arange(len(patients)) - np.repeat(begins, sizes)
    return order[places < most]


def _chosen_records(
    records: npt.ArrayLike | GroupedRows, most: int, passing: Filter | None, source: Uniforms
) -> Chosen:
    matrix = np.asarray(records, dtype=np.float64)
    codes = matrix[:, PATIENT]
    passes = np.ones(len(matrix), dtype=np.bool_) if passing is None else passing.holds(matrix)
    if passing is not None:
        rows = choose_passing(codes, passes, most, source)
    elif isinstance(records, GroupedRows):
        both = [records.begins(held_out=side).astype(np.intp) for side in (False, True)]
        rows = np.sort(_chosen(np.concatenate([both[0][:-1], both[1]]), most, source))
    else:
        rows = choose_records(codes, most, source)
    if not isinstance(records, GroupedRows):
        rows = rows[np.argsort(codes[rows], kind="stable")]
    if len(rows) == len(matrix) and isinstance(records, GroupedRows):
        chosen = matrix  # all of them, as they lie
    else:
        chosen, passes = matrix[rows], passes[rows]
    numbers = np.zeros(len(chosen), dtype=np.int64)
    np.cumsum(chosen[1:, PATIENT] != chosen[:-1, PATIENT], out=numbers[1:])
    return Chosen(chosen, numbers, passes, np.zeros(len(chosen), dtype=np.int64), 1)


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


def _noise_of(query: Query, mechanism: Statistics, source: Uniforms) -> Noise:
    """What adds noise to the numbers of a statistic: all of it, or this hospital's part of one that hospitals share."""
    declared = mechanism.secure_aggregation
    if declared is None or not declared.shares_noise:
        return noisy
    assert isinstance(source, Words)
    return partial(with_part, parts=declared.parts, source=source.child(f"part of {query.key}"))


def _answer_one(query: Query, mechanism: Statistics, schema: Schema, chosen: Chosen, noise: Noise) -> dict[str, Any]:
    """A statistic's tensors, by name: one, or those of which it is made where they are added up over hospitals."""
    epsilon, most = epsilon_per_query(mechanism), mechanism.records_per_patient
    in_sums = mechanism.secure_aggregation is not None
    if query.name == "count":
        # A patient adds 1 to every group in which a record of theirs counts: min(k, groups) in L1, 1 without groups.
        return {query.key: noise(_patients(chosen), epsilon=epsilon, sensitivity=count_sensitivity(mechanism, schema))}
    if query.name in ("histogram", "crosstab"):
        return {query.key: _cells(query, mechanism, schema, chosen, noise)}
    column = schema.column(query.columns[0])
    present = chosen.counts & schema.present(chosen.matrix, column.name)
    if query.name == "missing":
        counts = _counted(chosen, np.where(present, 0, 1), 2)
        return {query.key: noise(counts, epsilon=epsilon, sensitivity=most)}
    if query.name == "describe":
        return {query.key: _described(query, mechanism, schema, chosen, present, noise)}
    values = schema.values(chosen.matrix, column.name)
    if query.name == "sum":
        summed, largest = _sum(values, present, chosen, column, noise, epsilon=epsilon, most=most)
        return {query.key: summed if in_sums else summed * largest}
    with_number = is_counted(query, mechanism, schema)
    if query.name == "quantiles":
        if in_sums:
            return {query.key: _trees(values, present, chosen, column, noise, epsilon=epsilon, most=most)}
        return {
            query.key: _quantiles(values, present, chosen, column, query.ranks, with_number, epsilon=epsilon, most=most)
        }
    work = _mean if query.name == "mean" else _variance
    *sums, number = work(values, present, chosen, column, noise, epsilon=epsilon, most=most)
    number = number.astype(np.float64)
    if in_sums:
        names = (query.key, f"{query.key}/{SQUARES}")
        return {**dict(zip(names, sums, strict=False)), f"{query.key}/{RECORDS}": number}
    value = mean_of(sums[0], number, column) if query.name == "mean" else variance_of(sums[0], sums[1], number, column)
    return {query.key: np.column_stack([value, number]) if with_number else value}


def noisy(exact: npt.NDArray[Any], *, epsilon: float, sensitivity: float) -> npt.NDArray[Any]:
    """Whole numbers or floats with Laplace noise of scale `sensitivity`/ε each, in the same shape.

    Args:
      sensitivity: by how much one patient moves all of them together, in L1.
    """
    laplace = LaplaceMechanism(epsilon, float(sensitivity))
    return np.array([laplace.add_noise(value) for value in exact.ravel().tolist()]).reshape(exact.shape)


def _counted(chosen: Chosen, cells: IntArray, count: int, among: BoolArray | None = None) -> IntArray:
    """Records that count, by group and cell: [groups, count]. Every record is added, as 1 or as 0."""
    weights = (chosen.counts if among is None else among).astype(np.float64)
    added = np.bincount(chosen.groups * count + cells, weights=weights, minlength=chosen.group_count * count)
    return np.asarray(added.reshape(chosen.group_count, count), dtype=np.int64)


def _added(values: FloatArray, present: BoolArray, chosen: Chosen) -> FloatArray:
    """Values on a grid summed over the present records, by group; exact in any order."""
    # A product, not a choice: a processor that guesses wrong between two choices takes longer.
    added = np.bincount(chosen.groups, weights=values * present, minlength=chosen.group_count)
    return np.asarray(added, dtype=np.float64)


def _patients(chosen: Chosen) -> IntArray:
    """Patients who have a record that counts, by group: each once in a group.

    Records that do not count stand in a group of their own, which is left out: the same work is done with all of them.
    """
    if chosen.group_count == 1:
        return np.array([np.count_nonzero(np.bincount(chosen.patients, weights=chosen.counts))])
    beside = chosen.group_count
    keys = chosen.patients * (beside + 1) + np.where(chosen.counts, chosen.groups, beside)
    keys = np.sort(keys, kind="stable")
    first = np.ones(len(keys), dtype=np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    counted = np.bincount(keys % (beside + 1), weights=first, minlength=beside + 1)
    return np.asarray(counted[:beside], dtype=np.int64)


def _cells(query: Query, mechanism: Statistics, schema: Schema, chosen: Chosen, noise: Noise) -> npt.NDArray[Any]:
    """A noisy count of chosen records in every public cell, empty ones too, in C order, groups first.

    A patient's k records fall into k cells or into one: over all cells they add at most k in L1 either way, which is
    all that Laplace noise depends on. Scale k/ε in every cell.
    """
    shape = tuple(len(labels) for labels in cell_labels(query, mechanism, schema))
    places = [schema.cell_index(chosen.matrix, name, mechanism.bins) for name in query.columns]
    present = np.logical_and.reduce([schema.present(chosen.matrix, name) for name in query.columns])
    flat = np.ravel_multi_index(places, shape)
    counts = _counted(chosen, flat, int(np.prod(shape)), present & chosen.counts)
    return noise(counts, epsilon=epsilon_per_query(mechanism), sensitivity=mechanism.records_per_patient)


def _described(
    query: Query, mechanism: Statistics, schema: Schema, chosen: Chosen, present: BoolArray, noise: Noise
) -> npt.NDArray[Any]:
    """A histogram whose last cell, where a value may be missing, is for those that are."""
    cells = len(cell_labels(query, mechanism, schema)[0])
    places = schema.cell_index(chosen.matrix, query.columns[0], mechanism.bins)
    if schema.column(query.columns[0]).missing != "refuse":
        counts = _counted(chosen, np.where(present, places, cells - 1), cells)
    else:
        counts = _counted(chosen, places, cells, present)
    return noise(counts, epsilon=epsilon_per_query(mechanism), sensitivity=mechanism.records_per_patient)


def _sum(
    values: FloatArray, present: BoolArray, chosen: Chosen, column: Column, noise: Noise, *, epsilon: float, most: int
) -> tuple[FloatArray, float]:
    """Divided by the larger of |low| and |high|, one value moves a sum by at most 1, k of them all by k: scale k/ε."""
    largest = max(abs(column.low), abs(column.high))
    summed = _added(_on_grid(values / largest, SUM_GRID), present, chosen)
    return noise(summed, epsilon=epsilon, sensitivity=most), largest


def _mean(
    values: FloatArray, present: BoolArray, chosen: Chosen, column: Column, noise: Noise, *, epsilon: float, most: int
) -> tuple[FloatArray, ...]:
    """Of each mean a sum, and the number of records that it is of: ε/2 on sums about the middle, which k values in
    [-1, 1] move by k, and ε/2 on counts of records, which they move by k."""
    summed = _added(_on_grid(_centred(values, column), SUM_GRID), present, chosen)
    summed = noise(summed, epsilon=epsilon / 2, sensitivity=most)
    return summed, noise(_counted(chosen, _zeros(chosen), 1, present)[:, 0], epsilon=epsilon / 2, sensitivity=most)


def _variance(
    values: FloatArray, present: BoolArray, chosen: Chosen, column: Column, noise: Noise, *, epsilon: float, most: int
) -> tuple[FloatArray, ...]:
    """ε/3 each on a sum (moved by k), a sum of squares about ½ (by k/2) and a count of records (by k)."""
    on_grid = _on_grid(_centred(values, column), SQUARE_GRID)
    third = epsilon / 3
    summed = noise(_added(on_grid, present, chosen), epsilon=third, sensitivity=most)
    squares = noise(_added(on_grid**2 - 0.5, present, chosen), epsilon=third, sensitivity=most / 2)
    return summed, squares, noise(_counted(chosen, _zeros(chosen), 1, present)[:, 0], epsilon=third, sensitivity=most)


def _trees(
    values: FloatArray,
    present: BoolArray,
    chosen: Chosen,
    column: Column,
    noise: Noise,
    *,
    epsilon: float,
    most: int,
) -> FloatArray:
    """Every cell of each group's tree, at the ε of `_quantiles`: on every level of all trees a patient adds k in L1."""

    def of_level(counts: IntArray, share: float) -> FloatArray:
        return noise(counts, epsilon=share, sensitivity=most)

    return np.array(
        [
            whole_tree_of(leaves, epsilon=epsilon, noise=of_level)
            for leaves in _counted(chosen, leaf_index(_centred(values, column)), LEAVES, present)
        ]
    )


def _quantiles(
    values: FloatArray,
    present: BoolArray,
    chosen: Chosen,
    column: Column,
    ranks: tuple[float, ...],
    with_number: bool,
    *,
    epsilon: float,
    most: int,
) -> FloatArray:
    """On every level of all groups' trees together a patient adds at most k to counts in L1. All ranks of a group read
    one noisy tree."""

    def noise(counts: IntArray, share: float) -> FloatArray:
        return noisy(counts, epsilon=share, sensitivity=most)

    found = [
        quantiles_of(leaves, ranks, epsilon=epsilon, noise=noise)
        for leaves in _counted(chosen, leaf_index(_centred(values, column)), LEAVES, present)
    ]
    middle, half = (column.low + column.high) / 2, half_range(column)
    return np.array(
        [[*(middle + half * np.array(answers)), *([number] if with_number else [])] for answers, number in found]
    )


def _zeros(chosen: Chosen) -> IntArray:
    return np.zeros(len(chosen.groups), dtype=np.int64)


def _centred(values: FloatArray, column: Column) -> FloatArray:
    """Values moved to [-1, 1] by the column's public bounds."""
    return np.asarray((values - (column.low + column.high) / 2) / half_range(column), dtype=np.float64)


def _on_grid(values: FloatArray, grid: float) -> FloatArray:
    """Values in [-1, 1] rounded to a multiple of `grid`. Never NaN."""
    return np.asarray(np.rint(np.clip(np.nan_to_num(values), -1.0, 1.0) / grid) * grid, dtype=np.float64)


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
