"""Torch's library sees ordinary numbers alone, and the answers are torch's own."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from datasites.engine import constant_time

INF, NAN = math.inf, math.nan
POINTS = torch.cat(
    [
        torch.tensor([0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 2e-38, 88.0, -88.0, 200.0, -200.0, 1e4, -1e4, 1e6, 1e30]),
        torch.tensor([-1e30, 0.9999999, -0.9999999, 8.9, 9.5, -3.5]),
        torch.tensor([87.2, 88.5, 88.72, 88.8, 95.5, -87.2, 1e-4, -1e-4, 2.4e-4, 2.5e-4, 1e-10, -1e-10, 1e-30, 25.0]),
        torch.tensor([2e8, -2e8, 1e31, 3e38, -3e38]),
        torch.linspace(-10, 10, 401),
        torch.linspace(-80, 80, 301),
    ]
)
CIRCLE = ("sin", "cos", "tan")
TAKE_LONGER_NEAR_ZERO = ("asin", "acos", "atan")  # within 10⁻⁵ of it, or less
# What each of them takes without turning aside, as measured.
ORDINARY = {
    "exp": (-87.1, 87.3), "log": (1.1e-38, 3.41e38), "log2": (1.1e-38, 3.41e38), "log10": (1.1e-38, 3.41e38),
    "sqrt": (1.1e-38, 3.41e38), "sin": (-8001, 8001), "cos": (-8001, 8001), "tan": (-8001, 8001),
    "asin": (-1, 1), "acos": (-1, 1), "erfc": (-1.1e30, 9.2), "atan": (-1.1e9, 1.1e9), "tanh": (-1e10, 1e10),
    "log1p": (-2, 1.1e30),
}  # fmt: skip


class Seen(TorchDispatchMode):
    """Remembers what reaches torch's own function of a name."""

    def __init__(self, name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name, self.values = name, torch.empty(0)

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operator._schema.name == f"aten::{self.name}":
            self.values = torch.cat([self.values, args[0]])
        return operator(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", sorted(ORDINARY))
def test_the_library_sees_ordinary_numbers_alone(name: str) -> None:
    low, high = ORDINARY[name]
    with Seen(name) as seen:
        constant_time.KERNELS[name](POINTS)
    assert len(seen.values) == len(POINTS)
    assert ((seen.values >= low) & (seen.values <= high)).all()
    assert name not in TAKE_LONGER_NEAR_ZERO or seen.values.abs().min() > 1e-5


@pytest.mark.parametrize("name", sorted(ORDINARY))
def test_the_answers_are_torchs_own(name: str) -> None:
    points = POINTS[~(POINTS.abs() > 1e7) | POINTS.isinf()] if name in CIRCLE else POINTS
    found, wanted = constant_time.KERNELS[name](points), getattr(torch, name)(points)
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-37, equal_nan=True)
    near = points.abs() < 9
    assert torch.equal(found[near].nan_to_num(), wanted[near].nan_to_num())
    assert (constant_time.KERNELS[name](torch.tensor([1.0, 0.5], dtype=torch.float64)) > -INF).all()
    assert constant_time.KERNELS[name](torch.tensor([1])).dtype == torch.float32


def test_rounding_towards_zero_is_torchs_own() -> None:
    points = torch.cat([POINTS, torch.tensor([1.5, -1.5, -0.3, 2.0**23 + 1, 7])])
    found, wanted = constant_time.KERNELS["trunc"](points), torch.trunc(points)
    assert torch.equal(found.nan_to_num(), wanted.nan_to_num())
    assert torch.equal(found.isnan(), wanted.isnan())
    assert torch.equal(found.signbit()[~wanted.isnan()], wanted.signbit()[~wanted.isnan()])
    assert constant_time.KERNELS["trunc"](torch.tensor([3])).tolist() == [3]


@pytest.mark.parametrize("exponent", [0.5, -0.5, 2, 2.5, 3, 0, -1])
def test_powers_are_torchs_own(exponent: float) -> None:
    found, wanted = constant_time.KERNELS["pow.Tensor_Scalar"](POINTS, exponent), torch.pow(POINTS, exponent)
    assert torch.equal(found.nan_to_num(7.0), wanted.nan_to_num(7.0))
    whole = torch.tensor([2, 3])
    assert constant_time.KERNELS["pow.Tensor_Scalar"](whole, 2).tolist() == [4, 9]
    assert constant_time.KERNELS["pow.Tensor_Scalar"](whole, 0.5).dtype == torch.float32


def test_elu_and_its_gradient_are_torchs_own() -> None:
    points = POINTS.clone().requires_grad_()
    wanted = nn.functional.elu(points, 0.7)
    wanted.backward(torch.ones_like(points))
    values = points.detach()
    assert torch.allclose(constant_time.KERNELS["elu"](values, 0.7), wanted, rtol=1e-5, atol=1e-6, equal_nan=True)
    for known, is_result in ((values, False), (wanted.detach(), True)):
        found = constant_time.KERNELS["elu_backward"](torch.ones_like(values), 0.7, 1, 1, is_result, known)
        assert torch.allclose(found[~values.isnan()], points.grad[~values.isnan()], rtol=1e-4, atol=1e-6)  # type: ignore[index]


@pytest.mark.process
def test_they_stand_in_torchs_place_in_gradients_too() -> None:
    """In a process of its own, as they stay: the gradient of erf is an exponential, and that of tan has a tangent."""
    program = (
        "import torch\n"
        "from datasites.engine import constant_time\n"
        "seen = []\n"
        "for name in ('exp', 'tan', 'pow.Tensor_Scalar'):\n"
        "    kernel = constant_time.KERNELS[name]\n"
        "    constant_time.KERNELS[name] = lambda *x, name=name, kernel=kernel: (seen.append(name), kernel(*x))[1]\n"
        "constant_time.install(); constant_time.install()\n"
        "x = torch.ones(3, requires_grad=True)\n"
        "torch.func.vmap(torch.func.grad(lambda each: torch.erf(each) + torch.tan(each) + each**0.5))(x)\n"
        "print(sorted(set(seen)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("['exp', 'pow.Tensor_Scalar', 'tan']\n", "")
