"""Evaluations of numbers and times, and of subgroups, watched where the one patient may count."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from datasites.engine import evaluation
from datasites.engine.sampling import PatientRows
from policies.privacy.mechanisms import Evaluation, Mechanism
from policies.release.evaluation_tables import ERROR_UNITS, ERRORS, EvaluationTable, evaluation_tables
from policies.schema.columns import Column
from tests.proof.attacker import FloatArray
from tests.proof.cases import release
from tests.proof.neighbours import PUBLISHED, Matrix, Weights, loud, overflowing, pair
from tests.proof.neighbours import SCHEMA as CLASSES
from tests.proof.registry import Case, Fault, Proof

HIDDEN = 4  # units of the model that is scored
SCHEMA = replace(
    CLASSES,
    target=None,
    columns=(
        *CLASSES.columns,
        Column(name="days", kind="real", minimum=0.0, maximum=100.0, feature=False),
        Column(name="died", kind="boolean", feature=False),
        Column(name="sex", kind="boolean", feature=False),
    ),
)
INPUTS = tuple(column.name for column in CLASSES.columns if column.name != CLASSES.target)
# The crowd died on the first day and the patient lives; the model, sure of everybody, is right about the crowd alone.
NUMBER = Evaluation(loss="mean_squared_error", epsilon=1.0, bins=5, inputs=INPUTS, target="days", subgroups=("sex",))
TIME = Evaluation(loss="discrete_hazards", epsilon=1.0, bins=5, inputs=INPUTS, target=("days", "died"), horizon=50.0)

NUMBERS = "predictions of a number, by sex"
RECORDS = "predictions of a number, 20 records of both sexes"
TIMES = "predictions of a time"


def tables(**changes: Any) -> tuple[Matrix, Matrix]:
    """A crowd that died at once, without the one patient, who lives, and with: whose records are of both sexes."""
    made = []
    for table in pair(1007, held_out=True, **changes):
        lives = table[:, -1] == 0
        sex = np.where(lives, np.arange(len(table)) % 2, 0)
        made.append(np.column_stack([table, np.where(lives, 90.0, 1.0), ~lives, sex]))
    return made[0], made[1]


def counted(weights: Callable[[int], Weights]) -> Callable[[Mechanism, Matrix], FloatArray]:
    """Watch the cells that the patient can fall into, of all patients and of either sex."""

    def watch(declared: Mechanism, table: Matrix) -> FloatArray:
        seen = release(declared, table, weights(HIDDEN), HIDDEN, PUBLISHED, SCHEMA)
        cells, groups = seen["scores"], seen["scores/sex"]
        return np.asarray([cells[4, 4], cells[0, 4], groups[0, 4, 4], groups[1, 4, 4], cells.sum()])

    return watch


def timed(weights: Callable[[int], Weights]) -> Callable[[Mechanism, Matrix], FloatArray]:
    """Watch who was without the event at the horizon, and the errors of what was predicted for them."""

    def watch(declared: Mechanism, table: Matrix) -> FloatArray:
        seen = release(declared, table, weights(HIDDEN), HIDDEN, PUBLISHED, SCHEMA)
        return np.asarray([seen["scores"][2, 4], seen["scores"][2, 0], seen[ERRORS][0, 0], seen["scores"].sum()])

    return watch


def pairs() -> list[Case]:
    """Of evaluations of numbers and times."""
    return [
        Case(NUMBERS, NUMBER, tables, counted(loud), HIDDEN, SCHEMA, each_night=True),
        Case(RECORDS, NUMBER, lambda: tables(records=20), counted(loud), HIDDEN, SCHEMA),
        Case("predictions of a number, not finite", NUMBER, tables, counted(overflowing), HIDDEN, SCHEMA),
        Case(TIMES, TIME, tables, timed(loud), HIDDEN, SCHEMA),
        Case("predictions of a time, 20 records", TIME, lambda: tables(records=20), timed(loud), HIDDEN, SCHEMA),
        Case("predictions of a time, not finite", TIME, tables, timed(overflowing), HIDDEN, SCHEMA),
    ]


def counts_every_record() -> AbstractContextManager[Any]:
    """All records of a patient count, each in its own group."""
    real = PatientRows.one_of_each

    def one_of_each(self: PatientRows, source: Any) -> Any:
        rows = real(self, source)
        return np.concatenate([rows[rows < PUBLISHED], np.arange(PUBLISHED, int(self._begins[-1]))])

    return mock.patch.object(PatientRows, "one_of_each", one_of_each)


@contextmanager
def _tables(change: Callable[[EvaluationTable], EvaluationTable]) -> Iterator[None]:
    def changed(*given: Any) -> tuple[EvaluationTable, ...]:
        return tuple(change(table) for table in evaluation_tables(*given))

    with mock.patch.object(evaluation, "evaluation_tables", changed):
        yield


def every_table_has_all_of_epsilon() -> AbstractContextManager[Any]:
    """Tables of subgroups do not share ε: each has all of it."""
    return _tables(lambda table: replace(table, epsilon=1.0))


def errors_have_the_noise_of_one_step() -> AbstractContextManager[Any]:
    """Squared errors get the noise of counts that a patient moves by one, and one moves them by 64 steps."""
    return _tables(lambda table: replace(table, epsilon=table.epsilon * ERROR_UNITS) if table.kind == ERRORS else table)


def _above(steps: int, epsilon: float) -> float:
    """The chance that discrete Laplace noise is at least so many steps."""
    p = math.exp(-epsilon)
    return p**steps / (1 + p) if steps > 0 else 1 - p ** (1 - steps) / (1 + p)


FAULTS = (
    # Twenty records in the cell of all patients, whose noise has half of ε: half of them are seen through it.
    Fault("every record is scored", counts_every_record, RECORDS, chances=lambda: (_above(10, 0.5), _above(-10, 0.5))),
    # Both tables show the patient, each as if it were the only one.
    Fault(
        "subgroups at the whole ε", every_table_has_all_of_epsilon, NUMBERS,
        chances=lambda: (_above(1, 1.0) ** 2, _above(0, 1.0) ** 2),
    ),
    Fault(
        "errors at one step's noise", errors_have_the_noise_of_one_step, TIMES,
        chances=lambda: (_above(32, 0.5), _above(-32, 0.5)),
    ),
)  # fmt: skip

PROOF = Proof(cases=pairs, faults=FAULTS)
