"""What a job may answer, how long and how large: a datasite outlives every job, and trusts none."""

from __future__ import annotations

import gc
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from datasites.jobs.frames import receive_frame, send_frame
from datasites.jobs.isolation import PROTECTIONS
from datasites.jobs.pool import LONGEST_OUTPUT, LONGEST_PUBLIC, Answer, JobPool
from datasites.review.model_parts import ModelParts
from datasites.review.rounds import Rounds
from datasites.vault.private_rows import PrivateRows
from policies.errors import DatasiteError, IsolationMissing, Unavailable, WeightsRefused
from policies.privacy.mechanisms import Query, as_dict
from policies.release.plans import plan_from, release_shapes
from policies.release.tensors import to_bytes
from tests.attacks.runner.hostile_parent import ATTACKS
from tests.policies.plan_factories import SCHEMA, plan_of, published, statistics, training

HELD = dict.fromkeys(PROTECTIONS, True)


def start(kind: str, directory: Path) -> tuple[JobPool, subprocess.Popen[bytes]]:
    path = directory / f"{kind}.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.attacks.runner.hostile_parent", kind, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return JobPool({kind: path}, start_parents=False), process


def end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    assert process.wait(timeout=10) == 0
    process.stdout.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobPool]:
    """An exporter whose jobs do what they like."""
    pool, process = start("exporter", tmp_path_factory.mktemp("hostile"))
    pool.parent = process.pid  # type: ignore[attr-defined]
    yield pool
    end(process)


def ask(pool: JobPool, what: str, *, seconds: float = 20.0) -> Answer:
    return pool.run("exporter", {"job": "attack", "what": what}, seconds=seconds, memory=512 << 20, largest=1000)


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def test_a_job_has_its_own_connection_and_no_other_file(hostile: JobPool) -> None:
    with socket.socket(socket.AF_UNIX) as other:  # another job's, which the parent holds open
        other.connect(str(hostile.sockets["exporter"]))
        answer = ask(hostile, "descriptors")
    assert answer.message["kinds"] == ["null", "null", "null", "socket"]
    assert answer.protections == HELD


@pytest.mark.parametrize(
    "what", ["exit", "crash", "half", "endless", "large", "brackets", "digits", "no text", "no object"]
)
def test_an_answer_that_is_none_ends_the_job_alone(hostile: JobPool, what: str) -> None:
    with pytest.raises(Unavailable):
        ask(hostile, what)
    assert ask(hostile, "nothing").done


@pytest.mark.parametrize("what", ["hang", "dribble"])
def test_a_job_that_takes_its_time_is_ended_at_its_deadline(hostile: JobPool, what: str) -> None:
    begin = time.monotonic()
    with pytest.raises(Unavailable, match="deadline"):
        ask(hostile, what, seconds=1.5)
    assert time.monotonic() - begin < 30  # it would hang for 1000 s
    deadline = time.monotonic() + 30
    while children(hostile.parent) and time.monotonic() < deadline:  # type: ignore[attr-defined]
        time.sleep(0.05)
    assert not children(hostile.parent)  # type: ignore[attr-defined]


