"""Studies that ask every hospital one analysis without a model, and what their results have in common."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

from policies.errors import InvalidRequest, WrongStatus
from policies.privacy.mechanisms import KaplanMeier, Mechanism, Regression, Statistics
from policies.privacy.secure_aggregation import SecureAggregation
from policies.release.summed import scale_of
from policies.schema.schemas import Schema
from researcher.checks import Request, sha256
from researcher.code_requests import CodeRequests
from researcher.members import Hospitals
from researcher.releases import DEADLINE, GRACE, Answers, Asked, ask_everyone, check_patience
from researcher.results import check_anybody
from researcher.rosters import NAME as ROSTER
from researcher.rosters import Wanted, label_of, roster_of
from researcher.secure_sums import SecureSum, sums_reader
from researcher.sources import request_source
from researcher.state import Tensors
from researcher.studies import AskingStudy
from researcher.table import Table


class AnalysisStudy(AskingStudy):
    """One analysis of a cohort: `check()`, `submit()`, `wait_for_approval()`, `run()`.

    Args:
      cohort: whom to ask.
      mechanism: the declared analysis.
      name: of the study; made from the question where none is given, so that the same question is the same study.
      secure_aggregation: True to read nothing but the sum over hospitals, of more than half of them; or the fewest that
        a sum may be of; or a `SharedNoise`, under which hospitals add parts of one noise.
    """

    def __init__(
        self,
        cohort: Hospitals,
        mechanism: Mechanism,
        *,
        name: str | None = None,
        purpose: str = "",
        state: Path | str | None = None,
        progress: bool = True,
        secure_aggregation: Wanted = False,
    ) -> None:
        text = request_source("question", mechanism, purpose=purpose)
        kind = mechanism.kind.replace("_", "-")
        sums = label_of(secure_aggregation)
        name = name or f"{cohort.name}-{kind}-{hashlib.sha256(text.encode()).hexdigest()[:6]}{sums}"
        super().__init__(name, cohort, purpose=purpose, state=state, progress=progress)
        if roster := roster_of(cohort, secure_aggregation, self.state):
            mechanism = in_sums(mechanism, roster, cohort.schema)
        self.mechanism = mechanism
        self.role, self.rounds = mechanism.kind, mechanism.rounds
        source = request_source(self.function, mechanism, purpose=purpose)
        asked = [Request(self.role, self.function, source, mechanism)]
        self.requests = CodeRequests(cohort, asked, self.state, purpose=purpose, name=name)

    @abstractmethod
    def result_of(self, answers: Answers) -> Any:
        """What the hospitals' answers say, where at least one has answered."""

    def run(self, *, round: int = 1, deadline: float = DEADLINE, grace: float = GRACE) -> Any:
        """Ask every hospital that approved. A round asked before is answered again at no cost.

        Raises:
          InvalidRequest: `round` is beyond those that were approved.
          WrongStatus: nothing was submitted, or another question was.
          Unavailable: nobody answered.
        """
        check_patience(deadline=deadline, grace=grace)
        if type(round) is not int or not 1 <= round <= self.rounds:
            raise InvalidRequest(
                f"round={round!r} is not from 1 to {self.rounds}, which were asked for. Ask for more with rounds=... in"
                " a new study."
            )
        if not self.requests.codes(self.role):
            raise WrongStatus(
                f"Study {self.name!r} was not submitted yet. Call submit() and wait_for_approval() first."
            )
        self.requests.check_same_study()
        with self.state.lock():
            ready, missing = self.requests.approved(self.role, unreached=True)
            with self.progress.running(self.name):
                answers = self._asked(ready, round, deadline=deadline, grace=grace)
        answers.missing = missing | self.requests.explained(self.role, answers.missing)
        check_anybody(answers)
        return self.result_of(answers)

    def submit(self, *, project: str = "") -> Table:
        """As every study's; a roster is kept in its directory, and is the same when it goes on."""
        if declared := declared_in(self.mechanism):
            self.requests.check_same_study()
            self.state.write(ROSTER, declared.as_dict())
        return super().submit(project=project)

    def _asked(self, ready: dict[str, Asked], round: int, *, deadline: float, grace: float) -> Answers:
        """What was answered, opened where it is a sum."""
        declared = declared_in(self.mechanism)
        if declared is None:
            return ask_everyone(
                ready,
                self.role,
                round,
                None,
                state=self.state,
                progress=self.progress,
                what=self.function,
                deadline=deadline,
                grace=grace,
            )
        read = sums_reader(self.mechanism, self.cohort.schema)
        source = sha256(self.requests.requests[0].source)
        secure = SecureSum(declared, source, self.role, round, {}, self.state, read=read)
        return secure.ask(ready, progress=self.progress, what=self.function, deadline=deadline, grace=grace)

    def resume(self) -> Any:
        """The same as `run()`: hospitals that have answered are not asked again."""
        return self.run()


def declared_in(mechanism: Mechanism) -> SecureAggregation | None:
    """The hospitals whose sum alone can be read; None where each releases by itself."""
    declared: SecureAggregation | None = getattr(mechanism, "secure_aggregation", None)
    return declared


def in_sums(mechanism: Mechanism, roster: SecureAggregation, schema: Schema) -> Mechanism:
    """A mechanism whose releases add up over a roster, with the public scale of its numbers.

    Raises:
      UnsupportedMechanism: it has more numbers than may leave in a sum.
    """
    assert isinstance(mechanism, Statistics | KaplanMeier | Regression)
    declared = replace(mechanism, secure_aggregation=replace(roster, scale=""))
    scale = scale_of(declared, schema)
    return replace(declared, secure_aggregation=replace(roster, scale=scale))


def tensors_of(answers: Answers) -> dict[str, Tensors]:
    """What was released, by hospital in order of name."""
    return {name: answers.releases[name].tensors for name in sorted(answers.releases)}
