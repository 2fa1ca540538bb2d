"""Run one job in one forked process: read it, confine, report, receive the rows, compute, answer, end.

The order is the point. The job's public part arrives first; then the process gives up what it can and says what
holds; only then does the datasite mark the run as started in its ledger and hand over the private rows. From there the
answer is either a release of the plan's public shape or the one word `failed`, with a traceback for the owner.
"""

from __future__ import annotations

import contextlib
import io
import math
import mmap
import os
import socket
import struct
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from datasites.engine.matrix import HELD_OUT, PATIENT, GroupedRows, dtype_of_places, in_groups
from datasites.engine.mock_rows import draw_mock
from datasites.engine.splitting import Split, split_for
from datasites.jobs.frames import receive_frame, send_frame
from datasites.jobs.isolation import Limits, Thread, close_descriptors, confine
from policies.privacy.mechanisms import DPSGD, Evaluation, Mechanism, Statistics
from policies.release.compression import compress, restore
from policies.release.plans import Plan, plan_from
from policies.release.summed_step import step_of
from policies.release.tensors import from_bytes, to_bytes
from policies.schema.schemas import FIRST_COLUMN, Schema
from policies.secure_sums.encoding import flat

if TYPE_CHECKING:
    from datasites.jobs.mock_run import StepClock

LARGEST_WEIGHTS = 256 * 1024 * 1024
LARGEST_OUTPUT = 64 * 1024
TRIED_STEPS = 12
LARGEST_SYNTHETIC = 256 * 1024 * 1024  # bytes of made-up rows: several times what a processor's caches hold
DRAWN_ROWS = 8192
DRAWN_VALUES = 2**24  # of made-up tensors; as many again and again make a file that no cache holds
MOST_SCORED = 50_000  # patients that a rehearsal scores; more take so many times longer
MOST_COUNTED = 5_000_000  # records times statistics that it counts,
MOST_READ = 250_000  # of so many patients times the records of each that count

Records = npt.NDArray[np.float64]
Rows = Records | GroupedRows
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
            Limits(int(job["memory"]), int(job["cpu_seconds"]), files=int(job.get("files", 0))),
            datasite_user=_user(connection),
            begin=lambda: _helpers(int(job.get("threads", 1)) - 1),
        )
        send_frame(connection, {"event": "ready", "protections": holds})
        work, wants_rows = JOBS[kind][job["job"]]
        rows = _receive_rows(connection) if wants_rows else None
        _answer(connection, work, job, payload, rows)
        code = 0
    finally:
        os._exit(code)


def _helpers(count: int) -> Sequence[Thread]:
    """Threads that help this job, begun now; a runner's parent has imported them."""
    if count < 1:
        return []
    from datasites.engine.helpers import begin

    return begin(count)


def _answer(
    connection: socket.socket, work: Callable[..., Answer], job: dict[str, Any], payload: bytes, rows: Rows | None
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


def _receive_rows(connection: socket.socket) -> Rows:
    message, _, descriptor = receive_frame(connection, largest_payload=0, with_descriptor=True)
    assert descriptor is not None
    rows, columns = (int(size) for size in message["shape"])
    patients = [int(number) for number in message["patients"]]
    kind = dtype_of_places(rows)
    begin, sizes = rows * columns * 8, [kind.itemsize * (number + 1) for number in patients]
    try:
        if not rows:
            return np.zeros((0, columns))
        memory = mmap.mmap(descriptor, begin + sum(sizes), prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)  # the map has a descriptor of its own
    matrix = np.frombuffer(memory, dtype=np.float64, count=rows * columns).reshape(rows, columns)
    tensors = {tensor["name"]: _receive_tensor(connection, tensor) for tensor in message.get("tensors", ())}
    if not patients:
        return matrix
    training, held_out = patients
    return GroupedRows(
        matrix,
        np.frombuffer(memory, dtype=kind, offset=begin, count=training + 1),
        np.frombuffer(memory, dtype=kind, offset=begin + sizes[0], count=held_out + 1),
        tensors,
    )


def _receive_tensor(connection: socket.socket, tensor: dict[str, Any]) -> npt.NDArray[Any]:
    """A tensor of the records, mapped from its file: its pages are read as they are used, and never written."""
    _, _, descriptor = receive_frame(connection, largest_payload=0, with_descriptor=True)
    assert descriptor is not None
    shape, kind = tuple(map(int, tensor["shape"])), np.dtype(str(tensor["dtype"]))
    begin, count = int(tensor["begin"]), math.prod(shape)
    try:
        if not count:
            return np.zeros(shape, kind)
        memory = mmap.mmap(descriptor, begin + count * kind.itemsize, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)
    return np.frombuffer(memory, dtype=kind, offset=begin, count=count).reshape(shape)


def _plan_and_schema(job: dict[str, Any]) -> tuple[Plan, Schema]:
    """The plan, and the schema with the target that the plan's mechanism names."""
    plan, schema = plan_from(job["plan"]), Schema.from_dict(job["schema"])
    return plan, schema.predicting(plan.mechanism) if isinstance(plan.mechanism, DPSGD | Evaluation) else schema


def _tensors(payload: bytes) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(array.copy()) for name, array in from_bytes(payload).items()}


