"""What a release holds, as an owner reads it: values with the error that their noise makes, and tensors in figures.

Everything here is arithmetic on what has left already and on public numbers, so it costs nothing and tells nothing new.
Errors are of the noise alone: what chance has in who became a patient is for the researcher to weigh.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datasites.review.secure_rounds import declared_in
from datasites.review.secure_wording import masked_sentences, shared_sentences
from policies.numbers import counted, outward, places_for, to_places, written
from policies.privacy.draws import epsilon_per_query
from policies.privacy.mechanisms import DPSGD, Evaluation, KaplanMeier, Mechanism, Query, Regression, Statistics
from policies.privacy.outcomes import Outcome
from policies.privacy.sharing import shared_of
from policies.privacy.subgroups import column_of
from policies.release.evaluation_tables import ERRORS, EvaluationTable, evaluation_tables, target_column
from policies.release.tensors import Array
from policies.schema.columns import Column
from policies.schema.noise_scales import (
    LAPLACE_95,
    ROUNDING,
    half_range,
    mean_error,
    rank_error,
    rank_shift,
    standard_error,
    variance_error,
)
from policies.schema.questions import CELLS, answer_shape, cell_labels, groups_of, is_counted
from policies.schema.schemas import Schema
from policies.schema.survival_cells import survival_groups, survival_labels
from policies.schema.targets import TimeToEvent

MOST_VALUES = 200
"""Of one tensor are shown; a table of more is read elsewhere."""


@dataclass(frozen=True)
class Value:
    """One released number.

    Args:
      label: of what it is, as a cell's; empty where the part is one number.
      value: as released, with its noise.
      low, high: where the answer without noise lies, 95 times out of 100; None where the noise is in the rank.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def shown(self) -> tuple[str, str, str]:
        """Value and both ends, where it has any, with the digits that the error allows: a quarter of what is between.

        Ends are rounded outwards.
        """
        if self.low is None or self.high is None:
            return written(self.value, digits=5), "", ""
        places = places_for((self.high - self.low) / 4)
        return to_places(self.value, places), *outward(self.low, self.high, places)


@dataclass(frozen=True)
class Part:
    """One tensor of a release.

    Args:
      title: what it is, in words; empty where only its `name` says so.
      count: of its numbers, listed or not.
      numbers: the numbers themselves, at most `MOST_VALUES`; empty for a model's parameters.
      minimum, maximum, norm: of its finite numbers, as released.
      error: what the noise does to each number, in words; empty where `numbers` carry it or nothing says it.
      not_finite: how many of its numbers are no numbers, as where training diverged.
    """

    name: str
    title: str
    dtype: str
    shape: tuple[int, ...]
    count: int
    minimum: float
    maximum: float
    norm: float
    not_finite: int
    unit: str = ""
    numbers: tuple[Value, ...] = ()
    error: str = ""


def released_parts(
    tensors: Mapping[str, Array], mechanism: Mechanism, schema: Schema, *, patients: int
) -> tuple[Part, ...]:
    """Every tensor of a release, in the order of its question.

    Args:
      patients: the dataset's public number of them, which errors of means and variances are made of.
    """
    if declared_in(mechanism) is not None:
        return tuple(_part(name, "", tensor) for name, tensor in tensors.items())
    if isinstance(mechanism, Statistics):
        return tuple(
            _statistic(query, tensors[query.key], mechanism, schema, patients, tensors) for query in mechanism.queries
        )
    if isinstance(mechanism, Evaluation):
        return evaluation_parts(tensors, mechanism, schema.predicting(mechanism))
    if isinstance(mechanism, KaplanMeier):
        return tuple(_survival(name, tensor, mechanism, schema) for name, tensor in tensors.items())
    return tuple(_part(name, "", tensor) for name, tensor in tensors.items())


def _form_sentences(mechanism: DPSGD) -> list[str]:
    """In what form the weights left."""
    if mechanism.secure_aggregation:
        return masked_sentences(mechanism.secure_aggregation)
    if mechanism.compression == "none":
        return ["The figures below are of the weights as they left, noise included."]
    told = "The figures below are as they left: whole steps of a public grid that each weight moved by, noise included,"
    return [f"{told} and how often each tensor's step was doubled."]


