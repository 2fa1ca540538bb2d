"""`kill -9` at every statement that the ledger sends to SQLite: nothing is lost, charged twice or released uncharged.

A forked child does a whole life of requests and kills itself right before its n-th statement; the parent then opens the
file, checks it against what the child had been told was done, recovers, and checks again.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from datasites.ledger.audit_log import AuditLog
from datasites.ledger.ledger import Ledger
from datasites.ledger.years import YearlyPlan
from policies.errors import DatasiteError, LedgerDamaged
from policies.source.statuses import RequestStatus, RunStatus
from tests.datasites.ledger.ledger_factories import (
    BUDGET,
    GAUSSIAN,
    LAPLACE,
    ORDER,
    Clock,
    approve,
    approved,
    checked,
    dataset,
    new_ledger,
    released,
    running,
)

Tell = Callable[[str], None]


@pytest.fixture
def directory() -> Iterator[Path]:
    """In memory where there is such a place: what a killed process had written is the kernel's either way."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


class Child:
    """What became of a child that was to die at a statement."""

    def __init__(self, body: Callable[[Tell], None], *, die_at: int) -> None:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _die_at(die_at)
            try:
                body(lambda text: void(os.write(writing, f"{text}\n".encode())))
            except BaseException as error:
                os.write(writing, f"error {error!r}\n".encode())
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            self.told = pipe.read().decode().split("\n")[:-1]
        self.killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert not [line for line in self.told if line.startswith("error")], self.told


def void(_: object) -> None:
    pass


def _die_at(number: int) -> None:
    """Make this process kill itself right before its `number`-th statement, 0 for never."""
    seen = 0

    def trace(_: str) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect

    def traced(*arguments: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(trace)
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]


def a_whole_life(path: Path, tell: Tell) -> None:
    """Everything that a ledger does, telling each thing once it returned."""
    ledger = Ledger.create(path, clock=Clock())
    tell("created")
    ledger.budgets.create_population("city", BUDGET, ORDER)
    tell("population")
    ledger.datasets.stage(dataset())
    count = ledger.charge_now("city", LAPLACE, dataset="flu", version="v1", actor="owner", what="patient count")
    tell(f"running {count.id}")
    ledger.runs.settle(count.id, b"1000", "count", "{}")
    tell(f"released {count.id}")
    ledger.datasets.publish(dataset(), actor="owner")
    tell("published v1")
    request = approved(ledger, rounds=3)
    tell(f"approved {request}")
    tell(f"released {released(ledger, request, 1).id}")
    run = running(ledger, request, 2)
    tell(f"running {run.id}")
    ledger.runs.fail(run.id, "a reason")
    tell(f"failed {run.id}")
    run = ledger.runs.void(ledger.runs.admit(request, 2, "w", GAUSSIAN).id)
    tell(f"void {run.id}")
    tell(f"released {released(ledger, request, 3).id}")
    tell(f"completed {request}")
    request = approved(ledger, rounds=4)
    left_open = running(ledger, request, 1)
    ledger.runs.admit(request, 2, "w", GAUSSIAN)
    ledger.transition(request, "revoked", actor="owner", comment="stop")
    tell(f"revoked {request}")
    ledger.runs.fail(left_open.id)
    tell(f"failed {left_open.id}")
    ledger.datasets.stage(dataset("v2"))
    ledger.datasets.publish(dataset("v2"), actor="owner")
    tell("published v2")
    ledger.transition(checked(ledger, version="v2"), "denied", actor="owner")
    AuditLog(ledger.store).record("owner", "deny")
    tell("audited")
    ledger.close()
    tell("closed")


def check_what_was_told(ledger: Ledger, told: list[str]) -> None:
    """Everything that the child was told is there, and charges are those of the runs that touched data."""
    ledger.verify()
    words = [line.split() for line in told]
    for what, *name in words:
        if what in ("released", "failed", "void"):
            assert ledger.runs.get(name[0]).status is RunStatus(what)
        elif what == "published":
            assert ledger.datasets.get(version=name[0]).status in ("published", "retired")
        elif what in ("completed", "revoked"):
            assert ledger.requests.get(name[0]).status is RequestStatus(what)
        elif what == "approved":
            assert ledger.requests.get(name[0]).rounds == 3
        elif what == "running":  # told before private rows would be read: never free again
            assert ledger.runs.get(name[0]).status not in (RunStatus.RESERVED, RunStatus.VOID)
        elif what == "audited":
            assert AuditLog(ledger.store).head().seq == 1
    assert len(ledger.datasets.list()) <= 1