def _release(tensors: dict[str, Any]) -> bytes:
    return to_bytes({name: np.ascontiguousarray(np.asarray(tensor)) for name, tensor in tensors.items()})


def train(job: dict[str, Any], payload: bytes, rows: Rows) -> Answer:
    """One round of DP-SGD on private rows; the payload is the incoming weights."""
    return _train(job, payload, rows, _split(*_plan_and_schema(job), job), None)


def _split(plan: Plan, schema: Schema, job: dict[str, Any]) -> Split | None:
    """How rounds of a plan cut its graph, by public facts alone."""
    assert isinstance(plan.mechanism, DPSGD)
    assert plan.graph is not None
    return split_for(plan.graph, plan.mechanism, schema, int(job["training_patients"]))


def _train(job: dict[str, Any], payload: bytes, rows: Rows, split: Split | None, clock: StepClock | None) -> Answer:
    from datasites.engine.noise import NoiseSource
    from datasites.engine.training import train_round

    plan, schema = _plan_and_schema(job)
    assert isinstance(plan.mechanism, DPSGD)
    assert plan.graph is not None
    weights = train_round(
        plan.graph,
        plan.mechanism,
        schema,
        job["training_patients"],
        rows,
        _tensors(payload),
        NoiseSource.from_os(),
        round=int(job.get("round", 1)),
        accountant=clock,
        split=split,
        leave=None if clock is None else clock.leave,
    )
    if plan.mechanism.compression == "none":
        return {}, _release(weights)
    trained = {name: np.asarray(weight) for name, weight in weights.items()}
    leaving = {parameter.name: trained.pop(parameter.name) for parameter in plan.graph.parameters}
    patients, round = int(job["training_patients"]), int(job.get("round", 1))
    return {}, to_bytes(compress(leaving, from_bytes(payload), plan.mechanism, patients, round) | trained)


def _restored(plan: Plan, release: dict[str, Any], start: dict[str, Any], patients: int) -> dict[str, Any]:
    """What training gave as weights, whatever form it leaves in."""
    import torch

    mechanism, graph = plan.mechanism, plan.graph
    assert isinstance(mechanism, DPSGD)
    assert graph is not None
    if mechanism.step_grid is not None:
        units, begun = flat(release), {name: np.asarray(start[name]) for name in release}
        after = step_of(units, begun, mechanism, round=1, patients=patients)
        return {name: torch.from_numpy(value) for name, value in after.items()}
    if mechanism.compression == "none":
        return release
    staying = {parameter.name: release[parameter.name] for parameter in graph.local}
    leaving = {name: np.asarray(value) for name, value in release.items() if name not in staying}
    begun = {name: np.asarray(value) for name, value in start.items()}
    restored = restore(leaving, begun, mechanism, patients)
    return {name: torch.from_numpy(value) for name, value in restored.items()} | staying


def evaluate(job: dict[str, Any], payload: bytes, rows: Rows) -> Answer:
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


def statistics(job: dict[str, Any], payload: bytes, rows: Rows) -> Answer:
    """Noisy statistics over all rows."""
    from datasites.engine.noise import NoiseSource
    from datasites.engine.statistics import answer
    from policies.privacy.mechanisms import mechanism_from

    mechanism = mechanism_from(job["mechanism"])
    assert isinstance(mechanism, Statistics)
    _discard_inherited_draws()
    return {}, _release(answer(mechanism, Schema.from_dict(job["schema"]), rows, NoiseSource.from_os()))


def analyse(job: dict[str, Any], payload: bytes, rows: Rows) -> Answer:
    """A table or moments over all rows, from which a curve or a regression is read."""
    from datasites.engine.analyses import analysed
    from datasites.engine.noise import NoiseSource
    from policies.privacy.mechanisms import mechanism_from

    mechanism = mechanism_from(job["mechanism"])
    return {}, _release(analysed(mechanism, Schema.from_dict(job["schema"]), rows, NoiseSource.from_os()))


def work_of(mechanism: Mechanism) -> Callable[..., Answer]:
    """The job that a mechanism's rounds are."""
    if isinstance(mechanism, DPSGD):
        return train
    if isinstance(mechanism, Evaluation):
        return evaluate
    return statistics if isinstance(mechanism, Statistics) else analyse


