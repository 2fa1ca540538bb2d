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
        torch.linspace(-10, 10, 401),
        torch.linspace(-80, 80, 301),
    ]
)
CIRCLE = ("sin", "cos", "tan")
# What each of them takes without turning aside, as measured.
ORDINARY = {
    "exp": (-87.1, 88.71), "log": (1.1e-38, 3.41e38), "log2": (1.1e-38, 3.41e38), "log10": (1.1e-38, 3.41e38),
    "sqrt": (1.1e-38, 3.41e38), "sin": (-8001, 8001), "cos": (-8001, 8001), "tan": (-8001, 8001),
    "asin": (-1, 1), "acos": (-1, 1), "erfc": (-1.1e30, 9.2),
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


@pytest.mark.parametrize("name", sorted(ORDINARY))
def test_the_answers_are_torchs_own(name: str) -> None:
    points = POINTS[~(POINTS.abs() > 1e7) | POINTS.isinf()] if name in CIRCLE else POINTS
    found, wanted = constant_time.KERNELS[name](points), getattr(torch, name)(points)
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-37, equal_nan=True)
    near = points.abs() < 9
    assert torch.equal(found[near].nan_to_num(), wanted[near].nan_to_num())
    assert (constant_time.KERNELS[name](torch.tensor([1.0, 0.5], dtype=torch.float64)) > -INF).all()
    assert constant_time.KERNELS[name](torch.tensor([1])).dtype == torch.float32


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
        "for name in ('exp', 'tan'):\n"
        "    kernel = constant_time.KERNELS[name]\n"
        "    constant_time.KERNELS[name] = lambda x, name=name, kernel=kernel: (seen.append(name), kernel(x))[1]\n"
        "constant_time.install(); constant_time.install()\n"
        "x = torch.ones(3, requires_grad=True)\n"
        "torch.func.vmap(torch.func.grad(lambda each: torch.erf(each) + torch.tan(each)))(x)\n"
        "print(sorted(set(seen)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("['exp', 'tan']\n", "")
