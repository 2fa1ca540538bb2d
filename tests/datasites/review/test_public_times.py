"""What is told of when a round shows: the next multiple of its public time, whether its job is done or not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from datasites.review import public_times
from datasites.review.public_times import PublicTimes

RUN = "a run"
SECONDS = 10.0


class Clock:
    """A steady clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(public_times, "time", made)
    return made


def test_the_next_multiple_is_told(clock: Clock) -> None:
    times = PublicTimes()
    times.begin(RUN, 2.0)
    for elapsed, left in ((0.5, 1.5), (1.5, 0.5), (2.5, 1.5), (5.9, 0.1)):
        clock.now = 100.0 + elapsed
        assert times.shows_in(RUN) == pytest.approx(left)


def test_a_round_that_is_about_to_begin_is_waited_for() -> None:
    times = PublicTimes()
    times.rehearse(RUN)
    threading.Timer(0.3, times.begin, (RUN, 5.0)).start()
    told = times.shows_in(RUN)
    assert told is not None
    assert 4.0 < told <= 5.0


def test_one_that_waits_for_others_has_no_time_yet_nor_one_without_public_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the first is not waited for as one is that is being rehearsed."""
    times, began = PublicTimes(), time.monotonic()
    assert times.shows_in(RUN) is None
    assert time.monotonic() - began < public_times.REHEARSED_WITHIN / 2
    monkeypatch.setattr(public_times, "REHEARSED_WITHIN", 0.01)
    times.rehearse(RUN)
    assert times.shows_in(RUN) is None  # its rehearsal takes longer
    times.begin(RUN, 0.0)
    assert times.shows_in(RUN) is None
    assert times.progress(RUN) is None


def waited(times: PublicTimes, then: Callable[[], None]) -> bool:
    """Whether a look was still waiting when `then` was done."""
    look = threading.Thread(target=times.wait_where_due, args=(RUN,))
    look.start()
    time.sleep(0.05)
    then()
    waiting = look.is_alive()
    times.end(RUN)
    look.join(SECONDS)
    assert not look.is_alive()
    return waiting


def test_a_look_at_its_time_waits_until_the_release_is_written(clock: Clock) -> None:
    times = PublicTimes()
    times.begin(RUN, 2.0)
    clock.now = 102.001
    assert waited(times, lambda: times.come(RUN))


@pytest.mark.parametrize("elapsed", [0.0, 0.5, 1.99, 2.5, 3.9])
def test_a_look_at_another_time_waits_for_nothing(clock: Clock, elapsed: float) -> None:
    times = PublicTimes()
    times.begin(RUN, 2.0)
    clock.now = 100.0 + elapsed
    assert not waited(times, lambda: None)


def test_a_round_whose_job_is_not_done_at_its_time_keeps_a_look_no_longer_than_clocks_are_late(clock: Clock) -> None:
    times = PublicTimes()
    times.begin(RUN, 2.0)
    clock.now = 102.001
    began = time.monotonic()
    times.wait_where_due(RUN)
    assert public_times.LATE <= time.monotonic() - began < public_times.WRITTEN_WITHIN
    assert times.shows_in(RUN) == pytest.approx(1.999)
