"""Studies that ask for statistics, and what they give: values with standard errors, per hospital and combined."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policies.errors import InvalidRequest, WrongStatus
from policies.privacy.mechanisms import Statistics
from researcher.checks import Request
from researcher.code_requests import CodeRequests
from researcher.described import described
from researcher.estimates import Statistic, combine_statistics, read_statistics
from researcher.figures import Cells, Estimate, Quantiles, dated
from researcher.groups import Grouped
from researcher.members import Hospitals
from researcher.releases import DEADLINE, GRACE, Answers, ask_everyone, check_patience
from researcher.results import check_anybody
from researcher.sources import request_source
from researcher.state import Release
from researcher.studies import AskingStudy
from researcher.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from policies.schema.columns import Column
    from policies.schema.schemas import Schema
    from researcher.plots import Picture


class StatisticsStudy(AskingStudy):
    """Statistics of a cohort with pure ε, made by `cohort.statistics(...)`.

    Args:
      cohort: whom to ask.
      mechanism: the declared statistics.
      name: of the study; made from the question where none is given, so that the same question is the same study.
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
    ) -> None:
        text = request_source("question", mechanism, purpose=purpose)
        name = name or f"{cohort.name}-statistics-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
        super().__init__(name, cohort, purpose=purpose, state=state, progress=progress)
        self.mechanism = mechanism
        source = request_source(self.function, mechanism, purpose=purpose)
        asked = [Request("statistics", self.function, source, mechanism)]
        self.requests = CodeRequests(cohort, asked, self.state, purpose=purpose, name=name)

    def run(self, *, round: int = 1, deadline: float = DEADLINE, grace: float = GRACE) -> StatisticsResult:
        """Ask every hospital that approved. A round asked before is answered again at no cost.

        Raises:
          InvalidRequest: `round` is beyond those that were approved.
          WrongStatus: nothing was submitted, or another question was.
        """
        check_patience(deadline=deadline, grace=grace)
        if type(round) is not int or not 1 <= round <= self.mechanism.rounds:
            raise InvalidRequest(
                f"round={round!r} is not from 1 to {self.mechanism.rounds}, which were asked for. Ask for more with"
                " rounds=... in a new study."
            )
        if not self.requests.codes("statistics"):
            raise WrongStatus(
                f"Study {self.name!r} was not submitted yet. Call submit() and wait_for_approval() first."
            )
        self.requests.check_same_study()
        with self.state.lock():
            ready, missing = self.requests.approved("statistics", unreached=True)
            with self.progress.running(self.name):
                answers = ask_everyone(
                    ready,
                    "statistics",
                    round,
                    None,
                    state=self.state,
                    progress=self.progress,
                    what=self.function,
                    deadline=deadline,
                    grace=grace,
                )
        answers.missing = missing | self.requests.explained("statistics", answers.missing)
        return statistics_of(self, answers)

    def resume(self) -> StatisticsResult:
        """The same as `run()`: hospitals that have answered are not asked again."""
        return self.run()


@dataclass(frozen=True)
class StatisticsResult:
    """Statistics per hospital and combined, each with its standard errors.

    Args:
      hospitals: by hospital, then by key as `mean/temperature`.
      combined: by key, over all hospitals that answered.
      epsilon: pure ε that each hospital charged for all of them.
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
        return "\n".join([*lines, f"ε={self.epsilon:g} was charged at each hospital."])

    __repr__ = __str__


def statistics_of(study: StatisticsStudy, answers: Answers) -> StatisticsResult:
    """Statistics from the hospitals' answers. Raises `Unavailable` where nobody answered."""
    check_anybody(answers)
    cohort, mechanism = study.cohort, study.mechanism
    patients = {name: float(cohort.sizes[name]) for name in sorted(answers.releases)}
    hospitals = {
        name: read_statistics(answers.releases[name].tensors, mechanism, cohort.schema, patients=patients[name])
        for name in patients
    }
    return StatisticsResult(
        hospitals,
        combine_statistics(hospitals, patients=patients),
        tuple(answers.releases[name] for name in patients),
        answers.missing,
        mechanism.epsilon,
        study.name,
        mechanism,
        cohort.schema,
    )


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
