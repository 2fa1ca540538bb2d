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
from policies.privacy.grouping import Grouping
from policies.privacy.mechanisms import Mechanism, Query, Statistics
from policies.schema.questions import groups_of
from tests.proof.attacker import FloatArray
from tests.proof.cases import release
from tests.proof.curves import INTERVAL
from tests.proof.neighbours import PUBLISHED, SCHEMA, Matrix, pair
from tests.proof.registry import Case, Fault, Proof

COUNT = "count of patients"
STATISTICS = "every statistic, 20 records"
GROUPS = "every statistic by groups, 20 records in both"
GROUP_COUNTS = "patients by groups, 20 records in both"
COHORT = "every statistic of a cohort, one patient or nobody"

EVERY_QUERY = (
    Query("count"),
    Query("sum", ("x2",)),
    Query("mean", ("x2",)),
    Query("variance", ("x2",)),
    Query("quantiles", ("x2",), (0.1, 0.5)),
    Query("histogram", ("x2",)),
    Query("crosstab", ("x2", "y")),
)
OF_WHAT_IS_MISSING = (Query("missing", ("x2",)), Query("describe", ("x2",)))
SIDES = (Grouping("x0", (0.0,)),)


def statistics(*queries: Query, epsilon: float = 1.0, **changes: Any) -> Statistics:
    return Statistics(queries=queries, epsilon=epsilon, **changes)


def answering(declared: Mechanism, table: Matrix) -> FloatArray:
    """Watch every number of an answer that the patient can move: of cells, the first one."""
    answers = release(declared, table, None, None, PUBLISHED)
    parts = (np.ravel(answers[name]) for name in sorted(answers))
    return np.concatenate([part[:1] if part.size > 2 else part for part in parts])


def answering_by_group(declared: Mechanism, table: Matrix) -> FloatArray:
    """Watch, of every group, the first two numbers of each answer: value and number, or the first cells."""
    assert isinstance(declared, Statistics)
    groups = groups_of(declared, SCHEMA)
    assert groups is not None
    answers = release(declared, table, None, None, PUBLISHED)
    rows = (np.reshape(answers[name], (groups.count, -1)) for name in sorted(answers))
    return np.concatenate([row[:, :2].ravel() for row in rows])


def in_both_groups() -> tuple[Matrix, Matrix]:
    """A crowd without the one patient, and with: 20 records, half of them on either side of the first feature."""
    without, with_patient = pair(1007, records=20)
    with_patient[1007:, 2] = np.where(np.arange(20) % 2, 0.5, -0.5)
    return without, with_patient


def pairs() -> list[Case]:
    """Of statistics."""
    count, every = statistics(Query("count")), statistics(*EVERY_QUERY, epsilon=7.0)
    more = (*EVERY_QUERY, *OF_WHAT_IS_MISSING)
    by_groups = statistics(*more, epsilon=9.0, records_per_patient=2, group_by=SIDES)
    counts_by_groups = statistics(Query("count"), epsilon=2.0, records_per_patient=20, group_by=SIDES)
    cohort = statistics(*more, epsilon=9.0, where="x2 < 0.5 and y == no")
    return [
        Case(COUNT, count, lambda: pair(1007), answering),
        Case("count of patients, 20 records", count, lambda: pair(1024, records=20), answering),
        Case(STATISTICS, every, lambda: pair(1007, records=20), answering),
        Case("every statistic, not finite", every, lambda: pair(1006, value=np.nan), answering),
        Case(GROUPS, by_groups, in_both_groups, answering_by_group),
        Case(GROUP_COUNTS, counts_by_groups, in_both_groups, answering_by_group),
        Case(COHORT, cohort, lambda: pair(1007, records=20), answering),
    ]


def loss_of(mechanism: Statistics) -> Any:
    """All records of the one patient are alike, so they move one cell of a table and one node of a level; by groups
    they may move several by less, which tells less."""
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


def counts_records_by_groups() -> AbstractContextManager[Any]:
    """By groups every record is counted, and the noise is that of a patient who stands once in each."""
    return mock.patch.object(
        statistics_engine, "_patients", lambda chosen: np.bincount(chosen.groups, minlength=chosen.group_count)
    )


def every_record_passes() -> AbstractContextManager[Any]:
    """Of a cohort all the records of a patient are taken, and their noise is that of one."""
    return mock.patch.object(
        statistics_engine, "choose_passing", lambda patients, passes, most, source: np.arange(len(patients))
    )


def groups_without_noise() -> AbstractContextManager[Any]:
    """The number of records that a mean is of leaves as it was counted."""
    real = statistics_engine._mean

    def mean(values: Any, present: Any, chosen: Any, *rest: Any, **named: Any) -> Any:
        number = np.bincount(chosen.groups, weights=present, minlength=chosen.group_count)
        return real(values, present, chosen, *rest, **named)[0], number

    return mock.patch.object(statistics_engine, "_mean", mean)


CONTROLS = (
    Fault("statistics of every record", answers_every_record, STATISTICS),
    # Ten records on either side, where one is claimed: ten scales of noise.
    Fault("records of a group for its patients", counts_records_by_groups, GROUP_COUNTS),
    Fault("every record of a cohort", every_record_passes, COHORT),
    Fault("the number of a group without noise", groups_without_noise, GROUPS),
)

PROOF = Proof(cases=pairs, controls=CONTROLS, declared=Statistics, job=child.statistics, loss=loss_of)
