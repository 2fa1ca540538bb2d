"""One job in its process: public part, report, rows, answer, in that order; its jobs called as plain functions."""

from __future__ import annotations

import os
import socket
from typing import Any

import numpy as np
import pytest

from datasites.engine.matrix import HELD_OUT, PATIENT
from datasites.engine.mock_rows import draw_mock
from datasites.jobs import child
from datasites.jobs.frames import receive_frame, send_frame
from datasites.vault.private_rows import PrivateRows
from policies.errors import InvalidRequest
from policies.privacy.mechanisms import as_dict
from policies.release.plans import release_shapes
from policies.release.tensors import check_tensors, from_bytes
from tests.open_tables import tables_open
from tests.policies.plan_factories import SCHEMA, evaluation, plan_of, statistics, training


def job_of(declared: Any, **more: Any) -> dict[str, Any]:
    plan = plan_of(declared)
    return {
        "plan": plan.as_dict(),
        "mechanism": as_dict(plan.mechanism),
        "schema": SCHEMA.as_dict(),
        "training_patients": 40,
        "patients": 50,
        **more,
    }


def answered(work: Any, rows: Any = None, *, output: str = "") -> dict[str, Any]:
    """What a datasite reads of a job that does `work`."""
    here, there = socket.socketpair()
    with here, there:
        child._answer(there, work, {}, b"", rows)
        message, payload, _ = receive_frame(here, largest_payload=1 << 20)
    return {**message, "payload": payload}


def test_an_answer_carries_what_was_printed() -> None:
    def work(job: dict[str, Any], payload: bytes) -> child.Answer:
        print("said")
        return {"seconds": 1.0}, b"release"

    assert answered(work) == {"event": "done", "seconds": 1.0, "output": "said\n", "payload": b"release"}


@pytest.mark.parametrize(
    ("error", "public"),
    [(ValueError("patient 7"), ""), (KeyboardInterrupt(), ""), (InvalidRequest("Public."), "Public.")],
)
def test_a_failure_tells_the_researcher_its_public_text_alone(error: BaseException, public: str) -> None:
    def work(job: dict[str, Any], payload: bytes, rows: Any) -> child.Answer:
        raise error

    said = answered(work, np.zeros((0, 7)))
    assert (said["event"], said["payload"]) == ("failed", b"")
    assert said["public"] == getattr(error, "public_message", "") == public or public == ""
    assert "patient 7" not in said["public"]
    assert type(error).__name__ in said["output"]  # for the owner


def test_what_a_job_prints_is_bounded() -> None:
    def work(job: dict[str, Any], payload: bytes) -> child.Answer:
        for _ in range(10):
            print("x" * child.LARGEST_OUTPUT)
        return {}, b""

    assert len(answered(work)["output"]) == child.LARGEST_OUTPUT


@pytest.mark.parametrize("count", [0, 1, 50])
def test_rows_are_read_where_they_lie_and_cannot_be_written(count: int) -> None:
    table, before = draw_mock(SCHEMA, 50)[:count], tables_open()
    here, there = socket.socketpair()
    with here, there, PrivateRows(table) as rows:
        send_frame(here, {"shape": list(rows.shape)}, descriptor=rows.descriptor)
        received = child._receive_rows(there)
    np.testing.assert_array_equal(received, table)
    assert count == 0 or not received.flags.writeable
    del received
    assert tables_open() == before


def test_the_process_at_the_other_end_is_known_by_its_user() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert child._user(here) == os.geteuid()


def test_every_job_of_the_runner_that_reads_rows_gives_the_plans_release() -> None:
    rows = draw_mock(SCHEMA, 60)
    for declared in (training(steps=2), evaluation(), statistics()):
        plan = plan_of(declared)
        work, wants_rows = child.JOBS["runner"][
            {"dp_sgd": "train", "evaluation": "evaluate"}.get(declared.kind, declared.kind)
        ]
        assert wants_rows
        graph = plan.graph.parameters if plan.graph is not None else ()
        weights = {parameter.name: np.zeros(parameter.shape, np.float32) for parameter in graph}
        _, release = work(job_of(declared), child._release(weights), rows)
        check_tensors(from_bytes(release), release_shapes(plan, SCHEMA), finite=True)


def test_jobs_before_a_decision_get_no_rows_and_a_researchers_python_runs_in_the_exporter_alone() -> None:
    wanting = {kind: {name for name, (_, rows) in jobs.items() if rows} for kind, jobs in child.JOBS.items()}
    assert wanting == {"exporter": set(), "runner": {"train", "evaluate", "statistics"}}
    assert not {"export"} & set(child.JOBS["runner"])


@pytest.mark.parametrize("held_out", [False, True])
def test_synthetic_rows_are_of_the_public_size_with_codes_as_a_table_has_them(held_out: bool) -> None:
    rows = child._synthetic(SCHEMA, 30, held_out=held_out)
    assert len(rows) == 30
    assert (rows[:, HELD_OUT] == held_out).all()
    assert len(set(rows[:, PATIENT])) == 30
    assert rows[:, PATIENT].max() > 2**40  # spread over all codes, and not numbers from 0
    assert len(child._synthetic(SCHEMA, 0, held_out=False)) == 2
    assert len(child._synthetic(SCHEMA, 10**9, held_out=False)) == 200_000


def test_a_rehearsal_tells_seconds_of_a_step_and_besides() -> None:
    weights = child._release(
        {parameter.name: np.zeros(parameter.shape, np.float32) for parameter in plan_of(training()).graph.parameters}
    )  # type: ignore[union-attr]
    told, payload = child.rehearse(job_of(training(steps=20)), weights)
    assert payload == b""
    assert told["seconds"] > 0
    assert told["seconds_per_step"] >= 0
    assert child.rehearse(job_of(evaluation()), weights)[0]["seconds_per_step"] == 0.0


@pytest.mark.parametrize("declared", [training(steps=20), evaluation(), statistics()])
def test_a_try_on_mock_rows_says_its_facts(declared: Any) -> None:
    message, payload = child.try_plan(job_of(declared), b"")
    facts = message["facts"]
    assert payload == b""
    assert facts["rows"] == (40 if declared.kind == "dp_sgd" else 50)
    assert facts["finite"] is True
    if declared.kind == "dp_sgd":
        assert (facts["steps"], facts["steps_of_round"]) == (child.TRIED_STEPS, 20)
