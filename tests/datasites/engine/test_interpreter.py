"""The interpreter gives the model's own outputs and gradients, record by record, and nothing else."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from datasites.engine import interpreter
from datasites.engine.interpreter import TABLE, forward
from policies.errors import GraphRefused
from policies.graph.exporter import export_model
from policies.graph.graphs import Graph, Node, Parameter
from policies.graph.operators import OPERATORS


class FluPredictor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2 = nn.Linear(10, 32), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.layer2(torch.relu(self.layer1(x))))


def test_every_operator_has_exactly_one_implementation() -> None:
    assert set(TABLE) == set(OPERATORS)


def test_signatures_name_the_arguments_of_aten_in_order() -> None:
    left_out = {"layout", "device", "pin_memory", "memory_format", "non_blocking", "implicit"}
    left_out |= {"padding_idx", "scale_grad_by_freq", "sparse"}  # of embedding: they change no value here
    for name, operator in OPERATORS.items():
        if name in ("getitem", "constant"):
            continue
        packet, _, overload = name.partition(".")
        schema = getattr(getattr(torch.ops.aten, packet), overload or "default")._schema
        wanted = [(each.name, each.kwarg_only) for each in schema.arguments if each.name not in left_out]
        assert [(each.name, each.keyword) for each in operator.arguments] == wanted, name


def test_a_poisoned_neighbour_changes_no_other_gradient() -> None:
    model = FluPredictor()
    run = forward(export_model(model, (10,)))
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    per_record = vmap(grad(lambda weights, record: run(weights, record).sum()), in_dims=(None, 0))
    clean = torch.randn(8, 10)
    for poison in (float("nan"), float("inf"), -float("inf"), 3e38):
        poisoned = clean.clone()
        poisoned[3] = poison
        for name, expected in per_record(parameters, clean).items():
            found = per_record(parameters, poisoned)[name]
            others = [0, 1, 2, 4, 5, 6, 7]
            assert torch.equal(found[others], expected[others])


def test_indices_from_a_record_never_fail() -> None:
    class Categories(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.out = nn.Embedding(4, 3), nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.embedding(x[:, 0].clamp(0, 3).long()))

    model = Categories()
    graph = export_model(model, (1,))
    nodes = tuple(node for node in graph.nodes if node.op != "clamp")
    assert len(nodes) < len(graph.nodes)
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    # The interpreter clamps by itself: a record outside the table reads its edge instead of failing.
    weight = parameters["embedding.weight"]
    assert torch.equal(interpreter._embedding(weight, torch.tensor([-5, 99])), weight[[0, 3]])
    values = torch.tensor([[float("nan")], [float("inf")], [-1e30], [2.0]])
    assert vmap(forward(graph), in_dims=(None, 0))(parameters, values).isfinite().all()


def test_a_graph_that_lies_about_shapes_is_refused() -> None:
    graph = export_model(nn.Linear(10, 2), (10,))
    lying = dataclasses.replace(graph.nodes[0], outputs=(("float32", (10, 3)),))
    with pytest.raises(GraphRefused, match="where the graph says"):
        forward(dataclasses.replace(graph, nodes=(lying, *graph.nodes[1:])))


def test_a_graph_whose_arguments_do_not_fit_is_refused() -> None:
    node = Node("n0", "mm", ({"ref": "record"}, {"parameter": "w"}), (("float32", (1, 2)),))
    with pytest.raises(GraphRefused, match="does not run"):
        forward(Graph((Parameter("w", (3, 2)),), (10,), (node,), "n0", (2,)))


def test_what_is_remembered_of_operators_is_told_apart_by_every_argument() -> None:
    table = interpreter._Remembering()
    assert set(table) == set(interpreter.TABLE)
    tensors = [torch.empty((2, 3), device="meta"), torch.empty((3, 2), device="meta").t()]
    tensors += [torch.empty((2, 3), device="meta", dtype=kind) for kind in (torch.bool, torch.int64)]
    asked = [(tensor, other) for tensor in tensors for other in (1, 1.0, True, tensors[0], tensors[2])]
    for _ in range(2):
        for tensor, other in asked:
            name = "mul.Tensor" if isinstance(other, Tensor) else "mul.Scalar"
            found, wanted = table[name](tensor, other), interpreter.TABLE[name](tensor, other)
            assert (found.shape, found.stride(), found.dtype) == (wanted.shape, wanted.stride(), wanted.dtype)
    assert table["sum.dim_IntList"](tensors[0], [0], True).shape == (1, 3)
    assert table["sum.dim_IntList"](tensors[0], [0], False).shape == (3,)
    assert table["sum.dim_IntList"](tensors[0], [1], False).shape == (2,)


@pytest.mark.parametrize("kind", [torch.float32, torch.int64])
def test_shapes_that_are_found_faster_are_those_of_torch(kind: torch.dtype) -> None:
    def made(*shape: int) -> Tensor:
        return torch.empty(shape, device="meta", dtype=kind)

    cases = [("relu", (x,)) for x in (made(1, 3), made(4, 3).t(), made(2, 3, 4).permute(2, 0, 1), made(), made(0, 3))]
    for bias in (made(5), made(1, 5), made(2, 5), made(2, 1), made()):
        cases += [("addmm", (bias, made(2, 3), made(3, 5))), ("addmm", (bias, made(3, 2).t(), made(5, 3).t()))]
    for name, arguments in cases:
        found, wanted = interpreter._SHAPES[name](*arguments), TABLE[name](*arguments)
        assert (found.shape, found.stride(), found.dtype) == (wanted.shape, wanted.stride(), wanted.dtype)
    for wrong in ((made(4), made(2, 3), made(3, 5)), (made(5), made(2, 3), made(4, 5)), (made(5), made(3), made(3, 5))):
        with pytest.raises(RuntimeError):
            interpreter._SHAPES["addmm"](*wrong)
    other = torch.empty(5, device="meta", dtype=torch.float64)
    with pytest.raises(GraphRefused, match="another kind"):
        interpreter._SHAPES["addmm"](other, made(2, 3), made(3, 5))


def test_the_interpreter_equals_functional_call() -> None:
    model = FluPredictor()
    run = forward(export_model(model, (10,)))
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    record = torch.randn(10)
    torch.testing.assert_close(run(parameters, record), functional_call(model, parameters, (record[None],))[0])
