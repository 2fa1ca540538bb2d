"""Convolutions and poolings of any geometry give torch's gradients, whatever tiles their sums fall into."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasites.engine.grid import grid_of
from datasites.engine.interpreter import forward
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.instructions import INSTRUCTIONS, LANES
from datasites.engine.lanes.lowering import lowered
from datasites.engine.lanes.programs import Program
from datasites.engine.lanes.sums import LaneSums, shrinkage
from datasites.engine.lanes.verifier import verified
from datasites.engine.lanes.windows import _phases
from datasites.engine.training import record_gradients
from policies.graph.exporter import export_model
from policies.graph.graphs import Graph
from tests.datasites.engine.lanes.models import LOGITS

NORM = 0.37

CASES: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "strides and padding": ((3, 9, 7), lambda: nn.Conv2d(3, 5, (3, 2), stride=(2, 3), padding=(1, 0))),
    "a stride beyond the kernel": ((4, 9, 9), lambda: nn.Conv2d(4, 7, 2, stride=3, padding=1)),
    "dilation and strides": ((2, 12, 11), lambda: nn.Conv2d(2, 9, 3, stride=2, padding=2, dilation=2)),
    "dilation of three, stride of two": ((2, 19), lambda: nn.Conv1d(2, 6, 3, stride=2, padding=1, dilation=3)),
    "dilation of two, stride of four": ((2, 21), lambda: nn.Conv1d(2, 6, 5, stride=4, padding=3, dilation=2)),
    "no bias": ((6, 8, 8), lambda: nn.Conv2d(6, 10, 3, bias=False)),
    "one by one": ((11, 5, 5), lambda: nn.Conv2d(11, 15, 1)),
    "each channel by itself": ((6, 7, 7), lambda: nn.Conv2d(6, 12, 3, padding=1, groups=6)),
    "channels a power of two apart": ((4, 8, 8), lambda: nn.Conv2d(4, 6, 3, padding=1)),
    "windows of more than stay near": ((40, 5, 6), lambda: nn.Conv2d(40, 11, 5, padding=2)),
    "rows of more than stay near": ((2, 4, 90), lambda: nn.Conv2d(2, 3, 3)),
    "volumes": ((2, 5, 6, 7), lambda: nn.Conv3d(2, 5, 3, stride=(1, 2, 2), padding=1)),
    "volumes, dilated, in groups": ((4, 6, 6, 6), lambda: nn.Conv3d(4, 6, 2, dilation=(2, 1, 3), groups=2)),
    "transposed": ((5, 4, 5), lambda: nn.ConvTranspose2d(5, 3, 3, stride=2, padding=1, output_padding=1)),
    "transposed, a stride beyond the kernel": ((3, 4, 4), lambda: nn.ConvTranspose2d(3, 4, 2, stride=3)),
    "transposed volumes": ((3, 3, 4, 3), lambda: nn.ConvTranspose3d(3, 2, 2, stride=2)),
    "largest of overlapping windows": ((3, 9, 8), lambda: nn.MaxPool2d(3, stride=2, padding=1, dilation=2)),
    "largest in depth": ((2, 4, 6, 6), lambda: nn.MaxPool3d(2)),
    "means in depth": ((2, 4, 6, 6), lambda: nn.AvgPool3d(2, stride=1, padding=1)),
    "nearest": ((3, 4, 5), lambda: nn.Upsample(scale_factor=2)),
    "bilinear": ((3, 4, 5), lambda: nn.Upsample(scale_factor=2, mode="bilinear")),
    **{f"{outputs} outputs": ((3, 6, 6), partial(nn.Conv2d, 3, outputs, 3)) for outputs in range(1, 18)},
}


class Between(nn.Module):
    """A layer of one number for each channel, so that what is tested hands its gradient on; then the layer; a score."""

    def __init__(self, shape: tuple[int, ...], layer: nn.Module) -> None:
        super().__init__()
        self.shape, self.layer = shape, layer
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, shape[0]).reshape(shape[0], *[1] * (len(shape) - 1)))
        with torch.no_grad():
            self.out = nn.Linear(layer(torch.zeros(1, *shape)).numel(), 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.layer(torch.tanh(x * self.scale))).flatten(1))


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_torch(name: str, kernels: Kernels) -> None:
    shape, make = CASES[name]
    torch.manual_seed(3)
    model, records = Between(shape, make()), 5
    graph = export_model(model, shape)
    sums = LaneSums(verified(lowered(graph, LOGITS, 2)[0]), kernels, NORM, most=16)
    weights = {key: value.detach() for key, value in model.named_parameters()}
    sums.put([weights[parameter.name].numpy() for parameter in graph.parameters])
    inputs, labels = torch.randn(records, *shape), torch.tensor([0, 1, 1, 0, 1])
    gradients, _ = record_gradients(forward(graph), LOGITS)(weights, inputs, labels)
    flat = torch.cat([gradients[p.name].reshape(records, -1) for p in graph.parameters], dim=1).double()
    norms = flat.norm(dim=1, keepdim=True)
    clipped = (flat * (NORM * shrinkage(flat.shape[1], NORM) / norms).clamp(max=1)).numpy()
    given = np.ascontiguousarray(inputs.reshape(records, -1).numpy())
    for record in range(records):
        found = sums.sum(given, labels.numpy().astype(np.float32), np.array([record])) * grid_of(NORM)
        assert np.abs(found - clipped[record]).max() <= 2e-5 * NORM, record


@pytest.mark.parametrize("stride", range(1, 6))
def test_phases_are_every_number_in_every_window_once(stride: int) -> None:
    # number i lies in window a at place t where i + padding = stride · a + dilation · t
    for size, kernel, padding, dilation in itertools.product((1, 4, 11), range(1, 6), range(3), range(1, 5)):
        wanted = {
            (number, (number + padding - dilation * t) // stride, t)
            for number in range(size)
            for t in range(kernel)
            if (number + padding - dilation * t) % stride == 0
        }
        found = []
        numbers: list[int] = []
        for phase in _phases(size, kernel, stride, padding, dilation):
            for count in range(phase.count):
                number = phase.begin + stride * count
                numbers.append(number)
                for step in range(phase.taps):
                    window = phase.first + count + phase.by * step
                    assert window < phase.first + phase.reach
                    found.append((number, window, phase.tap + phase.every * (phase.taps - 1 - step)))
        assert len(found) == len(set(found))
        assert set(found) == wanted
        assert len(numbers) == len(set(numbers))


def counted(program: Program) -> dict[str, int]:
    names = [INSTRUCTIONS[words[0]].name for words in program.code.tolist()]
    return {name: names.count(name) for name in set(names)}


def dense(graph: Graph) -> Program:
    return lowered(graph, LOGITS, 2)[0]


def test_no_window_is_copied() -> None:
    # Copied windows of 5 by 5 would be 25 times the picture: 16 · 25 · 196 slots, and as many for their gradient.
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5, padding=2), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 7 * 7, 1)),
    )
    program = dense(export_model(model, (1, 28, 28)))
    # Two layers: forward twice, gradient of one input; of weights twice.
    assert {name: counted(program)[name] for name in ("convolve", "correlate", "largest", "to_largest")} == {
        "convolve": 3, "correlate": 2, "largest": 2, "to_largest": 2,
    }  # fmt: skip
    assert len(program.code) < 80
    assert program.scratch < math.prod((16, 25, 196)) * LANES
