"""Honest networks train under the privacy machinery exactly as they do without it; mutants stop at their wall."""

from __future__ import annotations

import json
import textwrap
import zlib

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from datasites.engine.interpreter import forward
from policies.errors import GraphRefused, InspectionFailed
from policies.graph.exporter import export_source
from policies.graph.graphs import Graph
from policies.source.inspection import Inspection, inspect_source
from tests.attacks.models.honest import HONEST, REQUESTS
from tests.attacks.models.mutants import MUTANTS

RECORDS = 4
IMPORTS = "import math\nimport torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"


def request_of(classes: str) -> str:
    """A code request around classes; the last is the model."""
    model = [line for line in classes.splitlines() if line.startswith("class ")][-1].split()[1].split("(")[0]
    body = (
        f"from datasites.mechanisms import dp_sgd\n{IMPORTS}\n{classes}\n"
        f'return dp_sgd({model}, records, weights, round, loss="cross_entropy", rounds=1, steps=1, sampling_rate=0.1,\n'
        "    clipping_norm=1.0, epsilon=1.0, learning_rate=1.0)\n"
    )
    return "def request(records, weights, round):\n" + textwrap.indent(body, "    ")


def exported(inspection: Inspection, shape: tuple[int, ...]) -> tuple[Graph, dict[str, Tensor]]:
    assert inspection.model is not None
    assert inspection.model_source is not None
    return export_source(inspection.model_source, inspection.model, shape)


def instance(inspection: Inspection) -> nn.Module:
    namespace: dict[str, object] = {"__name__": "request"}
    exec(inspection.model_source or "", namespace)
    model = namespace[inspection.model or ""]()  # type: ignore[operator]
    assert isinstance(model, nn.Module)
    return model


def records_of(name: str, shape: tuple[int, ...]) -> Tensor:
    # zlib rather than hash: the same records in every process
    return torch.randn(RECORDS, *shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))


def gradients(graph: Graph, weights: dict[str, Tensor], records: Tensor) -> dict[str, Tensor]:
    run = forward(graph)
    return vmap(grad(lambda weights, record: run(weights, record).square().sum()), in_dims=(None, 0))(weights, records)


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_network_trains_as_it_does_in_torch(name: str) -> None:
    shape, classes = HONEST[name]
    inspection = inspect_source(request_of(classes))
    graph, weights = exported(inspection, shape)
    assert Graph.from_dict(json.loads(json.dumps(graph.as_dict()))) == graph
    records, model = records_of(name, shape), instance(inspection)
    model.load_state_dict(weights)
    outputs = vmap(forward(graph), in_dims=(None, 0))(weights, records)
    assert outputs.shape == (RECORDS, *graph.output_shape)
    torch.testing.assert_close(outputs, model(records), rtol=1e-4, atol=1e-5)
    found = gradients(graph, weights, records)
    assert any(each.abs().sum() > 0 for each in found.values())
    for index in range(RECORDS):
        model.zero_grad()
        model(records[index : index + 1]).square().sum().backward()
        for parameter, value in model.named_parameters():
            expected = torch.zeros_like(value) if value.grad is None else value.grad
            torch.testing.assert_close(found[parameter][index], expected, rtol=1e-3, atol=1e-4)
    assert_separable(graph, weights, records)


@pytest.mark.parametrize("name", REQUESTS)
def test_an_honest_request_is_accepted(name: str) -> None:
    inspection = inspect_source(REQUESTS[name])
    if inspection.model is not None:
        assert exported(inspection, (4,))


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_stops_at_its_wall(name: str) -> None:
    shape, classes, wall, words = MUTANTS[name]
    source = request_of(classes)
    if wall == "inspection":
        with pytest.raises(InspectionFailed) as refused:
            inspect_source(source)
        said = " ".join(f"{each.code} {each.text} {each.why} {each.instead}" for each in refused.value.findings)  # type: ignore[attr-defined]
        assert words in said, said
        return
    inspection = inspect_source(source)
    if wall == "exporter":
        with pytest.raises(GraphRefused, match=words or "."):
            exported(inspection, shape)
        return
    graph, weights = exported(inspection, shape)
    assert_separable(graph, weights, records_of(name, shape))


def assert_separable(graph: Graph, weights: dict[str, Tensor], records: Tensor) -> None:
    """One record's gradient is the same to the bit whatever its neighbours are, as long as it keeps its place."""
    expected = gradients(graph, weights, records)
    for poison in (float("nan"), -1e30, 0.0):
        neighbours = records.clone()
        neighbours[1:] = poison
        found = gradients(graph, weights, neighbours)
        for name, value in expected.items():
            assert torch.equal(found[name][0].nan_to_num(7.0), value[0].nan_to_num(7.0)), name


def test_there_are_enough_of_both() -> None:
    assert len(HONEST) + len(REQUESTS) >= 60
    assert len(MUTANTS) >= 80
