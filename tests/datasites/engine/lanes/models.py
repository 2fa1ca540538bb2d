"""Models whose gradients become programs, and programs made of single instructions. Randomness is seeded."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from datasites.engine.gradient_recorder import Recorder
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.instructions import LANES, encoded
from datasites.engine.lanes.lowering import lowered
from datasites.engine.lanes.programs import DIRECT, Program
from datasites.engine.lanes.verifier import Verified, verified
from policies.graph.exporter import _convert, _trace, export_model
from policies.graph.graphs import Graph

BCE, LOGITS, CE = "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy"


class Recurrent(nn.Module):
    """A recurrent layer over a series, the last state scored."""

    def __init__(self, layer: type[nn.Module], **options: Any) -> None:
        super().__init__()
        self.layer = layer(1, 8, batch_first=True, **options)
        self.out = nn.Linear(16 if options.get("bidirectional") else 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.out(self.layer(x)[0][:, -1]))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(1, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.embed(x)
        return torch.sigmoid(self.out(self.attention(seen, seen, seen, need_weights=False)[0].mean(1)))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(1, 8), nn.Linear(8, 2)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(self.embed(x)).mean(1))


class Extremes(nn.Module):
    """Larger and smaller of two, and standardised by its own variance."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(10, 6), nn.Linear(10, 6), nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True) + 0.1)
        a, b = self.a(x), self.b(x)
        return self.out(torch.cat([torch.maximum(a, b), torch.minimum(a, b) * a.amax(1, keepdim=True)], dim=1))


class Shout(nn.Module):
    """Two sums of the same products, in two orders, and their difference times 10¹⁵."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(10, 2, bias=False), nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        other = (x.unsqueeze(1) * self.a.weight).sum(2)
        return self.b(((self.a(x) - other) * 1e9)[:, :1] * 1e6)


class Steep(nn.Module):
    """Saturated activations, amplified at each layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(10, 37), nn.Linear(37, 19), nn.Linear(19, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x) * 50)
        return self.c(torch.relu(torch.sigmoid(self.b(h) * 1e4) * h[:, :19] * 1e7))


class Cancelling(nn.Module):
    """One layer over eight values, by turns added and taken away: a gradient of eight products, perhaps of zero."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 32, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weighed = self.layer(x) * x[:, :, :1]
        return (weighed[:, ::2] - weighed[:, 1::2]).sum((1, 2)).unsqueeze(1) * 1e9


class Logarithm(nn.Module):
    """One logit; not finite where the first feature is negative."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.log(x[:, :1]) + torch.exp(x))


def _layers(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


def _activations() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(10, 12), nn.ELU(), nn.Linear(12, 12), nn.LeakyReLU(), nn.Linear(12, 12), nn.SiLU()),
        *(nn.Linear(12, 12), nn.Hardtanh(), nn.Linear(12, 12), nn.ReLU6(), nn.Linear(12, 12), nn.Softplus()),
        *(nn.Linear(12, 12), nn.Mish(), nn.Linear(12, 12), nn.SELU(), nn.CELU(), nn.Softsign(), nn.Hardswish()),
        *(nn.Linear(12, 12), nn.GELU(), nn.Tanh(), nn.Linear(12, 1), nn.Sigmoid()),
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "logistic regression": (lambda: nn.Linear(10, 1), (10,), LOGITS),
    "one logit a class": (lambda: nn.Linear(10, 3), (10,), CE),
    "two layers": (lambda: nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid()), (10,), BCE),
    "three layers": (
        lambda: nn.Sequential(
            *(nn.Linear(10, 50), nn.ReLU(), nn.Linear(50, 33), nn.ReLU(), nn.Linear(33, 1), nn.Sigmoid())
        ),
        (10,),
        BCE,
    ),
    "group norm": (
        lambda: nn.Sequential(nn.Linear(10, 16), nn.GroupNorm(4, 16), nn.ReLU(), nn.Linear(16, 2)), (10,), CE,
    ),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(10, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 1)), (10,), LOGITS,
    ),
    "activations": (_activations, (10,), BCE),
    "extremes": (Extremes, (10,), LOGITS),
    "RNN": (lambda: Recurrent(nn.RNN), (6, 1), BCE),
    "GRU": (lambda: Recurrent(nn.GRU), (6, 1), BCE),
    "LSTM": (lambda: Recurrent(nn.LSTM), (6, 1), BCE),
    "LSTM, stacked, both ways": (lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True), (4, 1), BCE),
    "convolution": (
        lambda: nn.Sequential(
            *(nn.Unflatten(1, (1, 12)), nn.Conv1d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2)),
            *(nn.Conv1d(6, 9, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 1), nn.Sigmoid()),
        ),
        (12,),
        BCE,
    ),
    "picture": (
        lambda: nn.Sequential(
            *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU()),
            *(nn.AvgPool2d(2), nn.Conv2d(4, 4, 2, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            nn.Linear(4, 2),
        ),
        (64,),
        CE,
    ),
    "attention": (Attention, (6, 1), BCE),
    "transformer": (Transformer, (6, 1), CE),
}  # fmt: skip
HOSTILE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "shout": (Shout, (10,), LOGITS),
    "steep": (Steep, (10,), LOGITS),
    "three layers without a bias": (
        lambda: nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in ((10, 8), (8, 8), (8, 1)))),
        (10,),
        LOGITS,
    ),
    "cancelling": (Cancelling, (8, 32), LOGITS),
    "logarithm": (Logarithm, (10,), LOGITS),
}


