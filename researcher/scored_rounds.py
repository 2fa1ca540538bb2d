"""Score the joint model after every so many rounds of a study, and end the study where its rule says so.

A point is closed once its hospitals were asked, and what it was closed with is written down, as rounds are: an
interrupted study replays its points from its directory and ends where it ended, and no point is asked or paid twice.
That a study has ended is written before anything goes back to a budget: it never goes on after that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from policies.errors import InvalidRequest, Unavailable
from policies.numbers import counted
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.release.tensors import digest
from policies.schema.schemas import Schema
from researcher.checks import sha256
from researcher.code_requests import CodeRequests
from researcher.curves import LearningCurve, Point, Rule, judged
from researcher.flower_turns import others_turn
from researcher.progress import Progress
from researcher.releases import DEADLINE, GRACE, Answers, ask_everyone
from researcher.results import evaluation_of
from researcher.secure_sums import SecureSum, sums_reader
from researcher.state import Tensors

ROLE = "curve"
ENDED = "ended"


def points_of(training: DPSGD, every: int) -> int:
    """How many points a curve has. Raises `InvalidRequest` where `every` leaves none."""
    if type(every) is not int or not 1 <= every <= training.rounds:
        raise InvalidRequest(f"every={every!r} is outside [1, {training.rounds}], the rounds of this training.")
    return training.rounds // every


def told(purpose: str, function: str, every: int) -> str:
    """A curve's purpose, for owners: a study's own, and what its scores are for."""
    after = "each round" if every == 1 else f"each {every} rounds"
    return f"{' '.join(purpose.split())} A learning curve: scores the model after {after} of {function}.".strip()


@dataclass
class ScoredRounds:
    """Called after each round with its aggregate; True ends the study.

    Args:
      requests: the study's.
      mechanism: the curve's, with a round for each point.
      every: rounds from one point to the next.
      rule: why it ends, read from the points so far; None for never.
    """

    requests: CodeRequests
    mechanism: Evaluation
    every: int
    rounds: int
    schema: Schema
    progress: Progress
    rule: Rule | None = None
    deadline: float = DEADLINE
    grace: float = GRACE
    points: list[Point] = field(default_factory=list)

    @property
    def curve(self) -> LearningCurve:
        """The points so far."""
        return LearningCurve(tuple(self.points), self.mechanism, self.schema)

    @property
    def ended(self) -> str:
        """Why the study ended before its last round, and when; "" where it did not."""
        kept = self.requests.state.read(ENDED)
        return f"After round {kept['round']} of {self.rounds}: {kept['why']}" if kept else ""

    def __call__(self, number: int, weights: Tensors) -> bool:
        """Score the aggregate of round `number` where a point is due; whether the study ends here."""
        kept = self.requests.state.read(ENDED)
        if number % self.every == 0:
            with others_turn():
                self.points.append(self._point(number, weights))
            if not kept and self.rule is not None and number < self.rounds and (why := judged(self.rule, self.curve)):
                kept = {"round": number, "why": why}
                self.requests.state.write(ENDED, kept)
                self.progress.say(f"Training ends after round {number} of {self.rounds}. {why}")
        return bool(kept) and number >= int(kept["round"])

    def _point(self, number: int, weights: Tensors) -> Point:
        state, sent, name = self.requests.state, digest(weights), f"curve/{number:04d}"
        closed = state.read(name)
        if closed:
            answers = self._replayed(closed, number, weights, sent)
        else:
            if any(not np.isfinite(value).all() for value in weights.values()):
                return Point(number, None, {"all": "the model's weights are not finite."})
            answers = self._asked(number, weights)
            facts = {"answered": sorted(answers.releases), "missing": answers.missing, "weights_digest": sent}
            state.write(name, facts)
        scores = evaluation_of(answers, self.mechanism, None, self.schema) if answers.releases else None
        return Point(number, scores, answers.missing)

    def _asked(self, number: int, weights: Tensors) -> Answers:
        """Scores of a point. Too few of those that are read in a sum alone raise `Unavailable`, and it stays open."""
        ready, missing = self.requests.approved(ROLE)
        what = f"scores {number}/{self.rounds}"
        secure = self._sum(number, weights)
        if secure is not None:
            answers = secure.ask(ready, progress=self.progress, what=what, deadline=self.deadline, grace=self.grace)
        else:
            answers = ask_everyone(
                ready,
                ROLE,
                number // self.every,
                weights,
                state=self.requests.state,
                progress=self.progress,
                what=what,
                deadline=self.deadline,
                grace=self.grace,
            )
        answers.missing = missing | self.requests.explained(ROLE, answers.missing)
        return answers

    def _sum(self, number: int, weights: Tensors) -> SecureSum | None:
        """The sum that a point's scores are read in, where they are read in it alone."""
        declared = self.mechanism.secure_aggregation
        if declared is None:
            return None
        (source,) = (request.source for request in self.requests.requests if request.role == ROLE)
        read = sums_reader(self.mechanism, self.schema)
        state = self.requests.state
        return SecureSum(declared, sha256(source), ROLE, number // self.every, weights, state, read=read)

    def _replayed(self, closed: dict[str, Any], number: int, weights: Tensors, sent: str) -> Answers:
        state, answers = self.requests.state, Answers(missing=dict(closed["missing"]))
        for hospital in closed["answered"]:
            release = state.release(ROLE, hospital, number // self.every, str(closed["weights_digest"]))
            if release is None or closed["weights_digest"] != sent:
                raise Unavailable(
                    f"The scores of {hospital} after round {number} are gone from {state.directory}, or are of other "
                    f"weights. Remove curve/{number:04d}.json there and resume: the hospital gives the same release at "
                    "no cost."
                )
            answers.releases[hospital] = release
        if self.mechanism.secure_aggregation is not None and answers.releases:
            secure = self._sum(number, weights)
            assert secure is not None
            answers.mean = secure.mean(answers.releases)  # opened again
        return answers

    def words_of_end(self, function: str) -> str:
        """What owners read when unused rounds go back."""
        ended = self.ended or f"All {counted(self.rounds, 'round')} of {function} are over."
        return f"The study has ended. {ended} What no run has used goes back to the budget."
