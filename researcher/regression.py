"""Regressions of a cohort: the study that asks for one, and what it gives, per hospital and combined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from policies.errors import InvalidRequest, WeightsRefused
from policies.numbers import counted
from policies.privacy.regression import Regression
from policies.schema.design import design_of, sum_shapes
from policies.schema.schemas import Schema
from policies.schema.summed_regression import check_sums, told_in
from researcher.analyses import AnalysisStudy, tensors_of
from researcher.coefficients import Coefficient, Fit, fit_in_sum, fit_of, together
from researcher.figures import FloatArray
from researcher.members import Hospitals
from researcher.releases import Answers
from researcher.rosters import in_a_sum
from researcher.state import Release, Tensors
from researcher.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from researcher.plots import Picture

COMBINED = "combined"
LARGEST_SUM, LEAST_NOISE, MOST_TURNED = 1e15, 1e-15, 1e12
"""Beyond them no datasite's sums lie; products of what is within are numbers, and what is inverted has an inverse."""
RATIOS = {"gaussian": "", "binomial": "odds ratio", "poisson": "rate ratio"}


class RegressionStudy(AnalysisStudy):
    """A regression of a cohort, made by `cohort.regression(...)`."""

    def __init__(
        self,
        cohort: Hospitals,
        mechanism: Regression,
        *,
        name: str | None = None,
        purpose: str = "",
        state: Path | str | None = None,
        progress: bool = True,
        secure_aggregation: bool | int = False,
    ) -> None:
        design_of(mechanism, cohort.schema)
        super().__init__(
            cohort,
            mechanism,
            name=name,
            purpose=purpose,
            state=state,
            progress=progress,
            secure_aggregation=secure_aggregation,
        )

    mechanism: Regression

    if TYPE_CHECKING:

        def run(self, *, round: int = 1, deadline: float = ..., grace: float = ...) -> RegressionResult: ...

        def resume(self) -> RegressionResult: ...

    def result_of(self, answers: Answers) -> RegressionResult:
        """Coefficients from the hospitals' answers."""
        released, schema = tensors_of(answers), self.cohort.schema
        if answers.mean is None:
            sums = {name: checked(tensors, self) for name, tensors in released.items()}
        else:
            check_sums(answers.mean, self.mechanism, schema)
            sums = {in_a_sum(len(released)): dict(answers.mean)}
        return RegressionResult(
            self.name,
            self.mechanism,
            schema,
            sums,
            tuple(answers.releases[name] for name in released),
            answers.missing,
        )


