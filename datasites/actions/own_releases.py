"""Releases of the datasite's own, which no researcher asks for: charged, confined, settled and certified."""

from __future__ import annotations

import hashlib

from datasites.datasite import Datasite
from datasites.ledger.records import DatasetRecord
from datasites.people.roles import Actor
from datasites.review.rounds import JOB_MEMORY, Arrays
from datasites.vault.private_rows import PrivateRows
from policies.errors import DatasiteError
from policies.privacy import accountant
from policies.privacy.mechanisms import Statistics, as_dict
from policies.release.plans import Plan, Published
from policies.schema.schemas import Schema

SECONDS = 300.0
PATIENTS = "published_patients"
"""The name of a DP count's release in the ledger and in its certificate."""


def release_now(
    datasite: Datasite,
    record: DatasetRecord,
    schema: Schema,
    mechanism: Statistics,
    rows: PrivateRows,
    function: str,
    actor: Actor,
) -> Arrays:
    """What `mechanism` releases of a version that is being published: reserve, run in the runner, settle, certify.

    Args:
      function: its name in the ledger and in its certificate.

    Raises:
      BudgetExceeded: it does not fit; nothing was read.
      DatasiteError: the run failed; its charge stays.
    """
    plan = Plan(
        function=function,
        mechanism=mechanism,
        model=None,
        graph=None,
        source_sha256=hashlib.sha256(b"").hexdigest(),
        dataset=record.name,
        version=record.version,
        declared=mechanism,
    )
    charge = accountant.charge_for(mechanism, datasite.ledger.budgets.balance(record.population).order)
    run = datasite.ledger.charge_now(
        record.population,
        charge,
        dataset=record.name,
        version=record.version,
        actor=actor.name,
        what=plan.function,
        plan=datasite.decisions.read_rules().yearly_plans.get(record.population),
    )
    job = {"job": "statistics", "mechanism": as_dict(mechanism), "schema": schema.as_dict()}
    try:
        answer = datasite.pool.run("runner", job, seconds=SECONDS, memory=JOB_MEMORY, rows=rows)
        size = record.patients or 0  # 0 where it is not counted yet
        published = Published(record.name, record.version, record.population, schema, size, record.size_kind)
        return datasite.rounds.settle(run, plan, published, actor.name, answer)
    except DatasiteError as error:
        datasite.ledger.runs.fail(run.id, str(error))
        raise
