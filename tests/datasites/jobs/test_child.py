"""One job in its process: public part, report, rows, answer, in that order; its jobs called as plain functions."""

from __future__ import annotations

import dataclasses
import os
import socket
from typing import Any

import numpy as np
import pytest

from datasites.engine import body_values
from datasites.engine import statistics as statistics_module
from datasites.engine import training as training_module
from datasites.engine.matrix import HELD_OUT, PATIENT, GroupedRows, in_groups
from datasites.engine.mock_rows import draw_mock
from datasites.jobs import child, mock_run
from datasites.jobs.frames import receive_frame, send_frame
from datasites.review.rounds import JOB_OF
from datasites.vault.private_rows import PrivateRows
from policies.errors import InvalidRequest
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import Query, as_dict
from policies.release.plans import release_shapes
from policies.release.tensors import check_tensors, from_bytes
from tests.open_tables import tables_open
from tests.policies.plan_factories import (
    LINEAR,
    SCHEMA,
    evaluation,
    plan_of,
    regression,
    statistics,
    survival,
    training,
)


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
        shape = {"shape": list(rows.shape), "patients": list(rows.patients)}
        send_frame(here, shape, descriptor=rows.descriptor)
        received = child._receive_rows(there)
    assert isinstance(received, np.ndarray)
    np.testing.assert_array_equal(received, table)
    assert count == 0 or not received.flags.writeable
    del received
    assert tables_open() == before


def test_rows_in_groups_arrive_with_where_each_patients_begin() -> None:
    table = in_groups(draw_mock(SCHEMA, 50), 1000)
    here, there = socket.socketpair()
    with here, there, PrivateRows(table) as rows:
        assert sum(rows.patients) == len(set(table.matrix[:, PATIENT]))
        shape = {"shape": list(rows.shape), "patients": list(rows.patients)}
        send_frame(here, shape, descriptor=rows.descriptor)
        received = child._receive_rows(there)
    assert isinstance(received, GroupedRows)
    np.testing.assert_array_equal(received.matrix, table.matrix)
    for side in (False, True):
        np.testing.assert_array_equal(received.begins(held_out=side), table.begins(held_out=side))


def test_the_process_at_the_other_end_is_known_by_its_user() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert child._user(here) == os.geteuid()


def test_every_job_of_the_runner_that_reads_rows_gives_the_plans_release() -> None:
    rows = draw_mock(SCHEMA, 60)
    for declared in (
        training(steps=2),
        training(steps=2, compression="int8"),
        training(steps=2, compression="int4", optimizer="adam"),
        evaluation(),
        statistics(),
        survival(),
        regression(noise_multiplier=1.0, epsilon=None),
    ):
        plan = plan_of(declared)
        work, wants_rows = child.JOBS["runner"][JOB_OF[declared.kind]]
        assert work is child.work_of(declared)
        assert wants_rows
        graph = plan.graph.parameters if plan.graph is not None else ()
        weights = {parameter.name: np.zeros(parameter.shape, np.float32) for parameter in graph}
        _, release = work(job_of(declared), child._release(weights), rows)
        check_tensors(from_bytes(release), release_shapes(plan, SCHEMA), finite=True)


def test_jobs_before_a_decision_get_no_rows_and_a_researchers_python_runs_in_the_exporter_alone() -> None:
    wanting = {kind: {name for name, (_, rows) in jobs.items() if rows} for kind, jobs in child.JOBS.items()}
    assert wanting == {"exporter": set(), "runner": {"train", "evaluate", "statistics", "analyse"}}
    assert not {"export"} & set(child.JOBS["runner"])


@pytest.mark.parametrize("held_out", [False, True])
def test_synthetic_rows_are_of_the_public_size_with_codes_as_a_table_has_them(held_out: bool) -> None:
    for patients in (30, child.DRAWN_ROWS + 1, 300_000):  # the last were cut off at 200,000
        rows = child.synthetic_rows(SCHEMA, patients, held_out=held_out)
        assert len(rows) == patients
        assert (rows[:, HELD_OUT] == held_out).all()
        assert (np.diff(rows[:, PATIENT]) > 0).all()  # each another's, in order
        assert rows[:, PATIENT].max() > 2**40  # spread over all codes, and not numbers from 0
        assert len(set(rows[:, PATIENT] % 8)) == 8  # and over all places of a batch
    assert len(child.synthetic_rows(SCHEMA, 0)) == 2


