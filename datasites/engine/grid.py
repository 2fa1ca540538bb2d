"""The public grid on which sums and noise are whole numbers."""

from __future__ import annotations

import math

from policies.errors import UnsupportedMechanism

SMALLEST_NORM = 1e-12


def grid_of(clipping_norm: float) -> float:
    """The public grid: the largest power of two that is at most `clipping_norm` · 2^-20.

    A power of two, so that dividing and multiplying by it is exact. `clipping_norm` is 2^20 to 2^21 units of it.
    Raises `UnsupportedMechanism` where `clipping_norm` is so small that float32 could not hold 1 / grid.
    """
    if not clipping_norm >= SMALLEST_NORM:
        raise UnsupportedMechanism(f"clipping_norm={clipping_norm} is below {SMALLEST_NORM}. Choose one near 1.")
    return 2.0 ** (math.frexp(clipping_norm)[1] - 1 - 20)
