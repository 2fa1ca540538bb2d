"""What compression costs and saves: AUC of a joint model, and bytes of a release, at two sizes of model.

Three made-up hospitals train one model with this project's own engine, for each form from the same sampling and noise.
What is measured is the whole way of a round: float16 to the hospital, whole numbers back, an average of what they stand
for. Bytes are of arrays as they travel, through zstd.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from datasites.engine.noise import NoiseSource
from datasites.engine.training import train_round
from policies.graph.exporter import export_model
from policies.privacy.accountant import resolve
from policies.privacy.mechanisms import DPSGD
from policies.release.compression import compress, packed
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from policies.wire.calls import write
from researcher.compression import Carried

HOSPITALS, PATIENTS, FEATURES, HELD_OUT = 3, 4000, 20, 6000
FORMS = ("none", "int8", "int4")
WIDTHS = {"11,009": (128, 64), "1,033,217": (1000, 1000)}
"""Hidden layers of the two models, by how many numbers those have."""


class Layers(nn.Module):
    """Two hidden layers."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(FEATURES, first), nn.Linear(first, second), nn.Linear(second, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.three(torch.relu(self.two(torch.relu(self.one(x)))))


@dataclass(frozen=True)
class Figures:
    """Of one form: AUC of the joint model, and bytes of a hospital's round each way."""

    auc: float
    sent: int
    received: int


def measure(widths: tuple[int, int], *, rounds: int, steps: int, epsilon: float, seed: int) -> dict[str, Figures]:
    """All forms from the same start, patients, samples and noise."""
    training = DPSGD(
        loss="binary_cross_entropy_with_logits", rounds=rounds, steps=steps, sampling_rate=0.05, clipping_norm=1.0,
        epsilon=epsilon, learning_rate=0.5,
    )  # fmt: skip
    tables, inputs, outcomes = _population(seed)
    torch.manual_seed(seed)
    model = Layers(*widths)
    graph, schema = export_model(model, (FEATURES,)), _schema()
    from datasites.engine.lanes import readiness

    readiness.prepare(graph, training.loss)
    initial = {name: value.detach().numpy().copy() for name, value in model.named_parameters()}
    figures = {}
    for form in FORMS:
        mechanism = resolve(replace(training, compression=form))
        assert isinstance(mechanism, DPSGD)
        names = [str(number) for number in range(HOSPITALS)]
        carried = Carried(dict.fromkeys(names, mechanism), dict.fromkeys(names, PATIENTS))
        joint, sent, received = initial, 0, 0
        for number in range(1, rounds + 1):
            weights, half = carried.sent(joint, number)
            sent = _bytes({name: value.astype(np.float16) if half else value for name, value in weights.items()})
            back = []
            for name, table in zip(names, tables, strict=True):
                noise = NoiseSource(f"{seed}/{number}/{name}".encode().ljust(32, b"."))
                start = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
                trained = train_round(graph, mechanism, schema, PATIENTS, table, start, noise)
                release = {name: value.numpy() for name, value in trained.items()}
                if form != "none":
                    release = compress(release, weights, mechanism, PATIENTS, number)
                received = _bytes(release if form == "none" else packed(release))
                back.append(carried.received(name, release, weights, number))
            joint = {name: np.mean([each[name] for each in back], axis=0, dtype=np.float32) for name in initial}
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.copy_(torch.from_numpy(joint[name]))
            figures[form] = Figures(_auc(outcomes, model(inputs).squeeze(1).numpy()), sent, received)
    return figures


def _bytes(tensors: dict[str, npt.NDArray[Any]]) -> int:
    return len(write(tensors))


def _schema() -> Schema:
    features = [Column(name=f"x{place}", kind="real", minimum=-1.0, maximum=1.0) for place in range(FEATURES)]
    target = Column(name="y", kind="boolean")
    return Schema(name="t", population="p", patient="id", target="y", columns=(*features, target))


def _population(seed: int) -> tuple[list[npt.NDArray[np.float64]], Tensor, npt.NDArray[np.bool_]]:
    """Three tables, and patients who are held out; the outcome hangs on features and products of them."""
    generator = np.random.default_rng(seed)
    count = HOSPITALS * PATIENTS + HELD_OUT
    features = np.clip(generator.normal(0, 1 / 3, (count, FEATURES)), -1, 1)
    slopes = generator.normal(0, 1, FEATURES)
    crossed = 6 * features[:, :5] * features[:, 5:10]
    score = features @ slopes * 2 + crossed.sum(axis=1)
    outcome = generator.random(count) < 1 / (1 + np.exp(-3 * score))
    codes = np.arange(PATIENTS)
    tables = []
    for number in range(HOSPITALS):
        rows = slice(number * PATIENTS, (number + 1) * PATIENTS)
        tables.append(np.column_stack([codes, np.zeros(PATIENTS), features[rows], outcome[rows]]))
    return tables, torch.tensor(features[-HELD_OUT:], dtype=torch.float32), outcome[-HELD_OUT:]


def _auc(outcomes: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32]) -> float:
    """Chance that a patient with the outcome scores above one without."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    positive = int(outcomes.sum())
    return float((ranks[outcomes].sum() - positive * (positive + 1) / 2) / (positive * (len(scores) - positive)))


def shown(name: str, *, seeds: int, rounds: int = 5, steps: int = 30, epsilon: float = 2.0) -> list[tuple[str, ...]]:
    """A row for each form: mean AUC, its difference to float32 with a standard error, bytes, how many times less."""
    found = [
        measure(WIDTHS[name], rounds=rounds, steps=steps, epsilon=epsilon, seed=seed) for seed in range(1, seeds + 1)
    ]
    rows = []
    for form in FORMS:
        differences = np.array([figures[form].auc - figures["none"].auc for figures in found])
        error = differences.std(ddof=1) / math.sqrt(seeds) if seeds > 1 else math.nan
        plain, figures = found[0]["none"], found[0][form]
        rows.append(
            (
                name,
                form,
                f"{np.mean([each[form].auc for each in found]):.4f}",
                f"{differences.mean():+.4f} ± {error:.4f}",
                f"{figures.sent:,}",
                f"{figures.received:,}",
                f"{plain.received / figures.received:.1f} x",
            )
        )
    return rows