def test_synthetic_rows_are_no_more_than_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "LARGEST_SYNTHETIC", 10**6)
    rows = child.synthetic_rows(SCHEMA, 10**9)
    assert 0.99e6 < rows.nbytes <= 1e6


def zeros_for(declared: Any) -> bytes:
    graph = plan_of(declared).graph
    assert graph is not None
    return child._release({parameter.name: np.zeros(parameter.shape, np.float32) for parameter in graph.parameters})


def test_a_job_trains_the_round_that_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    train_round = training_module.train_round

    def noted(*given: Any, round: int, **named: Any) -> Any:
        rounds.append(round)
        return train_round(*given, round=round, **named)

    monkeypatch.setattr(training_module, "train_round", noted)
    declared = training(schedule="linear")
    rows = np.zeros((0, 2 + len(SCHEMA.columns)))
    for more in ({}, {"round": 3}):
        child.train(job_of(declared, **more), zeros_for(declared), rows)
    assert rounds == [1, 3]


def test_a_rehearsal_tells_seconds_of_the_job_and_of_itself() -> None:
    for declared in (training(steps=20), evaluation()):
        told, payload = child.rehearse(job_of(declared), zeros_for(declared))
        assert payload == b""
        assert 0 < told["seconds"] < told["spent"]  # of forty patients, of whom all are there
        assert told["lanes"] in (False, True)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int, int]]:
    """The mechanism, public size and rows of every round that was trained to its end."""
    rounds: list[tuple[Any, int, int]] = []
    train_round = training_module.train_round

    def noted(graph: Any, mechanism: Any, schema: Any, patients: int, rows: Any, *rest: Any, **named: Any) -> Any:
        weights = train_round(graph, mechanism, schema, patients, rows, *rest, **named)
        rounds.append((mechanism, patients, len(rows)))
        return weights

    monkeypatch.setattr(training_module, "train_round", noted)
    return rounds


def test_a_rehearsal_takes_the_steps_of_the_round_itself(trained: list[tuple[Any, int, int]]) -> None:
    """Of 2 and 12 steps, as once, none is recorded on a tape, and a round of 40 showed after four times its time."""
    declared = training(steps=40)
    child.rehearse(job_of(declared), zeros_for(declared))
    ((mechanism, patients, rows),) = trained
    assert (mechanism.steps, patients, rows) == (40, 40, 40)
    assert mechanism.sampling_rate == declared.sampling_rate


