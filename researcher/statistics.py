"""Studies that ask for statistics, and what they give: values with standard errors, per hospital and combined."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.errors import InvalidRequest
from policies.privacy.mechanisms import Statistics
from researcher.analyses import AnalysisStudy
from researcher.described import described
from researcher.estimates import Statistic, combine_statistics, read_statistics, read_sums
from researcher.figures import Cells, Estimate, Quantiles, dated
from researcher.groups import Grouped
from researcher.members import Hospitals
from researcher.releases import Answers
from researcher.rosters import Wanted, in_a_sum
from researcher.shared_noise import charged_words
from researcher.state import Release
from researcher.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from policies.schema.columns import Column
    from policies.schema.schemas import Schema
    from researcher.plots import Picture


class StatisticsStudy(AnalysisStudy):
    """Statistics of a cohort with pure ε, made by `cohort.statistics(...)`.

    Args:
      cohort: whom to ask.
      mechanism: the declared statistics.
      name: of the study; made from the question where none is given, so that the same question is the same study.
      secure_aggregation: True to read nothing but the sums over hospitals, of more than half of them; or the fewest
        that a sum may be of. ε is the same, and no figure of one hospital can be read. Or a `SharedNoise`.
    """

    def __init__(
        self,
        cohort: Hospitals,
        mechanism: Statistics,
        *,
        name: str | None = None,
        purpose: str = "",
        state: Path | str | None = None,
        progress: bool = True,
        secure_aggregation: Wanted = False,
    ) -> None:
        super().__init__(
            cohort,
            mechanism,
            name=name,
            purpose=purpose,
            state=state,
            progress=progress,
            secure_aggregation=secure_aggregation,
        )

    mechanism: Statistics

    if TYPE_CHECKING:

        def run(self, *, round: int = 1, deadline: float = ..., grace: float = ...) -> StatisticsResult: ...

        def resume(self) -> StatisticsResult: ...

    def result_of(self, answers: Answers) -> StatisticsResult:
        """Statistics from the hospitals' answers."""
        cohort, mechanism = self.cohort, self.mechanism
        patients = {name: float(cohort.sizes[name]) for name in sorted(answers.releases)}
        if answers.mean is not None:
            together = read_sums(answers.mean, mechanism, cohort.schema, sizes=list(patients.values()))
            hospitals, combined = {in_a_sum(len(patients)): together}, together
        else:
            hospitals = {
                name: read_statistics(answers.releases[name].tensors, mechanism, cohort.schema, patients=patients[name])
                for name in patients
            }
            combined = combine_statistics(hospitals, patients=patients)
        return StatisticsResult(
            hospitals,
            combined,
            tuple(answers.releases[name] for name in patients),
            answers.missing,
            mechanism.epsilon,
            self.name,
            mechanism,
            cohort.schema,
        )


