"""No table that is not published stays open in the serving process, whatever ended the work on it.

What is counted is the kernel's list of the process's open files and maps. One datasite in this process stands for most
endings, and `datasite serve`, its runner killed, for all of them in a row.
"""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import shutil
import signal
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from datasites.actions.for_researchers import ForResearchers
from datasites.datasite import Datasite
from datasites.jobs.frames import receive_frame, send_frame
from datasites.jobs.isolation import PROTECTIONS
from datasites.jobs.pool import JobPool
from datasites.serve import act_as_owner, open_datasite
from datasites.settings import Settings, change_settings
from policies.errors import DatasiteError, Unavailable
from policies.source.statuses import RunStatus
from tests.e2e.stock import call, call_until_done, login, submit
from tests.factories import (
    PASSWORD,
    RESEARCHER,
    SCHEMA,
    DatasiteProcess,
    initial_weights,
    slow_training_source,
    statistics_source,
    write_table,
)
from tests.open_tables import tables_open

OWNER = "owner@hospital.example"
HELD = dict.fromkeys(PROTECTIONS, True)


@pytest.fixture(scope="module")
def datasite(made_datasite: Path, tmp_path_factory: pytest.TempPathFactory, jobs: Path) -> Iterator[Datasite]:
    """A datasite with PySyft and real jobs in this process, its table published."""
    directory = tmp_path_factory.mktemp("datasite") / "datasite"
    shutil.copytree(made_datasite, directory, ignore=shutil.ignore_patterns("*.sock"))
    change_settings(directory, {"jobs_directory": str(jobs)})
    with open_datasite(Settings.load(directory)) as datasite:
        yield datasite
        datasite.accounts.close()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "visits.csv")


@pytest.fixture(autouse=True)
def _nothing_open_before(datasite: Datasite) -> None:
    """Each test begins with no table of this process open."""
    datasite.rounds.stop()
    datasite.rounds.resume()
    assert tables_open() == 0


def publish(datasite: Datasite, table: Path, *, count: bool = True) -> dict[str, Any]:
    size: dict[str, Any] = (
        {"patients": None, "count_epsilon": 0.05} if count else {"patients": 400, "count_epsilon": None}
    )
    none = dict.fromkeys(("sql", "database", "password_file", "public_mock"))
    published: dict[str, Any] = act_as_owner(
        datasite, "publish", OWNER, {"table": str(table), "schema": SCHEMA, "budget": [20.0, 1e-5], **size, **none}
    )
    return published


def approved(datasite: Datasite) -> str:
    """An approved request for statistics on the version that is published now."""
    (record,) = datasite.ledger.datasets.list()
    source = statistics_source(f"flu_{secrets.token_hex(4)}", epsilon=0.05)
    asset = ForResearchers(datasite).describe(RESEARCHER)["datasets"][0]["asset"]
    ForResearchers(datasite).submit(RESEARCHER, source, asset, "To count.", lambda: {"code": secrets.token_hex(16)})
    (request,) = (
        request.id for request in datasite.ledger.requests.list(status="checked") if request.version == record.version
    )
    act_as_owner(datasite, "approve", OWNER, {"request": request})
    return request


def ended(datasite: Datasite, request: str) -> RunStatus:
    """How the request's first round ends, which begins here."""
    ForResearchers(datasite).ask(RESEARCHER, request, 1, {})
    for thread in list(datasite.rounds._threads.values()):
        thread.join(60)
    return datasite.ledger.runs.list(request)[-1].status


# -- publishing -------------------------------------------------------------------------------------------------------


def test_publishing_with_a_count_leaves_no_table_open(datasite: Datasite, table: Path) -> None:
    for _ in range(3):
        assert publish(datasite, table)["size_kind"] == "dp-count"
        assert tables_open() == 0


@pytest.mark.parametrize("count", [False, True])
def test_publishing_leaves_no_array_of_the_table(
    datasite: Datasite, table: Path, monkeypatch: pytest.MonkeyPatch, count: bool
) -> None:
    arrays = arrays_made(monkeypatch)
    publish(datasite, table, count=count)
    gc.collect()
    assert [array() for array in arrays] == [None]


