import math
import warnings

import numpy as np
import pytest
import torch

from datasites.engine.evaluation import score_histogram
from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import KernelsMissing
from datasites.engine.training import physical_batch
from policies.errors import UnsupportedMechanism
from policies.privacy.mechanisms import Evaluation
from tests.datasites.engine.training_factories import (
    Logarithm,
    Plain,
    Sigmoid,
    evaluation,
    exported,
    matrix,
    schema,
    source,
)


@pytest.fixture(params=["lanes", "places"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test with both engines, the first where this processor has its kernels."""
    kernels = None
    if request.param == "lanes":
        try:
            kernels = compiled._load(compiled.directory(), compiled.level_of_this_processor())
        except KernelsMissing as error:
            pytest.skip(str(error))
    monkeypatch.setattr(compiled, "_loaded", kernels)
    return str(request.param)


def exact(**changes: object) -> Evaluation:
    return evaluation(epsilon=100.0, **changes)


def scores(table: np.ndarray, made: Evaluation, model: type = Sigmoid, *args: int, seed: int = 0) -> np.ndarray:
    graph, weights = exported(model, *args)
    return score_histogram(graph, made, schema(*args[:1] or [2]), table, weights, source(seed))["scores"]


def test_each_held_out_patient_is_in_exactly_one_cell() -> None:
    table = matrix(60, each=4, held_out=25)
    found = scores(table, exact())
    assert found.shape == (2, 5)
    assert found.dtype == np.float64
    assert found.sum() == 25


def test_cells_are_those_of_the_model() -> None:
    table = matrix(50, held_out=50)
    _graph, weights = exported(Sigmoid)
    model = Sigmoid()
    model.load_state_dict(weights)
    with torch.no_grad():
        outputs = model(torch.from_numpy(schema().inputs(table)))[:, 0].double().numpy()
    expected = np.zeros((2, 5))
    np.add.at(expected, (schema().targets(table), np.floor(outputs * 5).astype(int)), 1)
    assert (scores(table, exact()) == expected).all()


@pytest.mark.parametrize(
    "engine", ["places"], indirect=True
)  # in lanes a record has no batch: see lanes/test_scores.py
@pytest.mark.parametrize("held_out", [1, 7, 30])
def test_what_is_computed_has_the_size_of_the_batch_and_not_of_the_patients(
    held_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Torch rounds the last few of a vector otherwise: one patient more would move another's score by its last bit.
    sizes: set[int] = set()
    sigmoid = torch.sigmoid

    def watch(x: torch.Tensor) -> torch.Tensor:
        sizes.add(len(x))
        return sigmoid(x)

    graph, _ = exported(Plain)
    monkeypatch.setattr(torch, "sigmoid", watch)
    scores(matrix(30, held_out=held_out), exact(loss="binary_cross_entropy_with_logits"), Plain)
    assert sizes == {physical_batch(graph, 512)}


def test_training_rows_never_influence_a_score() -> None:
    table = matrix(60, held_out=25)
    spoilt = table.copy()
    spoilt[:35, 2:] = np.nan
    assert (scores(table, evaluation()) == scores(spoilt, evaluation())).all()
    assert (scores(table, evaluation()) == scores(table[35:], evaluation())).all()


def test_one_patient_more_changes_one_cell_by_one() -> None:
    table = matrix(30, held_out=30)
    difference = scores(table, evaluation()) - scores(table[:-1], evaluation())
    assert difference.sum() == 1
    assert np.abs(difference).sum() == 1  # L1 sensitivity 1


def test_a_patient_with_many_records_counts_once() -> None:
    table = matrix(30, held_out=30)
    many = np.concatenate([table, np.repeat(table[-1:], 100, axis=0)])
    assert (scores(table, evaluation()) == scores(many, evaluation())).all()


def test_scores_that_are_not_finite_fall_into_one_public_cell() -> None:
    table = matrix(30, held_out=30)
    table[:, 2] = -0.5  # the logarithm of the first feature is NaN
    found = scores(table, exact(loss="binary_cross_entropy_with_logits"), Logarithm)
    labels = schema().targets(table)
    assert found[:, 0].tolist() == [(labels == 0).sum(), (labels == 1).sum()]
    assert found[:, 1:].sum() == 0


def test_scores_outside_of_0_and_1_fall_into_the_end_bins() -> None:
    table = matrix(30, held_out=30)
    graph, weights = exported(Plain, 1)
    for bias, cell in ((9.0, 4), (-9.0, 0)):
        moved = {"layer.weight": weights["layer.weight"], "layer.bias": torch.full((1,), bias)}
        found = score_histogram(graph, exact(), schema(), table, moved, source())["scores"]
        assert found[:, cell].sum() == 30


@pytest.mark.parametrize("classes", [3, 4])
def test_more_classes_are_counted_by_truth_prediction_and_confidence(classes: int) -> None:
    table = matrix(40, classes=classes, held_out=40)
    graph, weights = exported(Plain, classes)
    found = score_histogram(graph, exact(loss="cross_entropy"), schema(classes), table, weights, source())["scores"]
    assert found.shape == (classes, classes, 5)
    chances = torch.softmax(
        torch.from_numpy(schema(classes).inputs(table)) @ weights["layer.weight"].T + weights["layer.bias"], 1
    )
    expected = np.zeros(found.shape)
    best, predicted = chances.double().max(1)
    np.add.at(expected, (schema(classes).targets(table), predicted.numpy(), (best * 5).long().numpy()), 1)
    assert (found == expected).all()


def test_two_logits_score_the_second_class() -> None:
    table = matrix(40, held_out=40)
    graph, _weights = exported(Plain, 2)
    sure = {"layer.weight": torch.zeros(2, 3), "layer.bias": torch.tensor([0.0, 9.0])}
    found = score_histogram(graph, exact(loss="cross_entropy"), schema(), table, sure, source())["scores"]
    assert found[:, 4].sum() == 40


def test_noise_is_discrete_laplace_of_the_declared_epsilon() -> None:
    drawn = np.concatenate(
        [scores(matrix(0), evaluation(epsilon=0.5, bins=1000), seed=seed).flatten() for seed in range(5)]
    )
    assert (drawn % 1 == 0).all()
    p = math.exp(-0.5)
    variance = 2 * p / (1 - p) ** 2
    # The fourth moment of a Laplace is 6 times its squared variance, so s² has deviation √5 · variance / √n.
    assert abs((drawn**2).mean() - variance) < 5 * variance * math.sqrt(5.2 / len(drawn))
    assert abs(drawn.mean()) < 5 * math.sqrt(variance / len(drawn))


def test_counts_may_be_negative() -> None:
    assert scores(matrix(0), evaluation(epsilon=0.1)).min() < 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308])
def test_no_row_makes_evaluation_raise_print_or_warn(value: float, capfd: pytest.CaptureFixture[str]) -> None:
    table = matrix(30, held_out=30)
    table[::2, 2:] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scores(table, exact()).sum() == 30
        assert scores(table, exact(loss="binary_cross_entropy_with_logits"), Logarithm).sum() == 30
    assert capfd.readouterr() == ("", "")


def test_weights_that_are_not_finite_are_scored_without_an_error() -> None:
    table = matrix(30, held_out=30)
    graph, weights = exported(Sigmoid)
    spoilt = {name: torch.full_like(value, math.nan) for name, value in weights.items()}
    assert score_histogram(graph, exact(), schema(), table, spoilt, source())["scores"][:, 0].sum() == 30


def test_a_model_that_does_not_fit_is_refused_before_rows_are_looked_at() -> None:
    graph, weights = exported(Sigmoid)
    with pytest.raises(UnsupportedMechanism, match="two classes"):
        score_histogram(graph, evaluation(), schema(3), None, weights, source())  # type: ignore[arg-type]
