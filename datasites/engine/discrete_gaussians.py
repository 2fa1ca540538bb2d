"""Discrete Gaussians, exactly and many at a time: P[Z = z] ∝ e^(-z²/2v) over the whole numbers.

Canonne, Kamath and Steinke 2020, arXiv:2004.00010, algorithm 3: a discrete Laplace Y with P[Y = y] ∝ e^(-|y|/t) is
kept with the chance p = e^(-(|y| - v/t)²/2v). It is right for every t; here t is a power of two near √v, of which the
Laplace sampler takes exactly the rate, and some three of five are kept.

Whether one is kept is exact as well. A word of 64 random bits is the beginning of a uniform U, and U < p is asked. In
float64 p is off by less than 2^-39 of itself where it is not 0: the exponent is n²/(2vt²) with the whole number
n = |y| t - v, below 2^63 and rounded by 2^-53, so the quotient is off by less than 2^-50 of itself, which an exponent
up to 2^10 carries to 2^-40, and the exponential by 2^-52. Where that leaves it open, once in 2^38 draws, more bits of U
are drawn, and p is computed to as many digits, until they decide.
"""

from __future__ import annotations

import decimal
import math
from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt

from policies.errors import UnsupportedMechanism

IntArray = npt.NDArray[np.int64]
LEAST_VARIANCE, MOST_VARIANCE = 1, 2**45
DOUBT = 2.0**-39  # of p: see above
_DIGITS = 60  # at first; doubled until they decide


class Source(Protocol):
    """What of `datasites.engine.noise.NoiseSource` is drawn on."""

    def words(self, count: int, /) -> npt.NDArray[np.uint64]:
        """`count` words of 64 random bits."""
        ...

    def discrete_laplace(self, count: int, epsilon: float, /) -> IntArray:
        """`count` whole numbers, exactly with P[z] ∝ e^(-ε|z|) for an ε that is a power of two."""
        ...


def discrete_gaussians(count: int, variance: int, source: Source) -> IntArray:
    """`count` independent discrete Gaussians.

    Args:
      variance: v, a whole number in [1, 2^45].

    Raises:
      UnsupportedMechanism: v is outside.
    """
    if not LEAST_VARIANCE <= variance <= MOST_VARIANCE:
        raise UnsupportedMechanism(f"variance={variance} is outside [{LEAST_VARIANCE}, 2^45] steps of the grid.")
    width = 1 << round(math.log2(variance) / 2)
    kept = [np.empty(0, dtype=np.int64)]
    missing = count
    while missing > 0:
        drawn = source.discrete_laplace(missing + missing // 2 + 16, 1 / width)
        kept.append(drawn[_are_kept(drawn, variance, width, source)][:missing])
        missing -= len(kept[-1])
    return np.concatenate(kept)


def _are_kept(drawn: IntArray, variance: int, width: int, source: Source) -> npt.NDArray[np.bool_]:
    """Flags true with exactly the chance e^(-(|y| - v/t)²/2v) each."""
    uniform = source.words(len(drawn))
    n = (np.abs(drawn) * width - variance).astype(np.float64)
    chance = np.exp(-n * n / (2.0 * variance * width**2)) * 2.0**64
    begin = uniform.astype(np.float64)  # off by 2^-53 of itself, within the doubt
    flags = begin < chance * (1 - DOUBT) - 1
    for place in np.flatnonzero(~flags & (begin <= chance * (1 + DOUBT) + 1)).tolist():
        away = abs(int(drawn[place])) * width - variance
        flags[place] = _is_below(int(uniform[place]), Fraction(away**2, 2 * variance * width**2), source)
    return np.asarray(flags)


def _is_below(begin: int, power: Fraction, source: Source) -> bool:
    """Whether the uniform number whose first 64 bits are `begin` is below e^-power."""
    bits, digits = 64, _DIGITS
    while True:
        with decimal.localcontext(prec=digits, Emin=-(10**9), Emax=10**9):
            exponent = decimal.Decimal(power.numerator) / decimal.Decimal(power.denominator)
            chance = (-exponent).exp()
            # The quotient is rounded by 10^(1 - digits) of itself, and so is the exponential.
            off = chance * (exponent + 2) * decimal.Decimal(10) ** (1 - digits)
            least, most = Fraction(chance - off), Fraction(chance + off)
        if Fraction(begin + 1, 2**bits) <= least:
            return True
        if Fraction(begin, 2**bits) >= most:
            return False
        begin, bits, digits = (begin << 64) | int(source.words(1)[0]), bits + 64, 2 * digits
