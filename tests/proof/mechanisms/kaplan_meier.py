"""Survival: a noisy table of time and event, watched where the one patient may be counted."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as distributions

from datasites.engine import survival
from datasites.engine.noise import NoiseSource
from datasites.jobs import child
from policies.privacy.mechanisms import KaplanMeier, Mechanism
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from policies.schema.survival_cells import TENSOR
from tests.proof.attacker import FloatArray
from tests.proof.cases import release
from tests.proof.curves import INTERVAL
from tests.proof.neighbours import PUBLISHED, Matrix
from tests.proof.registry import Case, Fault, Proof

FOLLOWED = Schema(
    name="followed",
    population="p",
    patient="id",
    columns=(
        Column(name="week", kind="integer", minimum=0, maximum=9),
        Column(name="relapse", kind="boolean"),
        Column(name="ward", kind="category", categories=("a", "b")),
    ),
)
ASKED = KaplanMeier(time="week", event="relapse", by="ward", epsilon=1.0, bins=10)
WEEK, RECORDS = 6, 20
TABLE, MANY = "survival of 1007 or 1008", "survival, 20 records"


def pair(patients: int, *, records: int = 1, missing: bool = False) -> tuple[Matrix, Matrix]:
    """A crowd whose event was in week 1 of ward a, without the one patient, whose was in week 6 of ward b, and with."""
    crowd = np.tile([0.0, 0.0, 1.0, 1.0, 0.0], (patients, 1))
    crowd[:, 0] = np.arange(patients)
    one = np.tile([float(patients), 0.0, float(WEEK), 1.0, 1.0], (records, 1))
    if missing:
        one[:-1, 3] = np.nan  # but for one record
    return crowd, np.concatenate([crowd, one])


def counting(declared: Mechanism, table: Matrix) -> FloatArray:
    """Watch the one patient's cell, and all of the ward's."""
    cells = release(declared, table, None, None, PUBLISHED, FOLLOWED)[TENSOR]
    return np.asarray([cells[1, WEEK], cells[1].sum()])


def pairs() -> list[Case]:
    """Of survival."""
    listed = {
        TABLE: lambda: pair(1007),
        MANY: lambda: pair(1024, records=RECORDS),
        "survival, one whole record of 20": lambda: pair(1007, records=RECORDS, missing=True),
        "survival of nobody": lambda: pair(0),
    }
    return [Case(name, ASKED, tables, counting, schema=FOLLOWED) for name, tables in listed.items()]


def loss_of(mechanism: KaplanMeier) -> Any:
    """Whole counts of L1 sensitivity 1 under exact discrete Laplace noise."""
    return distributions.from_discrete_laplace_mechanism(mechanism.epsilon, value_discretization_interval=INTERVAL)


def exact_counts() -> AbstractContextManager[Any]:
    """The table leaves as it was counted."""
    return mock.patch.object(NoiseSource, "discrete_laplace", lambda self, count, epsilon: np.zeros(count, np.int64))


def every_record() -> AbstractContextManager[Any]:
    """All records of a patient count, and noise is that of one."""
    return mock.patch.object(survival, "one_of_each", lambda schema, matrix, columns, source, where: matrix)


def above(threshold: int, counted: int) -> float:
    """The chance that a count with its noise is at least `threshold`: P[Z ≥ z] = p^z / (1 + p) for z above 0."""
    p, z = math.exp(-ASKED.epsilon), threshold - counted
    return p**z / (1 + p) if z > 0 else 1 - p ** (1 - z) / (1 + p)


FAULTS = (
    Fault("survival without noise", exact_counts, TABLE, chances=lambda: (0.0, 1.0)),
    Fault(
        "survival of every record",
        every_record,
        MANY,
        chances=lambda: (above(RECORDS // 2, 0), above(RECORDS // 2, RECORDS)),
    ),
)

PROOF = Proof(cases=pairs, faults=FAULTS, declared=KaplanMeier, job=child.analyse, loss=loss_of)
