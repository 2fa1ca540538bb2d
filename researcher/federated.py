"""Rounds of federated training: Flower's own loop and strategies, over a Grid whose nodes are hospitals' datasites.

    for each round:   sample hospitals → send weights → each runs its approved round → aggregate → repeat

A round is closed once a quorum has answered, and what it was closed with is written down. An interrupted study replays
Flower's loop from round 1 with the same seed: closed rounds are answered from the study's directory, so that a
strategy's own state comes out the same, and nothing is paid twice.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MessageType, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp.grid import Grid
from flwr.serverapp.strategy import Strategy

from policies.errors import DatasiteError, InvalidRequest, Unavailable, WrongStatus
from policies.privacy.mechanisms import DPSGD
from policies.privacy.secure_aggregation import SecureAggregation
from policies.release.tensors import digest
from researcher.checks import named, sha256
from researcher.code_requests import NOT_REACHED, CodeRequests
from researcher.compression import Carried
from researcher.flower_turns import flower_turn, others_turn
from researcher.late_releases import STILL_RUNNING, Late, moved_late
from researcher.progress import Progress
from researcher.releases import DEADLINE, GRACE, Answers, Asked, Closing, ask_everyone, together
from researcher.secure_sums import SecureSum
from researcher.state import Tensors
from researcher.strategies import quorum_of, setting_of
from researcher.transport import ANSWER_SECONDS

AS_BEGUN = "Resume with the strategy, options and seed that it was begun with, or begin a study with another name."


@dataclass(frozen=True)
class RoundRecord:
    """One closed round: whose releases were aggregated, and why the others are missing.

    Args:
      round: from 1.
      offered: hospitals that could be sampled.
      answered: seconds by hospital.
      missing: reason by hospital; hospitals that the strategy did not sample are not missing.
      weights_digest: of the weights that were sent.
      sent_bytes, received_bytes: by hospital, bodies of calls; of a release that was kept before, nothing.
      late: of those that answered, the earlier round that a release is of, by hospital.
      running: of those that did not, the round that each still runs, by hospital.
    """

    round: int
    offered: tuple[str, ...]
    answered: dict[str, float]
    missing: dict[str, str]
    weights_digest: str
    sent_bytes: dict[str, int] = field(default_factory=dict)
    received_bytes: dict[str, int] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "offered": list(self.offered)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RoundRecord:
        """The record that `as_dict` wrote."""
        return cls(**{**data, "offered": tuple(data["offered"])})


class HospitalGrid(Grid):  # type: ignore[misc]  # Flower's types are not followed
    """A Grid for strategies alone: they ask who is there, and send and receive a round at a time."""

    # What Flower's strategies do not call, but a Grid must have.
    def set_run(self, run: Any) -> None:
        """Nothing: a study is not one of Flower's runs."""

    @property
    def run(self) -> Any:
        """Raises: a study is not one of Flower's runs."""
        raise NotImplementedError("A study is not a Flower run.")

    def create_message(self, *arguments: Any, **options: Any) -> Message:
        """Raises: strategies make their messages themselves."""
        raise NotImplementedError("Make a flwr.app.Message.")

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Raises: a round is sent and received in one call."""
        raise NotImplementedError("Use send_and_receive.")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Raises: a round is sent and received in one call."""
        raise NotImplementedError("Use send_and_receive.")


