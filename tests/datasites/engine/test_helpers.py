"""Threads that help: what they do, in which order, how many there are."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from datasites.engine import helpers as helping
from datasites.engine.helpers import begin, helpers, side_by_side


@pytest.fixture(autouse=True)
def none_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(helping, "_helpers", [])
    flushed = torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(not flushed)


def test_helpers_answer_in_order_and_raise_what_was_raised() -> None:
    (helper,) = begin(1)
    for number in range(3):
        helper.ask(lambda number=number: (number, threading.get_ident()))
    answers = [helper.answer() for _ in range(3)]
    assert [number for number, _ in answers] == [0, 1, 2]
    assert {thread for _, thread in answers}.isdisjoint({threading.get_ident()})
    helper.ask(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        helper.answer()


def test_all_are_done_before_an_error_is_raised() -> None:
    done: list[int] = []
    asked = begin(2)
    with pytest.raises(ZeroDivisionError):
        side_by_side(asked, [lambda: done.append(0), lambda: 1 // 0, lambda: done.append(2)])  # type: ignore[arg-type,return-value]
    with pytest.raises(ZeroDivisionError):
        side_by_side(asked, [lambda: 1 // 0, partial(done.append, 3), partial(done.append, 4)])
    assert sorted(done) == [0, 2, 3, 4]
    side_by_side(asked, [partial(done.append, 5)])
    assert done[-1] == 5


def test_there_are_no_more_than_were_asked_for_and_no_more_than_there_may_be() -> None:
    assert len(begin(2)) == 2
    assert len(begin(1)) == 2
    assert len(begin(100)) == helping.MOST_HELPERS


def test_where_no_thread_can_begin_there_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert begin(3) == []


@pytest.mark.process
def test_a_forked_process_has_none() -> None:
    begin(1)
    child = os.fork()
    if child == 0:
        os._exit(len(helpers()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_helper_that_rounds_otherwise_is_left_out() -> None:
    begin(1)
    assert len(helpers()) == 1
    if not torch.set_flush_denormal(True):
        pytest.skip("This processor flushes no denormals.")
    assert helpers() == []
    helping._helpers.clear()
    begin(1)  # a thread begins with its maker's settings
    assert len(helpers()) == 1
