"""Rules of operators that choose: largest and smallest, their places, order, and what lies at a place.

A place that depends on the record is looked for at every place there is, so that no address depends on a record.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from datasites.engine.gradient_recorder import Call
from datasites.engine.lanes.emitter import Emitter, NotLowered
from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.memory import View, contiguous
from datasites.engine.lanes.rules import Lowering, defaults, reduced, rule

MOST_CHOSEN = 4096  # numbers of one operator that are looked for one by one
MOST_COMPARED = 2**14  # pairs of numbers that one operator compares to put them in order


# -- largest and smallest


def _largest(e: Emitter, rows: View, *, smallest: bool = False) -> View:
    """Of each row, NaN where any is."""
    if smallest:
        return e.unary("negative", e.over("maximum", e.unary("negative", rows)))
    return e.over("maximum", rows)


def _place_of(e: Emitter, rows: View, value: View) -> View:
    """The first place in each row that has the value, or that is NaN where the value is."""
    count = rows.shape[-1]
    before = e.numbers([-float(i) for i in range(count)], (count,))
    has = e.where(e.binary("unequal", rows, rows), e.number(1.0), e.binary("equal", rows, value))
    return e.unary("negative", e.over("maximum", e.where(has, before, e.number(-float(count - 1)))))


@rule("aten.amax.default", "aten.amin.default")
def _extreme(lowering: Lowering, call: Call) -> None:
    rows, _ = reduced(lowering, call, call.arguments[1] if len(call.arguments) > 1 else None)
    lowering.give(call, _largest(lowering.emitter, rows, smallest="amin" in str(call.operator)))


@rule("aten.max.dim", "aten.min.dim")
def _extreme_and_place(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    rows, _ = reduced(lowering, call, call.arguments[1])
    value = _largest(e, rows, smallest="min" in str(call.operator))
    lowering.give(call, value, _place_of(e, rows, value))


@rule("aten.argmax.default", "aten.argmin.default")
def _place(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    rows, _ = reduced(lowering, call, call.arguments[1] if len(call.arguments) > 1 else None)
    lowering.give(call, _place_of(e, rows, _largest(e, rows, smallest="argmin" in str(call.operator))))


@rule("aten.any.dim")
def _any(lowering: Lowering, call: Call) -> None:
    rows, _ = reduced(lowering, call, call.arguments[1])
    e = lowering.emitter
    lowering.give(call, e.over("maximum", e.binary("unequal", rows, e.number(0.0))))


# -- one after the other


@rule("aten.cumsum.default", "aten.cumprod.default", "aten.prod.dim_int")
def _running(lowering: Lowering, call: Call) -> None:
    e, name = lowering.emitter, str(call.operator)
    if "prod" in name and lowering.result_dtype(call) != torch.float32:
        raise NotLowered("products of whole numbers may be larger than float32 holds. Use float32.")
    rows, count = reduced(lowering, call, call.arguments[1])
    x, lines = pieces_by_column(e, rows), rows.shape[0]
    y = e.fresh((count, lines))

    def line(view: View, number: int) -> View:
        return view.as_((lines,), (1,), number * lines)

    e.unary("copy", line(x, 0), line(y, 0))
    for number in range(1, count):
        e.binary("multiply" if "prod" in name else "add", line(y, number - 1), line(x, number), line(y, number))
    if "cum" not in name:
        lowering.give(call, line(y, count - 1))
        return
    shape = lowering.argument(call, 0).shape
    dim = call.arguments[1] % len(shape) if shape else 0
    rest = [size for i, size in enumerate(shape) if i != dim]
    whole = y.as_((*rest, count), (*contiguous(rest), lines))
    lowering.give(call, whole.back(dim) if shape else whole)


def pieces_by_column(e: Emitter, rows: View) -> View:
    """Rows in one piece with the rows' index fastest."""
    turned = rows.ordered((1, 0))
    target = e.fresh(turned.shape)
    e.copy(target, turned)
    return target


# -- order


