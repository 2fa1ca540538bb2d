"""Statistics: every kind of them, watched where the one patient's records may be counted."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as distributions

from datasites.engine import statistics as statistics_engine
from datasites.jobs import child
from policies.privacy.draws import parts_of
from policies.privacy.mechanisms import Mechanism, Query, Statistics
from tests.proof.attacker import FloatArray
from tests.proof.cases import release
from tests.proof.curves import INTERVAL
from tests.proof.neighbours import PUBLISHED, Matrix, pair
from tests.proof.registry import Case, Fault, Proof

COUNT = "count of patients"
STATISTICS = "every statistic, 20 records"

EVERY_QUERY = (
    Query("count"),
    Query("sum", ("x2",)),
    Query("mean", ("x2",)),
    Query("variance", ("x2",)),
    Query("quantiles", ("x2",), (0.1, 0.5)),
    Query("histogram", ("x2",)),
    Query("crosstab", ("x2", "y")),
)


def statistics(*queries: Query, epsilon: float = 1.0, **changes: Any) -> Statistics:
    return Statistics(queries=queries, epsilon=epsilon, **changes)


def answering(declared: Mechanism, table: Matrix) -> FloatArray:
    """Watch every number of an answer that the patient can move: of cells, the first one."""
    answers = release(declared, table, None, None, PUBLISHED)
    parts = (np.ravel(answers[name]) for name in sorted(answers))
    return np.concatenate([part[:1] if part.size > 2 else part for part in parts])


def pairs() -> list[Case]:
    """Of statistics."""
    count, every = statistics(Query("count")), statistics(*EVERY_QUERY, epsilon=7.0)
    return [
        Case(COUNT, count, lambda: pair(1007), answering),
        Case("count of patients, 20 records", count, lambda: pair(1024, records=20), answering),
        Case(STATISTICS, every, lambda: pair(1007, records=20), answering),
        Case("every statistic, not finite", every, lambda: pair(1006, value=np.nan), answering),
    ]


def loss_of(mechanism: Statistics) -> Any:
    """All records of the one patient are alike, so they move one cell of a table and one node of a level."""
    epsilons = parts_of(mechanism)
    interval = INTERVAL / len(epsilons)  # each of them rounds up
    whole, *others = (
        distributions.from_laplace_mechanism(1 / epsilon, value_discretization_interval=interval)
        for epsilon in epsilons
    )
    for part in others:
        whole = whole.compose(part)
    return whole


def answers_every_record() -> AbstractContextManager[Any]:
    """Statistics take all the records of a patient, and their noise is that of one."""
    return mock.patch.object(
        statistics_engine, "choose_records", lambda patients, most, source: np.arange(len(patients))
    )


CONTROLS = (Fault("statistics of every record", answers_every_record, STATISTICS),)

PROOF = Proof(cases=pairs, controls=CONTROLS, declared=Statistics, job=child.statistics, loss=loss_of)
