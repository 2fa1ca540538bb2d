"""`datasite audit`: a request's plan, audited in one run on made-up patients in the confined runner.

Nothing is charged, no private row is read, and what is found goes to the owner and the audit log alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from datasites.actions.registry import action
from datasites.datasite import Datasite
from datasites.people.roles import OWNER, Actor
from policies.errors import InvalidRequest, Unavailable
from policies.privacy import accountant
from policies.privacy.mechanisms import DPSGD
from policies.release.plans import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from datasites.engine.privacy_audit import Records
    from policies.graph.graphs import Graph
    from policies.schema.schemas import Schema

ROUND_SECONDS = 3600.0
SUSPICIOUS = 4.0  # deviations above what the declared mechanism shows: by chance once in 10,000 audits or fewer


@action(OWNER)
def audit(
    datasite: Datasite, actor: Actor, *, request: str, canaries: int = 4000, seed: int | None = None
) -> dict[str, Any]:
    """A one-run audit of a request's training; see `datasites.engine.privacy_audit` for what it can and cannot show.

    Raises:
      InvalidRequest: the request has no plan, does not train, shares its noise, or `canaries` is out of range.
      Unavailable: the runner failed or took longer than an hour for a round.
    """
    from datasites.engine.privacy_audit import one_run_audit
    from datasites.progress import tell

    record = datasite.submissions.find(request)
    plan = record.plan
    if plan is None:
        raise InvalidRequest(f"Request {record.id[:8]} has no plan, so there is nothing to audit.")
    if not isinstance(plan.mechanism, DPSGD):
        raise InvalidRequest(f"Request {record.id[:8]} trains nothing. An audit hides patients in a training run.")
    if plan.mechanism.step_grid is not None:
        raise InvalidRequest(
            f"Request {record.id[:8]} shares its noise: this hospital adds a part of it, and an audit sees one hospital"
            " alone. Both of its ε stand on its page, and tests/proof tries them."
        )
    published = datasite.planner.published(version=record.version)
    seed = secrets.randbits(63) if seed is None else seed
    found = one_run_audit(
        lambda *arguments: _in_runner(datasite, plan, *arguments),
        plan.mechanism,
        published.training_patients,
        canaries=canaries,
        seed=seed,
        tell=tell,
    )
    mechanism, delta = plan.mechanism, plan.mechanism.delta
    answer: dict[str, Any] = {
        "request": record.id,
        "function": record.function,
        "bound": found.bound,
        "confidence": found.confidence,
        "epsilon": accountant.epsilon_of(mechanism, delta),
        "pld_epsilon": accountant.pld_epsilon(mechanism, delta),
        "delta": delta,
        "canaries": found.canaries,
        "guesses": found.guesses,
        "right": found.right,
        "strength": found.strength,
        "expected_strength": found.expected_strength,
        "expected_deviation": found.expected_deviation,
        "expected_bound": found.expected_bound,
        "surplus": found.surplus,
        "seed": seed,
    }
    answer["contradicted"] = found.bound > answer["epsilon"] or found.surplus > SUSPICIOUS
    told = {name: answer[name] for name in ("bound", "confidence", "epsilon", "canaries", "seed", "contradicted")}
    datasite.audit_log.record(actor.name, "audit", record.id, function=record.function, **told)
    return answer


def _in_runner(
    datasite: Datasite,
    plan: Plan,
    graph: Graph,
    mechanism: DPSGD,
    schema: Schema,
    training_patients: int,
    records: Records,
    weights: Mapping[str, Tensor],
) -> dict[str, Any]:
    """One round as a job like any other, confined and with secure noise; only its rows and its graph are made up."""
    from dataclasses import replace

    from datasites.review.rounds import JOB_MEMORY, JOB_OF
    from datasites.vault.private_rows import PrivateRows
    from policies.release.tensors import from_bytes, to_bytes

    # The weights themselves: whole numbers that are made of them tell no more.
    mechanism = replace(mechanism, compression="none")
    probe = replace(plan, graph=graph, mechanism=mechanism, model="probe")
    job = {
        "job": JOB_OF[mechanism.kind],
        "plan": probe.as_dict(),
        "schema": schema.as_dict(),
        "training_patients": training_patients,
    }
    payload = to_bytes({name: tensor.numpy() for name, tensor in weights.items()})
    with PrivateRows(records) as rows:
        answer = datasite.pool.run("runner", job, payload, seconds=ROUND_SECONDS, memory=JOB_MEMORY, rows=rows)
    if not answer.done:
        raise Unavailable(f"The runner failed:\n{answer.output}")
    return from_bytes(answer.payload)
