"""How each of torch's operators becomes instructions: one function each, in a table by the operator's name.

A rule is given the lowering and one call that was recorded. It emits instructions and gives each of the call's results
a view. Booleans are 0 and 1. What a rule does not cover it refuses with `NotLowered`, by shapes and constants alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from datasites.engine.gradient_recorder import Call
from datasites.engine.lanes.emitter import Emitter, NotLowered
from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.memory import Shape, View, contiguous


class Lowering(Protocol):
    """What a rule needs of `datasites.engine.lanes.lowering.Lowering`."""

    emitter: Emitter

    def argument(self, call: Call, index: int) -> View:
        """The tensor that is this argument."""

    def result(self, call: Call, index: int = 0) -> View:
        """New memory for a result, in torch's layout, in one piece."""

    def arguments(self, call: Call) -> list[View]:
        """The tensors of a list that is the first argument."""

    def give(self, call: Call, *views: View | None) -> None:
        """Take views, of any layout, for the call's results in their order."""

    def show(self, call: Call, views: Sequence[View]) -> None:
        """Take views of an argument for the results of a call that itself gives views."""

    def layout(self, call: Call) -> View:
        """A view in the layout of the result, of no memory."""

    def scatter(self, call: Call, region: View, part: View) -> None:
        """Take `part` for what lies in `region` of the result, and zero for all else."""

    def joined(self, call: Call) -> bool:
        """Whether two such results were added by taking the parts of both, which do not overlap."""

    def constant(self, call: Call, value: float) -> None:
        """Take one number for all of the call's result."""


Rule = Callable[[Lowering, Call], None]
RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _plain(call: Call) -> None:
    """Refuse factors on operands, which no rule multiplies by."""
    if call.keywords.get("alpha", 1) != 1 or call.keywords.get("beta", 1) != 1:
        raise NotLowered(f"{call.operator} with a factor.")


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "number")


def _defaults(arguments: Sequence[Any], *defaults: Any) -> list[Any]:
    """Arguments, and defaults for those that are not given."""
    return [*arguments, *defaults[len(arguments) :]]


def _operand(lowering: Lowering, call: Call, index: int) -> View:
    """A tensor, or a number as one."""
    value = call.arguments[index]
    return lowering.argument(call, index) if _is_tensor(value) else lowering.emitter.number(float(value))


# -- element by element

UNARY = {
    "relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "exp": "exp", "expm1": "expm1", "log": "log",
    "log1p": "log1p", "sqrt": "sqrt", "neg": "negative", "abs": "absolute", "erf": "erf", "trunc": "cut",
    "clone": "copy", "alias": "copy", "detach": "copy",
}  # fmt: skip
BINARY = {
    "add.Tensor": "add", "add.Scalar": "add", "sub.Tensor": "subtract", "sub.Scalar": "subtract",
    "mul.Tensor": "multiply", "mul.Scalar": "multiply", "div.Tensor": "divide", "div.Scalar": "divide",
    "sigmoid_backward.default": "sigmoid_backward", "tanh_backward.default": "tanh_backward",
}  # fmt: skip
COMPARISONS = {"lt": ("less", False), "le": ("at_most", False), "gt": ("less", True), "ge": ("at_most", True),
               "eq": ("equal", False), "ne": ("unequal", False)}  # fmt: skip


@_rule(*(f"aten.{name}.default" for name in UNARY))
def _unary(lowering: Lowering, call: Call) -> None:
    name = str(call.operator).split(".")[1]
    lowering.emitter.unary(UNARY[name], lowering.argument(call, 0), lowering.result(call))


@_rule(*(f"aten.{name}" for name in BINARY))
def _binary(lowering: Lowering, call: Call) -> None:
    _plain(call)
    if len(call.arguments) != 2:
        raise NotLowered(f"{call.operator} with a factor.")
    name = str(call.operator).removeprefix("aten.")
    if name == "add.Tensor" and lowering.joined(call):
        return
    lowering.emitter.binary(
        BINARY[name], _operand(lowering, call, 0), _operand(lowering, call, 1), lowering.result(call)
    )


@_rule(*(f"aten.{name}.{kind}" for name in COMPARISONS for kind in ("Scalar", "Tensor")))
def _comparison(lowering: Lowering, call: Call) -> None:
    name, turned = COMPARISONS[str(call.operator).split(".")[1]]
    x, z = _operand(lowering, call, 0), _operand(lowering, call, 1)
    lowering.emitter.binary(name, *((z, x) if turned else (x, z)), lowering.result(call))


