"""From released tables of predictions beside outcomes to figures with uncertainty: numbers, times, labels, classes.

Everything below is arithmetic on a release. Errors come from the delta method, as in `researcher.scores`: noise enters
every cell alike and is weighted by the figure's derivative there, found by differences; sampling enters as multinomial
draws of patients, plugged in from the released counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from policies.errors import WeightsRefused
from policies.privacy.mechanisms import Evaluation
from policies.privacy.outcomes import Outcome
from policies.release.evaluation_tables import (
    ERRORS,
    SCORES,
    EvaluationTable,
    outcome_values,
    prediction_values,
    target_column,
)
from policies.schema.noise_scales import LAPLACE_95
from policies.schema.schemas import Schema
from researcher import scores as score_figures
from researcher.figures import COUNTED, NORMAL_95, SHARE, Estimate, FloatArray
from researcher.scores import Calibration, Scores

FEWEST = 10.0  # patients of a bin that says something, and three deviations of its noise
LEAST_UNCENSORED = 0.05  # chance of not being censored yet that weights are made of at least


class Measured(Protocol):
    """What one hospital, or all of them, released of all patients or of one group."""

    def figures(self) -> dict[str, Estimate]:
        """The figures by their names."""

    def calibrations(self) -> dict[str, Calibration]:
        """Observed against predicted, by what is predicted: "" where it is one thing."""


COMBINED = "combined"

Groups = Mapping[str, Mapping[str, Mapping[str, Measured]]]
"""By subgroup and group what each hospital, and all of them, released."""


@dataclass(frozen=True, eq=False)
class Noisy:
    """Cells as released or added up, and the variance of the noise in each."""

    cells: FloatArray
    noise_variance: float


@dataclass(frozen=True)
class Ranged(Estimate):
    """An estimate whose 95 % interval is not as far to either side, as of a root or of a ratio."""

    ends: tuple[float, float] = (-math.inf, math.inf)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval."""
        return self.ends


def _root(square: Estimate, unit: str) -> Ranged:
    """The root of a mean square, and of its interval's ends: near 0 a root's own errors say too little."""
    value = math.sqrt(max(square.value, 0.0))
    scale = 2 * max(value, math.sqrt(square.error) / 2, 1e-12)
    low, high = (math.sqrt(max(end, 0.0)) for end in square.interval)
    bounds = (0.0, math.sqrt(square.bounds[1]))
    return Ranged(value, square.noise_error / scale, square.sampling_error / scale, unit, bounds, ends=(low, high))


def _explained(table: Noisy, unexplained: FloatArray, variance: FloatArray, uncertain: float) -> Ranged:
    """1 minus the ratio of two sums over cells, with Fieller's interval (1954): the variance, too, may be mostly noise.

    The ratio's interval is all r for which Σ cells (unexplained - r variance) is as near to 0 as it should be.

    Args:
      uncertain: what each mean square may be off by because cells are wide.
    """
    total, bounds = float(table.cells.sum()), (-math.inf, 1.0)
    above, below = (float((table.cells * weights).sum()) for weights in (unexplained, variance))
    if total < max(1.0, 2 * math.sqrt(table.cells.size * table.noise_variance)) or below <= 0:
        return Ranged(0.0, math.inf, 0.0, bounds=bounds, ends=bounds)
    ratio = max(above, 0.0) / below
    slopes = (unexplained - ratio * variance) / below
    noise = math.sqrt(table.noise_variance * float((slopes**2).sum()))
    sampling = math.hypot(math.sqrt(max(float((table.cells * slopes**2).sum()), 0.0)), uncertain * total / below)
    # (above - r below)² ≤ q0 - 2 q1 r + q2 r²: a quadratic in r.
    q0, q1, q2 = (
        LAPLACE_95**2 * table.noise_variance * float((one * other).sum())
        + NORMAL_95**2 * float((table.cells * one * other).sum())
        for one, other in ((unexplained, unexplained), (unexplained, variance), (variance, variance))
    )
    q0 += NORMAL_95**2 * (uncertain * total) ** 2
    square, half, constant = below**2 - q2, above * below - q1, above**2 - q0
    inside = half**2 - square * constant
    if square <= 0 or inside < 0:
        return Ranged(1 - ratio, noise, sampling, bounds=bounds, ends=bounds)
    low, high = ((half - sign * math.sqrt(inside)) / square for sign in (1, -1))
    return Ranged(1 - ratio, noise, sampling, bounds=bounds, ends=(min(1 - high, 1.0), min(1 - low, 1.0)))


