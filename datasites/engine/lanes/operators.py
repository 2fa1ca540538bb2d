"""Rules of operators that work number by number, that move, add up, norm or multiply."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch

from datasites.engine.gradient_recorder import Call
from datasites.engine.lanes.emitter import Emitter, NotLowered
from datasites.engine.lanes.memory import View
from datasites.engine.lanes.rules import (
    Lowering,
    by_channel,
    defaults,
    flat,
    is_tensor,
    operand,
    reduced,
    rule,
    scaled,
)

# -- element by element

UNARY = {
    "relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "exp": "exp", "expm1": "expm1", "log": "log",
    "log1p": "log1p", "sqrt": "sqrt", "neg": "negative", "abs": "absolute", "erf": "erf", "trunc": "cut",
    "clone": "copy", "alias": "copy", "detach": "copy", "sin": "sin", "cos": "cos", "atan": "atan",
}  # fmt: skip
BINARY = {
    "add.Tensor": "add", "add.Scalar": "add", "sub.Tensor": "subtract", "sub.Scalar": "subtract",
    "mul.Tensor": "multiply", "mul.Scalar": "multiply", "div.Tensor": "divide", "div.Scalar": "divide",
    "sigmoid_backward.default": "sigmoid_backward", "tanh_backward.default": "tanh_backward",
}  # fmt: skip
COMPARISONS = {"lt": ("less", False), "le": ("at_most", False), "gt": ("less", True), "ge": ("at_most", True),
               "eq": ("equal", False), "ne": ("unequal", False)}  # fmt: skip


@rule(*(f"aten.{name}.default" for name in UNARY))
def _unary(lowering: Lowering, call: Call) -> None:
    name = str(call.operator).split(".")[1]
    lowering.emitter.unary(UNARY[name], lowering.argument(call, 0), lowering.result(call))


@rule(*(f"aten.{name}" for name in BINARY))
def _binary(lowering: Lowering, call: Call) -> None:
    name, result = str(call.operator).removeprefix("aten."), lowering.result_dtype(call)
    if result == torch.int64 and name.startswith("mul") and not _small(lowering, call):
        raise NotLowered("products of whole numbers may be larger than float32 holds. Use float32.")
    factor = call.keywords.get("alpha", (*call.arguments[2:], 1)[0])
    if name == "add.Tensor" and factor == 1 and lowering.joined(call):
        return
    x, z = operand(lowering, call, 0), operand(lowering, call, 1)
    lowering.emitter.binary(BINARY[name], x, scaled(lowering.emitter, z, float(factor)), lowering.result(call))


def _small(lowering: Lowering, call: Call) -> bool:
    """Whether one of two whole numbers is a flag or a small constant."""
    if not is_tensor(call.arguments[1]):
        return abs(float(call.arguments[1])) <= 4096
    known = [lowering.known(call, index) for index in (0, 1)]
    if any(value is not None and float(value.abs().max()) <= 4096 for value in known):
        return True
    return torch.bool in (lowering.dtype(call, 0), lowering.dtype(call, 1))


@rule(*(f"aten.{name}.{kind}" for name in COMPARISONS for kind in ("Scalar", "Tensor")))
def _comparison(lowering: Lowering, call: Call) -> None:
    name, turned = COMPARISONS[str(call.operator).split(".")[1]]
    x, z = operand(lowering, call, 0), operand(lowering, call, 1)
    lowering.emitter.binary(name, *((z, x) if turned else (x, z)), lowering.result(call))


@rule("aten._to_copy.default", "aten.copy.default")
def _to_copy(lowering: Lowering, call: Call) -> None:
    """To float32, to flags, or to whole numbers towards zero, of which those beyond 64 bits and NaN are -2⁶³."""
    index = 1 if str(call.operator) == "aten.copy.default" else 0  # of what is copied
    e, x, have = lowering.emitter, lowering.argument(call, index), lowering.dtype(call, index)
    wanted = lowering.result_dtype(call)
    if wanted == torch.bool and have != torch.bool:
        e.binary("unequal", x, e.number(0.0), lowering.result(call))
    elif wanted == torch.int64 and have == torch.float32:
        inside = e.binary("less", e.unary("absolute", x), e.number(2.0**63))
        e.where(inside, e.unary("cut", x), e.number(-(2.0**63)), lowering.result(call))
    else:
        e.unary("copy", x, lowering.result(call))


@rule("aten.rsub.Scalar")
def _reversed_subtraction(lowering: Lowering, call: Call) -> None:
    e, factor = lowering.emitter, float((*call.arguments[2:], 1)[0])
    x = scaled(e, lowering.argument(call, 0), factor)
    e.binary("subtract", operand(lowering, call, 1), x, lowering.result(call))


@rule("aten.clamp.default", "aten.clamp_min.default", "aten.clamp_max.default", "aten.hardtanh.default")
def _clamp(lowering: Lowering, call: Call) -> None:
    hard = str(call.operator) == "aten.hardtanh.default"
    low, high = defaults(call.arguments[1:], *((-1.0, 1.0) if hard else (None, None)))
    if str(call.operator) == "aten.clamp_max.default":
        low, high = None, low
    bounds: list[View | int] = [-1 if bound is None else lowering.emitter.number(float(bound)) for bound in (low, high)]
    lowering.emitter.unary("clamp", lowering.argument(call, 0), lowering.result(call), low=bounds[0], high=bounds[1])


@rule("aten.hardtanh_backward.default")
def _hardtanh_backward(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 1)
    low, high = (e.number(float(bound)) for bound in call.arguments[2:4])
    inside = e.binary("multiply", e.binary("less", low, x), e.binary("less", x, high))
    e.where(inside, lowering.argument(call, 0), e.number(0.0), lowering.result(call))


@rule("aten.threshold_backward.default")
def _threshold_backward(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    least = e.number(float(call.arguments[2]))
    e.binary(
        "threshold_backward", lowering.argument(call, 0), lowering.argument(call, 1), lowering.result(call), k=least
    )


@rule("aten.where.self")
def _where(lowering: Lowering, call: Call) -> None:
    flags, x, z = (operand(lowering, call, index) for index in range(3))
    lowering.emitter.where(flags, x, z, lowering.result(call))


@rule("aten.masked_fill.Scalar")
def _masked_fill(lowering: Lowering, call: Call) -> None:
    x, flags, value = (operand(lowering, call, index) for index in range(3))
    lowering.emitter.where(flags, value, x, lowering.result(call))


@rule("aten.logical_not.default")
def _logical_not(lowering: Lowering, call: Call) -> None:
    lowering.emitter.binary("equal", lowering.argument(call, 0), lowering.emitter.number(0.0), lowering.result(call))


@rule("aten.reciprocal.default")
def _reciprocal(lowering: Lowering, call: Call) -> None:
    lowering.emitter.binary("divide", lowering.emitter.number(1.0), lowering.argument(call, 0), lowering.result(call))


@rule("aten.rsqrt.default")
def _rsqrt(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    e.binary("divide", e.number(1.0), e.unary("sqrt", lowering.argument(call, 0)), lowering.result(call))


@rule("aten.sgn.default", "aten.sign.default")
def _sign(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 0)
    e.binary("subtract", e.binary("less", e.number(0.0), x), e.binary("less", x, e.number(0.0)), lowering.result(call))


@rule("aten.maximum.default", "aten.minimum.default")
def _larger(lowering: Lowering, call: Call) -> None:
    """NaN where either is."""
    e, x, z = lowering.emitter, lowering.argument(call, 0), lowering.argument(call, 1)
    pair = (x, z) if "maximum" in str(call.operator) else (z, x)
    chosen = e.where(e.binary("less", *pair), z, x)
    e.where(e.binary("unequal", z, z), z, chosen, lowering.result(call))


@rule("aten.elu.default")
def _elu(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 0)
    alpha, scale, within = defaults(call.arguments[1:], 1, 1, 1)
    low = e.unary("clamp", x, low=-1, high=e.number(0.0))
    below = e.binary("multiply", e.unary("expm1", scaled(e, low, within)), e.number(alpha * scale))
    e.where(e.binary("less", e.number(0.0), x), scaled(e, x, scale), below, lowering.result(call))


@rule("aten.elu_backward.default")
def _elu_backward(lowering: Lowering, call: Call) -> None:
    e, gradient, known = lowering.emitter, lowering.argument(call, 0), lowering.argument(call, 5)
    alpha, scale, within, is_result = call.arguments[1:5]
    if is_result:
        slope = e.binary("multiply", e.binary("add", known, e.number(alpha * scale)), e.number(within))
    else:
        grown = e.unary("exp", scaled(e, e.unary("clamp", known, low=-1, high=e.number(0.0)), within))
        slope = e.binary("multiply", grown, e.number(within * alpha * scale))
    e.where(
        e.binary("less", e.number(0.0), known),
        scaled(e, gradient, scale),
        e.binary("multiply", gradient, slope),
        lowering.result(call),
    )


@rule("aten.leaky_relu.default")
def _leaky_relu(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 0)
    slope = float((*call.arguments[1:], 0.01)[0])
    e.where(e.binary("less", e.number(0.0), x), x, scaled(e, x, slope), lowering.result(call))


@rule("aten.leaky_relu_backward.default")
def _leaky_relu_backward(lowering: Lowering, call: Call) -> None:
    e, gradient, x = lowering.emitter, lowering.argument(call, 0), lowering.argument(call, 1)
    slope = float(call.arguments[2])
    e.where(e.binary("less", e.number(0.0), x), gradient, scaled(e, gradient, slope), lowering.result(call))


def _normal_cdf(e: Emitter, x: View) -> View:
    """(1 + erf(x / √2)) / 2."""
    erf = e.unary("erf", e.binary("multiply", x, e.number(math.sqrt(0.5))))
    return e.binary("multiply", e.binary("add", erf, e.number(1.0)), e.number(0.5))


def _about_normal(e: Emitter, x: View) -> tuple[View, View]:
    """The same by tanh(√(2/π) (x + 0.044715 x³)), and that hyperbolic tangent."""
    cubed = e.binary("multiply", e.binary("multiply", x, x), scaled(e, x, 0.044715))
    tanh = e.unary("tanh", scaled(e, e.binary("add", x, cubed), math.sqrt(2 / math.pi)))
    return scaled(e, e.binary("add", tanh, e.number(1.0)), 0.5), tanh


def _by_tanh(call: Call) -> bool:
    return bool(call.keywords.get("approximate", "none") == "tanh")


@rule("aten.gelu.default")
def _gelu(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 0)
    share = _about_normal(e, x)[0] if _by_tanh(call) else _normal_cdf(e, x)
    e.binary("multiply", x, share, lowering.result(call))


@rule("aten.gelu_backward.default")
def _gelu_backward(lowering: Lowering, call: Call) -> None:
    e, gradient, x = lowering.emitter, lowering.argument(call, 0), lowering.argument(call, 1)
    squared = e.binary("multiply", x, x)
    if _by_tanh(call):
        share, tanh = _about_normal(e, x)
        inner = e.binary("add", scaled(e, squared, 3 * 0.044715), e.number(1.0))
        rest = e.binary("subtract", e.number(1.0), e.binary("multiply", tanh, tanh))
        density = scaled(e, e.binary("multiply", rest, inner), math.sqrt(2 / math.pi) / 2)
    else:
        share = _normal_cdf(e, x)
        density = scaled(e, e.unary("exp", scaled(e, squared, -0.5)), 1 / math.sqrt(2 * math.pi))
    slope = e.binary("add", share, e.binary("multiply", x, density))
    e.binary("multiply", gradient, slope, lowering.result(call))


# -- constants and shapes


@rule(
    "aten.fill.Scalar",
    "aten.full_like.default",
    "aten.zeros_like.default",
    "aten.ones_like.default",
    "aten.empty_like.default",
)
def _filled(lowering: Lowering, call: Call) -> None:
    value = 1.0 if "ones_like" in str(call.operator) else 0.0  # nobody reads what is empty
    lowering.constant(call, float(call.arguments[1]) if len(call.arguments) > 1 else value)


@rule("aten.split_with_sizes.default")
def _split(lowering: Lowering, call: Call) -> None:
    x, sizes, dim = lowering.argument(call, 0), call.arguments[1], (*call.arguments[2:], 0)[0]
    dim, place, parts = dim % len(x.shape), 0, []
    for size in sizes:
        shape = [size if i == dim else length for i, length in enumerate(x.shape)]
        parts.append(x.as_(shape, x.strides, place * x.strides[dim]))
        place += size
    lowering.show(call, parts)


@rule("aten.cat.default")
def _cat(lowering: Lowering, call: Call) -> None:
    y = lowering.result(call)
    dim, place = (call.arguments[1] if len(call.arguments) > 1 else 0) % len(y.shape), 0
    for part in lowering.arguments(call):
        lowering.emitter.copy(y.as_(part.shape, y.strides, place * y.strides[dim]), part)
        place += part.shape[dim]


@rule("aten.slice_backward.default")
def _slice_backward(lowering: Lowering, call: Call) -> None:
    y, part = lowering.layout(call), lowering.argument(call, 0)
    dim, start, _, step = call.arguments[2:6]
    dim %= len(y.shape)
    start = min(max(start + (y.shape[dim] if start < 0 else 0), 0), y.shape[dim])
    strides = [stride * (step if i == dim else 1) for i, stride in enumerate(y.strides)]
    lowering.scatter(call, y.as_(part.shape, strides, start * y.strides[dim]), part)


@rule("aten.select_backward.default")
def _select_backward(lowering: Lowering, call: Call) -> None:
    y, part = lowering.layout(call), lowering.argument(call, 0)
    dim, index = call.arguments[2] % len(y.shape), call.arguments[3]
    strides = [stride for i, stride in enumerate(y.strides) if i != dim]
    lowering.scatter(call, y.as_(part.shape, strides, (index % y.shape[dim]) * y.strides[dim]), part)


@rule("aten.slice_scatter.default", "aten.select_scatter.default")
def _put(lowering: Lowering, call: Call) -> None:
    """A copy with another tensor in a part of it."""
    e, x, part = lowering.emitter, lowering.argument(call, 0), lowering.argument(call, 1)
    y = e.unary("copy", x, lowering.result(call))
    dim, start, _, step = defaults(call.arguments[2:], 0, None, None, 1)
    dim %= len(y.shape)
    if "select" in str(call.operator):
        shape, strides = list(part.shape), list(part.strides)
        shape.insert(dim, 1)
        strides.insert(dim, 0)
        part = part.as_(shape, strides)
    start = 0 if start is None else start
    start = min(max(start + (y.shape[dim] if start < 0 else 0), 0), y.shape[dim])
    strides = [stride * (step if i == dim else 1) for i, stride in enumerate(y.strides)]
    e.copy(y.as_(part.shape, strides, start * y.strides[dim]), part)


@rule("aten.repeat.default")
def _repeat(lowering: Lowering, call: Call) -> None:
    x, y, times = lowering.argument(call, 0), lowering.result(call), call.arguments[1]
    missing = len(times) - len(x.shape)
    shape, strides = [1] * missing + list(x.shape), [0] * missing + list(x.strides)
    source = x.as_(
        [part for pair in zip(times, shape, strict=True) for part in pair], _between(strides, [0] * len(times))
    )
    target = [part for stride, size in zip(y.strides, shape, strict=True) for part in (stride * size, stride)]
    lowering.emitter.copy(y.as_(source.shape, target), source)


def _between(strides: Sequence[int], others: Sequence[int]) -> list[int]:
    return [part for stride, other in zip(strides, others, strict=True) for part in (other, stride)]


@rule("aten.flip.default")
def _flip(lowering: Lowering, call: Call) -> None:
    x = lowering.emitter.lifted(lowering.argument(call, 0))
    y, dims = lowering.result(call), [dim % len(x.shape) for dim in call.arguments[1]]
    rest = [1 if dim in dims else length for dim, length in enumerate(x.shape)]
    for indices in itertools.product(*(range(x.shape[dim]) for dim in dims)):
        to = sum(index * y.strides[dim] for index, dim in zip(indices, dims, strict=True))
        of = sum((x.shape[dim] - 1 - index) * x.strides[dim] for index, dim in zip(indices, dims, strict=True))
        lowering.emitter.copy(y.as_(rest, y.strides, to), x.as_(rest, x.strides, of))


@rule("aten.constant_pad_nd.default")
def _pad(lowering: Lowering, call: Call) -> None:
    """A number around what there is; what is padded by less than nothing is cut off."""
    y, x, pads = lowering.result(call), lowering.argument(call, 0), list(call.arguments[1])
    pairs = [(0, 0)] * (len(y.shape) - len(pads) // 2) + list(zip(pads[::2], pads[1::2], strict=True))[::-1]
    shape = [size + min(before, 0) + min(after, 0) for size, (before, after) in zip(x.shape, pairs, strict=True)]
    of = sum(-min(before, 0) * stride for (before, _), stride in zip(pairs, x.strides, strict=True))
    to = sum(max(before, 0) * stride for (before, _), stride in zip(pairs, y.strides, strict=True))
    if min(shape) < 1:
        raise NotLowered("a padding that leaves nothing.")
    lowering.emitter.fill(y, float(call.arguments[2]) if len(call.arguments) > 2 else 0.0)
    lowering.emitter.copy(y.as_(shape, y.strides, to), x.as_(shape, x.strides, of))


# -- reductions


def _dims(call: Call) -> Any:
    return call.arguments[1] if len(call.arguments) > 1 else None


@rule("aten.sum.default", "aten.sum.dim_IntList", "aten.mean.default", "aten.mean.dim")
def _sum(lowering: Lowering, call: Call) -> None:
    rows, count = reduced(lowering, call, _dims(call))
    total = lowering.emitter.over("sum", rows)
    if "mean" in str(call.operator):
        total = lowering.emitter.binary("divide", total, lowering.emitter.number(count))
    lowering.give(call, total)


@rule("aten.linalg_vector_norm.default")
def _norm(lowering: Lowering, call: Call) -> None:
    e, (order, dims) = lowering.emitter, defaults(call.arguments[1:3], 2, None)
    rows, _ = reduced(lowering, call, dims)
    if order == 2:
        value = e.unary("sqrt", e.over("sum", e.binary("multiply", rows, rows)))
    else:
        value = e.over("maximum" if order == math.inf else "sum", e.unary("absolute", rows))
    lowering.give(call, value)


@rule("aten.var.correction")
def _variance(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    rows, count = reduced(lowering, call, _dims(call))
    correction = call.keywords.get("correction")
    mean = e.binary("divide", e.over("sum", rows), e.number(count))
    apart = e.binary("subtract", rows, mean)
    divisor = e.number(max(0.0, count - float(1 if correction is None else correction)))
    lowering.give(call, e.binary("divide", e.over("sum", e.binary("multiply", apart, apart)), divisor))


@rule("aten._softmax.default", "aten._log_softmax.default")
def _softmax(lowering: Lowering, call: Call) -> None:
    e, dim = lowering.emitter, call.arguments[1]
    x = e.dense(lowering.argument(call, 0).last(dim))
    below = e.binary("subtract", x, e.over("maximum", x))
    grown = e.unary("exp", below)
    total = e.over("sum", grown)
    if "log" in str(call.operator):
        value = e.binary("subtract", below, e.unary("log", total))
    else:
        value = e.binary("divide", grown, total)
    lowering.give(call, value.back(dim))


@rule("aten._softmax_backward_data.default", "aten._log_softmax_backward_data.default")
def _softmax_backward(lowering: Lowering, call: Call) -> None:
    e, dim = lowering.emitter, call.arguments[2]
    gradient, result = (lowering.argument(call, index).last(dim) for index in (0, 1))
    if "log" in str(call.operator):
        part = e.binary("multiply", e.unary("exp", result), e.over("sum", gradient))
        value = e.binary("subtract", gradient, part)
    else:
        weighted = e.binary("multiply", gradient, result)
        value = e.binary("subtract", weighted, e.binary("multiply", result, e.over("sum", weighted)))
    lowering.give(call, value.back(dim))


# -- normalisation


def _normed(e: Emitter, x: View, epsilon: float) -> tuple[View, View, View]:
    """Over the last dimension: (x - mean) / deviation, mean, 1 / deviation."""
    part = e.number(1 / x.shape[-1])
    mean = e.binary("multiply", e.over("sum", x), part)
    apart = e.binary("subtract", x, mean)
    variance = e.binary("multiply", e.over("sum", e.binary("multiply", apart, apart)), part)
    inverse = e.binary("divide", e.number(1.0), e.unary("sqrt", e.binary("add", variance, e.number(epsilon))))
    return e.binary("multiply", apart, inverse), mean, inverse


@rule("aten.native_layer_norm.default")
def _layer_norm(lowering: Lowering, call: Call) -> None:
    e, x, size = lowering.emitter, lowering.argument(call, 0), math.prod(call.arguments[1])
    y, mean, inverse = _normed(e, e.shaped(x, (x.numel // size, size)), float(call.arguments[4]))
    for index, name in ((2, "multiply"), (3, "add")):
        if call.arguments[index] is not None:
            y = e.binary(name, y, flat(lowering.argument(call, index)))
    lowering.give(call, y, mean, inverse)


@rule("aten.native_layer_norm_backward.default")
def _layer_norm_backward(lowering: Lowering, call: Call) -> None:
    e, x, size = lowering.emitter, lowering.argument(call, 1), math.prod(call.arguments[2])
    rows = x.numel // size
    gradient, x = (e.shaped(lowering.argument(call, index), (rows, size)) for index in (0, 1))
    mean, inverse = (e.shaped(lowering.argument(call, index), (rows, 1)) for index in (3, 4))
    normed = e.binary("multiply", e.binary("subtract", x, mean), inverse)
    of_weight = e.binary("multiply", gradient, normed)
    weighted = gradient
    if call.arguments[5] is not None:
        weighted = e.binary("multiply", gradient, flat(lowering.argument(call, 5)))
    of_x = _through_norm(e, weighted, normed, inverse)

    def over_rows(view: View) -> View:
        return e.over("sum", view.last(0)) if rows > 1 else view

    wanted = [number is not None for number in call.results]
    lowering.give(
        call,
        of_x if wanted[0] else None,
        over_rows(of_weight) if wanted[1] else None,
        over_rows(gradient) if wanted[2] else None,
    )


def _through_norm(e: Emitter, gradient: View, normed: View, inverse: View) -> View:
    """The gradient of what was normed over the last dimension."""
    part = e.number(1 / gradient.shape[-1])
    mean = e.binary("multiply", e.over("sum", gradient), part)
    along = e.binary("multiply", e.over("sum", e.binary("multiply", gradient, normed)), part)
    left = e.binary("subtract", e.binary("subtract", gradient, mean), e.binary("multiply", normed, along))
    return e.binary("multiply", left, inverse)


@rule("aten.native_group_norm.default")
def _group_norm(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    batch, channels, size, groups, epsilon = call.arguments[3:8]
    if batch != 1:
        raise NotLowered("a norm over several records.")
    x = e.shaped(lowering.argument(call, 0), (groups, channels // groups * size))
    y, mean, inverse = _normed(e, x, float(epsilon))
    y = y.as_((channels, size), (size, 1))
    for index, name in ((1, "multiply"), (2, "add")):
        if call.arguments[index] is not None:
            y = e.binary(name, y, by_channel(lowering.argument(call, index)))
    lowering.give(call, y, mean, inverse)


# -- products


@rule("aten.addmm.default")
def _addmm(lowering: Lowering, call: Call) -> None:
    e, (bias, a, b) = lowering.emitter, (lowering.argument(call, index) for index in range(3))
    of_bias, of_product = (float(call.keywords.get(name, 1)) for name in ("beta", "alpha"))
    plain = of_bias == of_product == 1
    if plain and not bias.buffer.lanes and len(bias.shape) == 1 and a.buffer.lanes and not b.buffer.lanes:
        e.matmul(lowering.result(call), a, b, bias)
        return
    y = lowering.result(call)  # as in a recurrent cell, where what is added depends on the record
    e.matmul(y, a, b)
    e.binary("add", scaled(e, y, of_product), scaled(e, bias, of_bias), y)


@rule("aten.mm.default")
def _mm(lowering: Lowering, call: Call) -> None:
    lowering.emitter.matmul(lowering.result(call), lowering.argument(call, 0), lowering.argument(call, 1))


@rule("aten.bmm.default")
def _bmm(lowering: Lowering, call: Call) -> None:
    e, y = lowering.emitter, lowering.result(call)
    x, z = (lowering.argument(call, index) for index in (0, 1))
    for batch in range(y.shape[0]):
        parts = [view.as_(view.shape[1:], view.strides[1:], batch * view.strides[0]) for view in (y, x, z)]
        e.matmul(*parts)