@_rule("aten._to_copy.default")
def _to_copy(lowering: Lowering, call: Call) -> None:
    if call.keywords.get("dtype") not in (None, torch.float32):
        raise NotLowered("A conversion to another dtype than float32.")
    lowering.emitter.unary("copy", lowering.argument(call, 0), lowering.result(call))


@_rule("aten.rsub.Scalar")
def _reversed_subtraction(lowering: Lowering, call: Call) -> None:
    if len(call.arguments) > 2 and call.arguments[2] != 1:
        raise NotLowered(f"{call.operator} with a factor.")
    lowering.emitter.binary("subtract", _operand(lowering, call, 1), lowering.argument(call, 0), lowering.result(call))


@_rule("aten.clamp.default", "aten.clamp_min.default", "aten.clamp_max.default", "aten.hardtanh.default")
def _clamp(lowering: Lowering, call: Call) -> None:
    hard = str(call.operator) == "aten.hardtanh.default"
    low, high = _defaults(call.arguments[1:], *((-1.0, 1.0) if hard else (None, None)))
    if str(call.operator) == "aten.clamp_max.default":
        low, high = None, low
    bounds: list[View | int] = [-1 if bound is None else lowering.emitter.number(float(bound)) for bound in (low, high)]
    lowering.emitter.unary("clamp", lowering.argument(call, 0), lowering.result(call), low=bounds[0], high=bounds[1])


@_rule("aten.hardtanh_backward.default")
def _hardtanh_backward(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 1)
    low, high = (e.number(float(bound)) for bound in call.arguments[2:4])
    inside = e.binary("multiply", e.binary("less", low, x), e.binary("less", x, high))
    e.where(inside, lowering.argument(call, 0), e.number(0.0), lowering.result(call))


