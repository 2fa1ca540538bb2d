"""What a column looks like, from its released histogram: number, missing, mean, quantiles, most common values.

One noisy histogram says all of it, since each is arithmetic on the same cells: nothing further is asked or charged.
Errors are of three kinds. Noise: of every cell, carried through each figure. Sampling: of these patients among those
who might have come. Rounding: a value is known to its cell alone, so a mean may be off by half a cell's width, and a
uniform spread over the cell is taken.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.schema.columns import TIMES, Column
from policies.schema.noise_scales import LAPLACE_95
from researcher.figures import COUNTED, NORMAL_95, Cells, Estimate, FloatArray, design_effect

RANKS = (0.25, 0.5, 0.75)
MOST_COMMON = 3


@dataclass(frozen=True)
class Described:
    """One column as its histogram shows it.

    Args:
      column: as declared.
      records: how many have a value.
      missing: how many have none; None where the schema allows none.
      mean, deviation: of a number or date, in matrix units; None of labels.
      quantiles: value at each of `RANKS` with its 95 % interval; empty for labels.
      common: the most common labels with their shares.
    """

    column: Column
    records: Estimate
    missing: Estimate | None
    mean: Estimate | None
    deviation: float | None
    quantiles: tuple[tuple[float, float, float], ...]
    common: tuple[tuple[str, Estimate], ...]

    @property
    def title(self) -> str:
        """The column's name with its unit."""
        unit = self.column.kind if self.column.kind in TIMES else self.column.unit
        return f"{self.column.name} ({unit})" if unit else self.column.name

    def row(self) -> dict[str, Any]:
        """Its figures by name, dates as dates; ± is one standard error, of a date in days, of a time in its unit."""
        row: dict[str, Any] = {"records": self.records.value, "records ±": self.records.error}
        row["missing"] = None if self.missing is None else self.missing.value
        row["missing ±"] = None if self.missing is None else self.missing.error
        row["mean"] = None if self.mean is None else self._natural(self.mean.value)
        row["mean ±"] = None if self.mean is None else self.mean.error
        row["sd"] = self.deviation
        for place, rank in enumerate(RANKS):
            found = self.quantiles[place] if self.quantiles else (None, None, None)
            for name, value in zip(("", " from", " to"), found, strict=True):
                row[f"{rank:.0%}{name}"] = None if value is None else self._natural(value)
        row["most common"] = "; ".join(f"{label} {share.value:.1%} ± {share.error:.1%}" for label, share in self.common)
        return row

    def _natural(self, value: float) -> float | datetime.date:
        if self.column.kind not in TIMES:
            return value
        read = datetime.date if self.column.kind == "date" else datetime.datetime
        return read.fromisoformat(self.column.written_time(round(value)))


def described(cells: Cells, column: Column, bins: int) -> Described:
    """What released cells of one column (`describe` or `histogram`) say of it."""
    labels, edges = column.cells(bins)
    counts, rest = cells.counts[: len(labels)], cells.counts[len(labels) :]
    total = float(counts.sum())
    records = Estimate(total, cells.noise_error * math.sqrt(len(counts)), unit="records", bounds=COUNTED)
    missing = Estimate(float(rest[0]), cells.noise_error, unit="records", bounds=COUNTED) if rest.size else None
    known = Cells((column.name,), (labels,), counts, cells.noise_error, cells.records)
    if edges is None:
        return Described(column, records, missing, None, None, (), _common(known))
    mean, deviation = _mean(known, column, edges)
    return Described(column, records, missing, mean, deviation, _quantiles(known, column, edges), ())


def _common(cells: Cells) -> tuple[tuple[str, Estimate], ...]:
    order = np.argsort(-cells.counts, kind="stable")[:MOST_COMMON]
    shares, errors = cells.shares, cells.share_errors
    return tuple(
        (cells.labels[0][place], Estimate(float(shares[place]), float(errors[place]), bounds=(0.0, 1.0)))
        for place in order
    )


def _mean(cells: Cells, column: Column, edges: FloatArray) -> tuple[Estimate, float]:
    middles, total = _middles(column, edges), max(float(cells.counts.sum()), 1.0)
    value = float(np.clip(cells.counts @ middles / total, column.low, column.high))
    rounding = 0.0 if _one_each(column, edges) else float(edges[1] - edges[0]) / math.sqrt(12)
    spread = float(cells.shares @ (middles - value) ** 2) + rounding**2
    spread = min(spread, (value - column.low) * (column.high - value))  # no spread between bounds is larger
    noise = cells.noise_error * float(np.sqrt(((middles - value) ** 2).sum())) / total
    noise = min(math.hypot(noise, rounding), column.high - column.low)
    sampling = math.sqrt(max(spread, 0.0) * design_effect(cells.records) * cells.records / total)
    bounds = (column.low, column.high)
    mean = Estimate(
        value,
        noise,
        min(sampling, column.high - column.low),
        column.unit,
        bounds,
        clock=column if column.kind in TIMES else None,
    )
    return mean, math.sqrt(max(spread, 0.0))


def _quantiles(cells: Cells, column: Column, edges: FloatArray) -> tuple[tuple[float, float, float], ...]:
    total = max(float(cells.counts.sum()), 1.0)
    below = np.clip(np.maximum.accumulate(np.r_[0.0, np.cumsum(cells.counts)]) / total, 0.0, 1.0)
    below[-1] = 1.0
    # Noise in the sum of i of B cells, less the share of it that all of them have: at most √B / 2 of one cell's.
    noise = min(cells.noise_error * math.sqrt(len(cells.counts)) / 2 / total, 0.5)
    apart = below + np.arange(len(below)) * 1e-12  # equal shares would be ambiguous to interpolate over
    found = []
    for rank in RANKS:
        sampling = math.sqrt(rank * (1 - rank) * design_effect(cells.records) * cells.records / total)
        reach = math.hypot(LAPLACE_95 * noise, NORMAL_95 * sampling)
        ends = np.interp([rank, rank - reach, rank + reach], apart, edges)
        if column.kind != "real":
            ends = np.rint(ends)
        value, low, high = np.clip(ends, column.low, column.high).tolist()
        found.append((value, low, high))
    return tuple(found)


def _middles(column: Column, edges: FloatArray) -> FloatArray:
    return np.asarray(np.clip((edges[1:] + edges[:-1]) / 2, column.low, column.high), dtype=np.float64)


def _one_each(column: Column, edges: FloatArray) -> bool:
    """Whether every cell is one value of a whole-numbered column."""
    return column.kind != "real" and bool(edges[0] < column.low)