@rule("aten.sort.default", "aten.topk.default")
def _sort(lowering: Lowering, call: Call) -> None:
    """By counting what comes before each number: equal ones keep their order, and NaN counts as largest."""
    e = lowering.emitter
    if "topk" in str(call.operator):
        most, dim, descending, in_order = defaults(call.arguments[1:], None, -1, True, True)
        if not in_order:
            raise NotLowered("the largest numbers in no order. Leave sorted=True.")
    else:
        dim, descending = defaults(call.arguments[1:], -1, False)
        most = lowering.argument(call, 0).shape[dim] if lowering.argument(call, 0).shape else 1
    rows, count = reduced(lowering, call, dim)
    lines = rows.shape[0]
    if lines * count * count > MOST_COMPARED:
        raise NotLowered(
            f"{count} numbers are too many to put in order. Use at most {math.isqrt(MOST_COMPARED // lines)}."
        )
    places = _ranks(e, rows, descending=bool(descending))
    values, sources = e.fresh((lines, count)), e.fresh((lines, count))
    numbers = e.dense(e.numbers([float(i) for i in range(count)], (count,)))
    for target in (values, sources):
        e.fill(target, 0.0)
    for line, number in itertools.product(range(lines), range(count)):
        at = line * count
        z = places.as_((), (), at + number)
        for target, x in ((values, rows.as_((), (), at + number)), (sources, numbers.as_((), (), number))):
            e.emit("scatter", y=target.as_((count,), (1,), at), n=count, x=x, z=z)
    shape = lowering.argument(call, 0).shape
    dim = dim % len(shape) if shape else 0
    rest = [size for i, size in enumerate(shape) if i != dim]
    strides = [stride * count for stride in contiguous(rest)]
    given = [target.as_((*rest, most), (*strides, 1)) for target in (values, sources)]
    lowering.give(call, *(view.back(dim) if shape else view for view in given))


def _ranks(e: Emitter, rows: View, *, descending: bool) -> View:
    """How many numbers of its row come before each."""
    lines, count = rows.shape
    one = rows.as_((lines, count, 1), (*rows.strides, 0))
    other = rows.as_((lines, 1, count), (rows.strides[0], 0, rows.strides[1]))
    small, large = (one, other) if descending else (other, one)
    no_number = [e.binary("unequal", view, view) for view in (small, large)]
    earlier = e.numbers([float(j < i) for i in range(count) for j in range(count)], (count, count))
    both = e.binary("multiply", *no_number)
    alike = e.where(both, e.number(1.0), e.binary("equal", one, other))
    # A number comes before NaN, and nothing after.
    before = e.binary("less", small, large)
    before = e.where(e.binary("less", *no_number), e.number(1.0), before)
    before = e.where(alike, earlier, before)
    return e.over("sum", before).as_((lines, count), (count, 1))


# -- what lies at a place


def _lines(shape: Sequence[int], dim: int) -> Iterator[tuple[int, ...]]:
    """Every index over all dimensions but `dim`, which is 0."""
    sizes = [1 if i == dim else size for i, size in enumerate(shape)]
    return itertools.product(*(range(size) for size in sizes))


def _at(view: View, index: Sequence[int]) -> View:
    return view.as_((), (), sum(i * stride for i, stride in zip(index, view.strides, strict=True)))


def _check_count(count: int) -> None:
    if count > MOST_CHOSEN:
        raise NotLowered(f"{count} numbers at places that depend on the record. Use at most {MOST_CHOSEN:,}.")


def _picked(e: Emitter, x: View, dim: int, index: View) -> View:
    """y[..., i, ...] = x[..., index[..., i, ...], ...], with index in lanes and of as many dimensions as x."""
    _check_count(index.numel)
    x, index, y = e.lifted(x), e.lifted(index), e.fresh(index.shape)
    for line in _lines(index.shape, dim):
        for number in range(index.shape[dim]):
            place = [number if i == dim else part for i, part in enumerate(line)]
            stride = x.strides[dim] * LANES
            e.emit("gather", y=_at(y, place), n=x.shape[dim], x=_at(x, line), sx=stride, z=_at(index, place))
    return y


def _put(e: Emitter, base: View, dim: int, index: View, source: View) -> View:
    """A copy of base, with source[..., i, ...] added at index[..., i, ...]."""
    _check_count(index.numel)
    index, source = e.lifted(index), e.lifted(source)
    last = base.last(dim)
    y = pieces_of(e, last).back(dim)
    for line in _lines(index.shape, dim):
        for number in range(index.shape[dim]):
            place = [number if i == dim else part for i, part in enumerate(line)]
            target = _at(y, line).as_((base.shape[dim],), (1,))
            e.emit("scatter", y=target, n=base.shape[dim], x=_at(source, place), z=_at(index, place))
    return y


def pieces_of(e: Emitter, view: View) -> View:
    """A copy in lane memory, in one piece."""
    target = e.fresh(view.shape)
    e.unary("copy", view, target)
    return target


