"""Studies that ask for statistics, and what they give: values with standard errors, per hospital and combined."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from policies.errors import InvalidRequest, WrongStatus
from policies.privacy.mechanisms import Statistics
from researcher.checks import Request
from researcher.code_requests import CodeRequests
from researcher.estimates import Statistic, combine_statistics, read_statistics
from researcher.members import Hospitals
from researcher.releases import DEADLINE, GRACE, Answers, ask_everyone, check_patience
from researcher.results import check_anybody
from researcher.sources import request_source
from researcher.state import Release
from researcher.studies import AskingStudy


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
    """

    hospitals: Mapping[str, Mapping[str, Statistic]]
    combined: Mapping[str, Statistic]
    releases: tuple[Release, ...]
    missing: Mapping[str, str]
    epsilon: float

    def __getitem__(self, key: str) -> Statistic:
        """The combined statistic, by key. Raises `InvalidRequest` where there is none."""
        if key not in self.combined:
            raise InvalidRequest(f"There is no statistic {key!r}. There are {', '.join(self.combined)}.")
        return self.combined[key]

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
    )
