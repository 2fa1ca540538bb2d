"""Rounds that are ended stay ended, whatever their jobs answer and whatever is resumed afterwards."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasites.jobs.isolation import PROTECTIONS
from datasites.jobs.pool import Answer
from datasites.jobs.rows import Layout
from datasites.review.rounds import Rounds, Stopped
from datasites.vault.private_rows import PublishedRows
from policies.errors import Unavailable, WrongStatus
from policies.release.tensors import digest, to_bytes
from policies.source.statuses import RunStatus
from tests.browser.desk import Desk
from tests.factories import RESEARCHER
from tests.policies.plan_factories import plan_of, training

SECONDS = 30.0
HELD = dict.fromkeys(PROTECTIONS, True)


class Waiting:
    """A runner whose jobs are done at once; their rounds wait for a public time, which comes when a test says so."""

    def __init__(self) -> None:
        self.finished, self.public_time = threading.Semaphore(0), threading.Event()
        self.jobs: list[dict[str, Any]] = []

    def run(
        self, kind: str, job: dict[str, Any], *_: object, before_rows: Any, stop: Callable[[], bool], **__: object
    ) -> Answer:
        before_rows(HELD)
        self.jobs.append(job)
        return Answer({"event": "done"}, to_bytes({"count": np.zeros(1, np.float64)}), HELD)

    @contextlib.contextmanager
    def shown(self, _: float) -> Iterator[None]:
        yield
        self.finished.release()
        assert self.public_time.wait(SECONDS)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


@pytest.fixture
def waiting(desk: Desk) -> Waiting:
    waiting, rounds = Waiting(), desk.datasite.rounds
    rounds.pool = waiting  # type: ignore[assignment]
    rounds._public_seconds = lambda *_: 0.01  # type: ignore[method-assign]
    rounds._shown_at_multiples_of = waiting.shown  # type: ignore[method-assign, assignment]
    rounds.tables = PublishedRows(lambda version: np.zeros((1, 7)), lambda version: True)
    return waiting


def begun(desk: Desk, waiting: Waiting, request: str, *, researcher: str = RESEARCHER) -> threading.Thread:
    """The thread of a round whose job is done and which waits for its public time."""
    desk.ask(request, researcher=researcher)
    desk.act("approve", {"request": request})
    return begun_again(desk, waiting, request)


def begun_again(desk: Desk, waiting: Waiting, request: str) -> threading.Thread:
    rounds = desk.datasite.rounds
    assert rounds.ask(desk.datasite.ledger.requests.get(request), 1, {})["status"] == "running"
    (run,) = desk.datasite.ledger.runs.list(request)
    thread = rounds._threads[run.id]
    assert waiting.finished.acquire(timeout=SECONDS)
    return thread


def end_of(desk: Desk, waiting: Waiting, request: str, thread: threading.Thread) -> RunStatus:
    waiting.public_time.set()
    thread.join(SECONDS)
    (run,) = desk.datasite.ledger.runs.list(request)
    return run.status


def test_a_stopped_round_stays_ended_when_work_goes_on(desk: Desk, waiting: Waiting) -> None:
    thread = begun(desk, waiting, "round-one")
    began = time.monotonic()
    assert desk.act("stop", {}) == {"ended": 1, "by_themselves": 0}
    assert time.monotonic() - began < 3.0
    desk.act("resume", {})
    assert end_of(desk, waiting, "round-one", thread) is RunStatus.FAILED  # failed: its charge stays
    assert desk.datasite.ledger.runs.release("round-one", 1) is None


def test_a_job_is_told_its_round_which_a_schedule_of_the_learning_rate_looks_at(desk: Desk, waiting: Waiting) -> None:
    thread = begun(desk, waiting, "round-one")
    assert end_of(desk, waiting, "round-one", thread) is RunStatus.RELEASED
    assert [job["round"] for job in waiting.jobs] == [1]


def test_a_stop_counts_apart_what_had_ended_by_itself(desk: Desk, waiting: Waiting) -> None:
    rounds, settling, goes_on = desk.datasite.rounds, threading.Event(), threading.Event()
    settle = rounds.settle

    def held(*arguments: Any) -> Any:
        settling.set()
        assert goes_on.wait(SECONDS)
        return settle(*arguments)

    rounds.settle = held  # type: ignore[method-assign]
    thread = begun(desk, waiting, "round-one")
    waiting.public_time.set()
    assert settling.wait(SECONDS)
    assert rounds.stop() == Stopped(ended=0, by_themselves=1)
    (run,) = desk.datasite.ledger.runs.list("round-one")
    with pytest.raises(WrongStatus, match="ended by itself"):
        rounds.stop_one(run.id)
    goes_on.set()
    assert end_of(desk, waiting, "round-one", thread) is RunStatus.RELEASED


def test_a_round_that_was_asked_for_before_a_stop_begins_no_more(desk: Desk, waiting: Waiting) -> None:
    """Asked, stopped and resumed between the admission and the start of its thread."""
    desk.ask("round-one")
    desk.act("approve", {"request": "round-one"})
    rounds, admit = desk.datasite.rounds, desk.datasite.ledger.runs.admit

    def then_stopped(*arguments: Any) -> Any:
        run = admit(*arguments)
        rounds.stop()
        rounds.resume()
        return run

    desk.datasite.ledger.runs.admit = then_stopped  # type: ignore[method-assign]
    waiting.public_time.set()
    rounds.ask(desk.datasite.ledger.requests.get("round-one"), 1, {})
    deadline = time.monotonic() + SECONDS
    while rounds._threads and time.monotonic() < deadline:
        time.sleep(0.01)
    (run,) = desk.datasite.ledger.runs.list("round-one")
    assert run.status is RunStatus.VOID  # nothing was read, and nothing is charged


def test_a_stop_does_not_show_a_round_before_its_public_time(desk: Desk) -> None:
    """Else one whose job was at work shows at once, and one whose job was done waits: a clock of private rows."""
    rounds: Rounds = desk.datasite.rounds
    rounds.stopped.set()
    began = time.monotonic()
    with rounds._shown_at_multiples_of(0.1):
        pass
    assert time.monotonic() - began >= rounds._grid(0.1) > 0


class Rehearsing:
    """A runner that says what a rehearsal took, a tenth of a second after it was asked."""

    def __init__(self, **told: Any) -> None:
        self.told, self.asked = told, 0

    def run(
        self,
        kind: str,
        job: dict[str, Any],
        payload: bytes,
        *,
        seconds: float,
        layout: Layout,
        stop: Callable[[], bool],
    ) -> Answer:
        assert (kind, job["job"]) == ("runner", "rehearse")
        assert layout == Layout(2 + len(job["schema"]["columns"]))  # as long as a round's rows, by public facts
        assert {"training_patients", "patients"} <= set(job)
        self.asked += 1
        time.sleep(0.1)
        return Answer({"event": "done", **self.told}, b"", HELD)


@pytest.mark.parametrize(("lanes", "seconds"), [(True, 3.0), (False, 30.0)])
def test_a_public_time_is_of_the_whole_job_and_of_the_slowest_values_unless_in_lanes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, lanes: bool, seconds: float
) -> None:
    monkeypatch.setattr("datasites.review.rounds.slowest", lambda graph: 10.0)
    pool = Rehearsing(seconds=3.0, spent=0.04, lanes=lanes)
    rounds, published = desk.datasite.rounds, desk.datasite.planner.published(name="flu")
    rounds.pool = pool  # type: ignore[assignment]
    plan = plan_of(training())
    found = rounds._public_seconds(plan, published, b"")
    assert seconds + 0.06 <= found < seconds + 5  # the rest of the tenth: starting and confining a job
    assert rounds._public_seconds(plan, published, b"") == found
    assert pool.asked == 1  # once for each plan


def released_by_a_look(desk: Desk, waiting: Waiting, request: str) -> dict[str, Any]:
    waiting.public_time.set()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        answer = desk.datasite.rounds.look(desk.datasite.ledger.requests.get(request), 1, digest({}))
        if answer["status"] != "running":
            return answer
    raise AssertionError("never released")


@pytest.mark.parametrize("job_is_done", [True, False])
def test_a_round_shows_when_it_was_said_to_and_not_before(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, job_is_done: bool
) -> None:
    """Two calls: what they say, and when, is the same whether the job is over in no time or just in time."""
    rounds, waiting = desk.datasite.rounds, Waiting()
    seconds, answer = 0.4, waiting.run

    def run(*arguments: object, **options: Any) -> Answer:
        time.sleep(0 if job_is_done else 0.75 * seconds)
        return answer(*arguments, **options)

    waiting.run = run  # type: ignore[method-assign]
    rounds.pool = waiting  # type: ignore[assignment]
    rounds._public_seconds = lambda *_: 0.01  # type: ignore[method-assign]
    rounds.tables = PublishedRows(lambda version: np.zeros((1, 7)), lambda version: True)
    monkeypatch.setattr(rounds, "_grid", lambda _: seconds)
    desk.ask("round-one")
    desk.act("approve", {"request": "round-one"})
    record = desk.datasite.ledger.requests.get("round-one")
    first = rounds.ask(record, 1, {})
    assert first["status"] == "running"
    assert 0.5 * seconds < first["shows_in"] <= seconds
    time.sleep(first["shows_in"] / 2)
    assert rounds.look(record, 1, digest({}))["status"] == "running"
    time.sleep(first["shows_in"] / 2)
    assert rounds.look(record, 1, digest({}))["status"] == "released"


def test_a_look_begins_nothing_and_fetches_what_an_ask_began(desk: Desk, waiting: Waiting) -> None:
    desk.ask("round-one")
    desk.act("approve", {"request": "round-one"})
    rounds, record = desk.datasite.rounds, desk.datasite.ledger.requests.get("round-one")
    assert rounds.look(record, 1, digest({}))["status"] == "void"
    assert desk.datasite.ledger.runs.list("round-one") == ()
    thread = begun_again(desk, waiting, "round-one")
    with pytest.raises(WrongStatus, match="other weights"):
        rounds.look(record, 1, "0" * 64)
    assert rounds.look(record, 1, digest({}))["status"] == "running"
    assert list(released_by_a_look(desk, waiting, "round-one")["release"]) == ["count"]
    thread.join(SECONDS)


def test_a_look_tells_how_a_round_ended_and_only_another_ask_begins_it_anew(desk: Desk, waiting: Waiting) -> None:
    thread = begun(desk, waiting, "round-one")
    (run,) = desk.datasite.ledger.runs.list("round-one")
    desk.datasite.rounds.stop_one(run.id)
    assert end_of(desk, waiting, "round-one", thread) is RunStatus.FAILED
    record = desk.datasite.ledger.requests.get("round-one")
    for _ in range(2):
        assert desk.datasite.rounds.look(record, 1, digest({}))["status"] == "failed"
    assert len(desk.datasite.ledger.runs.list("round-one")) == 1


def test_nothing_is_looked_up_while_all_work_is_stopped(desk: Desk, waiting: Waiting) -> None:
    begun(desk, waiting, "round-one")
    desk.act("stop", {})
    with pytest.raises(WrongStatus, match="stopped all work"):
        desk.datasite.rounds.look(desk.datasite.ledger.requests.get("round-one"), 1, digest({}))
    waiting.public_time.set()


def test_a_rehearsal_ends_when_its_round_is_stopped(desk: Desk) -> None:
    """It took up to ten minutes, for which a round that had been stopped stood there as reserved."""
    began = threading.Event()

    class Hanging:
        def run(self, *_: object, stop: Callable[[], bool], **__: object) -> Answer:
            began.set()
            deadline = time.monotonic() + SECONDS
            while not stop() and time.monotonic() < deadline:
                time.sleep(0.01)
            raise Unavailable("The job was stopped by the owner.")

    rounds = desk.datasite.rounds
    rounds.pool = Hanging()  # type: ignore[assignment]
    desk.ask("round-one")
    desk.act("approve", {"request": "round-one"})
    rounds.ask(desk.datasite.ledger.requests.get("round-one"), 1, {})
    assert began.wait(SECONDS)
    (thread,) = rounds._threads.values()
    rounds.stop()
    thread.join(SECONDS / 2)
    (run,) = desk.datasite.ledger.runs.list("round-one")
    assert run.status is RunStatus.VOID  # nothing was read, and nothing is charged
