"""Kaplan and Meier's curves of a cohort: the study that asks for them, and what it gives, per hospital and combined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.errors import InvalidRequest, WeightsRefused
from policies.privacy.survival import KaplanMeier
from policies.schema.schemas import Schema
from policies.schema.survival_cells import TENSOR, survival_groups, survival_shape, time_grid
from researcher.analyses import AnalysisStudy, tensors_of
from researcher.figures import FloatArray
from researcher.members import Hospitals
from researcher.releases import Answers
from researcher.rosters import Wanted, in_a_sum
from researcher.shared_noise import charged_words, deviation_of, laplace_epsilon
from researcher.state import Release
from researcher.survival_curves import At, LogRank, Median, SurvivalCurve, curves_of, log_rank

if TYPE_CHECKING:
    import pandas as pd

    from researcher.plots import Picture

COMBINED = "combined"
MOST_COUNTED = 2.0**53  # beyond it, float64 holds no count


class SurvivalStudy(AnalysisStudy):
    """Survival of a cohort with pure ε, made by `cohort.kaplan_meier(...)`."""

    def __init__(
        self,
        cohort: Hospitals,
        mechanism: KaplanMeier,
        *,
        name: str | None = None,
        purpose: str = "",
        state: Path | str | None = None,
        progress: bool = True,
        secure_aggregation: Wanted = False,
    ) -> None:
        survival_shape(mechanism, cohort.schema)
        super().__init__(
            cohort,
            mechanism,
            name=name,
            purpose=purpose,
            state=state,
            progress=progress,
            secure_aggregation=secure_aggregation,
        )

    mechanism: KaplanMeier

    if TYPE_CHECKING:

        def run(self, *, round: int = 1, deadline: float = ..., grace: float = ...) -> SurvivalResult: ...

        def resume(self) -> SurvivalResult: ...

    def result_of(self, answers: Answers) -> SurvivalResult:
        """Curves from the hospitals' answers."""
        released = tensors_of(answers)
        given = released if answers.mean is None else {in_a_sum(len(released)): answers.mean}
        return SurvivalResult(
            self.name,
            self.mechanism,
            self.cohort.schema,
            {name: table_of(tensors, self) for name, tensors in given.items()},
            tuple(answers.releases[name] for name in released),
            answers.missing,
        )


