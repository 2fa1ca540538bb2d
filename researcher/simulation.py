"""A study at thousands of simulated hospitals, in this process: what its strategy, mechanism and budgets would come to.

The study's own model, declared training and strategy run as they are, Flower's loop included. Simulated are patients
(`researcher.simulated_patients`), owners who deny, budgets that others have spent from, hospitals that do not answer
and hospitals that answer too late. Charges are the ledger's: the same divergence of each round, in the same whole
numbers, reserved at approval and settled by each release. Nobody is asked and nothing is charged.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from flwr.app import Message
from flwr.serverapp.strategy import Strategy

from policies.errors import InvalidRequest, Unavailable
from policies.numbers import counted
from policies.privacy.accountant import best_order, charge_for, conversion, resolve
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import DPSGD, check_range
from policies.privacy.nano import NANO, nano_down, nano_up
from policies.privacy.outcomes import Outcome, outcome_of
from policies.release.compression import compress
from policies.schema.schemas import Schema
from researcher.averaging import average
from researcher.compression import Carried
from researcher.federated import HospitalGrid, is_training, left_out, released, start, weights_of
from researcher.late_releases import moved_late
from researcher.simulated_patients import Patients, Rows, Source, encoded
from researcher.simulated_training import Hospitals, Train, Trainer, record_loss
from researcher.state import Tensors
from researcher.strategies import check_offered, make_strategy, quorum_of
from researcher.studies import Study
from researcher.table import Table

if TYPE_CHECKING:
    import pandas as pd

MOST_HOSPITALS, MOST_NUMBERS = 100_000, 2**29
"""Hospitals, and numbers of all their patients together: 2 GiB."""
SCORED_AT = 100  # hospitals whose held-out patients a model is scored on
BUDGET = PrivacyBudget(6.0, 1e-5)
ENGINES = ("process", "ray")


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong, as chances.

    Args:
      denying: that an owner denies the request.
      dropping: that a hospital does not answer in a round. Nothing is charged.
      straggling: that its release of a round comes after the deadline. It is charged, and left out, or enters the next.
      spent: the largest share of a hospital's budget that others have spent before; uniform from 0.
    """

    denying: float = 0.02
    dropping: float = 0.05
    straggling: float = 0.03
    spent: float = 0.9

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_range(name, value, 0, 1)


@dataclass(frozen=True)
class SimulatedRound:
    """One round: how many hospitals were asked, and what came of it.

    Args:
      score: AUC on held-out patients where there are two classes, else accuracy or, of numbers, the mean loss.
      seconds: that it took here.
    """

    round: int
    asked: int
    answered: int
    dropped: int
    late: int
    score: float | None
    seconds: float


class Filters:
    """A budget at each hospital, as its ledger keeps it: whole nano-nats at the population's order.

    Args:
      used: of each hospital's divergence before the study.
    """

    def __init__(self, budget: PrivacyBudget, used: Sequence[int] | npt.NDArray[np.int64]) -> None:
        self.order = best_order(budget)
        self.conversion = max(0, nano_up(conversion(self.order, budget.delta)))
        self.capacity = nano_down(budget.epsilon) - self.conversion
        self.settled = np.array(used, dtype=np.int64)
        self.reserved = np.zeros(len(used), dtype=np.int64)

    def reserve(self, hospital: int, divergence: int) -> bool:
        """Whether so much more fits, which is then kept for it."""
        if self.settled[hospital] + self.reserved[hospital] + divergence > self.capacity:
            return False
        self.reserved[hospital] += divergence
        return True

    def settle(self, hospitals: Sequence[int], divergence: int) -> None:
        """A release at each of them: what was kept is spent."""
        self.reserved[hospitals] -= divergence
        self.settled[hospitals] += divergence

    def epsilon_spent(self) -> npt.NDArray[np.float64]:
        """ε of each hospital's budget that is used up by releases; 0 where there were none."""
        return np.where(self.settled > 0, self.settled + self.conversion, 0) / NANO


