"""Report the progress of a long action to whoever asked for it: the command's spinner, and nobody else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Tell = Callable[[str], object]

_telling: ContextVar[Tell | None] = ContextVar("telling", default=None)


def tell(text: str) -> None:
    """Say what is being done now. Raises what the listener raises, so that an action ends where nobody waits for it."""
    listener = _telling.get()
    if listener is not None:
        listener(text)


@contextlib.contextmanager
def told_to(listener: Tell) -> Iterator[None]:
    """Let `tell` inside reach `listener`."""
    token = _telling.set(listener)
    try:
        yield
    finally:
        _telling.reset(token)
