"""Patients of simulated hospitals: made up from a schema, drawn from a public table, or what a function gives.

Nothing here is a patient's. What the schema makes up has a rule in it, the same at all hospitals up to a shift of each,
so that a model can learn something and hospitals differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from policies.errors import InvalidRequest
from policies.privacy.mechanisms import DPSGD
from policies.privacy.outcomes import Outcome, outcome_of
from policies.schema.columns import Column
from policies.schema.schemas import FIRST_COLUMN, Schema

if TYPE_CHECKING:
    import pandas as pd

Matrix = npt.NDArray[np.float64]
Patients = Callable[[int, int, np.random.Generator], "pd.DataFrame"]
"""(hospital from 0, number of patients, generator) to a table with the schema's columns, a row for each patient."""

SIMULATED = (Outcome.CLASS, Outcome.NUMBER, Outcome.COUNT)
STEEPNESS, SHIFT = 6.0, 0.5  # of the made-up rule: how sure it is, and how much a hospital's own part weighs
_TRUE = {"true": 1.0, "1": 1.0, "yes": 1.0, "1.0": 1.0}


@dataclass(frozen=True)
class Rows:
    """Patients of one hospital, one record each.

    Args:
      inputs: of the model, float32 [patients, ...].
      targets: int64 [patients] of a class, float32 [patients, values] of a number.
    """

    inputs: npt.NDArray[np.float32]
    targets: npt.NDArray[Any]


@dataclass(frozen=True)
class Source:
    """Where patients come from.

    Args:
      schema: of the dataset, with the target that `training` predicts.
      training: what is trained.
      seed: same seed, same patients.
      table: public rows to draw from, with replacement; or None.
      patients: a function that gives them; or None. Without both they are made up from the schema.
    """

    schema: Schema
    training: DPSGD
    seed: int
    table: Matrix | None = None
    patients: Patients | None = None

    def __post_init__(self) -> None:
        if outcome_of(self.training.loss) not in SIMULATED:
            raise InvalidRequest(
                f"A training with the loss {self.training.loss} is not simulated: those of classes, numbers and counts"
                " are. Try it on mock rows, as study.check() says."
            )

    def rows(self, hospital: int, count: int) -> Rows:
        """`count` patients of a hospital, numbered from 0."""
        generator = np.random.default_rng([self.seed, hospital])
        if self.patients is not None:
            matrix = encoded(self.patients(hospital, count, generator), self.schema)
            if len(matrix) != count:
                raise InvalidRequest(f"The function of patients gave {len(matrix)} of {count} for hospital {hospital}.")
        elif self.table is not None:
            matrix = self.table[generator.integers(0, len(self.table), count)]
        else:
            matrix = self._made_up(count, generator)
        outcome = outcome_of(self.training.loss)
        targets = (
            self.schema.targets(matrix) if outcome is Outcome.CLASS else self.schema.target_values(matrix, outcome)
        )
        return Rows(self.schema.inputs(matrix, self.training.inputs), targets)

    def _made_up(self, count: int, generator: np.random.Generator) -> Matrix:
        matrix = np.zeros((count, FIRST_COLUMN + len(self.schema.columns)))
        for place, column in enumerate(self.schema.columns):
            matrix[:, FIRST_COLUMN + place] = _cells(column, count, generator)
        inputs = self.schema.inputs(matrix, self.training.inputs).reshape(count, -1).astype(np.float64)
        (target,) = self.schema.target_columns
        column = self.schema.column(target)
        choices = len(column.labels) if column.labels else 1
        common = np.random.default_rng(self.seed).normal(size=(inputs.shape[1], choices))
        own = generator.normal(size=(inputs.shape[1], choices))
        slopes = (common + SHIFT * own) * STEEPNESS / np.sqrt(inputs.shape[1])
        scores = inputs @ slopes
        if choices == 1:
            value = column.low + (column.high - column.low) / (1 + np.exp(-scores[:, 0] / 2))
            value = value + generator.normal(0, 0.05 * (column.high - column.low), count)
            values = column.natural(value)
        else:
            values = np.argmax(scores + generator.gumbel(size=scores.shape), axis=1).astype(np.float64)
        matrix[:, FIRST_COLUMN + [each.name for each in self.schema.columns].index(target)] = values
        return matrix


def _cells(column: Column, count: int, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    if column.kind == "real":
        return generator.uniform(column.low, column.high, count)
    return generator.integers(int(column.low), int(column.high), count, endpoint=True).astype(np.float64)


def encoded(table: pd.DataFrame, schema: Schema) -> Matrix:
    """A public table as the private matrix lies, one record a patient.

    Raises:
      InvalidRequest: a column is missing, or of a kind that has to be encoded by a hospital.
    """
    import pandas as pd

    if lacking := [column.name for column in schema.columns if column.name not in table.columns]:
        raise InvalidRequest(f"The table lacks the schema's {', '.join(lacking)}. It has {', '.join(table.columns)}.")
    matrix = np.zeros((len(table), FIRST_COLUMN + len(schema.columns)))
    for place, column in enumerate(schema.columns):
        cells = table[column.name]
        if column.kind == "boolean":
            words = cells.astype(str).str.strip().str.lower()
            values = words.map(_TRUE).fillna(0.0).to_numpy(dtype=np.float64)
        elif column.labels:
            known = {label: float(number) for number, label in enumerate(column.labels)}
            values = cells.astype(str).map(known).to_numpy(dtype=np.float64)
        elif column.kind in ("real", "integer"):
            values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
        else:
            raise InvalidRequest(
                f"{column.name!r} is a {column.kind}, and tables of a simulation have numbers, booleans and categories."
                " Leave table= out: patients are then made up from the schema."
            )
        matrix[:, FIRST_COLUMN + place] = values
    return matrix
