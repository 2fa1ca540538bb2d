"""Threads that help with what is added up. A job's begin before it is confined to the end, and none can begin later.

They do nothing by themselves: whoever asks one hands it a function that leaves the interpreter for most of its time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np

MOST_HELPERS = 15
_STACK = 1 << 20  # bytes of a thread, which count among what a job may take

_Asked = tuple[Callable[..., Any], tuple[Any, ...]]

_helpers: list[Helper] = []
_watching_forks = False


class Helper:
    """One thread, which does one thing after another."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[_Asked] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def ask(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Begin with it as soon as what was asked before is done."""
        self._asked.put((function, arguments))

    def answer(self) -> Any:
        """What the first function without an answer returned, when it has; raises what it raised."""
        result, error = self._answers.get()
        if error is not None:
            raise error
        return result

    def _work(self) -> None:
        while True:
            function, arguments = self._asked.get()
            try:
                self._answers.put((function(*arguments), None))
            except BaseException as error:
                self._answers.put((None, error))
            del function, arguments  # nothing of a job is kept for longer


def begin(count: int) -> list[Helper]:
    """Begin `count` helpers, at most `MOST_HELPERS`, in a process that has none. Where the host gives fewer, fewer."""
    global _watching_forks
    if not _watching_forks:
        _watching_forks = True
        os.register_at_fork(after_in_child=lambda: _helpers.clear())  # a forked process has no thread but its first
    before = threading.stack_size(_STACK)
    try:
        while len(_helpers) < min(count, MOST_HELPERS):
            _helpers.append(Helper())
    except RuntimeError:
        pass
    finally:
        threading.stack_size(before)
    return list(_helpers)


def end() -> None:
    """Ask the helpers for nothing any more; who has been given one keeps it."""
    _helpers.clear()


def helpers() -> list[Helper]:
    """This process's, which round as the asking thread does: else a record's bits could depend on who computes it."""
    alike = []
    for helper in _helpers:
        helper.ask(_denormals_are_zero)
        if helper.answer() == _denormals_are_zero():
            alike.append(helper)
    return alike


def side_by_side(helping: Sequence[Helper], works: Sequence[Callable[[], object]]) -> None:
    """Do the first here and each other by a helper, at the same time; all are done before what any raised is raised."""
    asked = list(zip(helping, works[1:], strict=False))
    for helper, work in asked:
        helper.ask(work)
    errors: list[BaseException] = []
    for finish in (works[0], *(helper.answer for helper, _ in asked)):
        try:
            finish()
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _denormals_are_zero() -> tuple[bool, bool]:
    """Whether this thread takes results near zero for zero, and numbers near zero; each has a setting of its own."""
    smallest = np.full(1, 2.0**-126, np.float32)
    near_zero = np.full(1, 2.0**-130, np.float32)
    return bool((smallest * np.float32(0.5))[0] == 0), bool((near_zero * np.float32(2.0**20))[0] == 0)
