"""A graph is cut where its frozen body ends, and the two parts give what the whole one gives."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datasites.engine import splitting
from datasites.engine.interpreter import forward
from datasites.engine.splitting import body_and_head, split_for
from policies.graph import graphs
from policies.graph.exporter import export_model
from policies.graph.graphs import Graph
from researcher.lora import LoRALinear
from tests.datasites.engine.training_factories import mechanism, schema

LOSS = "binary_cross_entropy_with_logits"


class Branching(nn.Module):
    """Two frozen branches and the record itself reach what is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 5), nn.Linear(3, 2)
        self.head = nn.Linear(10, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([torch.tanh(self.left(x)), torch.relu(self.right(x)), x], dim=1))


class Counting(nn.Module):
    """What reaches the head beside numbers is a place and a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 6)
        self.table, self.head = nn.Embedding(6, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        best = torch.argmax(h, dim=1)
        scaled = torch.where(h > 0, self.head.bias, h).sum(1, keepdim=True)
        return self.head(self.table(best)) + scaled


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.unsqueeze(2))[0][:, -1])


class Images(nn.Module):
    """A frozen layer below a trained one, and one above."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm = nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4)
        self.middle, self.last = nn.Conv2d(4, 2, 3), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.max_pool2d(torch.relu(self.norm(self.body(x))), 2)
        return self.last(torch.nn.functional.pad(self.middle(h), (0, 1, 0, 1)).flatten(1))


class Adapted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 6), LoRALinear(6, 1, rank=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


CASES: list[tuple[Any, tuple[int, ...], tuple[str, ...], int]] = [
    (Branching, (3,), ("left.*", "right.*"), 10),
    (Counting, (3,), ("body.*",), 6),
    (Recurrent, (3,), ("body.*",), 4),
    (Images, (1, 8, 8), ("body.*", "norm.*", "last.*"), 36),
    (Adapted, (3,), ("first.*", "second.base_layer.*"), 7),
]


def made(model: Any, shape: tuple[int, ...], *frozen: str) -> tuple[Graph, dict[str, Tensor]]:
    torch.manual_seed(3)
    instance = model()
    return export_model(instance, shape, frozen=frozen), {
        name: value.detach() for name, value in instance.named_parameters()
    }


@pytest.mark.parametrize(("model", "shape", "frozen", "width"), CASES)
def test_head_of_body_is_the_graph(model: Any, shape: tuple[int, ...], frozen: tuple[str, ...], width: int) -> None:
    graph, weights = made(model, shape, *frozen)
    parts = body_and_head(graph)
    assert parts is not None
    body, head = parts
    assert body.output_shape == head.input_shape == (width,)
    assert head.parameters == graph.parameters
    assert head.local == graph.local
    constants = {parameter.name for parameter in graph.frozen}
    assert {parameter.name for parameter in body.weights} <= constants  # nothing of it is trained
    for record in torch.randn((5, *shape)):
        values = forward(body)({one.name: weights[one.name] for one in body.weights}, record)
        found = forward(head)({one.name: weights[one.name] for one in head.weights}, values)
        assert torch.equal(found, forward(graph)(weights, record))


def test_nothing_is_cut_where_a_frozen_part_lies_above_what_is_trained() -> None:
    class Upper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.tanh(self.first(x * 2)))

    assert body_and_head(made(Upper, (3,), "last.*")[0]) is None
    assert body_and_head(made(Upper, (3,))[0]) is None


def test_nothing_is_cut_where_a_record_would_be_wider_than_one_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = made(Branching, (3,), "left.*", "right.*")
    monkeypatch.setattr(graphs, "MAX_RECORD_ELEMENTS", 9)
    assert body_and_head(graph) is None


def test_a_body_beyond_what_is_trained_at_most_keeps_its_weights_as_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, weights = made(Branching, (3,), "left.*", "right.*")
    monkeypatch.setattr(splitting, "MAX_PARAMETERS", 10)
    parts = body_and_head(graph)
    assert parts is not None
    body = parts[0]
    assert [one.name for one in body.parameters] == ["right.bias"]
    assert {one.name for one in body.frozen} == {"left.weight", "left.bias", "right.weight"}
    values = forward(body, weights)({"right.bias": weights["right.bias"]}, torch.ones(3))
    assert torch.equal(values, forward(body)(weights, torch.ones(3)))


@pytest.mark.parametrize(
    ("changes", "most", "holdout", "slots"),
    [
        ({"steps": 30, "sampling_rate": 0.5}, 1, 0.0, 300),  # 15 passes over 300 patients
        ({"steps": 30, "sampling_rate": 0.5}, 1, 0.25, 335),  # and 4 deviations of √(300 · 0.25) more
        ({"steps": 30, "sampling_rate": 0.5}, 14, 0.0, 4200),
        ({"steps": 30, "sampling_rate": 0.5}, 15, 0.0, None),  # as many records as a round samples
        ({"steps": 2, "sampling_rate": 0.5}, 1, 0.0, None),
        ({"steps": 30, "sampling_rate": 0.5}, 1000, 0.0, None),  # the schema's own figure where it says none
    ],
)
def test_a_round_is_cut_by_a_public_rule(changes: dict[str, Any], most: int, holdout: float, slots: int | None) -> None:
    graph, _ = made(Branching, (3,), "left.*", "right.*")
    declared = dataclasses.replace(schema(), most_records_per_patient=most, holdout=holdout)
    split = split_for(graph, mechanism(loss=LOSS, **changes), declared, 300)
    assert (split and split.slots) == slots


def test_no_more_memory_than_declared_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = made(Branching, (3,), "left.*", "right.*")
    declared = dataclasses.replace(schema(), most_records_per_patient=1, holdout=0.0)
    trained = mechanism(loss=LOSS, steps=30, sampling_rate=0.5)
    monkeypatch.setattr(splitting, "MOST_FLOATS", 300 * 10)
    assert split_for(graph, trained, declared, 300) is not None
    monkeypatch.setattr(splitting, "MOST_FLOATS", 300 * 10 - 1)
    assert split_for(graph, trained, declared, 300) is None