@_rule("aten.threshold_backward.default")
def _threshold_backward(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    least = e.number(float(call.arguments[2]))
    e.binary(
        "threshold_backward", lowering.argument(call, 0), lowering.argument(call, 1), lowering.result(call), k=least
    )


@_rule("aten.where.self")
def _where(lowering: Lowering, call: Call) -> None:
    flags, x, z = (_operand(lowering, call, index) for index in range(3))
    lowering.emitter.where(flags, x, z, lowering.result(call))


@_rule("aten.masked_fill.Scalar")
def _masked_fill(lowering: Lowering, call: Call) -> None:
    x, flags, value = (_operand(lowering, call, index) for index in range(3))
    lowering.emitter.where(flags, value, x, lowering.result(call))


@_rule("aten.logical_not.default")
def _logical_not(lowering: Lowering, call: Call) -> None:
    lowering.emitter.binary("equal", lowering.argument(call, 0), lowering.emitter.number(0.0), lowering.result(call))


@_rule("aten.reciprocal.default")
def _reciprocal(lowering: Lowering, call: Call) -> None:
    lowering.emitter.binary("divide", lowering.emitter.number(1.0), lowering.argument(call, 0), lowering.result(call))


@_rule("aten.rsqrt.default")
def _rsqrt(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    e.binary("divide", e.number(1.0), e.unary("sqrt", lowering.argument(call, 0)), lowering.result(call))


@_rule("aten.pow.Tensor_Scalar")
def _power(lowering: Lowering, call: Call) -> None:
    e, x, exponent = lowering.emitter, lowering.argument(call, 0), call.arguments[1]
    if exponent == 1:
        e.unary("copy", x, lowering.result(call))
    elif exponent == 2:
        e.binary("multiply", x, x, lowering.result(call))
    elif exponent == 3:
        e.binary("multiply", e.binary("multiply", x, x), x, lowering.result(call))
    elif exponent == 0.5:
        e.unary("sqrt", x, lowering.result(call))
    else:
        raise NotLowered(f"The power {exponent}.")


@_rule("aten.sgn.default", "aten.sign.default")
def _sign(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 0)
    e.binary("subtract", e.binary("less", e.number(0.0), x), e.binary("less", x, e.number(0.0)), lowering.result(call))


@_rule("aten.maximum.default", "aten.minimum.default")
def _larger(lowering: Lowering, call: Call) -> None:
    """NaN where either is."""
    e, x, z = lowering.emitter, lowering.argument(call, 0), lowering.argument(call, 1)
    pair = (x, z) if "maximum" in str(call.operator) else (z, x)
    chosen = e.where(e.binary("less", *pair), z, x)
    e.where(e.binary("unequal", z, z), z, chosen, lowering.result(call))


@_rule("aten.elu.default")
def _elu(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 0)
    alpha, scale, within = _defaults(call.arguments[1:], 1, 1, 1)
    low = e.unary("clamp", x, low=-1, high=e.number(0.0))
    below = e.binary("multiply", e.unary("expm1", _scaled(e, low, within)), e.number(alpha * scale))
    e.where(e.binary("less", e.number(0.0), x), _scaled(e, x, scale), below, lowering.result(call))


@_rule("aten.elu_backward.default")
def _elu_backward(lowering: Lowering, call: Call) -> None:
    e, gradient, known = lowering.emitter, lowering.argument(call, 0), lowering.argument(call, 5)
    alpha, scale, within, is_result = call.arguments[1:5]
    if is_result:
        slope = e.binary("multiply", e.binary("add", known, e.number(alpha * scale)), e.number(within))
    else:
        grown = e.unary("exp", _scaled(e, e.unary("clamp", known, low=-1, high=e.number(0.0)), within))
        slope = e.binary("multiply", grown, e.number(within * alpha * scale))
    e.where(
        e.binary("less", e.number(0.0), known),
        _scaled(e, gradient, scale),
        e.binary("multiply", gradient, slope),
        lowering.result(call),
    )


@_rule("aten.leaky_relu.default")
def _leaky_relu(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, lowering.argument(call, 0)
    slope = float((*call.arguments[1:], 0.01)[0])
    e.where(e.binary("less", e.number(0.0), x), x, _scaled(e, x, slope), lowering.result(call))


@_rule("aten.leaky_relu_backward.default")
def _leaky_relu_backward(lowering: Lowering, call: Call) -> None:
    e, gradient, x = lowering.emitter, lowering.argument(call, 0), lowering.argument(call, 1)
    slope = float(call.arguments[2])
    e.where(e.binary("less", e.number(0.0), x), gradient, _scaled(e, gradient, slope), lowering.result(call))


def _scaled(e: Emitter, x: View, factor: float) -> View:
    return x if factor == 1 else e.binary("multiply", x, e.number(factor))


def _not_by_tanh(call: Call) -> None:
    if call.keywords.get("approximate", "none") != "none":
        raise NotLowered("GELU by tanh.")


def _normal_cdf(e: Emitter, x: View) -> View:
    """(1 + erf(x / √2)) / 2."""
    erf = e.unary("erf", e.binary("multiply", x, e.number(math.sqrt(0.5))))
    return e.binary("multiply", e.binary("add", erf, e.number(1.0)), e.number(0.5))


@_rule("aten.gelu.default")
def _gelu(lowering: Lowering, call: Call) -> None:
    _not_by_tanh(call)
    x = lowering.argument(call, 0)
    lowering.emitter.binary("multiply", x, _normal_cdf(lowering.emitter, x), lowering.result(call))


@_rule("aten.gelu_backward.default")
def _gelu_backward(lowering: Lowering, call: Call) -> None:
    _not_by_tanh(call)
    e, gradient, x = lowering.emitter, lowering.argument(call, 0), lowering.argument(call, 1)
    exponent = e.binary("multiply", e.binary("multiply", x, x), e.number(-0.5))
    density = e.binary("multiply", e.unary("exp", exponent), e.number(1 / math.sqrt(2 * math.pi)))
    slope = e.binary("add", _normal_cdf(e, x), e.binary("multiply", x, density))
    e.binary("multiply", gradient, slope, lowering.result(call))


# -- constants and shapes


@_rule(
    "aten.fill.Scalar",
    "aten.full_like.default",
    "aten.zeros_like.default",
    "aten.ones_like.default",
    "aten.empty_like.default",
)
def _filled(lowering: Lowering, call: Call) -> None:
    value = 1.0 if "ones_like" in str(call.operator) else 0.0  # nobody reads what is empty
    lowering.constant(call, float(call.arguments[1]) if len(call.arguments) > 1 else value)


@_rule("aten.split_with_sizes.default")
def _split(lowering: Lowering, call: Call) -> None:
    x, sizes, dim = lowering.argument(call, 0), call.arguments[1], (*call.arguments[2:], 0)[0]
    dim, place, parts = dim % len(x.shape), 0, []
    for size in sizes:
        shape = [size if i == dim else length for i, length in enumerate(x.shape)]
        parts.append(x.as_(shape, x.strides, place * x.strides[dim]))
        place += size
    lowering.show(call, parts)


@_rule("aten.cat.default")
def _cat(lowering: Lowering, call: Call) -> None:
    y = lowering.result(call)
    dim, place = (call.arguments[1] if len(call.arguments) > 1 else 0) % len(y.shape), 0
    for part in lowering.arguments(call):
        lowering.emitter.copy(y.as_(part.shape, y.strides, place * y.strides[dim]), part)
        place += part.shape[dim]


@_rule("aten.slice_backward.default")
def _slice_backward(lowering: Lowering, call: Call) -> None:
    y, part = lowering.layout(call), lowering.argument(call, 0)
    dim, start, _, step = call.arguments[2:6]
    dim %= len(y.shape)
    start = min(max(start + (y.shape[dim] if start < 0 else 0), 0), y.shape[dim])
    strides = [stride * (step if i == dim else 1) for i, stride in enumerate(y.strides)]
    lowering.scatter(call, y.as_(part.shape, strides, start * y.strides[dim]), part)


@_rule("aten.select_backward.default")
def _select_backward(lowering: Lowering, call: Call) -> None:
    y, part = lowering.layout(call), lowering.argument(call, 0)
    dim, index = call.arguments[2] % len(y.shape), call.arguments[3]
    strides = [stride for i, stride in enumerate(y.strides) if i != dim]
    lowering.scatter(call, y.as_(part.shape, strides, (index % y.shape[dim]) * y.strides[dim]), part)


@_rule("aten.flip.default")
def _flip(lowering: Lowering, call: Call) -> None:
    x = lowering.emitter.lifted(lowering.argument(call, 0))
    y, dims = lowering.result(call), [dim % len(x.shape) for dim in call.arguments[1]]
    rest = [1 if dim in dims else length for dim, length in enumerate(x.shape)]
    for indices in itertools.product(*(range(x.shape[dim]) for dim in dims)):
        to = sum(index * y.strides[dim] for index, dim in zip(indices, dims, strict=True))
        of = sum((x.shape[dim] - 1 - index) * x.strides[dim] for index, dim in zip(indices, dims, strict=True))
        lowering.emitter.copy(y.as_(rest, y.strides, to), x.as_(rest, x.strides, of))


@_rule("aten.constant_pad_nd.default")
def _pad(lowering: Lowering, call: Call) -> None:
    y, x, pads = lowering.result(call), lowering.argument(call, 0), call.arguments[1]
    if any(pad < 0 for pad in pads):
        raise NotLowered("A negative padding.")
    lowering.emitter.fill(y, float(call.arguments[2]) if len(call.arguments) > 2 else 0.0)
    begin = sum(pads[2 * i] * y.strides[-1 - i] for i in range(len(pads) // 2))
    lowering.emitter.copy(y.as_(x.shape, y.strides, begin), x)


# -- reductions


def _reduced(lowering: Lowering, call: Call) -> tuple[View, int]:
    """The first argument as [what stays, what is added up], and how many are added up."""
    x = lowering.argument(call, 0)
    dims = call.arguments[1] if len(call.arguments) > 1 and call.arguments[1] else range(len(x.shape))
    dims = [dims] if isinstance(dims, int) else [dim % len(x.shape) for dim in dims]
    stay = [dim for dim in range(len(x.shape)) if dim not in dims]
    count = math.prod(x.shape[dim] for dim in dims)
    ordered = x.ordered([*stay, *dims])
    return lowering.emitter.shaped(ordered, (math.prod(x.shape[dim] for dim in stay), count)), count


@_rule("aten.sum.default", "aten.sum.dim_IntList", "aten.mean.default", "aten.mean.dim")
def _sum(lowering: Lowering, call: Call) -> None:
    if call.keywords.get("dtype") not in (None, torch.float32):
        raise NotLowered("A sum of another dtype.")
    rows, count = _reduced(lowering, call)
    total = lowering.emitter.over("sum", rows)
    if "mean" in str(call.operator):
        total = lowering.emitter.binary("divide", total, lowering.emitter.number(count))
    lowering.give(call, total)


@_rule("aten.amax.default")
def _amax(lowering: Lowering, call: Call) -> None:
    rows, _ = _reduced(lowering, call)
    lowering.give(call, lowering.emitter.over("maximum", rows))


@_rule("aten.var.correction")
def _variance(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    rows, count = _reduced(lowering, call)
    correction = call.keywords.get("correction")
    mean = e.binary("divide", e.over("sum", rows), e.number(count))
    apart = e.binary("subtract", rows, mean)
    divisor = e.number(max(0.0, count - float(1 if correction is None else correction)))
    lowering.give(call, e.binary("divide", e.over("sum", e.binary("multiply", apart, apart)), divisor))


@_rule("aten.any.dim")
def _any(lowering: Lowering, call: Call) -> None:
    x = lowering.emitter.binary("unequal", lowering.argument(call, 0), lowering.emitter.number(0.0))
    lowering.give(call, lowering.emitter.over("maximum", x.last(call.arguments[1])))


@_rule("aten._softmax.default", "aten._log_softmax.default")
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


@_rule("aten._softmax_backward_data.default", "aten._log_softmax_backward_data.default")
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


@_rule("aten.gather.default")
def _gather(lowering: Lowering, call: Call) -> None:
    x, index = lowering.emitter.dense(lowering.argument(call, 0)), lowering.argument(call, 2)
    if len(x.shape) != 1 or index.numel != 1 or not index.buffer.lanes:
        raise NotLowered("A gather of more than one number.")
    lowering.emitter.emit("gather", y=lowering.result(call), n=x.shape[0], x=x, sx=LANES, z=index)


@_rule("aten.scatter_add.default")
def _scatter_add(lowering: Lowering, call: Call) -> None:
    base, index = lowering.argument(call, 0), lowering.argument(call, 2)
    source = lowering.emitter.lifted(lowering.argument(call, 3))
    if len(base.shape) != 1 or index.numel != 1 or source.numel != 1 or not index.buffer.lanes:
        raise NotLowered("A scatter of more than one number.")
    y = lowering.emitter.unary("copy", base, lowering.result(call))
    lowering.emitter.emit("scatter", y=y, n=base.shape[0], x=source, z=index)


# -- normalisation


def _normed(e: Emitter, x: View, epsilon: float) -> tuple[View, View, View]:
    """Over the last dimension: (x - mean) / deviation, mean, 1 / deviation."""
    part = e.number(1 / x.shape[-1])
    mean = e.binary("multiply", e.over("sum", x), part)
    apart = e.binary("subtract", x, mean)
    variance = e.binary("multiply", e.over("sum", e.binary("multiply", apart, apart)), part)
    inverse = e.binary("divide", e.number(1.0), e.unary("sqrt", e.binary("add", variance, e.number(epsilon))))
    return e.binary("multiply", apart, inverse), mean, inverse


def _flat(view: View) -> View:
    """A parameter's numbers as one dimension."""
    if view.strides != contiguous(view.shape) and view.numel > 1:
        raise NotLowered("A parameter that is not in one piece.")
    return view.as_((view.numel,), (1,))


@_rule("aten.native_layer_norm.default")
def _layer_norm(lowering: Lowering, call: Call) -> None:
    e, x, size = lowering.emitter, lowering.argument(call, 0), math.prod(call.arguments[1])
    y, mean, inverse = _normed(e, e.shaped(x, (x.numel // size, size)), float(call.arguments[4]))
    for index, name in ((2, "multiply"), (3, "add")):
        if call.arguments[index] is not None:
            y = e.binary(name, y, _flat(lowering.argument(call, index)))
    lowering.give(call, y, mean, inverse)


@_rule("aten.native_layer_norm_backward.default")
def _layer_norm_backward(lowering: Lowering, call: Call) -> None:
    e, x, size = lowering.emitter, lowering.argument(call, 1), math.prod(call.arguments[2])
    rows = x.numel // size
    gradient, x = (e.shaped(lowering.argument(call, index), (rows, size)) for index in (0, 1))
    mean, inverse = (e.shaped(lowering.argument(call, index), (rows, 1)) for index in (3, 4))
    normed = e.binary("multiply", e.binary("subtract", x, mean), inverse)
    of_weight = e.binary("multiply", gradient, normed)
    if call.arguments[5] is None:
        scaled = gradient
    else:
        scaled = e.binary("multiply", gradient, _flat(lowering.argument(call, 5)))
    of_x = _through_norm(e, scaled, normed, inverse)

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


def _by_channel(e: Emitter, view: View) -> View:
    flat = _flat(view)
    return flat.as_((flat.numel, 1), (1, 0))


@_rule("aten.native_group_norm.default")
def _group_norm(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    batch, channels, size, groups, epsilon = call.arguments[3:8]
    if batch != 1:
        raise NotLowered("A group norm over several rows.")
    x = e.shaped(lowering.argument(call, 0), (groups, channels // groups * size))
    y, mean, inverse = _normed(e, x, float(epsilon))
    y = y.as_((channels, size), (size, 1))
    for index, name in ((1, "multiply"), (2, "add")):
        if call.arguments[index] is not None:
            y = e.binary(name, y, _by_channel(e, lowering.argument(call, index)))
    lowering.give(call, y, mean, inverse)


@_rule("aten.native_group_norm_backward.default")
def _group_norm_backward(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    batch, channels, size, groups = call.arguments[5:9]
    if batch != 1:
        raise NotLowered("A group norm over several rows.")
    shape = (groups, channels // groups * size)
    gradient, x = (e.shaped(lowering.argument(call, index), (channels, size)) for index in (0, 1))
    mean, inverse = (e.shaped(lowering.argument(call, index), (groups, 1)) for index in (2, 3))
    normed = e.binary("multiply", e.binary("subtract", x.as_(shape, contiguous(shape)), mean), inverse)
    by_channel = normed.as_((channels, size), (size, 1))
    scaled = gradient
    if call.arguments[4] is not None:
        scaled = e.binary("multiply", gradient, _by_channel(e, lowering.argument(call, 4)))
    of_x = _through_norm(e, scaled.as_(shape, contiguous(shape)), normed, inverse)
    wanted = [number is not None for number in call.results]
    lowering.give(
        call,
        of_x if wanted[0] else None,
        e.over("sum", e.binary("multiply", gradient, by_channel)) if wanted[1] else None,
        e.over("sum", gradient) if wanted[2] else None,
    )


# -- products


@_rule("aten.addmm.default")
def _addmm(lowering: Lowering, call: Call) -> None:
    _plain(call)
    bias, a, b = (lowering.argument(call, index) for index in range(3))
    if not bias.buffer.lanes and len(bias.shape) == 1 and (a.buffer.lanes and not b.buffer.lanes):
        lowering.emitter.matmul(lowering.result(call), a, b, bias)
    else:  # as in a recurrent cell, where what is added depends on the record
        y = lowering.result(call)
        lowering.emitter.matmul(y, a, b)
        lowering.emitter.binary("add", y, bias, y)


@_rule("aten.mm.default")
def _mm(lowering: Lowering, call: Call) -> None:
    lowering.emitter.matmul(lowering.result(call), lowering.argument(call, 0), lowering.argument(call, 1))


@_rule("aten.bmm.default")
def _bmm(lowering: Lowering, call: Call) -> None:
    e, y = lowering.emitter, lowering.result(call)
    x, z = (lowering.argument(call, index) for index in (0, 1))
    for batch in range(y.shape[0]):
        parts = [view.as_(view.shape[1:], view.strides[1:], batch * view.strides[0]) for view in (y, x, z)]
        e.matmul(*parts)


# -- windows: convolution and pooling


class _Windows:
    """Where a kernel of size `kernel` stands over [channels, *size], with padding.

    `padded` is new memory [channels, *size with padding]; `spread` shows it as [channels, *kernel, *places].
    """

    def __init__(
        self,
        e: Emitter,
        channels: int,
        size: Shape,
        kernel: Shape,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
    ) -> None:
        count = len(size)
        stride, padding, dilation = (_each(values, count) for values in (stride, padding, dilation))
        self._e, self._channels, self.size, self.kernel = e, channels, size, kernel
        self._padding = padding
        room = tuple(have + 2 * more for have, more in zip(size, padding, strict=True))
        self.places = tuple((room[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(count))
        if any(places < 1 for places in self.places):
            raise NotLowered("A window that is larger than what it stands over.")
        self._whole = (channels, *room)
        strides = contiguous(self._whole)
        self._inner = sum(padding[i] * strides[1 + i] for i in range(count))
        self._strides = (
            strides[0],
            *(strides[1 + i] * dilation[i] for i in range(count)),
            *(strides[1 + i] * stride[i] for i in range(count)),
        )

    def core(self, padded: View) -> View:
        """What is not padding."""
        return padded.as_((self._channels, *self.size), padded.strides, self._inner)

    def empty(self, value: float) -> View:
        """New padded memory, `value` all over."""
        padded = self._e.fresh(self._whole)
        self._e.fill(padded, value)
        return padded

    def padded(self, x: View, value: float = 0.0) -> View:
        """A copy of x [channels, *size] with `value` as padding."""
        padded = self.empty(value) if any(self._padding) else self._e.fresh(self._whole)
        self._e.copy(self.core(padded), x)
        return padded

    def spread(self, padded: View) -> View:
        """All windows as they overlap: [channels, *kernel, *places]."""
        return padded.as_((self._channels, *self.kernel, *self.places), self._strides)

    def one(self, spread: View, offset: Sequence[int]) -> View:
        """Of every window the number at one place in it: [channels, *places]."""
        count = len(self.kernel)
        begin = sum(index * stride for index, stride in zip(offset, spread.strides[1 : 1 + count], strict=True))
        return spread.as_((self._channels, *self.places), (spread.strides[0], *spread.strides[1 + count :]), begin)

    def offsets(self) -> list[tuple[int, ...]]:
        """Every place in a window, in order."""
        return list(itertools.product(*(range(length) for length in self.kernel)))


def _each(values: Sequence[int], count: int) -> list[int]:
    values = list(values)
    return values if len(values) == count else values * count


def _pieces(e: Emitter, view: View) -> View:
    """In one piece, whatever its strides; also where they overlap."""
    target = e.fresh(view.shape)
    e.copy(target, view)
    return target


@_rule("aten.convolution.default", "aten.convolution_backward.default")
def _convolution(lowering: Lowering, call: Call) -> None:
    e, backward = lowering.emitter, "backward" in str(call.operator)
    x, weight = lowering.argument(call, 1 if backward else 0), lowering.argument(call, 2 if backward else 1)
    stride, padding, dilation, transposed, _, groups = call.arguments[4:10] if backward else call.arguments[3:9]
    if transposed or groups != 1 or weight.buffer.lanes or x.shape[0] != 1:
        raise NotLowered("A convolution that is transposed, in groups, or not by a parameter.")
    if weight.strides != contiguous(weight.shape):
        raise NotLowered("A parameter that is not in one piece.")
    channels, outputs, kernel = x.shape[1], weight.shape[0], weight.shape[2:]
    windows = _Windows(e, channels, x.shape[2:], kernel, stride, padding, dilation)
    k, n = channels * math.prod(kernel), math.prod(windows.places)
    x = e.lifted(x)
    spread = _pieces(e, windows.spread(windows.padded(x.as_(x.shape[1:], x.strides[1:])))).as_((k, n), (n, 1))
    flat = weight.as_((outputs, k), (k, 1))
    if not backward:
        y = lowering.result(call).as_((outputs, n), (n, 1))
        e.matmul(y, flat, spread)
        if call.arguments[2] is not None:
            e.binary("add", y, _by_channel(e, lowering.argument(call, 2)), y)
        return
    gradient = e.shaped(lowering.argument(call, 0), (outputs, n))
    wanted = [number is not None for number in call.results]
    of_x = of_weight = of_bias = None
    if wanted[0]:
        columns = e.fresh((channels, *kernel, *windows.places))
        e.matmul(columns.as_((k, n), (n, 1)), flat.ordered((1, 0)), gradient)
        of_x = _gathered(e, windows, columns)
    if wanted[1]:
        of_weight = e.fresh((outputs, k))
        e.matmul(of_weight, gradient, spread.ordered((1, 0)))
    if wanted[2]:
        of_bias = e.over("sum", gradient)
    lowering.give(call, of_x, of_weight, of_bias)


def _gathered(e: Emitter, windows: _Windows, columns: View) -> View:
    """What lies in windows, added up where they overlap: [channels, *size]."""
    total = windows.empty(0.0)
    count = len(windows.kernel)
    for offset in windows.offsets():
        begin = sum(index * stride for index, stride in zip(offset, columns.strides[1 : 1 + count], strict=True))
        strides = (columns.strides[0], *columns.strides[1 + count :])
        part = columns.as_((columns.shape[0], *windows.places), strides, begin)
        e.add_to(windows.one(windows.spread(total), offset), part)
    return windows.core(total)


def _pool(lowering: Lowering, call: Call, index: int, arguments: Sequence[Any]) -> tuple[_Windows, View]:
    """Windows of a pooling over the argument at `index`, and that argument as [channels, height, width]."""
    kernel, stride, padding, dilation, ceil = arguments
    x = lowering.emitter.lifted(lowering.argument(call, index))
    x = x.as_(x.shape[-3:], x.strides[-3:]) if math.prod(x.shape[:-3]) == 1 else x
    if len(x.shape) != 3 or ceil:
        raise NotLowered("A pooling of that kind.")
    kernel = tuple(_each(kernel, 2))
    windows = _Windows(
        lowering.emitter, x.shape[0], x.shape[1:], kernel, stride or kernel, padding or (0,), dilation or (1,)
    )
    return windows, x


@_rule("aten.max_pool2d_with_indices.default")
def _max_pool(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    windows, x = _pool(lowering, call, 0, _defaults(call.arguments[1:], (), (), (0,), (1,), False))
    lowering.give(call, _largest(e, windows, windows.spread(windows.padded(x, -math.inf))), None)


def _largest(e: Emitter, windows: _Windows, spread: View) -> View:
    """The largest number of each window: [channels, *places]."""
    count = len(windows.kernel)
    order = [0, *range(1 + count, 1 + 2 * count), *range(1, 1 + count)]
    rows = _pieces(e, spread.ordered(order))
    size = math.prod(windows.kernel)
    shape = (spread.shape[0], *windows.places, size)
    return e.over("maximum", rows.as_(shape, contiguous(shape))).as_(shape[:-1], contiguous(shape[:-1]))


@_rule("aten.max_pool2d_with_indices_backward.default")
def _max_pool_backward(lowering: Lowering, call: Call) -> None:
    """To the first of the largest numbers of each window, as torch has it."""
    e = lowering.emitter
    windows, x = _pool(lowering, call, 1, call.arguments[2:7])
    spread = windows.spread(windows.padded(x, -math.inf))
    largest = _largest(e, windows, spread)
    gradient = e.shaped(lowering.argument(call, 0), largest.shape)
    total, left = windows.empty(0.0), e.unary("copy", e.number(1.0), e.fresh(largest.shape))
    for offset in windows.offsets():
        number = _pieces(e, windows.one(spread, offset))
        chosen = e.binary("multiply", e.binary("equal", number, largest), left)
        left = e.binary("subtract", left, chosen)
        part = e.where(chosen, gradient, e.number(0.0))
        e.add_to(windows.one(windows.spread(total), offset), part)
    lowering.give(call, windows.core(total))


def _average(call: Call, arguments: Sequence[Any]) -> tuple[list[Any], float]:
    """Arguments of the windows, and what a window's sum is divided by."""
    kernel, stride, padding, ceil, counts_padding, divisor = _defaults(arguments, (), (), (0,), False, True, None)
    if any(padding) and not counts_padding:
        raise NotLowered("An average that leaves out padding.")
    return [kernel, stride, padding, (1,), ceil], float(divisor or math.prod(_each(kernel, 2)))


@_rule("aten.avg_pool2d.default")
def _average_pool(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    arguments, divisor = _average(call, call.arguments[1:])
    windows, x = _pool(lowering, call, 0, arguments)
    spread = windows.spread(windows.padded(x))
    total = _pieces(e, windows.one(spread, windows.offsets()[0]))
    for offset in windows.offsets()[1:]:
        total = e.binary("add", total, _pieces(e, windows.one(spread, offset)))
    lowering.give(call, e.binary("divide", total, e.number(divisor)))


@_rule("aten.avg_pool2d_backward.default")
def _average_pool_backward(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    arguments, divisor = _average(call, call.arguments[2:])
    windows, x = _pool(lowering, call, 1, arguments)
    part = e.binary("divide", e.shaped(lowering.argument(call, 0), (x.shape[0], *windows.places)), e.number(divisor))
    total = windows.empty(0.0)
    for offset in windows.offsets():
        e.add_to(windows.one(windows.spread(total), offset), part)
    lowering.give(call, windows.core(total))