@dataclass(frozen=True, eq=False)
class NumberScores:
    """Patients by prediction and outcome, of a number or a count.

    Args:
      counts: [predictions, outcomes]; may be below 0.
      predictions, outcomes: middles of the cells, in the target's units.
      widths: of a cell of predictions and of outcomes; 0 where each is one value.
    """

    counts: Noisy
    predictions: FloatArray
    outcomes: FloatArray
    widths: tuple[float, float]
    unit: str = ""

    def figures(self) -> dict[str, Estimate]:
        """Patients, mean absolute error, root mean squared error, bias and R²."""
        patients = _total(self.counts)
        apart = np.asarray(self.predictions[:, None] - self.outcomes[None, :], dtype=np.float64)
        largest = float(np.abs(apart).max())
        # Sheppard's correction: within a cell values spread as if drawn evenly, which adds width² / 12 of each to a
        # mean square. Half of it is taken for uncertain: where a model is better than the cells are wide it is less.
        spread = sum(width**2 for width in self.widths) / 12
        outcomes_spread = self.widths[1] ** 2 / 12

        outcomes = np.asarray(np.broadcast_to(self.outcomes, apart.shape), dtype=np.float64)
        square = _mean(self.counts, np.square(apart), bounds=(0.0, largest**2), unit=self.unit)
        absolute = _mean(
            self.counts, np.asarray(np.abs(apart), dtype=np.float64), bounds=(0.0, largest), unit=self.unit
        )
        square = _wider(_moved(square, -min(spread, square.value / 2)), spread / 2)

        middle = _mean(self.counts, outcomes, bounds=(float(self.outcomes.min()), float(self.outcomes.max()))).value
        of_cells = spread / 2 / (2 * max(math.sqrt(max(square.value, 0.0)), math.sqrt(spread) / 2, 1e-12))
        return {
            "patients": patients,
            "MAE": _wider(absolute, of_cells),
            "RMSE": _root(square, self.unit),
            "bias": _mean(self.counts, apart, bounds=(-largest, largest), unit=self.unit),
            "R²": _explained(
                self.counts, np.square(apart) - spread, np.square(outcomes - middle) - outcomes_spread, spread / 2
            ),
        }

    def calibrations(self) -> dict[str, Calibration]:
        """Mean outcome per bin of prediction, with enough patients to tell."""
        noise = self.counts.noise_variance
        total = self.counts.cells.sum(axis=1)
        kept = np.flatnonzero(total > max(FEWEST, 3 * math.sqrt(len(self.outcomes) * noise)))
        cells, total = self.counts.cells[kept], total[kept]
        means = np.clip(cells @ self.outcomes / total, self.outcomes.min(), self.outcomes.max())
        apart = self.outcomes[None, :] - means[:, None]
        sampling = np.maximum((cells * apart**2).sum(axis=1), 0.0) / total**2
        errors = np.sqrt(noise * (apart**2).sum(axis=1) / total**2 + sampling)
        return {"": Calibration(*(tuple(map(float, part)) for part in (self.predictions[kept], means, errors, total)))}


