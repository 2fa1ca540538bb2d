"""Models whose gradients become programs, and programs made of single instructions. Randomness is seeded."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

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


class Functions(nn.Module):
    """Functions of a layer's numbers, each scored; they are given and give tensors whose first dimension is 1."""

    def __init__(self, *functions: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.functions = functions
        self.a, self.b = nn.Linear(10, 10), nn.Linear(10, 10)
        with torch.no_grad():
            self.out = nn.Linear(self.all_of(torch.ones(1, 10)).shape[1], 1)

    def all_of(self, x: Tensor) -> Tensor:
        seen = torch.tanh(self.a(x)) * 2 + x
        return torch.cat([function(seen).flatten(1) for function in self.functions], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.all_of(torch.relu(self.b(x)) + x))


def _pairs(x: Tensor) -> Tensor:
    return x.reshape(-1, 2, 5)


def _picture(x: Tensor) -> Tensor:
    return x.reshape(-1, 1, 2, 5)


def _other(x: Tensor) -> Tensor:
    return x.flip(1)


FAMILIES: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "circle": (
        *(torch.sin, torch.cos, torch.atan, lambda x: torch.tan(x * 0.3)),
        *(lambda x: torch.asin(torch.tanh(x) * 0.9), lambda x: torch.acos(torch.tanh(x) * 0.9)),
        lambda x: torch.atan2(x, _other(x) + 0.1),
    ),
    "hyperbola": (
        *(torch.erf, torch.sinh, torch.cosh, torch.asinh, lambda x: torch.acosh(x.abs() + 1.1)),
        *(lambda x: torch.atanh(torch.tanh(x) * 0.9), torch.erfc),
    ),
    "powers": (
        *(lambda x: x**4, lambda x: (x.abs() + 0.5) ** -1.5, lambda x: (x.abs() + 0.5) ** 2.3, lambda x: (x + 9) ** -2),
        *(lambda x: 1.5**x, lambda x: (x.abs() + 0.5) ** _other(x), lambda x: x.abs().sqrt(), lambda x: x**0),
        *(lambda x: torch.log2(x.abs() + 1), lambda x: torch.log10(x.abs() + 1), lambda x: torch.rsqrt(x.abs() + 1)),
    ),
    "rounding": (
        *(lambda x: x * torch.floor(x), lambda x: x * torch.ceil(x), lambda x: x * torch.round(x * 4)),
        *(lambda x: torch.fmod(x, 0.3), lambda x: torch.remainder(x, 0.3), lambda x: torch.remainder(x, -0.7)),
        lambda x: x * x.trunc(),
    ),
    "flags": (
        lambda x: torch.where((x > 0) & (x < 1) | ~(x > -1) ^ (x > 2), x, 0.0),
        lambda x: torch.where(torch.logical_or(torch.logical_and(x > 0, x), torch.logical_xor(x, x > 0)), x, 0.5),
        lambda x: torch.where(torch.isinf(x) | torch.isnan(x), 0.0, x),
        lambda x: x * (x > 0).any(1, keepdim=True) * (x > 0).sum(1, keepdim=True),
        lambda x: torch.clamp(x, min=_other(x) - 0.5, max=_other(x) + 0.5),
        lambda x: torch.where(torch.logical_not(x > 0), x, x * 2),
        lambda x: torch.where(x != 0, x, 1.0) * torch.where(x.round() != _other(x).round(), x, 0.5),
    ),
    "places": (
        *(lambda x: _pairs(x).max(2).values, lambda x: _pairs(x).min(1).values, lambda x: _pairs(x).amin(2)),
        lambda x: x * (x.argmax(1, keepdim=True) - 2 * x.argmin(1, keepdim=True)),
        lambda x: x * (torch.arange(10) == (x[:, :1] * 3 + 5).long()),
        *(
            lambda x: torch.index_select(x, 1, torch.tensor([1, 1, 3])),
            lambda x: torch.where((x * 2).long() == 1, x, 0.5),
        ),
    ),
    "order": (
        lambda x: x.sort(1).values,
        lambda x: _pairs(x).sort(1, descending=True).values,
        lambda x: x.topk(3).values,
    ),
    "one after the other": (
        *(lambda x: x.cumsum(1), lambda x: _pairs(x).cumsum(1), lambda x: _pairs(x).prod(2)),
        *(lambda x: functional.pad(x, (1, 2), value=0.5), lambda x: _pairs(x).sum((1, 2)).unsqueeze(1)),
        *(lambda x: x.repeat(1, 3), lambda x: _pairs(x).repeat(1, 1, 2)),
        *(lambda x: torch.slice_scatter(x, x[:, :3], 1, 2, 5), lambda x: torch.select_scatter(x, x[:, 0], 1, 2)),
    ),
    "norms": (
        lambda x: torch.linalg.vector_norm(_pairs(x), dim=2),
        lambda x: torch.linalg.vector_norm(_pairs(x), 1, dim=2),
        lambda x: torch.linalg.vector_norm(_pairs(x), float("inf"), dim=1),
        *(functional.normalize, lambda x: functional.cosine_similarity(x, _other(x) + 1).unsqueeze(1)),
        lambda x: torch.add(x, _other(x), alpha=2) - torch.sub(x, _other(x), alpha=3),
        lambda x: torch.logsumexp(x, 1, keepdim=True),
    ),
    "gates": (
        *(
            lambda x: functional.gelu(x, approximate="tanh"),
            functional.glu,
            functional.logsigmoid,
            functional.hardsigmoid,
        ),
        *(
            functional.tanhshrink,
            functional.softshrink,
            functional.hardshrink,
            lambda x: functional.threshold(x, 0.1, 2.0),
        ),
    ),
    "averages": (
        lambda x: functional.avg_pool1d(x.unsqueeze(1), 3, padding=1, count_include_pad=False),
        lambda x: functional.avg_pool1d(x.unsqueeze(1), 3, ceil_mode=True),
        lambda x: functional.avg_pool2d(_picture(x), 2, stride=1, padding=1, divisor_override=3),
        lambda x: functional.adaptive_avg_pool1d(x.unsqueeze(1), 3),
        lambda x: functional.adaptive_avg_pool2d(_picture(x), (2, 3)),
    ),
    "largest": (
        lambda x: functional.max_pool1d(x.unsqueeze(1), 3, stride=2, ceil_mode=True),
        lambda x: functional.max_pool2d(_picture(x), 2, stride=1, padding=1, dilation=1),
        lambda x: functional.adaptive_max_pool1d(x.unsqueeze(1), 3),
        lambda x: functional.adaptive_max_pool2d(_picture(x), (2, 3)),
    ),
}


