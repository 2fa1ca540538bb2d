"""Results of evaluations: figures by hospital and group, as tables, DataFrames, words and plots.

`OutcomeResult` is of a number, a count, a time or several labels, as `results.EvaluationResult` is of classes. Groups
of declared subgroups are `Measured` alike for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from policies.errors import InvalidRequest, WeightsRefused
from policies.privacy.mechanisms import DPSGD, Evaluation, as_dict
from policies.privacy.outcomes import Outcome, outcome_of
from policies.privacy.subgroups import column_of
from policies.release.evaluation_tables import ERRORS, EvaluationTable, evaluation_tables, target_column
from policies.schema.schemas import Schema
from policies.schema.targets import natural, said
from researcher.figures import Estimate, FloatArray
from researcher.outcome_figures import COMBINED, Groups, Measured, added_up, measured
from researcher.scores import Calibration
from researcher.state import Release, Tensors
from researcher.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from researcher.plots import Picture


@dataclass(frozen=True)
class OutcomeResult:
    """How a model's predictions compare with what came true on the hold-outs, per hospital and combined.

    Args:
      hospitals: what each released of all its held-out patients.
      releases: what they came in, with certificates.
      missing: hospitals that did not answer, with the reason.
      mechanism: as it was approved and has run.
      schema: of the dataset, with the target that the mechanism names.
      subgroups: the groups of each declared subgroup.
      summed: the opened tables, where hospitals can be read in their sum alone: then that is the one in `hospitals`.
    """

    hospitals: Mapping[str, Measured]
    releases: tuple[Release, ...]
    missing: Mapping[str, str]
    mechanism: Evaluation
    schema: Schema
    subgroups: Groups = field(default_factory=dict)
    summed: Tensors = field(default_factory=dict)

    @property
    def combined(self) -> Measured:
        """All hospitals' held-out patients in one."""
        return added_up(list(self.hospitals.values()))

    def figure(self, name: str) -> dict[str, Estimate]:
        """One figure, as `"MAE"` or `"concordance"`, by hospital and `"combined"`. Raises `InvalidRequest`."""
        found = {hospital: scores.figures() for hospital, scores in self._all().items()}
        known = list(next(iter(found.values())))
        if name not in known:
            raise InvalidRequest(f"No figure {name!r} is of {self.mechanism.loss}. There are {', '.join(known)}.")
        return {hospital: figures[name] for hospital, figures in found.items()}

    @property
    def mae(self) -> dict[str, Estimate]:
        """Mean absolute error, in the target's units."""
        return self.figure("MAE")

    @property
    def rmse(self) -> dict[str, Estimate]:
        """Root of the mean squared error, in the target's units."""
        return self.figure("RMSE")

    @property
    def r2(self) -> dict[str, Estimate]:
        """Share of the outcome's variance that the model explains; below 0 where it does worse than the mean."""
        return self.figure("R²")

    @property
    def concordance(self) -> dict[str, Estimate]:
        """The chance that of two patients the one with the earlier event had the higher predicted risk."""
        return self.figure("concordance")

    @property
    def integrated_brier(self) -> dict[str, Estimate]:
        """Mean squared error of the predicted survival up to the horizon, weighted for censoring."""
        return self.figure("integrated Brier score")

    @property
    def auc(self) -> dict[str, dict[str, Estimate]]:
        """Of several labels: area under each one's ROC curve, by label, hospital and `"combined"`."""
        if self.mechanism.outcome is not Outcome.LABELS:
            raise InvalidRequest(f"AUC is of classes and labels, not of {self.mechanism.loss}. Ask for figure(...).")
        return {label: self.figure(f"AUC of {label}") for label in self.schema.classes}

    def calibration(self, hospital: str = COMBINED, *, label: str = "") -> Calibration:
        """Observed against predicted of one hospital, or of all; of one of several labels by its name.

        Of a number the mean outcome per bin of predictions, in its units; of a time the chance of the event by the
        horizon per bin of predicted risk.
        """
        found = self._of(hospital).calibrations()
        if label not in found:
            raise InvalidRequest(f"label={label!r} is none of {', '.join(map(repr, found))}. Name one of them.")
        return found[label]

    @property
    def table(self) -> Table:
        """One row per hospital, and one for all."""
        return hospital_table(self._all(), self.missing)

    @property
    def subgroup_table(self) -> Table:
        """One row per group of each subgroup, hospitals combined."""
        return group_table(self.subgroups)

    def to_frame(self) -> pd.DataFrame:
        """Every figure of every hospital and group as a row of numbers, with its 95 % interval."""
        return frame_of(self._all(), self.subgroups)

    def plot(self) -> Picture:
        """A figure that a notebook shows: calibration, and the first figure by group where subgroups were asked."""
        from researcher.outcome_plots import picture_of_outcome

        return picture_of_outcome(said(self.schema.target, self.schema.column), self._all(), self.subgroups)

    def report(self, path: str | Path) -> Path:
        """Write the figures as one HTML page of its own. Raises `InvalidRequest` where it cannot be written."""
        from researcher.report import evaluation_page
        from researcher.report_parts import write_page

        made = evaluation_page("Evaluation", self.sections(), releases=self.releases, missing=self.missing)
        return write_page(path, made)

    def sections(self) -> list[str]:
        """Parts of a page: figures by hospital, and by group where subgroups were asked."""
        from researcher.report import score_sections

        made = score_sections(self.table.rows, {}, {}, None)
        return made + (score_sections(self.subgroup_table.rows, {}, {}, None) if self.subgroups else [])

    def about(self) -> dict[str, Any]:
        """Plain data, from which and from its releases it can be made again."""
        return {
            "mechanism": as_dict(self.mechanism),
            "releases": [release.stem for release in self.releases],
            "missing": dict(self.missing),
            "schema": self.schema.as_dict(),
            **summed_as_data(self.summed),
        }

    def _of(self, hospital: str) -> Measured:
        known = self._all()
        if not isinstance(hospital, str) or hospital not in known:
            raise InvalidRequest(f"No scores of {hospital!r} are here. There are those of {', '.join(known)}.")
        return known[hospital]

    def _all(self) -> dict[str, Measured]:
        return dict(self.hospitals) | {COMBINED: self.combined}

    def __str__(self) -> str:
        return str(self.table) + (f"\n{self.subgroup_table}" if self.subgroups else "")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table._repr_html_() + (self.subgroup_table._repr_html_() if self.subgroups else "")


