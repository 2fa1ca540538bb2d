"""A schema, models and tables for targets of every kind. Randomness is seeded."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from policies.schema.targets import TimeToEvent

FEATURES = 3
INTERVALS = 5
LABELS = ("stroke", "bleeding", "fall")
HORIZON = 100.0

SCHEMA = Schema(
    name="t",
    population="p",
    patient="id",
    holdout=0.5,
    columns=(
        *(Column(name=f"x{i}", kind="real", minimum=-1.0, maximum=1.0) for i in range(FEATURES)),
        Column(name="pressure", kind="real", minimum=60.0, maximum=200.0, unit="mmHg", feature=False),
        Column(name="visits", kind="integer", minimum=0.0, maximum=20.0, feature=False),
        Column(name="days", kind="real", minimum=0.0, maximum=120.0, unit="days", feature=False),
        Column(name="died", kind="boolean", feature=False),
        *(Column(name=name, kind="boolean", feature=False) for name in LABELS),
        Column(name="sex", kind="category", categories=("f", "m"), feature=False),
        Column(name="age", kind="integer", minimum=0.0, maximum=100.0, feature=False),
        Column(name="stage", kind="category", categories=("i", "ii", "iii"), feature=False),
    ),
)

TARGETS: dict[str, dict[str, Any]] = {
    "mean_squared_error": {"target": "pressure"},
    "huber": {"target": "pressure", "huber_delta": 14.0},
    "poisson": {"target": "visits"},
    "discrete_hazards": {"target": ("days", "died"), "horizon": HORIZON},
    "multilabel_binary_cross_entropy_with_logits": {"target": LABELS, "class_weights": (1.0, 2.0, 0.5)},
    "binary_cross_entropy_with_logits": {"target": "died", "class_weights": (1.0, 4.0)},
    "binary_cross_entropy": {"target": "died", "class_weights": (0.5, 2.0)},
    "cross_entropy": {"target": "stage", "class_weights": (1.0, 2.0, 4.0)},
}
"""Of every loss a target and its public constants."""

OUTPUTS = {
    "discrete_hazards": INTERVALS,
    "multilabel_binary_cross_entropy_with_logits": len(LABELS),
    "cross_entropy": 3,
}


class Layers(nn.Module):
    """Two layers, and as many outputs as a loss takes."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.layer1, self.layer2 = nn.Linear(FEATURES, 8), nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer2(torch.tanh(self.layer1(x)))


class Chance(Layers):
    """The same with a chance as its output."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.layer2(torch.tanh(self.layer1(x))))


def model_of(loss: str) -> tuple[type[nn.Module], tuple[int, ...]]:
    """A model class of a loss, and its arguments."""
    return (Chance, (1,)) if loss == "binary_cross_entropy" else (Layers, (OUTPUTS.get(loss, 1),))


def training_of(loss: str, **changes: Any) -> DPSGD:
    fields: dict[str, Any] = {
        "loss": loss,
        "rounds": 1,
        "steps": 1,
        "sampling_rate": 1.0,
        "clipping_norm": 1.0,
        "noise_multiplier": 1.0,
        "learning_rate": 1.0,
    }
    return DPSGD(**(fields | TARGETS[loss] | changes))


def evaluation_of(loss: str, **changes: Any) -> Evaluation:
    target = {name: value for name, value in TARGETS[loss].items() if name in ("target", "horizon")}
    return Evaluation(**({"loss": loss, "epsilon": 1.0, "bins": 5} | target | changes))


def table_of(patients: int, *, held_out: int = 0, each: int = 1, seed: int = 0) -> npt.NDArray[np.float64]:
    """A private matrix of `SCHEMA`: outcomes that hang on the first feature."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(patients), each)
    inputs = rng.uniform(-1, 1, (len(codes), FEATURES))
    risk = inputs[:, 0]
    event_time, censoring = rng.exponential(60 * np.exp(-risk)), rng.uniform(20, 120, len(codes))
    return np.column_stack(
        [
            codes,
            codes >= patients - held_out,
            inputs,
            np.clip(130 + 30 * risk + rng.normal(0, 10, len(codes)), 60, 200),
            np.minimum(rng.poisson(3 * np.exp(0.5 * risk)), 20),
            np.minimum(np.minimum(event_time, censoring), 120),
            (event_time <= censoring) & (event_time <= 120),
            *(rng.random(len(codes)) < 1 / (1 + np.exp(-risk * scale)) for scale in (3, -2, 0)),
            rng.integers(0, 2, len(codes)),
            rng.integers(0, 101, len(codes)),
            np.floor((risk + 1) / 2 * 3).clip(0, 2),
        ]
    )


TIME_TARGET = TimeToEvent(time="days", event="died", horizon=HORIZON)
