"""The table of rules, by the names of torch's operators, and what a rule is given.

A rule is given the lowering and one call that was recorded. It emits instructions and gives each of the call's results
a view. Booleans are 0 and 1, and whole numbers are float32, exact up to 2²⁴. What a rule does not cover it refuses with
`NotLowered`, by shapes and constants alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from datasites.engine.gradient_recorder import Call
from datasites.engine.lanes.emitter import Emitter, NotLowered
from datasites.engine.lanes.memory import View, contiguous

LARGEST_WHOLE = 2**24  # up to which float32 has every whole number


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

    def known(self, call: Call, index: int) -> Tensor | None:
        """The values of an argument in which no input has a part; None of others."""

    def dtype(self, call: Call, index: int) -> torch.dtype:
        """Of the tensor that is this argument."""

    def result_dtype(self, call: Call) -> torch.dtype:
        """Of the first result."""


Rule = Callable[[Lowering, Call], None]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def is_tensor(value: Any) -> bool:
    return hasattr(value, "number")


def defaults(arguments: Sequence[Any], *defaults: Any) -> list[Any]:
    """Arguments, and defaults for those that are not given."""
    return [*arguments, *defaults[len(arguments) :]]


def operand(lowering: Lowering, call: Call, index: int) -> View:
    """A tensor, or a number as one."""
    value = call.arguments[index]
    if is_tensor(value):
        return lowering.argument(call, index)
    if lowering.result_dtype(call) == torch.int64 and abs(value) > LARGEST_WHOLE:
        raise NotLowered(f"the whole number {value} is larger than {LARGEST_WHOLE:,}. Use float32.")
    return lowering.emitter.number(float(value))


def scaled(e: Emitter, x: View, factor: float) -> View:
    """factor · x."""
    return x if factor == 1 else e.binary("multiply", x, e.number(factor))


def flat(view: View) -> View:
    """A parameter's numbers as one dimension."""
    if view.strides != contiguous(view.shape) and view.numel > 1:
        raise NotLowered("a parameter that is not in one piece.")
    return view.as_((view.numel,), (1,))


def by_channel(view: View) -> View:
    """One number for each channel, over what a channel has."""
    return flat(view).as_((view.numel, 1), (1, 0))


def pieces(e: Emitter, view: View) -> View:
    """In one piece, whatever its strides; also where they overlap."""
    target = e.fresh(view.shape)
    e.copy(target, view)
    return target


def reduced(lowering: Lowering, call: Call, dims: Any, index: int = 0) -> tuple[View, int]:
    """An argument as [what stays, what is reduced], and how many are reduced: all where no dimension is named."""
    x = lowering.argument(call, index)
    dims = range(len(x.shape)) if dims is None or dims == () else dims
    dims = [dim % len(x.shape) for dim in ([dims] if isinstance(dims, int) else dims)] if x.shape else []
    stay = [dim for dim in range(len(x.shape)) if dim not in dims]
    count = math.prod(x.shape[dim] for dim in dims)
    ordered = x.ordered([*stay, *dims])
    return lowering.emitter.shaped(ordered, (math.prod(x.shape[dim] for dim in stay), count)), count
