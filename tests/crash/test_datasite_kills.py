"""kill -9 of a whole datasite, or of its runner, at each step of a request's life.

After each: the datasite starts again, its ledger verifies, nothing was released without a charge, nothing was charged
twice, nothing approved was lost, and the researcher gets on with the same calls as before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from datasites.ledger.ledger import Ledger
from tests.e2e.stock import call, call_until_done, login, submit
from tests.factories import (
    PASSWORD,
    RESEARCHER,
    DatasiteProcess,
    initial_weights,
    slow_training_source,
    training_source,
)

FAULTY = Path(__file__).with_name("serve_with_fault.py")
ROUNDS = 3

# Where it dies, and how many of the rounds were charged by then.
FAULTS = [
    ("before Ledger.submit 1", 0),
    ("after Ledger.submit 1", 0),
    ("after Requests.check 1", 0),
    ("before Ledger.approve 1", 0),
    ("after Ledger.approve 1", 0),
    ("after Runs.admit 1", 0),
    ("after Runs.start 1", 1),
    ("before Runs.settle 1", 1),
    ("after Runs.settle 1", 1),
]


def go(datasite: DatasiteProcess) -> dict[str, Any]:
    """All that a researcher and an owner do up to a release, each step only where it is still to be done."""
    client = login(datasite.url, RESEARCHER, PASSWORD)
    if not client.api.services.datasite.requests():
        submit(client, training_source(rounds=ROUNDS))
    datasite.approve_all()
    answer = call_until_done(client, "flu_round", weights=initial_weights())
    if answer["status"] in ("failed", "void"):  # told once; the next ask is a new try
        answer = call_until_done(client, "flu_round", weights=initial_weights())
    return answer


def check_books(directory: Path) -> tuple[int, int]:
    """(charged runs, releases) after checking that the books are true."""
    with Ledger.open(directory / "ledger.db") as ledger:
        ledger.verify()
        runs = ledger.runs.list()
        charged = [each for each in runs if each.status in ("released", "failed")]
        released = {(release.request, release.round) for release in ledger.runs.releases()}
        assert released == {(each.request, each.round) for each in runs if each.status == "released"}
        for request in ledger.requests.list():
            assert request.attempts == len([each for each in charged if each.request == request.id])
        balance = ledger.budgets.balance("patients")
        assert balance.spent_nano + balance.reserved_nano <= balance.capacity_nano
        return len(charged), len(released)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "charged"), FAULTS)
def test_datasite_killed_at_each_step_goes_on_with_true_books(
    fault: str, charged: int, made_datasite: Path, tmp_path: Path, jobs: Path
) -> None:
    datasite = DatasiteProcess(made_datasite, tmp_path / "datasite", program=FAULTY, jobs=jobs)
    (datasite.directory / "fault").write_text(fault)
    datasite.start()
    try:
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the client makes of a server that is gone
            go(datasite)
        assert datasite.process is not None
        assert datasite.process.wait(timeout=60) == -signal.SIGKILL

        datasite.program = None
        datasite.start()
        assert check_books_of_running(datasite) == charged
        answer = go(datasite)
        assert answer["status"] == "released"
        datasite.cli("ledger", "--verify")
    finally:
        datasite.stop()
    spent, releases = check_books(datasite.directory)
    assert releases == 1
    # A durable release is fetched again at no cost; a round that had begun was charged, and so is its second try.
    assert spent == (1 if "settle" in fault and "after" in fault else charged + 1)


def check_books_of_running(datasite: DatasiteProcess) -> int:
    """How many runs are charged, as the serving datasite's ledger says."""
    datasite.cli("ledger", "--verify")
    entries = datasite.json("ledger")["entries"]
    return len([each for each in entries if each["kind"] in ("settle", "fail")])


def jobs_of(datasite: DatasiteProcess, kind: str) -> tuple[int, list[int]]:
    """(warm parent, its children) of one kind."""
    assert datasite.process is not None
    processes = psutil.Process(datasite.process.pid).children(recursive=True)
    parent = next(each for each in processes if each.name() == kind)  # before its own children, which are named so too
    return parent.pid, [each.pid for each in parent.children()]


def has_started(datasite: DatasiteProcess) -> bool:
    """Whether a round has begun to read rows; read from the file, since a command takes longer than the round."""
    with contextlib.closing(sqlite3.connect(f"file:{datasite.directory / 'ledger.db'}?mode=ro", uri=True)) as ledger:
        return bool(ledger.execute("SELECT count(*) FROM runs WHERE status = 'running'").fetchone()[0])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_runner_killed_in_a_round_keeps_the_charge_and_the_datasite_goes_on(
    made_datasite: Path, tmp_path: Path
) -> None:
    datasite = DatasiteProcess(made_datasite, tmp_path / "datasite", cold=True).start()
    try:
        client = login(datasite.url, RESEARCHER, PASSWORD)
        submit(client, slow_training_source("flu_long", rounds=ROUNDS))
        datasite.approve_all()
        weights = initial_weights()
        assert call(client, "flu_long", weights=weights)["status"] == "running"
        deadline = time.monotonic() + 60
        while not has_started(datasite):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        _, children = jobs_of(datasite, "runner")
        for child in children:
            os.kill(child, signal.SIGKILL)
        # It shows as failed at the round's public time, which a dry run told for all of its steps.
        answer = call_until_done(client, "flu_long", weights=weights, seconds=240)
        assert answer == {"status": "failed", "round": 1, "release": None, "certificate": None}
        assert check_books_of_running(datasite) == 1

        # The warm parent dies too: the next round starts another and is void at most once.
        parent, _ = jobs_of(datasite, "runner")
        os.kill(parent, signal.SIGKILL)
        submit(client, training_source("flu_after"))
        datasite.approve_all()
        answer = call_until_done(client, "flu_after", weights=weights)
        if answer["status"] == "void":
            answer = call_until_done(client, "flu_after", weights=weights)
        assert answer["status"] == "released"
        datasite.cli("ledger", "--verify")
    finally:
        datasite.stop()


@pytest.mark.slow
def test_second_datasite_on_one_directory_is_refused(datasite: DatasiteProcess) -> None:
    second = datasite.cli("serve", check=False)
    assert second.returncode == 1
    assert "Another `datasite serve` serves" in second.stderr
