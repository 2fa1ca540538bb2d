"""Small schemas, models and private matrices for tests of training and evaluation. Randomness is seeded."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from datasites.engine.noise import NoiseSource
from policies.graph.exporter import export_model
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.schema.columns import Column
from policies.schema.schemas import Schema

FEATURES = 3


class Sigmoid(nn.Module):
    """One output in (0, 1), two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1, self.layer2 = nn.Linear(FEATURES, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.layer2(torch.relu(self.layer1(x))))


class Logarithm(nn.Module):
    """One logit; not finite, and neither is its gradient, where the first feature is negative."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.log(x[:, :1]) + x)


class Plain(nn.Module):
    """One output per class and nothing else."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@cache
def exported(model: type[nn.Module], *args: int) -> tuple[Graph, dict[str, Tensor]]:
    """A model's graph and seeded weights."""
    torch.manual_seed(7)
    made = model(*args)
    return export_model(made, (FEATURES,)), {name: p.detach().clone() for name, p in made.named_parameters()}


def schema(classes: int = 2) -> Schema:
    """`FEATURES` real columns in [-1, 1] and a target."""
    names = {"kind": "boolean"} if classes == 2 else {"kind": "category", "categories": tuple("abcdefgh"[:classes])}
    features = [Column(name=f"x{i}", kind="real", minimum=-1.0, maximum=1.0) for i in range(FEATURES)]
    target = Column(name="y", **names)  # type: ignore[arg-type]
    return Schema(name="t", population="p", patient="id", target="y", columns=(*features, target))


def matrix(
    patients: int, *, each: int = 1, classes: int = 2, seed: int = 0, held_out: int = 0
) -> npt.NDArray[np.float64]:
    """A private matrix: `each` rows of every patient, codes in order, the last `held_out` patients held out."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(patients), each)
    inputs = rng.uniform(-1, 1, (len(codes), FEATURES))
    labels = np.floor((inputs[:, 0] + 1) / 2 * classes)
    return np.column_stack([codes, codes >= patients - held_out, inputs, labels])


def mechanism(**changes: Any) -> DPSGD:
    """A DP-SGD of one step over all patients, learning rate 1."""
    fields = {
        "loss": "binary_cross_entropy",
        "rounds": 1,
        "steps": 1,
        "sampling_rate": 1.0,
        "clipping_norm": 1.0,
        "noise_multiplier": 1.0,
        "learning_rate": 1.0,
    }
    return DPSGD(**(fields | changes))  # type: ignore[arg-type]


def evaluation(**changes: Any) -> Evaluation:
    """An evaluation at ε = 1 over 5 bins."""
    return Evaluation(**({"loss": "binary_cross_entropy", "epsilon": 1.0, "bins": 5} | changes))  # type: ignore[arg-type]


def source(seed: int = 0) -> NoiseSource:
    """A source with a key that tests know."""
    return NoiseSource(bytes([seed]) * 32)
