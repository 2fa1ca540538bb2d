"""Constant-time replacements for torch's elementary functions.

Torch hands them to Intel's vector library, which takes up to sixty times as long for a number outside of their
ordinary domain: √-1, e^-100, ln 0, sin 10⁶, and for some inside of it: e^88, arctan 0, arcsin 10⁻¹⁰. A hostile model
makes such numbers of the patients that it asks about, and how long a round took would say how many there are. Here the
library sees numbers alone on which it takes as long as on all others, and what it would have answered to the rest is
put in their place. Whether a number is to be rounded up or down, too, is found without a branch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

TINY, LARGE = 1.2e-38, 3.4e38  # of float32's ordinary numbers
SMALL = 2.0**-12  # below it x is its own arc tangent and arc sine, to half a unit in the last place
TURN = 2 * math.pi

Kernel = Callable[..., Tensor]

_library: Any = None


def install() -> None:
    """Put the kernels below in place of torch's own, in this process and those that it forks. Once per process."""
    global _library
    if _library is None:
        _library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        with warnings.catch_warnings():  # torch tells whoever starts a job that a kernel was replaced
            warnings.simplefilter("ignore", UserWarning)
            for name, kernel in KERNELS.items():
                _library.impl(name, kernel, "CPU")


def _exactly(name: str) -> Callable[[Tensor], Tensor]:
    """Torch's own function, by the way that is left as it is."""
    function = getattr(torch, name)

    def compute(x: Tensor) -> Tensor:
        x = x if x.is_floating_point() else x.to(torch.float32)
        result: Tensor = function(x, out=torch.empty_like(x))
        return result

    return compute


def _within(name: str, low: float, high: float, calm: float, beyond: Callable[[Tensor], Tensor]) -> Kernel:
    """The function of what lies in [low, high]; `beyond` gives what it comes to elsewhere, NaN and infinities too."""
    own = _exactly(name)

    def kernel(x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return own(x)
        inside = (x >= low) & (x <= high)
        return torch.where(inside, own(torch.where(inside, x, calm)), beyond(x))

    return kernel


def _exp(x: Tensor) -> Tensor:
    """The exponential; above 80 of a number eight smaller, which is then made e⁸ times as large."""
    own = _exactly("exp")
    if x.dtype != torch.float32:
        return own(x)
    inside, high = (x >= -87.0) & (x <= 95.0), x > 80.0
    value = own(torch.where(inside, x - high * 8.0, 0.0)) * torch.where(high, math.exp(8.0), 1.0)
    return torch.where(inside, value, (x * math.inf).clamp_(min=0.0))


def _log1p(x: Tensor) -> Tensor:
    """ln(1 + x); above 10³⁰ of a number 2⁴⁰ times smaller."""
    own = _exactly("log1p")
    if x.dtype != torch.float32:
        return own(x)
    inside, high = (x >= -2.0) & (x <= LARGE), x > 1e30
    value = own(torch.where(inside, x * torch.where(high, 2.0**-40, 1.0), 0.0)) + high * (40 * math.log(2.0))
    return torch.where(inside, value, torch.where(x > 0, math.inf, math.nan))


def _unless_small(name: str, far: float, beyond: Callable[[Tensor], Tensor]) -> Kernel:
    """The function of what lies in [`SMALL`, far] on either side of zero; `beyond` gives what it comes to elsewhere."""
    own = _exactly(name)

    def kernel(x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return own(x)
        size = x.abs()
        inside = (size >= SMALL) & (size <= far)
        return torch.where(inside, own(torch.where(inside, x, 0.5)), beyond(x))

    return kernel


def _around(name: str, far: float) -> Kernel:
    """The same of a function with the circle's period: what is far is brought near first."""
    own = _exactly(name)

    def kernel(x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return own(x)
        wide = x.to(torch.float64)
        near = (wide - torch.round(wide / TURN) * TURN).nan_to_num_(0.0, 0.0, 0.0).clamp_(-TURN, TURN)
        value = own(torch.where(x.abs() <= far, x, near.to(torch.float32)))
        return torch.where(x.abs() <= LARGE, value, math.nan)

    return kernel


def _of_logarithm(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.where(x == 0, -math.inf, math.nan))


def _of_root(x: Tensor) -> Tensor:
    return torch.where(x < 0, math.nan, x)


def _of_erfc(x: Tensor) -> Tensor:
    return torch.where(x > 0, 0.0, torch.where(x < 0, 2.0, math.nan))


def _of_arc_tangent(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 1, x, x.clamp(-1, 1) * (math.pi / 2))


def _of_arc_sine(x: Tensor) -> Tensor:
    return torch.where(x.abs() < SMALL, x, _at_ends(x, math.pi / 2, -math.pi / 2))


def _of_arc_cosine(x: Tensor) -> Tensor:
    near = (math.pi / 2 - x.to(torch.float64)).to(torch.float32)
    return torch.where(x.abs() < SMALL, near, _at_ends(x, 0.0, math.pi))


def _at_ends(x: Tensor, right: float, left: float) -> Tensor:
    return torch.where(x == 1, right, torch.where(x == -1, left, math.nan))


def _trunc(x: Tensor) -> Tensor:
    return torch.copysign(x.abs().floor_(), x) if x.is_floating_point() else x.clone()


def _pow(x: Tensor, exponent: float) -> Tensor:
    """A power with an exponent that is written in the model; a half is a root."""
    if exponent == 0.5 and x.dtype == torch.float32:
        return torch.sqrt(x)
    result: Tensor = torch.pow(x, exponent, out=torch.empty_like(x, dtype=torch.result_type(x, exponent)))
    return result


def _elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    return torch.where(x > 0, x * scale, torch.expm1(x.clamp(max=0) * input_scale) * (alpha * scale))


def _elu_backward(
    grad: Tensor, alpha: float, scale: float, input_scale: float, is_result: bool, known: Tensor
) -> Tensor:
    if is_result:
        slope = input_scale * (known + alpha * scale)
    else:
        slope = (torch.expm1(known.clamp(max=0) * input_scale) + 1) * (input_scale * alpha * scale)
    return torch.where(known > 0, grad * scale, grad * slope)


_LESS_THAN_ONE = 1 - 2.0**-24
KERNELS: dict[str, Kernel] = {
    "exp": _exp,
    "log": _within("log", TINY, LARGE, 2.0, _of_logarithm),
    "log2": _within("log2", TINY, LARGE, 2.0, _of_logarithm),
    "log10": _within("log10", TINY, LARGE, 2.0, _of_logarithm),
    "sqrt": _within("sqrt", TINY, LARGE, 2.0, _of_root),
    "sin": _around("sin", 8000.0),
    "cos": _around("cos", 8000.0),
    "tan": _around("tan", 8000.0),
    "asin": _unless_small("asin", _LESS_THAN_ONE, _of_arc_sine),
    "acos": _unless_small("acos", _LESS_THAN_ONE, _of_arc_cosine),
    "atan": _unless_small("atan", 1e8, _of_arc_tangent),
    "tanh": _within("tanh", -20.0, 20.0, 0.0, lambda x: x.clamp(-1, 1)),
    "log1p": _log1p,
    "trunc": _trunc,
    "pow.Tensor_Scalar": _pow,
    "erfc": _within("erfc", -1e30, 9.19, 0.5, _of_erfc),
    "elu": _elu,
    "elu_backward": _elu_backward,
}
