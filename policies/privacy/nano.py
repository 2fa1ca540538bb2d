"""ε and divergence in whole nano-nats (1e-9), which add up exactly, rounded against ourselves.

What is used is rounded up and what is left is rounded down. Floats are read as people wrote them, so 0.3 is
300,000,000 and not one less.
"""

from __future__ import annotations

import math
from fractions import Fraction

NANO = 10**9


def exact(value: float) -> Fraction:
    """The number that a float's shortest text says."""
    return Fraction(repr(float(value)))


def nano_up(value: float) -> int:
    """`value` in 1e-9, rounded up."""
    return math.ceil(exact(value) * NANO)


def epsilon_up(value: float) -> float:
    """An ε as it is stated: rounded up to 1e-9, and never 0, as what was released cost something."""
    return max(1, nano_up(value)) / NANO


def nano_down(value: float) -> int:
    """`value` in 1e-9, rounded down."""
    return math.floor(exact(value) * NANO)
