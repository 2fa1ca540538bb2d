"""A round in lanes is the round that torch would have trained, with the same noise, sample and accountant."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from opacus.accountants import RDPAccountant
from torch import Tensor, nn

from datasites.engine import training
from datasites.engine.grid import grid_of
from datasites.engine.lanes import compiled, lowering, readiness
from datasites.engine.lanes.compiled import Kernels, KernelsMissing
from datasites.engine.lanes.emitter import NotLowered
from datasites.engine.lanes.sums import LaneSums, shrinkage
from datasites.engine.losses import as_loss
from datasites.engine.training import train_round
from policies.graph.exporter import export_model
from tests.attacks.runner import test_places as places
from tests.datasites.engine.lanes.models import BCE, LOGITS, graph_of
from tests.datasites.engine.training_factories import (
    Logarithm,
    Plain,
    Sigmoid,
    exported,
    matrix,
    mechanism,
    schema,
    source,
)


@pytest.fixture
def lanes(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Train in lanes in this test; gives the sizes of the samples that were summed there."""
    seen: list[int] = []
    original = LaneSums.sum

    def watch(self: LaneSums, inputs: Any, labels: Any, rows: Any) -> Any:
        seen.append(len(rows))
        return original(self, inputs, labels, rows)

    monkeypatch.setattr(compiled, "_loaded", kernels)
    monkeypatch.setattr(LaneSums, "sum", watch)
    return seen