def in_units(outputs: npt.ArrayLike, training: DPSGD, schema: Schema) -> FloatArray:
    """What a model's outputs [N, outputs] say of patients, in units that people read.

    Of a number its value in the target's units, of a count its rate; the chance of each class or label; of a time the
    chance of no event by each interval's end.
    """
    values, loss = np.asarray(outputs, dtype=np.float64), training.loss
    outcome = outcome_of(loss)
    if outcome is Outcome.NUMBER:
        return natural(target_column(schema.predicting(training)), values)
    with np.errstate(over="ignore"):
        if outcome is Outcome.COUNT:
            return np.exp(values)
        if outcome is Outcome.TIME:
            return np.asarray(np.cumprod(1 / (1 + np.exp(values)), axis=-1), dtype=np.float64)
        if loss == "cross_entropy":
            grown = np.exp(values - values.max(axis=-1, keepdims=True))
            return np.asarray(grown / grown.sum(axis=-1, keepdims=True), dtype=np.float64)
        return values if loss == "binary_cross_entropy" else 1 / (1 + np.exp(-values))


def hospital_table(hospitals: Mapping[str, Measured], missing: Mapping[str, str]) -> Table:
    """Figures of each hospital in words, and why others are missing."""
    rows: list[dict[str, Any]] = [_row({"hospital": name}, scores) for name, scores in hospitals.items()]
    first = list(rows[0])[2] if rows else "patients"
    return Table(rows + [{"hospital": name, first: reason} for name, reason in missing.items()])


