"""A confined runner trains and scores every loss: what it needs was there before it was confined."""

from __future__ import annotations

import numpy as np
import pytest

from datasites.vault.private_rows import PrivateRows
from policies.privacy.accountant import resolve
from policies.privacy.mechanisms import Mechanism, as_dict
from policies.privacy.outcomes import LOSSES
from policies.release.plans import Plan, release_shapes
from policies.release.tensors import check_tensors, from_bytes, to_bytes
from tests.attacks.running import Running
from tests.datasites.engine.outcome_factories import SCHEMA, evaluation_of, model_of, table_of, training_of
from tests.datasites.engine.training_factories import exported


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_and_is_scored_where_nothing_can_be_imported(loss: str, running: Running) -> None:
    model, arguments = model_of(loss)
    graph, weights = exported(model, *arguments)
    payload = to_bytes({name: np.ascontiguousarray(value) for name, value in weights.items()})

    def plan_of(mechanism: Mechanism) -> Plan:
        return Plan("outcome", resolve(mechanism), "Layers", graph, "", "t", "v", mechanism)

    for job, mechanism in (
        ("train", training_of(loss, steps=30, sampling_rate=0.3)),
        ("evaluate", evaluation_of(loss, subgroups=("sex", ("age", 40, 65)))),
    ):
        plan = plan_of(mechanism)
        given = {
            "job": job,
            "plan": plan.as_dict(),
            "mechanism": as_dict(plan.mechanism),
            "schema": SCHEMA.as_dict(),
            "training_patients": 60,
            "patients": 120,
        }
        with PrivateRows(table_of(120, held_out=60)) as rows:
            answer = running.pool.run("runner", given, payload, rows=rows, seconds=30, memory=512 << 20)
        assert answer.done, answer.message
        for dry in ("try", "rehearse"):
            said = running.pool.run("runner", {**given, "job": dry}, payload, seconds=30, memory=512 << 20)
            assert said.done, said.message
        check_tensors(from_bytes(answer.payload), release_shapes(plan, SCHEMA), finite=True)
