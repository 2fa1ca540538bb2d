"""Losses of numbers, counts, times and labels in lanes: torch's gradients, a record's own to the bit, and a round."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch

from datasites.engine.grid import grid_of
from datasites.engine.interpreter import forward
from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.coverage import why_not
from datasites.engine.lanes.lowering import lowered, lowered_scores
from datasites.engine.lanes.readiness import made_for
from datasites.engine.lanes.records import LaneRecords
from datasites.engine.lanes.scores import LaneScores
from datasites.engine.lanes.sums import LaneSums, shrinkage
from datasites.engine.lanes.verifier import verified
from datasites.engine.losses import Loss, compared_with, loss_of, record_scores
from datasites.engine.training import record_gradients, train_round
from policies.graph.graphs import Graph
from policies.privacy.outcomes import LOSSES
from policies.schema.schemas import Schema
from tests.datasites.engine.lanes.test_hold import SIZES, hostile_records, hostile_weights
from tests.datasites.engine.outcome_factories import (
    FEATURES,
    OUTPUTS,
    SCHEMA,
    evaluation_of,
    model_of,
    table_of,
    training_of,
)
from tests.datasites.engine.training_factories import exported, source

Floats = npt.NDArray[np.float32]
NORM = 0.37


def prepared(name: str) -> tuple[Graph, Loss, Schema, Floats]:
    mechanism = training_of(name)
    model, arguments = model_of(name)
    graph, weights = exported(model, *arguments)
    schema = SCHEMA.predicting(mechanism)
    flat = torch.cat([weights[parameter.name].reshape(-1) for parameter in graph.parameters]).numpy()
    return graph, loss_of(mechanism, schema, graph), schema, flat


@pytest.mark.parametrize("name", LOSSES)
def test_clipped_gradients_in_lanes_are_those_of_torch(name: str, kernels: Kernels) -> None:
    graph, loss, schema, flat = prepared(name)
    program, _ = lowered(graph, loss, OUTPUTS.get(name, 2))
    sums = LaneSums(verified(program), kernels, NORM, most=64)
    sums.weights[:] = flat
    rows = table_of(40)
    placed = LaneRecords(schema, "features", rows, program, kernels, loss.outcome)
    parts = torch.split(torch.from_numpy(flat), [math.prod(p.shape) for p in graph.parameters])
    by_name = {p.name: part.view(p.shape) for p, part in zip(graph.parameters, parts, strict=True)}
    targets = torch.from_numpy(compared_with(schema, rows, loss))
    gradients, _ = record_gradients(forward(graph), loss)(by_name, torch.from_numpy(schema.inputs(rows)), targets)
    torchs = torch.cat([gradients[p.name].reshape(40, -1) for p in graph.parameters], dim=1).double()
    norms = torchs.norm(dim=1, keepdim=True).clamp(min=1e-30)
    clipped = (torchs * (NORM * shrinkage(len(flat), NORM) / norms).clamp(max=1)).numpy()
    for record in range(40):
        found = sums.sum(placed, None, np.array([record])) * grid_of(NORM)
        assert np.abs(found - clipped[record]).max() <= 2e-5 * NORM, record


@pytest.mark.parametrize("name", [name for name in LOSSES if "cross_entropy" not in name or "multi" in name])
def test_company_order_and_place_change_no_bit_of_a_record(name: str, kernels: Kernels) -> None:
    graph, loss, _, flat = prepared(name)
    checked = verified(lowered(graph, loss, 2)[0])
    rng, counted = np.random.default_rng(5), 0
    sums = LaneSums(checked, kernels, NORM, most=max(SIZES))
    for _ in range(24):
        sums.weights[:] = hostile_weights(rng, flat)
        count = int(rng.choice(SIZES))
        inputs, labels = hostile_records(rng, count, checked.program.features), np.zeros(count, np.float32)
        rows, record = rng.permutation(count), int(rng.integers(count))
        whole = sums.sum(inputs, labels, rows).astype(np.int64)
        alone = sums.sum(inputs, labels, np.array([record])).astype(np.int64)
        others = sums.sum(inputs, labels, rng.permutation(rows[rows != record])).astype(np.int64)
        assert np.array_equal(whole - others, alone)
        squares = sum(int(value) ** 2 for value in alone.tolist())
        assert squares <= (NORM / grid_of(NORM)) ** 2
        counted += squares > 0
    assert counted > 0


@pytest.mark.parametrize("name", LOSSES)
def test_a_round_in_lanes_is_the_round_by_torch(name: str, kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    model, arguments = model_of(name)
    graph, weights = exported(model, *arguments)
    mechanism, rows = training_of(name, steps=30, sampling_rate=0.4, learning_rate=0.05), table_of(120, each=2)
    given = (graph, mechanism, SCHEMA, 120, rows, weights)
    monkeypatch.setattr(compiled, "_loaded", kernels)
    schema = SCHEMA.predicting(mechanism)
    assert why_not(graph, mechanism, schema) == ""
    assert why_not(graph, evaluation_of(name), SCHEMA.predicting(evaluation_of(name))) == ""
    in_lanes = train_round(*given, source())
    monkeypatch.setattr(compiled, "_loaded", None)
    by_torch = train_round(*given, source())
    for parameter, value in in_lanes.items():
        assert torch.allclose(value, by_torch[parameter], atol=2e-4), parameter


@pytest.mark.parametrize("name", LOSSES)
def test_scores_in_lanes_are_those_of_torch(name: str, kernels: Kernels) -> None:
    graph, loss, schema, flat = prepared(name)
    inputs = schema.inputs(table_of(50))
    found, sound = LaneScores(verified(lowered_scores(graph, loss)[0]), kernels, flat).of(inputs)
    parts = torch.split(torch.from_numpy(flat), [math.prod(p.shape) for p in graph.parameters])
    by_name = {p.name: part.view(p.shape) for p, part in zip(graph.parameters, parts, strict=True)}
    for record, given in zip(torch.from_numpy(inputs), found, strict=True):
        assert torch.allclose(torch.from_numpy(given), record_scores(forward(graph)(by_name, record), loss), atol=2e-5)
    assert sound.all()


def test_values_of_a_target_lie_behind_the_inputs(kernels: Kernels) -> None:
    graph, loss, _, _ = prepared("discrete_hazards")
    assert made_for(graph, loss, 2, NORM, 16, kernels).program.features == FEATURES + 2
