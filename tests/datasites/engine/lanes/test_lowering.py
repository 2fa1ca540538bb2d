"""A program gives the gradients that torch gives, for every model whose operators have rules."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from datasites.engine.grid import grid_of
from datasites.engine.interpreter import forward
from datasites.engine.lanes import readiness
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.emitter import NotLowered
from datasites.engine.lanes.lowering import lowered, lowered_scores
from datasites.engine.lanes.rules import RULES
from datasites.engine.lanes.sums import LaneSums, shrinkage
from datasites.engine.lanes.verifier import verified
from datasites.engine.training import record_gradients
from policies.graph.engines import LIMITS
from policies.graph.exporter import export_model
from policies.graph.graphs import Graph, Node, Parameter
from policies.graph.operators import OPERATORS
from tests.datasites.engine.lanes.models import BCE, LOGITS, MODELS, graph_of, program_of, weights_of
from tests.datasites.engine.lanes.test_scores import CASES, graph_of_operator

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


@pytest.mark.parametrize(
    ("model", "why"),
    [(Bits, "It uses bitwise_and.Tensor: of whole numbers"), (InNoOrder, "It uses topk: .* Leave sorted=True")],
)
def test_what_has_no_rule_is_not_lowered(model: type[nn.Module], why: str) -> None:
    with pytest.raises(NotLowered, match=why):
        lowered(export_model(model(), (3,)), LOGITS, 2)


@cache
def of_numbers(function: Callable[[Tensor], Tensor], features: int) -> Graph:
    """A layer over what a function makes of the record."""

    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(function(torch.ones(1, features)).shape[1], 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(function(x))

    return export_model(Made(), (features,))


BEYOND: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "_adaptive_avg_pool2d": (lambda x: functional.adaptive_avg_pool2d(x.view(-1, 1, 40, 40), 33).flatten(1), 1600),
    "adaptive_max_pool2d": (lambda x: functional.adaptive_max_pool1d(x.view(-1, 1, 1100), 1100).flatten(1), 1100),
    "bitwise_and.Tensor": (lambda x: x * (x.long() & (x * 2).long()), 3),
    "bitwise_or.Tensor": (lambda x: x * (x.long() | (x * 2).long()), 3),
    "bitwise_xor.Tensor": (lambda x: x * (x.long() ^ (x * 2).long()), 3),
    "bitwise_not": (lambda x: x * ~x.long(), 3),
    "mul.Tensor": (lambda x: x * (x.long() * (x * 2).long()), 3),
    "pow.Scalar": (lambda x: x + torch.pow(-2.0, x.round()), 3),
    "prod.dim_int": (lambda x: x * x.long().prod(1, keepdim=True), 3),
    "sort": (lambda x: x.sort(1).values, 129),
    "topk": (lambda x: x.topk(2, sorted=False).values, 3),
}
BY_HAND = {"convolution", "index_select", "native_group_norm"}  # what the exporter gives of these is within the limits


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_an_operators_limit_says_so(name: str) -> None:
    with pytest.raises(NotLowered, match=rf"^It uses {re.escape(name)}: .+\.$"):
        lowered(of_numbers(*BEYOND[name]), LOGITS, 2)


def test_every_operator_of_a_graph_runs_in_lanes(kernels: Kernels) -> None:
    """By a model that is lowered; and those that do under a condition are named with it."""
    seen = {node.op for name in MODELS for node in graph_of(name).nodes} | {name for name, _, _ in CASES.values()}
    for function in FEW:
        graph = of_numbers(function, 4)
        lowered(graph, LOGITS, 2)
        seen |= {node.op for node in graph.nodes}
    for name, arguments, shape in BY_NAME:
        lowered_scores(graph_of_operator(name, arguments, shape=shape), LOGITS)
        seen.add(name)
    program, recording = lowered(placed := put_back(), LOGITS, 2)
    assert readiness._agrees(LaneSums(verified(program), kernels, NORM), recording, NORM, 0.0)
    seen |= {node.op for node in placed.nodes}
    assert set(OPERATORS) - seen == set()
    assert set(LIMITS) == set(BEYOND) | BY_HAND


BY_NAME: list[tuple[str, list[Any], tuple[int, ...]]] = [
    *((name, ["n0", None], ()) for name in ("mean", "sum")),
    *((name, ["n0", 2.0, 1], (1, 1)) for name in ("add.Scalar", "sub.Scalar")),
    *((name, ["n0", 2.0], (1, 1)) for name in ("mul.Scalar", "div.Scalar")),
    ("avg_pool1d", ["n0", [1], [1], [0], False, True], (1, 1)),
]
"""What the exporter writes in other ways, and a graph may have all the same."""


def put_back() -> Graph:
    """The first of two numbers in the place of the second."""

    def node(name: str, op: str, *arguments: Any, shape: tuple[int, ...] = (1, 2)) -> Node:
        return Node(name, op, arguments, (("float32", shape),))

    nodes = (
        node("n0", "mul.Tensor", {"ref": "record"}, {"parameter": "w"}),
        node("n1", "slice.Tensor", {"ref": "n0"}, 1, 0, 1, 1, shape=(1, 1)),
        node("n2", "squeeze.dim", {"ref": "n1"}, 1, shape=(1,)),
        node("n3", "select_scatter", {"ref": "n0"}, {"ref": "n2"}, 1, 1),
        node("n4", "copy", {"ref": "record"}, {"ref": "record"}),
        node("n5", "mul.Tensor", {"ref": "n3"}, {"ref": "n4"}),
        node("n6", "sum.dim_IntList", {"ref": "n5"}, [1], True, None, shape=(1, 1)),
    )
    return Graph((Parameter("w", (1, 2)),), (2,), nodes, "n6", (1,))


@pytest.mark.parametrize(("places", "lowers"), [(2, True), (5000, False)])
def test_numbers_are_chosen_at_places_that_depend_on_the_record(places: int, lowers: bool, kernels: Kernels) -> None:
    """By an operator that the exporter writes of constant places alone."""

    def node(name: str, op: str, *arguments: Any, shape: tuple[int, ...], dtype: str = "float32") -> Node:
        return Node(name, op, arguments, ((dtype, shape),))

    wide = (1, places)
    nodes = (
        node("n0", "mul.Tensor", {"ref": "record"}, {"parameter": "w"}, shape=(1, 4)),
        node("n1", "slice.Tensor", {"ref": "record"}, 1, 0, 1, 1, shape=(1, 1)),
        node("n2", "mul.Tensor", {"ref": "n1"}, 3.0, shape=(1, 1)),
        node("n3", "_to_copy", {"ref": "n2"}, {"dtype": "int64"}, shape=(1, 1), dtype="int64"),
        node("n4", "expand", {"ref": "n3"}, list(wide), shape=wide, dtype="int64"),
        node("n5", "view", {"ref": "n4"}, [places], shape=(places,), dtype="int64"),
        node("n6", "index_select", {"ref": "n0"}, 1, {"ref": "n5"}, shape=wide),
        node("n7", "sum.dim_IntList", {"ref": "n6"}, [1], True, None, shape=(1, 1)),
    )
    graph = Graph((Parameter("w", (1, 4)),), (4,), nodes, "n7", (1,))
    if not lowers:
        with pytest.raises(NotLowered, match=r"It uses index_select: 5000 numbers .* Use at most 4,096\."):
            lowered(graph, LOGITS, 2)
        return
    program, recording = lowered(graph, LOGITS, 2)
    assert readiness._agrees(LaneSums(verified(program), kernels, NORM), recording, NORM, 0.0)


FEW: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda x: functional.log_softmax(x, 1) + torch.ops.aten.add.Scalar(x, 1.0),
    lambda x: torch.select_scatter(x, x[:, 0], 1, 2) * (x != 0.5) * (x >= 0.1) * torch.erf(x),
    lambda x: x @ torch.ones(4, 2),
)


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
ELSEWHERE = {f"aten.{name}.default" for name in ("alias", "detach", "clamp_max", "copy", "select_scatter", "sum")}


def test_every_rule_is_used_by_a_model_of_these_tests() -> None:
    used: set[str] = set()
    for name in MODELS:
        used.update(str(call.operator) for call in program_of(name)[1].calls)
    assert set(RULES) - used <= ELSEWHERE
