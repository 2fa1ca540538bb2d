"""Run one job in one forked process: read it, confine, report, receive the rows, compute, answer, end.

The order is the point. The job's public part arrives first; then the process gives up what it can and says what
holds; only then does the datasite mark the run as started in its ledger and hand over the private rows. From there the
answer is either a release of the plan's public shape or the one word `failed`, with a traceback for the owner.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import socket
import struct
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from datasites.engine.matrix import HELD_OUT, PATIENT, secure_codes
from datasites.engine.mock_rows import draw_mock
from datasites.jobs.frames import receive_frame, send_frame
from datasites.jobs.isolation import Limits, close_descriptors, confine
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD, Evaluation, Statistics
from policies.release.plans import Plan, plan_from
from policies.release.tensors import from_bytes, to_bytes
from policies.schema.schemas import Schema

LARGEST_WEIGHTS = 256 * 1024 * 1024
LARGEST_OUTPUT = 64 * 1024
TRIED_STEPS = 12

Records = npt.NDArray[np.float64]
Answer = tuple[dict[str, Any], bytes]


class _Bounded(io.StringIO):
    """Standard output of a job, for the owner: keeps the first `LARGEST_OUTPUT` characters."""

    def write(self, text: str) -> int:
        super().write(text[: max(0, LARGEST_OUTPUT - self.tell())])
        return len(text)


def run(connection: socket.socket, kind: str) -> None:
    """Do one job and end the process; never returns."""
    code = 1
    try:
        close_descriptors({connection.fileno()})
        os.chdir("/")
        job, payload, _ = receive_frame(connection, largest_payload=LARGEST_WEIGHTS)
        holds = confine(
            Limits(memory=int(job["memory"]), cpu_seconds=int(job["cpu_seconds"])), datasite_user=_user(connection)
        )
        send_frame(connection, {"event": "ready", "protections": holds})
        work, wants_rows = JOBS[kind][job["job"]]
        rows = _receive_rows(connection) if wants_rows else None
        _answer(connection, work, job, payload, rows)
        code = 0
    finally:
        os._exit(code)


def _answer(
    connection: socket.socket, work: Callable[..., Answer], job: dict[str, Any], payload: bytes, rows: Records | None
) -> None:
    output = _Bounded()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            message, result = work(job, payload) if rows is None else work(job, payload, rows)
        message["event"] = "done"
    except BaseException as error:
        message, result = {"event": "failed", "public": getattr(error, "public_message", "")}, b""
        traceback.print_exc(file=output)
    message["output"] = output.getvalue()
    send_frame(connection, message, result)


def _user(connection: socket.socket) -> int:
    """Whose process is at the other end (unix(7), SO_PEERCRED)."""
    return int(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1])


def _receive_rows(connection: socket.socket) -> Records:
    message, _, descriptor = receive_frame(connection, largest_payload=0, with_descriptor=True)
    assert descriptor is not None
    rows, columns = (int(size) for size in message["shape"])
    try:
        if rows == 0:
            return np.zeros((0, columns))
        memory = mmap.mmap(descriptor, rows * columns * 8, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)  # the map has a descriptor of its own
    return np.frombuffer(memory, dtype=np.float64).reshape(rows, columns)


def _plan_and_schema(job: dict[str, Any]) -> tuple[Plan, Schema]:
    return plan_from(job["plan"]), Schema.from_dict(job["schema"])


def _tensors(payload: bytes) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(array.copy()) for name, array in from_bytes(payload).items()}


def _release(tensors: dict[str, Any]) -> bytes:
    return to_bytes({name: np.ascontiguousarray(np.asarray(tensor)) for name, tensor in tensors.items()})


def train(job: dict[str, Any], payload: bytes, rows: Records) -> Answer:
    """One round of DP-SGD on private rows; the payload is the incoming weights."""
    from datasites.engine.noise import NoiseSource
    from datasites.engine.training import train_round

    plan, schema = _plan_and_schema(job)
    assert isinstance(plan.mechanism, DPSGD)
    assert plan.graph is not None
    weights = train_round(
        plan.graph, plan.mechanism, schema, job["training_patients"], rows, _tensors(payload), NoiseSource.from_os()
    )
    return {}, _release(weights)


def evaluate(job: dict[str, Any], payload: bytes, rows: Records) -> Answer:
    """One noisy histogram of scores on the hold-out; the payload is the weights to score."""
    from datasites.engine.evaluation import score_histogram
    from datasites.engine.noise import NoiseSource

    plan, schema = _plan_and_schema(job)
    assert isinstance(plan.mechanism, Evaluation)
    assert plan.graph is not None
    scores = score_histogram(plan.graph, plan.mechanism, schema, rows, _tensors(payload), NoiseSource.from_os())
    return {}, _release(scores)


def _discard_inherited_draws() -> None:
    """Use up what the parent's python-dp may have drawn in advance: until then forked children repeat its noise.

    The library keeps random bytes in a buffer, which 200 draws of a count were seen to empty; this is five times that.
    What refills it is safe across forks. No parent of ours draws, and this does not rely on it.
    """
    from pydp.algorithms.laplacian import Count

    for _ in range(1000):
        Count(epsilon=1.0, l0_sensitivity=1, linf_sensitivity=1, dtype="int64").result()


def statistics(job: dict[str, Any], payload: bytes, rows: Records) -> Answer:
    """Noisy statistics over all rows."""
    from datasites.engine.noise import NoiseSource
    from datasites.engine.statistics import answer
    from policies.privacy.mechanisms import mechanism_from

    mechanism = mechanism_from(job["mechanism"])
    assert isinstance(mechanism, Statistics)
    _discard_inherited_draws()
    return {}, _release(answer(mechanism, Schema.from_dict(job["schema"]), rows, NoiseSource.from_os()))


def export(job: dict[str, Any], payload: bytes) -> Answer:
    """The researcher's model as a graph; this is where the researcher's Python runs, on mock rows at most."""
    from policies.graph.exporter import export_source

    graph, _ = export_source(job["source"], job["model"], tuple(job["input_shape"]))
    return {"graph": graph.as_dict()}, b""


def probe(job: dict[str, Any], payload: bytes) -> Answer:
    """Nothing: the report of protections that comes before it is what was asked for."""
    return {}, b""


def engine(job: dict[str, Any], payload: bytes) -> Answer:
    """Which engine this runner trains with, or of a plan whether its model runs in lanes, and why not."""
    from datasites.engine.lanes.readiness import said

    if "plan" in job:
        return _engine_of(*_plan_and_schema(job)), b""
    return {"engine": said()}, b""


def rehearse(job: dict[str, Any], payload: bytes) -> Answer:
    """What a plan takes on synthetic rows at the public size: seconds of one step, and seconds whatever the steps.

    A deadline, and the time at which a release may be seen, are made of these; so neither tells of private rows.
    """
    plan, schema = _plan_and_schema(job)
    assert plan.graph is not None
    mock = _synthetic(schema, int(job["training_patients"]), held_out=isinstance(plan.mechanism, Evaluation))
    if isinstance(plan.mechanism, Evaluation):
        return {"seconds_per_step": 0.0, "seconds": _timed(evaluate, job, payload, mock)}, b""
    assert isinstance(plan.mechanism, DPSGD)
    few, more = min(2, plan.mechanism.steps), min(12, plan.mechanism.steps)
    first, second = (_timed(train, _with_steps(job, steps), payload, mock) for steps in (few, more))
    per_step = max(0.0, second - first) / (more - few) if more > few else first / few
    return {"seconds_per_step": per_step, "seconds": first}, b""


def try_plan(job: dict[str, Any], payload: bytes) -> Answer:
    """What a plan does on synthetic rows at the public size, for the owner to read before deciding."""
    from datasites.jobs.mock_run import peak_memory, starting_weights, training_facts

    plan, schema = _plan_and_schema(job)
    trains, scores = isinstance(plan.mechanism, DPSGD), isinstance(plan.mechanism, Evaluation)
    mock = _synthetic(schema, int(job["training_patients" if trains else "patients"]), held_out=scores)
    facts: dict[str, Any] = {"rows": len(mock)}
    start = starting_weights(plan.graph) if plan.graph is not None else {}
    if isinstance(plan.mechanism, DPSGD):
        facts |= {"steps": min(TRIED_STEPS, plan.mechanism.steps), "steps_of_round": plan.mechanism.steps}
        job = _with_steps(job, facts["steps"])
    begin = time.monotonic()
    _, release = (train if trains else evaluate if scores else statistics)(job, _release(start), mock)
    facts["seconds"] = time.monotonic() - begin
    came_out = _tensors(release)
    if isinstance(plan.mechanism, DPSGD):
        assert plan.graph is not None
        facts |= training_facts(plan.graph, plan.mechanism, schema, mock, start, came_out)
    else:
        facts |= {"finite": all(bool(np.isfinite(tensor.numpy()).all()) for tensor in came_out.values())}
    if isinstance(plan.mechanism, Statistics):
        facts["answers"] = len(plan.mechanism.queries)
    else:
        facts |= _engine_of(plan, schema)
    return {"facts": {**facts, "memory": peak_memory()}}, b""


def _engine_of(plan: Plan, schema: Schema) -> dict[str, Any]:
    """Whether a plan's model runs in lanes, and why not: public, since its graph decides."""
    from datasites.engine.lanes.coverage import why_not

    assert plan.graph is not None
    assert isinstance(plan.mechanism, DPSGD | Evaluation)
    why = why_not(plan.graph, plan.mechanism, len(schema.classes))
    return {"lanes": not why, "slower": why}


