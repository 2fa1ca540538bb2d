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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

import itertools

import numpy as np
import numpy.typing as npt
import torch
from opacus import PrivacyEngine
from opacus.layers import DPLSTM
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from datasites.engine import helpers
from datasites.engine.lanes import compiled, readiness
from datasites.engine.matrix import GroupedRows, in_groups
from datasites.engine.noise import NoiseSource
from datasites.engine.training import train_round
from policies.graph.exporter import export_model
from policies.privacy.mechanisms import DPSGD
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from policies.schema.tensors import Tensor as PrivateTensor

BATCHES = (64, 512)
BATCH = BATCHES[0]
PATIENTS = 4096
TURNS = 5
SIZES = (100_000, 2_000_000)
LONG = 24  # values of the longer series

SHOWN = (
    "ours",
    "ours, a place for each record",
    "stock Opacus",
    "plain PyTorch, DataLoader",
    "plain PyTorch, tensors",
)  # of the ways in `compare`

Table = npt.NDArray[np.float64]


class FluPredictor(nn.Module):
    """The running example, 10 → 32 → 1, or one of more parameters, as 10 → 310 → 310 → 1."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        sizes = [10, *widths, 1]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return torch.sigmoid(self.layers[-1](x))


class FluSequence(nn.Module):
    """The LSTM variant over a series of values; stock Opacus needs its own layer in place of torch's."""

    def __init__(self, layer: type[nn.Module] = nn.LSTM, hidden: int = 16) -> None:
        super().__init__()
        self.lstm, self.out = layer(1, hidden, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.out(self.lstm(x)[0][:, -1]))


class Normed(nn.Module):
    """A layer that is normalised in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(10, 16), nn.GroupNorm(4, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.b(torch.relu(self.norm(self.a(x)))))


class Convolved(nn.Module):
    """Two convolutions over ten values."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(1, 8, 3, padding=1), nn.Conv1d(8, 16, 3, stride=2)
        self.out = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.relu(self.b(torch.relu(self.a(x.unsqueeze(1)))))
        return torch.sigmoid(self.out(seen.flatten(1)))


