"""Frozen parameters are constants of training: no gradient, no noise, no part of a norm, no part of a release.

Each holds in lanes and record by record.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasites.engine import training
from datasites.engine.evaluation import score_histogram
from datasites.engine.grid import grid_of
from datasites.engine.interpreter import forward
from datasites.engine.lanes import compiled, lowering, readiness
from datasites.engine.lanes.coverage import why_not
from datasites.engine.splitting import Split
from datasites.engine.training import frozen_of, record_gradients, train_round
from policies.errors import WeightsRefused
from policies.graph.exporter import export_model
from policies.graph.graphs import Graph
from policies.schema.schemas import Schema
from tests.datasites.engine.training_factories import evaluation, matrix, mechanism, schema, source

LOSS = "binary_cross_entropy_with_logits"
NORM = 0.37


class Bodied(nn.Module):
    """One logit, from a body of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 24), nn.ReLU(), nn.Linear(24, 8), nn.Tanh())
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Upper(nn.Module):
    """A trained layer below a frozen one: the gradient goes through constants."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.last = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))


def made(model: type[nn.Module] = Bodied, *parts: str, local: tuple[str, ...] = ()) -> tuple[Graph, dict[str, Tensor]]:
    torch.manual_seed(5)
    instance = model()
    weights = {name: value.detach().clone() for name, value in instance.named_parameters()}
    return export_model(instance, (3,), frozen=parts, local=local), weights


@pytest.fixture(params=["lanes", "places"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "lanes":
        compiled.load()
    else:
        compiled.unload()
    yield request.param
    compiled.unload()


def trained(graph: Graph, weights: dict[str, Tensor], **changes: Any) -> dict[str, Tensor]:
    fields = {"loss": LOSS, "steps": 30, "sampling_rate": 0.5, "learning_rate": 0.5} | changes
    return train_round(graph, mechanism(**fields), schema(), 300, matrix(300), weights, source())


@pytest.mark.parametrize(("model", "frozen"), [(Bodied, "body.*"), (Upper, "last.*")])
def test_a_release_holds_what_is_trained_and_the_constants_stay_as_they_are(
    engine: str, model: type[nn.Module], frozen: str
) -> None:
    graph, weights = made(model, frozen)
    before = {name: value.clone() for name, value in weights.items()}
    released = trained(graph, weights)
    assert list(released) == [parameter.name for parameter in graph.parameters]
    assert not any(torch.equal(released[name], before[name]) for name in released)
    assert all(torch.equal(weights[name], before[name]) for name in weights)
    if engine == "lanes":  # or the test would be of one engine twice
        kernels = compiled.loaded()
        assert kernels is not None
        sums = readiness.made_for(graph, LOSS, 2, NORM, 9.0, kernels, frozen=frozen_of(graph, weights))
        assert sums.program.parameters == graph.parameter_count


@pytest.mark.parametrize(("model", "frozen"), [(Bodied, "body.*"), (Upper, "last.*")])
def test_both_engines_come_to_the_same(model: type[nn.Module], frozen: str) -> None:
    graph, weights = made(model, frozen)
    compiled.unload()
    slow = trained(graph, weights)
    slow_scores = score_histogram(graph, evaluation(loss=LOSS), schema(), matrix(300, held_out=200), weights, source())
    compiled.load()
    try:
        fast = trained(graph, weights)
        fast_scores = score_histogram(
            graph, evaluation(loss=LOSS), schema(), matrix(300, held_out=200), weights, source()
        )
    finally:
        compiled.unload()
    for name, value in slow.items():
        torch.testing.assert_close(fast[name], value, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(fast_scores["scores"], slow_scores["scores"])


def test_the_gradient_is_that_of_a_model_of_which_all_is_trained() -> None:
    graph, weights = made(Upper, "last.*")
    whole, _ = made(Upper)
    inputs, labels = torch.randn(7, 3), torch.randint(0, 2, (7,)).float()
    frozen = frozen_of(graph, weights)
    some, _ = record_gradients(forward(graph, frozen), LOSS)(
        {name: value for name, value in weights.items() if name not in frozen}, inputs, labels
    )
    every, _ = record_gradients(forward(whole), LOSS)(weights, inputs, labels)
    assert set(some) == {"first.weight", "first.bias"}
    for name, value in some.items():
        torch.testing.assert_close(value, every[name])


def test_the_norm_that_is_clipped_is_of_what_is_trained_alone(engine: str) -> None:
    """One patient, no noise: the step is the clipping norm long, though the whole gradient is far longer."""
    graph, weights = made(Bodied, "body.*")
    weights["head.weight"] = weights["head.weight"] * 50
    fields = {"loss": LOSS, "clipping_norm": NORM, "noise_multiplier": 1e-9, "sampling_rate": 1.0, "steps": 1}
    released = train_round(graph, mechanism(**fields), schema(), 1, matrix(1), weights, source())
    moved = math.sqrt(sum(float((released[name] - weights[name]).square().sum()) for name in released))
    assert NORM * 0.99 < moved <= NORM * (1 + 1e-6)


def test_noise_is_drawn_for_what_is_trained_alone(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many numbers as are trained, and of the size that was accounted for."""
    graph, weights = made(Bodied, "body.*")
    still = {name: torch.zeros_like(value) for name, value in weights.items()}  # nobody has a gradient but the bias
    moves = np.concatenate(
        [
            np.concatenate([value.reshape(-1).numpy() for value in released.values()])
            for seed in range(200)
            for released in [
                train_round(graph, mechanism(loss=LOSS, steps=1), schema(), 1, matrix(0), still, source(seed))
            ]
        ]
    )
    assert len(moves) == 200 * graph.parameter_count
    assert 0.95 < moves.std() < 1.05  # noise multiplier, clipping norm, learning rate and divisor are 1


