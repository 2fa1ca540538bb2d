"""Many threads and many processes on one ledger: one run per round, never more than the budget, one chain."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from datasites.ledger.audit_log import AuditLog
from datasites.ledger.database import Place
from datasites.ledger.ledger import Ledger
from policies.errors import BudgetExceeded, WrongStatus
from policies.privacy.accountant import Charge
from policies.source.statuses import RequestStatus, RunStatus
from tests.datasites.ledger.ledger_factories import (
    GAUSSIAN,
    NATS,
    Clock,
    approve,
    approved,
    checked,
    nano_left,
    new_ledger,
    running,
)


@pytest.fixture
def ledger(place: Place) -> Ledger:
    return new_ledger(place)


def at_once(count: int, step: Callable[[int], object]) -> list[object]:
    """What `step` answered or raised in `count` threads that begin together."""
    gate = threading.Barrier(count)

    def begin(index: int) -> object:
        gate.wait(timeout=30)
        try:
            return step(index)
        except (BudgetExceeded, WrongStatus) as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def in_processes(count: int, step: Callable[[int], object]) -> list[int]:
    """Exit statuses of `count` forked children that each run `step`."""
    children = []
    for index in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                step(index)
            except (BudgetExceeded, WrongStatus):
                os._exit(3)
            except BaseException:
                traceback.print_exc(file=sys.stderr)
                os._exit(1)
            os._exit(0)
        children.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def test_threads_that_ask_for_one_round_get_one_run(ledger: Ledger) -> None:
    request = approved(ledger)
    runs = at_once(16, lambda _: ledger.runs.admit(request, 1, "w", GAUSSIAN))
    assert len({run.id for run in runs}) == 1  # type: ignore[attr-defined]
    assert len(ledger.runs.list(request)) == 1


def test_threads_with_other_weights_get_one_run_and_refusals(ledger: Ledger) -> None:
    request = approved(ledger)
    answers = at_once(16, lambda index: ledger.runs.admit(request, 1, f"w{index}", GAUSSIAN))
    assert sum(isinstance(answer, WrongStatus) for answer in answers) == 15
    assert len(ledger.runs.list(request)) == 1


def test_threads_start_a_run_once(ledger: Ledger) -> None:
    run = ledger.runs.admit(approved(ledger), 1, "w", GAUSSIAN)
    answers = at_once(16, lambda _: ledger.runs.start(run.id))
    assert sum(isinstance(answer, WrongStatus) for answer in answers) == 15


def test_a_run_that_is_settled_and_failed_at_once_is_charged_once(ledger: Ledger) -> None:
    run = running(ledger, approved(ledger))

    def end(index: int) -> object:
        return ledger.runs.settle(run.id, b"x", "d", "{}") if index % 2 else ledger.runs.fail(run.id)

    at_once(16, end)
    assert ledger.budgets.balance("city").spent_nano == GAUSSIAN.divergence_nano
    ledger.verify()


def test_threads_that_approve_never_overspend(ledger: Ledger) -> None:
    charge = Charge(NATS, None)  # one nat each: floor(capacity) of them fit
    fitting = nano_left(ledger) // NATS
    requests = [checked(ledger, f"{index}@uni.example") for index in range(16)]
    answers = at_once(16, lambda index: approve(ledger, requests[index], charge, rounds=1))
    assert sum(answer is None for answer in answers) == fitting
    assert nano_left(ledger) < NATS
    ledger.verify()


def test_threads_that_use_up_an_approval_get_its_rounds_and_no_more(ledger: Ledger) -> None:
    request = approved(ledger, rounds=4)

    def whole(index: int) -> None:
        run = running(ledger, request, index % 4 + 1, weights=f"w{index}")
        ledger.runs.settle(run.id, b"x", "d", "{}")

    at_once(12, whole)
    at_once(12, whole)
    assert ledger.budgets.balance("city").spent_nano == 4 * GAUSSIAN.divergence_nano
    assert ledger.requests.get(request).status is RequestStatus.COMPLETED
    ledger.verify()


def test_a_revocation_meets_runs_and_nothing_is_released_after_it(ledger: Ledger) -> None:
    request = approved(ledger, rounds=12)

    def step(index: int) -> object:
        if index == 0:
            return ledger.transition(request, RequestStatus.REVOKED, actor="owner")
        return ledger.runs.settle(running(ledger, request, index).id, b"x", "d", "{}")

    at_once(12, step)
    entries = ledger.entries.list(request=request)
    revoked = next(entry.seq for entry in entries if entry.kind == "return")
    assert all(entry.seq < revoked for entry in entries if entry.kind == "settle")
    balance = ledger.budgets.balance("city")
    ended = [run for run in ledger.runs.list(request) if run.status in (RunStatus.RELEASED, RunStatus.FAILED)]
    assert (balance.spent_nano, balance.reserved_nano) == (len(ended) * GAUSSIAN.divergence_nano, 0)
    ledger.verify()


def test_entries_and_audit_rows_of_many_threads_make_one_chain(ledger: Ledger) -> None:
    log = AuditLog(ledger.store)
    at_once(12, lambda index: [log.record("owner", "look", f"{index}-{turn}") for turn in range(5)])
    assert log.verify().seq == 60


def test_processes_that_approve_never_overspend(ledger: Ledger, place: Place) -> None:
    charge = Charge(NATS, None)
    fitting = nano_left(ledger) // NATS
    requests = [checked(ledger, f"{index}@uni.example") for index in range(8)]
    ledger.close()
    codes = in_processes(8, lambda index: approve(Ledger.open(place, clock=Clock()), requests[index], charge, rounds=1))
    assert sorted(codes) == [0] * fitting + [3] * (8 - fitting)
    assert nano_left(ledger) < NATS
    ledger.verify()


def test_processes_that_ask_for_one_round_get_one_run(ledger: Ledger, place: Place) -> None:
    request = approved(ledger)
    ledger.close()
    codes = in_processes(6, lambda _: Ledger.open(place, clock=Clock()).runs.admit(request, 1, "w", GAUSSIAN))
    assert codes == [0] * 6
    assert len(ledger.runs.list(request)) == 1


def test_a_forked_child_uses_connections_of_its_own(ledger: Ledger) -> None:
    requests = [checked(ledger) for _ in range(4)]  # the parent's connection is open while it forks
    codes = in_processes(4, lambda index: approve(ledger, requests[index]))
    assert codes == [0] * 4
    assert ledger.budgets.balance("city").reserved_nano == 12 * GAUSSIAN.divergence_nano
    ledger.verify()


def test_reading_goes_on_while_somebody_writes(ledger: Ledger) -> None:
    with ThreadPoolExecutor(1) as pool, ledger.store.writing():
        began = time.monotonic()
        assert pool.submit(ledger.budgets.balance, "city").result(timeout=5).spent_nano == 0
        assert time.monotonic() - began < 5


def test_connections_of_finished_threads_are_let_go(ledger: Ledger) -> None:
    for _ in range(5):
        at_once(8, lambda _: ledger.budgets.balance("city"))
    gc.collect()
    assert ledger.store.open_connections < 10
