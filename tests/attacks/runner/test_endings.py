"""Ending a round tells nothing of when its job was done: both ways of a race with the job end alike.

How long a job takes depends on private rows, and so rounds show at a multiple of a public time. Whoever could end one
meanwhile, and saw whether that came too late, would have a clock as fine as they like: a released round was over by
then, and a failed one was not.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasites.actions.for_researchers import ForResearchers
from datasites.jobs.isolation import PROTECTIONS
from datasites.jobs.pool import Answer
from datasites.vault.private_rows import PublishedRows
from policies.errors import Unavailable
from policies.release.tensors import to_bytes
from policies.source.statuses import RunStatus
from tests.browser.desk import Desk
from tests.factories import RESEARCHER

HELD = dict.fromkeys(PROTECTIONS, True)
SECONDS = 30.0
COUNT = (1,)  # the shape of a count
Act = Callable[[Desk, str, str], object]


class Racing:
    """A runner whose job is done when somebody acts, and waits for its public time, or is still at work.

    Args:
      done: whether the job is done by then.
    """

    def __init__(self, *, done: bool) -> None:
        self.done = done
        self.began, self.acted = threading.Event(), threading.Event()

    def run(self, *_: object, before_rows: Any, stop: Callable[[], bool], **__: object) -> Answer:
        before_rows(HELD)
        if not self.done:
            self.began.set()
            assert self.acted.wait(SECONDS)
            if stop():
                raise Unavailable("The job was stopped by the owner.")
        return Answer({"event": "done"}, to_bytes({"count": np.zeros(COUNT, np.float64)}), HELD)

    @contextlib.contextmanager
    def shown(self, _: float) -> Iterator[None]:
        """In place of the wait for a public time."""
        yield
        self.began.set()
        assert self.acted.wait(SECONDS)


def ended(desk: Desk, request: str, act: Act, *, done: bool) -> RunStatus:
    """How a round ends that somebody acts on, its job being done or not."""
    racing, runs, ledger = Racing(done=done), desk.datasite.rounds, desk.datasite.ledger
    runs.pool = racing  # type: ignore[assignment]
    runs._public_seconds = lambda *_: 0.01  # type: ignore[method-assign]
    runs._shown_at_multiples_of = racing.shown  # type: ignore[method-assign, assignment]
    desk.ask(request)
    desk.act("approve", {"request": request})
    record = ledger.requests.get(request)
    runs.tables = PublishedRows(lambda version: np.zeros((1, 7)), lambda version: True)
    assert runs.ask(record, 1, {})["status"] == "running"
    assert racing.began.wait(SECONDS)
    (run,) = ledger.runs.list(request)
    thread = runs._threads[run.id]
    act(desk, request, run.id)
    racing.acted.set()
    thread.join(SECONDS)
    return ledger.runs.get(run.id).status


def withdraw(desk: Desk, request: str, _: str) -> object:
    return ForResearchers(desk.datasite).withdraw(RESEARCHER, request)


def revoke(desk: Desk, request: str, _: str) -> object:
    return desk.act("revoke", {"request": request, "reason": "No more."})


def stop_one(desk: Desk, _: str, run: str) -> object:
    return desk.datasite.rounds.stop_one(run)


def stop_all(desk: Desk, _: str, __: str) -> object:
    return desk.datasite.rounds.stopped.set()


@pytest.mark.parametrize(
    ("act", "end"),
    [
        (withdraw, RunStatus.RELEASED),
        (revoke, RunStatus.FAILED),
        (stop_one, RunStatus.FAILED),
        (stop_all, RunStatus.FAILED),
    ],
)
def test_a_round_that_somebody_ends_does_not_say_whether_its_job_was_done(
    tmp_path: Path, act: Act, end: RunStatus
) -> None:
    desk = Desk(tmp_path / "datasite")
    try:
        found = []
        for done in (True, False):
            found.append(ended(desk, f"{act.__name__}-{done}", act, done=done))
            desk.datasite.rounds.stopped.clear()
    finally:
        desk.close()
    assert found == [end, end]


class Busy:
    """A runner whose jobs take as long as a test wants; `working` has the request of each that is at work."""

    def __init__(self) -> None:
        self.working: list[str] = []
        self.went = threading.Condition()
        self.over = threading.Event()

    def run(self, *_: object, before_rows: Any, **__: object) -> Answer:
        before_rows(HELD)
        with self.went:
            self.working.append(threading.current_thread().name)
            self.went.notify_all()
        assert self.over.wait(SECONDS)
        return Answer({"event": "done"}, to_bytes({"count": np.zeros(COUNT, np.float64)}), HELD)


def test_rounds_of_one_researcher_hold_nobody_elses_up(tmp_path: Path) -> None:
    """Three approved requests whose rounds take their time, and then another researcher's."""
    desk, busy = Desk(tmp_path / "datasite"), Busy()
    runs, ledger = desk.datasite.rounds, desk.datasite.ledger
    runs.pool = busy  # type: ignore[assignment]
    runs._public_seconds = lambda *_: 0.01  # type: ignore[method-assign]
    runs.tables = PublishedRows(lambda version: np.zeros((1, 7)), lambda version: True)
    try:
        names = ["first", "second", "third", "other"]
        for name in names:
            desk.ask(name, researcher="other@university.example" if name == "other" else RESEARCHER)
            desk.act("approve", {"request": name})
            runs.ask(ledger.requests.get(name), 1, {})
        with busy.went:
            assert busy.went.wait_for(lambda: len(busy.working) == 2, SECONDS)
        status = {name: ledger.runs.list(name)[0].status for name in names}
        assert status["other"] is RunStatus.RUNNING
        assert [status[name] for name in names[:3]].count(RunStatus.RUNNING) == 1
        threads = list(runs._threads.values())
        busy.over.set()
        for thread in threads:
            thread.join(SECONDS)
        assert {ledger.runs.list(name)[0].status for name in names} == {RunStatus.RELEASED}
    finally:
        desk.close()
