"""A datasite whose exporter and runner are a program of their own in another directory, reached over TLS alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from torch import nn

from datasites.engine.mock_rows import draw_mock
from datasites.jobs import child
from datasites.jobs.isolation import PROTECTIONS
from datasites.jobs.pool import JobPool
from datasites.settings import Settings
from datasites.vault.private_rows import PrivateRows
from policies.graph.exporter import export_model
from policies.privacy.mechanisms import Evaluation
from tests.crash.test_datasite_kills import check_books, has_started
from tests.e2e.stock import call, call_until_done, login, submit
from tests.factories import (
    PASSWORD,
    RESEARCHER,
    DatasiteProcess,
    free_port,
    initial_weights,
    run_datasite,
    slow_training_source,
    statistics_source,
    training_source,
)
from tests.machines import Pair
from tests.policies.plan_factories import SCHEMA, plan_of, training


class MachineProcess:
    """`datasite jobs serve` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        self.log = directory.parent / "machine.out"
        run_datasite("jobs", "make", directory=directory)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> MachineProcess:
        command = [sys.executable, "-m", "datasites", "jobs", "serve", "--dir", str(self.directory)]
        before = self.said().count("Jobs are taken at")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*command, "--listen", self.address], stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + 120
        while self.said().count("Jobs are taken at") == before:
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)
        return self

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(timeout=30) == 0

    def words(self) -> str:
        out = run_datasite("jobs", "make", directory=self.directory).stdout
        return next(line.partition(": ")[2] for line in out.splitlines() if line.startswith("Words"))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[MachineProcess]:
    made = MachineProcess(tmp_path / "elsewhere" / "machine")
    yield made
    made.stop()


def joined(datasite: DatasiteProcess, machine: MachineProcess, *only: str) -> None:
    """What two operators do: each gives the other a file, and the words of its key by telephone."""
    certificate = str(machine.directory / "own.pem")
    said = datasite.cli("jobs", "use", machine.address, certificate, "--words", machine.words(), *only).stdout
    words = said.split('--words "')[1].split('"')[0]
    own = str(datasite.directory / "elsewhere" / "own.pem")
    run_datasite("jobs", "trust", own, "--words", words, directory=machine.directory)


def files_of(process: int) -> set[str]:
    """What a process and its children have open or are in."""
    found: set[str] = set()
    for each in (psutil.Process(process), *psutil.Process(process).children(recursive=True)):
        found |= {file.path for file in each.open_files()} | {each.cwd()}
        found |= {str(address.laddr) for address in each.net_connections("unix") if address.laddr}
    return found