@dataclass(frozen=True, eq=False)
class TimeScores:
    """Patients by what is known of their time and the predicted risk by the horizon; and errors of predicted survival.

    Args:
      counts: [2 J + 1, bins]: the event in each of J intervals; censored after as many; and without it at the horizon.
      errors: [2, J]: Σ (1 - S)² at each interval's end over who was known to be without the event; Σ S² over the end
        of the interval that the event came in and all later ones, by that interval.
    """

    counts: Noisy
    errors: Noisy

    @property
    def intervals(self) -> int:
        """J."""
        return self.errors.cells.shape[1]

    def figures(self) -> dict[str, Estimate]:
        """Patients, concordance, and integrated Brier scores of the model and of the survival curve without it."""
        tables = [self.counts, self.errors]
        brier = _estimate(self._brier, tables, bounds=SHARE, unknown=SHARE, sampled=(0,))
        variance = self._brier_variance(brier.value) / max(float(self.counts.cells.sum()), 1.0)
        brier = Estimate(brier.value, brier.noise_error, math.sqrt(variance), bounds=SHARE)
        return {
            "patients": _total(self.counts),
            "concordance": self._concordance(),
            "integrated Brier score": brier,
            "without the model": _estimate(self._reference, tables[:1], bounds=(0.0, 0.25), unknown=(0.0, 0.25)),
        }

    def calibrations(self) -> dict[str, Calibration]:
        """The chance of the event by the horizon (Kaplan-Meier of the bin) per bin of predicted risk."""
        bins, noise = self.counts.cells.shape[1], self.counts.noise_variance
        rows, total = len(self.counts.cells), self.counts.cells.sum(axis=0)
        kept = np.flatnonzero(total > max(FEWEST, 3 * math.sqrt(rows * noise)))

        def by_horizon(parts: Sequence[FloatArray]) -> float:
            return 1 - float(survival_of(parts[0])[0][-1])

        found = [_estimate(by_horizon, [Noisy(self.counts.cells[:, [column]], noise)], bounds=SHARE) for column in kept]
        predicted = (kept + 0.5) / bins
        return {
            "": Calibration(
                tuple(map(float, predicted)),
                tuple(estimate.value for estimate in found),
                tuple(estimate.error for estimate in found),
                tuple(map(float, total[kept])),
            )
        }

    def _concordance(self) -> Estimate:
        """Of two patients, one of whom had the event in an interval that the other was known to outlast: the chance
        that the first one's predicted risk is higher, ties counted half (Harrell et al. 1982)."""
        noise, intervals = self.counts.noise_variance, self.intervals
        bins = self.counts.cells.shape[1]
        first = _estimate(lambda parts: _concordant(parts[0], intervals), [self.counts], bounds=SHARE, unknown=SHARE)
        wins = np.tri(bins, k=-1) + np.eye(bins) / 2
        events, later = _pairs(self.counts.cells, intervals)
        pairs = float((events.sum(axis=1) * later.sum(axis=1)).sum())
        if pairs < max(25.0, 2 * noise * math.sqrt(2 * intervals**2 * bins**2)):
            return Estimate(0.5, 0.5, bounds=SHARE)
        outlasting = sum(2 * (intervals - 1 - interval) + 1 for interval in range(intervals))
        second = noise**2 * outlasting * float(((wins - first.value) ** 2).sum()) / pairs**2
        return Estimate(
            first.value, min(math.sqrt(first.noise_error**2 + second), 0.5), first.sampling_error, bounds=SHARE
        )

    def _brier(self, parts: Sequence[FloatArray]) -> float:
        counts, errors = parts
        _, uncensored = survival_of(counts)
        before = np.r_[1.0, uncensored[:-1]]
        total = float((errors[0] / uncensored).sum() + (errors[1] / before).sum())
        return total / (self.intervals * float(counts.sum()))

    def _reference(self, parts: Sequence[FloatArray]) -> float:
        survival, _ = survival_of(parts[0])
        return float((survival * (1 - survival)).mean())

    def _brier_variance(self, brier: float) -> float:
        """About the variance of one patient's part in the integrated Brier score.

        Of their squared errors only the sum is known; here they are taken from the predicted risk by the horizon, as if
        the hazard were the same in every interval.
        """
        counts, intervals = np.maximum(self.counts.cells, 0.0), self.intervals
        _, uncensored = survival_of(self.counts.cells)
        before = np.r_[1.0, uncensored[:-1]]
        bins = counts.shape[1]
        risk = (np.arange(bins) + 0.5) / bins
        curves = (1 - risk)[:, None] ** (np.arange(1, intervals + 1) / intervals)
        alive = np.cumsum((1 - curves) ** 2 / uncensored, axis=1)
        late = np.cumsum((curves**2)[:, ::-1], axis=1)[:, ::-1] / before
        none = np.zeros((bins, 1))
        outlasted = np.concatenate([none, alive], axis=1)
        parts = np.concatenate([outlasted[:, :-1] + late, outlasted[:, :-1], outlasted[:, -1:]], axis=1).T / intervals
        weights = counts / max(counts.sum(), 1.0)
        mean = float((weights * parts).sum())
        return max(float((weights * parts**2).sum()) - mean**2, brier**2 / 4)


