"""Estimates with standard errors: numbers, quantiles, histograms and crosstabs.

Plain values; `researcher.estimates` and `researcher.scores` make them from releases.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.schema.noise_scales import LAPLACE_95

FloatArray = npt.NDArray[np.float64]
NORMAL_95 = 1.959964
SHARE, COUNTED = (0.0, 1.0), (0.0, math.inf)


@dataclass(frozen=True)
class Estimate:
    """A number with its standard errors.

    Args:
      value: as released or combined; a count may be below 0, which keeps sums over hospitals unbiased.
      noise_error: standard error from the mechanism's noise.
      sampling_error: standard error from drawing these patients, 0 where the number describes the hospital itself.
      unit: for people to read.
      bounds: between which the number without noise lies whatever the records are: 0 and 1 for a share, a column's
        public bounds for a mean.
      records: how many records it is of, where that was released with it.
      origin: of a date, its day 0; the value counts days from there.
    """

    value: float
    noise_error: float
    sampling_error: float = 0.0
    unit: str = ""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    records: Estimate | None = None
    origin: str = ""

    @property
    def error(self) -> float:
        """Standard error from noise and sampling together."""
        return math.hypot(self.noise_error, self.sampling_error)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval: Laplace tails for the noise, normal ones for the sampling; never beyond what is possible."""
        reach = math.hypot(LAPLACE_95 * self.noise_error, NORMAL_95 * self.sampling_error)
        least, most = self.bounds
        low, high = (min(max(end, least), most) for end in (self.value - reach, self.value + reach))
        return low, high

    def __str__(self) -> str:
        low, high = self.interval
        if self.origin:
            shown, first, last = (dated(value, self.origin) for value in (self.value, low, high))
            return f"{shown} ± {self.error:.2g} days (95 % from {first} to {last})"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.value:.5g}{unit} ± {self.error:.2g} (95 % from {low:.5g} to {high:.5g})"


@dataclass(frozen=True)
class Quantiles:
    """Values at ranks, with 95 % intervals.

    The noise is in the ranks; `low` and `high` are the values at rank ± 1.96 errors on the straight lines between the
    released points and the bounds, so they are rough where few ranks were asked.

    Args:
      ranks: as asked, in [0, 1].
      values: one per rank, in the column's units.
      bounds: the column's public (low, high).
      noise_error: of each rank, as a share.
      sampling_errors: of each rank, as a share.
      records, origin: as of an `Estimate`.
    """

    ranks: tuple[float, ...]
    values: tuple[float, ...]
    bounds: tuple[float, float]
    noise_error: float
    sampling_errors: tuple[float, ...]
    unit: str = ""
    records: Estimate | None = None
    origin: str = ""

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """95 % interval of each value."""
        reaches = [math.hypot(LAPLACE_95 * self.noise_error, NORMAL_95 * error) for error in self.sampling_errors]
        ranks, values = self._line()
        return tuple(
            (float(np.interp(rank - reach, ranks, values)), float(np.interp(rank + reach, ranks, values)))
            for rank, reach in zip(self.ranks, reaches, strict=True)
        )

    def share_below(self, values: FloatArray) -> FloatArray:
        """The share of records below each value, on straight lines between the released points."""
        ranks, points = self._line()
        # Equal values would be ambiguous to interpolate over; the smallest step there is keeps them in order.
        apart = points + np.arange(len(points)) * np.spacing(max(map(abs, self.bounds)))
        return np.interp(values, apart, ranks)

    def _line(self) -> tuple[FloatArray, FloatArray]:
        order = np.argsort(self.ranks, kind="stable")
        ranks = np.r_[0.0, np.asarray(self.ranks, dtype=np.float64)[order], 1.0]
        values = np.clip(np.asarray(self.values, dtype=np.float64)[order], *self.bounds)
        return ranks, np.r_[self.bounds[0], np.maximum.accumulate(values), self.bounds[1]]

    def __str__(self) -> str:
        def shown(value: float) -> str:
            return dated(value, self.origin) if self.origin else f"{value:.5g}"

        unit = f" {self.unit}" if self.unit else ""
        return "; ".join(
            f"{rank:g}: {shown(value)}{unit} (95 % from {shown(low)} to {shown(high)})"
            for rank, value, (low, high) in zip(self.ranks, self.values, self.intervals, strict=True)
        )


@dataclass(frozen=True, eq=False)
class Cells:
    """A histogram or crosstab: noisy counts of records in public cells.

    Args:
      labels: of the cells, per column.
      counts: as released or added up, [cells] or [cells, cells]; may be below 0.
      noise_error: of each cell.
      records: most records per patient.
    """

    columns: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    counts: FloatArray
    noise_error: float
    records: int = 1

    @property
    def shares(self) -> FloatArray:
        """Each cell's share of the records: counts below 0 are taken as 0; equal shares if nothing is left."""
        counts = np.maximum(self.counts, 0.0)
        total = counts.sum()
        return counts / total if total > 0 else np.full(counts.shape, 1 / counts.size)

    @property
    def share_errors(self) -> FloatArray:
        """Standard error of each share, noise and sampling together; at most 1."""
        total = max(float(self.counts.sum()), 1.0)
        shares = self.shares
        # share = c / T with T the sum of all cells: ∂own = (1 - p)/T, ∂others = -p/T each.
        noise = self.noise_error**2 * ((1 - shares) ** 2 + (shares.size - 1) * shares**2) / total**2
        patients = max(total / self.records, 1.0)
        sampling = shares * (1 - shares) * design_effect(self.records) / patients
        return np.minimum(np.sqrt(noise + sampling), 1.0)

    def estimate(self, *place: int) -> Estimate:
        """The count in one cell."""
        return Estimate(float(self.counts[place]), self.noise_error, bounds=COUNTED)

    def __str__(self) -> str:
        rows = [" / ".join(label) for label in _product(self.labels)]
        width = max(map(len, rows))
        shares, errors = self.shares.ravel(), self.share_errors.ravel()
        lines = zip(rows, self.counts.ravel(), shares, errors, strict=True)
        table = [f"{row:<{width}}  {count:9.0f}  {p:6.1%} ± {e:.1%}" for row, count, p, e in lines]
        return "\n".join([f"{' × '.join(self.columns)} (each count ± {self.noise_error:.2g})", *table])


def dated(days: float, origin: str) -> str:
    """Days since an origin as the nearest date, `2025-10-01`."""
    return (datetime.date.fromisoformat(origin) + datetime.timedelta(days=round(days))).isoformat()


def design_effect(records: int) -> float:
    """How much larger the variance of a mean over records may be than over as many patients' single values.

    With m_i in 1..k records of patient i, copies of each other at worst, it is P Σm² / (Σm)², at most (1+k)²/4k
    (Kantorovich's inequality).
    """
    return (1 + records) ** 2 / (4 * records)


def _product(labels: tuple[tuple[str, ...], ...]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [()]
    for column in labels:
        rows = [(*row, label) for row in rows for label in column]
    return rows
