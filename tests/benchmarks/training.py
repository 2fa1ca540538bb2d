"""Training speed against stock Opacus and plain PyTorch, noise against torch's generator, and peak memory.

One thread. Whatever is compared takes turns in one process, so that a busy machine slows all alike; a ratio is the
median over turns of one turn's times, and not of the medians. Memory is measured in a process of its own per size.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import itertools

import numpy as np
import numpy.typing as npt
import torch
from opacus import PrivacyEngine
from opacus.layers import DPLSTM
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from datasites.engine.noise import NoiseSource
from datasites.engine.training import train_round
from policies.graph.exporter import export_model
from policies.privacy.mechanisms import DPSGD
from policies.schema.columns import Column
from policies.schema.schemas import Schema

BATCH = 64
PATIENTS = 4096
TURNS = 7
STEPS = {"FluPredictor": 200, "MLP of 100,000": 30, "LSTM": 50}
SIZES = (100_000, 2_000_000)

Table = npt.NDArray[np.float64]


class FluPredictor(nn.Module):
    """The running example, 10 → 32 → 1, or one of 100,131 parameters, 10 → 310 → 310 → 1."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        sizes = [10, *widths, 1]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return torch.sigmoid(self.layers[-1](x))


class FluSequence(nn.Module):
    """The LSTM variant over a series of 6 values; stock Opacus needs its own layer in place of torch's."""

    def __init__(self, layer: type[nn.Module] = nn.LSTM) -> None:
        super().__init__()
        self.lstm, self.out = layer(1, 16, batch_first=True), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.out(self.lstm(x)[0][:, -1]))


class TorchNoise(NoiseSource):
    """Noise as stock Opacus draws it, neither secure nor on a grid: only to compare speeds."""

    def child(self, label: str) -> NoiseSource:
        return TorchNoise(os.urandom(32)) if label == "gaussian" else super().child(label)

    def gaussian_on_grid(self, shape: int | tuple[int, ...], std: float, grid: float) -> Table:
        return torch.randn(shape).mul_(std).to(torch.float64).numpy()


def make_schema() -> Schema:
    """Ten features and a target."""
    names = [f"x{i}" for i in range(10)]
    columns = [Column(name=name, kind="real", minimum=-1.0, maximum=1.0) for name in names]
    return Schema(
        name="t",
        population="p",
        patient="id",
        target="y",
        columns=(*columns, Column(name="y", kind="boolean")),
        sequences=(("series", tuple((name,) for name in names[:6])),),
    )


def make_table(records: int, patients: int) -> Table:
    rng = np.random.default_rng(0)
    table = np.empty((records, 13))
    table[:, 0] = rng.integers(0, patients, records) if records > patients else np.arange(records)
    table[:, 1] = 0
    for column in range(2, 12):
        table[:, column] = rng.uniform(-1, 1, records)
    table[:, 12] = table[:, 2] > 0
    return table


def ours(model: nn.Module, inputs: str, steps: int, source: type[NoiseSource]) -> Callable[[], None]:
    schema, table = make_schema(), make_table(PATIENTS, PATIENTS)
    graph = export_model(model, schema.input_shape(inputs))
    weights = {name: value.detach() for name, value in model.named_parameters()}
    made = DPSGD(
        loss="binary_cross_entropy",
        rounds=1,
        steps=steps,
        sampling_rate=BATCH / PATIENTS,
        clipping_norm=1.0,
        noise_multiplier=1.0,
        learning_rate=0.1,
        inputs=inputs,
    )

    def run() -> None:
        train_round(graph, made, schema, PATIENTS, table, weights, source.from_os())

    return run


