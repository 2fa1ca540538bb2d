"""Trees are made while other threads make theirs, and a text that is no Python is told as ever."""

from __future__ import annotations

import ast
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator

import pytest

from policies.python_trees import parsed

TEXT = "\n".join(f"def f{number}(x):\n    return [(x + {number}) * (x - 1) for x in range(9)]" for number in range(60))


class Garbage:
    """What only the collector finds; its end runs Python, so that threads change places within a library's C."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        sum(range(10))


@pytest.fixture(autouse=True)
def _threads_change_places_at_any_time() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def failures(*ways: Callable[[str], ast.Module], seconds: float = 4.0, first: bool = False) -> list[int]:
    """How often each way failed while all of them made trees, each in a thread; with `first`, until one has."""
    failed, until = [0] * len(ways), time.monotonic() + seconds

    def work(which: int) -> None:
        while time.monotonic() < until and not (first and any(failed)):
            Garbage()
            try:
                ways[which](TEXT)
            except SystemError:
                failed[which] += 1

    threads = [threading.Thread(target=work, args=(which,)) for which in range(len(ways))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def test_threads_do_not_break_each_others_trees() -> None:
    """Fifty hospitals that were asked at once: one of them answered with no word."""
    assert failures(*[parsed] * 8) == [0] * 8


def test_nor_does_a_library_that_takes_no_turns() -> None:
    assert failures(*[ast.parse] * 4, *[parsed] * 4)[4:] == [0] * 4


def test_without_turns_they_do() -> None:
    """What this holds against is there; where it no longer is, `parsed` may go."""
    assert any(failures(*[ast.parse] * 8, seconds=60, first=True))


def test_what_is_no_python_is_told_and_nothing_is_printed() -> None:
    with pytest.raises(SyntaxError):
        parsed("def")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert isinstance(parsed(r"'\d'").body[0], ast.Expr)
    assert heard == []