def noise_sentences(mechanism: Mechanism) -> list[str]:
    """What noise is in a release, a sentence each, and whether masks hide it."""
    declared = None if isinstance(mechanism, DPSGD) else declared_in(mechanism)
    return [*_noise_sentences(mechanism), *(masked_sentences(declared) if declared else ())]


def _noise_sentences(mechanism: Mechanism) -> list[str]:
    shared = shared_of(mechanism)
    if shared is not None and not isinstance(mechanism, DPSGD):
        return shared_sentences(shared)
    if isinstance(mechanism, DPSGD):
        part = "" if shared is None else "a part of "
        return [
            (
                f"{counted(mechanism.steps, 'step')} of training. In each, no record's gradient is longer than"
                f" the clipping norm, {written(mechanism.clipping_norm)}, and {part}noise of"
                f" {written(mechanism.noise_multiplier or 0)} times that length is added to their sum."
            ),
            *(shared_sentences(shared) if shared else ()),
            *_form_sentences(mechanism),
        ]
    if isinstance(mechanism, Evaluation):
        return evaluation_noise(mechanism)
    if isinstance(mechanism, KaplanMeier):
        return [f"Laplace noise for ε = {written(mechanism.epsilon)} in each cell: one patient counts in one cell."]
    if isinstance(mechanism, Regression):
        return [
            (
                "Gaussian noise in each of a few sums over patients, together"
                f" {written(mechanism.noise_multiplier or 0)} times the largest part that one patient can have in them."
            ),
            (
                "What left is made of these sums alone: coefficients, weighed by how sure they are."
                if mechanism.secure_aggregation
                else "The figures below are of these sums as they left. The researcher works out what they say of each"
                " term."
            ),
        ]
    share = epsilon_per_query(mechanism)
    return [
        (
            f"Laplace noise. Each of {counted(len(mechanism.queries), 'statistic')} has ε = {written(share)} of the"
            f" {written(mechanism.epsilon)} in all, and a patient gives it at most"
            f" {counted(mechanism.records_per_patient, 'record')}."
        )
    ]


def evaluation_noise(mechanism: Evaluation) -> list[str]:
    """What noise is in an evaluation's tables, and how they share its ε."""
    share = written(mechanism.draws[0])
    if len(mechanism.draws) == 1 and mechanism.outcome is not Outcome.LABELS:
        return [f"Laplace noise for ε = {share} in each cell: one held-out patient counts in one cell."]
    tables = 1 + len(mechanism.subgroups)
    said = [
        (
            f"Laplace noise. {counted(tables, 'table')} share ε = {written(mechanism.epsilon)} equally,"
            f" {written(mechanism.epsilon / tables)} each: one held-out patient counts in one cell of a table."
        )
        if tables > 1
        else f"Laplace noise for ε = {written(mechanism.epsilon)} in all."
    ]
    if mechanism.subgroups:
        said.append("Groups of one column are disjoint: one record stands for each patient, and is in one group.")
    if mechanism.outcome is Outcome.TIME:
        said.append("Half of each is for counts of times, half for squared errors of the predicted survival.")
    if mechanism.outcome is Outcome.LABELS:
        said.append("Labels share a table's ε equally: a patient counts once for each.")
    return said


