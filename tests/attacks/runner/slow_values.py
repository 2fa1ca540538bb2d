"""How much longer a model takes on records that a hostile researcher chose than on ordinary ones, as a runner trains.

    python -m tests.attacks.runner.slow_values {places|lanes} NAME ...

Prints a JSON object: by name, processor time of a batch's gradients on the slowest records over that on the fastest,
and the public figure of its graph, which in lanes is 1. A process of its own, as a runner's kernels stay in the process
that has them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from datasites.engine import constant_time
from datasites.engine.interpreter import forward
from datasites.engine.lanes import compiled, readiness
from datasites.engine.training import record_gradients
from datasites.review.timing import slowest
from policies.graph.exporter import export_model
from policies.graph.graphs import Graph
from tests import timing

TIMES, WIDTH, BATCH = 40, 64, 64
EVEN = 1.12

OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "atan": torch.atan, "exp": torch.exp, "tanh": torch.tanh, "log1p": torch.log1p, "asin": torch.asin,
    "acos": torch.acos, "trunc": torch.trunc, "root": lambda x: x**0.5,
    "where": lambda x: torch.where(x > 0.5, x + 1.0, x * 2.0), "asinh": torch.asinh,
}  # fmt: skip
VALUES = (0.0, 1e-10, 1e-3, 0.5, 1.0, 2.0, 15.0, 80.0, 86.0, 88.5, 90.0, 1e4, 1e9, 1e15, 1e30, 3e38, math.inf)


class Many(nn.Module):
    """An operator forty times on the record, and a weight."""

    def __init__(self, operator: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.operator, self.weight = operator, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        total = x * self.weight
        for _ in range(TIMES):
            total = total + self.operator(x)
        return torch.sigmoid(total.sum(1, keepdim=True))


def records() -> dict[str, Tensor]:
    """Batches of one value, of one value and its negative by turns, and of ordinary ones."""
    chance = torch.Generator().manual_seed(1)
    sides = torch.rand(BATCH, WIDTH, generator=chance) > 0.5
    made = {f"{value:g}": torch.full((BATCH, WIDTH), value) for value in (*VALUES, math.nan)}
    made |= {f"{-value:g}": torch.full((BATCH, WIDTH), -value) for value in VALUES}
    made |= {f"±{value:g}": torch.where(sides, value, -value) for value in (0.7, 88.5)}
    return {**made, "ordinary": torch.rand(BATCH, WIDTH, generator=chance) * 2 - 1}


def unevenness(name: str, way: str) -> tuple[float, float]:
    """Time on the slowest records over that on the fastest, and the figure that a round's public time takes for it."""
    model = Many(OPERATORS[name])
    graph = export_model(model, (WIDTH,))
    run = (in_lanes if way == "lanes" else in_places)(graph)
    given = records()
    figure = 1.0 if way == "lanes" else slowest(graph)
    return timing.unevenness(run, given, even=EVEN * figure), figure


def in_places(graph: Graph) -> Callable[[Tensor], object]:
    """Gradients of a batch by torch."""
    gradients = record_gradients(forward(graph), "binary_cross_entropy")
    weights, labels = {"weight": torch.ones(1)}, torch.zeros(BATCH, dtype=torch.int64)
    return lambda batch: gradients(weights, batch, labels)


def in_lanes(graph: Graph) -> Callable[[Tensor], object]:
    """The clipped sum of a batch in lanes, as often as a clock can tell."""
    sums = readiness.made_for(graph, "binary_cross_entropy", 2, 1.0, BATCH, compiled.load())
    sums.weights[:] = 1.0
    labels, rows = np.zeros(BATCH, np.float32), np.arange(BATCH)

    def run(batch: Tensor) -> None:
        inputs = batch.numpy()
        for _ in range(20):
            sums.sum(inputs, labels, rows)

    return run


def main(way: str, *names: str) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    constant_time.install()
    print(json.dumps({name: unevenness(name, way) for name in names}))


if __name__ == "__main__":
    main(*sys.argv[1:])
