"""Every loss is torch's where torch has it, the likelihood where it has none, and never an error."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from datasites.engine.interpreter import forward
from datasites.engine.losses import Loss, compared_with, loss_of, record_loss, record_scores
from datasites.engine.training import record_gradients, train_round
from policies.errors import UnsupportedMechanism
from policies.graph.exporter import export_model
from policies.graph.graphs import Graph
from policies.privacy.outcomes import LOSSES
from tests.datasites.engine.outcome_factories import (
    FEATURES,
    INTERVALS,
    SCHEMA,
    TARGETS,
    model_of,
    table_of,
    training_of,
)
from tests.datasites.engine.training_factories import exported, source


def graph_for(loss: str) -> Graph:
    model, arguments = model_of(loss)
    return exported(model, *arguments)[0]


def made(loss: str, **changes: object) -> Loss:
    mechanism = training_of(loss, **changes)
    return loss_of(mechanism, SCHEMA.predicting(mechanism), graph_for(loss))


def test_every_loss_has_a_target_here() -> None:
    assert set(TARGETS) == set(LOSSES)


@pytest.mark.parametrize("value", [-0.9, 0.0, 0.4])
@pytest.mark.parametrize("output", [-3.0, -0.9, 0.39, 2.0])
def test_losses_of_numbers_are_those_of_torch(output: float, value: float) -> None:
    given, wanted = torch.tensor([output], dtype=torch.float64), torch.tensor([value], dtype=torch.float64)
    assert record_loss(given, wanted, made("mean_squared_error")) == functional.mse_loss(given, wanted)
    delta = 14 / (200 - 60) * 2  # 14 mmHg of a target scaled from [60, 200] to [-1, 1]
    huber = functional.huber_loss(given, wanted, delta=delta)
    assert record_loss(given, wanted, made("huber")).item() == pytest.approx(huber.item(), abs=1e-12)
    count = torch.tensor([3.0], dtype=torch.float64)
    poisson = functional.poisson_nll_loss(given, count, log_input=True)
    assert record_loss(given, count, made("poisson")).item() == pytest.approx(poisson.item())


def test_losses_of_labels_and_weighted_classes_are_those_of_torch() -> None:
    logits, labels = torch.tensor([0.3, -2.0, 1.0]), torch.tensor([1.0, 0.0, 1.0])
    loss = made("multilabel_binary_cross_entropy_with_logits")
    weights = torch.tensor([1.0, 2.0, 0.5])
    expected = functional.binary_cross_entropy_with_logits(logits, labels, weight=weights)
    assert record_loss(logits, labels, loss).item() == pytest.approx(expected.item())
    weights = torch.tensor([1.0, 2.0, 4.0])
    for label in range(3):  # torch divides by the weight, of a mean over one record
        one = functional.cross_entropy(logits[None], torch.tensor([label]), weight=weights, reduction="sum")
        found = record_loss(logits, torch.tensor(label), made("cross_entropy"))
        assert found.item() == pytest.approx(one.item())
    for label in (0, 1):
        plain = record_loss(logits[:1], torch.tensor(label), "binary_cross_entropy_with_logits")
        weighted = record_loss(logits[:1], torch.tensor(label), made("binary_cross_entropy_with_logits"))
        assert weighted.item() == pytest.approx(plain.item() * (1.0, 4.0)[label])


def likelihood(logits: list[float], time: float, *, event: bool, horizon: float) -> float:
    """By the definition: the chance of no event in every interval that was over, times that of one where it came."""
    ends = [horizon * (k + 1) / len(logits) for k in range(len(logits))]
    hazards = [1 / (1 + math.exp(-logit)) for logit in logits]
    chance = 1.0
    for end, hazard in zip(ends, hazards, strict=True):
        if event and time <= end:
            return chance * hazard
        if not event and time < end:
            return chance
        chance *= 1 - hazard
    return chance


@pytest.mark.parametrize("event", [True, False])
@pytest.mark.parametrize("time", [0.0, 7.0, 20.0, 20.5, 40.0, 99.0, 100.0, 100.1, 120.0])
def test_the_loss_of_a_time_is_minus_the_log_likelihood_with_censoring(time: float, event: bool) -> None:
    logits = [0.4, -1.0, 2.0, 0.1, -0.3]
    target = torch.tensor([time / 120 * 2 - 1, float(event)])
    found = record_loss(torch.tensor(logits), target, made("discrete_hazards"))
    expected = -math.log(likelihood(logits, time, event=event, horizon=100.0))
    assert found.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_differences(loss: str) -> None:
    rng, outputs = np.random.default_rng(3), model_of(loss)[1][0]
    chosen = made(loss)
    targets = torch.from_numpy(compared_with(SCHEMA.predicting(training_of(loss)), table_of(20), chosen))
    for target in targets:
        output = torch.tensor(rng.uniform(0.1, 0.9, outputs), requires_grad=True)
        other = target.double() if chosen.values else target

        def value(at: Tensor, target: Tensor = other) -> Tensor:
            return record_loss(at, target, chosen)

        record_gradient = torch.autograd.grad(value(output), output)[0]
        step = 1e-6
        for place in range(outputs):
            moved = torch.zeros(outputs, dtype=torch.float64)
            moved[place] = step
            slope = (value(output + moved) - value(output - moved)).item() / (2 * step)
            if loss == "binary_cross_entropy":  # whose value does not move with the score but by its slope
                continue
            assert record_gradient[place].item() == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("loss", [name for name in LOSSES if name not in ("binary_cross_entropy", "cross_entropy")])
def test_scores_are_what_an_output_stands_for(loss: str) -> None:
    output = torch.linspace(-1, 1, model_of(loss)[1][0])
    scores = record_scores(output, made(loss))
    expected = {
        "poisson": output.exp(),
        "discrete_hazards": torch.cumprod(1 - torch.sigmoid(output), dim=0),
        "mean_squared_error": output,
        "huber": output,
    }
    assert torch.allclose(scores, expected.get(loss, torch.sigmoid(output)), atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_one_patient_moves_the_weights_by_at_most_the_clipping_norm_whatever_the_target(loss: str) -> None:
    mechanism, rows = training_of(loss, noise_multiplier=0.05, clipping_norm=0.5), table_of(30)
    model, arguments = model_of(loss)
    graph, weights = exported(model, *arguments)
    longest = 0.0
    for value in (np.nan, np.inf, -np.inf, 1e300, -1e300, 0.0):
        spoilt = rows.copy()
        spoilt[-1, 2 + FEATURES :] = value
        moved, still = (
            train_round(graph, mechanism, SCHEMA, 1, table, weights, source()) for table in (spoilt, spoilt[:-1])
        )
        apart = torch.cat([(moved[name] - still[name]).reshape(-1) for name in moved])
        assert torch.isfinite(apart).all()
        # learning rate 1 and a public divisor of 1: the clipped gradient itself, but for float32's last digits
        assert apart.norm() <= 0.5 + 1e-6 * weights_norm(moved)
        longest = max(longest, float(apart.norm()))
    assert longest > 0.1  # of a patient censored at once nothing is learnt, of others something


def weights_norm(weights: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(weight.norm()) ** 2 for weight in weights.values()))


@pytest.mark.parametrize("loss", ["mean_squared_error", "poisson", "discrete_hazards"])
def test_training_comes_near_what_it_should(loss: str) -> None:
    mechanism = training_of(loss, steps=150, noise_multiplier=0.05, learning_rate=0.3)
    model, arguments = model_of(loss)
    graph, weights = exported(model, *arguments)
    rows, schema = table_of(400), SCHEMA.predicting(mechanism)
    trained = train_round(graph, mechanism, SCHEMA, 400, rows, weights, source())
    chosen = made(loss)
    inputs, targets = torch.from_numpy(schema.inputs(rows)), torch.from_numpy(compared_with(schema, rows, chosen))
    _, (before, _) = record_gradients(forward(graph), chosen)(weights, inputs, targets)
    _, (after, _) = record_gradients(forward(graph), chosen)(trained, inputs, targets)
    assert after.mean() < before.mean()
    if loss == "mean_squared_error":
        assert after.mean() < 0.5 * targets.var()


@pytest.mark.parametrize(
    ("loss", "changes", "words"),
    [
        ("mean_squared_error", {"target": "sex"}, "category: use loss='binary_cross_entropy_with_logits'"),
        ("mean_squared_error", {"target": "nothing"}, "'nothing' is not a declared column"),
        ("poisson", {"target": "pressure"}, "an integer column whose minimum is 0 or more"),
        ("discrete_hazards", {"target": ("died", "days")}, "A time is real or integer"),
        ("discrete_hazards", {"horizon": 500.0}, "horizon=500 is outside"),
        ("cross_entropy", {"target": "pressure"}, "use loss='mean_squared_error' or 'huber'"),
        ("cross_entropy", {"target": "stage", "class_weights": (1.0, 2.0)}, "class_weights has 2 numbers for 3"),
        ("huber", {"inputs": ("x0", "pressure")}, "without the target"),
    ],
)
def test_what_does_not_go_together_is_refused_before_rows_are_looked_at(
    loss: str, changes: dict[str, object], words: str
) -> None:
    model, arguments = model_of(loss)
    graph, weights = exported(model, *arguments)
    with pytest.raises(UnsupportedMechanism, match=words):
        train_round(graph, training_of(loss, **changes), SCHEMA, 10, None, weights, source())  # type: ignore[arg-type]


def test_too_many_intervals_are_refused() -> None:
    model, _ = model_of("discrete_hazards")
    graph = export_model(model(201), (FEATURES,))
    with pytest.raises(UnsupportedMechanism, match="one logit for each of 1 to 200 intervals"):
        train_round(graph, training_of("discrete_hazards"), SCHEMA, 10, None, {}, source())  # type: ignore[arg-type]
    assert INTERVALS < 201
