"""What a round costs beside its training: in a runner's child, and through a real datasite over HTTP.

`job_overhead` holds a job of the runner (connect, fork, confine, hand over rows, interpret, train, answer) against the
same training as a plain call in this process. `whole_rounds` starts `datasite serve`, has requests approved, and lets
the `researcher` package and a stock PySyft client ask for rounds in turn.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from datasites.engine.lanes import compiled, readiness
from datasites.engine.mock_rows import draw_mock
from datasites.engine.noise import NoiseSource
from datasites.engine.training import train_round
from datasites.jobs.pool import KINDS, JobPool
from datasites.vault.private_rows import PrivateRows
from policies.graph.exporter import export_model
from policies.privacy import accountant
from policies.privacy.mechanisms import DPSGD
from policies.release.plans import Plan
from policies.release.tensors import to_bytes
from researcher.checks import exported
from researcher.releases import Asked, ask_release
from tests.benchmarks.training import FluPredictor, make_schema, make_table

PATIENTS = 4096
STEPS = 50
SMALL_STEPS = 40  # of a round over HTTP
FAST_CALLS = 0.02  # seconds between a stock client's calls where it is not told when a round shows


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
    readiness.prepare(graph, made.loss)  # as a runner's parent is, or this process would train the former way
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
    """Medians of rounds through a datasite, first call to verified release: seconds, calls, and of stored releases.

    `first` is a plan's first round, which is rehearsed; `training` is the same training as a plain call here.
    """
    from researcher.client import Datasite
    from tests.e2e.stock import call, login, submit
    from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess, initial_weights, make_datasite, training_source

    def source(name: str) -> str:
        return training_source(name, rounds=rounds + 1).replace("steps=5", f"steps={SMALL_STEPS}")

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "datasite"
        make_datasite(directory)
        datasite = DatasiteProcess(directory, directory, cold=True).start()
        try:
            ours = _counted(Datasite)(datasite.url, RESEARCHER, PASSWORD, name="the hospital")
            described = ours.describe()
            client = login(datasite.url, RESEARCHER, PASSWORD)
            with contextlib.redirect_stdout(io.StringIO()):
                submit(client, source("flu_stock"))
            asset = described["datasets"][0]["asset"]
            asked = Asked("the hospital", ours, ours.submit(source("flu_ours"), asset), asset, described["public_key"])
            datasite.approve_all()
            weights, stock_weights = (
                {name: value.numpy() for name, value in initial_weights().items()},
                initial_weights(),
            )
            taken: dict[str, list[float]] = {name: [] for name in ("ours", "calls", "training", "stock", "stored")}
            for number in range(1, rounds + 2):
                ours.calls = 0
                with _timed(taken["ours"]):
                    release, _ = ask_release(asked, weights, number)
                taken["calls"].append(ours.calls)
                with _timed(taken["training"]):
                    _train_small(weights)
                weights = release
                with _timed(taken["stock"]):
                    answer = _until_released(call, client, stock_weights, number)
                with _timed(taken["stored"]):
                    _until_released(call, client, stock_weights, number)
                stock_weights = answer["release"]
        finally:
            datasite.stop()
    return {"first": taken["ours"][0], **{name: statistics.median(each[1:]) for name, each in taken.items()}}


def _counted(client: Any) -> Any:
    """The client's class, with a count of its calls over HTTP."""

    class Counted(client):  # type: ignore[misc]
        calls = 0

        def _call(self, path: str, **arguments: Any) -> Any:
            self.calls += 1
            return super()._call(path, **arguments)

    return Counted


@contextlib.contextmanager
def _timed(taken: list[float]) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    taken.append(time.perf_counter() - begin)


def _train_small(weights: dict[str, Any]) -> None:
    """The training of `training_source` on as many made-up patients, in this process."""
    from policies.schema.schemas import Schema
    from policies.source.inspection import inspect_source
    from tests.factories import SCHEMA, training_source

    source = training_source(rounds=1).replace("steps=5", f"steps={SMALL_STEPS}")
    inspection, schema = inspect_source(source), Schema.from_toml(SCHEMA)
    graph = exported(str(inspection.model_source), str(inspection.model), (4,))
    if compiled.loaded() is None:  # as a runner's parent has them
        readiness.prepare(graph, "binary_cross_entropy")
    made = accountant.resolve(inspection.mechanism)
    assert isinstance(made, DPSGD)
    table = draw_mock(schema, rows=300)
    table[:, 0] = range(300)
    tensors = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
    train_round(graph, made, schema, 300, table, tensors, NoiseSource.from_os())


def _until_released(call: Any, client: Any, weights: dict[str, Any], number: int) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.redirect_stdout(io.StringIO()):  # syft warns of its own placeholders
            answer: dict[str, Any] = call(client, "flu_stock", weights=weights, round=number)
        if answer["status"] == "released":
            return answer
        if answer["status"] == "failed":
            break
        time.sleep(answer["shows_in"] or FAST_CALLS)
    raise RuntimeError("The round was not released.")
