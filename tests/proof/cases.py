"""What is tried: a declared mechanism, two tables that differ by one patient, and what an attacker sees of a run.

A trial goes through the runner's own jobs (`datasites.jobs.child`): a plan and a schema as plain data and the bytes
of the weights go in, the bytes of a release come out, and noise is keyed as a job keys it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any
from unittest import mock

import numpy as np

from datasites.engine import evaluation
from datasites.engine import training as training_engine
from datasites.engine.interpreter import Forward, forward
from datasites.engine.noise import KEY_BYTES
from datasites.jobs import child
from policies.graph.graphs import Graph
from policies.privacy import accountant
from policies.privacy.mechanisms import DPSGD, Evaluation, Mechanism, Query, Statistics, as_dict
from policies.release.plans import Plan, release_shapes
from policies.release.tensors import check_tensors, from_bytes, to_bytes
from tests.proof.attacker import FloatArray, seen_in_training
from tests.proof.curves import Curve, curve_of
from tests.proof.neighbours import (
    PUBLISHED,
    SCHEMA,
    Matrix,
    Weights,
    crowd,
    direction,
    graph_of,
    loud,
    overflowing,
    pair,
    patient,
    quiet,
)

NARROW, MIDDLE, WIDE = 4, 32, 4096  # hidden units: 21, 161 and 20,481 parameters
LOSS = "binary_cross_entropy_with_logits"
CLIPPING_NORM = 0.5  # of a gradient of length 2


@dataclass(frozen=True)
class Case:
    """One pair under one mechanism.

    Args:
      declared: as a researcher writes it, before its noise is found.
      tables: without the patient, and with.
      watch: what one run over a table shows to the attacker, as a vector.
    """

    name: str
    declared: Mechanism
    tables: Callable[[], tuple[Matrix, Matrix]]
    watch: Callable[[Mechanism, Matrix], FloatArray]

    @cached_property
    def curve(self) -> Curve:
        """What the mechanism allows. Ask before a fault is planted: then it is the unspoilt accountant's, and stays."""
        return curve_of(accountant.resolve(self.declared))


def plan_of(mechanism: Mechanism, hidden: int | None) -> Plan:
    """A plan as the exporter and the accountant leave it."""
    graph = graph_of(hidden) if hidden else None
    return Plan("proof", mechanism, "TwoLayers" if graph else None, graph, "", "t", "v", mechanism)


@lru_cache(maxsize=64)
def _job(mechanism: Mechanism, hidden: int | None, published: int) -> dict[str, Any]:
    return {
        "plan": plan_of(mechanism, hidden).as_dict(),
        "mechanism": as_dict(mechanism),
        "schema": SCHEMA.as_dict(),
        "training_patients": published,
    }


def release(
    mechanism: Mechanism, table: Matrix, weights: Weights | None, hidden: int | None, published: int
) -> dict[str, Any]:
    """What one job releases, read from its bytes."""
    work = {DPSGD: child.train, Evaluation: child.evaluate, Statistics: child.statistics}[type(mechanism)]
    message, payload = work(_job(mechanism, hidden, published), to_bytes(weights) if weights else b"", table)
    assert message == {}
    return from_bytes(payload)


def training(hidden: int, *weights: Callable[[int], Weights], published: int = PUBLISHED) -> Any:
    """Watch all rounds of training, each from weights of its own; all `loud` if none are named."""

    def watch(declared: Mechanism, table: Matrix) -> FloatArray:
        assert isinstance(declared, DPSGD)
        mechanism = accountant.resolve(declared)
        assert isinstance(mechanism, DPSGD)
        sent = [made(hidden) for made in weights or (loud,) * mechanism.rounds]
        released = [release(mechanism, table, each, hidden, published) for each in sent]
        batch = declared.sampling_rate * published
        unit = mechanism.learning_rate * mechanism.clipping_norm / batch
        return seen_in_training(sent, released, _direction(hidden), unit)

    return watch


@cache
def _direction(hidden: int) -> FloatArray:
    return direction(hidden)


