"""Training and scoring on tensors: lanes and torch agree, and one record changes nothing of another's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasites.engine.evaluation import score_histogram
from datasites.engine.lanes import compiled
from datasites.engine.matrix import GroupedRows, in_groups
from datasites.engine.model_inputs import ModelInputs
from datasites.engine.noise import NoiseSource
from datasites.engine.training import train_round
from policies.errors import DatasiteError
from policies.graph.exporter import export_model
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.schema.schemas import Schema

SCHEMA = Schema.from_toml("""\
name = "xrays"
population = "patients"
patient = "patient"
target = "sick"
holdout = 0.5

[columns.sick]
kind = "boolean"

[tensors.xray]
shape = [1, 8, 8]
""")
XRAY = SCHEMA.tensors[0]
TRAINING = DPSGD(
    loss="binary_cross_entropy_with_logits",
    rounds=1,
    steps=5,
    sampling_rate=1.0,
    clipping_norm=1.0,
    learning_rate=0.5,
    noise_multiplier=0.5,
    inputs="xray",
)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4 * 6 * 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.conv(x)).flatten(1))


torch.manual_seed(3)
MODEL = Network()
GRAPH = export_model(MODEL, (1, 8, 8))
WEIGHTS = {name: value.detach() for name, value in MODEL.named_parameters()}


def records(count: int, *, held_out: bool = False) -> GroupedRows:
    """Patients in the order of their codes, a tensor each."""
    matrix = np.column_stack([np.arange(count) * 7.0, np.full(count, float(held_out)), np.arange(count) % 2])
    rows = in_groups(matrix, 1)
    tensors = {"xray": XRAY.draw_mock(100)[:count]}
    return GroupedRows(rows.matrix, rows.begins(held_out=False), rows.begins(held_out=True), tensors)


def trained(rows: GroupedRows, steps: int = 5, seed: bytes = b"1") -> dict[str, Tensor]:
    made = dataclasses.replace(TRAINING, steps=steps)
    return train_round(GRAPH, made, SCHEMA, 40, rows, WEIGHTS, NoiseSource(seed * 32))


@pytest.fixture
def kernels() -> None:
    compiled.load()


def test_lanes_and_torch_train_alike_on_tensors(kernels: None) -> None:
    in_lanes = trained(records(40))
    compiled.unload()
    for steps in (5, 30):  # eager, and as a tape
        by_torch = trained(records(40), steps)
        if steps == 5:
            for name, value in in_lanes.items():
                torch.testing.assert_close(by_torch[name], value, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("lanes", [True, False])
def test_a_held_out_patient_changes_no_bit_of_training(lanes: bool, kernels: None) -> None:
    if not lanes:
        compiled.unload()
    rows = records(40)
    matrix = np.concatenate([rows.matrix, [[9999.0, 1.0, 1.0]]])
    more = in_groups(matrix, 1)
    stored = np.concatenate([rows.tensors["xray"], np.full((1, 1, 8, 8), 255, np.uint8)])
    wider = GroupedRows(more.matrix, more.begins(held_out=False), more.begins(held_out=True), {"xray": stored})
    one, other = trained(rows), trained(wider)
    for name in one:
        assert torch.equal(one[name], other[name])


def test_scores_are_the_same_in_lanes_and_by_torch(kernels: None) -> None:
    asked = Evaluation(loss="binary_cross_entropy_with_logits", epsilon=50.0, inputs="xray")

    def scored() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        rows = records(60, held_out=True)
        return score_histogram(GRAPH, asked, SCHEMA, rows, WEIGHTS, NoiseSource(b"2" * 32))["scores"]

    found = scored()
    compiled.unload()
    np.testing.assert_array_equal(scored(), found)
    assert found.sum() == pytest.approx(60, abs=2)


def test_inputs_of_a_row_are_its_own_and_made_up_ones_lie_again_and_again() -> None:
    rows = records(40)
    inputs = ModelInputs(SCHEMA, "xray", rows.matrix, rows.tensors)
    np.testing.assert_array_equal(inputs.of(np.array([5])), XRAY.scaled(rows.tensors["xray"][[5]]))
    few = ModelInputs(SCHEMA, "xray", rows.matrix, {"xray": rows.tensors["xray"][:3]})
    np.testing.assert_array_equal(few.of(np.array([4])), few.of(np.array([1])))
    assert repr(inputs) == "ModelInputs(…)"


def test_a_tensor_that_is_missing_or_otherwise_is_refused_by_its_public_name() -> None:
    rows = records(4)
    wrong = ({}, {"xray": np.zeros((4, 1, 8, 9), np.uint8)}, {"xray": np.zeros((4, 1, 8, 8), np.float32)})
    for tensors in wrong:
        with pytest.raises(DatasiteError, match="no tensor 'xray' as it is declared"):
            ModelInputs(SCHEMA, "xray", rows.matrix, tensors)


CODED = Schema.from_toml(
    'name = "stays"\npopulation = "p"\npatient = "patient"\ntarget = "sick"\n[columns.sick]\nkind = "boolean"\n'
    '[tensors.codes]\nshape = [6]\nvocabulary = ["E11", "I10", "J18"]\n'
)


class Coded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(CODED.tensors[0].last_code + 1, 4, padding_idx=0), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.table(x.long()).mean(1))


def test_lanes_and_torch_train_a_table_of_codes_alike_and_learn_what_they_say(kernels: None) -> None:
    torch.manual_seed(3)
    model = Coded()
    graph = export_model(model, (6,))
    weights = {name: value.detach() for name, value in model.named_parameters()}
    stored = CODED.tensors[0].draw_mock(400)
    sick = (stored == 3).any(1)
    rows = in_groups(np.column_stack([np.arange(400) * 7.0, np.zeros(400), sick]), 1)
    records = GroupedRows(
        rows.matrix, rows.begins(held_out=False), rows.begins(held_out=True), {"codes": stored[: len(rows.matrix)]}
    )
    declared = dataclasses.replace(TRAINING, inputs="codes", steps=60, learning_rate=4.0)

    def run() -> dict[str, Tensor]:
        return train_round(graph, declared, CODED, 400, records, weights, NoiseSource(b"1" * 32))

    in_lanes = run()
    compiled.unload()
    for name, value in run().items():
        torch.testing.assert_close(in_lanes[name], value, atol=2e-3, rtol=1e-3)
    model.load_state_dict(in_lanes)
    scores = model(torch.from_numpy(CODED.tensors[0].scaled(stored)))[:, 0] > 0
    assert float((scores.numpy() == sick).mean()) > 0.9
