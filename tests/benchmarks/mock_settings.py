"""How settings chosen on a mock with signal do on the real rows, against settings chosen blind.

On a hospital of the demonstration, a mock is drawn at some ε. Every setting of a grid is trained on the mock by the
engine's own DP-SGD, and the one with the best AUC on the mock's hold-out is chosen; mocks are drawn several times.
All are trained on the real rows as well, and scored on fresh patients without noise: a yardstick that nobody has. Blind
is the mean over the grid, a mock from the schema alone is the same choice made on rows without signal.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import functools
import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from compose.patients import HOSPITALS, Hospital, make_patients, write_csv
from compose.tables import schema_path
from datasites.engine.mock_rows import draw_mock
from datasites.engine.noise import NoiseSource
from datasites.engine.statistics import answer
from datasites.engine.training import train_round
from datasites.vault.encoding import encode, read_table
from datasites.vault.synthetic_mock import ROWS, questions, synthetic_rows
from policies.graph.exporter import export_model
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD
from policies.schema.schemas import Schema

EPSILONS = (0.1, 0.5)
GRID = tuple(itertools.product((0.01, 0.1, 1.0, 10.0), (0.3, 3.0)))  # learning rate, clipping norm
STEPS, RATE, NOISE = 60, 0.05, 2.0
TURNS = 2

Table = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """What a way to choose came to: AUC on fresh patients of the setting that it chose."""

    way: str
    setting: str
    auc: float


def compare(hospital: Hospital, turns: int = TURNS, seed: int = 2027) -> list[Choice]:
    """Every way to choose at one hospital, the best of the grid (known to nobody) last."""
    schema = Schema.from_toml(schema_path(hospital.name).read_text())
    real, fresh = _encoded(hospital, schema, seed), _encoded(hospital, schema, seed + 1)
    true = [_mean_auc(setting, schema, real, fresh, turns) for setting in GRID]
    chosen = [Choice("blind: the mean of the grid", "", float(np.mean(true)))]

    def by(way: str, draw: Callable[[int], Table]) -> None:
        """Choose on mocks drawn anew, as noise differs from one to another: the mean of what is chosen."""
        places = []
        for turn in range(turns):
            mock = draw(turn)
            train, held_out = mock[mock[:, 1] == 0], mock[mock[:, 1] == 1]
            places.append(int(np.argmax([_mean_auc(setting, schema, train, held_out, 1) for setting in GRID])))
        named = "; ".join("{:g}, {:g}".format(*GRID[place]) for place in dict.fromkeys(places))
        chosen.append(Choice(way, named, float(np.mean([true[place] for place in places]))))

    by("mock from the schema alone", lambda turn: draw_mock(schema, ROWS, seed=turn))
    for epsilon in EPSILONS:
        by(f"mock with signal, ε = {epsilon:g}", functools.partial(_drawn, schema, real, epsilon))
    best = int(np.argmax(true))
    return [*chosen, Choice("the best of the grid", "{:g}, {:g}".format(*GRID[best]), true[best])]


def _encoded(hospital: Hospital, schema: Schema, seed: int) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        write_csv(make_patients(hospital, seed=seed), Path(folder) / "flu.csv")
        return encode(read_table(Path(folder) / "flu.csv", schema.file), schema, population_secret=bytes(32))


def _drawn(schema: Schema, real: Table, epsilon: float, turn: int) -> Table:
    asked = questions(schema, epsilon)
    return synthetic_rows(answer(asked, schema, real, NoiseSource(bytes([turn + 1] * 32))), asked, schema)


def _mean_auc(setting: tuple[float, float], schema: Schema, train: Table, scored: Table, turns: int) -> float:
    return float(np.mean([_auc(setting, schema, train, scored, turn) for turn in range(turns)]))


def _auc(setting: tuple[float, float], schema: Schema, train: Table, scored: Table, turn: int) -> float:
    learning_rate, clipping_norm = setting
    mechanism = DPSGD(
        loss="binary_cross_entropy",
        rounds=1,
        steps=STEPS,
        sampling_rate=RATE,
        clipping_norm=clipping_norm,
        noise_multiplier=NOISE,
        learning_rate=learning_rate,
    )
    torch.manual_seed(turn)
    inputs = schema.input_shape("features")[0]
    model = _model(inputs)
    weights: dict[str, Tensor] = {name: value.detach() for name, value in model.named_parameters()}
    graph = _graph(inputs)
    patients = len(np.unique(train[train[:, 1] == 0, 0]))
    noise = NoiseSource(bytes([turn + 101] * 32))
    model.load_state_dict(train_round(graph, mechanism, schema, patients, train, weights, noise))
    with torch.no_grad():
        outputs = model(torch.from_numpy(schema.inputs(scored, "features")))[:, 0].numpy()
    return _area(outputs, schema.values(scored, str(schema.target)) > 0)


def _model(inputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())


@functools.cache
def _graph(inputs: int) -> Graph:
    return export_model(_model(inputs), (inputs,))


def _area(outputs: npt.NDArray[np.float32], sick: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks, ties counted half (Mann & Whitney 1947)."""
    _, first, counts = np.unique(outputs, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[first]
    positives, negatives = int(sick.sum()), int((~sick).sum())
    return float((ranks[sick].sum() - positives * (positives + 1) / 2) / (positives * negatives))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in HOSPITALS:
        print(one.title, flush=True)
        for choice in compare(one):
            print(f"  {choice.way:32} {choice.setting:32} AUC {choice.auc:.3f}", flush=True)
