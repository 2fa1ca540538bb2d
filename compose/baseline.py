"""What the demonstration can know because its patients are synthetic: true AUCs, and a model without privacy.

Everything here reads the script's own files, outside every datasite, and exists to judge the private models. No real
study could compute it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from policies.schema.schemas import Schema

Floats = npt.NDArray[np.float64]
CURVE_POINTS = 101


@dataclass(frozen=True)
class Population:
    """Inputs of a model, float32 [N, features] scaled by the schema's bounds, and the true labels, 0 or 1 [N]."""

    inputs: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def population_of(table: Mapping[str, Floats], schema: Schema) -> Population:
    """A generator's table as models see it: through the hospital's public schema and nothing else."""
    empty = np.zeros(len(table[schema.columns[0].name]))
    matrix = np.stack([empty, empty, *(table[column.name] for column in schema.columns)], axis=1)
    return Population(schema.inputs(matrix), schema.targets(matrix))


def pooled(populations: Iterable[Population]) -> Population:
    """All hospitals' records in one place, which is what nobody may do with real ones."""
    parts = list(populations)
    return Population(np.concatenate([each.inputs for each in parts]), np.concatenate([each.labels for each in parts]))


def scores(model: nn.Module, population: Population) -> Floats:
    """The model's score of every record: its one output, in [0, 1]."""
    with torch.no_grad():
        output: Tensor = model(torch.from_numpy(population.inputs))
    return np.asarray(output.squeeze(1).numpy(), dtype=np.float64)


def auc(model: nn.Module, population: Population) -> float:
    """Area under the ROC curve: the chance that a patient with the illness scores above one without."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(population.labels, scores(model, population)))


def roc(model: nn.Module, population: Population) -> tuple[Floats, Floats]:
    """False positive and true positive rates of the true ROC curve, thinned to 101 points."""
    from sklearn.metrics import roc_curve

    false_positive, true_positive, _ = roc_curve(population.labels, scores(model, population))
    grid = np.linspace(0, 1, CURVE_POINTS)
    return grid, np.interp(grid, false_positive, true_positive)


def train_without_privacy(
    model: type[nn.Module], population: Population, *, seed: int, epochs: int = 40, rate: float = 0.01
) -> nn.Module:
    """The same model trained on `population` in the ordinary way: Adam, no clipping, no noise, a falling rate."""
    torch.manual_seed(seed)
    trained = model()
    order = torch.Generator().manual_seed(seed)
    batch = min(512, max(16, len(population.labels) // 16))
    inputs, labels = torch.from_numpy(population.inputs), torch.from_numpy(population.labels).float()
    optimizer = torch.optim.Adam(trained.parameters(), lr=rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(labels), generator=order), batch):
            _descend(trained, optimizer, inputs[rows], labels[rows])
        falling.step()
    return trained.eval()


def _descend(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.binary_cross_entropy(model(inputs).squeeze(1), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
