"""Models as ONNX: what layers become gives what torch gives, and what cannot be written is refused in words."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from policies.errors import InvalidRequest
from researcher.lora import LoRALinear
from researcher.onnx_files import onnx_bytes


class Images(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.pool, self.up, self.out = nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.Linear(8 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.up(self.pool(torch.relu(self.norm(self.conv(x))))).flatten(1))


class Signals(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(2, 4, 5, stride=2), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.nn.functional.gelu(self.conv(x)).mean(2))


class Volumes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv3d(1, 2, 3), nn.Linear(2 * 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.conv(x)).flatten(1))


class Codes(nn.Module):
    """A recurrent layer, whose first state a trace makes as long as the batch that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(8, 4, padding_idx=0), nn.LSTM(4, 6, batch_first=True)
        self.out = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(self.embedding(x.long()))[0][:, -1])


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(self.first(x)).mean(1))


def uniform(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("model", "records"),
    [
        (lambda: nn.Sequential(nn.Linear(10, 8), nn.Tanh(), LoRALinear(8, 1, rank=2)), uniform(3, 10)),
        (Images, uniform(3, 1, 8, 8)),
        (Signals, uniform(3, 2, 31)),
        (Volumes, uniform(3, 1, 4, 4, 4)),
        (Codes, np.random.default_rng(1).integers(0, 8, (3, 5)).astype(np.float32)),
        (Attending, uniform(3, 4, 3)),
    ],
)
def test_a_file_gives_what_the_model_gives(model: Callable[[], nn.Module], records: np.ndarray) -> None:
    torch.manual_seed(2)
    made = model().eval()
    file = onnx.load_from_string(onnx_bytes(made, records))
    more = np.concatenate([records, records[::-1]])  # another number of them than was traced
    with torch.no_grad():
        expected = made(torch.from_numpy(more)).numpy()
    (found,) = ReferenceEvaluator(file).run(None, {"records": more})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


class Special(nn.Module):
    """A function of which ONNX has no operator."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i0e(x)


def test_what_onnx_has_no_operator_for_is_refused_in_words() -> None:
    with pytest.raises(InvalidRequest, match=r"cannot be written as ONNX \(.*i0e.*\)\. Save it as \.safetensors"):
        onnx_bytes(Special().eval(), uniform(3, 4))


def test_a_file_that_would_give_other_outputs_is_not_written() -> None:
    class Shifted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + (1.0 if torch.onnx.is_in_onnx_export() else 0.0)

    with pytest.raises(InvalidRequest, match=r"gives other outputs \(off by 1\)"):
        onnx_bytes(Shifted().eval(), uniform(3, 4))


def test_without_the_package_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InvalidRequest, match=r"pip install onnx, or save it as \.safetensors"):
        onnx_bytes(nn.Linear(4, 1).eval(), uniform(3, 4))


def test_a_model_is_as_it_was() -> None:
    model: Any = Codes().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    onnx_bytes(model, np.zeros((3, 5), np.float32))
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
