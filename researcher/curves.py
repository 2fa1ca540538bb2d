"""Learning curves: scores of a model after some of its rounds, and rules that end a study by them.

Each point is one release of an approved evaluation, charged to the held-out patients of each hospital as any other. The
figures, the curve and what a rule makes of them are post-processing of releases and cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from policies.errors import InvalidRequest
from policies.numbers import counted, written
from policies.privacy.mechanisms import Evaluation, as_dict, check_range
from policies.privacy.outcomes import Outcome
from policies.schema.schemas import Schema
from researcher.figures import SHARE, Estimate
from researcher.outcome_results import OutcomeResult, summed_as_data
from researcher.state import Release, Tensors
from researcher.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from researcher.plots import Picture

COMBINED = "combined"
LOWER_IS_BETTER = frozenset({"MAE", "RMSE", "integrated Brier score"})


def figure_names(mechanism: Evaluation, schema: Schema) -> tuple[str, ...]:
    """Figures that a curve of this evaluation has; the first is shown where none is named."""
    outcome, classes = mechanism.outcome, schema.predicting(mechanism).classes
    if outcome is Outcome.CLASS:
        return ("AUC", "accuracy") if len(classes) == 2 else ("accuracy",)
    if outcome is Outcome.TIME:
        return "concordance", "integrated Brier score"
    if outcome is Outcome.LABELS:
        return ("mean AUC", *(f"{figure} of {label}" for label in classes for figure in ("AUC", "accuracy")))
    return "MAE", "RMSE", "R²"


class Scored(Protocol):
    """What an evaluation answered, as `results.EvaluationResult` and `outcome_results.OutcomeResult`."""

    @property
    def releases(self) -> tuple[Release, ...]: ...
    @property
    def summed(self) -> Tensors: ...
    def figure(self, name: str) -> dict[str, Estimate]: ...


@dataclass(frozen=True)
class Point:
    """One point of a learning curve.

    Args:
      round: of the training, after which the joint model was scored.
      scores: by hospital and combined; None where no hospital scored it.
      missing: hospitals that did not score it, with the reason.
    """

    round: int
    scores: Scored | None
    missing: Mapping[str, str]

    def figure(self, name: str) -> dict[str, Estimate]:
        """One figure by hospital and `"combined"`; nothing where no hospital scored the point."""
        if self.scores is None:
            return {}
        if name == "mean AUC" and isinstance(self.scores, OutcomeResult):
            return _mean_auc(self.scores)
        return self.scores.figure(name)

    @property
    def releases(self) -> tuple[Release, ...]:
        """What it came in, with certificates."""
        return self.scores.releases if self.scores else ()


def _mean_auc(scores: OutcomeResult) -> dict[str, Estimate]:
    """Mean of the labels' AUC. Labels have noise of their own; of the same patients, so sampling does not even out."""
    by_label = list(scores.auc.values())
    means = {}
    for who in by_label[0]:
        parts = [label[who] for label in by_label]
        noise = math.sqrt(sum(part.noise_error**2 for part in parts)) / len(parts)
        sampling = sum(part.sampling_error for part in parts) / len(parts)
        means[who] = Estimate(sum(part.value for part in parts) / len(parts), noise, sampling, bounds=SHARE)
    return means


@dataclass(frozen=True)
class LearningCurve:
    """How a study's model did after every so many rounds, as the hospitals' hold-outs released it.

    Args:
      points: in order of rounds.
      mechanism: the evaluation that was approved.
      schema: of the dataset.
    """

    points: tuple[Point, ...]
    mechanism: Evaluation
    schema: Schema

    @property
    def names(self) -> tuple[str, ...]:
        """Figures that it has, the one that is shown first."""
        return figure_names(self.mechanism, self.schema)

    def figure(self, name: str | None = None) -> dict[int, dict[str, Estimate]]:
        """A figure by round, hospital and `"combined"`; the first of `names` where none is named.

        Rounds that no hospital scored are left out. Raises `InvalidRequest`.
        """
        name = self.checked(name)
        return {point.round: found for point in self.points if (found := point.figure(name))}

    def combined(self, name: str | None = None) -> dict[int, Estimate]:
        """A figure of all hospitals together, by round."""
        return {number: found[COMBINED] for number, found in self.figure(name).items()}

    def best(self, name: str | None = None) -> int | None:
        """The round with the best figure of all hospitals together; the earlier of two alike; None without any."""
        name = self.checked(name)
        sign = -1.0 if name in LOWER_IS_BETTER else 1.0
        values = {number: sign * found.value for number, found in self.combined(name).items()}
        return max(values, key=lambda number: (values[number], -number)) if values else None

    def checked(self, name: str | None) -> str:
        """A figure's name, the first where it is None. Raises `InvalidRequest`, naming those that there are."""
        if name is None:
            return self.names[0]
        if name not in self.names:
            raise InvalidRequest(f"No figure {name!r} is on this curve. There are {', '.join(self.names)}.")
        return name

    @property
    def releases(self) -> tuple[Release, ...]:
        """What its points came in, with certificates."""
        return tuple(release for point in self.points for release in point.releases)

    @property
    def table(self) -> Table:
        """One row per point: the combined figures, and who is missing."""
        rows = []
        for point in self.points:
            row: dict[str, Any] = {"round": point.round}
            row |= {name: str(point.figure(name)[COMBINED]) if point.scores else "nobody scored" for name in self.names}
            why = "; ".join(f"{who}: {reason}" for who, reason in sorted(point.missing.items()))
            rows.append(row | {"missing": why})
        return Table(rows)

    def to_frame(self) -> pd.DataFrame:
        """Every figure of every hospital and point as a row of numbers, with its 95 % interval."""
        import pandas as pd

        rows = [
            (number, who, name, found.value, *found.interval, found.error)
            for name in self.names
            for number, by_hospital in self.figure(name).items()
            for who, found in by_hospital.items()
        ]
        return pd.DataFrame(rows, columns=["round", "hospital", "figure", "value", "low", "high", "error"])

    def plot(self, name: str | None = None) -> Picture:
        """A figure that a notebook shows: one figure by round, combined with its 95 % interval, and by hospital."""
        from researcher.plots import picture_of_learning

        return picture_of_learning(self.checked(name), self.figure(name))

    def sections(self) -> list[str]:
        """Parts of a page: the curve of its first figure and its numbers."""
        from researcher.curve_report import curve_section

        return [curve_section(self.names[0], self.figure(), self.table.rows)] if self.points else []

    def about(self) -> dict[str, Any]:
        """Plain data, from which and from its releases it can be made again."""
        points = [
            {
                "round": point.round,
                "releases": [release.stem for release in point.releases],
                "missing": dict(point.missing),
                **(summed_as_data(point.scores.summed) if point.scores else {}),
            }
            for point in self.points
        ]
        return {"mechanism": as_dict(self.mechanism), "schema": self.schema.as_dict(), "points": points}

    def __str__(self) -> str:
        return str(self.table)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