def _in_lanes(graph: Graph, mechanism: DPSGD, schema: Schema) -> bool:
    """Whether this model trains with a lane for each record: its graph decides."""
    from datasites.engine.lanes.readiness import sums_for

    return sums_for(graph, mechanism.loss, len(schema.classes), mechanism.clipping_norm, 1.0) is not None


def _synthetic(schema: Schema, patients: int, *, held_out: bool) -> Records:
    mock = draw_mock(schema, rows=max(2, min(patients, 200_000)))
    mock[:, PATIENT] = secure_codes(len(mock))  # which share places as those of a published table do
    mock[:, HELD_OUT] = held_out
    return mock


def _timed(work: Callable[..., Answer], job: dict[str, Any], payload: bytes, rows: Records) -> float:
    begin = time.monotonic()
    work(job, payload, rows)
    return time.monotonic() - begin


def _with_steps(job: dict[str, Any], steps: int) -> dict[str, Any]:
    plan = job["plan"]
    return {**job, "plan": {**plan, "mechanism": {**plan["mechanism"], "steps": steps}}}


JOBS: dict[str, dict[str, tuple[Callable[..., Answer], bool]]] = {
    "exporter": {"export": (export, False), "probe": (probe, False)},
    "runner": {
        "train": (train, True),
        "evaluate": (evaluate, True),
        "statistics": (statistics, True),
        "rehearse": (rehearse, False),
        "try": (try_plan, False),
        "engine": (engine, False),
        "probe": (probe, False),
    },
}