@dataclass
class SimulatedGrid(HospitalGrid):
    """Flower's way to simulated hospitals, numbered from 1."""

    train: Train
    mechanism: DPSGD
    patients: Sequence[int]
    approved: Sequence[int]
    filters: Filters
    divergence: int
    faults: Faults
    quorum: int
    carried: Carried
    generator: np.random.Generator
    keeps_late: bool = False
    told: list[dict[str, Any]] = field(default_factory=list)
    still: dict[int, int] = field(default_factory=dict)
    """Of hospitals whose release is late, the round that it is of."""
    sent: dict[int, Tensors] = field(default_factory=dict)

    def get_node_ids(self) -> list[int]:
        """Every hospital that approved."""
        random.seed(int(self.generator.integers(2**62)))
        np.random.seed(int(self.generator.integers(2**32)))  # of wrappers that add noise
        return [hospital + 1 for hospital in self.approved]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """One round: releases of those who answer in time."""
        messages = sorted(messages, key=lambda message: message.metadata.dst_node_id)
        if not messages or not is_training(messages[0]):
            return [left_out(message, "not asked") for message in messages]
        number = len(self.told) + 1
        weights, _ = self.carried.sent(weights_of(messages[0], number - 1), number)
        asked = np.array([message.metadata.dst_node_id - 1 for message in messages])
        chances = self.generator.random((2, len(asked)))
        dropped = chances[0] < self.faults.dropping
        before = np.isin(asked, list(self.still))  # they run an earlier round, which was charged, and are done with it
        late = ~dropped & ~before & (chances[1] < self.faults.straggling)
        self.filters.settle(asked[~dropped & ~before], self.divergence)  # what is too late was released all the same
        answering = [int(hospital) for hospital in asked[~dropped & ~late]]
        begun = {hospital: self.still.pop(hospital, number) for hospital in answering}
        if self.keeps_late:
            self.still |= {int(hospital): number for hospital in asked[late]}
        self.sent[number] = weights
        self.told.append(
            {"asked": len(asked), "answered": len(answering), "dropped": int(dropped.sum()), "late": int(late.sum())}
        )
        if len(answering) < self.quorum:
            raise Unavailable(
                f"Round {number} has {len(answering)} of the {counted(self.quorum, 'hospital')} that it needs:"
                f" {int(dropped.sum())} did not answer and {int(late.sum())} came late. Ask for a smaller quorum."
            )
        releases = self._releases(begun, number)
        self.sent = {round: sent for round, sent in self.sent.items() if round in self.still.values()}
        return [
            released(message, releases[hospital], self.patients[hospital])
            if (hospital := message.metadata.dst_node_id - 1) in releases
            else left_out(message, "did not answer in time")
            for message in messages
        ]

    def _releases(self, begun: Mapping[int, int], number: int) -> Mapping[int, Tensors]:
        """Releases of hospitals by the round that each has run."""
        releases: dict[int, Tensors] = {}
        for round in sorted(set(begun.values())):
            released = self._of_round([hospital for hospital, its in begun.items() if its == round], round)
            if round != number:
                sent, now = self.sent[round], self.sent[number]
                released = {name: moved_late(tensors, sent, now, number - round) for name, tensors in released.items()}
            releases |= released
        return releases

    def _of_round(self, hospitals: Sequence[int], round: int) -> dict[int, Tensors]:
        weights, mechanism = self.sent[round], self.mechanism
        trained = self.train(hospitals, weights, round)
        if mechanism.compression == "none":
            return dict(zip(hospitals, trained, strict=True))
        carried = {}
        for hospital, tensors in zip(hospitals, trained, strict=True):
            whole = compress(tensors, weights, mechanism, self.patients[hospital], round)
            carried[hospital] = self.carried.received(str(hospital), whole, weights, round)
        return carried