def test_a_rehearsal_of_more_patients_than_it_has_rows_takes_steps_of_the_public_size(
    trained: list[tuple[Any, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = training(steps=3)
    row = 8 * (2 + len(SCHEMA.columns))
    monkeypatch.setattr(child, "LARGEST_SYNTHETIC", 1000 * row)
    sampled = declared.sampling_rate * 4000
    told, _ = child.rehearse(job_of(declared, training_patients=4000), zeros_for(declared))
    ((mechanism, patients, rows),) = trained
    assert patients == rows == 1000
    assert mechanism.sampling_rate * rows == pytest.approx(min(1000, sampled))
    assert told["seconds"] > 0


def test_a_long_round_is_left_when_a_steps_time_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mock_run, "ENOUGH_SECONDS", 0.02)
    steps = 100_000
    declared = training(steps=steps)
    told, _ = child.rehearse(job_of(declared), zeros_for(declared))
    assert told["seconds"] > 20 * told["spent"]


def test_a_rehearsal_of_statistics_counts_every_record_that_may_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a round of twenty records each would show long after one of one record each."""
    counted: list[tuple[int, int]] = []
    real = statistics_module.answer

    def noted(mechanism: Any, schema: Any, rows: Any, source: Any) -> Any:
        counted.append((len(set(rows.matrix[:, PATIENT])), len(rows)))
        return real(mechanism, schema, rows, source)

    monkeypatch.setattr(statistics_module, "answer", noted)
    for most in (1, 20):
        child.rehearse(job_of(statistics(records_per_patient=most)), b"")
    assert counted == [(50, 50 * 2), (50, 50 * 40)]
    told, _ = child.rehearse(job_of(statistics(), patients=10**6), b"")  # two statistics
    assert counted[2] == (child.MOST_READ, 2 * child.MOST_READ)
    many = tuple(Query("describe", (column,)) for column in ("age", "temperature", "cough"))
    monkeypatch.setattr(child, "MOST_COUNTED", 3000)
    told, _ = child.rehearse(job_of(statistics(queries=many), patients=10**6), b"")
    assert counted[3] == (1000, 2000)
    assert told["seconds"] > 10 * told["spent"]


def test_a_clock_of_steps_tells_what_the_rest_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(mock_run.time, "monotonic", lambda: now[0])

    def run(clock: mock_run.StepClock, steps: int) -> None:
        now[0] += 3.0  # before the first
        for _ in range(steps):
            now[0] += 0.5
            clock.step(noise_multiplier=1.0, sample_rate=0.1)
        now[0] += 0.25

    for steps, seconds in ((3, 3 + 1.5 + 0.25), (4, 3 + 2 + 0.25), (100, 3 + 50)):
        clock = mock_run.StepClock(steps)
        assert clock.seconds_of(lambda clock=clock, steps=steps: run(clock, steps)) == pytest.approx(seconds)
        assert clock.history == [(1.0, 0.1, min(steps, 4))]


BODIED = Graph.from_dict(
    LINEAR.as_dict()
    | {
        "frozen": [["body.weight", [3, 3], "float32"]],
        "nodes": [
            ["n0", "permute", [{"parameter": "body.weight"}, [1, 0]], [["float32", [3, 3]]]],
            ["n1", "mm", [{"ref": "record"}, {"ref": "n0"}], [["float32", [1, 3]]]],
            ["n2", "permute", [{"parameter": "layer.weight"}, [1, 0]], [["float32", [3, 2]]]],
            ["n3", "addmm", [{"parameter": "layer.bias"}, {"ref": "n1"}, {"ref": "n2"}, 1, 1], [["float32", [1, 2]]]],
        ],
        "output": "n3",
    }
)
ONE_RECORD = dataclasses.replace(SCHEMA, most_records_per_patient=1)
SLOTS = 52  # forty patients, and four deviations of √(40 · 0.2) more


def bodied(**changes: Any) -> dict[str, Any]:
    """A job of a head on a frozen body, by a table of one record each, and weights of all its parameters."""
    declared = training(frozen=("body.*",), public_weights="f" * 64, steps=40, **changes)
    plan = plan_of(declared, graph=BODIED)
    return job_of(declared) | {"plan": plan.as_dict(), "schema": ONE_RECORD.as_dict()}


BODIED_ZEROS = child._release({one.name: np.zeros(one.shape, np.float32) for one in BODIED.weights})


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many records every body was run over, by each call."""
    asked: list[int] = []
    real = body_values.BodyValues._computed

    def counted(values: Any, places: Any) -> Any:
        asked.append(len(places))
        return real(values, places)

    monkeypatch.setattr(body_values.BodyValues, "_computed", counted)
    return asked


@pytest.mark.parametrize("patients", [1, 40, 52])
def test_a_rehearsal_runs_a_frozen_body_over_as_many_records_as_the_round(patients: int, computed: list[int]) -> None:
    rows = in_groups(child.synthetic_rows(ONE_RECORD, 52)[:patients], most=1)
    _, release = child.train(bodied(), BODIED_ZEROS, rows)
    assert set(from_bytes(release)) == {"layer.weight", "layer.bias"}
    told, _ = child.rehearse(bodied(), BODIED_ZEROS)
    assert told["seconds"] > 0
    assert computed == [SLOTS, SLOTS]


def test_a_rehearsal_on_fewer_rows_runs_a_body_over_the_public_number(
    computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LARGEST_SYNTHETIC", 10 * 8 * (2 + len(SCHEMA.columns)))
    child.rehearse(bodied(), BODIED_ZEROS)
    assert computed == [SLOTS]


def test_a_long_pass_of_a_body_is_left_and_the_rest_of_it_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mock_run, "ENOUGH_SECONDS", 0.0)
    monkeypatch.setattr(body_values, "_TOGETHER", 1)
    done: list[int] = []
    real = mock_run.StepClock.leave

    def noted(clock: Any, at: int, places: int) -> bool:
        done.append(at)
        return real(clock, at, places)

    monkeypatch.setattr(mock_run.StepClock, "leave", noted)
    told, _ = child.rehearse(bodied(), BODIED_ZEROS)
    assert done == [0, 1]
    assert told["seconds"] > 0


def test_a_clock_tells_what_the_rest_of_a_pass_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(mock_run.time, "monotonic", lambda: now[0])

    def run(clock: mock_run.StepClock) -> None:
        assert not clock.leave(0, 1000)
        now[0] += 0.5
        assert not clock.leave(100, 1000)
        now[0] += 0.7
        assert clock.leave(240, 1000)
        now[0] += 0.25
        clock.step(noise_multiplier=1.0, sample_rate=0.1)

    assert mock_run.StepClock(1).seconds_of(lambda: None) == 0
    clock = mock_run.StepClock(1)
    assert clock.seconds_of(lambda: run(clock)) == pytest.approx(1.2 + 0.25 + 1.2 / 240 * 760)


def test_a_try_and_the_runner_say_that_a_body_runs_once_a_round(computed: list[int]) -> None:
    said, _ = child.engine(bodied(), b"")
    assert said["once"] is True
    facts = child.try_plan(bodied(), b"")[0]["facts"]
    assert (facts["once"], facts["moved"]) == (True, True)
    assert computed == []  # of so few steps all is computed at each
    everything = bodied() | {"schema": SCHEMA.as_dict()}  # which says nothing of records per patient
    assert child.engine(everything, b"")[0]["once"] is False


def test_patients_held_out_are_those_of_the_schemas_share_and_chance() -> None:
    assert child._held_out({"patients": 10_000, "training_patients": 8000}) == 2000 + 160
    assert child._held_out({"patients": 10, "training_patients": 10}) == 1


@pytest.mark.parametrize(
    "declared",
    [
        training(steps=20),
        training(steps=20, compression="int4"),
        evaluation(),
        statistics(),
        survival(),
        regression(noise_multiplier=1.0, epsilon=None),
    ],
)
def test_a_try_on_mock_rows_says_its_facts(declared: Any) -> None:
    message, payload = child.try_plan(job_of(declared), b"")
    facts = message["facts"]
    assert payload == b""
    assert facts["rows"] == (40 if declared.kind == "dp_sgd" else 50)
    assert facts["finite"] is True
    if declared.kind == "dp_sgd":
        assert (facts["steps"], facts["steps_of_round"]) == (child.TRIED_STEPS, 20)


def test_what_stays_at_the_hospital_stays_as_weights_where_the_rest_leaves_as_whole_numbers() -> None:
    graph = dataclasses.replace(LINEAR, parameters=LINEAR.parameters[:1], local=LINEAR.parameters[1:])
    declared = training(steps=2, compression="int8", local=("layer.bias",), public_weights="0" * 64)
    plan = plan_of(declared, graph=graph)
    weights = {parameter.name: np.zeros(parameter.shape, np.float32) for parameter in graph.trained}
    _, answer = child.train(
        {**job_of(declared), "plan": plan.as_dict()}, child._release(weights), draw_mock(SCHEMA, 60)
    )
    given = from_bytes(answer)
    staying = given.pop("layer.bias")
    assert staying.dtype == np.float32
    assert (staying != 0).all()
    check_tensors(given, release_shapes(plan, SCHEMA), finite=True)
    tried, _ = child.try_plan({**job_of(declared), "plan": plan.as_dict()}, b"")
    assert tried["facts"]["finite"] is True
    assert tried["facts"]["moved"] is True