@dataclass(frozen=True, eq=False)
class LabelScores:
    """Scores of several labels, each as of two classes."""

    labels: tuple[str, ...]
    scores: tuple[Scores, ...]

    def figures(self) -> dict[str, Estimate]:
        """AUC and accuracy of each label."""
        found = {"patients": self.scores[0].patients}
        for label, scores in zip(self.labels, self.scores, strict=True):
            found[f"AUC of {label}"] = score_figures.auc(scores)
            found[f"accuracy of {label}"] = score_figures.accuracy(scores).estimate
        return found

    def calibrations(self) -> dict[str, Calibration]:
        """Of each label."""
        return {
            label: score_figures.calibration(scores) for label, scores in zip(self.labels, self.scores, strict=True)
        }


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Scores of classes, as a group of a subgroup has them."""

    scores: Scores

    def figures(self) -> dict[str, Estimate]:
        """AUC, of two classes, and accuracy."""
        found = {"patients": self.scores.patients}
        if self.scores.counts.ndim == 2:
            found["AUC"] = score_figures.auc(self.scores)
        return found | {"accuracy": score_figures.accuracy(self.scores).estimate}

    def calibrations(self) -> dict[str, Calibration]:
        """Of the second of two classes, or of the predicted one."""
        return {"": score_figures.calibration(self.scores)}


def measured(
    mechanism: Evaluation, schema: Schema, tables: Mapping[str, EvaluationTable], tensors: Mapping[str, npt.ArrayLike],
    behind: str = "", group: int | None = None,
) -> Measured:  # fmt: skip
    """Figures of released tensors: of all patients, or of one group of the subgroup that names end with `behind`.

    Raises `WeightsRefused` where a tensor is not of its shape.
    """

    def noisy(kind: str) -> Noisy:
        table = tables[kind + behind]
        cells = np.asarray(tensors.get(kind + behind, ()), dtype=np.float64)
        if cells.shape != table.shape or not np.isfinite(cells).all():
            raise WeightsRefused(f"{table.name} of shape {cells.shape} is not of its shape {table.shape}.")
        return Noisy(cells if group is None else cells[group], table.noise_variance)

    scores = noisy(SCORES)
    return _of_tables(mechanism, schema, scores, noisy(ERRORS) if mechanism.outcome is Outcome.TIME else None)


def _of_tables(mechanism: Evaluation, schema: Schema, scores: Noisy, errors: Noisy | None) -> Measured:
    if mechanism.outcome is Outcome.CLASS:
        return ClassScores(Scores(scores.cells, scores.noise_variance))
    if mechanism.outcome is Outcome.LABELS:
        parts = tuple(Scores(part, scores.noise_variance) for part in scores.cells)
        return LabelScores(schema.classes, parts)
    if errors is not None:
        return TimeScores(scores, errors)
    column = target_column(schema)
    outcomes, width = outcome_values(column, mechanism.bins)
    predictions = prediction_values(column, mechanism.bins)
    return NumberScores(scores, predictions, outcomes, (float(predictions[1] - predictions[0]), width), column.unit)


def added_up(parts: Sequence[Measured]) -> Measured:
    """All hospitals' patients together. Raises `WeightsRefused` where their tables are not of one shape."""
    first = parts[0]
    if isinstance(first, NumberScores):
        counts = _sum([part.counts for part in parts if isinstance(part, NumberScores)])
        return NumberScores(counts, first.predictions, first.outcomes, first.widths, first.unit)
    if isinstance(first, TimeScores):
        times = [part for part in parts if isinstance(part, TimeScores)]
        return TimeScores(_sum([part.counts for part in times]), _sum([part.errors for part in times]))
    if isinstance(first, LabelScores):
        labels = [part.scores for part in parts if isinstance(part, LabelScores)]
        return LabelScores(first.labels, tuple(map(score_figures.combine_scores, zip(*labels, strict=True))))
    classes = [part.scores for part in parts if isinstance(part, ClassScores)]
    return ClassScores(score_figures.combine_scores(classes))


def _sum(parts: Sequence[Noisy]) -> Noisy:
    if any(part.cells.shape != parts[0].cells.shape for part in parts):
        raise WeightsRefused("Only tables of one shape can be combined. Ask every hospital for the same bins.")
    return Noisy(np.sum([part.cells for part in parts], axis=0), sum(part.noise_variance for part in parts))


