"""Audit a study's mechanism in one run on made-up patients (Steinke, Nasr and Jagielski 2023, arXiv:2305.08846).

The request's own plan runs as it would: rounds, steps, sampling, clipping, noise, optimizer, public size. Two things
are put in its stead. The rows are canaries, made-up patients of three records each, of whom a fair coin leaves out
half. The model is a probe, left · W · right, whose gradient for a record is the record's own direction, far longer than
the clipping norm at any weights: the worst that a patient can give, where a study's own model gives less. What the
auditor sees is what a researcher gets, the weights of each round: crafted gradients, and no look inside.

What it may show: that ε is at least the bound, at the confidence; and, beside the same audit of the declared mechanism
as simulated here in a few lines that share nothing with the engine, that the engine's noise, clipping, sampling and
accounting fit. What it cannot show: that ε is small, or that the study's own model was interpreted rightly.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datasites.engine.one_run_estimator import best_guesses, epsilon_bound, right_guesses
from policies.errors import InvalidRequest
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD
from policies.schema.columns import Column
from policies.schema.schemas import Schema

Records = npt.NDArray[np.float64]
Signs = npt.NDArray[np.float64]
Train = Callable[[Graph, DPSGD, Schema, int, Records, Mapping[str, Tensor]], Mapping[str, Tensor]]
"""One round, as `train_round` takes it: (graph, mechanism, schema, training_patients, records, weights) -> weights."""

SIDE = 64  # the probe's weight is SIDE x SIDE, so that thousands of canaries hardly disturb each other
RECORDS_EACH = 3
FEWEST, MOST = 100, 20_000
SIMULATIONS = 24
MOST_SIMULATED_STEPS = 20_000
CONFIDENCE = 0.95
_FAR = 1e6  # how far below 0 every logit is: the loss's slope is then -1, wherever training goes
_LONGER = 8.0  # a canary's gradient over the clipping norm
_PARAMETER = "probe"


@dataclass(frozen=True)
class OneRunAudit:
    """What an audit found.

    Args:
      bound: ε of the mechanism is at least this, at `confidence`; 0 where nothing was shown.
      canaries, guesses, right: how many were made, how many coins were guessed, how many of them rightly.
      strength: deviations between the scores of canaries that were in and that were not.
      expected_strength, expected_deviation: the same of the declared mechanism, simulated: mean, and the standard
        deviation of one more run from that mean, which a few simulations know only so well.
      expected_bound: the mean bound of those simulations.
    """

    bound: float
    confidence: float
    delta: float
    canaries: int
    guesses: int
    right: int
    strength: float
    expected_strength: float
    expected_deviation: float
    expected_bound: float

    @property
    def surplus(self) -> float:
        """Deviations by which `strength` exceeds that of the declared mechanism: above 4, something is wrong."""
        return (self.strength - self.expected_strength) / self.expected_deviation


def one_run_audit(
    train: Train,
    mechanism: DPSGD,
    training_patients: int,
    *,
    canaries: int = 4000,
    seed: int | None = None,
    delta: float | None = None,
    confidence: float = CONFIDENCE,
    simulations: int = SIMULATIONS,
    tell: Callable[[str], object] = lambda text: None,
) -> OneRunAudit:
    """Audit `train`, which is to be one round of `mechanism`, over all of its rounds.

    The null is simulated first, and from it the number of guesses is chosen: before `train` is called.

    Args:
      mechanism: with its `noise_multiplier` resolved.
      training_patients: the public number that rates and divisors are made of; how many canaries there are is another.
      canaries: 100 to 20,000, each in the data by a fair coin.
      seed: of canaries, coins and simulations; fresh where None. The noise of `train` is its own.
      delta: of the bound; the mechanism's where None.
      simulations: of the declared mechanism, at least 3; fewer are made where it takes very many steps.
      tell: told what is being done.

    Raises:
      InvalidRequest: too few or too many canaries, or no noise multiplier.
    """
    if not FEWEST <= canaries <= MOST:
        raise InvalidRequest(f"canaries={canaries} is outside [{FEWEST}, {MOST}]. Use 4000.")
    if mechanism.noise_multiplier is None:
        raise InvalidRequest("This dp_sgd has no noise multiplier yet. Pass it through `accountant.resolve`.")
    delta = mechanism.delta if delta is None else delta
    generator = np.random.default_rng(seed)
    wings = 2.0 * generator.integers(0, 2, (canaries, 2 * SIDE)) - 1
    mechanism = replace(mechanism, loss="binary_cross_entropy_with_logits", inputs="features")

    steps = mechanism.rounds * mechanism.steps
    simulations = max(3, min(simulations, MOST_SIMULATED_STEPS // steps))
    simulated = []
    for number in range(1, simulations + 1):
        tell(f"simulating the declared mechanism, {number} of {simulations}")
        coins = generator.random(canaries) < 0.5
        released = sum(
            simulated_round(mechanism, training_patients, wings[coins], generator) for _ in _rounds(mechanism)
        )
        simulated.append((_scores(wings, np.asarray(released)), coins))
    strengths = [_strength(scores, coins) for scores, coins in simulated]
    expected = statistics.fmean(strengths)
    guesses = best_guesses(canaries, max(expected, 0.0), delta=delta, confidence=confidence)

    def bound(scores: Records, coins: npt.NDArray[np.bool_]) -> tuple[int, float]:
        right = right_guesses(scores.tolist(), coins.tolist(), guesses)
        return right, epsilon_bound(canaries, guesses, right, delta=delta, confidence=confidence)

    coins = generator.random(canaries) < 0.5
    graph, schema = probe_graph(mechanism.clipping_norm), probe_schema()
    records, released = canary_records(wings[coins]), np.zeros((SIDE, SIDE))
    for number in _rounds(mechanism):
        tell(f"round {number} of {mechanism.rounds}, {mechanism.steps} steps")
        weights = {_PARAMETER: torch.zeros(SIDE, SIDE)}
        answer = train(graph, mechanism, schema, training_patients, records, weights)
        released += np.asarray(answer[_PARAMETER], dtype=np.float64)
    scores = _scores(wings, released)
    right, least = bound(scores, coins)
    return OneRunAudit(
        bound=least,
        confidence=confidence,
        delta=delta,
        canaries=canaries,
        guesses=guesses,
        right=right,
        strength=_strength(scores, coins),
        expected_strength=expected,
        expected_deviation=max(statistics.stdev(strengths), 2 / math.sqrt(canaries)) * math.sqrt(1 + 1 / simulations),
        expected_bound=statistics.fmean(bound(*run)[1] for run in simulated),
    )


def probe_schema() -> Schema:
    """Two wings of `SIDE` real columns in [-1, 1], and a target."""
    wings = (Column(name=f"wing{number}", kind="real", minimum=-1.0, maximum=1.0) for number in range(2 * SIDE))
    columns = (*wings, Column(name="sick", kind="boolean"))
    return Schema(name="canaries", population="canaries", patient="patient", target="sick", columns=columns)


def probe_graph(clipping_norm: float) -> Graph:
    """scale · left · W · right - 10⁶, whose gradient in W is `_LONGER` times `clipping_norm` long for every canary."""
    record: dict[str, str] = {"ref": "record"}

    def rows(columns: int) -> list[Any]:
        return [["float32", [1, columns]]]

    scale = _LONGER * clipping_norm / SIDE  # each wing is sqrt(SIDE) long
    nodes: list[Any] = [
        ["n0", "slice.Tensor", [record, 1, 0, SIDE, 1], rows(SIDE)],
        ["n1", "slice.Tensor", [record, 1, SIDE, 2 * SIDE, 1], rows(SIDE)],
        ["n2", "mm", [{"ref": "n0"}, {"parameter": _PARAMETER}], rows(SIDE)],
        ["n3", "mul.Tensor", [{"ref": "n2"}, {"ref": "n1"}], rows(SIDE)],
        ["n4", "sum.dim_IntList", [{"ref": "n3"}, [1], True, None], rows(1)],
        ["n5", "mul.Tensor", [{"ref": "n4"}, scale], rows(1)],
        ["n6", "sub.Tensor", [{"ref": "n5"}, _FAR, 1], rows(1)],
    ]
    return Graph.from_dict(
        {
            "parameters": [[_PARAMETER, [SIDE, SIDE], "float32"]],
            "input_shape": [2 * SIDE],
            "nodes": nodes,
            "output": "n6",
            "output_shape": [1],
        }
    )


def canary_records(wings: Signs) -> Records:
    """The matrix of whole-patient canaries: `RECORDS_EACH` equal records each, all sick, none held out."""
    patients = np.arange(len(wings), dtype=np.float64)
    once = np.column_stack([patients, np.zeros(len(wings)), wings, np.ones(len(wings))])
    return np.repeat(once, RECORDS_EACH, axis=0)


def simulated_round(
    mechanism: DPSGD, training_patients: int, wings: Signs, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """What a round of the declared mechanism makes of zero weights: insecure noise, and no code of the engine's."""
    assert mechanism.noise_multiplier is not None
    left, right = wings[:, :SIDE], wings[:, SIDE:]
    norm, expected = mechanism.clipping_norm, mechanism.sampling_rate * training_patients
    weight = torch.zeros((SIDE, SIDE), dtype=torch.float64, requires_grad=True)
    rate, decay, momentum = mechanism.learning_rate, mechanism.weight_decay, mechanism.momentum
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam([weight], lr=rate, weight_decay=decay)
        if mechanism.optimizer == "adam"
        else torch.optim.SGD([weight], lr=rate, momentum=momentum, weight_decay=decay)
    )
    for _ in range(mechanism.steps):
        taken = generator.random(len(wings)) < mechanism.sampling_rate
        total = -left[taken].T @ right[taken] * (norm / SIDE)
        total += generator.normal(0.0, mechanism.noise_multiplier * norm, (SIDE, SIDE))
        weight.grad = torch.from_numpy(total / expected) + mechanism.proximal_mu * weight.detach()
        optimizer.step()
    released: npt.NDArray[np.float64] = weight.detach().numpy()
    return released


def _rounds(mechanism: DPSGD) -> range:
    return range(1, mechanism.rounds + 1)


def _scores(wings: Signs, released: npt.NDArray[np.float64]) -> Records:
    """How far the released weights lie in each canary's direction; what is not finite counts as zero."""
    finite = np.nan_to_num(released, nan=0.0, posinf=0.0, neginf=0.0)
    scores: Records = ((wings[:, :SIDE] @ finite) * wings[:, SIDE:]).sum(1)
    return scores


def _strength(scores: Records, coins: npt.NDArray[np.bool_]) -> float:
    """Difference of the means of both kinds of canary over their standard deviation; 0 where they do not vary."""
    inside, outside = scores[coins], scores[~coins]
    spread = math.sqrt((float(inside.var()) + float(outside.var())) / 2)
    return float(inside.mean() - outside.mean()) / spread if spread > 0 else 0.0
