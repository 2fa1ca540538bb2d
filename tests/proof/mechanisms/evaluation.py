"""Evaluation: a noisy histogram of scores, watched where the one patient's score may fall."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as distributions

from datasites.engine import evaluation
from datasites.engine.noise import NoiseSource
from datasites.jobs import child
from policies.privacy.mechanisms import Evaluation, Mechanism
from tests.proof.attacker import FloatArray
from tests.proof.cases import release
from tests.proof.curves import INTERVAL
from tests.proof.neighbours import PUBLISHED, Matrix, Weights, loud, overflowing, pair
from tests.proof.registry import Case, Fault, Proof

HIDDEN = 4  # units of the model that is scored
SCORED = Evaluation(loss="binary_cross_entropy_with_logits", epsilon=1.0, bins=5)

SCORES = "scores of the hold-out"


def scoring(weights: Callable[[int], Weights]) -> Any:
    """Watch the two cells of the histogram that the patient can fall into, and the sum of all others' noise."""

    def watch(declared: Mechanism, table: Matrix) -> FloatArray:
        cells = release(declared, table, weights(HIDDEN), HIDDEN, PUBLISHED)["scores"].ravel()
        return np.asarray([cells[: cells.size // 2].sum(), cells[cells.size // 2 - 1], cells.sum()])

    return watch


def pairs() -> list[Case]:
    """Of evaluations."""
    return [
        Case(SCORES, SCORED, lambda: pair(1007, held_out=True), scoring(loud), HIDDEN),
        Case("scores, 20 records", SCORED, lambda: pair(1024, held_out=True, records=20), scoring(loud), HIDDEN),
        Case("scores, not finite", SCORED, lambda: pair(1007, held_out=True), scoring(overflowing), HIDDEN),
    ]


def loss_of(mechanism: Evaluation) -> Any:
    """Independent parts under exact discrete Laplace noise, each moved by its whole sensitivity in one place.

    To move one value by all of a part's sensitivity is the worst that there is (`policies.privacy.draws`).
    """
    interval = INTERVAL / len(mechanism.draws)  # each of them rounds up
    whole, *others = (
        distributions.from_discrete_laplace_mechanism(epsilon, value_discretization_interval=interval)
        for epsilon in mechanism.draws
    )
    for part in others:
        whole = whole.compose(part)
    return whole


@contextmanager
def exact_scores() -> Iterator[None]:
    """The histogram of scores leaves as it was counted."""
    real = evaluation.score_histogram

    def score_histogram(*given: Any) -> Mapping[str, Any]:
        with mock.patch.object(NoiseSource, "discrete_laplace", lambda self, count, epsilon: np.zeros(count, np.int64)):
            return real(*given)

    with mock.patch.object(evaluation, "score_histogram", score_histogram):
        yield


FAULTS = (Fault("un-noised metric", exact_scores, SCORES, chances=lambda: (0.0, 1.0)),)

PROOF = Proof(cases=pairs, faults=FAULTS, declared=Evaluation, job=child.evaluate, loss=loss_of)