@dataclass(frozen=True, repr=False)
class RegressionResult:
    """Coefficients per hospital and combined, in the units of the columns, with errors from noise and sampling.

    Args:
      name: of the study.
      sums: as released, by hospital; one that is the sum of all, where nothing else can be read.
    """

    name: str
    mechanism: Regression
    schema: Schema
    sums: Mapping[str, Mapping[str, FloatArray]]
    releases: tuple[Release, ...]
    missing: Mapping[str, str]

    def fit(self, hospital: str = COMBINED) -> Fit:
        """All coefficients with their covariances, of one hospital or of all, each weighed by its precision.

        Raises `InvalidRequest` where no such hospital answered.
        """
        if hospital != COMBINED and hospital not in self.sums:
            raise InvalidRequest(f"No hospital {hospital!r} answered. There are {', '.join(self.sums)}.")
        chosen = self.sums if hospital == COMBINED else {hospital: self.sums[hospital]}
        if self.mechanism.secure_aggregation is not None:
            (summed,) = chosen.values()
            return fit_in_sum(self.mechanism, self.schema, summed)
        design = design_of(self.mechanism, self.schema)
        return together([fit_of(self.mechanism, design, released) for released in chosen.values()])

    @property
    def hidden(self) -> str:
        """Of whom noise hides every coefficient, so that nothing of theirs is in the combined ones; "" of nobody."""
        if self.mechanism.secure_aggregation is None:
            return ", ".join(name for name in self.sums if not self.fit(name).told)
        (summed,) = self.sums.values()
        less = len(self.releases) - told_in(summed)
        return f"{less} of {counted(len(self.releases), 'hospital')} in the sum" if less > 0 else ""

    def coefficients(self, hospital: str = COMBINED) -> dict[str, Coefficient]:
        """Each coefficient, by name; the intercept is the prediction where every column is 0 or its first label."""
        return self.fit(hospital).coefficients(RATIOS[self.mechanism.family])

    def __getitem__(self, name: str) -> Coefficient:
        """A combined coefficient. Raises `InvalidRequest` where there is none of that name."""
        coefficients = self.coefficients()
        if name not in coefficients:
            raise InvalidRequest(f"There is no coefficient {name!r}. There are {', '.join(coefficients)}.")
        return coefficients[name]

    def table(self, hospital: str = COMBINED) -> Table:
        """A line for each coefficient: value, standard error, interval, p-value and, where there is one, its ratio."""
        rows = []
        for name, found in self.coefficients(hospital).items():
            low, high = found.interval
            row: dict[str, object] = {
                "term": name,
                "coefficient": found.value,
                "error": found.error,
                "of it noise": found.noise_error,
                "low": low,
                "high": high,
                "p": found.p_value,
            }
            if found.ratio:
                row |= dict(zip((found.ratio, "from", "to"), found.exponent, strict=True))
            rows.append(row)
        return Table(rows)

    def to_frame(self) -> pd.DataFrame:
        """The tables of all hospitals and the combined one, with a column `hospital`."""
        import pandas as pd

        names = [*self.sums, COMBINED]
        return pd.concat([self.table(name).to_frame().assign(hospital=name) for name in names], ignore_index=True)

    def plot(self) -> Picture:
        """A forest plot: each coefficient (or ratio) with its 95 % interval, combined and by hospital."""
        from researcher.analysis_plots import forest_picture

        hospitals = [*(self.sums if len(self.sums) > 1 else ()), COMBINED]
        return forest_picture(
            self.name, RATIOS[self.mechanism.family], {name: self.coefficients(name) for name in hospitals}
        )

    def report(self, path: str | Path) -> Path:
        """Write the study as one HTML page of its own, with a chart, a table and certificates' digests.

        Raises:
          InvalidRequest: the file cannot be written.
        """
        from researcher.report_analyses import regression_page
        from researcher.report_parts import write_page

        made = regression_page(
            self.name,
            {hospital: self.coefficients(hospital) for hospital in [*self.sums, COMBINED]},
            self.schema,
            self.mechanism,
            hidden_in_sum=self.hidden if self.mechanism.secure_aggregation else "",
            releases=self.releases,
            missing=self.missing,
        )
        return write_page(path, made)

    def __str__(self) -> str:
        fit, mechanism = self.fit(), self.mechanism
        lines = [f"{mechanism.outcome} ~ {' + '.join(mechanism.terms)} ({mechanism.family}), all hospitals together"]
        if fit.told:
            lines.append(str(self.table()))
            if fit.residual is not None:
                lines.append(f"Standard deviation of residuals: {fit.residual:.4g}")
        else:
            lines.append("Noise hides every coefficient. Ask with fewer terms or a larger ε, or at more patients.")
        if self.hidden and fit.told:
            lines.append(f"Of {self.hidden} noise hides every coefficient, so nothing of it is in these.")
        lines += [f"{name}: missing. {reason}" for name, reason in self.missing.items()]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def checked(tensors: Tensors, study: RegressionStudy) -> dict[str, FloatArray]:
    """A release's sums. Raises `WeightsRefused` where they are others than were asked for."""
    sums: dict[str, FloatArray] = {}
    for name, shape in sum_shapes(study.mechanism, study.cohort.schema).items():
        tensor = np.asarray(tensors.get(name, math.nan), dtype=np.float64)
        if tensor.shape != shape or not (np.abs(tensor) <= LARGEST_SUM).all():
            raise WeightsRefused(
                f"{name} has shape {tensor.shape}, wanted {shape} and numbers up to {LARGEST_SUM:g}. Fetch it again."
            )
        sums[name] = tensor
    _check_arithmetic(sums)
    return sums


def _check_arithmetic(sums: Mapping[str, FloatArray]) -> None:
    """Raise `WeightsRefused` where something is as no datasite's sums are, so that arithmetic on it would fail."""
    if sums["noise"][:2].min() < LEAST_NOISE or sums["noise"][2] < 0:
        raise WeightsRefused(f"noise={sums['noise'].tolist()} is not above 0. Tell the hospital's owner.")
    if not np.allclose(sums["information"], sums["information"].T, rtol=1e-9, atol=0):
        raise WeightsRefused("information is not symmetric, as sums of squares are. Tell the hospital's owner.")
    if not np.linalg.cond(sums["turn"]) <= MOST_TURNED:
        raise WeightsRefused("turn has no inverse, so it turns nothing. Tell the hospital's owner.")