class Pictures(nn.Module):
    """A CNN of about 100,000 parameters on pictures of 28 by 28; with strides, or with every place of large kernels."""

    def __init__(self, *, dense: bool) -> None:
        super().__init__()
        if dense:  # two and a half million multiply-adds a picture: bound by them
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            )  # fmt: skip
            self.head = nn.Sequential(nn.Linear(32 * 7 * 7, 56), nn.ReLU(), nn.Linear(56, 1))
        else:
            self.body = nn.Sequential(
                nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Flatten()
            )
            self.head = nn.Sequential(nn.Linear(16 * 7 * 7, 124), nn.ReLU(), nn.Linear(124, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.head(self.body(x)))


class Residual(nn.Module):
    """A small ResNet with GroupNorm: a layer with strides, two residual blocks, the mean of each channel."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, 2, 1)
        self.layers = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(4))
        self.norms = nn.ModuleList(nn.GroupNorm(4, channels) for _ in range(4))
        self.out = nn.Linear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for block in (0, 2):
            inner = torch.relu(self.norms[block](self.layers[block](x)))
            x = torch.relu(x + self.norms[block + 1](self.layers[block + 1](inner)))
        return torch.sigmoid(self.out(x.mean((2, 3))))


class UNet(nn.Module):
    """A small U-Net with GroupNorm: down, up again beside what was seen on the way, and the mean of what it marks."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.first = self._layer(1, channels)
        self.deep = nn.Sequential(nn.MaxPool2d(2), *self._layer(channels, 2 * channels))
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2 * channels, channels, 3, padding=1))
        self.joined, self.out = self._layer(2 * channels, channels), nn.Conv2d(channels, 1, 1)

    @staticmethod
    def _layer(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        seen = self.first(x)
        joined = torch.cat([seen, self.up(self.deep(seen))], dim=1)
        return torch.sigmoid(self.out(self.joined(joined)).mean((2, 3)))


class Volume(nn.Module):
    """Two convolutions over a volume of 4 by 14 by 14, which is what a picture has, with GroupNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv3d(1, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.Conv3d(8, 16, 3, 2, 1)
        self.out = nn.Linear(16 * 2 * 7 * 7, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.relu(self.norm(self.a(x.reshape(-1, 1, 4, 14, 14))))
        return torch.sigmoid(self.out(torch.relu(self.b(seen)).flatten(1)))


class Codes(nn.Module):
    """A table of a hundred codes, looked up at each place of a series, a layer, and the mean over the series."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer, self.out = nn.Embedding(100, 16), nn.Linear(16, 32), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        codes = ((x[:, :, 0] + 1) * 50).long().clamp(0, 99)
        return torch.sigmoid(self.out(torch.relu(self.layer(self.table(codes))).mean(1)))


class TransformerLayer(nn.Module):
    """Attention and two layers over a series, of layers that stock Opacus knows."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(1, width), nn.Linear(width, 1)
        self.query, self.key, self.value, self.mix = (nn.Linear(width, width) for _ in range(4))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        scores = self.query(x) @ self.key(x).transpose(1, 2) / 4
        x = self.first(x + self.mix(torch.softmax(scores, dim=-1) @ self.value(x)))
        x = self.second(x + self.down(torch.relu(self.up(x))))
        return torch.sigmoid(self.out(x.mean(1)))


@dataclass(frozen=True)
class Model:
    """What is compared: `make` takes the recurrent layer, `steps` are a round's, of which others take a tenth."""

    make: Callable[[type[nn.Module]], nn.Module]
    inputs: str
    steps: int


MODELS: dict[str, Model] = {
    "FluPredictor": Model(lambda _: FluPredictor(32), "features", 400),
    "LSTM": Model(lambda layer: FluSequence(layer), "series", 200),
    "LSTM, 64 hidden, 24 steps": Model(lambda layer: FluSequence(layer, 64), "long", 60),
    "GroupNorm": Model(lambda _: Normed(), "features", 300),
    "Conv1d": Model(lambda _: Convolved(), "features", 200),
    "CNN of 100,000, 28 × 28, strides": Model(lambda _: Pictures(dense=False), "picture", 100),
    "CNN of 100,000, 28 × 28, 5 × 5 kernels": Model(lambda _: Pictures(dense=True), "picture", 60),
    "small ResNet, 28 × 28": Model(lambda _: Residual(), "picture", 40),
    "small U-Net, 28 × 28": Model(lambda _: UNet(), "picture", 40),
    "Conv3d, 4 × 14 × 14": Model(lambda _: Volume(), "picture", 40),
    "series of 24 codes, embedded": Model(lambda _: Codes(), "long", 100),
    "Transformer layer": Model(lambda _: TransformerLayer(), "series", 150),
    "MLP of 100,000": Model(lambda _: FluPredictor(310, 310), "features", 100),
    "MLP of 1,000,000": Model(lambda _: FluPredictor(990, 990), "features", 20),
}


class TorchNoise(NoiseSource):
    """Noise as stock Opacus draws it, neither secure nor on a grid: only to compare speeds."""

    def child(self, label: str) -> NoiseSource:
        return TorchNoise(os.urandom(32)) if label == "gaussian" else super().child(label)

    def gaussian_on_grid(self, shape: int | tuple[int, ...], std: float, grid: float) -> Table:
        return torch.randn(shape).mul_(std).to(torch.float64).numpy()

    def fill_with_gaussians(self, out: Table, std: float) -> None:
        torch.from_numpy(out).copy_(torch.randn(len(out)).mul_(std))


PICTURE = PrivateTensor(name="picture", shape=(1, 28, 28))


def make_schema(values: int = 10) -> Schema:
    """Ten features and a target; further values are in the longer series alone."""
    names = [f"x{i}" for i in range(values)]
    columns = [
        Column(name=name, kind="real", minimum=-1.0, maximum=1.0, feature=number < 10)
        for number, name in enumerate(names)
    ]
    return Schema(
        name="t",
        population="p",
        patient="id",
        target="y",
        columns=(*columns, Column(name="y", kind="boolean")),
        sequences=(("series", tuple((name,) for name in names[:6])), ("long", tuple((name,) for name in names))),
        tensors=(PICTURE,),
    )


def make_table(records: int, patients: int, values: int = 10) -> Table:
    rng = np.random.default_rng(0)
    table = np.empty((records, values + 3))
    table[:, 0] = rng.integers(0, patients, records) if records > patients else np.arange(records)
    table[:, 1] = 0
    for column in range(2, values + 2):
        table[:, column] = rng.uniform(-1, 1, records)
    table[:, -1] = table[:, 2] > 0
    return table


def _data(inputs: str) -> tuple[Schema, Table]:
    values = LONG if inputs == "long" else 10
    return make_schema(values), make_table(PATIENTS, PATIENTS, values)


def ours(
    model: nn.Module, inputs: str, steps: int, source: type[NoiseSource], *, batch: int = BATCH, lanes: bool = True
) -> Callable[[], None]:
    """A round of ours, in lanes or with a place for each record."""
    schema, table = _data(inputs)
    graph = export_model(model, schema.input_shape(inputs))
    weights = {name: value.detach() for name, value in model.named_parameters()}
    rows: Table | GroupedRows = table
    if inputs == PICTURE.name:
        groups = in_groups(table, 1)
        sides = groups.begins(held_out=False), groups.begins(held_out=True)
        rows = GroupedRows(groups.matrix, *sides, {PICTURE.name: PICTURE.draw_mock(len(table))})
    made = DPSGD(
        loss="binary_cross_entropy",
        rounds=1,
        steps=steps,
        sampling_rate=batch / PATIENTS,
        clipping_norm=1.0,
        noise_multiplier=1.0,
        learning_rate=0.1,
        inputs=inputs,
    )

    def run() -> None:
        if lanes:
            compiled.load()
        else:
            compiled.unload()
        train_round(graph, made, schema, PATIENTS, rows, weights, source.from_os())

    return run


def others(
    model: nn.Module, inputs: str, steps: int, *, private: bool, batch: int = BATCH, loader: bool = True
) -> Callable[[], None]:
    """Stock Opacus, or plain training with a loader or on tensors that are taken as they lie."""
    schema, table = _data(inputs)
    drawn = PICTURE.scaled(PICTURE.draw_mock(len(table))) if inputs == PICTURE.name else schema.inputs(table, inputs)
    records = torch.from_numpy(drawn)
    labels = torch.from_numpy(schema.targets(table)).float()
    parts: Any = DataLoader(TensorDataset(records, labels), batch_size=batch, shuffle=True)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if private:
        model, optimizer, parts = PrivacyEngine().make_private(
            module=model, optimizer=optimizer, data_loader=parts, noise_multiplier=1.0, max_grad_norm=1.0
        )
    elif not loader:
        parts = list(zip(records.split(batch), labels.split(batch), strict=True))
    loss = nn.BCELoss()

    def run() -> None:
        done = 0
        while done < steps:
            for given, wanted in parts:
                optimizer.zero_grad()
                loss(model(given)[:, 0], wanted).backward()
                optimizer.step()
                done += 1
                if done == steps:
                    return

    return run


def compare(
    name: str, turns: int = TURNS, only: tuple[str, ...] = (), batch: int = BATCH
) -> dict[str, tuple[float, float]]:
    """Of each way to train: median processor seconds per step, and how many times as fast ours is; they take turns."""
    declared = MODELS[name]

    def make(layer: type[nn.Module] = nn.LSTM) -> nn.Module:
        torch.manual_seed(0)
        return declared.make(layer)

    given = (declared.inputs, declared.steps)
    fewer = (declared.inputs, max(2, declared.steps // 10))  # a step takes them what it takes, however many there are
    ways: dict[str, Callable[[], Callable[[], None]]] = {
        "ours": lambda: ours(make(), *given, NoiseSource, batch=batch),
        "ours, torch.randn": lambda: ours(make(), *given, TorchNoise, batch=batch),
        "ours, a place for each record": lambda: ours(make(), *fewer, NoiseSource, batch=batch, lanes=False),
        "stock Opacus": lambda: others(make(DPLSTM), *fewer, private=True, batch=batch),
        "plain PyTorch, DataLoader": lambda: others(make(), *fewer, private=False, batch=batch),
        "plain PyTorch, tensors": lambda: others(make(), *fewer, private=False, batch=batch, loader=False),
    }
    runs = {way: prepare() for way, prepare in ways.items() if not only or way in only}
    seconds: dict[str, list[float]] = {way: [] for way in runs}
    for turn in range(turns + 1):
        for way, run in runs.items():
            steps = given[1] if way in ("ours", "ours, torch.randn") else fewer[1]
            begin = time.process_time()
            run()
            if turn:  # the first is to warm up
                seconds[way].append((time.process_time() - begin) / steps)

    def times_as_fast(way: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[way], seconds["ours"], strict=True))

    return {way: (statistics.median(times), times_as_fast(way)) for way, times in seconds.items()}


def figures(name: str, batch: int, found: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """One line of `build/bench.json`."""
    return {
        "model": name,
        "batch": batch,
        "ours_examples_per_second": batch / found["ours"][0],
        "over_stock_opacus": found["stock Opacus"][1],
        "over_plain_tensors": found["plain PyTorch, tensors"][1],
        "over_plain_loader": found["plain PyTorch, DataLoader"][1],
        "over_a_place_for_each_record": found["ours, a place for each record"][1],
    }


def as_markdown(lines: list[dict[str, Any]]) -> str:
    """The README's table: of each model, at each batch, how many times as fast ours is as the others."""

    def times(value: float) -> str:
        return f"{value:.0f}" if value >= 10 else f"{value:.1f}"

    def row(model: str) -> str:
        of_model = [line for line in lines if line["model"] == model]
        rates = " · ".join(f"{line['ours_examples_per_second'] / 1e3:,.0f}" for line in of_model)
        ways = ("over_stock_opacus", "over_plain_tensors")
        ratios = (" · ".join(times(line[way]) for line in of_model) for way in ways)
        return f"| {model} | {rates} | {' | '.join(ratios)} |"

    batches = " · ".join(str(batch) for batch in BATCHES)
    head = f"| batches of {batches} | thousand records/s | over stock Opacus | over plain PyTorch |"
    models = dict.fromkeys(line["model"] for line in lines)
    return "\n".join([head, "| --- | --- | --- | --- |", *map(row, models)]) + "\n"


def evenness(name: str = "LSTM", turns: int = 60) -> dict[str, tuple[float, float]]:
    """Microseconds of a step's sums in lanes on records of several kinds, and over those on ordinary ones; by turns."""
    declared, rng = MODELS[name], np.random.default_rng(0)
    torch.set_flush_denormal(True)  # as in jobs
    schema, _ = _data(declared.inputs)
    graph = export_model(declared.make(nn.LSTM), schema.input_shape(declared.inputs))
    sums = readiness.made_for(graph, "binary_cross_entropy", 2, 1.0, BATCH, compiled.load())
    sums.weights[:] = rng.normal(0, 0.3, len(sums.weights))
    ordinary = rng.uniform(-1, 1, (BATCH, int(np.prod(graph.input_shape)))).astype(np.float32)
    kinds = {
        "ordinary": ordinary,
        "zero": np.zeros_like(ordinary),
        "of 10^30": ordinary * np.float32(1e30),
        "near zero": ordinary * np.float32(1e-39),
        "not numbers": np.full_like(ordinary, np.nan),
        "infinite": np.full_like(ordinary, np.inf),
    }
    labels, rows = np.ones(BATCH, np.float32), np.arange(BATCH)
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(turns):
        for kind, records in kinds.items():
            begin = time.perf_counter()
            for _ in range(20):
                sums.sum(records, labels, rows)
            taken[kind].append((time.perf_counter() - begin) / 20 * 1e6)
    best = {kind: min(times) for kind, times in taken.items()}
    return {kind: (time_, time_ / best["ordinary"]) for kind, time_ in best.items()}


def threads(name: str, batch: int, turns: int = 40) -> tuple[float, float]:
    """Least wall seconds of a step's sums in one thread and in two, taking turns; alike where no helper is asked.

    Each thread has a processor of its own meanwhile, or a busy machine's scheduler would put both on one.
    """
    declared, rng = MODELS[name], np.random.default_rng(0)
    schema, _ = _data(declared.inputs)
    graph = export_model(declared.make(nn.LSTM), schema.input_shape(declared.inputs))
    alone = readiness.made_for(graph, "binary_cross_entropy", 2, 1.0, batch, compiled.load())
    (helper,) = helpers.begin(1)
    helped = readiness.made_for(graph, "binary_cross_entropy", 2, 1.0, batch, compiled.load())
    helpers.end()
    alone.weights[:] = helped.weights[:] = rng.normal(0, 0.1, len(alone.weights))
    records = rng.uniform(-1, 1, (batch, int(np.prod(graph.input_shape)))).astype(np.float32)
    labels, rows = np.ones(batch, np.float32), np.arange(batch)
    processors = sorted(os.sched_getaffinity(0))
    helper.ask(os.sched_setaffinity, 0, processors[-1:])
    helper.answer()
    os.sched_setaffinity(0, processors[:1])
    taken: list[tuple[float, float]] = []
    for _ in range(turns):
        begin = time.perf_counter()
        alone.sum(records, labels, rows)
        between = time.perf_counter()
        helped.sum(records, labels, rows)
        taken.append((between - begin, time.perf_counter() - between))
    os.sched_setaffinity(0, processors)
    return min(one for one, _ in taken), min(two for _, two in taken)


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