Rule = Callable[[LearningCurve], str | bool]
"""Reads a curve and says why training ends now; "" or False where it goes on. It sees released figures alone."""


@dataclass(frozen=True)
class NoBetter:
    """See `no_better`."""

    than: float
    for_rounds: int
    figure: str | None = None

    def __call__(self, curve: LearningCurve) -> str:
        """Why training ends, or ""."""
        name = curve.checked(self.figure)
        sign = -1.0 if name in LOWER_IS_BETTER else 1.0
        values = {number: sign * found.value for number, found in curve.combined(name).items()}
        if not values:
            return ""
        now = max(values)
        before = [value for number, value in values.items() if number <= now - self.for_rounds]
        since = [value for number, value in values.items() if number > now - self.for_rounds]
        if not before or max(since) > max(before) + self.than:
            return ""
        margin = f" by more than {written(self.than)}" if self.than else ""
        return (
            f"{name} was no better{margin} in {counted(self.for_rounds, 'round')} than before: at best"
            f" {written(sign * max(since), digits=3)} after {written(sign * max(before), digits=3)}."
        )


@dataclass(frozen=True)
class Reached:
    """See `reached`."""

    value: float
    figure: str | None = None

    def __call__(self, curve: LearningCurve) -> str:
        """Why training ends, or ""."""
        name = curve.checked(self.figure)
        for number, found in list(curve.combined(name).items())[-1:]:
            if found.value <= self.value if name in LOWER_IS_BETTER else found.value >= self.value:
                return f"{name} reached {written(found.value, digits=3)} in round {number}."
        return ""


def no_better(*, for_rounds: int, than: float = 0.0, figure: str | None = None) -> NoBetter:
    """A rule for `stop_when`: no point of the last `for_rounds` rounds is better than the best before them.

    Args:
      for_rounds: 1 to 1000.
      than: how much better a point must be to count, in the figure's own units; at least 0. Figures are noisy: see
        `curve.table` for their errors, and take about as much.
      figure: one of the curve's, as `"AUC"`; the first where it is None.
    """
    check_range("for_rounds", for_rounds, 1, 1000, whole=True)
    check_range("than", than, 0, 1e9)
    return NoBetter(float(than), for_rounds, figure)


def reached(value: float, *, figure: str | None = None) -> Reached:
    """A rule for `stop_when`: the newest point is at least as good as `value`.

    Args:
      figure: one of the curve's, as `"AUC"`; the first where it is None.
    """
    check_range("value", value, -1e9, 1e9)
    return Reached(float(value), figure)


def check_rule(rule: Any, curve: LearningCurve) -> None:
    """Raise `InvalidRequest` where a rule cannot be asked, or names a figure that the curve will not have."""
    if not callable(rule):
        raise InvalidRequest(f"stop_when={rule!r:.80} is no rule. Give researcher.no_better(for_rounds=10).")
    judged(rule, replace(curve, points=()))


def judged(rule: Rule, curve: LearningCurve) -> str:
    """What a rule says of a curve. Raises `InvalidRequest` where it fails or says something else than a text."""
    try:
        said = rule(curve)
    except InvalidRequest:
        raise
    except Exception as error:  # whatever the researcher's rule does
        raise InvalidRequest(f"stop_when failed with {type(error).__name__}: {error}. Mend the rule.") from error
    if isinstance(said, bool):
        return "The rule said so." if said else ""
    if not isinstance(said, str):
        raise InvalidRequest(f"stop_when said {said!r:.80}. It says why training ends, or an empty text.")
    return said
