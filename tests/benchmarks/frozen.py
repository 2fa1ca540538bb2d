"""What a frozen body that runs once a round saves: a head of 650 numbers on a convolutional body of 105,216.

2,000 made-up images of 28 × 28, a record a patient, steps of 64; with both engines, by our own `train_round`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from datasites.engine.lanes import compiled
from datasites.engine.matrix import GroupedRows, in_groups
from datasites.engine.noise import NoiseSource
from datasites.engine.splitting import split_for
from datasites.engine.training import train_round
from policies.graph.exporter import export_model
from policies.privacy.mechanisms import DPSGD
from policies.schema.schemas import Schema

PATIENTS, SAMPLED, SIDE = 2000, 64, 28
STEPS = {"in lanes": (80, 320), "record by record": (80,)}
SCHEMA = Schema.from_toml(f"""\
name = "images"
population = "patients"
patient = "patient"
target = "digit"
most_records_per_patient = 1

[columns.digit]
kind = "category"
categories = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

[tensors.image]
shape = [1, {SIDE}, {SIDE}]
""")


class Network(nn.Module):
    """Two convolutions and a layer, which are frozen, and ten outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU()),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def made_up() -> GroupedRows:
    """Patients with an image and a digit each, of no meaning."""
    rng = np.random.default_rng(0)
    codes = np.sort(rng.choice(2**40, PATIENTS, replace=False))
    rows = in_groups(np.column_stack([codes, np.zeros(PATIENTS), rng.integers(0, 10, PATIENTS)]), most=1)
    images = SCHEMA.tensors[0].draw_mock(PATIENTS)
    return GroupedRows(rows.matrix, rows.begins(held_out=False), rows.begins(held_out=True), {"image": images})


def shown(*, quick: bool) -> Iterator[tuple[str, ...]]:
    """By engine and steps: passes over the patients, seconds of a round at each step and once, and their ratio."""
    torch.manual_seed(0)
    model, rows = Network(), made_up()
    graph = export_model(model, (1, SIDE, SIDE), frozen=("body.*",))
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    for engine, numbers in STEPS.items():
        (compiled.load if engine == "in lanes" else compiled.unload)()
        for steps in numbers[: 1 if quick else None]:
            mechanism = DPSGD(
                loss="cross_entropy", inputs="image", rounds=1, steps=steps, sampling_rate=SAMPLED / PATIENTS,
                clipping_norm=1.0, learning_rate=0.5, noise_multiplier=1.0,
            )  # fmt: skip
            split = split_for(graph, mechanism, SCHEMA, PATIENTS)
            assert split is not None
            seconds = []
            for each in (None, split):
                begin = time.perf_counter()
                train_round(graph, mechanism, SCHEMA, PATIENTS, rows, weights, NoiseSource(bytes(32)), split=each)
                seconds.append(time.perf_counter() - begin)
            passes = f"{steps * SAMPLED / PATIENTS:.1f}"
            yield engine, str(steps), passes, *(f"{each:.2f}" for each in seconds), f"{seconds[0] / seconds[1]:.1f}"
    compiled.unload()