def _spread(index: View, dim: int, shape: Sequence[int]) -> View:
    """A list of places as a tensor of `shape`, the same for every other dimension."""
    return index.as_(shape, [index.strides[0] if i == dim and index.shape else 0 for i in range(len(shape))])


def _whole(values: Tensor | None) -> list[int] | None:
    return None if values is None else [int(value) for value in values.reshape(-1).tolist()]


@rule("aten.index_select.default")
def _index_select(lowering: Lowering, call: Call) -> None:
    e, x, dim = lowering.emitter, lowering.argument(call, 0), call.arguments[1]
    if not x.shape:
        raise NotLowered("a choice of that shape.")
    dim %= len(x.shape)
    known = _whole(lowering.known(call, 2))
    shape = tuple(lowering.layout(call).shape)
    if known is None:
        lowering.give(call, _picked(e, x, dim, _spread(lowering.argument(call, 2), dim, shape)))
        return
    y = lowering.result(call)
    one = [1 if i == dim else size for i, size in enumerate(shape)]
    for number, place in enumerate(known):
        e.copy(y.as_(one, y.strides, number * y.strides[dim]), x.as_(one, x.strides, place * x.strides[dim]))


@rule("aten.index_add.default")
def _index_add(lowering: Lowering, call: Call) -> None:
    e, base, source = lowering.emitter, lowering.argument(call, 0), lowering.argument(call, 3)
    if call.keywords.get("alpha", 1) != 1 or not base.shape:
        raise NotLowered("an addition at places with a factor.")
    dim = call.arguments[1] % len(base.shape)
    known = _whole(lowering.known(call, 2))
    if known is None:
        lowering.give(call, _put(e, base, dim, _spread(lowering.argument(call, 2), dim, source.shape), source))
        return
    y, source = pieces_of(e, base), e.lifted(source)
    one = [1 if i == dim else size for i, size in enumerate(source.shape)]
    for number, place in enumerate(known):
        part = source.as_(one, source.strides, number * source.strides[dim])
        e.add_to(y.as_(one, y.strides, place * y.strides[dim]), part)
    lowering.give(call, y)


@rule("aten.gather.default")
def _gather(lowering: Lowering, call: Call) -> None:
    x, index = lowering.argument(call, 0), lowering.argument(call, 2)
    _check_places(x, index, call)
    lowering.give(call, _picked(lowering.emitter, x, call.arguments[1] % len(x.shape), index))


@rule("aten.scatter_add.default", "aten.scatter.src")
def _scatter(lowering: Lowering, call: Call) -> None:
    """Of `scatter.src` the base is zero and no place occurs twice: it is how gradients go to what was chosen."""
    base, index, source = (lowering.argument(call, number) for number in (0, 2, 3))
    _check_places(base, index, call)
    if "src" in str(call.operator):
        known = lowering.known(call, 0)
        if known is None or bool(known.any()):
            raise NotLowered("numbers are replaced at places that depend on the record.")
    lowering.give(call, _put(lowering.emitter, base, call.arguments[1] % len(base.shape), index, source))


def _check_places(x: View, index: View, call: Call) -> None:
    dim = call.arguments[1]
    others = [i for i in range(len(x.shape)) if i != dim % max(1, len(x.shape))]
    if not x.shape or len(x.shape) != len(index.shape) or any(index.shape[i] > x.shape[i] for i in others):
        raise NotLowered("a choice of that shape.")


# -- tables


def one_hot(e: Emitter, indices: View, size: int) -> View:
    """[places, size] with 1 at each place's index."""
    indices = e.shaped(indices, (indices.numel, 1))
    return e.binary("equal", indices, e.numbers([float(i) for i in range(size)], (size,)))


@rule("aten.embedding.default")
def _embedding(lowering: Lowering, call: Call) -> None:
    """Rows of a table, each as the product of the table and a vector that is 1 at the row's place."""
    e, table, indices = lowering.emitter, lowering.argument(call, 0), lowering.argument(call, 1)
    y = lowering.result(call)
    rows = y.as_((indices.numel, table.shape[1]), (table.shape[1], 1))
    e.matmul(rows, one_hot(e, indices, table.shape[0]), table)


@rule("aten.embedding_dense_backward.default")
def _embedding_backward(lowering: Lowering, call: Call) -> None:
    e, size = lowering.emitter, int(call.arguments[2])
    gradient, indices = lowering.argument(call, 0), lowering.argument(call, 1)
    rows = e.shaped(gradient, (indices.numel, gradient.shape[-1]))
    e.matmul(lowering.result(call), one_hot(e, indices, size).ordered((1, 0)), rows)