@dataclass(frozen=True)
class Simulation:
    """What a simulated study came to.

    Args:
      hospitals: how many were simulated; `approved` of them took part.
      denied, without_budget: those that did not, by their owner or by their ledger.
      epsilon: of the whole training, at each hospital.
      spent: ε that each approved hospital's budget has spent, before and in the study; `budget` in all.
      weights: of the joint model.
      megabytes: of memory that this process held at most.
    """

    hospitals: int
    approved: int
    denied: int
    without_budget: int
    epsilon: float
    budget: PrivacyBudget
    rounds: tuple[SimulatedRound, ...]
    spent: npt.NDArray[np.float64] = field(repr=False)
    weights: Tensors = field(repr=False)
    score: float | None = None
    measure: str = ""
    megabytes: float = 0.0

    @property
    def table(self) -> Table:
        """One row per round."""
        return Table(
            [
                {
                    "round": told.round,
                    "asked": told.asked,
                    "answered": told.answered,
                    "no answer": told.dropped,
                    "late": told.late,
                    self.measure or "score": told.score,
                    "seconds": told.seconds,
                }
                for told in self.rounds
            ]
        )

    def __str__(self) -> str:
        low, middle, high = np.quantile(self.spent, [0, 0.5, 1]) if len(self.spent) else (0.0, 0.0, 0.0)
        took_part = (
            f"{self.hospitals:,} simulated hospitals: {self.approved:,} took part, {self.denied:,} owners denied, at"
            f" {self.without_budget:,} the budget did not hold ε = {self.epsilon:.3g}."
        )
        spent = (
            f"Budgets of those who took part have spent ε = {low:.3g} at least, {middle:.3g} in the middle,"
            f" {high:.3g} at most, of {self.budget.epsilon:g} at δ = {self.budget.delta:g}."
        )
        lines = [took_part, str(self.table), spent]
        if self.score is not None:
            lines.append(f"The joint model has {self.measure} {self.score:.3f} on held-out simulated patients.")
        memory = f" {self.megabytes:,.0f} MB of memory at most." if self.megabytes else ""
        lines.append(f"Nobody was asked and nothing was charged.{memory}")
        return "\n".join(lines)

    __repr__ = __str__


