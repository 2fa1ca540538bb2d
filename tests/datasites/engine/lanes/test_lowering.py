"""A program gives the gradients that torch gives, for every model whose operators have rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasites.engine.grid import grid_of
from datasites.engine.interpreter import forward
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.emitter import NotLowered
from datasites.engine.lanes.lowering import lowered
from datasites.engine.lanes.rules import RULES
from datasites.engine.lanes.sums import LaneSums, shrinkage
from datasites.engine.training import record_gradients
from policies.graph.exporter import export_model
from tests.datasites.engine.lanes.models import BCE, LOGITS, MODELS, graph_of, program_of, weights_of

NORM = 0.37


@pytest.mark.parametrize("name", MODELS)
def test_a_program_gives_the_clipped_gradients_that_torch_gives(name: str, kernels: Kernels) -> None:
    graph, weights, rng = graph_of(name), weights_of(name), np.random.default_rng(1)
    checked, _ = program_of(name)
    sums = LaneSums(checked, kernels, NORM, most=64)
    sums.weights[:] = weights
    inputs = rng.uniform(-1, 1, (40, math.prod(graph.input_shape))).astype(np.float32)
    labels = rng.integers(0, 3 if name == "one logit a class" else 2, 40)
    parts = torch.split(torch.from_numpy(weights), [math.prod(p.shape) for p in graph.parameters])
    by_name = {p.name: part.view(p.shape) for p, part in zip(graph.parameters, parts, strict=True)}
    records = torch.from_numpy(inputs).view(40, *graph.input_shape)
    gradients, _ = record_gradients(forward(graph), MODELS[name][2])(by_name, records, torch.from_numpy(labels))
    flat = torch.cat([gradients[p.name].reshape(40, -1) for p in graph.parameters], dim=1).double()
    norms = flat.norm(dim=1, keepdim=True)
    assert norms.min() > 0
    clipped = (flat * (NORM * shrinkage(len(weights), NORM) / norms).clamp(max=1)).numpy()
    for record in range(40):
        found = sums.sum(inputs, labels.astype(np.float32), np.array([record])) * grid_of(NORM)
        # Two float32 computations of one gradient; what differs more is another gradient.
        assert np.abs(found - clipped[record]).max() <= 2e-5 * NORM, (name, record)


class Bits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * ((x * 4).long() & (x * 2).long()))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.unused = nn.Linear(3, 1), nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class InNoOrder(nn.Module):
    """A gradient that goes through what has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).topk(2, sorted=False).values)


@pytest.mark.parametrize(("model", "why"), [(Bits, "bitwise_and"), (InNoOrder, "in no order")])
def test_what_has_no_rule_is_not_lowered(model: type[nn.Module], why: str) -> None:
    with pytest.raises(NotLowered, match=why):
        lowered(export_model(model(), (3,)), LOGITS, 2)


def test_a_parameter_that_nothing_uses_gets_no_gradient(kernels: Kernels) -> None:
    graph = export_model(Unused(), (3,))
    assert {p.name for p in graph.parameters} <= {"layer.weight", "layer.bias", "unused"}
    program, _ = lowered(graph, LOGITS, 2)
    assert program.parameters == graph.parameter_count


def test_lowering_depends_on_the_graph_alone() -> None:
    first, second = (lowered(graph_of("LSTM"), BCE, 2)[0] for _ in range(2))
    for name in ("code", "terms", "groups", "constants"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


# Called by torch in other releases or by other ways of writing, as the rule beside each is.
ELSEWHERE = {f"aten.{name}.default" for name in ("alias", "detach", "clamp_max", "copy", "sum")}


def test_every_rule_is_used_by_a_model_of_these_tests() -> None:
    used: set[str] = set()
    for name in MODELS:
        used.update(str(call.operator) for call in program_of(name)[1].calls)
    assert set(RULES) - used <= ELSEWHERE
