"""A body that runs once a round: the same weights come out, and one patient changes nothing of another's values.

Each holds in lanes and record by record.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasites.engine import body_values, helpers
from datasites.engine.body_values import BodyValues
from datasites.engine.lanes import compiled
from datasites.engine.matrix import GroupedRows, in_groups
from datasites.engine.model_inputs import ModelInputs
from datasites.engine.sampling import PatientRows
from datasites.engine.splitting import Split, body_and_head, split_for
from datasites.engine.training import train_round
from policies.graph.exporter import export_model
from policies.graph.graphs import Graph
from tests.datasites.engine.test_frozen import LOSS, Bodied, made, sum_of
from tests.datasites.engine.training_factories import matrix, mechanism, schema, source

ONE = dataclasses.replace(schema(), most_records_per_patient=1)
FIELDS: dict[str, Any] = {"loss": LOSS, "steps": 30, "sampling_rate": 0.5, "learning_rate": 0.5}


@pytest.fixture(params=["lanes", "places"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "lanes":
        compiled.load()
    else:
        compiled.unload()
    yield request.param
    compiled.unload()


def several(patients: int = 60, most: int = 5) -> np.ndarray:
    """Rows of patients with one to five records each, in no order."""
    rng = np.random.default_rng(4)
    rows = matrix(patients)
    each = rng.integers(1, most + 1, patients)
    whole = np.repeat(rows, each, axis=0)
    whole[:, 2:5] += rng.normal(0, 0.1, (len(whole), 3))
    return whole[rng.permutation(len(whole))]


def values_of(split: Split, weights: dict[str, Tensor], rows: np.ndarray | GroupedRows, **named: Any) -> BodyValues:
    table = np.asarray(rows, dtype=np.float64)
    patients = PatientRows(rows, held_out=False)
    return BodyValues(split, weights, ModelInputs(ONE, "features", table, {}), table, patients, **named)


def split_of(graph: Graph, slots: int) -> Split:
    parts = body_and_head(graph)
    assert parts is not None
    return Split(*parts, slots)


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adam", "clipping": "automatic"}, {"steps": 7}])
def test_the_same_weights_come_out_of_a_round(engine: str, changes: dict[str, Any]) -> None:
    graph, weights = made(Bodied, "body.*")
    declared = mechanism(**FIELDS | changes)
    split = split_for(graph, declared, ONE, 300)
    assert split is not None
    rows = in_groups(matrix(300, held_out=40), most=1)
    whole = train_round(graph, declared, ONE, 300, rows, weights, source())
    once = train_round(graph, declared, ONE, 300, rows, weights, source(), split=split)
    assert list(once) == list(whole)
    for name, value in whole.items():
        if engine == "lanes":
            assert torch.equal(once[name], value)
        else:  # a record's place in a batch of another size rounds its last bit otherwise
            torch.testing.assert_close(once[name], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("slots", [10, 100, 400])
def test_patients_with_several_records_and_more_rows_than_places_come_to_the_same(engine: str, slots: int) -> None:
    """What lies beyond the places is computed at each step, as all of it was; a plain matrix has rows in no order."""
    graph, weights = made(Bodied, "body.*")
    rows = several()
    assert 100 < len(rows) < 400
    declared = mechanism(**FIELDS)
    whole = train_round(graph, declared, ONE, 60, rows, weights, source())
    once = train_round(graph, declared, ONE, 60, rows, weights, source(), split=split_of(graph, slots))
    for name, value in whole.items():
        torch.testing.assert_close(once[name], value, rtol=0, atol=0 if engine == "lanes" else 1e-5)


class Large(nn.Module):
    """Functions whose last bit torch may find otherwise at the end of a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 17), nn.Linear(17, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(torch.exp(torch.sin(self.body(x)))))


def _large() -> tuple[Graph, dict[str, Tensor]]:
    torch.manual_seed(5)
    model = Large()
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    return export_model(model, (3,), frozen=("body.*",)), weights


def test_one_patient_changes_no_bit_of_anothers_values(engine: str) -> None:
    """Of 60 patients with several records each: with the seventh and without, at the same number of places."""
    graph, weights = _large()
    split = split_of(graph, 400)
    rows = several()
    codes = np.unique(rows[:, 0])
    rest = np.flatnonzero(rows[:, 0] != codes[6])
    whole, others = values_of(split, weights, rows), values_of(split, weights, rows[rest])
    assert np.array_equal(whole.of(rest), others.of(np.arange(len(rest))))


def test_a_value_that_was_kept_is_to_the_bit_the_one_that_is_computed_at_a_step(engine: str) -> None:
    graph, weights = _large()
    rows = several()
    every = np.arange(len(rows))
    kept, late = values_of(split_of(graph, 400), weights, rows), values_of(split_of(graph, 1), weights, rows)
    assert np.array_equal(kept.of(every), late.of(every))


@pytest.mark.parametrize("value", [1e30, 1e-42, math.nan, math.inf])
def test_one_record_moves_no_others_bits_whatever_the_constants_are(engine: str, value: float) -> None:
    """S(batch) - S(batch without r) = S({r}), and no longer than the clipping norm, to the bit."""
    graph, weights = made(Bodied, "body.*")
    weights["body.0.weight"][::3] = value
    rows = matrix(40)
    split = split_of(graph, 40)
    whole, others, alone = (
        sum_of(graph, weights, part, ONE, split) for part in (rows, np.delete(rows, 7, axis=0), rows[7:8])
    )
    assert np.array_equal(whole - others, alone)
    if math.isnan(value):
        assert not whole.any()


@pytest.mark.parametrize("patients", [0, 1, 17, 60])
def test_a_body_runs_over_as_many_records_whatever_the_table_holds(
    engine: str, patients: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shape of its clock: calls and their sizes are of the public number of places, and no value has a part."""
    graph, weights = made(Bodied, "body.*")
    asked: list[int] = []
    real = body_values.body_of

    def counting(body: Graph, given: Any) -> Any:
        computed = real(body, given)

        def counted(inputs: np.ndarray, keys: np.ndarray) -> Any:
            asked.append(len(inputs))
            return computed(inputs, keys)

        return counted

    monkeypatch.setattr(body_values, "body_of", counting)
    monkeypatch.setattr(body_values, "_TOGETHER", 64)
    values_of(split_of(graph, 150), weights, several(patients) if patients else several(1)[:0])
    assert asked == [64, 64, 22]


def test_helpers_change_no_bit_of_a_body() -> None:
    graph, weights = _large()
    rows, every = several(), None
    compiled.load()
    try:
        every = np.arange(len(rows))
        alone = values_of(split_of(graph, 400), weights, rows).of(every)
        helpers.begin(3)
        together = values_of(split_of(graph, 400), weights, rows).of(every)
    finally:
        helpers.end()
        compiled.unload()
    assert np.array_equal(alone, together)


def test_a_rehearsal_leaves_a_long_pass_and_tells_what_was_done(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, weights = made(Bodied, "body.*")
    told: list[tuple[int, int]] = []

    def leave(done: int, places: int) -> bool:
        told.append((done, places))
        return done >= 128

    monkeypatch.setattr(body_values, "_TOGETHER", 64)
    values_of(split_of(graph, 640), weights, several(), leave=leave)
    assert told == [(0, 640), (64, 640), (128, 640)]


def test_kept_values_show_nothing_of_themselves() -> None:
    graph, weights = made(Bodied, "body.*")
    assert repr(values_of(split_of(graph, 10), weights, several())) == "BodyValues(…)"
