"""What a round costs beside its training: in a runner's child, and through a real datasite over HTTP.

`job_overhead` holds a job of the runner (connect, fork, confine, hand over rows, interpret, train, answer) against the
same training as a plain call in this process. `whole_rounds` starts `datasite serve`, has a request approved, and lets
a stock PySyft client call rounds.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from datasites.engine.noise import NoiseSource
from datasites.engine.training import train_round
from datasites.jobs.pool import KINDS, JobPool
from datasites.vault.private_rows import PrivateRows
from policies.graph.exporter import export_model
from policies.privacy.mechanisms import DPSGD
from policies.release.plans import Plan
from policies.release.tensors import to_bytes
from tests.benchmarks.training import FluPredictor, make_schema, make_table

PATIENTS = 4096
STEPS = 50
FAST_CALLS = 0.02  # seconds between a stock client's calls: less than a round takes


def job_overhead(turns: int) -> dict[str, float]:
    """Median seconds of a job, of the same training alone, and of their difference; they take turns."""
    schema, model, table = make_schema(), FluPredictor(32), make_table(PATIENTS, PATIENTS)
    graph = export_model(model, (10,))
    weights = {name: value.detach() for name, value in model.named_parameters()}
    made = DPSGD(
        loss="binary_cross_entropy",
        rounds=1,
        steps=STEPS,
        sampling_rate=64 / PATIENTS,
        clipping_norm=1.0,
        noise_multiplier=1.0,
        learning_rate=0.1,
    )
    plan = Plan("flu", made, "FluPredictor", graph, "0" * 64, "flu", "v1", made)
    job = {"job": "train", "plan": plan.as_dict(), "schema": schema.as_dict(), "training_patients": PATIENTS}
    payload, rows = to_bytes({name: value.numpy() for name, value in weights.items()}), PrivateRows(table)
    taken: dict[str, list[float]] = {"job": [], "training": [], "difference": []}
    with tempfile.TemporaryDirectory() as directory:
        pool = JobPool({kind: Path(directory) / f"{kind}.sock" for kind in KINDS})
        pool.start()
        try:
            for turn in range(turns + 1):
                begin = time.perf_counter()
                answer = pool.run("runner", job, payload, seconds=60, rows=rows)
                between = time.perf_counter()
                train_round(graph, made, schema, PATIENTS, table, weights, NoiseSource.from_os())
                end = time.perf_counter()
                if not answer.done:
                    raise RuntimeError(answer.message["output"])
                if turn:  # the first is to warm up
                    taken["job"].append(between - begin)
                    taken["training"].append(end - between)
                    taken["difference"].append((between - begin) - (end - between))
        finally:
            pool.stop()
            rows.close()
    return {name: statistics.median(each) for name, each in taken.items()}


def whole_rounds(rounds: int) -> dict[str, float]:
    """Median seconds of a round through a datasite, first call to release, and of asking for a stored release."""
    from tests.e2e.stock import call, login, submit
    from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess, initial_weights, make_datasite, training_source

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "datasite"
        make_datasite(directory)
        datasite = DatasiteProcess(directory, directory, cold=True).start()
        try:
            client = login(datasite.url, RESEARCHER, PASSWORD)
            with contextlib.redirect_stdout(io.StringIO()):
                submit(client, training_source("flu_bench", rounds=rounds + 1))
            datasite.approve_all()
            weights, taken, stored = initial_weights(), [], []
            for number in range(1, rounds + 2):
                begin = time.perf_counter()
                answer = _until_released(call, client, weights, number)
                taken.append(time.perf_counter() - begin)
                begin = time.perf_counter()
                _until_released(call, client, weights, number)
                stored.append(time.perf_counter() - begin)
                weights = answer["release"]
        finally:
            datasite.stop()
    return {"first": taken[0], "round": statistics.median(taken[1:]), "stored": statistics.median(stored)}


def _until_released(call: Any, client: Any, weights: dict[str, Any], number: int) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.redirect_stdout(io.StringIO()):  # syft warns of its own placeholders
            answer: dict[str, Any] = call(client, "flu_bench", weights=weights, round=number)
        if answer["status"] == "released":
            return answer
        if answer["status"] == "failed":
            break
        time.sleep(FAST_CALLS)
    raise RuntimeError("The round was not released.")