def _statistic(
    query: Query, tensor: Array, mechanism: Statistics, schema: Schema, patients: int, tensors: Mapping[str, Array]
) -> Part:
    groups = groups_of(mechanism, schema)
    names = [", ".join(name) for name in groups.names] if groups else [""]
    title = _title(query) + (f" by {', '.join(groups.columns)}" if groups else "")
    if query.name in CELLS:
        labels = list(cell_labels(query, mechanism, schema))
        reach = LAPLACE_95 * standard_error(query, mechanism, schema)
        return _cells(query.key, title, tensor, [tuple(names), *labels] if groups else labels, reach)
    column = schema.column(query.columns[0]) if query.columns else None
    rows = _by_group(tensor, len(names))
    with_number = _ends_with_number(query, tensor, mechanism, schema)
    epsilon, records = epsilon_per_query(mechanism), mechanism.records_per_patient
    if query.name == "quantiles":
        assert column is not None
        fewest = max(1.0, float(rows[:, -1].min())) if with_number else patients
        shift = rank_shift(epsilon=epsilon, records=records, patients=fewest)
        reach = shift + LAPLACE_95 * rank_error(epsilon=epsilon, records=records, patients=fewest)
        quantiles = tuple(
            Value(f"{name}, {written(100 * rank)} %" if name else f"{written(100 * rank)} %", float(number))
            for name, row in zip(names, rows, strict=True)
            for rank, number in zip(query.ranks, row, strict=False)
        )
        error = f"Noise moves each rank by at most {written(100 * reach, digits=2)} percentage points, 95 times in 100."
        return _part(query.key, title, tensor, numbers=quantiles[:MOST_VALUES], error=error, unit=column.unit)
    means = tensors.get(f"mean/{query.columns[0]}") if query.columns else None
    known = [None] * len(names) if means is None else [float(row[0]) for row in _by_group(means, len(names))]
    numbers = []
    for name, row, mean in list(zip(names, rows, known, strict=True))[:MOST_VALUES]:
        value, people = float(row[0]), max(1.0, float(row[-1])) if with_number else patients
        reach = LAPLACE_95 * _noise(query, value, mean, mechanism, schema, people)
        least, most = _possible(query, column)
        low, high = (min(max(end, least), most) for end in (value - reach, value + reach))
        numbers.append(Value(name, value, low, high))
    return _part(query.key, title, tensor, numbers=tuple(numbers), unit=_unit(query, column))


def _noise(
    query: Query, value: float, mean: float | None, mechanism: Statistics, schema: Schema, patients: float
) -> float:
    """Standard error of one released number, from noise alone."""
    epsilon, records = epsilon_per_query(mechanism), mechanism.records_per_patient
    if query.name == "mean":
        column = schema.column(query.columns[0])
        return mean_error(column, epsilon=epsilon, records=records, patients=patients, mean=value)
    if query.name == "variance":
        column, variance = schema.column(query.columns[0]), None if mean is None else value
        return variance_error(column, epsilon=epsilon, records=records, patients=patients, mean=mean, variance=variance)
    return standard_error(query, mechanism, schema)


def _by_group(tensor: Array, groups: int) -> Array:
    """A tensor of numbers as [groups, numbers of one]."""
    return np.asarray(tensor, dtype=np.float64).reshape(groups, -1)


def _ends_with_number(query: Query, tensor: Array, mechanism: Statistics, schema: Schema) -> bool:
    """Whether the number of records comes last; in releases of version 0.1 it does not."""
    return is_counted(query, mechanism, schema) and tensor.shape == answer_shape(query, mechanism, schema)


def _title(query: Query) -> str:
    if not query.columns:
        return "Count of patients"
    names = ", ".join(query.columns)
    if query.name == "missing":
        return f"Records with and without {names}"
    return f"Distribution of {names}" if query.name == "describe" else f"{query.name.capitalize()} of {names}"


def _possible(query: Query, column: Column | None) -> tuple[float, float]:
    """Between which an answer without noise lies, whatever the records are."""
    if column is None:
        return 0.0, math.inf  # a count
    if query.name == "mean":
        return column.low, column.high
    return (0.0, half_range(column) ** 2) if query.name == "variance" else (-math.inf, math.inf)


def _unit(query: Query, column: Column | None) -> str:
    if column is None:
        return "patients"
    return f"{column.unit}²" if query.name == "variance" and column.unit else column.unit


def evaluation_parts(tensors: Mapping[str, Array], mechanism: Evaluation, schema: Schema) -> tuple[Part, ...]:
    """Every table of an evaluation. `schema` has the mechanism's target."""
    intervals = tensors[ERRORS].shape[-1] if ERRORS in tensors else 1
    tables = {table.name: table for table in evaluation_tables(mechanism, schema, intervals)}
    return tuple(_table(tables[name], tensor, mechanism, schema) for name, tensor in tensors.items())


