"""Rules of convolution and pooling, over windows that show one copy of the input as they overlap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from datasites.engine.gradient_recorder import Call
from datasites.engine.lanes.emitter import Emitter, NotLowered
from datasites.engine.lanes.memory import Shape, View, contiguous
from datasites.engine.lanes.rules import Lowering, by_channel, defaults, pieces, rule

MOST_WINDOWS = 1024  # of an adaptive pooling, each of a size of its own
NEAR_SLOTS = 2**13  # of copied windows that are made at a time: half a MiB, so that a product finds them nearby


class _Windows:
    """Where a kernel of size `kernel` stands over [channels, *size], with padding.

    `padded` is new memory [channels, *size with padding]; `spread` shows it as [channels, *kernel, *places]. With
    `ceil` a last window may reach beyond the padding.
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
        *,
        ceil: bool = False,
    ) -> None:
        count = len(size)
        stride, padding, dilation = (_each(values, count) for values in (stride, padding, dilation))
        self._e, self._channels, self.size, self.kernel = e, channels, size, kernel
        self.stride, self.padding = stride, padding
        reach = [dilation[i] * (kernel[i] - 1) + 1 for i in range(count)]
        self.places = tuple(_places_along(size[i], reach[i], stride[i], padding[i], ceil=ceil) for i in range(count))
        if any(places < 1 for places in self.places):
            raise NotLowered("a window is larger than what it stands over.")
        # Room for the padding, and for what a last window has beyond it.
        room = tuple(
            padding[i] + max(size[i] + padding[i], (self.places[i] - 1) * stride[i] + reach[i] - padding[i])
            for i in range(count)
        )
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
        full = self._whole == (self._channels, *self.size)
        padded = self._e.fresh(self._whole) if full else self.empty(value)
        self._e.copy(self.core(padded), x)
        return padded

    def spread(self, padded: View) -> View:
        """All windows as they overlap: [channels, *kernel, *places]."""
        return padded.as_((self._channels, *self.kernel, *self.places), self._strides)

    def one(self, spread: View, offset: Sequence[int]) -> View:
        """Of every window the number at one place in it: [channels, *places]."""
        count = len(self.kernel)
        begin = sum(index * stride for index, stride in zip(offset, spread.strides[1 : 1 + count], strict=True))
        return spread.as_(
            (spread.shape[0], *spread.shape[1 + count :]), (spread.strides[0], *spread.strides[1 + count :]), begin
        )

    def offsets(self) -> list[tuple[int, ...]]:
        """Every place in a window, in order."""
        return list(itertools.product(*(range(length) for length in self.kernel)))

    def rows(self) -> list[tuple[int, int]]:
        """Where to begin and how many rows of places to take at a time, so that what is copied of them stays near."""
        row = self._channels * math.prod(self.kernel) * math.prod(self.places[1:])
        count = max(1, NEAR_SLOTS // row)
        return [(begin, min(count, self.places[0] - begin)) for begin in range(0, self.places[0], count)]

    def of_rows(self, spread: View, begin: int, count: int) -> View:
        """The windows of some rows of places, as they overlap."""
        shape = (self._channels, *self.kernel, count, *self.places[1:])
        return spread.as_(shape, spread.strides, begin * spread.strides[1 + len(self.kernel)])

    def unfolded(self, spread: View) -> View:
        """A copy of windows as [channels times kernel, places]: what a convolution multiplies its weights by."""
        inside = 1 + len(self.kernel)
        shape = (math.prod(spread.shape[:inside]), math.prod(spread.shape[inside:]))
        return pieces(self._e, spread).as_(shape, contiguous(shape))

    def fold(self, total: View, columns: View, begin: int, count: int) -> None:
        """Add what lies in windows of some rows of places, [channels times kernel, places], to padded memory."""
        layout = (self._channels, *self.kernel, count, *self.places[1:])
        columns = columns.as_(layout, contiguous(layout))
        spread = self.of_rows(self.spread(total), begin, count)
        for offset in self.offsets():
            self._e.add_to(self.one(spread, offset), self.one(columns, offset))


def _places_along(size: int, reach: int, stride: int, padding: int, *, ceil: bool) -> int:
    room = size + 2 * padding - reach
    if not ceil:
        return room // stride + 1
    places = -(-room // stride) + 1
    # A last window begins within the input or the padding before it.
    return places - ((places - 1) * stride >= size + padding)


def _each(values: Sequence[int], count: int) -> list[int]:
    values = list(values)
    return values if len(values) == count else values * count


# -- convolution


@rule("aten.convolution.default", "aten.convolution_backward.default")
def _convolution(lowering: Lowering, call: Call) -> None:
    backward = "backward" in str(call.operator)
    x, weight = lowering.argument(call, 1 if backward else 0), lowering.argument(call, 2 if backward else 1)
    transposed, groups = call.arguments[7 if backward else 6], call.arguments[9 if backward else 8]
    if weight.buffer.lanes or x.shape[0] != 1 or x.shape[1] % groups:
        raise NotLowered("its weights are no parameter.")
    if weight.strides != contiguous(weight.shape):
        raise NotLowered("a parameter that is not in one piece.")
    convolution = _Convolution(lowering.emitter, call.arguments[4 if backward else 3 :], x, weight)
    (_backward if backward else _forward)(lowering, call, convolution, transposed=transposed)


class _Convolution:
    """A convolution of [channels, *size], its parameters [rows, columns] for each group.

    Of a transposed one the windows stand over the output, and what it does is what another does to a gradient.
    """

    def __init__(self, e: Emitter, given: Sequence[Any], x: View, weight: View) -> None:
        stride, padding, dilation, transposed, output_padding, self.groups = given[:6]
        count, kernel = len(x.shape) - 2, weight.shape[2:]
        stride, padding, dilation, extra = (_each(part, count) for part in (stride, padding, dilation, output_padding))
        self._e, self.weight, size = e, weight, x.shape[2:]
        self.outputs = weight.shape[1] * self.groups if transposed else weight.shape[0]
        self.channels, self.size = x.shape[1], size
        over = size
        if transposed:
            over = tuple(
                (size[i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + extra[i] + 1
                for i in range(count)
            )
        self.output_size = over
        self.wide = (self.outputs if transposed else self.channels) // self.groups  # channels of a group's windows
        self.windows = _Windows(e, self.wide, over, kernel, stride, padding, dilation)
        if transposed and self.windows.places != size:
            raise NotLowered("a transposed convolution of that size.")
        if not transposed:
            self.output_size = self.windows.places
        self.narrow = (self.channels if transposed else self.outputs) // self.groups  # of the other side
        self.k, self.n = self.wide * math.prod(kernel), math.prod(self.windows.places)

    def weights(self, group: int) -> View:
        """A group's parameters: [narrow, channels of a window times kernel]."""
        return self.weight.as_((self.narrow, self.k), (self.k, 1), group * self.narrow * self.k)

    def part(self, view: View, group: int, channels: int, size: Shape) -> View:
        """A group's channels of what is in one piece, as [channels, *size]."""
        return view.as_((channels, *size), contiguous((channels, *size)), group * channels * math.prod(size))

    def flat(self, view: View, group: int) -> View:
        """The same of the side that windows are multiplied into: [narrow, places]."""
        return view.as_((self.narrow, self.n), (self.n, 1), group * self.narrow * self.n)

    def gather(self, narrow: View, group: int, wide: View) -> None:
        """narrow [narrow, places] = weights times the windows of wide [channels, *size]."""
        spread = self.windows.spread(self.windows.padded(wide))
        for begin, count in self.windows.rows():
            columns = self.windows.unfolded(self.windows.of_rows(spread, begin, count))
            self._e.matmul(self._columns(narrow, begin, count), self.weights(group), columns)

    def scatter(self, group: int, narrow: View) -> View:
        """The other way: windows of weights times narrow, added up where they overlap, as [channels, *size]."""
        total = self.windows.empty(0.0)
        for begin, count in self.windows.rows():
            part = self._columns(narrow, begin, count)
            columns = self._e.fresh((self.k, part.shape[1]))
            self._e.matmul(columns, self.weights(group).ordered((1, 0)), part)
            self.windows.fold(total, columns, begin, count)
        return self.windows.core(total)

    def of_weights(self, target: View, narrow: View, wide: View) -> None:
        """The gradient of a group's weights, narrow times windows of wide, a few channels at a time."""
        spread = self.windows.spread(self.windows.padded(wide))
        inside = self.k // self.wide
        most = max(4, NEAR_SLOTS // (inside * self.n) // 4 * 4)  # of four the columns are whole tiles of a product
        for begin in range(0, self.wide, most):
            count = min(most, self.wide - begin)
            channels = spread.as_((count, *spread.shape[1:]), spread.strides, begin * spread.strides[0])
            columns = self.windows.unfolded(channels).ordered((1, 0))
            part = target.as_((self.narrow, count * inside), target.strides, begin * inside)
            self._e.matmul(part, narrow, columns)

    def _columns(self, narrow: View, begin: int, count: int) -> View:
        """Some rows of places of [narrow, places]."""
        row = math.prod(self.windows.places[1:])
        return narrow.as_((self.narrow, count * row), narrow.strides, begin * row)


def _forward(lowering: Lowering, call: Call, c: _Convolution, *, transposed: bool) -> None:
    e, y = lowering.emitter, lowering.result(call)
    x = e.dense(lowering.argument(call, 0))
    for group in range(c.groups):
        if transposed:
            e.copy(c.part(y, group, c.wide, c.output_size), c.scatter(group, c.flat(x, group)))
        else:
            c.gather(c.flat(y, group), group, c.part(x, group, c.wide, c.size))
    if call.arguments[2] is not None:
        n = math.prod(c.output_size)
        whole = y.as_((c.outputs, n), (n, 1))
        e.binary("add", whole, by_channel(lowering.argument(call, 2)), whole)


def _backward(lowering: Lowering, call: Call, c: _Convolution, *, transposed: bool) -> None:
    e = lowering.emitter
    gradient, x = e.dense(lowering.argument(call, 0)), e.dense(lowering.argument(call, 1))
    wanted = [number is not None for number in call.results]
    of_x = e.fresh((c.channels, *c.size)) if wanted[0] else None
    of_weight = e.fresh((c.narrow * c.groups, c.k)) if wanted[1] else None
    for group in range(c.groups):
        over, narrow = (gradient, c.flat(x, group)) if transposed else (x, c.flat(gradient, group))
        wide = c.part(over, group, c.wide, c.output_size if transposed else c.size)
        if of_weight is not None:
            target = of_weight.as_((c.narrow, c.k), (c.k, 1), group * c.narrow * c.k)
            c.of_weights(target, narrow, wide)
        if of_x is None:
            continue
        if transposed:
            c.gather(c.flat(of_x, group), group, wide)
        elif c.groups == 1:
            of_x = c.scatter(group, narrow)
        else:
            e.copy(c.part(of_x, group, c.wide, c.size), c.scatter(group, narrow))
    of_bias = None
    if wanted[2]:
        n = math.prod(c.output_size)
        of_bias = e.over("sum", gradient.as_((c.outputs, n), (n, 1)))
    lowering.give(call, of_x, of_weight, of_bias)


# -- pooling


def _picture(lowering: Lowering, call: Call, index: int) -> View:
    """An argument as [channels, height, width] in lanes."""
    x = lowering.emitter.lifted(lowering.argument(call, index))
    x = x.as_(x.shape[-3:], x.strides[-3:]) if math.prod(x.shape[:-3]) == 1 else x
    if len(x.shape) != 3:
        raise NotLowered("a pooling over several records.")
    return x


def _pool(lowering: Lowering, call: Call, index: int, arguments: Sequence[Any]) -> tuple[_Windows, View]:
    """Windows of a pooling over the argument at `index`, and that argument as [channels, height, width]."""
    kernel, stride, padding, dilation, ceil = arguments
    x, kernel = _picture(lowering, call, index), tuple(_each(kernel, 2))
    windows = _Windows(
        lowering.emitter,
        x.shape[0],
        x.shape[1:],
        kernel,
        stride or kernel,
        padding or (0,),
        dilation or (1,),
        ceil=ceil,
    )
    return windows, x


@rule("aten.max_pool2d_with_indices.default")
def _max_pool(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    windows, x = _pool(lowering, call, 0, defaults(call.arguments[1:], (), (), (0,), (1,), False))
    lowering.give(call, _largest(e, windows, windows.spread(windows.padded(x, -math.inf))), None)


def _largest(e: Emitter, windows: _Windows, spread: View) -> View:
    """The largest number of each window: [channels, *places]."""
    count = len(windows.kernel)
    order = [0, *range(1 + count, 1 + 2 * count), *range(1, 1 + count)]
    rows = pieces(e, spread.ordered(order))
    size = math.prod(windows.kernel)
    shape = (spread.shape[0], *windows.places, size)
    return e.over("maximum", rows.as_(shape, contiguous(shape))).as_(shape[:-1], contiguous(shape[:-1]))


@rule("aten.max_pool2d_with_indices_backward.default")
def _max_pool_backward(lowering: Lowering, call: Call) -> None:
    """To the first of the largest numbers of each window, as torch has it."""
    e = lowering.emitter
    windows, x = _pool(lowering, call, 1, call.arguments[2:7])
    spread = windows.spread(windows.padded(x, -math.inf))
    largest = _largest(e, windows, spread)
    gradient = e.shaped(lowering.argument(call, 0), largest.shape)
    total, left = windows.empty(0.0), e.unary("copy", e.number(1.0), e.fresh(largest.shape))
    for offset in windows.offsets():
        number = pieces(e, windows.one(spread, offset))
        chosen = e.binary("multiply", e.binary("equal", number, largest), left)
        left = e.binary("subtract", left, chosen)
        part = e.where(chosen, gradient, e.number(0.0))
        e.add_to(windows.one(windows.spread(total), offset), part)
    lowering.give(call, windows.core(total))


def _average(lowering: Lowering, call: Call, index: int, arguments: Sequence[Any]) -> tuple[_Windows, View, View]:
    """Windows, the input, and what the sum of each window is divided by."""
    kernel, stride, padding, ceil, counts_padding, divisor = defaults(arguments, (), (), (0,), False, True, None)
    windows, x = _pool(lowering, call, index, [kernel, stride, padding, (1,), ceil])
    if divisor:
        return windows, x, lowering.emitter.number(float(divisor))
    lengths = []
    for i, places in enumerate(windows.places):
        step, before, have = windows.stride[i], windows.padding[i], windows.size[i]
        begins = [place * step - before for place in range(places)]
        ends = [min(begin + windows.kernel[i], have + before) for begin in begins]
        if not counts_padding:
            begins, ends = [max(begin, 0) for begin in begins], [min(end, have) for end in ends]
        lengths.append([end - begin for begin, end in zip(begins, ends, strict=True)])
    sizes = [float(high * wide) for high, wide in itertools.product(*lengths)]
    return windows, x, lowering.emitter.numbers(sizes, windows.places)


@rule("aten.avg_pool2d.default")
def _average_pool(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    windows, x, divisor = _average(lowering, call, 0, call.arguments[1:])
    spread = windows.spread(windows.padded(x))
    total = pieces(e, windows.one(spread, windows.offsets()[0]))
    for offset in windows.offsets()[1:]:
        total = e.binary("add", total, pieces(e, windows.one(spread, offset)))
    lowering.give(call, e.binary("divide", total, divisor))


@rule("aten.avg_pool2d_backward.default")
def _average_pool_backward(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    windows, x, divisor = _average(lowering, call, 1, call.arguments[2:])
    part = e.binary("divide", e.shaped(lowering.argument(call, 0), (x.shape[0], *windows.places)), divisor)
    total = windows.empty(0.0)
    for offset in windows.offsets():
        e.add_to(windows.one(windows.spread(total), offset), part)
    lowering.give(call, windows.core(total))


def _adaptive(size: Shape, places: Shape) -> list[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each place of an adaptive pooling with the part of the input that it is made of, as torch divides it."""
    if math.prod(places) > MOST_WINDOWS:
        raise NotLowered(f"more than {MOST_WINDOWS:,} parts. Use fewer.")
    return [
        (
            place,
            tuple(
                slice(i * have // n, -(-(i + 1) * have // n)) for i, have, n in zip(place, size, places, strict=True)
            ),
        )
        for place in itertools.product(*(range(n) for n in places))
    ]


def _part(x: View, part: tuple[slice, ...]) -> View:
    """What lies in a part of [channels, height, width]."""
    begin = sum(where.start * stride for where, stride in zip(part, x.strides[1:], strict=True))
    return x.as_((x.shape[0], *(where.stop - where.start for where in part)), x.strides, begin)


def _at(y: View, place: Sequence[int]) -> View:
    """One number of each channel."""
    begin = sum(index * stride for index, stride in zip(place, y.strides[1:], strict=True))
    return y.as_((y.shape[0], 1), (y.strides[0], 0), begin)


def _rows(e: Emitter, x: View, part: tuple[slice, ...]) -> View:
    """A part's numbers by channel, in one piece."""
    of_part = pieces(e, _part(x, part))
    shape = (x.shape[0], math.prod(of_part.shape[1:]))
    return of_part.as_(shape, contiguous(shape))


@rule("aten._adaptive_avg_pool2d.default", "aten.adaptive_max_pool2d.default")
def _adaptive_pool(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, _picture(lowering, call, 0)
    average, places = "avg" in str(call.operator), tuple(_each(call.arguments[1], 2))
    y = e.fresh((x.shape[0], *places))
    for place, part in _adaptive(x.shape[1:], places):
        rows = _rows(e, x, part)
        value = e.over("sum" if average else "maximum", rows)
        e.copy(_at(y, place), e.binary("divide", value, e.number(rows.shape[1])) if average else value)
    lowering.give(call, *([y] if average else [y, None]))


@rule("aten._adaptive_avg_pool2d_backward.default")
def _adaptive_average_backward(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, _picture(lowering, call, 1)
    gradient, total = _picture(lowering, call, 0), e.fresh(x.shape)
    e.fill(total, 0.0)
    for place, part in _adaptive(x.shape[1:], gradient.shape[1:]):
        region = _part(total, part)
        share = e.binary("divide", _at(gradient, place), e.number(math.prod(region.shape[1:])))
        e.add_to(region, share.as_(region.shape, (1, 0, 0)))
    lowering.give(call, total)


@rule("aten.adaptive_max_pool2d_backward.default")
def _adaptive_max_backward(lowering: Lowering, call: Call) -> None:
    e, x = lowering.emitter, _picture(lowering, call, 1)
    gradient, total = _picture(lowering, call, 0), e.fresh(x.shape)
    e.fill(total, 0.0)
    for place, part in _adaptive(x.shape[1:], gradient.shape[1:]):
        rows = _rows(e, x, part)
        largest, left = e.over("maximum", rows), e.unary("copy", e.number(1.0), e.fresh((x.shape[0], 1)))
        region = _part(total, part)
        for number, offset in enumerate(itertools.product(*(range(size) for size in region.shape[1:]))):
            column = rows.as_((x.shape[0], 1), (rows.strides[0], 0), number)
            chosen = e.binary("multiply", e.binary("equal", column, largest), left)
            left = e.binary("subtract", left, chosen)
            e.add_to(_at(region, offset), e.where(chosen, _at(gradient, place), e.number(0.0)))
    lowering.give(call, total)
