"""Rules of convolution and pooling, over windows that overlap where the input lies: none of them is copied."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasites.engine.gradient_recorder import Call
from datasites.engine.lanes.emitter import Emitter, NotLowered
from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.memory import Shape, View, contiguous
from datasites.engine.lanes.rules import Lowering, by_channel, defaults, pieces, rule

MOST_WINDOWS = 1024  # of an adaptive pooling, each of a size of its own
MOST_CHANNELS = 32  # that are run along before the next place of a window: as many pages of memory
FAR_APART = 64  # slots: channels that many from each other are in each other's way in a processor's nearest memory


class _Windows:
    """Where a kernel of size `kernel` stands over [channels, *size], with padding.

    `padded` is memory [channels, *size with padding]; `spread` shows it as [channels, *kernel, *places]. With `ceil` a
    last window may reach beyond the padding.
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
        self.stride, self.padding, self.dilation = stride, padding, dilation
        reach = [dilation[i] * (kernel[i] - 1) + 1 for i in range(count)]
        self.places = tuple(_places_along(size[i], reach[i], stride[i], padding[i], ceil=ceil) for i in range(count))
        if any(places < 1 for places in self.places):
            raise NotLowered("a window is larger than what it stands over.")
        # Room for the padding, and for what a last window has beyond it.
        room = tuple(
            padding[i] + max(size[i] + padding[i], (self.places[i] - 1) * stride[i] + reach[i] - padding[i])
            for i in range(count)
        )
        self._whole = (channels, *(room if room == size else _apart(room)))
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
        """x [channels, *size] with `value` as padding; to be read, since without padding it may be x itself."""
        full = self._whole == (self._channels, *self.size)
        if full and x.strides == contiguous(x.shape):
            return x
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
        """A group's parameters: [narrow, channels of a window, *kernel]."""
        shape = (self.narrow, self.wide, *self.windows.kernel)
        return self.weight.as_(shape, contiguous(shape), group * self.narrow * self.k)

    def part(self, view: View, group: int, channels: int, size: Shape) -> View:
        """A group's channels of what is in one piece, as [channels, *size]."""
        return view.as_((channels, *size), contiguous((channels, *size)), group * channels * math.prod(size))

    def flat(self, view: View, group: int) -> View:
        """The same of the side that windows are multiplied into: [narrow, *places]."""
        return self.part(view, group, self.narrow, self.windows.places)

    def gather(self, narrow: View, group: int, wide: View, bias: View | None = None) -> None:
        """narrow [narrow, *places] = weights times the windows of wide [channels, *size] + bias [narrow]."""
        spread = self.windows.spread(self.windows.padded(wide))
        _convolve(self._e, narrow, self.weights(group), spread, bias=bias)

    def scatter(self, group: int, narrow: View) -> View:
        """The other way: windows of weights times narrow, added up where they overlap, as [channels, *size].

        A number of the result is a sum over the windows that it lies in. Numbers whose places differ by whole strides
        lie at the same places of their windows: those are a convolution of `narrow`, which the places of a window
        that they lie at run over from the last to the first.
        """
        e, windows, count = self._e, self.windows, len(self.windows.size)
        axes = [
            _phases(windows.size[i], windows.kernel[i], windows.stride[i], windows.padding[i], windows.dilation[i])
            for i in range(count)
        ]
        before = [max(0, -min(phase.first for phase in axis)) for axis in axes]
        after = [
            max(0, max(phase.first + phase.reach for phase in axis) - places)
            for axis, places in zip(axes, windows.places, strict=True)
        ]
        room = tuple(sum(parts) for parts in zip(before, windows.places, after, strict=True))
        padded = narrow
        if room != windows.places:
            padded = e.fresh((self.narrow, *_apart(room)))
            e.fill(padded, 0.0)
            begin = sum(size * stride for size, stride in zip(before, padded.strides[1:], strict=True))
            e.copy(padded.as_(narrow.shape, padded.strides, begin), narrow)
        total, weights = e.fresh((self.wide, *windows.size)), self.weights(group)
        whole = [[phase for phase in axis if phase.taps] for axis in axes]
        if whole != axes:
            e.fill(total, 0.0)
        for phases in itertools.product(*whole):
            taps, counts = [phase.taps for phase in phases], [phase.count for phase in phases]
            at = [phase.first + size for phase, size in zip(phases, before, strict=True)]
            steps = padded.strides[1:]
            by = [phase.by * step for phase, step in zip(phases, steps, strict=True)]
            x = padded.as_(
                (self.narrow, *taps, *counts),
                (padded.strides[0], *by, *steps),
                sum(place * step for place, step in zip(at, steps, strict=True)),
            )
            w = weights.as_(
                (self.wide, self.narrow, *taps),
                (
                    *(weights.strides[1], weights.strides[0]),
                    *(phase.every * step for phase, step in zip(phases, weights.strides[2:], strict=True)),
                ),
                sum(phase.tap * step for phase, step in zip(phases, weights.strides[2:], strict=True)),
            )
            y = total.as_(
                (self.wide, *counts),
                (
                    total.strides[0],
                    *(stride * step for stride, step in zip(windows.stride, total.strides[1:], strict=True)),
                ),
                sum(phase.begin * step for phase, step in zip(phases, total.strides[1:], strict=True)),
            )
            _convolve(e, y, w, x, turned=True)
        return total

    def of_weights(self, target: View, narrow: View, wide: View) -> None:
        """The gradient of a group's weights, narrow times windows of wide."""
        spread = self.windows.spread(self.windows.padded(wide))
        count = len(self.windows.kernel)
        inner = _joined([(size, step) for size, step in zip(spread.shape, spread.strides, strict=True)][: 1 + count])
        places = _joined(list(zip(self.windows.places, narrow.strides[1:], spread.strides[1 + count :], strict=True)))
        inner, places = _filled(inner, 4, 2), _filled(places, 3, 3)
        self._e.emit(
            "correlate",
            y=target,
            M=self.narrow,
            yM=target.strides[0] * LANES,
            **_numbered("k", [size for size, _ in inner], 1),
            **_numbered("x", [step for _, step in inner]),
            **_numbered("q", [size for size, _, _ in places], 1),
            z=narrow,
            zM=narrow.strides[0] * LANES,
            **_numbered("z", [step for _, step, _ in places]),
            x=spread,
            **_numbered("p", [step for _, _, step in places]),
        )


