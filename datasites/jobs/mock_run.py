"""Dry-run a plan on mock rows, in the job's own process: how long it takes, and what came of it in public figures.

The rows are drawn from the schema at the public size, and weights that nobody sent are made here: nothing of a
patient's is in this process, so everything that it says may be shown.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from opacus.accountants import RDPAccountant
from torch import Tensor
from torch.func import vmap

from datasites.engine.interpreter import forward
from datasites.engine.losses import compared_with, loss_of, record_loss
from datasites.engine.matrix import GroupedRows
from datasites.engine.model_inputs import ModelInputs, tensors_of
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD
from policies.schema.schemas import Schema

Rows = npt.NDArray[np.float64] | GroupedRows

MOST_SCORED = 1000  # mock rows that the mean loss is of
ENOUGH_SECONDS = 1.0  # of steps, and
ENOUGH_STEPS = 4  # as many, tell what further ones take


class _Enough(Exception):
    """A round's time is known, and the rest of it need not be run."""


class StepClock(RDPAccountant):  # type: ignore[misc]
    """Opacus's accountant, which is told of every step: tells what a round of `steps` takes, and leaves a long one."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.taken = steps, 0
        self.first = self.last = 0.0
        self._body_began = self._of_body = 0.0  # when a body's pass began, and what is left of it takes

    def leave(self, done: int, places: int) -> bool:
        """Whether the rest of a frozen body's pass need not be run (`body_values.Leave`); its time is noted."""
        now = time.monotonic()
        if not done:
            self._body_began = now
        elif done < places and now - self._body_began > ENOUGH_SECONDS:
            self._of_body = (now - self._body_began) / done * (places - done)
            return True
        return False

    def step(self, *, noise_multiplier: float, sample_rate: float) -> None:
        """Note when a step was taken."""
        super().step(noise_multiplier=noise_multiplier, sample_rate=sample_rate)
        self.last = time.monotonic()
        self.taken += 1
        if self.taken == 1:
            self.first = self.last
        if self.taken >= ENOUGH_STEPS and self.last - self.first > ENOUGH_SECONDS and self.taken < self.steps:
            raise _Enough

    def seconds_of(self, run: Callable[[], object]) -> float:
        """Seconds of a whole round, which `run` begins and hands this accountant to."""
        begin = time.monotonic()
        try:
            run()
        except _Enough:
            of_a_step = (self.last - self.first) / (self.taken - 1)
            return self.last - begin + of_a_step * (self.steps - self.taken) + self._of_body
        return time.monotonic() - begin + self._of_body


def starting_weights(graph: Graph) -> dict[str, Tensor]:
    """Weights such as a fresh model has, always the same: uniform within 1 / √(numbers that each one adds up)."""
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for parameter in graph.weights:
        bound = 1 / math.sqrt(max(1, math.prod(parameter.shape[1:] or parameter.shape)))
        weights[parameter.name] = (torch.rand(parameter.shape, generator=generator) * 2 - 1) * bound
    return weights


def training_facts(
    graph: Graph,
    mechanism: DPSGD,
    schema: Schema,
    rows: Rows,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
) -> dict[str, Any]:
    """Whether the weights changed and stayed finite, and the mean loss on mock rows before and after."""
    return {
        "parameters": graph.parameter_count,
        "moved": any(not torch.equal(before[name], after[name]) for name in after),
        "finite": all(bool(torch.isfinite(weight).all()) for weight in after.values()),
        "loss_before": mean_loss(graph, mechanism, schema, rows, before),
        "loss_after": mean_loss(graph, mechanism, schema, rows, {**before, **after}),
    }


def mean_loss(
    graph: Graph, mechanism: DPSGD, schema: Schema, rows: Rows, weights: Mapping[str, Tensor]
) -> float | None:
    """Over the first `MOST_SCORED` rows whose loss is finite, or fewer of large tensors; None where there is none."""
    matrix = np.asarray(rows, dtype=np.float64)
    of_rows = ModelInputs(schema, mechanism.inputs, matrix, tensors_of(rows))
    model, count = forward(graph), min(MOST_SCORED, len(matrix), of_rows.together)
    scored = matrix[:count]
    inputs = torch.from_numpy(of_rows.of(np.arange(count)))
    trained = loss_of(mechanism, schema, graph)
    targets = torch.from_numpy(compared_with(schema, scored, trained))

    def loss(record: Tensor, target: Tensor) -> Tensor:
        return record_loss(model(weights, record), target, trained)

    with torch.no_grad():
        losses = vmap(loss)(inputs, targets)
    finite = losses[torch.isfinite(losses)]
    return float(finite.mean()) if len(finite) else None


def peak_memory() -> int:
    """Bytes that this process has held at most, what it shares with its parent included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
