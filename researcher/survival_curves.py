"""From a released table of time and event to survival curves with bands, medians and a log-rank test.

Everything here is arithmetic on releases and public numbers. With d_j events and c_j patients lost from sight in
interval j as released, n_j patients at risk at its beginning (all later cells added up) and m_j = n_j - c_j / 2 (n_j
itself where each interval holds one time, at which losses come after events), the curve is Π (1 - d_j / m_j): that of
Kaplan and Meier (1958) where each interval holds one time, else the life table's. Where noise makes it rise it is
replaced by the nearest curve that falls.

Two errors are in its logarithm. Sampling is Greenwood's Σ d_j / (m_j (m_j - d_j)), with one event more than was seen,
which keeps it above 0 before the first event. Noise in cells moves d_j and, added up over later cells, m_j; how, is
found from a thousand draws of the noise that was declared, taken through the curve's slopes. From those draws and as
many of the sampling come intervals at each time and, from the largest of their errors in standard deviations, a band
that holds everywhere at once (as Nair's 1984 of equal precision). Both are taken on the scale of arcsin √S, on which
they hold for small samples too (Borgan & Liestøl 1990), and end where the number at risk is no longer told from noise.
tests/researcher/test_survival_curves.py counts how often they hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from policies.schema.survival_cells import TimeGrid
from researcher.figures import FloatArray

DRAWS = 1000
LEAST_AT_RISK = 3.0  # standard deviations of noise that the number at risk is above, and one patient
_MOST_DRAWN = 8  # hospitals whose noise is drawn one by one; of more the sum is as good as Gaussian
LEVEL = 0.95


@dataclass(frozen=True)
class Median:
    """When the curve comes to one half, with a 95 % interval; infinite where it does not within the grid."""

    value: float
    low: float
    high: float
    unit: str = ""

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        value = f"{self.value:.5g}{unit}" if math.isfinite(self.value) else "not reached"
        high = f"to {self.high:.5g}" if math.isfinite(self.high) else "on"
        return f"{value} (95 % from {self.low:.5g} {high})"


@dataclass(frozen=True)
class At:
    """The curve at one time: the share without event, with its 95 % interval."""

    time: float
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} (95 % from {self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True, eq=False)
class LogRank:
    """Whether groups survive alike: the log-rank statistic with noise in its variance, and its p-value."""

    statistic: float
    degrees: int
    p_value: float

    def __str__(self) -> str:
        return f"log-rank χ²({self.degrees}) = {self.statistic:.3g}, p = {self.p_value:.2g}"


@dataclass(frozen=True, eq=False)
class SurvivalCurve:
    """The curve of one group, at the end of each interval of the grid.

    Args:
      label: of the group.
      events, lost, followed: counts as released or added up, by interval; may be below 0.
      epsilon: of each hospital's table.
      hospitals: whose tables were added up.
      unit: of time.
    """

    label: str
    grid: TimeGrid
    events: FloatArray
    lost: FloatArray
    followed: float
    epsilon: float
    hospitals: int = 1
    unit: str = ""

    @property
    def noise_error(self) -> float:
        """Standard error of each count."""
        return math.sqrt(self.hospitals * cell_variance(self.epsilon))

    @cached_property
    def at_risk(self) -> FloatArray:
        """Patients at risk at the beginning of each interval, as released: their errors are `at_risk_errors`."""
        return np.asarray((self.events + self.lost)[::-1].cumsum()[::-1] + self.followed)

    @property
    def at_risk_errors(self) -> FloatArray:
        """Standard error from noise of each number at risk: one cell's, times the root of how many are added up."""
        return np.asarray(self.noise_error * np.sqrt(2 * np.arange(len(self.events), 0, -1) + 1.0))

    @cached_property
    def told(self) -> int:
        """For how many intervals the number at risk is told from noise; beyond, nothing is said."""
        clear = self.at_risk > LEAST_AT_RISK * self.at_risk_errors + 1
        return len(clear) if clear.all() else int(np.argmin(clear))

    @property
    def compared(self) -> int:
        """For how many intervals groups can be compared, which takes twice as clear a number at risk."""
        clear = self.at_risk > 2 * LEAST_AT_RISK * self.at_risk_errors + 1
        return len(clear) if clear.all() else int(np.argmin(clear))

    @property
    def times(self) -> FloatArray:
        """The end of each interval that something is said of."""
        return np.asarray(self.grid.ends[: self.told])

    @cached_property
    def survival(self) -> FloatArray:
        """The share without event up to each of `times`."""
        return np.exp(-self._hazard)

    @property
    def intervals(self) -> tuple[FloatArray, FloatArray]:
        """Ends of the 95 % interval at each of `times`: each holds at its own time."""
        return self._around(self._reach)

    @property
    def band(self) -> tuple[FloatArray, FloatArray]:
        """Ends of the 95 % band over `times`: it holds at all of them at once."""
        return self._around(self._errors.std(0) * self._several)

    def at(self, time: float) -> At:
        """The curve at a time, by the last interval that ends by then; unknown beyond what is told."""
        if not self.told or not self.grid.start <= time <= self.times[-1]:
            return At(time, math.nan, 0.0, 1.0)
        place = int(np.searchsorted(self.times, time, side="right")) - 1
        if place < 0:
            return At(time, 1.0, float(self.intervals[0][0]), 1.0)
        low, high = self.intervals
        return At(time, float(self.survival[place]), float(low[place]), float(high[place]))

    @property
    def median(self) -> Median:
        """The first time at which the curve is at one half, on straight lines between the ends of intervals.

        Its interval is of all times at which one half is within the curve's own (Brookmeyer & Crowley 1982), outward to
        the ends of intervals.
        """
        low, high = self.intervals
        times, start = self.times, self.grid.start
        below, above = np.flatnonzero(self.survival <= 0.5), np.flatnonzero(low > 0.5)
        surely = np.flatnonzero(high <= 0.5)
        least = float(times[above[-1]]) if len(above) else start
        most = float(times[surely[0]]) if len(surely) else math.inf
        if not len(below):
            return Median(math.inf, least, most, self.unit)
        place = int(below[0])
        end, value = float(times[place]), float(self.survival[place])
        before, earlier = (float(self.survival[place - 1]), float(times[place - 1])) if place else (1.0, start)
        if not self.grid.exact and before > value:
            end = earlier + (before - 0.5) / (before - value) * (end - earlier)
        return Median(end, least, most, self.unit)

    # -- how it is made ------------------------------------------------------------------------------------------------

    @property
    def _share_lost(self) -> float:
        """Of those lost in an interval, how many count as lost before its events."""
        return 0.0 if self.grid.exact else 0.5

    @cached_property
    def _exposed(self) -> FloatArray:
        return np.asarray((self.at_risk - self._share_lost * self.lost)[: self.told])

    @cached_property
    def _chances(self) -> FloatArray:
        """Of the event in each interval; a little out of [0, 1] where noise has it so, or sums would be off."""
        return np.asarray(np.clip(self.events[: self.told] / self._exposed, -0.5, 0.95))

    @cached_property
    def _hazard(self) -> FloatArray:
        """The nearest growing curve to -log S, and none below 0."""
        return np.maximum(growing(np.cumsum(-np.log1p(-self._chances))), 0.0)

    @cached_property
    def _errors(self) -> FloatArray:
        """Draws [draws, times] of the error of -log S, from noise and sampling."""
        rng = np.random.default_rng(0)  # public: what is drawn is what is known of the noise, not the noise
        told, size = self.told, len(self.events)
        moved, at_risk = moved_counts(rng, size, self.epsilon, self.hospitals)
        events, lost = moved[:, :told], moved[:, size : size + told]
        exposed = at_risk[:, :told] - self._share_lost * lost
        slopes = 1 / (self._exposed * (1 - self._chances))
        noise = np.cumsum((events - np.maximum(self._chances, 0) * exposed) * slopes, axis=1)
        sampling = np.cumsum(rng.standard_normal((DRAWS, told)) * np.sqrt(self._sampling), axis=1)
        return np.asarray(noise + sampling)

    @cached_property
    def _sampling(self) -> FloatArray:
        """Variance that each interval adds to -log S by who became a patient."""
        exposed, events = self._exposed, self.events[: self.told]
        summed = np.cumsum(events / (exposed * np.maximum(exposed - events, 1.0)))
        one_more = 1 / np.maximum(exposed, 1.0) ** 2
        grown = np.maximum.accumulate(np.maximum(summed, 0.0) + (one_more[:1] if len(one_more) else 0.0))
        return np.asarray(np.diff(grown, prepend=0.0))

    @cached_property
    def _reach(self) -> FloatArray:
        return np.quantile(np.abs(self._errors), LEVEL, axis=0) if self.told else np.zeros(0)

    @cached_property
    def _several(self) -> float:
        """How many standard deviations the largest error over all times stays below, 95 times out of 100."""
        if not self.told:
            return 0.0
        return float(np.quantile((np.abs(self._errors) / self._errors.std(0)).max(axis=1), LEVEL))

    def _around(self, reach: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What lies within `reach` of -log S, on the scale of arcsin √S: its slope by -log S is √(S / (1 - S)) / 2."""
        share = self.survival
        middle = np.arcsin(np.sqrt(share))
        turned = reach / 2 * np.sqrt(share / np.maximum(1 - share, reach / 4)) if self.told else reach
        low, high = (np.sin(np.clip(middle + sign * turned, 0, math.pi / 2)) ** 2 for sign in (-1, 1))
        return np.minimum.accumulate(low), np.minimum.accumulate(high)


def curves_of(
    table: FloatArray, groups: Sequence[str], grid: TimeGrid, *, epsilon: float, hospitals: int = 1, unit: str = ""
) -> dict[str, SurvivalCurve]:
    """The curve of each group, by its label, from a table [groups, 2 B + 1] as released, or added up over hospitals."""
    size = len(grid.ends)
    return {
        label: SurvivalCurve(
            label, grid, row[:size], row[size : 2 * size], float(row[-1]), epsilon, hospitals=hospitals, unit=unit
        )
        for label, row in zip(groups, np.asarray(table, dtype=np.float64), strict=True)
    }


def log_rank(curves: Sequence[SurvivalCurve]) -> LogRank | None:
    """Mantel's (1966) test of groups, with noise in its variance; None where noise hides too much of one of them.

    It adds up, over the times at which all groups are clear of noise, how many events each had beyond its share of
    those at risk. Under equal survival that has the hypergeometric variance, and beside it what the noise of all cells
    does to it, drawn as for the curves.
    """
    told = min(curve.compared for curve in curves)
    if len(curves) < 2 or not told:
        return None
    from researcher.chances import chi_square_tail

    events = np.stack([curve.events[:told] for curve in curves])
    exposed = np.stack([curve._exposed[:told] for curve in curves])
    share, all_exposed = exposed / exposed.sum(0), exposed.sum(0)
    pooled = np.maximum(growing(np.cumsum(events.sum(0) / all_exposed)), 0.0)
    rate = np.diff(pooled, prepend=0.0)  # the chance of an event with all groups together
    beyond = (events - share * events.sum(0)).sum(1)
    weight = rate * all_exposed * (all_exposed - rate * all_exposed) / np.maximum(all_exposed - 1, 1.0)
    sampling = np.einsum("j,gj,hj->gh", weight, share, -share) + np.diag((weight * share).sum(1))
    rng = np.random.default_rng(0)
    moved_events, moved_exposed = [], []
    for curve in curves:
        size = len(curve.events)
        moved, at_risk = moved_counts(rng, size, curve.epsilon, curve.hospitals)
        moved_events.append(moved[:, :told])
        moved_exposed.append(at_risk[:, :told] - curve._share_lost * moved[:, size : size + told])
    by_events, by_exposed = np.stack(moved_events), np.stack(moved_exposed)  # [groups, draws, times]
    moved_share = (by_exposed - share[:, None] * by_exposed.sum(0)) / all_exposed
    moved_beyond = (by_events - share[:, None] * by_events.sum(0) - moved_share * (rate * all_exposed)).sum(2)
    covariance = sampling + np.cov(moved_beyond)
    free = len(curves) - 1
    statistic = float(beyond[:free] @ np.linalg.solve(covariance[:free, :free], beyond[:free]))
    return LogRank(statistic, free, chi_square_tail(statistic, free))


def cell_variance(epsilon: float) -> float:
    """Variance of discrete Laplace noise of ε: 2 p / (1 - p)², p = e^-ε."""
    return 2 * math.exp(-epsilon) / math.expm1(-epsilon) ** 2


def moved_counts(rng: np.random.Generator, size: int, epsilon: float, hospitals: int) -> tuple[FloatArray, FloatArray]:
    """Draws [draws, 2 B + 1] of the noise of a table's row, and what it does to the numbers at risk, [draws, B]."""
    shape, chance = (DRAWS, 2 * size + 1), -math.expm1(-epsilon)
    if hospitals > _MOST_DRAWN or chance < 1e-4:
        noise = rng.laplace(size=shape) if hospitals == 1 else rng.standard_normal(shape) * math.sqrt(2)
        noise = noise * math.sqrt(hospitals * cell_variance(epsilon) / 2)
    else:
        drawn = [rng.geometric(chance, shape) - rng.geometric(chance, shape) for _ in range(hospitals)]
        noise = np.sum(drawn, axis=0).astype(np.float64)
    out = noise[:, :size] + noise[:, size : 2 * size]
    return noise, out[:, ::-1].cumsum(axis=1)[:, ::-1] + noise[:, -1:]


def growing(values: FloatArray) -> FloatArray:
    """The nearest values, in squares, that never fall: by pooling adjacent violators (Ayer et al. 1955)."""
    means: list[float] = []
    sizes: list[int] = []
    for value in values.tolist():
        means.append(value)
        sizes.append(1)
        while len(means) > 1 and means[-2] > means[-1]:
            size = sizes[-2] + sizes[-1]
            mean = (means[-2] * sizes[-2] + means[-1] * sizes[-1]) / size
            del means[-1], sizes[-1]
            means[-1], sizes[-1] = mean, size
    return np.repeat(means, sizes) if means else np.zeros(0)
