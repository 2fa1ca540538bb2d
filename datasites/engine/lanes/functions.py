"""Rules of functions that are made of others: powers, logarithms, of circle and hyperbola, rounding, flags, bounds.

Each is within a few units in the last place of torch's, but for powers, whose relative error grows with the exponent of
the result.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from datasites.engine.gradient_recorder import Call
from datasites.engine.lanes.emitter import Emitter, NotLowered
from datasites.engine.lanes.memory import View, contiguous
from datasites.engine.lanes.rules import Lowering, operand, rule, scaled

MOST_FACTORS = 64  # of a whole power that is made by products
WHOLE_FROM = 2.0**23  # from here on float32 has whole numbers alone
LARGEST = 2.0**127  # of the powers of two in float32
REST_BITS = 22  # of a quotient that is found at once
ERFC = (
    0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
    -1.26551223,
)  # fmt: skip
"""Chebyshev fit of log(erfc(x) / t) + x² in t = 1 / (1 + x / 2), x ≥ 0 (Press et al., Numerical Recipes, 6.2)."""


# -- powers


@rule("aten.pow.Tensor_Scalar")
def _power(lowering: Lowering, call: Call) -> None:
    e, x, exponent = lowering.emitter, lowering.argument(call, 0), float(call.arguments[1])
    lowering.give(call, _to_the(e, x, exponent))


def _to_the(e: Emitter, x: View, exponent: float) -> View:
    if exponent < 0:
        return e.binary("divide", e.number(1.0), _to_the(e, x, -exponent))
    if exponent == 0:
        return e.unary("copy", e.number(1.0), e.fresh(x.shape))
    whole = int(exponent)
    if whole > MOST_FACTORS or exponent - whole not in (0.0, 0.5):
        return _power_of(e, x, e.number(exponent), exponent)
    result = e.unary("sqrt", x) if exponent > whole else None
    square = x
    while whole:
        if whole & 1:
            result = square if result is None else e.binary("multiply", result, square)
        whole >>= 1
        square = e.binary("multiply", square, square) if whole else square
    assert result is not None
    return result


def _power_of(e: Emitter, x: View, exponent: View, known: float | None = None) -> View:
    """|x| to the exponent as exp(exponent · log|x|); below zero with its sign where the exponent is whole, else NaN."""
    one, zero = e.number(1.0), e.number(0.0)
    size = e.unary("absolute", x)
    value = e.unary("exp", e.binary("multiply", exponent, e.unary("log", size)))
    if known is None:
        value = e.where(e.binary("equal", size, one), one, value)
    if known is None or known == int(known):
        half = scaled(e, exponent, 0.5)
        odd = e.binary("unequal", half, e.unary("cut", half))
        below = e.where(odd, e.unary("negative", value), value)
        if known is None:
            broken = e.where(e.binary("equal", size, e.number(math.inf)), value, e.number(math.nan))
            below = e.where(e.binary("equal", exponent, e.unary("cut", exponent)), below, broken)
    else:
        below = e.number(math.nan)
    value = e.where(e.binary("less", x, zero), below, value)
    if known is None:
        value = e.where(e.binary("equal", exponent, zero), one, value)
    return value


@rule("aten.pow.Tensor_Tensor")
def _power_of_tensors(lowering: Lowering, call: Call) -> None:
    e, x, exponent = lowering.emitter, lowering.argument(call, 0), lowering.argument(call, 1)
    lowering.give(call, _power_of(e, x, exponent))


@rule("aten.pow.Scalar")
def _exponential_of_base(lowering: Lowering, call: Call) -> None:
    e, base, x = lowering.emitter, float(call.arguments[0]), lowering.argument(call, 1)
    if base <= 0:
        raise NotLowered(f"a power of {base:g}. Use a base above zero.")
    lowering.give(call, e.unary("exp", scaled(e, x, math.log(base))))


@rule("aten.log2.default", "aten.log10.default")
def _logarithm(lowering: Lowering, call: Call) -> None:
    base = math.log(2 if "log2" in str(call.operator) else 10)
    logarithm = lowering.emitter.unary("log", lowering.argument(call, 0))
    lowering.give(call, scaled(lowering.emitter, logarithm, 1 / base))


# -- of the circle and the hyperbola


@rule("aten.tan.default")
def _tangent(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 0)
    lowering.give(call, e.binary("divide", e.unary("sin", x), e.unary("cos", x)))


@rule("aten.asin.default")
def _arcsine(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 0)
    rest = e.binary("multiply", e.binary("subtract", e.number(1.0), x), e.binary("add", e.number(1.0), x))
    lowering.give(call, e.unary("atan", e.binary("divide", x, e.unary("sqrt", rest))))


@rule("aten.acos.default")
def _arccosine(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 0)
    share = e.binary("divide", e.binary("subtract", e.number(1.0), x), e.binary("add", e.number(1.0), x))
    lowering.give(call, scaled(e, e.unary("atan", e.unary("sqrt", share)), 2.0))


@rule("aten.atan2.default")
def _angle(lowering: Lowering, call: Call) -> None:
    """In (-π, π]; 0 of the origin and of what is right of it, π left of it."""
    e, y, x = lowering.emitter, lowering.argument(call, 0), lowering.argument(call, 1)
    zero = e.number(0.0)
    infinite = _all_of(e, *(e.binary("equal", e.unary("absolute", part), e.number(math.inf)) for part in (x, y)))
    alike = e.binary("equal", e.binary("less", x, zero), e.binary("less", y, zero))
    share = e.where(infinite, e.where(alike, e.number(1.0), e.number(-1.0)), e.binary("divide", y, x))
    near = e.unary("atan", share)
    near = e.where(_all_of(e, e.binary("equal", x, zero), e.binary("equal", y, zero)), zero, near)
    turned = e.where(e.binary("less", y, zero), e.number(-math.pi), e.number(math.pi))
    lowering.give(call, e.where(e.binary("less", x, zero), e.binary("add", near, turned), near))


def _with_sign_of(e: Emitter, x: View, value: View) -> View:
    """A value at or above zero, with the sign of x."""
    return e.where(e.binary("less", x, e.number(0.0)), e.unary("negative", value), value)


@rule("aten.sinh.default", "aten.cosh.default")
def _hyperbolic(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 0)
    a = e.unary("absolute", x)
    root = e.unary("exp", scaled(e, a, 0.5))
    large = e.binary("multiply", scaled(e, root, 0.5), root)  # exp(a) / 2, finite wherever the result is
    if "cosh" in str(call.operator):
        lowering.give(call, e.binary("add", large, e.binary("divide", e.number(0.25), large)))
        return
    part = e.unary("expm1", a)
    small = e.binary("add", part, e.binary("divide", part, e.binary("add", part, e.number(1.0))))
    value = e.where(e.binary("less", a, e.number(20.0)), scaled(e, small, 0.5), large)
    lowering.give(call, _with_sign_of(e, x, value))


@rule("aten.asinh.default", "aten.acosh.default", "aten.atanh.default")
def _area(lowering: Lowering, call: Call) -> None:
    e, x, one = lowering.emitter, lowering.argument(call, 0), lowering.emitter.number(1.0)
    name = str(call.operator)
    if "atanh" in name:
        a = e.unary("absolute", x)
        share = e.binary("divide", scaled(e, a, 2.0), e.binary("subtract", one, a))
        lowering.give(call, _with_sign_of(e, x, scaled(e, e.unary("log1p", share), 0.5)))
        return
    a = e.unary("absolute", x) if "asinh" in name else e.binary("subtract", x, one)
    squared = e.binary("multiply", a, a)
    if "asinh" in name:  # log1p(a + a² / (1 + √(a² + 1)))
        root = e.unary("sqrt", e.binary("add", squared, one))
        inner = e.binary("add", a, e.binary("divide", squared, e.binary("add", root, one)))
    else:  # log1p(t + √(2t + t²)), t = x - 1
        inner = e.binary("add", a, e.unary("sqrt", e.binary("add", scaled(e, a, 2.0), squared)))
        a = e.where(e.binary("less", a, e.number(0.0)), e.number(math.nan), a)
    # Where the square overflows, the sum is 2a within its last place.
    far = e.binary("add", e.unary("log", a), e.number(math.log(2.0)))
    value = e.where(e.binary("less", a, e.number(1e15)), e.unary("log1p", inner), far)
    value = e.where(e.binary("unequal", a, a), a, value)
    lowering.give(call, _with_sign_of(e, x, value) if "asinh" in name else value)


@rule("aten.erfc.default")
def _complement(lowering: Lowering, call: Call) -> None:
    e, x, one = lowering.emitter, lowering.argument(call, 0), lowering.emitter.number(1.0)
    a = e.unary("absolute", x)
    t = e.binary("divide", one, e.binary("add", scaled(e, a, 0.5), one))
    p = e.number(ERFC[0])
    for coefficient in ERFC[1:]:
        p = e.binary("add", e.binary("multiply", p, t), e.number(coefficient))
    exponent = e.binary("subtract", p, e.binary("multiply", a, a))
    tail = e.binary("multiply", t, e.unary("exp", exponent))
    near = e.binary("subtract", one, e.unary("erf", x))
    lowering.give(call, e.where(e.binary("less", x, e.number(0.5)), near, tail))


# -- rounding


@rule("aten.floor.default", "aten.ceil.default")
def _whole(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 0)
    cut = e.unary("cut", x)
    if "floor" in str(call.operator):
        lowering.give(call, e.binary("subtract", cut, e.binary("less", x, cut)))
    else:
        lowering.give(call, e.binary("add", cut, e.binary("less", cut, x)))


@rule("aten.round.default")
def _nearest(lowering: Lowering, call: Call) -> None:
    """Halves to the even number: what is added leaves no room for anything behind the point."""
    e, x, much = lowering.emitter, lowering.argument(call, 0), lowering.emitter.number(WHOLE_FROM)
    a = e.unary("absolute", x)
    near = _with_sign_of(e, x, e.binary("subtract", e.binary("add", a, much), much))
    lowering.give(call, e.where(e.binary("less", a, much), near, x))


@rule("aten.fmod.Scalar", "aten.remainder.Scalar")
def _remainder(lowering: Lowering, call: Call) -> None:
    """x less its whole multiples of the divisor: with the sign of x, or with that of the divisor."""
    e, x, divisor = lowering.emitter, lowering.argument(call, 0), float(call.arguments[1])
    zero = e.number(0.0)
    rest = _with_sign_of(e, x, _exact_rest(e, e.unary("absolute", x), abs(float(np.float32(divisor)))))
    if "remainder" in str(call.operator):
        other = e.binary("less", rest, zero) if divisor > 0 else e.binary("less", zero, rest)
        rest = e.where(other, e.binary("add", rest, e.number(divisor)), rest)
    lowering.give(call, rest)


def _exact_rest(e: Emitter, a: View, size: float) -> View:
    """What a ≥ 0 leaves when it is divided by `size`, exactly: by multiples that fall by `REST_BITS` bits."""
    highest = math.floor(math.log2(LARGEST / size))
    for power in range(highest // REST_BITS * REST_BITS, -1, -REST_BITS):
        multiple = e.number(size * 2.0**power)
        both = e.fresh((2, a.numel))
        e.copy(both.as_(a.shape, contiguous(a.shape)), a)
        e.unary("cut", e.binary("divide", a, multiple), both.as_(a.shape, contiguous(a.shape), a.numel))
        rest = e.fresh(a.shape)
        # One rounding for product and difference, which is then none: 1 · a - multiple · times.
        factors = e.numbers([1.0, -size * 2.0**power], (2, 1))
        e.matmul(rest.as_((a.numel, 1), (1, 0)), both.ordered((1, 0)), factors)
        # The quotient was rounded, perhaps past a whole number.
        a = e.where(e.binary("less", rest, e.number(0.0)), e.binary("add", rest, multiple), rest)
    return a


# -- flags and bounds


def _all_of(e: Emitter, x: View, z: View) -> View:
    return e.binary("multiply", x, z)


def _flags(lowering: Lowering, call: Call, index: int) -> View:
    x = lowering.argument(call, index)
    if lowering.dtype(call, index) == torch.bool:
        return x
    if "bitwise" in str(call.operator):
        raise NotLowered("of whole numbers. Use comparisons, and their results.")
    return lowering.emitter.binary("unequal", x, lowering.emitter.number(0.0))


@rule(*(f"aten.{name}" for name in ("logical_and.default", "logical_or.default", "logical_xor.default")))
@rule(*(f"aten.{name}" for name in ("bitwise_and.Tensor", "bitwise_or.Tensor", "bitwise_xor.Tensor")))
def _combined(lowering: Lowering, call: Call) -> None:
    e, x, z = lowering.emitter, _flags(lowering, call, 0), _flags(lowering, call, 1)
    if "_and" in str(call.operator):
        value = _all_of(e, x, z)
    elif "_xor" in str(call.operator):
        value = e.binary("unequal", x, z)
    else:
        value = e.where(x, e.number(1.0), z)
    lowering.give(call, value)


@rule("aten.bitwise_not.default")
def _not(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    e.binary("equal", _flags(lowering, call, 0), e.number(0.0), lowering.result(call))


@rule("aten.isnan.default")
def _is_nan(lowering: Lowering, call: Call) -> None:
    x = lowering.argument(call, 0)
    lowering.emitter.binary("unequal", x, x, lowering.result(call))


@rule("aten.isinf.default")
def _is_infinite(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    size = e.unary("absolute", lowering.argument(call, 0))
    e.binary("equal", size, e.number(math.inf), lowering.result(call))


@rule("aten.clamp.Tensor")
def _clamp(lowering: Lowering, call: Call) -> None:
    """The larger of x and the lower bound, then the smaller of that and the upper one; NaN where any is."""
    e, value = lowering.emitter, lowering.argument(call, 0)
    for index, bound in enumerate(call.arguments[1:3]):
        if bound is None:
            continue
        edge = operand(lowering, call, index + 1)
        beyond = e.binary("less", value, edge) if index == 0 else e.binary("less", edge, value)
        value = e.where(beyond, edge, value)
        value = e.where(e.binary("unequal", edge, edge), edge, value)
    lowering.give(call, value)
