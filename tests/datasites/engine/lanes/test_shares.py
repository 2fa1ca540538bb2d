"""A sum is the same whole numbers, whoever adds up which record."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from datasites.engine import helpers as helping
from datasites.engine.helpers import Helper, begin
from datasites.engine.lanes import compiled
from datasites.engine.lanes import sums as sums_module
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.records import LaneRecords
from datasites.engine.lanes.sums import LaneSums
from datasites.engine.training import train_round
from tests.datasites.engine.lanes.models import program_of, weights_of
from tests.datasites.engine.training_factories import Sigmoid, exported, matrix, mechanism, schema, source


@pytest.fixture(autouse=True)
def none_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helping, "_helpers", [])
    monkeypatch.setattr(sums_module, "WORTH_A_HELPER", 0)


@pytest.mark.parametrize("name", ["two layers", "LSTM", "picture"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_sum_is_the_same_with_helpers(
    name: str, count: int, kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, _ = program_of(name)
    rng = np.random.default_rng(11)
    inputs = rng.uniform(-1, 1, (1500, checked.program.features)).astype(np.float32)
    inputs[::7] *= np.float32(1e-38)
    inputs[3], inputs[40] = np.nan, np.inf
    labels = rng.integers(0, 2, len(inputs)).astype(np.float32)
    alone = LaneSums(checked, kernels, 0.37, most=200)
    begin(count)
    together = LaneSums(checked, kernels, 0.37, most=200)
    alone.weights[:] = together.weights[:] = weights_of(name)
    asked: list[int] = []
    ask = Helper.ask
    monkeypatch.setattr(Helper, "ask", lambda self, *given: (asked.append(1), ask(self, *given))[1])
    for size in (0, 1, 32, 33, 97, 200, 1500):
        rows = rng.permutation(len(inputs))[:size]
        assert np.array_equal(alone.sum(inputs, labels, rows), together.sum(inputs, labels, rows)), size
    assert asked


def test_a_round_is_the_same_with_helpers(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_loaded", kernels)
    graph, weights = exported(Sigmoid)
    given = (graph, mechanism(steps=6, sampling_rate=0.9), schema(), 200, matrix(200), weights)
    placed: list[int] = []
    place = LaneRecords.place
    monkeypatch.setattr(
        LaneRecords, "place", lambda self, *found: (placed.append(threading.get_ident()), place(self, *found))[1]
    )
    alone = train_round(*given, source())
    assert len(set(placed)) == 1
    begin(1)
    together = train_round(*given, source())
    assert len(set(placed)) == 2
    assert all(torch.equal(alone[name], together[name]) for name in weights)