def others(model: nn.Module, inputs: str, steps: int, *, private: bool) -> Callable[[], None]:
    schema, table = make_schema(), make_table(PATIENTS, PATIENTS)
    data = TensorDataset(
        torch.from_numpy(schema.inputs(table, inputs)), torch.from_numpy(schema.targets(table)).float()
    )
    loader = DataLoader(data, batch_size=BATCH, shuffle=True)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if private:
        model, optimizer, loader = PrivacyEngine().make_private(
            module=model, optimizer=optimizer, data_loader=loader, noise_multiplier=1.0, max_grad_norm=1.0
        )
    loss = nn.BCELoss()

    def run() -> None:
        done = 0
        while done < steps:
            for records, labels in loader:
                optimizer.zero_grad()
                loss(model(records)[:, 0], labels).backward()
                optimizer.step()
                done += 1
                if done == steps:
                    return

    return run


def compare(name: str, turns: int = TURNS, only: tuple[str, ...] = ()) -> dict[str, tuple[float, float]]:
    """Of each way to train: median processor seconds per step, and how many times as fast ours is; they take turns."""
    inputs = "series" if name == "LSTM" else "features"
    widths = {"FluPredictor": (32,), "MLP of 100,000": (310, 310)}.get(name, ())

    def make(layer: type[nn.Module] = nn.LSTM) -> nn.Module:
        torch.manual_seed(0)
        return FluSequence(layer) if name == "LSTM" else FluPredictor(*widths)

    steps = STEPS[name]
    ways = {
        "ours": ours(make(), inputs, steps, NoiseSource),
        "ours, torch.randn": ours(make(), inputs, steps, TorchNoise),
        "stock Opacus": others(make(DPLSTM), inputs, steps, private=True),
        "plain PyTorch": others(make(), inputs, steps, private=False),
    }
    ways = {way: run for way, run in ways.items() if not only or way in only}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(turns + 1):
        for way, run in ways.items():
            begin = time.process_time()
            run()
            if turn:  # the first is to warm up
                seconds[way].append((time.process_time() - begin) / steps)

    def times_as_fast(way: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[way], seconds["ours"], strict=True))

    return {way: (statistics.median(times), times_as_fast(way)) for way, times in seconds.items()}


def noise_alone(parameters: int = 100_000, turns: int = 60) -> tuple[float, float]:
    """Median processor seconds to draw noise for a step: ours, rounded to the grid, and torch's own; taking turns."""
    secure = NoiseSource.from_os()
    taken: list[tuple[float, float]] = []
    for _ in range(turns):
        begin = time.process_time()
        secure.gaussian_on_grid(parameters, 2.0**20, 1.0)
        between = time.process_time()
        torch.randn(parameters)
        taken.append((between - begin, time.process_time() - between))
    return statistics.median(a for a, _ in taken), statistics.median(b for _, b in taken)


def peak_memory(records: int) -> None:
    """Print MB resident at most before and during a round at this size; in a process of its own."""
    schema, model = make_schema(), FluPredictor(32)
    graph = export_model(model, (10,))
    weights = {name: value.detach() for name, value in model.named_parameters()}
    made = DPSGD(
        loss="binary_cross_entropy",
        rounds=1,
        steps=20,
        sampling_rate=2 * BATCH / records,
        clipping_norm=1.0,
        noise_multiplier=1.0,
        learning_rate=0.1,
    )
    train_round(graph, made, schema, records // 2, make_table(1000, 1000), weights, NoiseSource.from_os())
    table = make_table(records, records // 2)
    before = _peak()
    begin = time.process_time()
    train_round(graph, made, schema, records // 2, table, weights, NoiseSource.from_os())
    took = time.process_time() - begin
    after = _peak()
    print(json.dumps({"table": table.nbytes / 2**20, "peak": after, "more": after - before, "seconds": took}))


def _peak() -> float:
    """MB resident at most since this program began; `getrusage` would count from the one that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def memory_at(records: int) -> dict[str, float]:
    """`peak_memory` of a new process."""
    command = [sys.executable, "-m", "tests.benchmarks.training", str(records)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


if __name__ == "__main__":
    peak_memory(int(sys.argv[1]))