def scoring(weights: Callable[[int], Weights]) -> Any:
    """Watch the two cells of the histogram that the patient can fall into, and the sum of all others' noise."""

    def watch(declared: Mechanism, table: Matrix) -> FloatArray:
        cells = release(declared, table, weights(NARROW), NARROW, PUBLISHED)["scores"].ravel()
        return np.asarray([cells[: cells.size // 2].sum(), cells[cells.size // 2 - 1], cells.sum()])

    return watch


def answering(declared: Mechanism, table: Matrix) -> FloatArray:
    """Watch every number of an answer that the patient can move: of cells, the first one."""
    answers = release(declared, table, None, None, PUBLISHED)
    parts = (np.ravel(answers[name]) for name in sorted(answers))
    return np.concatenate([part[:1] if part.size > 2 else part for part in parts])


def sgd(**changes: Any) -> DPSGD:
    """One step over everybody; the learning rate is small beside the loud weights."""
    fields: dict[str, Any] = {
        "loss": LOSS,
        "rounds": 1,
        "steps": 1,
        "sampling_rate": 1.0,
        "clipping_norm": CLIPPING_NORM,
        "noise_multiplier": 0.6,
        "learning_rate": 1.0,
    }
    return DPSGD(**(fields | changes))


def statistics(*queries: Query, epsilon: float = 1.0, **changes: Any) -> Statistics:
    return Statistics(queries=queries, epsilon=epsilon, **changes)


def one_among_held_out() -> tuple[Matrix, Matrix]:
    """1007 patients, none of whom trains, and one more who does."""
    others = crowd(PUBLISHED, held_out=True)
    return others, np.concatenate([others, patient(PUBLISHED)])


EVERY_QUERY = (
    Query("count"),
    Query("sum", ("x2",)),
    Query("mean", ("x2",)),
    Query("variance", ("x2",)),
    Query("quantiles", ("x2",), (0.1, 0.5)),
    Query("histogram", ("x2",)),
    Query("crosstab", ("x2", "y")),
)

FULL = "every patient, one step"
AUTOMATIC = "automatic clipping, one step"
ROUNDS = "four rounds, all seen"
REPLAY = "a loud round, then a quiet one"
SAMPLED = "two steps at rate 1/2"
COUNTED = "20,481 parameters, 1007 or 1008"
EDGE = "physical batches, 1024 or 1025"
ALONE = "one patient trains, or nobody"
MANY = "a patient with 20 records"
POISON = "a gradient that is not finite"
SCORES = "scores of the hold-out"
COUNT = "count of patients"
STATISTICS = "every statistic, 20 records"


@cache
def cases() -> dict[str, Case]:
    """All pairs, by name."""
    four = sgd(rounds=4, noise_multiplier=None, epsilon=8.0)
    half = sgd(sampling_rate=0.5, steps=2, noise_multiplier=0.15)
    wide = sgd(sampling_rate=1 / 16, noise_multiplier=1.0)
    scores = Evaluation(loss=LOSS, epsilon=1.0, bins=5)
    count = statistics(Query("count"))
    listed = [
        Case(FULL, sgd(), lambda: pair(1007), training(NARROW)),
        Case(AUTOMATIC, sgd(clipping="automatic"), lambda: pair(1007), training(NARROW)),
        Case("every patient, 1006 or 1007", sgd(), lambda: pair(1006), training(NARROW)),
        Case("every patient, 1024 or 1025", sgd(), lambda: pair(1024), training(NARROW, published=1024)),
        Case(ROUNDS, four, lambda: pair(1007), training(NARROW)),
        Case(REPLAY, sgd(rounds=2, noise_multiplier=2.0), lambda: pair(1007), training(NARROW, loud, quiet)),
        Case(SAMPLED, half, lambda: pair(1007), training(NARROW)),
        Case(COUNTED, wide, lambda: pair(1007), training(WIDE)),
        Case("20,481 parameters, 1006 or 1007", wide, lambda: pair(1006), training(WIDE)),
        Case("20,481 parameters, 1024 or 1025", wide, lambda: pair(1024), training(WIDE, published=1024)),
        Case(EDGE, sgd(noise_multiplier=4.0), lambda: pair(1024), training(MIDDLE, published=1024)),
        Case(ALONE, sgd(sampling_rate=0.5), one_among_held_out, training(NARROW)),
        Case(MANY, sgd(noise_multiplier=4.0), lambda: pair(1007, records=20), training(NARROW)),
        Case("a record that is not finite", sgd(), lambda: pair(1007, value=np.nan), training(NARROW)),
        Case(POISON, sgd(), lambda: pair(1007), training(NARROW, overflowing)),
        Case(SCORES, scores, lambda: pair(1007, held_out=True), scoring(loud)),
        Case("scores, 20 records", scores, lambda: pair(1024, held_out=True, records=20), scoring(loud)),
        Case("scores, not finite", scores, lambda: pair(1007, held_out=True), scoring(overflowing)),
        Case(COUNT, count, lambda: pair(1007), answering),
        Case("count of patients, 20 records", count, lambda: pair(1024, records=20), answering),
        Case(
            STATISTICS,
            statistics(*EVERY_QUERY, epsilon=7.0),
            lambda: pair(1007, records=20),
            answering,
        ),
        Case(
            "every statistic, not finite",
            statistics(*EVERY_QUERY, epsilon=7.0),
            lambda: pair(1006, value=np.nan),
            answering,
        ),
    ]
    return {each.name: each for each in listed}


@contextmanager
def known_keys(seed: str) -> Iterator[None]:
    """Let the operating system's random bytes be known ones, for runs that repeat. python-dp's are beyond this."""
    drawn, real = 0, os.urandom

    def urandom(count: int) -> bytes:
        nonlocal drawn
        if count != KEY_BYTES:  # torch asks for a few bytes, too
            return real(count)
        drawn += 1
        return hashlib.sha256(f"tests.proof/{seed}/{drawn}".encode()).digest()

    with mock.patch.object(os, "urandom", urandom):
        yield


@contextmanager
def checking_graphs_once() -> Iterator[None]:
    """Let a graph be checked and made ready for its first trial alone: it is the same one, and it holds nothing."""
    ready: dict[str, Forward] = {}

    def known(graph: Graph) -> Forward:
        text = json.dumps(graph.as_dict())
        if text not in ready:
            ready[text] = forward(graph)
        return ready[text]

    with mock.patch.object(training_engine, "forward", known), mock.patch.object(evaluation, "forward", known):
        yield


def watched(case: Case, trials: int, *, seed: str) -> tuple[FloatArray, FloatArray]:
    """[trials, features] without the patient and with, in turns."""
    tables = case.tables()
    with known_keys(f"{case.name}/{seed}"), checking_graphs_once():
        seen = [[case.watch(case.declared, table) for table in tables] for _ in range(trials)]
    both = np.asarray(seen, dtype=np.float64)
    return both[:, 0], both[:, 1]


def check_shapes(case: Case) -> None:
    """The static check: raise unless a release has exactly the names, shapes and dtypes of its plan."""
    mechanism = accountant.resolve(case.declared)
    hidden = None if isinstance(mechanism, Statistics) else NARROW
    for table in case.tables():
        found = release(mechanism, table, loud(NARROW) if hidden else None, hidden, PUBLISHED)
        check_tensors(found, release_shapes(plan_of(mechanism, hidden), SCHEMA), finite=False)
