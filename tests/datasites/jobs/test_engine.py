"""Which engine a real runner trains with, asked of it as `datasite serve` asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import KernelsMissing
from datasites.engine.lanes.coverage import NO_KERNELS
from datasites.jobs.pool import KINDS, JobPool
from datasites.settings import job_socket
from policies.privacy.mechanisms import Mechanism, as_dict
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
