"""This hospital's part of a noise that several hospitals make together, added to counts and sums.

A patient counts for `steps` of a grid, and to every number a part of discrete Laplace noise of the grid's rate is added
(`policies.privacy.shared_noise`), exactly, in whole numbers. `parts` of them make the whole noise: what one part alone
hides is less, and is what the ledger charges unless the owner accepted the roster (`policies.privacy.shared_sums`).

Nothing here may leave by itself. The sum does, under masks.
"""

from __future__ import annotations

import random
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from policies.errors import UnsupportedMechanism
from policies.privacy.shared_noise import laplace_part
from policies.privacy.shared_sums import grid_of

FloatArray = npt.NDArray[np.float64]
_WORDS_AT_ONCE = 64
_FINEST = 2**26  # of whose parts every sum is made (`engine.statistics`): squares lie on 2^-26, all others above


@runtime_checkable
class Words(Protocol):
    """A secure source of random words: what `datasites.engine.noise.NoiseSource` gives."""

    def child(self, label: str, /) -> Words:
        """A source of its own for one purpose."""
        ...

    def words(self, count: int, /) -> npt.NDArray[np.uint64]:
        """`count` words of 64 random bits."""
        ...


class Bits(random.Random):
    """Random bits of a secure source for code that asks for some at a time; whole numbers are drawn by rejection."""

    def __new__(cls, source: Words) -> Bits:
        return super().__new__(cls)

    def __init__(self, source: Words) -> None:
        self._source, self._bits, self._left = source, 0, 0

    def getrandbits(self, k: int, /) -> int:
        """`k` bits, none of them ever given twice."""
        if k > self._left:
            words = max(_WORDS_AT_ONCE, -(-k // 64))
            self._bits, self._left = int.from_bytes(self._source.words(words).tobytes(), "little"), 64 * words
        given = self._bits & ((1 << k) - 1)
        self._bits >>= k
        self._left -= k
        return given


def with_part(
    exact: npt.NDArray[Any], *, epsilon: float, parts: int, source: Words, sensitivity: float = 1
) -> FloatArray:
    """Numbers with this hospital's part of their noise, each a multiple of `sensitivity` / `grid_of(epsilon)[1]`.

    Args:
      exact: counts below 2^36, or multiples of 2^-26 below it.
      epsilon: of the whole noise, in [0.001, 100].
      parts: t - k, of which the whole is made.
      source: of this draw alone.
      sensitivity: 1 or 1/2, by which one patient moves one of the numbers at the most; others have no part here.

    Raises:
      UnsupportedMechanism: the sensitivity is another.
    """
    if sensitivity not in (1, 0.5):
        raise UnsupportedMechanism(f"sensitivity={sensitivity} has no part of a shared noise; 1 has, and 0.5.")
    halvings, steps = grid_of(epsilon)
    bits = Bits(source)
    drawn = np.array([laplace_part(halvings, parts, bits) for _ in range(exact.size)], dtype=np.int64)
    return np.asarray((on_steps(exact / sensitivity, steps) + drawn.reshape(exact.shape)) * sensitivity / steps)


def on_steps(exact: FloatArray, steps: int) -> npt.NDArray[np.int64]:
    """Whole numbers of 1 / `steps`, the nearest of each number, up from the middle.

    Numbers that are 1 apart are `steps` apart after it, and none that are closer lie further apart. `exact` are
    multiples of 2^-26 below 2^37, on which nothing here is rounded but once.
    """
    whole = np.asarray(exact * _FINEST, dtype=np.int64)
    ones, rest = whole // _FINEST, whole % _FINEST
    return np.asarray(ones * steps + (2 * rest * steps + _FINEST) // (2 * _FINEST))