@dataclass
class DatasiteGrid(HospitalGrid):
    """Flower's way to the hospitals: a node is a hospital, a message to it is one round of its approved request.

    Args:
      requests: the study's.
      strategy: tells the quorum: `min_train_nodes`, and `min_available_nodes` to begin a round.
      rounds: in all.
      seed: of the sampling of hospitals.
      begin: called before a hospital is first asked, and not where all is answered from the study's directory.
      keep: how many of the weights that were sent are kept in `sent`, by round: the newest.
      buffer: how many answers close a round (`researcher.late_releases`); None to wait for all until the deadline.
    """

    requests: CodeRequests
    strategy: Strategy
    rounds: int
    seed: int
    progress: Progress
    deadline: float = DEADLINE
    grace: float = GRACE
    begin: Callable[[], None] = lambda: None
    keep: int = 0
    buffer: int | None = None
    closed: list[RoundRecord] = field(default_factory=list)
    sent: dict[int, Tensors] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sizes = self.requests.training_patients()
        self._request = next(request for request in self.requests.requests if request.role == "training")
        self._declared: SecureAggregation | None = getattr(self._request.mechanism, "secure_aggregation", None)
        self._carried = Carried(self.requests.approved_training(), self._sizes)
        self._hospitals = sorted(self._sizes)  # a hospital's node number is its place here, from 1
        self._ready: dict[str, Asked] = {}
        self._left_out: dict[str, str] = {}
        self._offered: list[str] = []
        self._late = Late()
        self._begun: dict[int, Tensors] = {}  # what late releases of the round that was closed last began from
        self._away: set[str] = set()  # not reached the last time
        self._sound: set[str] = set()  # answered last time, so that asking after it again can be spared

    def get_node_ids(self) -> list[int]:
        """Hospitals that can be sampled now; waits for `min_available_nodes` of them until the deadline."""
        kept = self._kept(len(self.closed) + 1)
        with others_turn():
            self._offered = list(kept.offered) if kept else self._available()
        # Flower samples from the global generator just after this call, in its turn.
        random.seed(f"{self.seed}/{len(self.closed) + 1}")
        np.random.seed(self._noise_seed(len(self.closed) + 1))  # of wrappers that add noise
        return [self._hospitals.index(name) + 1 for name in self._offered]

    def _noise_seed(self, number: int) -> list[int]:
        """What a strategy's own noise is drawn from: the same when a round is replayed, and kept in the study alone."""
        if not (kept := self.requests.state.read("strategy_noise")):
            kept = {"seed": secrets.token_hex(32)}
            self.requests.state.write("strategy_noise", kept)
        drawn = hashlib.sha256(f"{kept['seed']}/{number}".encode()).digest()
        return [int.from_bytes(drawn[place : place + 4]) for place in range(0, len(drawn), 4)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """One round: the replies, in order of hospital so that sums come out the same on every replay."""
        messages = sorted(messages, key=lambda message: message.metadata.dst_node_id)
        if not messages:
            return []
        if not is_training(messages[0]):
            reason = "Hospitals score a model only as an approved evaluation: use result.evaluate()."
            return [left_out(message, reason) for message in messages]
        asked = {self._hospitals[message.metadata.dst_node_id - 1]: message for message in messages}
        number = len(self.closed) + 1
        weights, half = self._carried.sent(weights_of(messages[0], number - 1), number)
        answers = self._round(list(asked), weights, half)
        return [self._reply(message, name, answers, weights) for name, message in asked.items()]

    def _round(self, hospitals: list[str], weights: Tensors, half: bool) -> Answers:
        number, sent = len(self.closed) + 1, digest(weights)
        what = f"round {number}/{self.rounds}"
        if kept := self._kept(number):
            record, answers = kept, self._replayed(kept, sent)
            if secure := self._secure_sum(number, weights):
                answers.mean = secure.mean(answers.releases)
            self.progress.hospital(what, "all", "closed before")
        else:
            self._check_asked_before(number, sent)
            self.begin()
            ready = {name: self._ready[name] for name in hospitals if name in self._ready}
            with others_turn():
                answers = self._ask(ready, number, weights, what, half)
            self._sound, self._away = set(answers.releases), answers.away
            running = self._running(answers, number)
            reached = set(answers.missing) - answers.away
            missing = self._left_out | self.requests.explained(
                "training", answers.missing, ask=reached, silence=self._silence()
            )
            answers.missing = missing
            self._check_quorum(number, len(answers.releases), missing)
            sent_bytes = {name: traffic.sent for name, traffic in answers.traffic.items()}
            received = {name: traffic.received for name, traffic in answers.traffic.items()}
            record = RoundRecord(
                number,
                tuple(self._offered),
                answers.seconds,
                missing,
                sent,
                sent_bytes,
                received,
                {name: release.round for name, release in answers.releases.items() if release.round != number},
                running,
            )
            self.requests.state.write(f"rounds/{number:04d}", record.as_dict())
        self._begun = dict(self._late.weights)
        self._late.close(number, weights, record.running)
        self.closed.append(record)
        self.sent[number] = weights
        self.sent.pop(number - self.keep, None)
        return answers

    def _ask(self, ready: dict[str, Asked], number: int, weights: Tensors, what: str, half: bool) -> Answers:
        if secure := self._secure_sum(number, weights):
            return secure.ask(ready, progress=self.progress, what=what, deadline=self.deadline, grace=self.grace)
        if self.buffer is None:
            return self._ask_round(ready, number, weights, what, half)
        closing, late = Closing(self.buffer), self._late.among(ready)
        fresh = [name for name in ready if name not in self._late.rounds]
        parts = [(number, weights, half, fresh)]
        for round, names in late.items():
            begun, as_half = self._carried.sent(self._late.weights[round], round)
            parts.append((round, begun, as_half, names))

        def ask(part: tuple[int, Tensors, bool, list[str]]) -> Answers:
            round, begun, as_half, names = part
            return self._ask_round({name: ready[name] for name in names}, round, begun, what, as_half, closing)

        with ThreadPoolExecutor(max_workers=len(parts)) as pool:
            return together(pool.map(ask, parts))

    def _ask_round(
        self,
        ready: dict[str, Asked],
        number: int,
        weights: Tensors,
        what: str,
        half: bool,
        closing: Closing | None = None,
    ) -> Answers:
        return ask_everyone(
            ready,
            "training",
            number,
            weights,
            state=self.requests.state,
            progress=self.progress,
            what=what,
            deadline=self.deadline,
            grace=self.grace,
            half=half,
            closing=closing,
        )

    def _running(self, answers: Answers, number: int) -> dict[str, int]:
        """Which round each hospital still runs after this one, where late releases are waited for."""
        if self.buffer is None:
            return {}
        late = self._late.rounds
        over = set(answers.releases) | (set(answers.missing) - answers.running - answers.away)  # released, or failed
        running = {name: round for name, round in late.items() if name not in over}
        running |= {name: number for name in answers.running if name not in late}
        answers.missing |= {name: STILL_RUNNING.format(round=running[name]) for name in answers.running - answers.away}
        return running

    def _secure_sum(self, number: int, weights: Tensors) -> SecureSum | None:
        """The round's, where hospitals release in sums alone."""
        if self._declared is None:
            return None
        source, training = sha256(self._request.source), self._request.mechanism
        assert isinstance(training, DPSGD)
        return SecureSum(self._declared, source, "training", number, weights, self.requests.state, training=training)

    def _check_asked_before(self, number: int, sent: str) -> None:
        """Raise `WrongStatus` where a hospital has released this round already, for other weights."""
        for name in self._hospitals:
            kept = self.requests.state.asked_with("training", name, number)
            if kept and kept != sent:
                raise WrongStatus(
                    f"Round {number} was asked of {name} with other weights than this strategy sends now. {AS_BEGUN}"
                )

    def _kept(self, number: int) -> RoundRecord | None:
        data = self.requests.state.read(f"rounds/{number:04d}")
        return RoundRecord.from_dict(data) if data else None

    def _replayed(self, kept: RoundRecord, sent: str) -> Answers:
        if kept.weights_digest != sent:
            raise WrongStatus(
                f"Round {kept.round} was closed with other weights than this strategy sends now. {AS_BEGUN}"
            )
        answers = Answers(missing=dict(kept.missing))
        for name, seconds in kept.answered.items():
            round = kept.late.get(name, kept.round)
            asked = sent if round == kept.round else digest(self._late.weights[round])
            release = self.requests.state.release("training", name, round, asked)
            if release is None:
                raise Unavailable(
                    f"The release of {name} in round {round} is gone from {self.requests.state.directory}. Remove "
                    f"rounds/{kept.round:04d}.json there and resume: the hospital gives the same release at no cost."
                )
            answers.releases[name], answers.seconds[name] = release, seconds
        return answers

    def _available(self) -> list[str]:
        """Approved hospitals that answer. Raises `Unavailable` when a quorum cannot be had before the deadline."""
        number, needed = (
            len(self.closed) + 1,
            max(int(setting_of(self.strategy, "min_available_nodes", 1)), self._quorum()),
        )
        started, pause, announced = time.monotonic(), 0.5, False
        while True:
            if not self._ready or self._left_out or self._sound != set(self._ready):
                self._ready, self._left_out = self.requests.approved(
                    "training",
                    silence=self._silence(),
                    lately_away=self._lately_away() if self.buffer and not announced else (),
                )
            names = [name for name in self._hospitals if name in self._ready]
            if len(names) >= needed:
                return names
            may_come = any(reason.startswith(NOT_REACHED) for reason in self._left_out.values())
            if not may_come or time.monotonic() - started > self.deadline:
                self._refuse(number, len(names), needed, self._left_out)
            if not announced:
                self.progress.say(
                    f"Round {number} waits for {needed} hospitals, {self.deadline:g} s at most; {len(names)} can take"
                    f" part now. Missing: {_reasons(self._left_out)}"
                )
                announced = True
            time.sleep(pause)
            pause = min(5.0, pause * 1.5)

    def _lately_away(self) -> set[str]:
        """Hospitals that were not reached in the last round, or not when it began."""
        return self._away | {name for name, reason in self._left_out.items() if reason.startswith(NOT_REACHED)}

    def _silence(self) -> float:
        """How long a hospital that stands still may hold up a call: `grace` where rounds do not wait for everybody."""
        return ANSWER_SECONDS if self.buffer is None else self.grace

    def _quorum(self) -> int:
        return max(quorum_of(self.strategy), self._declared.threshold if self._declared else 1)

    def _check_quorum(self, number: int, answered: int, missing: dict[str, str]) -> None:
        if answered < self._quorum():
            self._refuse(number, answered, self._quorum(), missing)

    def _refuse(self, number: int, got: int, needed: int, missing: dict[str, str]) -> None:
        raise Unavailable(
            f"Round {number} of {self.rounds} has {got} of the {needed} hospitals that it needs. Missing: "
            f"{_reasons(missing)} Call study.resume() when they can take part: closed rounds and settled releases "
            "are not paid for again. Or go on with fewer: study.resume(min_train_nodes=1).",
            round=number,
            missing=dict(missing),
        )

    def _reply(self, message: Message, name: str, answers: Answers, weights: Tensors) -> Message:
        if name not in answers.releases:
            return left_out(message, answers.missing.get(name, "left out"))
        if answers.mean is not None:
            return released(message, answers.mean, self._sizes[name])
        release, number = answers.releases[name], len(self.closed)
        begun = weights if release.round == number else self._begun[release.round]
        tensors = self._carried.received(name, release.tensors, begun, release.round)
        if release.round != number:
            tensors = moved_late(tensors, begun, weights, number - release.round)
        return released(message, tensors, self._sizes[name])


def _reasons(missing: dict[str, str]) -> str:
    """Who is missing, each with its reason, in a sentence or more."""
    return " ".join(named(name, reason) for name, reason in sorted(missing.items())) or "nobody."


After = Callable[[int, Tensors], bool]
"""Hears of a round that is closed and of its aggregate; True ends the training there."""


class _Ended(Exception):
    """Training ends with these weights."""

    def __init__(self, weights: Tensors) -> None:
        self.weights = weights


def run_rounds(grid: DatasiteGrid, initial: Tensors, *, after: After | None = None) -> Tensors:
    """Run the strategy over `grid` and return the last aggregate.

    Args:
      after: called after each round, which may end the training.

    Raises:
      InvalidRequest: the strategy failed; what was closed is kept.
    """
    with grid.progress.running(f"{type(grid.strategy).__name__}, {grid.rounds} rounds"):
        try:
            arrays = start(grid.strategy, grid, initial, rounds=grid.rounds, timeout=grid.deadline, after=after)
        except DatasiteError:
            raise
        except (Exception, SystemExit) as error:  # whatever Flower or a strategy of the researcher's own raises
            raise InvalidRequest(
                f"{type(grid.strategy).__name__} failed after {len(grid.closed)} of {grid.rounds} closed rounds: "
                f"{type(error).__name__}: {error}. Mend it, and go on with study.resume(strategy=...): closed rounds "
                "and settled releases are not paid for again."
            ) from error
    if arrays is None:
        raise Unavailable("The strategy aggregated nothing. See the rounds in the study's directory.")
    return arrays


def start(
    strategy: Strategy,
    grid: HospitalGrid,
    initial: Tensors,
    *,
    rounds: int,
    timeout: float,
    after: After | None = None,
    train_config: ConfigRecord | None = None,
) -> Tensors | None:
    """Flower's loop: the last aggregate with the names of `initial`, or None. Its log is quiet, its telemetry off."""

    def heard(number: int, arrays: ArrayRecord) -> None:
        weights = _named_as(initial, arrays)
        if number and after is not None and after(number, weights):
            raise _Ended(weights)

    listening: dict[str, Any] = {"evaluate_fn": heard} if after is not None else {}
    if train_config is not None:
        listening["train_config"] = train_config
    arrays = ArrayRecord({name: _array(initial[name]) for name in sorted(initial)})  # in one order, also when resumed
    with flower_turn(), aggregating(strategy):
        try:
            result = strategy.start(grid=grid, initial_arrays=arrays, num_rounds=rounds, timeout=timeout, **listening)
        except _Ended as ended:
            return ended.weights
    return _named_as(initial, result.arrays) if result.arrays else None


@contextmanager
def aggregating(strategy: Strategy) -> Iterator[None]:
    """While this is held, a round that `strategy` aggregates to nothing raises `Unavailable`."""
    before = vars(strategy).copy()
    strategy.aggregate_train = functools.partial(_something, strategy.aggregate_train)
    try:
        yield
    finally:
        if "aggregate_train" in before:
            strategy.aggregate_train = before["aggregate_train"]
        else:
            del strategy.aggregate_train


def _named_as(initial: Tensors, arrays: ArrayRecord) -> Tensors:
    return {name: np.asarray(arrays[name].numpy(), dtype=np.float32) for name in initial}


def _something(aggregate: Callable[[int, Any], tuple[Any, Any]], number: int, replies: Any) -> tuple[Any, Any]:
    """What a strategy aggregates. Raises `Unavailable` where that is nothing: the next round would send the same."""
    replies = list(replies)
    arrays, metrics = aggregate(number, replies)
    if replies and not arrays:
        raise Unavailable(
            f"The strategy aggregated nothing in round {number}. Where it needs the answers of every hospital that it "
            "asks, min_train_nodes says so before they are asked. Go on with another one, as study.run('FedAvg'): the "
            "releases of this round are kept and not paid for again."
        )
    return arrays, metrics


def is_training(message: Message) -> bool:
    """Whether a message asks for training, and not for an evaluation."""
    return str(message.metadata.message_type).partition(".")[0] == str(MessageType.TRAIN)


def left_out(message: Message, reason: str) -> Message:
    """The reply of a hospital that does not answer."""
    return Message(Error(ErrorCode.NODE_UNAVAILABLE, reason), reply_to=message)


def released(message: Message, tensors: Tensors, patients: int) -> Message:
    """The reply of a hospital that has released, weighed by its published number of patients."""
    # A strategy reads its arrays by the name that it gave them, in the order in which it sent them; a release that was
    # kept has another one.
    ((key, sent),) = message.content.array_records.items()
    ordered = [*(str(name) for name in sent if str(name) in tensors), *(name for name in tensors if name not in sent)]
    content = {
        key: ArrayRecord({name: _array(np.asarray(tensors[name])) for name in ordered}),
        "metrics": MetricRecord({"num-examples": patients}),
    }
    return Message(RecordDict(content), reply_to=message)


def weights_of(message: Message, closed: int) -> Tensors:
    """The float32 weights of a message. Raises `InvalidRequest` where they are not finite: a hospital would refuse."""
    records = list(message.content.array_records.values())
    if len(records) != 1:
        raise InvalidRequest(f"it sends {len(records)} sets of arrays, and hospitals take the model's weights alone.")
    (record,) = records
    weights = {str(name): np.ascontiguousarray(value.numpy(), dtype=np.float32) for name, value in record.items()}
    if any(not np.isfinite(value).all() for value in weights.values()):
        raise InvalidRequest(
            f"The aggregate of round {closed} is not finite: training diverged. Begin a study with a smaller "
            "learning_rate or clipping_norm."
        )
    return weights


def _array(value: np.ndarray[Any, Any]) -> Any:
    from flwr.app import Array

    return Array(np.ascontiguousarray(value))