@dataclass(frozen=True)
class _Phase:
    """Along one dimension, the numbers `begin`, `begin` + stride, ... of what windows stand over, `count` of them.

    Each lies in windows at `taps` of their places, `tap` and every `every`th from there. Of the one that is taken last
    the first number's window is `first`, which may be before the first there is; the others are `by` apart, and
    `reach` from `first` on no window is asked for.
    """

    begin: int
    count: int
    tap: int
    every: int
    taps: int
    first: int
    by: int

    @property
    def reach(self) -> int:
        return self.count + max(0, self.taps - 1) * self.by


def _phases(size: int, kernel: int, stride: int, padding: int, dilation: int) -> list[_Phase]:
    """All numbers of one dimension by their places in windows: number i is in window a at t if i + p = s a + d t."""
    common = math.gcd(dilation, stride)
    every, by, found = stride // common, dilation // common, []
    for rest in range(stride):
        begin = (rest - padding) % stride
        if begin >= size:
            continue
        tap = next((t for t in range(min(every, kernel)) if (t * dilation - rest) % stride == 0), None)
        taps = 0 if tap is None else -(-(kernel - tap) // every)
        first = 0 if tap is None else (begin + padding - tap * dilation) // stride - (taps - 1) * by
        found.append(_Phase(begin, -(-(size - begin) // stride) if taps else 0, tap or 0, every, taps, first, by))
    return found


def _convolve(e: Emitter, y: View, w: View, x: View, *, turned: bool = False, bias: View | None = None) -> None:
    """y [outputs, *places] = parameters w [outputs, channels, *kernel] times windows x [channels, *kernel, *places].

    Where `turned`, the windows' places run from the kernel's end.
    """
    count = len(y.shape) - 1
    inner = [(*each, 0) for each in zip(w.shape[1:], x.strides[: 1 + count], w.strides[1:], strict=True)]
    if turned:
        inner = [inner[0], *((size, by, step, int(size > 1)) for size, by, step, _ in inner[1:])]
    # The longest is run along last, unless it is of so many channels that their pages are not found at once.
    head, rest = inner[:1], inner[1:]
    inside = 1 < head[0][0] <= MOST_CHANNELS and head[0][0] > rest[-1][0]
    ordered = _filled(_kept(rest + head if inside else head + rest), 4, 4)
    places = _filled(_joined(list(zip(y.shape[1:], y.strides[1:], x.strides[1 + count :], strict=True))), 3, 3)
    given: dict[str, View | int] = {"b": -1, "bO": 0} if bias is None else {"b": bias, "bO": bias.strides[0]}
    e.emit(
        "convolve",
        y=y,
        O=y.shape[0],
        yO=y.strides[0] * LANES,
        **_numbered("q", [size for size, _, _ in places], 1),
        **_numbered("y", [step for _, step, _ in places]),
        **_numbered("p", [step for _, _, step in places]),
        x=x,
        **_numbered("k", [size for size, *_ in ordered], 1),
        **_numbered("x", [by for _, by, _, _ in ordered]),
        w=w,
        wO=w.strides[0],
        **_numbered("w", [step for _, _, step, _ in ordered], 1),
        turned=sum(flag << number for number, (*_, flag) in enumerate(ordered)),
        **given,
    )


def _numbered(name: str, values: Sequence[int], scale: int = LANES) -> dict[str, View | int]:
    return {f"{name}{number}": value * scale for number, value in enumerate(values)}


def _joined(dimensions: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Sizes and strides, outermost first, with dimensions that follow on each other everywhere made one."""
    joined: list[tuple[int, ...]] = []
    for size, *steps in dimensions:
        if size == 1:
            continue
        if joined and all(have == step * size for have, step in zip(joined[-1][1:], steps, strict=True)):
            size *= joined.pop()[0]
        joined.append((size, *steps))
    return joined


def _kept(dimensions: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, ...]]:
    """Those of more than one number: sizes, strides, flags. Unturned ones that follow on each other are made one."""
    kept: list[tuple[int, ...]] = []
    for size, by, step, flag in dimensions:
        if size == 1:
            continue
        if kept and not flag and kept[-1][1:] == (by * size, step * size, 0):
            size *= kept.pop()[0]
        kept.append((size, by, step, flag))
    return kept


def _filled(dimensions: Sequence[tuple[int, ...]], count: int, width: int) -> list[tuple[int, ...]]:
    """The same as `count` dimensions, with some of one number before them."""
    return [(1, *[0] * (width - 1))] * (count - len(dimensions)) + list(dimensions)


def _apart(room: Sequence[int]) -> Shape:
    """Room for a channel, or a little more where channels would be `FAR_APART` from each other."""
    return (*room[:-1], room[-1] + (math.prod(room) % FAR_APART == 0))


def _forward(lowering: Lowering, call: Call, c: _Convolution, *, transposed: bool) -> None:
    e, y = lowering.emitter, lowering.result(call)
    x = e.dense(lowering.argument(call, 0))
    bias = None if call.arguments[2] is None else lowering.argument(call, 2)
    with_it = bias is not None and not bias.buffer.lanes and not transposed
    for group in range(c.groups):
        if transposed:
            e.copy(c.part(y, group, c.wide, c.output_size), c.scatter(group, c.flat(x, group)))
        else:
            own = bias.as_((c.narrow,), bias.strides, group * c.narrow * bias.strides[0]) if bias and with_it else None
            c.gather(c.flat(y, group), group, c.part(x, group, c.wide, c.size), own)
    if bias is not None and not with_it:
        n = math.prod(c.output_size)
        whole = y.as_((c.outputs, n), (n, 1))
        e.binary("add", whole, by_channel(bias), whole)


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


def _of_windows(windows: _Windows, spread: View) -> dict[str, View | int]:
    """Windows over [channels, height, width] as the fields of an instruction."""
    return {
        **_numbered("q", [spread.shape[0], *windows.places], 1),
        **_numbered("p", [spread.strides[0], *spread.strides[3:]]),
        "x": spread,
        **_numbered("k", windows.kernel, 1),
        **_numbered("x", spread.strides[1:3]),
    }


@rule("aten.max_pool2d_with_indices.default")
def _max_pool(lowering: Lowering, call: Call) -> None:
    e = lowering.emitter
    windows, x = _pool(lowering, call, 0, defaults(call.arguments[1:], (), (), (0,), (1,), False))
    y = e.fresh((x.shape[0], *windows.places))
    e.emit("largest", y=y, **_of_windows(windows, windows.spread(windows.padded(x, -math.inf))))
    lowering.give(call, y, None)


@rule("aten.max_pool2d_with_indices_backward.default")
def _max_pool_backward(lowering: Lowering, call: Call) -> None:
    """To the first of the largest numbers of each window, as torch has it."""
    e = lowering.emitter
    windows, x = _pool(lowering, call, 1, call.arguments[2:7])
    padded, total = windows.padded(x, -math.inf), windows.empty(0.0)
    gradient = e.shaped(lowering.argument(call, 0), (x.shape[0], *windows.places))
    if padded.strides != total.strides:
        raise NotLowered("a pooling of numbers that are not in one piece.")
    e.emit("to_largest", y=total, z=gradient, **_of_windows(windows, windows.spread(padded)))
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
