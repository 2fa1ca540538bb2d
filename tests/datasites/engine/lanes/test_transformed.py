"""Rounds on transformed inputs: made before they lie in lanes, with the bits that the kernel of cells would make."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from datasites.engine.evaluation import score_histogram
from datasites.engine.helpers import begin
from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.records import LaneRecords
from datasites.engine.training import train_round
from policies.errors import DatasiteError
from policies.schema.schemas import Schema
from tests.datasites.engine.training_factories import Sigmoid, evaluation, exported, matrix, mechanism, schema, source

TERMS = ("x0", "square(x1)", "x1 * x2")  # as many as the model has inputs
PATIENTS = 60


def trained(table: np.ndarray, inputs: tuple[str, ...], **changes: object) -> dict[str, Tensor]:
    graph, weights = exported(Sigmoid)
    made = mechanism(inputs=inputs, **{"steps": 6, "sampling_rate": 0.5, **changes})
    return train_round(graph, made, schema(), PATIENTS, table, weights, source())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_columns_made_before_are_to_the_bit_those_of_the_kernel(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_loaded", kernels)
    columns = ("x0", "x1", "x2")
    by_kernel = trained(matrix(PATIENTS, each=2), columns)
    monkeypatch.setattr(Schema, "has_terms", lambda *_: True)
    assert same(trained(matrix(PATIENTS, each=2), columns), by_kernel)


def test_lanes_train_on_terms_as_torch_does(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    in_places = trained(matrix(PATIENTS, each=2), TERMS)
    monkeypatch.setattr(compiled, "_loaded", kernels)
    in_lanes = trained(matrix(PATIENTS, each=2), TERMS)
    assert all(torch.allclose(in_lanes[name], in_places[name], atol=1e-4) for name in in_lanes)
    assert not same(in_lanes, trained(matrix(PATIENTS, each=2), ("x0", "square(x1)", "cube(x2)")))


def test_helpers_change_no_bit_of_a_round_on_terms(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_loaded", kernels)
    alone = trained(matrix(PATIENTS), TERMS)
    begin(1)
    assert same(trained(matrix(PATIENTS), TERMS), alone)


@pytest.mark.parametrize("lanes", [True, False])
def test_a_neighbour_changes_a_step_by_no_more_than_the_clipping_norm(
    lanes: bool, kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lanes:
        monkeypatch.setattr(compiled, "_loaded", kernels)
    table = matrix(PATIENTS)
    table[-1, 2:5] = 1e300  # beyond every bound
    settings = {"steps": 1, "sampling_rate": 1.0, "clipping_norm": 0.01, "noise_multiplier": 1e-3}
    with_them, without = trained(table, TERMS, **settings), trained(table[:-1], TERMS, **settings)
    moved = torch.cat([(with_them[name] - without[name]).double().flatten() for name in without]) * PATIENTS
    assert 0.001 < moved.norm() <= 0.01 + PATIENTS * 1e-6  # weights near 1 are float32


def test_a_table_without_rows_and_rows_without_values_train(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_loaded", kernels)
    empty = matrix(PATIENTS)
    empty[:, 2:5] = np.nan
    for table in (matrix(0), empty):
        assert all(torch.isfinite(weight).all() for weight in trained(table, TERMS, sampling_rate=0.01).values())


def test_scores_are_of_the_transformed_inputs() -> None:
    graph, weights = exported(Sigmoid)
    table = matrix(PATIENTS, held_out=40)
    made = evaluation(inputs=TERMS, epsilon=100.0)
    counts = score_histogram(graph, made, schema(), table, weights, source())["scores"]
    model = Sigmoid()
    model.load_state_dict(weights)
    scores = model(torch.from_numpy(schema().inputs(table[-40:], TERMS))).detach().numpy()[:, 0]
    labels = schema().targets(table[-40:])
    expected = np.histogram2d(labels, scores, bins=[[-0.5, 0.5, 1.5], np.linspace(0, 1, 6)])[0]
    assert np.array_equal(counts, expected)  # ε = 100: noise is 0 but for a chance of 1e-40


def test_the_kernel_of_cells_refuses_terms(kernels: Kernels) -> None:
    with pytest.raises(DatasiteError, match="before records lie in lanes"):
        LaneRecords(schema(), TERMS, matrix(5), None, kernels)  # type: ignore[arg-type]