def both_ways(monkeypatch: pytest.MonkeyPatch, *given: Any, **options: Any) -> tuple[dict[str, Tensor], ...]:
    """A round in lanes, and the same one by torch."""
    in_lanes = train_round(*given, source(), **options)
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "_loaded", None)
        return in_lanes, train_round(*given, source(), **options)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"optimizer": "adam", "learning_rate": 0.01},
        {"proximal_mu": 0.5},
        {"clipping": "automatic"},
        {"schedule": "cosine"},
        {"schedule": "linear", "optimizer": "adam", "learning_rate": 0.01, "clipping": "automatic"},
    ],
)
def test_a_round_in_lanes_releases_what_torch_would(
    changes: dict[str, Any], lanes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, weights = exported(Sigmoid)
    made = mechanism(**({"steps": 20, "sampling_rate": 0.5, "learning_rate": 0.1} | changes))
    one, two = both_ways(monkeypatch, graph, made, schema(), 60, matrix(60, each=2), weights)
    assert len(lanes) >= 20
    assert list(one) == list(two) == list(weights)
    for name in weights:
        assert one[name].shape == two[name].shape
        # Sums are rounded to the grid in two ways, and the clipping norms differ by less than 10⁻⁴ of themselves.
        assert torch.allclose(one[name], two[name], atol=1e-3, rtol=1e-3)
        assert not torch.equal(one[name], weights[name])


def test_opacus_counts_the_steps_in_lanes(lanes: list[int]) -> None:
    graph, weights = exported(Sigmoid)
    accountant = RDPAccountant()
    made = mechanism(steps=7, sampling_rate=0.25)
    train_round(graph, made, schema(), 40, matrix(40), weights, source(), accountant=accountant)
    assert accountant.history == [(1.0, 0.25, 7)]
    assert lanes


@pytest.mark.parametrize("rows", [0, 1, 2500])
def test_any_number_of_patients_trains(rows: int, lanes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    graph, weights = exported(Plain)
    made = mechanism(loss=LOGITS, steps=2)
    one, two = both_ways(monkeypatch, graph, made, schema(), 2000, matrix(rows), weights)
    assert max(lanes) == max(1, rows)  # the record of the check beforehand is one
    for name in weights:
        assert torch.allclose(one[name], two[name], atol=1e-4)


@pytest.mark.parametrize("spoilt", [math.nan, math.inf, 1e300])
def test_records_that_are_not_finite_count_as_zero(
    spoilt: float, lanes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, weights = exported(Logarithm)
    made, table = mechanism(loss=LOGITS, steps=2), matrix(40)
    table[::3, 2] = spoilt
    with np.errstate(over="ignore"):
        one, two = both_ways(monkeypatch, graph, made, schema(), 40, table, weights)
    assert len(lanes) > 2
    for name in weights:
        assert torch.isfinite(one[name]).all()
        assert torch.allclose(one[name], two[name], atol=1e-3)


@pytest.mark.usefixtures("lanes")
@pytest.mark.parametrize("absent", [0, 1, 31, places.PATIENTS - 1])
def test_one_patient_moves_the_sum_by_the_clipping_norm_at_most(absent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "LARGEST_DIFFERENCE", math.inf)  # of a model that no two ways compute alike
    rows = places.matrix()
    moved = (places.one_step(rows) - places.one_step(np.delete(rows, absent, axis=0))).norm()
    assert moved <= 1.0 + 1e-4


def test_the_graph_alone_decides(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, weights = exported(Sigmoid)
    asked: list[object] = []
    monkeypatch.setattr(compiled, "_loaded", kernels)
    monkeypatch.setattr(
        training,
        "sums_for",
        lambda *given, frozen: asked.append((*given, *sorted(frozen))) or (_ for _ in ()).throw(KeyError()),
    )
    with pytest.raises(KeyError):
        train_round(graph, mechanism(), schema(), 10, None, weights, source())  # type: ignore[arg-type]
    assert asked == [(graph, as_loss(BCE), 2, 1.0, 10.0, 0.0)]


def test_a_model_that_is_not_lowered_trains_the_former_way(lanes: list[int]) -> None:
    class InNoOrder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).topk(2, sorted=False).values)

    model = InNoOrder()
    graph = export_model(model, (3,))
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    after = train_round(graph, mechanism(loss=LOGITS), schema(), 20, matrix(20), weights, source())
    assert not lanes
    assert not torch.equal(after["a.weight"], weights["a.weight"])


@pytest.mark.parametrize("fault", [IndexError, MemoryError, RecursionError])
def test_a_fault_of_the_lowering_costs_speed_and_no_round(
    fault: type[Exception], lanes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Any:
        raise fault

    graph, weights = exported(Sigmoid)
    monkeypatch.setattr(readiness, "lowered", fails)
    after = train_round(graph, mechanism(), schema(), 20, matrix(20), weights, source())
    assert not lanes
    assert not torch.equal(after["layer1.weight"], weights["layer1.weight"])


def test_a_model_that_two_ways_do_not_compute_alike_is_not_lowered(kernels: Kernels) -> None:
    with pytest.raises(NotLowered, match="another gradient than torch"):
        readiness.made_for(graph_of("shout"), LOGITS, 2, 1.0, 64, kernels)


def test_a_program_that_hangs_upon_the_values_it_was_recorded_with_is_not_used(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, _ = exported(Sigmoid)
    readiness.made_for(graph, BCE, 2, 1.0, 64, kernels)
    original = lowering.recorded_once

    def other_elsewhere(*given: Any) -> Any:
        recording = original(*given)
        arguments, results = recording.other
        recording.other = (arguments, [results[0] * 1.1, *results[1:]])
        return recording

    monkeypatch.setattr(lowering, "recorded_once", other_elsewhere)
    with pytest.raises(NotLowered, match="another gradient than torch"):
        readiness.made_for(graph, BCE, 2, 1.0, 64, kernels)


def test_the_self_test_finds_sums_that_depend_on_company(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = exported(Sigmoid)
    readiness.check_hold(graph, BCE, kernels)
    original = LaneSums.sum

    def spoilt(self: LaneSums, inputs: Any, labels: Any, rows: npt.NDArray[np.int64]) -> Any:
        total = original(self, inputs, labels, rows).copy()
        total[0] += len(rows) > 1 and rows[0] > rows[-1]
        return total

    monkeypatch.setattr(LaneSums, "sum", spoilt)
    with pytest.raises(KernelsMissing, match="self-test"):
        readiness.check_hold(graph, BCE, kernels)


def test_a_host_without_kernels_says_why_and_trains_the_former_way(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, _ = exported(Sigmoid)

    def missing() -> Kernels:
        raise KernelsMissing("This processor has no fma, which the kernels need.")

    monkeypatch.setattr(compiled, "_loaded", kernels)
    assert readiness.prepare(graph, BCE) == ""
    assert readiness.said() == f"a lane for each record ({kernels.level}); its self-test holds"
    monkeypatch.setattr(compiled, "load", missing)
    assert "no fma" in readiness.prepare(graph, BCE)
    assert readiness.said() == "a place for each record: This processor has no fma, which the kernels need"
    assert readiness.sums_for(graph, BCE, 2, 1.0, 10) is None


@pytest.mark.parametrize(("parameters", "norm"), [(1, 1.0), (385, 0.37), (100_000, 1e-6), (1_000_000, 999.9)])
def test_what_the_clipping_norm_is_shortened_by_covers_rounding(parameters: int, norm: float) -> None:
    # Worst case: every coordinate is rounded up by half a unit, the factor and the left side by 2⁻²⁴ each.
    longest = norm * shrinkage(parameters, norm) * (1 + 2.0**-24) ** 2 * (1 + 2.0**-26)
    assert longest + math.sqrt(parameters) / 2 * grid_of(norm) <= norm