def check_charges(ledger: Ledger) -> None:
    """After recovery: spent is what touched data, reserved what approved requests may still run, and no run is open."""
    charges = {
        request.id: (LAPLACE if request.by_owner else GAUSSIAN) for request in ledger.requests.list(by_owner=None)
    }
    ended = [run for run in ledger.runs.list() if run.status in (RunStatus.RELEASED, RunStatus.FAILED)]
    assert {run.status for run in ledger.runs.list()} <= {RunStatus.RELEASED, RunStatus.FAILED, RunStatus.VOID}
    if "city" in ledger.budgets.populations():
        balance = ledger.budgets.balance("city")
        assert balance.spent_nano == sum(charges[run.request].divergence_nano for run in ended)
        held = [(each.runs_left, charges[each.id]) for each in ledger.requests.list(by_owner=None)]
        assert balance.reserved_nano == sum(left * charge.divergence_nano for left, charge in held)
    assert {release.run for release in ledger.runs.releases()} == {
        run.id for run in ended if run.status is RunStatus.RELEASED
    }
    assert not ledger.datasets.list(status="staged")


def open_after_a_kill(path: Path) -> Ledger:
    """The ledger, made anew only where its creation had not been told."""
    try:
        return Ledger.open(path, clock=Clock())
    except LedgerDamaged:
        return Ledger.create(path, clock=Clock())
    except DatasiteError:
        assert not path.exists()
        return Ledger.create(path, clock=Clock())


def die_at_any_statement(directory: Path) -> None:
    """A whole life for each statement that it may end at."""
    number, died = 0, True
    while died:
        number += 1
        path = directory / f"{number}.db"
        child = Child(lambda tell, path=path: a_whole_life(path, tell), die_at=number)
        died = child.killed
        with open_after_a_kill(path) as ledger:
            if "created" not in child.told:
                assert not ledger.entries.list()
            check_what_was_told(ledger, child.told)
            ledger.recover()
            ledger.verify()
            check_what_was_told(ledger, child.told)
            check_charges(ledger)
        for file in directory.glob(f"{number}.db*"):
            file.unlink()
    assert child.told[-1] == "closed"
    assert number > 150  # it did die at each of the many statements before that


def die_during_recovery(directory: Path) -> None:
    """A recovery for each statement that it may end at."""
    number, died = 0, True
    while died:
        number += 1
        path = directory / f"{number}.db"
        ledger = new_ledger(path)
        request = approved(ledger, rounds=4)
        ran = running(ledger, request, 1)
        waits = ledger.runs.admit(request, 2, "w", GAUSSIAN)
        ledger.datasets.stage(dataset("v2"))
        ledger.close()
        child = Child(lambda _, path=path: void(Ledger.open(path, clock=Clock()).recover()), die_at=number)
        died = child.killed
        with Ledger.open(path, clock=Clock()) as ledger:
            ledger.verify()
            ledger.recover()
            assert ledger.runs.get(ran.id).status is RunStatus.FAILED
            assert ledger.runs.get(waits.id).status is RunStatus.VOID
            assert ledger.budgets.balance("city").spent_nano == GAUSSIAN.divergence_nano
            check_charges(ledger)
            ledger.verify()
    assert number > 20


PLAN_OF_A_YEAR = YearlyPlan(3.0, carry_over_since=2026)
OF_THE_PROJECT = "rita@uni.example"


def a_planned_life(path: Path, tell: Tell) -> None:
    """Reserving for a project, drawing on it, turning years, giving back and freeing, telling each once it is done."""
    clock = Clock()
    ledger = Ledger.open(path, clock=clock)
    ledger.projects.make("Flu", "General", "2027-06-30")
    ledger.parts.keep("Flu", "city", 1.0, (OF_THE_PROJECT,), actor="owner")
    tell("reserved 1.0")
    request = checked(ledger)
    ledger.projects.file(request, "Flu")
    approve(ledger, request, plan=PLAN_OF_A_YEAR)
    tell(f"drawn {request}")
    released(ledger, request)
    tell("spent 1")
    clock.turn(days=400)
    ledger.expire_due()
    ledger.parts.keep("Flu", "city", 2.0, (OF_THE_PROJECT,), actor="owner")
    tell("reserved 2.0")
    other = checked(ledger, "sam@uni.example")
    until = clock.now + timedelta(days=9)
    approve(ledger, other, plan=PLAN_OF_A_YEAR, expires_at=until)
    ledger.transition(other, "withdrawn", actor="sam@uni.example")
    clock.turn(days=400)
    ledger.expire_due()
    tell("freed")
    ledger.close()
    tell("closed")