@dataclass(frozen=True, repr=False)
class SurvivalResult:
    """Survival curves per hospital and combined, with bands, medians and a log-rank test.

    Args:
      name: of the study.
      tables: as released, by hospital; one that is the sum of all, where nothing else can be read.
      epsilon: pure ε that each hospital charged; under shared noise the one that was asked for.
    """

    name: str
    mechanism: KaplanMeier
    schema: Schema
    tables: Mapping[str, FloatArray]
    releases: tuple[Release, ...]
    missing: Mapping[str, str]

    @property
    def epsilon(self) -> float:
        """Pure ε that each hospital charged; under shared noise the one that was asked for."""
        return self.mechanism.epsilon

    @property
    def groups(self) -> tuple[str, ...]:
        """Labels of the groups."""
        return survival_groups(self.mechanism, self.schema)

    def curves(self, hospital: str = COMBINED) -> dict[str, SurvivalCurve]:
        """The curve of each group, by its label, at one hospital or over all. Raises `InvalidRequest`."""
        if hospital != COMBINED and hospital not in self.tables:
            raise InvalidRequest(f"No hospital {hospital!r} answered. There are {', '.join(self.tables)}.")
        table = np.sum(list(self.tables.values()), axis=0) if hospital == COMBINED else self.tables[hospital]
        epsilon, hospitals = self._noise(hospital)
        return curves_of(
            table,
            self.groups,
            time_grid(self.mechanism, self.schema),
            epsilon=epsilon,
            hospitals=hospitals,
            unit=self.schema.column(self.mechanism.time).unit,
        )

    def _noise(self, hospital: str) -> tuple[float, int]:
        """ε of each noise in a table, and of how many hospitals' it is the sum."""
        if (deviation := deviation_of(self.mechanism, 0, hospitals=len(self.releases))) is not None:
            return laplace_epsilon(deviation), 1
        if self.mechanism.secure_aggregation:
            return self.mechanism.epsilon, len(self.releases)
        return self.mechanism.epsilon, len(self.tables) if hospital == COMBINED else 1

    def curve(self, group: str | None = None, hospital: str = COMBINED) -> SurvivalCurve:
        """One group's curve; of everybody where no groups were asked for. Raises `InvalidRequest`."""
        curves = self.curves(hospital)
        label = group if group is not None else self.groups[0]
        if label not in curves or (group is None and len(curves) > 1):
            raise InvalidRequest(f"There is no group {group!r}. There are {', '.join(curves)}.")
        return curves[label]

    def at(self, time: float, group: str | None = None, hospital: str = COMBINED) -> At:
        """The share of a group without event up to `time`, with its 95 % interval."""
        return self.curve(group, hospital).at(time)

    def median(self, group: str | None = None, hospital: str = COMBINED) -> Median:
        """When half of a group has had the event, with its 95 % interval."""
        return self.curve(group, hospital).median

    def log_rank(self, hospital: str = COMBINED) -> LogRank | None:
        """Whether the groups survive alike; None where there is one group, or noise hides too much of one of them."""
        return log_rank(list(self.curves(hospital).values()))

    def to_frame(self) -> pd.DataFrame:
        """Every curve at every time: survival, interval, band, number at risk and events as released."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for hospital in [*self.tables, COMBINED]:
            for label, curve in self.curves(hospital).items():
                (low, high), (least, most) = curve.intervals, curve.band
                for place, time in enumerate(curve.times):
                    rows.append(
                        {
                            "hospital": hospital,
                            "group": label,
                            "time": time,
                            "survival": curve.survival[place],
                            "low": low[place],
                            "high": high[place],
                            "band_low": least[place],
                            "band_high": most[place],
                            "at_risk": curve.at_risk[place],
                            "events": curve.events[place],
                        }
                    )
        return pd.DataFrame(rows)

    def plot(self) -> Picture:
        """The combined curves with their bands, and each hospital's; number at risk below. A notebook shows it."""
        from researcher.analysis_plots import survival_picture

        column, test = self.schema.column(self.mechanism.time), self.log_rank()
        return survival_picture(
            f"{self.name} · {test}" if test else self.name,
            f"{column.name} ({column.unit})" if column.unit else column.name,
            self.curves(),
            [self.curves(hospital) for hospital in self.tables],
        )

    def report(self, path: str | Path) -> Path:
        """Write the study as one HTML page of its own, with curves, tables and certificates' digests.

        Raises:
          InvalidRequest: the file cannot be written.
        """
        from researcher.report_analyses import survival_page
        from researcher.report_parts import write_page

        made = survival_page(
            self.name,
            {hospital: self.curves(hospital) for hospital in [*self.tables, COMBINED]},
            self.schema,
            self.mechanism,
            self.log_rank(),
            releases=self.releases,
            missing=self.missing,
        )
        return write_page(path, made)

    def __str__(self) -> str:
        lines = []
        for hospital in [*self.tables, COMBINED]:
            for label, curve in self.curves(hospital).items():
                at_risk = curve.at_risk[0]
                lines.append(f"{hospital}  {label}: {at_risk:.0f} patients, median {curve.median}")
            if (test := self.log_rank(hospital)) is not None:
                lines.append(f"{hospital}  {test}")
        lines += [f"{name}: missing. {reason}" for name, reason in self.missing.items()]
        return "\n".join([*lines, charged_words(self.mechanism, self.releases)])

    __repr__ = __str__

    def _repr_png_(self) -> bytes:
        return self.plot()._repr_png_()


def table_of(tensors: Mapping[str, Any], study: SurvivalStudy) -> FloatArray:
    """A release's table. Raises `WeightsRefused` where it is another than was asked for."""
    wanted = survival_shape(study.mechanism, study.cohort.schema)
    table = np.asarray(tensors.get(TENSOR, np.nan), dtype=np.float64)
    if table.shape != wanted or not (np.abs(table) <= MOST_COUNTED).all():
        raise WeightsRefused(
            f"{TENSOR} has shape {table.shape}, wanted {wanted} and counts up to {MOST_COUNTED:g}. Fetch it again."
        )
    return table