def simulate(
    study: object,
    *,
    hospitals: int = 1000,
    patients: int = 500,
    strategy: str | Strategy | None = None,
    faults: Faults | None = None,
    budget: PrivacyBudget = BUDGET,
    table: pd.DataFrame | None = None,
    population: Patients | None = None,
    late: bool = False,
    seed: int = 0,
    engine: str = "process",
    **options: Any,
) -> Simulation:
    """Run a study of a model over simulated hospitals.

    Args:
      study: as a file makes it. What it has asked for, and its directory, are not touched.
      hospitals: 1 to 100,000.
      patients: in the middle of the hospitals; sizes are spread around it by a factor of about two, 20 at least.
      strategy, options: as in `study.run`.
      faults: what goes wrong; as `Faults()` has it where none are given.
      budget: of each hospital.
      table: public rows, from which each hospital's patients are drawn, with the columns of the schema.
      population: a function that gives a hospital's patients, instead.
      late: whether a release that is late enters the aggregate of the next round, as with `study.run(buffer=...)`.
      seed: same seed, same simulation, on the same engine.
      engine: `"process"`, many hospitals at once in this one, or `"ray"`, each by itself on Flower's simulation engine,
        where Ray is installed.

    Raises:
      InvalidRequest: the study or an argument cannot be simulated; says what can.
      Unavailable: a round had fewer answers than the strategy's quorum.
    """
    if not isinstance(study, Study):
        raise InvalidRequest("Only studies that train a model are simulated: give a researcher.Study.")
    check_engine(engine)
    check_range("hospitals", hospitals, 1, MOST_HOSPITALS, whole=True)
    check_range("patients", patients, 20, 1_000_000, whole=True)
    faults = Faults() if faults is None else faults
    if study.training.local:
        raise InvalidRequest("Local parameters are not simulated. Give a study without local=... .")
    mechanism = resolve(study.training)
    assert isinstance(mechanism, DPSGD)
    schema = study.cohort.schema.predicting(mechanism)
    generator = np.random.default_rng(seed)
    sizes = np.maximum(20, np.rint(patients * np.exp(generator.normal(0, 0.6, hospitals)))).astype(int)
    _check_memory(int(sizes.sum()), schema, mechanism)
    filters = Filters(budget, _used_before(budget, faults, hospitals, generator))
    charge = charge_for(mechanism, filters.order)
    denied = generator.random(hospitals) < faults.denying
    whole = charge.divergence_nano * mechanism.rounds
    approved = [number for number in range(hospitals) if not denied[number] and filters.reserve(number, whole)]
    if not approved:
        raise Unavailable(
            f"No hospital took part: {int(denied.sum())} owners denied, and no other's budget held the training. Ask"
            " for less ε, or give a larger budget."
        )
    flower = _strategy_of(study, strategy, options, hospitals=len(approved))
    rows, held_out, training = _populated(study, mechanism, schema, sizes, approved, table, population, seed)
    model = study.new_model()
    trained = set(study.parts.released) if study.parts is not None else {name for name, _ in model.named_parameters()}
    initial = {name: value.detach().numpy().copy() for name, value in model.named_parameters() if name in trained}
    trainer = Trainer(model, initial, mechanism, schema, seed=seed)
    simulated = Hospitals(trainer, rows, training)
    grid = SimulatedGrid(
        simulated.train,
        mechanism,
        training,
        approved,
        filters,
        charge.divergence_nano,
        faults,
        quorum_of(flower),
        Carried(
            {str(number): mechanism for number in approved}, {str(number): training[number] for number in approved}
        ),
        generator,
        keeps_late=late,
    )
    measure = _measure_of(mechanism, schema) if held_out is not None else ""
    rounds: list[SimulatedRound] = []
    aggregates: list[Tensors] = []
    began = time.monotonic()

    def heard(number: int, weights: Tensors) -> bool:
        nonlocal began
        seconds = time.monotonic() - began
        score = _score(trainer, weights, held_out) if held_out is not None else None
        rounds.append(SimulatedRound(number, score=score, seconds=seconds, **grid.told[-1]))
        aggregates.append(weights)
        del aggregates[: -study.average_last]
        study.progress.say(
            f"round {number}/{mechanism.rounds}: {grid.told[-1]['answered']:,} answered, {seconds:.1f} s"
        )
        began = time.monotonic()
        return False

    with _trained_by(engine, simulated, len(approved)) as grid.train:
        began = time.monotonic()
        start(flower, grid, initial, rounds=mechanism.rounds, timeout=1.0, after=heard)
    weights = average(aggregates)
    return Simulation(
        hospitals=hospitals,
        approved=len(approved),
        denied=int(denied.sum()),
        without_budget=hospitals - len(approved) - int(denied.sum()),
        epsilon=(whole + filters.conversion) / NANO,
        budget=budget,
        rounds=tuple(rounds),
        spent=filters.epsilon_spent()[approved],
        weights=weights,
        score=_score(trainer, weights, held_out) if held_out is not None else None,
        measure=measure,
        megabytes=_megabytes(),
    )


def _trained_by(engine: str, hospitals: Hospitals, count: int) -> AbstractContextManager[Train]:
    """What trains the hospitals: this process, or Flower's engine with so many nodes."""
    if engine == "process":
        return nullcontext(hospitals.train)
    from researcher.simulated_ray import on_ray

    return on_ray(hospitals, count)


def check_engine(engine: str) -> None:
    """Raise `InvalidRequest`, with what there is, unless a simulation can run on it here."""
    if engine not in ENGINES:
        raise InvalidRequest(f"engine={engine!r} is none. Simulations run on {' or '.join(ENGINES)}.")
    if engine == "ray":
        from researcher.simulated_ray import check_ray

        check_ray()