def export(job: dict[str, Any], payload: bytes) -> Answer:
    """The researcher's model as a graph; this is where the researcher's Python runs, on mock rows at most."""
    from policies.graph.exporter import export_source

    frozen, local = (tuple(job.get(name, ())) for name in ("frozen", "local"))
    graph, _ = export_source(job["source"], job["model"], tuple(job["input_shape"]), frozen=frozen, local=local)
    return {"graph": graph.as_dict()}, b""


def probe(job: dict[str, Any], payload: bytes) -> Answer:
    """Nothing: the report of protections that comes before it is what was asked for."""
    return {}, b""


def engine(job: dict[str, Any], payload: bytes) -> Answer:
    """Which engine this runner trains with, or of a plan whether its model runs in lanes, and why not."""
    from datasites.engine.lanes.readiness import said

    if "plan" in job:
        return _engine_of(*_plan_and_schema(job), job), b""
    return {"engine": said()}, b""


def rehearse(job: dict[str, Any], payload: bytes) -> Answer:
    """What a plan's job takes on synthetic rows of the public size: its `seconds`, and all that were `spent` on this.

    A deadline, and the time at which a release may be seen, are made of these; so neither tells of private rows. Of
    training the real round is timed, with as many steps; one that takes long is left when a step's time is known.
    """
    from datasites.jobs.mock_run import StepClock

    begin = time.monotonic()
    plan, schema = _plan_and_schema(job)
    lanes, times = False, 1.0
    if isinstance(plan.mechanism, DPSGD):
        rows = _with_tensors(plan, schema, in_groups(synthetic_rows(schema, int(job["training_patients"])), most=1))
        fewer, times = _as_many_sampled(job, plan.mechanism, len(rows))
        clock, split = StepClock(plan.mechanism.steps), _split(plan, schema, job)  # cut as in a real round
        seconds = clock.seconds_of(lambda: _train(fewer, payload, rows, split, clock))
    elif isinstance(plan.mechanism, Evaluation):
        patients = _held_out(job)
        drawn = synthetic_rows(schema, min(patients, MOST_SCORED), held_out=True)
        rows = _with_tensors(plan, schema, in_groups(drawn, most=1))
        times = patients / len(rows)
        seconds = _timed(lambda: evaluate(job, payload, rows))
    elif not isinstance(plan.mechanism, Statistics):
        patients = int(job["patients"])
        rows = in_groups(synthetic_rows(schema, patients), most=1)
        times = max(1.0, patients / len(rows))
        seconds = _timed(lambda: analyse(job, payload, rows))
    else:
        patients, most = int(job["patients"]), plan.mechanism.records_per_patient
        few = min(patients, MOST_READ // most, max(1, MOST_COUNTED // (most * len(plan.mechanism.queries))))
        rows = in_groups(synthetic_rows(schema, few, records=2 * most), most=2 * most)  # of which half are chosen
        times = patients / few
        seconds = _timed(lambda: statistics(job, payload, rows))
    if plan.graph is not None:  # only now: a job, too, lowers its model anew
        lanes = bool(_engine_of(plan, schema, job)["lanes"])
    return {"seconds": times * seconds, "lanes": lanes, "spent": time.monotonic() - begin}, b""


def _timed(run: Callable[[], object]) -> float:
    begin = time.monotonic()
    run()
    return time.monotonic() - begin


def _held_out(job: dict[str, Any]) -> int:
    """Patients of the hold-out, as many as there are but once in ten thousand times: each is one by the flip of a coin.

    A public figure: the share is the schema's, and the number of patients the published one.
    """
    patients, training = int(job["patients"]), int(job["training_patients"])
    expected = max(0, patients - training)
    return max(1, math.ceil(expected + 4 * math.sqrt(expected * training / max(1, patients))))


def _as_many_sampled(job: dict[str, Any], declared: DPSGD, rows: int) -> tuple[dict[str, Any], float]:
    """The job on fewer patients at a higher rate, so that a step has its public size; how many times longer it takes.

    1 unless a step is larger than the rows that are there.
    """
    sampled = declared.sampling_rate * int(job["training_patients"])
    rate = min(1.0, sampled / rows)
    return {**_with(job, sampling_rate=rate), "training_patients": rows}, max(1.0, sampled / rows)


def try_plan(job: dict[str, Any], payload: bytes) -> Answer:
    """What a plan does on synthetic rows at the public size, for the owner to read before deciding."""
    from datasites.jobs.mock_run import peak_memory, starting_weights, training_facts

    plan, schema = _plan_and_schema(job)
    trains, scores = isinstance(plan.mechanism, DPSGD), isinstance(plan.mechanism, Evaluation)
    mock = synthetic_rows(schema, int(job["training_patients" if trains else "patients"]), held_out=scores)
    facts: dict[str, Any] = {"rows": len(mock)}
    start = starting_weights(plan.graph) if plan.graph is not None else {}
    if isinstance(plan.mechanism, DPSGD):
        facts |= {"steps": min(TRIED_STEPS, plan.mechanism.steps), "steps_of_round": plan.mechanism.steps}
        job = _with(job, steps=facts["steps"])
    begin = time.monotonic()
    rows: Rows = mock
    if isinstance(plan.mechanism, DPSGD | Evaluation) and schema.tensor_of(plan.mechanism.inputs) is not None:
        rows = _with_tensors(plan, schema, in_groups(mock, most=len(mock)))
    if trains:  # of so few steps, at each of which all is computed, whatever a whole round does
        _, release = _train(job, _release(start), rows, None, None)
    else:
        _, release = work_of(plan.mechanism)(job, _release(start), rows)
    facts["seconds"] = time.monotonic() - begin
    came_out = _tensors(release)
    if isinstance(plan.mechanism, DPSGD):
        assert plan.graph is not None
        came_out = _restored(plan, came_out, start, int(job["training_patients"]))
        facts |= training_facts(plan.graph, plan.mechanism, schema, rows, start, came_out)
    else:
        facts |= {"finite": all(bool(np.isfinite(tensor.numpy()).all()) for tensor in came_out.values())}
    if isinstance(plan.mechanism, Statistics):
        facts["answers"] = len(plan.mechanism.queries)
    elif plan.graph is None:
        facts["answers"] = 1
    else:
        facts |= _engine_of(plan, schema, job)
    return {"facts": {**facts, "memory": peak_memory()}}, b""


def _engine_of(plan: Plan, schema: Schema, job: dict[str, Any]) -> dict[str, Any]:
    """Whether a plan's model runs in lanes, why not, and whether a body runs once a round: all of it public."""
    from datasites.engine.lanes.coverage import why_not

    assert plan.graph is not None
    assert isinstance(plan.mechanism, DPSGD | Evaluation)
    split = _split(plan, schema, job) if isinstance(plan.mechanism, DPSGD) else None
    why = why_not(plan.graph, plan.mechanism, schema, split)
    return {"lanes": not why, "slower": why, "once": split is not None}


def synthetic_rows(schema: Schema, patients: int, *, held_out: bool = False, records: int = 1) -> Records:
    """Made-up rows of so many patients, as they lie in a published table; fewer where memory would grow.

    A few thousand rows are drawn from the schema and lie there again and again, each time under other codes. They are
    as many as make a table that no cache holds, so that reading a row takes what it takes in one of the public size.
    """
    columns = FIRST_COLUMN + len(schema.columns)
    size = max(2, min(patients * records, LARGEST_SYNTHETIC // (8 * columns)))
    drawn = draw_mock(schema, rows=min(size, DRAWN_ROWS))
    rows = np.resize(drawn, (size, columns)) if size > len(drawn) else drawn
    gaps = np.random.default_rng(0).integers(1, 2**53 // size, size)
    codes = np.cumsum(gaps)  # which share places as those of a published table do
    rows[:, PATIENT] = codes[np.arange(size) // records] if records > 1 else codes
    rows[:, HELD_OUT] = held_out
    return rows


def _with_tensors(plan: Plan, schema: Schema, rows: GroupedRows) -> GroupedRows:
    """Made-up rows with the tensor that a plan reads, itself made up: of few rows, which lie there again and again."""
    assert isinstance(plan.mechanism, DPSGD | Evaluation)
    tensor = schema.tensor_of(plan.mechanism.inputs)
    if tensor is None:
        return rows
    count = max(1, min(len(rows), LARGEST_SYNTHETIC // tensor.record_bytes))
    drawn = tensor.draw_mock(max(1, min(count, DRAWN_VALUES // tensor.elements)))
    stored = np.resize(drawn, (count, *tensor.shape)) if count > len(drawn) else drawn
    sides = rows.begins(held_out=False), rows.begins(held_out=True)
    return GroupedRows(rows.matrix, *sides, {tensor.name: stored})


def _with(job: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The job with another figure in its mechanism."""
    plan = job["plan"]
    return {**job, "plan": {**plan, "mechanism": {**plan["mechanism"], **changes}}}


JOBS: dict[str, dict[str, tuple[Callable[..., Answer], bool]]] = {
    "exporter": {"export": (export, False), "probe": (probe, False)},
    "runner": {
        "train": (train, True),
        "evaluate": (evaluate, True),
        "statistics": (statistics, True),
        "analyse": (analyse, True),
        "rehearse": (rehearse, False),
        "try": (try_plan, False),
        "engine": (engine, False),
        "probe": (probe, False),
    },
}