def test_hanging_jobs_take_all_places_for_as_long_as_they_may(hostile: JobPool) -> None:
    threads = [threading.Thread(target=_swallow, args=(hostile,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert ask(hostile, "nothing").done  # waits for a place, and gets it
    for thread in threads:
        thread.join()


def _swallow(pool: JobPool) -> None:
    with pytest.raises(Unavailable):
        ask(pool, "hang", seconds=2)


def test_what_a_job_says_is_bounded_text(hostile: JobPool) -> None:
    shouted = ask(hostile, "shout").message["public"]
    assert len(shouted) <= LONGEST_PUBLIC
    assert shouted.isprintable()
    assert len(ask(hostile, "print").message["output"]) <= LONGEST_OUTPUT
    lies = ask(hostile, "lies")
    assert (lies.message["public"], lies.message["output"]) == ("", "")
    assert lies.protections == HELD  # said before the researcher's Python ran


def test_open_files_that_a_job_sends_are_not_kept(hostile: JobPool) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    assert ask(hostile, "gifts").done
    assert len(os.listdir("/proc/self/fd")) <= before


def test_every_attack_of_this_file_is_tried() -> None:
    text = Path(__file__).read_text()
    assert all(f'"{name}"' in text for name in ATTACKS)


# -- a runner that lies ---------------------------------------------------------------------------------------------


class FakeRunner:
    """Answers one job with the protections and bytes that it is given; remembers whether rows came."""

    def __init__(self, directory: Path, protections: Any) -> None:
        self.path, self.protections, self.rows = directory / "runner.sock", protections, False
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            receive_frame(connection, largest_payload=1000)
            send_frame(connection, {"event": "ready", "protections": self.protections})
            try:
                _, _, descriptor = receive_frame(connection, largest_payload=0, with_descriptor=True)
            except Unavailable:
                return
            self.rows = descriptor is not None
            if descriptor is not None:
                os.close(descriptor)
            send_frame(connection, {"event": "done"})

    def close(self) -> None:
        self.thread.join()
        self.listener.close()


@pytest.mark.parametrize("missing", PROTECTIONS)
@pytest.mark.parametrize("value", [False, None, 1, "true"])
def test_no_row_is_handed_over_where_a_protection_is_missing(tmp_path: Path, missing: str, value: Any) -> None:
    runner = FakeRunner(tmp_path, {**HELD, missing: value})
    told: list[dict[str, bool]] = []
    rows = PrivateRows(np.zeros((2, 3)))
    pool = JobPool({"runner": runner.path}, start_parents=False)
    with pytest.raises(IsolationMissing, match=missing) as refused:
        pool.run("runner", {"job": "train"}, seconds=5, rows=rows, before_rows=told.append)
    runner.close()
    rows.close()
    assert refused.value.missing == (missing,)  # type: ignore[attr-defined]
    assert not runner.rows
    assert told == []  # so the ledger has not started the run


def test_where_isolation_is_reported_the_job_runs_and_says_so(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path, {**HELD, "no_network": False})
    rows = PrivateRows(np.zeros((2, 3)))
    pool = JobPool({"runner": runner.path}, start_parents=False, required=False)
    answer = pool.run("runner", {"job": "train"}, seconds=5, rows=rows)
    runner.close()
    rows.close()
    assert runner.rows
    assert answer.protections == {**HELD, "no_network": False}


@pytest.mark.parametrize("said", [None, [], "all", {}, {"no_network": 1}])
def test_protections_that_are_no_table_count_for_none(tmp_path: Path, said: Any) -> None:
    runner = FakeRunner(tmp_path, said)
    with pytest.raises(DatasiteError):
        JobPool({"runner": runner.path}, start_parents=False).run("runner", {"job": "train"}, seconds=5)
    runner.close()


# -- what returns ---------------------------------------------------------------------------------------------------

PLAN = plan_of(training())
RIGHT = {name: np.zeros(shape, dtype) for name, (shape, dtype) in release_shapes(PLAN, SCHEMA).items()}
FIRST = next(iter(RIGHT))


class Ends:
    """A ledger that remembers how a run ended."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.runs = self

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **_: self.calls.append(name) or SimpleNamespace()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"x" * 100,
        pickle.dumps(RIGHT),
        to_bytes({name: value for name, value in RIGHT.items() if name != FIRST}),
        to_bytes({**RIGHT, "extra": np.zeros(1, np.float32)}),
        to_bytes({**RIGHT, FIRST: RIGHT[FIRST].astype(np.float64)}),
        to_bytes({**RIGHT, FIRST: RIGHT[FIRST].reshape(-1, 1)}),
        to_bytes({**RIGHT, FIRST: RIGHT[FIRST][:-1]}),
    ],
    ids=["empty", "noise", "pickle", "missing", "extra", "dtype", "shape", "short"],
)
def test_other_tensors_than_the_plans_are_a_failed_run_with_its_charge(payload: bytes) -> None:
    runs, ledger = object.__new__(Rounds), Ends()
    runs.ledger = ledger  # type: ignore[assignment]
    runs.parts = object.__new__(ModelParts)
    run = SimpleNamespace(id="r1", request="q1", round=1)
    answer = Answer({"event": "done"}, payload, HELD)
    with pytest.raises(WeightsRefused) as refused:
        runs.settle(run, PLAN, published(), "rita@uni.example", answer)  # type: ignore[arg-type]
    assert ledger.calls == []
    runs._end(run, True, refused.value)  # type: ignore[arg-type]
    assert ledger.calls == ["fail"]


def test_nothing_that_a_job_says_is_unpickled() -> None:
    root = Path(__file__).resolve().parents[3]
    for path in (
        *root.glob("datasites/jobs/*.py"),
        root / "datasites/review/rounds.py",
        root / "policies/release/tensors.py",
    ):
        assert not re.search(r"\bpickle\b(?!d)|torch\.load|np\.load|marshal|shelve", path.read_text()), path


# -- draws ----------------------------------------------------------------------------------------------------------

CHILDREN = 100


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobPool]:
    """A runner whose parent drew from every generator before it forks."""
    pool, process = start("runner", tmp_path_factory.mktemp("drawn"))
    yield pool
    end(process)


# All records of everybody are used: what differs between two answers of statistics is python-dp's noise alone.
NOISE_ALONE = statistics(queries=(Query("count"), Query("histogram", ("age",))), records_per_patient=20)


@pytest.mark.parametrize("made", [training(steps=1), NOISE_ALONE], ids=["train", "statistics"])
def test_children_of_a_parent_that_drew_all_draw_differently(drawn: JobPool, made: Any) -> None:
    plan = plan_of(made)
    job = {
        "job": made.kind if made.kind == "statistics" else "train",
        "plan": plan.as_dict(),
        "mechanism": as_dict(plan.mechanism),
        "schema": SCHEMA.as_dict(),
        "training_patients": 100,
    }
    assert plan_from(job["plan"]) == plan
    rows = PrivateRows(_rows())
    weights = (
        to_bytes({each.name: np.zeros(each.shape, np.float32) for each in plan.graph.parameters}) if plan.graph else b""
    )
    seen = set()
    for _ in range(CHILDREN):
        answer = drawn.run("runner", job, weights, seconds=60, rows=rows)
        seen.add(answer.payload if answer.done else f"refused {len(seen)}".encode())
    rows.close()
    assert len(seen) == CHILDREN


def _rows() -> Any:
    from datasites.vault.mocks import draw_mock

    return draw_mock(SCHEMA, 100)