@dataclass(frozen=True)
class StatisticsResult:
    """Statistics per hospital and combined, each with its standard errors.

    Args:
      hospitals: by hospital, then by key as `mean/temperature`.
      combined: by key, over all hospitals that answered.
      epsilon: pure ε for all of them, which each hospital charged; under shared noise it is the one that was asked for,
        and certificates say what was charged.
      name, mechanism, schema: of the study that asked.
    """

    hospitals: Mapping[str, Mapping[str, Statistic]]
    combined: Mapping[str, Statistic]
    releases: tuple[Release, ...]
    missing: Mapping[str, str]
    epsilon: float
    name: str
    mechanism: Statistics
    schema: Schema

    def __getitem__(self, key: str) -> Statistic:
        """The combined statistic, by key. Raises `InvalidRequest` where there is none."""
        if key not in self.combined:
            raise InvalidRequest(f"There is no statistic {key!r}. There are {', '.join(self.combined)}.")
        return self.combined[key]

    def describe(self, hospital: str = "combined") -> pd.DataFrame:
        """Every column that was described or asked for a histogram, a row each: by `cohort.describe(...)`.

        Records and missing ones, mean, standard deviation, quartiles and the most common labels; `±` is one standard
        error, `from` and `to` a 95 % interval. Units stand in the index, dates are dates. By groups, a row for each.

        Raises:
          InvalidRequest: no such hospital answered, or nothing was asked that describes a column.
        """
        import pandas as pd

        rows = []
        for column, name, cells in self._histograms(hospital):
            found = described(cells, self.schema.column(column), self.mechanism.bins)
            rows.append({**dict(zip(self._grouped_by, name, strict=True)), "column": found.title, **found.row()})
        if not rows:
            raise InvalidRequest("Nothing was asked that describes a column. Ask with cohort.describe(epsilon=...).")
        return pd.DataFrame(rows).set_index([*self._grouped_by, "column"])

    def to_frame(self) -> pd.DataFrame:
        """Every released figure in a row of its own: hospital, statistic, group, cell, value, interval, unit."""
        import pandas as pd

        rows = [
            {"hospital": hospital, "statistic": key, "group": ", ".join(group), **row}
            for hospital, statistics in self._everybody().items()
            for key, statistic in statistics.items()
            for group, part in _parts(statistic)
            for row in _rows(part)
        ]
        return pd.DataFrame(rows)

    def plot(self) -> Picture:
        """A figure that a notebook shows: each statistic with its intervals, hospitals and all of them together."""
        from researcher.statistic_plots import picture_of_statistics

        return picture_of_statistics(self.name, self._everybody(), self.schema, self.mechanism)

    def report(self, path: str | Path) -> Path:
        """Write the study as one HTML page of its own, with charts, tables and certificates' digests.

        Raises:
          InvalidRequest: the file cannot be written.
        """
        from researcher.report import statistics_page
        from researcher.report_parts import write_page

        everybody = self._everybody()
        made = statistics_page(
            self.name, everybody, self.schema, self.mechanism, releases=self.releases, missing=self.missing
        )
        return write_page(path, made)

    @property
    def _grouped_by(self) -> tuple[str, ...]:
        return tuple(grouping.column for grouping in self.mechanism.group_by)

    def _everybody(self) -> dict[str, Mapping[str, Statistic]]:
        return {**self.hospitals, "combined": self.combined}

    def _histograms(self, hospital: str) -> Iterator[tuple[str, tuple[str, ...], Cells]]:
        known = self._everybody()
        if not isinstance(hospital, str) or hospital not in known:
            raise InvalidRequest(f"No answer of {hospital!r} is here. There are those of {', '.join(known)}.")
        for query in self.mechanism.queries:
            if query.name in ("describe", "histogram"):
                for group, part in _parts(known[hospital][query.key]):
                    assert isinstance(part, Cells)
                    yield query.columns[0], group, part

    def _repr_html_(self) -> str:
        frame = self.describe().reset_index() if any(self._histograms("combined")) else self.to_frame()
        rows: Any = frame.to_dict("records")
        return Table(rows)._repr_html_()

    def __str__(self) -> str:
        lines = []
        for name, statistics in [*self.hospitals.items(), ("combined", self.combined)]:
            for key, statistic in statistics.items():
                text = str(statistic)
                lines.append(f"{name}  {key}" + (f"\n{text}" if "\n" in text else f"  {text}"))
        lines += [f"{name}: missing. {reason}" for name, reason in self.missing.items()]
        return "\n".join([*lines, charged_words(self.mechanism, self.releases)])

    __repr__ = __str__


def _parts(statistic: Statistic) -> list[tuple[tuple[str, ...], Estimate | Quantiles | Cells]]:
    """A statistic by group; of one that was not grouped, itself under no name."""
    return list(statistic) if isinstance(statistic, Grouped) else [((), statistic)]


def _rows(part: Estimate | Quantiles | Cells) -> list[dict[str, Any]]:
    if isinstance(part, Estimate):
        low, high = part.interval
        return [_row("", part.value, low, high, part.unit, part.clock)]
    if isinstance(part, Quantiles):
        return [
            _row(f"{rank:g}", value, low, high, part.unit, part.clock)
            for rank, value, (low, high) in zip(part.ranks, part.values, part.intervals, strict=True)
        ]
    return [
        _row(" / ".join(labels), part.counts[place], *part.estimate(*place).interval, "records")
        for labels, place in zip(itertools.product(*part.labels), np.ndindex(*part.counts.shape), strict=True)
    ]


def _row(cell: str, value: float, low: float, high: float, unit: str, clock: Column | None = None) -> dict[str, Any]:
    numbers = (dated(number, clock) if clock else float(number) for number in (value, low, high))
    return {"cell": cell, **dict(zip(("value", "from", "to"), numbers, strict=True)), "unit": unit}