@cache
def graph_of(name: str) -> Graph:
    """The model's graph, past the exporter's own check of what a hostile model does."""
    make, shape, _ = (MODELS | HOSTILE)[name]
    torch.manual_seed(7)
    model = make()
    return _convert(_trace(model, shape), model, shape) if name in HOSTILE else export_model(model, shape)


@cache
def program_of(name: str) -> tuple[Verified, Recorder]:
    """The model's program, and the recording that it was made from."""
    loss = (MODELS | HOSTILE)[name][2]
    program, recording = lowered(graph_of(name), loss, 3 if name == "one logit a class" else 2)
    return verified(program), recording


def weights_of(name: str) -> npt.NDArray[np.float32]:
    """Seeded weights, flat, in the graph's order."""
    make, _, _ = (MODELS | HOSTILE)[name]
    torch.manual_seed(7)
    by_name = dict(make().named_parameters())
    parts = [by_name[parameter.name].detach().reshape(-1) for parameter in graph_of(name).parameters]
    flat: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return flat


class Single:
    """One instruction on a record of `features` numbers; its result lies in the block's own memory."""

    def __init__(self, kernels: Kernels, name: str, features: int, constants: list[float], **fields: int) -> None:
        record, label, result = 0, features * LANES, (features + 1) * LANES
        places = {"x": record, "y": result, **fields}
        code = [encoded(name, places), encoded("norm_direct", {"x": result, "n": 1, "sx": LANES})]
        self.program = Program(
            code=np.array(code, dtype=np.int64),
            terms=np.array([[result, LANES, result, LANES]], dtype=np.int64),
            groups=np.array([[DIRECT, 0, 1, 1, 0, 1]], dtype=np.int64),
            constants=np.array(constants, dtype=np.float32),
            scratch=0,
            own=result + features * LANES,
            record=record,
            label=label,
            features=features,
            parameters=1,
        )
        self._kernels, self._result = kernels, result

    def __call__(self, values: npt.NDArray[np.float32], more: Mapping[int, npt.NDArray[np.float32]] = {}) -> Any:
        """The results [features, 16] for one block of records [features, 16]."""
        program = verified(self.program).program
        memory = np.zeros(program.own, np.float32)
        memory[: values.size] = values.reshape(-1)
        uniform = np.concatenate([np.zeros(1, np.float32), program.constants])
        norms, sound = np.zeros(LANES), np.zeros(LANES, np.int32)
        room = (ctypes.c_int64 * 4)()
        at = ctypes.addressof(room)
        pointers = [array.ctypes.data for array in (program.code, program.terms, memory, uniform, norms, sound)]
        self._kernels.entries["run"](
            at, at + 8, pointers[0], len(program.code), *pointers[1:4], 0, program.own, program.own, 1, *pointers[4:]
        )
        return memory[self._result :].reshape(-1, LANES)