def arrays_made(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """References that die with each private matrix that publishing makes."""
    from datasites.vault import encoding

    made: list[weakref.ref[Any]] = []
    encode = encoding.encode

    def noted(*arguments: Any, **options: Any) -> Any:
        matrix = encode(*arguments, **options)
        made.append(weakref.ref(matrix))
        return matrix

    monkeypatch.setattr(encoding, "encode", noted)
    return made


def test_pysyft_is_handed_no_private_row(datasite: Datasite, table: Path) -> None:
    """It would keep the first ones as text in its database, and all of them in memory six times over."""
    publish(datasite, table, count=False)
    asset = datasite.ledger.datasets.list()[-1].assets["records"]
    kept = datasite.syft._sides(asset).private  # type: ignore[attr-defined]
    assert kept.syft_action_data_repr_ == repr(torch.zeros((1, 7), dtype=torch.float64))
    rows = datasite.syft.records(asset)
    assert (rows.dtype, rows.shape[1]) == (np.float64, 7)
    assert len(rows) == table.read_text().count("\n") - 1
    assert not rows.flags.writeable  # it is read where it lies


def test_the_count_runs_beside_the_sealed_table_alone(
    datasite: Datasite, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, run = arrays_made(monkeypatch), datasite.pool.run
    seen = []

    def noted(*arguments: Any, **options: Any) -> Any:
        gc.collect()
        seen.append((tables_open(), [array() is None for array in arrays]))
        return run(*arguments, **options)

    monkeypatch.setattr(datasite.pool, "run", noted)
    publish(datasite, table)
    assert seen == [(1, [True])]


STEPS = (
    "ledger.datasets.stage",
    "syft.upload",
    "ledger.charge_now",
    "pool.run",
    "rounds.settle",
    "ledger.datasets.publish",
    "syft.forget_datasets",
    "audit_log.record",
)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", [Unavailable("It failed."), RuntimeError("It failed.")], ids=["ours", "a fault"])
def test_a_publication_that_fails_at_any_step_leaves_no_table_open(
    datasite: Datasite, table: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    arrays = arrays_made(monkeypatch)
    where, _, name = step.rpartition(".")
    monkeypatch.setattr(attrgetter(where)(datasite), name, fails)
    with contextlib.suppress(type(error)):
        publish(datasite, table)
    error.__traceback__ = error.__context__ = None  # whoever answers the owner keeps no error
    gc.collect()
    assert tables_open() == 0
    assert [array() for array in arrays] == [None]


# -- rounds -----------------------------------------------------------------------------------------------------------


def test_a_table_stays_open_between_rounds_and_closes_when_it_is_retired(datasite: Datasite, table: Path) -> None:
    publish(datasite, table, count=False)
    requests = [approved(datasite), approved(datasite)]
    assert [ended(datasite, request) for request in requests] == [RunStatus.RELEASED] * 2
    assert tables_open() == 1  # it is published: the next round need not read it again
    act_as_owner(datasite, "retire", OWNER, {"name": "flu"})
    assert tables_open() == 0
    publish(datasite, table, count=False)


def test_a_new_version_closes_the_table_of_the_old_one(datasite: Datasite, table: Path) -> None:
    publish(datasite, table, count=False)
    assert ended(datasite, approved(datasite)) is RunStatus.RELEASED
    assert tables_open() == 1
    publish(datasite, table)
    assert tables_open() == 0


class LastWords:
    """A runner that takes the rows and then ends as it is told to; what it was handed is closed with it."""

    def __init__(self, directory: Path, how: str) -> None:
        self.path, self.how = directory / "runner.sock", how
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        self.has_rows, self.over = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            receive_frame(connection, largest_payload=1 << 20)
            send_frame(connection, {"event": "ready", "protections": HELD})
            _, _, descriptor = receive_frame(connection, largest_payload=0, with_descriptor=True)
            assert descriptor is not None
            os.close(descriptor)
            self.has_rows.set()
            if self.how == "fails":
                send_frame(connection, {"event": "failed", "output": "Traceback"})
            elif self.how == "hangs":
                self.over.wait(60)

    def close(self) -> None:
        self.over.set()
        self.thread.join(10)
        self.listener.close()


@pytest.fixture
def retired_while_it_ran(datasite: Datasite, table: Path) -> Iterator[str]:
    """A request approved on a version that is taken back while its round runs, so that its table may not stay."""
    publish(datasite, table, count=False)
    yield approved(datasite)
    publish(datasite, table, count=False)


@pytest.mark.parametrize("how", ["fails", "is killed", "hangs"])
def test_a_round_that_fails_is_killed_or_stopped_gives_its_table_back(
    datasite: Datasite, retired_while_it_ran: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    runner = LastWords(tmp_path, how)
    monkeypatch.setattr(datasite.rounds, "pool", JobPool({"runner": runner.path}, start_parents=False))
    ForResearchers(datasite).ask(RESEARCHER, retired_while_it_ran, 1, {})
    assert runner.has_rows.wait(30)
    act_as_owner(datasite, "retire", OWNER, {"name": "flu"})
    (run,) = datasite.ledger.runs.list(retired_while_it_ran)  # one that hangs is ended by that
    for thread in list(datasite.rounds._threads.values()):
        thread.join(60)
    runner.close()
    assert datasite.ledger.runs.get(run.id).status is RunStatus.FAILED
    assert tables_open() == 0


def test_stopping_all_work_closes_tables_of_published_versions_too(datasite: Datasite, table: Path) -> None:
    publish(datasite, table, count=False)
    assert ended(datasite, approved(datasite)) is RunStatus.RELEASED
    assert tables_open() == 1
    datasite.rounds.stop()
    assert tables_open() == 0
    datasite.rounds.resume()


def test_a_table_that_cannot_be_read_leaves_nothing_open(
    datasite: Datasite, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: str) -> Any:
        raise DatasiteError("The blob cannot be read.")

    publish(datasite, table, count=False)
    request = approved(datasite)
    monkeypatch.setattr(datasite.rounds, "load", unreadable)
    assert ended(datasite, request) is RunStatus.VOID
    assert tables_open() == 0


def test_an_office_that_closes_lets_go_of_its_tables(made_datasite: Path, tmp_path: Path, jobs: Path) -> None:
    """Also of one that was open for a run that has ended."""
    directory = tmp_path / "datasite"
    shutil.copytree(made_datasite, directory, ignore=shutil.ignore_patterns("*.sock"))
    change_settings(directory, {"jobs_directory": str(jobs)})
    with open_datasite(Settings.load(directory)) as datasite:
        assert ended(datasite, approved(datasite)) is RunStatus.RELEASED
        assert tables_open() == 1
        datasite.accounts.close()
    assert tables_open() == 0


# -- a datasite that serves -------------------------------------------------------------------------------------------


def runner_of(datasite: DatasiteProcess) -> psutil.Process:
    """The warm parent of its runner."""
    assert datasite.process is not None
    processes = psutil.Process(datasite.process.pid).children(recursive=True)
    return next(process for process in processes if process.name() == "runner")  # its jobs come after it


def killed_in_a_round(datasite: DatasiteProcess, client: Any, name: str) -> None:
    """Begin a long round, and kill its job and the warm parent once the job has the rows; the parent never had."""
    submit(client, slow_training_source(name))
    datasite.approve_all()
    assert call(client, name, weights=initial_weights())["status"] == "running"
    deadline = time.monotonic() + 60
    runner = runner_of(datasite)
    while not (working := [child for child in runner.children() if tables_open(child.pid)]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert tables_open(runner.pid) == 0
    for process in (*working, runner):
        os.kill(process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_serving_datasite_has_no_table_open_that_is_not_published(made_datasite: Path, tmp_path: Path) -> None:
    datasite = DatasiteProcess(made_datasite, tmp_path / "datasite")
    datasite.set(release_grid_seconds=0.0)
    datasite.start()
    try:
        assert datasite.process is not None
        serving = datasite.process.pid
        (tmp_path / "schema.toml").write_text(SCHEMA)
        new = ("publish", str(write_table(tmp_path / "more.csv")), "--schema", str(tmp_path / "schema.toml"))
        datasite.cli(*new, "--count-epsilon", "0.1")
        assert tables_open(serving) == 0

        client = login(datasite.url, RESEARCHER, PASSWORD)
        submit(client, statistics_source(), weights=False)
        datasite.approve_all()
        assert call_until_done(client, "flu_counts")["status"] == "released"
        assert tables_open(serving) == 1

        killed_in_a_round(datasite, client, "flu_long")
        assert call_until_done(client, "flu_long", weights=initial_weights())["status"] == "failed"
        assert tables_open(serving) == 1  # still published
        datasite.cli("stop", "--yes")
        assert tables_open(serving) == 0
        datasite.cli("resume")
        datasite.cli("retire", "flu")
        assert tables_open(serving) == 0
    finally:
        datasite.stop()
