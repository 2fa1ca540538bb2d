"""Estimates with standard errors and 95 % intervals: numbers, quantiles, histograms and crosstabs.

Plain values; `researcher.estimates` and `researcher.scores` make them from releases. What reaches an interval has is
here: `accepted` and `step_ends` below say how the intervals that are not plain ones come about, and
tests/researcher/test_coverage.py how often they hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policies.numbers import outward, places_for, to_places, with_error
from policies.schema.columns import Column
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
      ends: of the 95 % interval where it is not as far to either side, as near a bound.
      note: in words, what one has to know of it; "there is none" where it says nothing at all.
      records: how many records it is of, where that was released with it.
      clock: of dates and times, their column: the value counts its days, hours, minutes or seconds.
    """

    value: float
    noise_error: float
    sampling_error: float = 0.0
    unit: str = ""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    ends: tuple[float, float] | None = None
    note: str = ""
    records: Estimate | None = None
    clock: Column | None = None

    @property
    def error(self) -> float:
        """Standard error from noise and sampling together."""
        return math.hypot(self.noise_error, self.sampling_error)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval: Laplace tails for the noise, normal ones for the sampling; never beyond what is possible."""
        reach = math.hypot(LAPLACE_95 * self.noise_error, NORMAL_95 * self.sampling_error)
        least, most = self.bounds
        low, high = self.ends or (self.value - reach, self.value + reach)
        return min(max(low, least), most), min(max(high, least), most)

    @property
    def shown(self) -> tuple[str, str, str]:
        """Value and both ends of the interval with the digits that the error allows, ends rounded outwards."""
        places = places_for(self.error)
        return to_places(self.value, places), *outward(*self.interval, places)

    @property
    def known(self) -> bool:
        """Whether the interval leaves anything of the possible range out."""
        return self.interval != self.bounds

    def __str__(self) -> str:
        if self.note and not self.known:
            return self.note
        if self.clock:
            value, low, high = (dated(number, self.clock) for number in (self.value, *self.interval))
            text = f"{value} ± {self.error:.2g} {self.clock.counted_in} (95 % from {low} to {high})"
            return f"{text}; {self.note}" if self.note else text
        unit, places = f" {self.unit}" if self.unit else "", places_for(self.error)
        value, low, high = self.shown
        error = "" if places is None else f" ± {to_places(self.error, places)} (95 % from {low} to {high})"
        text = f"{value}{unit}{error}"
        return f"{text}; {self.note}" if self.note else text


@dataclass(frozen=True)
class Quantiles:
    """Values at ranks, with 95 % intervals.

    The noise is in the ranks, and of how the values lie between two released points nothing is known. So an interval
    ends at released points, the next ones beyond what the rank may be off by (`reaches`), or at a bound (see
    `step_ends`). More ranks cost nothing and make it narrower.

    Args:
      ranks: as asked, in [0, 1].
      values: one per rank, in the column's units.
      bounds: the column's public (low, high).
      noise_error: of each rank, as a share.
      sampling_errors: of each rank, as a share.
      shift: of ranks to one side, as a share, that the mechanism may come to beside its noise.
      resolution: how far a value may be from the record that it stands for, in the column's units.
      ends: of each interval, where they come from several hospitals' points.
      records, clock: as of an `Estimate`.
    """

    ranks: tuple[float, ...]
    values: tuple[float, ...]
    bounds: tuple[float, float]
    noise_error: float
    sampling_errors: tuple[float, ...]
    unit: str = ""
    shift: float = 0.0
    resolution: float = 0.0
    ends: tuple[tuple[float, float], ...] | None = None
    records: Estimate | None = None
    clock: Column | None = None

    @property
    def reaches(self) -> tuple[float, ...]:
        """How far from each rank the true one may be, 95 % of the time."""
        return tuple(
            self.shift + math.hypot(LAPLACE_95 * self.noise_error, NORMAL_95 * error) for error in self.sampling_errors
        )

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """95 % interval of each value."""
        ends = self.ends or step_ends([self], np.ones(1), self.ranks, self.reaches)
        least, most = self.bounds
        return tuple((max(low - self.resolution, least), min(high + self.resolution, most)) for low, high in ends)

    def share_below(self, values: FloatArray) -> FloatArray:
        """The share of records below each value, on straight lines between the released points."""
        ranks, points = self.line()
        # Equal values would be ambiguous to interpolate over; the smallest step there is keeps them in order.
        apart = points + np.arange(len(points)) * np.spacing(max(map(abs, self.bounds)))
        return np.interp(values, apart, ranks)

    def line(self) -> tuple[FloatArray, FloatArray]:
        """Ranks and values in order, made to rise, with both bounds."""
        order = np.argsort(self.ranks, kind="stable")
        ranks = np.r_[0.0, np.asarray(self.ranks, dtype=np.float64)[order], 1.0]
        values = np.clip(np.asarray(self.values, dtype=np.float64)[order], *self.bounds)
        return ranks, np.r_[self.bounds[0], np.maximum.accumulate(values), self.bounds[1]]

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        lines = []
        for rank, value, (low, high) in zip(self.ranks, self.values, self.intervals, strict=True):
            if self.clock:
                shown, ends = dated(value, self.clock), f"{dated(low, self.clock)} to {dated(high, self.clock)}"
            else:
                places = places_for((high - low) / 4)  # as of an error, a quarter of a 95 % interval
                shown, ends = to_places(value, places), " to ".join(outward(low, high, places))
            lines.append(f"{rank:g}: {shown}{unit} (95 % from {ends})")
        return "; ".join(lines)


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

    @property
    def share_intervals(self) -> FloatArray:
        """95 % intervals of the shares, [..., 2], by `accepted`; each holds the share that is shown."""
        total, cells, noise = float(self.counts.sum()), self.counts.size, self.noise_error**2
        drawn = max(total, 1.0) * self.records * design_effect(self.records)  # the variance of a cell over p(1 - p)
        ends = [
            accepted(float(count), total, (noise, -2 * noise, cells * noise), drawn, SHARE, step=self.records)
            for count in self.counts.ravel()
        ]
        shares = self.shares.ravel()
        held = [(min(low, share), max(high, share)) for (low, high), share in zip(ends, shares, strict=True)]
        return np.array(held).reshape(*self.counts.shape, 2)

    def estimate(self, *place: int) -> Estimate:
        """The count in one cell."""
        return Estimate(float(self.counts[place]), self.noise_error, bounds=COUNTED)

    def __str__(self) -> str:
        rows = [" / ".join(label) for label in _product(self.labels)]
        width = max(map(len, rows))
        places = places_for(self.noise_error)
        lines = [
            f"{row:<{width}}  {to_places(float(count), places):>9}  {with_error(100 * share, 100 * error)} %"
            for row, count, share, error in zip(
                rows, self.counts.ravel(), self.shares.ravel(), self.share_errors.ravel(), strict=True
            )
        ]
        head = f"{' × '.join(self.columns)} (each count ± {to_places(self.noise_error, places)})"
        return "\n".join([head, *lines])


def counted_patients(value: float, noise: float) -> Estimate:
    """A noisy number of patients. The interval is half a patient wider to either side, as all are whole."""
    reach = LAPLACE_95 * noise + 0.5 if noise > 0 else 0.0
    return Estimate(value, noise, unit="patients", bounds=COUNTED, ends=(value - reach, value + reach))


def accepted(
    hits: float,
    total: float,
    noise: tuple[float, float, float],
    drawn: float,
    bounds: tuple[float, float],
    *,
    step: float = 0.0,
) -> tuple[float, float]:
    """95 % interval of a ratio θ of which `hits` - θ `total` is 0 but for noise and sampling.

    All θ that a test at 5 % would not reject, where variances are those that θ itself would have and not those at
    the estimate: of noise Fieller's interval (1954, "Some problems in interval estimation"), which needs no division
    by a noisy number, of sampling Wilson's (1927, doi:10.1080/01621459.1927.10502953), which has a width at 0 and 1.
    (hits - θ total)² ≤ 2.12² (n₀ + n₁θ + n₂θ²) + 1.96² drawn θ(1 - θ) is a quadratic in θ. Where its branches open
    to the other side any θ is possible, and the bounds are returned.

    Args:
      noise: n₀, n₁, n₂ of the noise's variance in `hits` - θ `total`.
      drawn: the sampling variance over θ(1 - θ).
      bounds: of what is possible, within [0, 1].
      step: between two values that `hits` may have; half of it to either side is the correction for continuity
        (Newcombe 1998, method 4), without which the interval of one error in a thousand holds 85 % of the time.
    """
    tail, normal = LAPLACE_95**2, NORMAL_95**2 * drawn
    square = total**2 - tail * noise[2] + normal
    if not square > 0:
        return bounds
    moves = hits - step / 2, hits + step / 2
    ends = [moved / total for moved in moves] if total > 0 else []
    for moved in moves:
        middle = moved * total + (tail * noise[1] + normal) / 2
        inside = middle**2 - square * (moved**2 - tail * noise[0])
        if inside >= 0:
            ends += [(middle - math.sqrt(inside)) / square, (middle + math.sqrt(inside)) / square]
    if not ends or not all(map(math.isfinite, ends)):
        return bounds
    least, most = bounds
    return min(max(min(ends), least), most), min(max(max(ends), least), most)


def step_ends(
    parts: Sequence[Quantiles], weights: FloatArray, ranks: Sequence[float], reaches: Sequence[float]
) -> tuple[tuple[float, float], ...]:
    """For each rank the values between which it lies, in a mixture of parts, with ranks off by at most `reaches`.

    Between two released points the share below a value is at least the rank of the one and at most that of the other,
    and nothing else is taken for true: the interval between order statistics (Thompson 1936), of the points that were
    released. No straight lines are drawn, as a value that many records share is a step.
    """
    lines = [part.line() for part in parts]
    grid = np.unique(np.concatenate([points for _, points in lines]))
    below, above = np.zeros(len(grid)), np.zeros(len(grid))
    for weight, (known, points) in zip(weights, lines, strict=True):
        last = np.searchsorted(points, grid, side="right")  # of points up to here
        below += weight * known[last - 1]
        above += weight * known[np.minimum(last, len(known) - 1)]
    ends = []
    for rank, reach in zip(ranks, reaches, strict=True):
        first, second = above > rank - reach + 1e-12, below >= rank + reach - 1e-12
        low = grid[np.argmax(first)] if first.any() else grid[-1]
        high = grid[np.argmax(second)] if second.any() else grid[-1]
        ends.append((float(low), float(high)))
    return tuple(ends)


def dated(value: float, column: Column) -> str:
    """A number of a column of dates or times as the nearest one, `2025-10-01` or `2025-10-01 14:00`."""
    return column.written(round(value))


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
