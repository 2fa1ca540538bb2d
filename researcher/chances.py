"""Chances of tails, by scipy, which is imported when one is asked for."""

from __future__ import annotations

import math


def chi_square_tail(statistic: float, degrees: int) -> float:
    """How likely a χ² of so many degrees of freedom is to be above `statistic`."""
    from scipy import special  # type: ignore[import-untyped, unused-ignore]

    return float(special.chdtrc(degrees, max(statistic, 0.0)))


def normal_tails(score: float) -> float:
    """How likely a standard normal number is to be at least as far from 0 as `score`.

    >>> f"{normal_tails(1.959964):.3f}"
    '0.050'
    """
    return math.erfc(abs(score) / math.sqrt(2))
