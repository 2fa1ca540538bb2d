"""Studies that ask every hospital one analysis without a model, and what their results have in common."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from pathlib import Path
from typing import Any

from policies.errors import InvalidRequest, WrongStatus
from policies.privacy.mechanisms import Mechanism
from researcher.checks import Request
from researcher.code_requests import CodeRequests
from researcher.members import Hospitals
from researcher.releases import DEADLINE, GRACE, Answers, ask_everyone, check_patience
from researcher.results import check_anybody
from researcher.sources import request_source
from researcher.state import Tensors
from researcher.studies import AskingStudy


class AnalysisStudy(AskingStudy):
    """One analysis of a cohort: `check()`, `submit()`, `wait_for_approval()`, `run()`.

    Args:
      cohort: whom to ask.
      mechanism: the declared analysis.
      name: of the study; made from the question where none is given, so that the same question is the same study.
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
    ) -> None:
        text = request_source("question", mechanism, purpose=purpose)
        kind = mechanism.kind.replace("_", "-")
        name = name or f"{cohort.name}-{kind}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
        super().__init__(name, cohort, purpose=purpose, state=state, progress=progress)
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
                answers = ask_everyone(
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
        answers.missing = missing | self.requests.explained(self.role, answers.missing)
        check_anybody(answers)
        return self.result_of(answers)

    def resume(self) -> Any:
        """The same as `run()`: hospitals that have answered are not asked again."""
        return self.run()


def tensors_of(answers: Answers) -> dict[str, Tensors]:
    """What was released, by hospital in order of name."""
    return {name: answers.releases[name].tensors for name in sorted(answers.releases)}