def survival_of(counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of rows of times the chance to be without the event, and not to be censored, at each interval's end.

    Kaplan-Meier on intervals: in each, events come before censorings. Of noisy counts, shares are kept within [0, 1],
    and the chance not to be censored is at least `LEAST_UNCENSORED`.
    """
    rows = counts.sum(axis=1)
    intervals = len(rows) // 2
    events, censored = rows[:intervals], rows[intervals : 2 * intervals]
    # At risk in an interval: who had the event in it or later, was censored in it or later, or saw the horizon.
    at_risk = np.cumsum((events + censored)[::-1])[::-1] + rows[-1]
    hazard = np.clip(events / np.maximum(at_risk, 1.0), 0.0, 1.0)
    leaving = np.clip(censored / np.maximum(at_risk - events, 1.0), 0.0, 1.0)
    uncensored = np.maximum(np.cumprod(1 - leaving), LEAST_UNCENSORED)
    return np.cumprod(1 - hazard), uncensored


def _pairs(counts: FloatArray, intervals: int) -> tuple[FloatArray, FloatArray]:
    """Events of each interval by risk, and who was known to outlast it by risk: [J, bins] each."""
    events = counts[:intervals]
    outlasted = np.zeros_like(events)
    for interval in range(intervals):
        outlasted[interval] = counts[interval + 1 : intervals].sum(axis=0) + counts[intervals + interval + 1 :].sum(
            axis=0
        )
    return events, outlasted


def _concordant(counts: FloatArray, intervals: int) -> float:
    events, later = _pairs(counts, intervals)
    below = np.cumsum(later, axis=1) - later / 2
    pairs = float((events.sum(axis=1) * later.sum(axis=1)).sum())
    return float((events * below).sum()) / pairs if abs(pairs) > 1e-9 else 0.5


def _total(table: Noisy) -> Estimate:
    noise = math.sqrt(table.cells.size * table.noise_variance)
    return Estimate(float(table.cells.sum()), noise, unit="patients", bounds=COUNTED)


def _mean(table: Noisy, weights: FloatArray, *, bounds: tuple[float, float], unit: str = "") -> Estimate:
    """The mean over patients of what each cell weighs: its slope at a cell is (weight - mean) / patients."""
    total = float(table.cells.sum())
    if total < max(1.0, 2 * math.sqrt(table.cells.size * table.noise_variance)):
        low, high = bounds
        return Estimate((low + high) / 2, (high - low) / 2, unit=unit, bounds=bounds)
    value = float((table.cells * weights).sum()) / total
    slopes = (weights - value) / total
    sampling = max(float((table.cells * slopes**2).sum()), 0.0)
    noise = math.sqrt(table.noise_variance * float((slopes**2).sum()))
    return Estimate(value, noise, math.sqrt(sampling), unit, bounds)


def _moved(estimate: Estimate, by: float) -> Estimate:
    return Estimate(estimate.value + by, estimate.noise_error, estimate.sampling_error, estimate.unit, estimate.bounds)


def _wider(estimate: Estimate, more: float) -> Estimate:
    """The same with an error that neither noise nor sampling makes, as the width of cells does."""
    sampling = math.hypot(estimate.sampling_error, more)
    return Estimate(estimate.value, estimate.noise_error, sampling, estimate.unit, estimate.bounds)


def _estimate(
    figure: Callable[[Sequence[FloatArray]], float], tables: Sequence[Noisy], *, bounds: tuple[float, float],
    unit: str = "", unknown: tuple[float, float] | None = None, sampled: tuple[int, ...] | None = None,
) -> Estimate:  # fmt: skip
    """A figure of tables with its errors; where the noise could make up the patients, nothing is known.

    Args:
      unknown: between which it then lies.
      sampled: the tables that patients are drawn into; None for all.
    """
    first = tables[0]
    total = float(first.cells.sum())
    low, high = unknown or bounds
    if total < max(1.0, 2 * math.sqrt(first.cells.size * first.noise_variance)):
        return Estimate((low + high) / 2, (high - low) / 2, unit=unit, bounds=bounds)
    parts = [table.cells.copy() for table in tables]
    value, noise, sampling = figure(parts), 0.0, 0.0
    for number, table in enumerate(tables):
        slopes = np.zeros(table.cells.size)
        flat = parts[number].reshape(-1)
        step = max(1e-3 * total, 1e-6)
        for place in range(flat.size):
            kept = flat[place]
            flat[place] = kept + step
            above = figure(parts)
            flat[place] = kept - step
            below = figure(parts)
            flat[place] = kept
            slopes[place] = (above - below) / (2 * step)
        noise += table.noise_variance * float(slopes @ slopes)
        if sampled is None or number in sampled:
            sampling += max(float(table.cells.reshape(-1) @ slopes**2), 0.0)
    least, most = bounds
    reach = high - low if math.isfinite(high - low) else math.inf
    return Estimate(
        min(max(value, least), most), min(math.sqrt(noise), reach), min(math.sqrt(sampling), reach), unit, bounds
    )
