"""How many bytes calls of datasites carry, counted where they are sent: bodies of requests and of answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Traffic:
    """Bytes of bodies, as they travel inside TLS."""

    sent: int = 0
    received: int = 0

    def __str__(self) -> str:
        return f"{in_bytes(self.sent)} sent, {in_bytes(self.received)} received"


_UNITS = (("kB", 10**3), ("MB", 10**6), ("GB", 10**9))
_counted: ContextVar[Traffic | None] = ContextVar("counted", default=None)


@contextmanager
def counting() -> Iterator[Traffic]:
    """Count the bytes of all calls that this thread makes inside."""
    traffic = Traffic()
    token = _counted.set(traffic)
    try:
        yield traffic
    finally:
        _counted.reset(token)


def count(*, sent: int, received: int) -> None:
    """A call was made: to whoever counts in this thread."""
    traffic = _counted.get()
    if traffic is not None:
        traffic.sent += sent
        traffic.received += received


def bytes_of(hospital: str, rounds: Sequence[Mapping[str, int]]) -> str:
    """What the rounds of a hospital carried together, as people read it; "" where nobody has counted."""
    numbers = [carried[hospital] for carried in rounds if hospital in carried]
    return in_bytes(sum(numbers)) if numbers else ""


def in_bytes(number: int) -> str:
    """A number of bytes as people read it, as "44 kB"."""
    if number < 1000:
        return f"{number} B"
    unit, size = next((unit, size) for unit, size in _UNITS if number < 999.5 * size or unit == _UNITS[-1][0])
    return f"{number / size:.3g} {unit}"
