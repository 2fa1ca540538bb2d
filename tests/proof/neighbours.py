"""Pairs of tables that differ by one patient, and weights under which that patient is all that can be seen.

An attacker may choose the model and the incoming weights. Under `loud` weights every patient of the crowd is predicted
with certainty, so that their gradients are exactly zero, and the one patient's gradient is as long as clipping lets it
be: the worst case that the mechanism's curve is about. Under `quiet` weights the one patient's is zero, too.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from policies.graph.exporter import export_model
from policies.graph.graphs import Graph
from tests.datasites.engine.training_factories import FEATURES, schema

Matrix = npt.NDArray[np.float64]
Weights = dict[str, npt.NDArray[np.float32]]

SCHEMA = schema()
PUBLISHED = 1007  # what is public of every table below, whatever it holds
SURE = 200.0  # a logit at which float32 knows no doubt: the gradient is exactly zero


class TwoLayers(nn.Module):
    """One logit over a hidden layer."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, hidden), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


@cache
def graph_of(hidden: int, frozen: tuple[str, ...] = (), local: tuple[str, ...] = ()) -> Graph:
    """`TwoLayers` as the exporter makes it, in these parts."""
    return export_model(TwoLayers(hidden), (FEATURES,), frozen=frozen, local=local)


def crowd(patients: int, *, held_out: bool = False) -> Matrix:
    """Patients with one record each, all with the condition; their third feature is 1."""
    inputs = np.random.default_rng(patients).uniform(-1, 1, (patients, FEATURES))
    inputs[:, -1] = 1.0
    return np.column_stack([np.arange(patients), np.full(patients, held_out), inputs, np.ones(patients)])


def patient(code: int, *, records: int = 1, value: float = -1.0, held_out: bool = False) -> Matrix:
    """One patient without the condition, with the third feature at `value` and the others at 0."""
    row = [float(code), float(held_out), *[0.0] * (FEATURES - 1), value, 0.0]
    return np.array([row] * records)


def pair(patients: int, *, records: int = 1, value: float = -1.0, held_out: bool = False) -> tuple[Matrix, Matrix]:
    """A crowd of `patients` without the one patient, and with."""
    others = crowd(patients, held_out=held_out)
    return others, np.concatenate([others, patient(patients, records=records, value=value, held_out=held_out)])


def loud(hidden: int) -> Weights:
    """Weights at which the four tensors of the one patient's gradient have length 1 each, and the crowd's 0."""
    each = np.float32(hidden**-0.5)
    return {
        "first.weight": np.zeros((hidden, FEATURES), np.float32),
        "first.bias": np.full(hidden, each),
        "last.weight": np.full((1, hidden), each),
        "last.bias": np.full(1, SURE, np.float32),
    }


def quiet(hidden: int) -> Weights:
    """Weights at which everybody's gradient is zero: the one patient, whose third feature is -1, is known as well."""
    made = {name: np.zeros_like(value) for name, value in loud(hidden).items()}
    made["first.weight"][0, -1] = 2 * SURE  # 400 for the crowd, 0 for the patient after the rectifier
    made["last.weight"][0, 0] = 1.0
    made["last.bias"][:] = -SURE
    return made


def overflowing(hidden: int) -> Weights:
    """Finite weights at which the one patient's logit, loss and gradient are NaN, and the crowd's are zero."""
    made = loud(hidden)
    made["first.weight"][:, -1] = -3e38  # with the bias infinity for the patient, whose third feature is -1, else 0
    made["first.bias"][:] = 3e38
    made["last.weight"][0] = np.where(np.arange(hidden) % 2, -1.0, 1.0)  # infinity less infinity
    return made


def direction(hidden: int) -> npt.NDArray[np.float64]:
    """Of the one patient's gradient under `loud` weights, by sorted names, as autograd finds it; length 1."""
    model = TwoLayers(hidden)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in loud(hidden).items()})
    logit = model(torch.tensor([[0.0] * (FEATURES - 1) + [-1.0]]))[0, 0]
    nn.functional.binary_cross_entropy_with_logits(logit, torch.tensor(0.0)).backward()
    parts = dict(model.named_parameters())
    whole = torch.cat([parts[name].grad.double().flatten() for name in sorted(parts)])  # type: ignore[union-attr]
    return np.asarray((whole / whole.norm()).numpy())
