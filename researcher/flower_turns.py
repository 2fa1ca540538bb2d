"""Flower's own state in a process that runs several studies beside each other: one computes at a time.

Flower's strategies draw from Python's and numpy's global generators, and read a task's identity and a log level that
are the whole process's. So a study has them for itself while its strategy computes. While it waits for hospitals, which
is nearly always, others have them.
"""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import numpy as np
from flwr.supercore.task_identity import TaskIdentity

_turn = threading.Lock()
_mine = threading.local()
_log = logging.getLogger("flwr")


@contextmanager
def flower_turn() -> Iterator[None]:
    """Flower quiet, as a task of its own runtime, in this thread alone; afterwards all is as it was."""
    with _turn:
        _mine.outside = _taken()
        try:
            yield
        finally:
            _give_back(_mine.outside)
            _mine.outside = None


@contextmanager
def others_turn() -> Iterator[None]:
    """What happens inside needs no Flower: other studies may have it meanwhile. Draws go on where they were."""
    outside = getattr(_mine, "outside", None)
    if outside is None:
        yield
        return
    draws, numbers = random.getstate(), np.random.get_state()
    _give_back(outside)
    _turn.release()
    try:
        yield
    finally:
        _turn.acquire()
        _mine.outside = _taken()
        random.setstate(draws)
        np.random.set_state(numbers)


def _taken() -> tuple[Any, ...]:
    """Put Flower's state in the place of the process's, which is given back."""
    identity = TaskIdentity._run_id, TaskIdentity._task_id, TaskIdentity._node_id
    outside = random.getstate(), np.random.get_state(), _log.level, identity
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 0
    _log.setLevel(logging.ERROR)  # it logs every round; our progress says what matters
    return outside


def _give_back(outside: tuple[Any, ...]) -> None:
    draws, numbers, level, identity = outside
    TaskIdentity._run_id, TaskIdentity._task_id, TaskIdentity._node_id = identity
    _log.setLevel(level)
    random.setstate(draws)
    np.random.set_state(numbers)