def _strategy_of(study: Study, strategy: Any, options: dict[str, Any], *, hospitals: int) -> Strategy:
    """The strategy that `study.run` would take."""
    suggested = study._suggested
    if strategy is None:
        strategy = suggested.strategy if suggested else "FedAvg"
        options = dict(suggested.options if suggested else {}) | options
    made = make_strategy(strategy, study.training, hospitals=hospitals, options=options)
    check_offered(made, options)
    return made


def _used_before(
    budget: PrivacyBudget, faults: Faults, hospitals: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    shares = generator.random(hospitals) * faults.spent
    capacity = nano_down(budget.epsilon) - max(0, nano_up(conversion(best_order(budget), budget.delta)))
    return np.asarray(np.rint(shares * capacity), dtype=np.int64)


def _check_memory(patients: int, schema: Schema, mechanism: DPSGD) -> None:
    numbers = patients * (int(np.prod(schema.input_shape(mechanism.inputs))) + 1)
    if numbers > MOST_NUMBERS:
        raise InvalidRequest(
            f"{patients:,} simulated patients are {numbers:,} numbers, above {MOST_NUMBERS:,}. Give fewer hospitals or"
            " patients."
        )


def _populated(
    study: Study,
    mechanism: DPSGD,
    schema: Schema,
    sizes: npt.NDArray[np.int_],
    approved: Sequence[int],
    table: pd.DataFrame | None,
    population: Patients | None,
    seed: int,
) -> tuple[list[Rows], Rows | None, list[int]]:
    """Training patients of every hospital, held-out ones of some together, and published numbers of the former."""
    public = None if table is None else encoded(table, schema)
    source = Source(schema, mechanism, seed, public, population)
    training = [max(1, round(int(size) * (1 - schema.holdout))) for size in sizes]
    taking_part = set(approved)
    nothing = Rows(np.zeros((0, *schema.input_shape(mechanism.inputs)), np.float32), np.zeros(0, np.int64))
    rows: list[Rows] = []
    kept: list[Rows] = []
    for number, size in enumerate(sizes):
        if number not in taking_part:
            rows.append(nothing)
            continue
        every = source.rows(number, int(size))
        rows.append(Rows(every.inputs[: training[number]], every.targets[: training[number]]))
        if len(kept) < SCORED_AT and training[number] < size:
            kept.append(Rows(every.inputs[training[number] :], every.targets[training[number] :]))
    if not kept:
        return rows, None, training
    together = Rows(np.concatenate([part.inputs for part in kept]), np.concatenate([part.targets for part in kept]))
    return rows, together, training


def _measure_of(mechanism: DPSGD, schema: Schema) -> str:
    if outcome_of(mechanism.loss) is not Outcome.CLASS:
        return "mean loss"
    return "AUC" if len(schema.classes) == 2 else "accuracy"


def _score(trainer: Trainer, weights: Tensors, rows: Rows) -> float:
    """On held-out patients, without noise: they are nobody's."""
    import torch

    outputs, mechanism = trainer.outputs(weights, rows), trainer.mechanism
    if outcome_of(mechanism.loss) is not Outcome.CLASS:
        targets = torch.from_numpy(rows.targets)
        losses = [
            record_loss(out, target, mechanism, trainer.schema) for out, target in zip(outputs, targets, strict=True)
        ]
        return float(torch.stack(losses).mean())
    if len(trainer.schema.classes) > 2:
        return float((outputs.argmax(1).numpy() == rows.targets).mean())
    scores = (
        outputs[:, 1] - outputs[:, 0] if outputs.ndim == 2 and outputs.shape[1] == 2 else outputs.reshape(-1)
    ).numpy()
    return area(scores, rows.targets == 1)


def area(scores: npt.NDArray[np.float32], positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that one of the class scores above one without; ties count half."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    many = int(positive.sum())
    if many in (0, len(positive)):
        return 0.5
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * (len(positive) - many)))


def _megabytes() -> float:
    """Of memory that this process held at most, where its system says so in /proc; else 0."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    peak = next((line for line in lines if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(peak.split()[1]) / 1024