@pytest.mark.parametrize("value", [1e30, 1e-42, math.nan, math.inf])
def test_one_record_moves_no_others_bits_whatever_the_constants_are(engine: str, value: float) -> None:
    """S(batch) - S(batch without r) = S({r}), and no longer than the clipping norm, to the bit.

    NaN and infinity are refused before they come here (`vault.public_weights`); the hold does not rest on that.
    """
    graph, weights = made(Bodied, "body.*")
    weights["body.0.weight"][::3] = value
    rows = matrix(40)
    seen = [sum_of(graph, weights, part) for part in (rows, np.delete(rows, 7, axis=0), rows[7:8])]
    whole, others, alone = seen
    assert np.array_equal(whole - others, alone)
    assert math.sqrt(float((alone.astype(np.float64) ** 2).sum())) * grid_of(NORM) <= NORM
    if math.isnan(value):
        assert not whole.any()  # a record whose output is no number counts as nobody


def sum_of(
    graph: Graph,
    weights: dict[str, Tensor],
    rows: np.ndarray,
    declared: Schema | None = None,
    split: Split | None = None,
) -> np.ndarray:
    """The clipped sum of one step over all these patients, in whole grid units."""
    taken: list[np.ndarray] = []

    class Watching(training.GridOptimizer):
        def add_noise(self) -> None:
            taken.append(np.concatenate([p.summed_grad.numpy().reshape(-1) for p in self.params]))
            super().add_noise()

    class WatchingLanes(training.LaneOptimizer):
        def take(self, total: Any) -> None:
            taken.append(np.array(total[: graph.parameter_count], dtype=np.float64))
            super().take(total)

    fields = {"loss": LOSS, "clipping_norm": NORM, "steps": 1, "sampling_rate": 1.0}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "GridOptimizer", Watching)
        patched.setattr(training, "LaneOptimizer", WatchingLanes)
        train_round(graph, mechanism(**fields), declared or schema(), 40, rows, weights, source(), split=split)
    (found,) = taken
    return found


def test_weights_without_their_constants_are_refused() -> None:
    graph, weights = made(Bodied, "body.*")
    with pytest.raises(WeightsRefused, match=r"body\.0\.weight"):
        trained(graph, {name: value for name, value in weights.items() if name.startswith("head")})
    weights["body.0.bias"] = weights["body.0.bias"].double()
    with pytest.raises(WeightsRefused, match=r"body.0.bias is torch.float64"):
        trained(graph, weights)


def test_local_parameters_are_trained_and_noised_as_the_others(engine: str) -> None:
    """What stays comes out of a round beside what leaves; its last bits are those of a model that keeps nothing."""
    graph, weights = made(Bodied, local=("head.*",))
    whole, _ = made(Bodied)
    apart, together = trained(graph, weights), trained(whole, weights)
    assert list(apart) == [parameter.name for parameter in graph.trained]
    assert set(apart) == set(together)
    for name, value in apart.items():
        torch.testing.assert_close(value, together[name], rtol=0, atol=1e-4)


def test_a_body_too_large_for_lanes_trains_record_by_record_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much is found out before a number of it is made up or copied: a body may have fifty million."""
    graph, weights = made(Bodied, "body.*")
    monkeypatch.setattr(lowering, "MOST_FROZEN", graph.frozen_count - 1)
    monkeypatch.setattr(lowering, "_made_up_constants", lambda graph: pytest.fail("It was made up."))
    compiled.load()
    try:
        said = why_not(graph, mechanism(loss=LOSS), schema())
        assert (
            said == f"{graph.frozen_count:,} of its parameters are frozen, and lanes take {graph.frozen_count - 1:,}."
        )
        assert why_not(graph, evaluation(loss=LOSS), schema()) == said
        assert set(trained(graph, weights)) == {"head.weight", "head.bias"}
    finally:
        compiled.unload()
