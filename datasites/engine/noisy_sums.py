"""Sums over patients of bounded rows, in exact integers and with Gaussian noise.

Every sum is Σ v or Σ u uᵀ, v and u one row of each patient, of a public norm at most. A row is brought to that norm
where it is longer, divided by it, and rounded to a public grid g, so its sum is one of whole numbers: exact, the same
in any order, and moved by one patient by that patient's own part alone. After rounding, a row of p numbers is at most
N = 1/g + √p/2 units long, so one patient more or less moves

    Σ v        by N in L2,
    Σ u uᵀ     by N² in Frobenius norm, in which a number off the diagonal counts twice: with noise of deviation s on
               the diagonal and s/√2 off it, the same on both sides, it is a Gaussian mechanism of sensitivity N².

Noise is in the same whole units; why it may be rounded is said in `datasites.engine.noise`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from datasites.engine.noise import NoiseSource
from policies.schema.columns import FloatArray

VECTOR_GRID = 2.0**-20
SQUARE_GRID = 2.0**-13  # products lie on 2^-26: 2^27 of them sum exactly in a float64
_SHRINK = 1 - 2.0**-40  # of a row's length: more than what rounding may add to it


@dataclass(frozen=True)
class Bounded:
    """What is public of a sum.

    Args:
      size: numbers of a row.
      norm: the largest L2 norm of a row.
      multiplier: noise standard deviation over L2 sensitivity.
      squares: whether it is of squares u uᵀ.
    """

    size: int
    norm: float
    multiplier: float
    squares: bool = False

    @property
    def grid(self) -> float:
        """To what a row is rounded, as a share of `norm`."""
        return SQUARE_GRID if self.squares else VECTOR_GRID

    @property
    def unit(self) -> float:
        """What one whole number of the sum stands for."""
        return (self.norm * self.grid) ** 2 if self.squares else self.norm * self.grid

    @property
    def sensitivity(self) -> float:
        """What one patient moves the sum by at most, in units: in L2, or in Frobenius norm."""
        longest = 1 / self.grid + math.sqrt(self.size) / 2
        return longest**2 if self.squares else longest

    @property
    def deviation(self) -> float:
        """Of the noise in each number, in units; of squares on the diagonal, and 1/√2 of it elsewhere."""
        return math.nextafter(self.multiplier * self.sensitivity, math.inf)  # never less than accounted

    @property
    def error(self) -> float:
        """The same in the sum's own measure."""
        return self.deviation * self.unit


def noisy_sum(bounded: Bounded, parts: Iterable[FloatArray], source: NoiseSource) -> FloatArray:
    """The sum of rows, or of their squares, with its noise: [size], or [size, size].

    Args:
      parts: private rows [n, size], some at a time; none at all where there is nobody.
      source: of this sum's noise alone.
    """
    total = np.zeros((bounded.size, bounded.size) if bounded.squares else bounded.size)
    for rows in parts:
        units = whole_units(rows, bounded)
        total += units.T @ units if bounded.squares else units.sum(axis=0)
    return np.asarray((total + _noise(bounded, source)) * bounded.unit)


def whole_units(rows: FloatArray, bounded: Bounded) -> FloatArray:
    """Rows in units of the grid, whole numbers, none longer than 1/grid + √size/2; what is not finite counts as 0."""
    rows = np.nan_to_num(rows / bounded.norm, nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows *= (_SHRINK / np.maximum(lengths, _SHRINK) / bounded.grid)[:, None]
    return np.rint(rows, out=rows)


def _noise(bounded: Bounded, source: NoiseSource) -> FloatArray:
    if not bounded.squares:
        return source.gaussian_on_grid(bounded.size, bounded.deviation, 1.0)
    noise = np.zeros((bounded.size, bounded.size))
    above = np.triu_indices(bounded.size, k=1)
    noise[above] = source.child("off the diagonal").gaussian_on_grid(
        len(above[0]), bounded.deviation / math.sqrt(2), 1.0
    )
    return noise + noise.T + np.diag(source.child("diagonal").gaussian_on_grid(bounded.size, bounded.deviation, 1.0))