def group_table(subgroups: Groups) -> Table:
    """Figures of each group in words, hospitals combined."""
    return Table(
        [
            _row({"subgroup": subgroup, "group": group}, hospitals[COMBINED])
            for subgroup, groups in subgroups.items()
            for group, hospitals in groups.items()
        ]
    )


def _row(names: dict[str, Any], scores: Measured) -> dict[str, Any]:
    shown = {
        "held-out patients" if name == "patients" else name: str(figure) for name, figure in scores.figures().items()
    }
    return names | shown


def frame_of(hospitals: Mapping[str, Measured], subgroups: Groups) -> pd.DataFrame:
    """Every figure as a row: hospital, subgroup, group, figure, value, low, high, error."""
    import pandas as pd

    everybody = {("", "", name): scores for name, scores in hospitals.items()}
    for subgroup, groups in subgroups.items():
        for group, members in groups.items():
            everybody |= {(subgroup, group, name): scores for name, scores in members.items()}
    rows = []
    for (subgroup, group, hospital), scores in everybody.items():
        for name, figure in scores.figures().items():
            low, high = figure.interval
            rows.append((hospital, subgroup, group, name, figure.value, low, high, figure.error))
    columns = ["hospital", "subgroup", "group", "figure", "value", "low", "high", "error"]
    return pd.DataFrame(rows, columns=columns)


def summed_as_data(summed: Tensors) -> dict[str, Any]:
    """Sums that hospitals' releases were opened to, as plain data; nothing where releases say it themselves."""
    return {"summed": {name: np.asarray(cells).tolist() for name, cells in summed.items()}} if summed else {}


def tables_of(
    mechanism: Evaluation, schema: Schema, tensors: Tensors, hospitals: int = 1
) -> dict[str, EvaluationTable]:
    """The tables of a release by name, or of the sum over so many hospitals; the number of intervals is read from it.

    Raises `WeightsRefused`.
    """
    intervals = tensors[ERRORS].shape[-1] if ERRORS in tensors and tensors[ERRORS].ndim else 1
    if mechanism.outcome is Outcome.TIME and not 1 <= intervals <= 200:
        raise WeightsRefused(f"Errors of {intervals} intervals are none of a time.")
    tables = evaluation_tables(mechanism, schema, intervals)
    return {table.name: replace(table, hospitals=hospitals) for table in tables}


def hospitals_of(
    mechanism: Evaluation, schema: Schema, releases: Mapping[str, Tensors], hospitals: int = 1
) -> dict[str, Measured]:
    """What each hospital released of all its held-out patients; each release is the sum over so many `hospitals`."""
    return {
        name: measured(mechanism, schema, tables_of(mechanism, schema, tensors, hospitals), tensors)
        for name, tensors in releases.items()
    }


def groups_of(mechanism: Evaluation, schema: Schema, releases: Mapping[str, Tensors], hospitals: int = 1) -> Groups:
    """What each hospital, and all of them, released of each group; each release is the sum over so many `hospitals`."""
    subgroups: dict[str, dict[str, dict[str, Measured]]] = {}
    for subgroup in mechanism.subgroups:
        column = column_of(subgroup)
        for name, tensors in releases.items():
            tables = tables_of(mechanism, schema, tensors, hospitals)
            labels = next(table.groups for table in tables.values() if table.subgroup == subgroup)
            for number, label in enumerate(labels):
                group = subgroups.setdefault(column, {}).setdefault(label, {})
                group[name] = measured(mechanism, schema, tables, tensors, f"/{column}", number)
        for group in subgroups[column].values():
            group[COMBINED] = added_up(list(group.values()))
    return subgroups
