"""What a place in the physical batch does to a record: nothing that another patient can bring about.

Kernels round the last bit of a record differently in odd and even rows, or in the last rows of a batch. A hostile model
takes the difference of two ways to compute one number, which is zero in some rows and 10⁻⁷ in others, and multiplies it
by 10¹⁵. Were places given by order, one patient more would move all who come after it and change every one of their
gradients: the sum would move by far more than the clipping norm that the noise is for.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

from datasites.engine import sampling
from datasites.engine.body_values import BodyValues
from datasites.engine.evaluation import score_histogram
from datasites.engine.interpreter import forward
from datasites.engine.model_inputs import ModelInputs
from datasites.engine.noise import NoiseSource
from datasites.engine.sampling import PatientRows
from datasites.engine.splitting import Split, body_and_head
from datasites.engine.training import train_round
from datasites.vault import encoding
from policies.graph.exporter import _convert, _trace
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.schema.columns import Column
from policies.schema.schemas import Schema

FEATURES, PATIENTS, KEY = 10, 64, bytes(32)
SCHEMA = Schema(
    name="t",
    population="p",
    patient="id",
    target="y",
    columns=(
        *(Column(name=f"x{i}", kind="real", minimum=-1.0, maximum=1.0) for i in range(FEATURES)),
        Column(name="y", kind="boolean"),
    ),
)


class Shout(nn.Module):
    """Two sums of the same products, one in a matrix kernel and one not, and their difference times 10¹⁵."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(FEATURES, 2, bias=False), nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        other = (x.unsqueeze(1) * self.a.weight).sum(2)
        return self.b(((self.a(x) - other) * 1e9)[:, :1] * 1e6)


def shouting() -> tuple[Graph, dict[str, Tensor]]:
    torch.manual_seed(3)
    model = Shout()  # past the exporter's own check, which a hostile exporter would leave out
    graph = _convert(_trace(model, (FEATURES,)), model, (FEATURES,), keeps_batch=True)
    return graph, {name: value.detach().clone() for name, value in model.named_parameters()}


def matrix(*, held_out: bool = False) -> Any:
    rng = np.random.default_rng(5)
    inputs = rng.uniform(-1, 1, (PATIENTS, FEATURES))
    return np.column_stack([np.arange(PATIENTS), np.full(PATIENTS, held_out), inputs, rng.integers(0, 2, PATIENTS)])


def one_step(rows: Any) -> Tensor:
    """The sum of clipped gradients of one step over all rows, up to noise that is the same for every table."""
    graph, weights = shouting()
    mechanism = DPSGD(
        loss="binary_cross_entropy_with_logits",
        rounds=1,
        steps=1,
        sampling_rate=1.0,
        clipping_norm=1.0,
        noise_multiplier=0.3,
        learning_rate=1.0,
    )
    after = train_round(graph, mechanism, SCHEMA, 100, rows, weights, NoiseSource(KEY))
    return torch.cat([(weights[name] - after[name]).flatten() for name in weights]) * 100


def test_the_model_of_this_attack_shouts_where_it_stands() -> None:
    graph, weights = shouting()
    record = torch.rand(1, FEATURES, generator=torch.Generator().manual_seed(1)).expand(PATIENTS, FEATURES)
    outputs = vmap(forward(graph), in_dims=(None, 0))(weights, record.contiguous())
    alike = bool((outputs == outputs[:1]).all())  # on a processor whose kernels round alike in every row
    assert alike or (outputs - outputs[:1]).abs().max() > 1000


@pytest.mark.parametrize("absent", [0, 1, 31, PATIENTS - 1])
def test_one_patient_moves_the_sum_by_the_clipping_norm_at_most(absent: int) -> None:
    rows = matrix()
    moved = (one_step(rows) - one_step(np.delete(rows, absent, axis=0))).norm()
    assert moved <= 1.0 + 1e-4


@pytest.mark.parametrize("seed", range(8))
def test_one_patient_more_in_a_published_table_moves_nobody_else(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # All others are alike, so that the order of rows changes nothing, and what codes they get is all that could.
    def fixed(count: int) -> bytes:
        return hashlib.shake_256(bytes([seed])).digest(count)

    monkeypatch.setattr(secrets, "token_bytes", fixed)
    rng = np.random.default_rng(0)
    crowd, other = rng.uniform(-1, 1, (2, FEATURES))
    names = [column.name for column in SCHEMA.columns]
    every = pd.DataFrame([[*crowd, 1]] * (PATIENTS - 1) + [[*other, 0]], columns=names)
    every.insert(0, "id", [f"p{number}" for number in range(PATIENTS)])
    tables = (encoding.encode(each, SCHEMA, population_secret=bytes(32)) for each in (every, every[:-1]))
    sums = [one_step(each) for each in tables]
    assert (sums[0] - sums[1]).norm() <= 1.0 + 1e-4


@pytest.mark.parametrize("absent", [0, 1, 31, PATIENTS - 1])
def test_one_patient_moves_one_cell_of_an_evaluation(absent: int) -> None:
    graph, weights = shouting()
    mechanism = Evaluation(loss="binary_cross_entropy_with_logits", epsilon=1.0, bins=20)
    rows = matrix(held_out=True)
    every, others = (
        score_histogram(graph, mechanism, SCHEMA, each, weights, NoiseSource(KEY))["scores"]
        for each in (rows, np.delete(rows, absent, axis=0))
    )
    assert np.abs(every - others).sum() == 1


def test_a_place_is_the_patients_own_and_none_is_taken_twice() -> None:
    codes = np.random.default_rng(1).permutation(1000)[:300].astype(np.float64)
    layers = sampling.by_place(codes, 64)
    assert sorted(np.concatenate([rows for rows, _ in layers])) == list(range(300))
    for rows, places in layers:
        assert (places == codes[rows] % 64).all()
        assert len(set(places)) == len(places)
    assert sampling.by_place(codes[:0], 64)[0][0].size == 0  # an empty sample is one empty batch


@pytest.mark.parametrize("absent", [0, 1, 31, PATIENTS - 1])
def test_one_patient_moves_nobodys_values_of_a_frozen_body(absent: int) -> None:
    """What the model shouts is computed once a round of everybody, and by then no norm is clipped."""
    graph, weights = shouting()
    first, *others = graph.parameters
    parts = body_and_head(replace(graph, parameters=tuple(others), frozen=(first,)))
    assert parts is not None

    def values(rows: Any) -> Any:
        inputs = ModelInputs(SCHEMA, "features", rows, {})
        return BodyValues(Split(*parts, PATIENTS), weights, inputs, rows, PatientRows(rows, held_out=False))

    rows = matrix()
    rest = np.delete(np.arange(PATIENTS), absent)
    assert np.array_equal(values(rows).of(rest), values(rows[rest]).of(np.arange(len(rest))))
