"""Which engine a real runner trains with, asked of it as `datasite serve` asks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from torch import nn

from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import KernelsMissing
from datasites.engine.lanes.coverage import NO_KERNELS
from datasites.engine.mock_rows import draw_mock
from datasites.jobs import child
from datasites.jobs.isolation import PROTECTIONS
from datasites.jobs.pool import KINDS, JobPool
from datasites.settings import job_socket
from datasites.vault.private_rows import PrivateRows
from policies.graph.exporter import export_model
from policies.privacy.mechanisms import Mechanism, as_dict
from policies.release.plans import release_shapes
from policies.release.tensors import check_tensors, from_bytes
from tests.policies.plan_factories import SCHEMA, evaluation, plan_of, training


@pytest.mark.process
def test_a_runner_trains_in_lanes_where_the_processor_and_the_installation_allow(jobs: Path) -> None:
    pool = JobPool({kind: job_socket(jobs, kind) for kind in KINDS}, start_parents=False)
    assert pool.engine() == expected()


def expected() -> str:
    try:
        level = compiled.level_of_this_processor()
        compiled._index(compiled.directory(), level)
    except KernelsMissing as error:
        return f"a place for each record: {str(error).rstrip('.')}"
    return f"a lane for each record ({level}); its self-test holds"


@pytest.mark.process
@pytest.mark.parametrize("made", [training, evaluation])
def test_a_runner_says_of_a_plan_whether_it_runs_in_lanes(made: Callable[[], Mechanism], jobs: Path) -> None:
    pool = JobPool({kind: job_socket(jobs, kind) for kind in KINDS}, start_parents=False)
    plan = plan_of(made())
    job = {"job": "engine", "plan": plan.as_dict(), "mechanism": as_dict(plan.mechanism), "schema": SCHEMA.as_dict()}
    job["training_patients"] = 800
    said = pool.run("runner", job, seconds=60).message
    if expected().startswith("a lane"):
        assert (said["lanes"], said["slower"]) == (True, "")
    else:
        assert (said["lanes"], said["slower"]) == (False, NO_KERNELS)


@pytest.mark.process
def test_whatever_a_runner_says_of_its_engine_is_short_and_printable(
    jobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = JobPool({kind: job_socket(jobs, kind) for kind in KINDS}, start_parents=False)
    answer = pool.run("runner", {"job": "engine"}, seconds=60)
    for said, shown in (("a\x1b[31m\nb" * 1000, "a[31mb"), (7, ""), (None, "")):
        answer.message["engine"] = said
        monkeypatch.setattr(pool, "run", lambda *_, **__: answer)
        assert pool.engine()[:6] == shown
        assert len(pool.engine()) < 2000


@pytest.mark.process
@pytest.mark.parametrize("threads", [1, 2])
def test_a_confined_job_trains_with_as_many_threads_as_are_set_and_holds_every_protection(
    threads: int, jobs: Path
) -> None:
    pool = JobPool(
        {kind: job_socket(jobs, kind) for kind in KINDS}, start_parents=False, training_threads=threads, required=False
    )
    # Of a size that is worth a helper: see `engine.lanes.sums`.
    graph = export_model(nn.Sequential(nn.Linear(3, 200), nn.ReLU(), nn.Linear(200, 200), nn.Linear(200, 2)), (3,))
    plan = plan_of(training(steps=3, sampling_rate=0.5), graph=graph)
    weights = {parameter.name: np.full(parameter.shape, 0.01, np.float32) for parameter in graph.parameters}
    job = {"job": "train", "plan": plan.as_dict(), "schema": SCHEMA.as_dict(), "training_patients": 800}
    counted: list[int] = []

    def before(protections: dict[str, bool]) -> None:
        same_user = os.geteuid() != 0  # then the layers but this one stand
        assert protections == {**dict.fromkeys(PROTECTIONS, True), "own_user": not same_user}
        counted.append(max(_threads_of_runners(jobs)))

    with PrivateRows(draw_mock(SCHEMA, 1000)) as rows:
        answer = pool.run(
            "runner", job, child._release(weights), seconds=120, largest=1 << 22, rows=rows, before_rows=before
        )
    assert answer.done, answer.output
    assert counted == [threads]
    check_tensors(from_bytes(answer.payload), release_shapes(plan, SCHEMA), finite=True)
    assert pool.protections() == dict.fromkeys(PROTECTIONS, True) or os.geteuid() != 0


def _threads_of_runners(jobs: Path) -> list[int]:
    """How many threads each process has that the runner of these tests forked, or that is it."""
    found: list[int] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == "runner" and str(jobs) in " ".join(process.cmdline()):
                found.append(process.num_threads())
    return found