def _table(table: EvaluationTable, tensor: Array, mechanism: Evaluation, schema: Schema) -> Part:
    reach = LAPLACE_95 * math.sqrt(2) * table.step * (1 / table.epsilon + ROUNDING)
    title = "Squared errors of predicted survival" if table.kind == ERRORS else _TITLES[mechanism.outcome]
    if table.subgroup is not None:
        title += f", by {column_of(table.subgroup)}"
    labels = [table.groups] if table.groups else []
    shape = table.shape[len(labels) :]
    return _cells(table.name, title, tensor, [*labels, *_labels(table.kind, shape, mechanism, schema)], reach)


_TITLES = {
    Outcome.CLASS: "Counts of held-out patients by score",
    Outcome.NUMBER: "Counts of held-out patients by prediction and outcome",
    Outcome.COUNT: "Counts of held-out patients by predicted and true count",
    Outcome.TIME: "Counts of held-out patients by time and predicted risk",
    Outcome.LABELS: "Counts of held-out patients by label and score",
}


def _labels(kind: str, shape: tuple[int, ...], mechanism: Evaluation, schema: Schema) -> list[tuple[str, ...]]:
    """Labels of a table's axes, groups left out."""

    def bins(what: str, low: float = 0.0, high: float = 1.0) -> tuple[str, ...]:
        edges = np.linspace(low, high, mechanism.bins + 1)
        return tuple(f"{what} {written(a)} to {written(b)}" for a, b in itertools.pairwise(edges))

    if mechanism.outcome is Outcome.CLASS:
        labels = [tuple(f"truly {label}" for label in schema.classes)]
        if len(shape) == 3:
            labels.append(tuple(f"called {label}" for label in schema.classes))
        return [*labels, bins("score")]
    if mechanism.outcome is Outcome.LABELS:
        return [schema.classes, ("no", "yes"), bins("score")]
    column = target_column(schema)
    if mechanism.outcome is not Outcome.TIME:
        return [bins("predicted", column.low, column.high), column.cells(mechanism.bins)[0]]
    assert isinstance(schema.target, TimeToEvent)
    count = shape[1] if kind == ERRORS else shape[0] // 2
    ends = [written(schema.target.horizon * (number + 1) / count) for number in range(count)]
    if kind == ERRORS:
        return [("known without the event", "event in the interval"), tuple(f"to {end}" for end in ends)]
    begun = ["0", *ends[:-1]]
    came = tuple(f"event after {begin} to {end}" for begin, end in zip(begun, ends, strict=True))
    censored = tuple(f"censored after {begin} to {end}" for begin, end in zip(begun, ends, strict=True))
    return [(*came, *censored, f"without the event at {ends[-1]}"), bins("risk")]


def _survival(name: str, tensor: Array, mechanism: KaplanMeier, schema: Schema) -> Part:
    labels = [survival_groups(mechanism, schema), survival_labels(mechanism, schema)]
    reach = LAPLACE_95 * math.sqrt(2) * (1 / mechanism.epsilon + ROUNDING)
    return _cells(name, f"Counts of patients by {mechanism.time} and {mechanism.event}", tensor, labels, reach)


def _cells(name: str, title: str, tensor: Array, labels: list[tuple[str, ...]], reach: float) -> Part:
    cells = []
    for place in list(np.ndindex(*tensor.shape))[:MOST_VALUES]:
        number = float(tensor[place])
        label = ", ".join(names[index] for names, index in zip(labels, place, strict=True))
        cells.append(Value(label, number, max(number - reach, 0.0), max(number + reach, 0.0)))
    return _part(name, title, tensor, numbers=tuple(cells), unit="")


def _part(
    name: str, title: str, tensor: Array, *, numbers: tuple[Value, ...] = (), error: str = "", unit: str = ""
) -> Part:
    flat = np.asarray(tensor, dtype=np.float64).ravel()
    finite = flat[np.isfinite(flat)]
    return Part(
        name=name,
        title=title,
        dtype=tensor.dtype.name,
        shape=tuple(tensor.shape),
        count=int(flat.size),
        minimum=float(finite.min()) if finite.size else math.nan,
        maximum=float(finite.max()) if finite.size else math.nan,
        norm=float(np.linalg.norm(finite)) if finite.size else math.nan,
        not_finite=int(flat.size - finite.size),
        unit=unit,
        numbers=numbers,
        error=error,
    )