class Codes(nn.Module):
    """Tables looked up by codes among the features, one of them at several places, and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.sex, self.ward, self.place = nn.Embedding(3, 2), nn.Embedding(7, 3), nn.Embedding(4, 3)
        self.out = nn.Linear(2 + 12 + 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        wards = self.ward((x[:, 6:] * 4 + 3).clamp(0, 6).long()) + self.place(torch.arange(4))
        return self.out(torch.cat([self.sex((x[:, 0] * 2).clamp(0, 2).long()), wards.flatten(1), x[:, :8]], dim=1))


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
    "groups and dilation": (
        lambda: nn.Sequential(
            *(nn.Unflatten(1, (4, 9)), nn.Conv1d(4, 8, 3, groups=2, padding=2, dilation=2), nn.ReLU()),
            *(nn.Conv1d(8, 8, 2, groups=8, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(64, 1), nn.Sigmoid()),
        ),
        (36,),
        BCE,
    ),
    "transposed": (
        lambda: nn.Sequential(
            *(nn.Unflatten(1, (2, 6)), nn.Conv1d(2, 4, 2, stride=2), nn.ReLU()),
            *(nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), nn.ReLU(), nn.Flatten()),
            *(nn.Unflatten(1, (1, 6, 6)), nn.ConvTranspose2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(98, 2)),
        ),
        (12,),
        CE,
    ),
    "tables": (Codes, (10,), LOGITS),
    **{name: (partial(Functions, *functions), (10,), LOGITS) for name, functions in FAMILIES.items()},
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
    return (
        _convert(_trace(model, shape), model, shape, keeps_batch=True)
        if name in HOSTILE
        else export_model(model, shape)
    )


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