def spent(datasite: DatasiteProcess) -> list[str]:
    """How charged rounds ended, the first of them first."""
    kinds = [each["kind"] for each in datasite.json("ledger")["entries"]]
    return [kind for kind in reversed(kinds) if kind in ("settle", "fail")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_with_its_jobs_elsewhere_and_their_machine_killed_on_the_way(
    made_datasite: Path, tmp_path: Path, machine: MachineProcess
) -> None:
    datasite = DatasiteProcess(made_datasite, tmp_path / "datasite", cold=True)
    joined(datasite, machine)
    refused = datasite.cli("jobs", "check", check=False)
    assert refused.returncode == 1
    assert f"{machine.address} cannot be used: it does not answer" in refused.stdout
    machine.start()
    assert f"The runner at {machine.address} answers in " in datasite.cli("jobs", "check").stdout
    datasite.start()
    try:
        # No process of the datasite beside itself, and nothing that the two machines share.
        assert datasite.process is not None
        assert psutil.Process(datasite.process.pid).children() == []
        assert not list(datasite.directory.glob("*er.sock"))
        assert machine.process is not None
        ours, theirs = files_of(datasite.process.pid), files_of(machine.process.pid)
        assert any(str(datasite.directory) in each for each in ours)
        assert any(str(machine.directory) in each for each in theirs)
        assert not any(str(machine.directory) in each for each in ours)
        assert not any(str(datasite.directory) in each for each in theirs)

        assert f"The runner runs at {machine.address}." in datasite.log()
        assert datasite.json("status")["jobs"][1]["reason"] == ""
        if os.geteuid() == 0:
            assert datasite.json("isolation") == dict.fromkeys(PROTECTIONS, True)

        client = login(datasite.url, RESEARCHER, PASSWORD)
        submit(client, training_source("flu_round", rounds=2, epsilon=1.0))
        submit(client, statistics_source(), weights=False)
        submit(client, slow_training_source("flu_long", rounds=2))
        datasite.approve_all()
        weights = initial_weights()
        released = call_until_done(client, "flu_round", weights=weights)
        assert released["status"] == "released"
        assert call_until_done(client, "flu_counts")["status"] == "released"
        assert spent(datasite) == ["settle", "settle"]

        # Killed in a round: it failed with its charge, once; nothing of it was released.
        assert call(client, "flu_long", weights=weights)["status"] == "running"
        deadline = time.monotonic() + 90
        while not has_started(datasite):
            assert time.monotonic() < deadline, datasite.log()
            time.sleep(0.02)
        machine.kill()
        assert call_until_done(client, "flu_long", weights=weights, seconds=120)["status"] == "failed"
        assert spent(datasite) == ["settle", "settle", "fail"]

        # Gone before a round: it is void and free.
        assert call_until_done(client, "flu_round", weights=weights, round=2, seconds=120)["status"] == "void"
        assert spent(datasite) == ["settle", "settle", "fail"]
        assert "it does not answer (Connection refused)" in datasite.cli("status").stdout
        assert "The runner elsewhere" in (datasite.directory / "datasite.log").read_text()

        # Started again: the same calls go on, and what was released is not paid for again.
        machine.start()
        assert call_until_done(client, "flu_round", weights=weights, round=2)["status"] == "released"
        again = call_until_done(client, "flu_round", weights=weights)
        assert again["certificate"] == released["certificate"]
        assert spent(datasite) == ["settle", "settle", "fail", "settle"]
    finally:
        datasite.stop()
    assert check_books(datasite.directory) == (4, 3)
    machine.stop()
    assert "Traceback" not in machine.said()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_exporter_alone_may_be_elsewhere_and_nothing_private_goes_there(
    made_datasite: Path, tmp_path: Path, machine: MachineProcess
) -> None:
    datasite = DatasiteProcess(made_datasite, tmp_path / "datasite", cold=True)
    joined(datasite, machine, "--only", "exporter")
    settings = Settings.load(datasite.directory)
    assert settings.job_addresses == {"exporter": machine.address}
    machine.start()
    datasite.start()
    try:
        assert datasite.process is not None
        names = {each.name() for each in psutil.Process(datasite.process.pid).children(recursive=True)}
        assert "runner" in names
        assert "exporter" not in names
        client = login(datasite.url, RESEARCHER, PASSWORD)
        submit(client, training_source("flu_round", rounds=1))
        datasite.approve_all()
        assert call_until_done(client, "flu_round", weights=initial_weights())["status"] == "released"
    finally:
        datasite.stop()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_table_that_is_larger_than_what_is_sent_is_told_to_its_owner_alone(
    made_datasite: Path, tmp_path: Path, machine: MachineProcess
) -> None:
    datasite = DatasiteProcess(made_datasite, tmp_path / "datasite", cold=True)
    joined(datasite, machine)
    machine.start()
    datasite.cli("settings", "runner_records=100")
    datasite.start(wait=False)
    assert datasite.process is not None
    assert datasite.process.wait(timeout=120) == 1
    assert "'flu' has more records than runner_records=100: as many" in " ".join(datasite.log().split())
    assert "Raise it in settings.toml" in datasite.log()


# -- the same release -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a runner whose jobs all draw the same noise."""
    path = tmp_path_factory.mktemp("fixed") / "runner.sock"
    program = Path(__file__).with_name("parent_with_fixed_noise.py")
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, str(program), str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield path
    process.terminate()
    process.wait(20)


@pytest.mark.process
@pytest.mark.parametrize("what", ["train", "evaluate"])
def test_a_release_from_elsewhere_is_that_from_here_to_the_bit(what: str, fixed: Path, tmp_path: Path) -> None:
    last = (nn.Linear(8, 2),) if what == "train" else (nn.Linear(8, 1), nn.Sigmoid())
    graph = export_model(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), *last), (3,))
    mechanism: Any = training(steps=20, sampling_rate=0.2)
    if what == "evaluate":
        mechanism = Evaluation(loss="binary_cross_entropy", epsilon=1.0)
    plan = plan_of(mechanism, graph=graph)
    job = {"job": what, "plan": plan.as_dict(), "schema": SCHEMA.as_dict(), "training_patients": 800}
    weights = child._release({each.name: np.full(each.shape, 0.01, np.float32) for each in graph.parameters})
    pair = Pair(tmp_path)
    pair.parent.path = fixed
    answers = []
    with PrivateRows(draw_mock(SCHEMA, 1000)) as rows:
        for pool in (JobPool({"runner": fixed}, start_parents=False), pair.pool(records=2000)):
            answers.append(pool.run("runner", job, weights, seconds=60, largest=1 << 20, rows=rows))
    pair.close()
    here, there = answers
    assert here.done, here.output
    assert there.done, there.output
    assert here.payload == there.payload
    assert len(here.payload) > 100
    assert here.protections == there.protections