def check_plans(ledger: Ledger, told: list[str]) -> None:
    """What was told is reserved, drawn or freed is; nothing is exceeded; what is left is what the entries come to."""
    ledger.verify()
    standing = ledger.budgets.standing("city", plan=PLAN_OF_A_YEAR)
    assert standing.balance_for().after_nano() <= standing.balance.limit_nano
    assert standing.year is not None
    assert all(added <= part for added, part in zip(standing.year.added_nano(), standing.year.parts_nano, strict=True))
    parts, words = ledger.parts.list("city"), [line.split() for line in told]
    if "freed" in told:
        assert parts == ()
    elif reserved := [float(name[0]) for what, *name in words if what == "reserved"]:
        assert [part.epsilon in (reserved[-1], 2.0) for part in parts] in ([True], [])  # none once its project ended
        drawn = len([line for line in told if line.startswith("drawn")]) * GAUSSIAN.divergence_nano
        assert all(part.kept.drawn.divergence_nano >= drawn for part in parts)
    spent = told.count("spent 1") * GAUSSIAN.divergence_nano
    assert ledger.budgets.balance("city").spent_nano >= spent


def die_while_plans_change(directory: Path) -> None:
    """A life with plans for each statement that it may end at; a process that comes after is of its last day."""
    number, died = 0, True
    while died:
        number += 1
        path = directory / f"{number}.db"
        new_ledger(path).close()
        child = Child(lambda tell, path=path: a_planned_life(path, tell), die_at=number)
        died = child.killed
        with Ledger.open(path, clock=Clock()) as ledger:
            check_plans(ledger, child.told)
            ledger.recover()
            check_plans(ledger, child.told)
            check_charges(ledger)
        for file in directory.glob(f"{number}.db*"):
            file.unlink()
    assert child.told[-1] == "closed"
    assert number > 100


def in_a_small_process(story: Callable[[Path], None], directory: Path) -> None:
    """Run a function of this module where nothing but the ledger is imported: each of its many forks is cheap there."""
    told = f"{story.__name__}(Path({str(directory)!r}))"
    program = f"from pathlib import Path; from {__name__} import {story.__name__}; {told}"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("story", [die_at_any_statement, die_during_recovery, die_while_plans_change])
def test_a_kill_at_any_moment_leaves_a_true_ledger(directory: Path, story: Callable[[Path], None]) -> None:
    in_a_small_process(story, directory)


def test_a_story_that_fails_is_told(directory: Path) -> None:
    """Without which the test above would say nothing."""
    with pytest.raises(AssertionError, match="Traceback"):
        in_a_small_process(die_during_recovery, directory / "nowhere")


def test_a_killed_run_can_be_asked_again_at_a_new_charge(directory: Path) -> None:
    path = directory / "ledger.db"
    request = approved(new_ledger(path), rounds=2)

    def die_while_running(_: Tell) -> None:
        running(Ledger.open(path, clock=Clock()), request)
        os.kill(os.getpid(), signal.SIGKILL)

    assert Child(die_while_running, die_at=0).killed
    with Ledger.open(path, clock=Clock()) as ledger:
        ledger.recover()
        released(ledger, request, weights="others")
        assert ledger.budgets.balance("city").spent_nano == 2 * GAUSSIAN.divergence_nano
        assert ledger.requests.get(request).status is RequestStatus.COMPLETED
        ledger.verify()


def work_for_ever(path: Path, seed: int) -> None:
    ledger, dice = Ledger.open(path, clock=Clock()), random.Random(seed)
    while True:
        try:
            request = approved(ledger, rounds=3, id=f"{os.getpid()}-{seed}-{dice.random()}")
            for round in (1, 2, 3):
                run = running(ledger, request, round)
                if dice.random() < 0.5:
                    ledger.runs.settle(run.id, bytes(dice.randrange(200_000)), "d", "{}")
                elif dice.random() < 0.5:
                    ledger.transition(request, "withdrawn", actor="researcher")
        except DatasiteError:
            ledger.transition(ledger.requests.list(status="approved")[0].id, "revoked", actor="owner")


@pytest.mark.nightly
def test_kills_at_any_moment_of_four_busy_threads_leave_a_true_ledger(directory: Path) -> None:
    path = directory / "ledger.db"
    new_ledger(path).close()
    dice = random.Random(7)
    for turn in range(300):
        pid = os.fork()
        if pid == 0:
            for seed in range(4):
                threading.Thread(target=work_for_ever, args=(path, seed + 10 * turn), daemon=True).start()
            time.sleep(60)
            os._exit(1)
        time.sleep(0.02 + dice.random() * 0.3)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with Ledger.open(path, clock=Clock()) as ledger:
            ledger.verify()
            ledger.recover()
            ledger.verify()
            check_charges(ledger)
