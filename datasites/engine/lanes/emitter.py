"""Write instructions over views: operands brought into the layout that an instruction takes, then the instruction."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.memory import Buffer, Shape, View, contiguous, runs
from policies.errors import DatasiteError

MOST_MOVES = 4096  # instructions into which one copy may fall


class NotLowered(DatasiteError):
    """A model's gradient does not become a program; it trains the former way. The text says why, for its author."""


class Emitter:
    """Collects a program's instructions and constants.

    Args:
      parameters: numbers in all parameters, which are the first of the uniforms.
    """

    def __init__(self, parameters: int) -> None:
        self.code: list[tuple[str, dict[str, View | int]]] = []
        self.constants: list[float] = []
        self._parameters = parameters
        self._known: dict[tuple[float, ...], Buffer] = {}

    def emit(self, name: str, **fields: View | int) -> None:
        """One instruction."""
        self.code.append((name, fields))

    # -- memory

    def fresh(self, shape: Sequence[int]) -> View:
        """New lane memory in one piece."""
        return View(Buffer(True, max(1, math.prod(shape))), tuple(shape), contiguous(shape))

    def numbers(self, values: Sequence[float], shape: Sequence[int]) -> View:
        """Constants; where all are one number it is kept once. -0 and NaN are told apart by their bits."""
        array = np.asarray(values, dtype=np.float32)
        alike = len(set(array.view(np.int32).tolist())) <= 1
        kept = array[:1] if alike else array
        key = tuple(kept.view(np.int32).tolist())
        if key not in self._known:
            self._known[key] = Buffer(False, len(kept), self._parameters + len(self.constants))
            self.constants.extend(kept.tolist())
        return View(self._known[key], tuple(shape), (0,) * len(shape) if alike else contiguous(shape))

    def number(self, value: float) -> View:
        """One constant, for any shape."""
        return self.numbers([value], ())

    # -- operands

    def operand(self, view: View, shape: Sequence[int], order: Sequence[int]) -> tuple[View, int]:
        """`view` broadcast to `shape`, as lanes at one stride (0 for one number) in the storage order `order`."""
        missing = len(shape) - len(view.shape)
        strides = [0] * missing + [
            0 if have == 1 else stride for have, stride in zip(view.shape, view.strides, strict=True)
        ]
        dimensions = sorted(
            (part for part in zip(order, shape, strides, strict=True) if part[1] != 1), key=lambda part: -part[0]
        )
        merged = runs((size, stride) for _, size, stride in dimensions)
        if view.buffer.lanes and len(merged) <= 1:
            return view, merged[0][1] * LANES if merged else 0
        target = View(Buffer(True, math.prod(shape)), tuple(shape), tuple(order))
        self._four(target, view, merged)
        return target, LANES

    def _four(self, target: View, source: View, merged: list[tuple[int, int]]) -> None:
        if len(merged) > 4:
            raise NotLowered("a copy over more than four dimensions.")
        padded = [(1, 0)] * (4 - len(merged)) + merged
        scale = LANES if source.buffer.lanes else 1
        sizes = {f"d{i}": size for i, (size, _) in enumerate(padded)}
        strides = {f"s{i}": stride * scale for i, (_, stride) in enumerate(padded)}
        self.emit("move" if source.buffer.lanes else "lift", y=target, x=source, **sizes, **strides)

    def dense(self, view: View) -> View:
        """The same numbers in lane memory, in one piece."""
        strides = contiguous(view.shape)
        source, stride = self.operand(view, view.shape, strides)
        if stride != LANES and view.numel > 1:
            target = self.fresh(view.shape)
            self.emit("copy", y=target, n=view.numel, x=source, sx=stride)
            return target
        return View(source.buffer, view.shape, strides, source.offset)

    def lifted(self, view: View) -> View:
        """The same in lane memory, in whatever layout."""
        return view if view.buffer.lanes else self.dense(view)

    def shaped(self, view: View, shape: Sequence[int]) -> View:
        """The same numbers in the same order, in another shape."""
        dense = self.dense(view)
        return dense.as_(shape, contiguous(shape))

    # -- arithmetic

    def unary(self, name: str, x: View, target: View | None = None, **more: View | int) -> View:
        """y = name(x), into `target` or into new memory."""
        y = self.fresh(x.shape) if target is None else target
        source, stride = self.operand(x, y.shape, y.strides)
        self.emit(name, y=y, n=y.numel, x=source, sx=stride, **more)
        return y

    def binary(self, name: str, x: View, z: View, target: View | None = None, **more: View | int) -> View:
        """y = name(x, z), each broadcast to both shapes."""
        y = self.fresh(_broadcast(x.shape, z.shape)) if target is None else target
        (left, by), (right, at) = (self.operand(view, y.shape, y.strides) for view in (x, z))
        self.emit(name, y=y, n=y.numel, x=left, sx=by, z=right, sz=at, **more)
        return y

    def where(self, flags: View, x: View, z: View, target: View | None = None) -> View:
        """x where the flag is not zero, else z."""
        shape = _broadcast(flags.shape, x.shape, z.shape)
        y = self.fresh(shape) if target is None else target
        (left, by), (right, at), (flag, to) = (self.operand(view, y.shape, y.strides) for view in (x, z, flags))
        self.emit("where", y=y, n=y.numel, x=left, sx=by, z=right, sz=at, w=flag, sw=to)
        return y

    def over(self, name: str, x: View) -> View:
        """`sum` or `maximum` over the last dimension, which stays with size 1."""
        length = x.shape[-1]
        x = self.dense(x)
        y = self.fresh((*x.shape[:-1], 1))
        self.emit(name, y=y, n=y.numel, x=x, k=length, inner=LANES, outer=LANES * length)
        return y

    # -- copies into a part of a buffer

    def fill(self, y: View, value: float) -> None:
        """One number all over a buffer in one piece."""
        self.emit("fill", y=y, n=y.numel, k=self.number(value))

    def copy(self, target: View, source: View) -> None:
        """`source` into lane memory of any layout."""
        pieces = runs(sorted(zip(target.shape, target.strides, strict=True), key=lambda part: -part[1]))
        if source.buffer.lanes and pieces and (len(pieces) > 1 or pieces[0][1] != 1):
            self._both("place", target, source, _together(target, source))
        else:
            self._pieces(target, source)

    def _pieces(self, target: View, source: View) -> None:
        """One instruction for each part that is in one piece in `target`."""
        dimensions = sorted(
            (part for part in zip(target.shape, target.strides, source.strides, strict=True) if part[0] != 1),
            key=lambda part: -part[1],
        )
        inner: list[tuple[int, int, int]] = []
        size = 1
        while dimensions and dimensions[-1][1] == size:
            inner.insert(0, dimensions.pop())
            size *= inner[0][0]
        while len(runs((length, stride) for length, _, stride in inner)) > 4:
            dimensions.append(inner.pop(0))
        size = math.prod(length for length, _, _ in inner)
        merged = runs((length, stride) for length, _, stride in inner)
        for to, of in _places(dimensions):
            self._four(target.as_((size,), (1,), to), source.as_((), (), of), merged)

    def add_to(self, target: View, source: View) -> None:
        """target += source, both of any layout in lane memory."""
        self._both("add_to", target, source, _together(target, source))

    def _both(self, name: str, target: View, source: View, dimensions: list[tuple[int, int, int]]) -> None:
        """An instruction that walks over target and source alike, once for each index of what four dimensions leave."""
        inner = [(1, 0, 0)] * (4 - len(dimensions)) + dimensions[-4:]
        fields: dict[str, View | int] = {}
        for i, (size, to, of) in enumerate(inner):
            fields |= {f"d{i}": size, f"t{i}": to * LANES, f"s{i}": of * LANES}
        for to, of in _places(dimensions[:-4]):
            self.emit(name, y=target.as_((), (), to), x=source.as_((), (), of), **fields)

    # -- products

    def matmul(self, y: View, a: View, b: View, bias: View | None = None) -> None:
        """y [M, N] = a [M, K] b [K, N] + bias [N], where one of a and b may be a parameter."""
        if not a.buffer.lanes and not b.buffer.lanes:
            a = self.lifted(a)
        (m, k), n = a.shape, b.shape[1]
        y_m, y_n = (stride * LANES for stride in y.strides)
        if a.buffer.lanes and not b.buffer.lanes:
            fields: dict[str, View | int] = {"b": -1, "bO": 0}
            if bias is not None:
                if bias.buffer.lanes or len(bias.shape) != 1:
                    raise NotLowered("a bias that depends on the record.")
                fields = {"b": bias, "bO": bias.strides[0] if bias.shape[0] != 1 else 0}
            self.emit(
                "linear", y=y, O=n, K=k, Q=m, x=a, yO=y_n, yQ=y_m, xK=a.strides[1] * LANES, xQ=a.strides[0] * LANES,
                w=b, wO=b.strides[1], wK=b.strides[0], **fields,
            )  # fmt: skip
        elif bias is not None:
            raise NotLowered("a bias that is added to a product within the record.")
        elif b.buffer.lanes and not a.buffer.lanes:
            self.emit(
                "linear", y=y, O=m, K=k, Q=n, x=b, yO=y_m, yQ=y_n, xK=b.strides[0] * LANES, xQ=b.strides[1] * LANES,
                w=a, wO=a.strides[0], wK=a.strides[1], b=-1, bO=0,
            )  # fmt: skip
        else:
            self.emit(
                "product", y=y, M=m, K=k, J=n, x=a, yM=y_m, yJ=y_n, xM=a.strides[0] * LANES, xK=a.strides[1] * LANES,
                z=b, zK=b.strides[0] * LANES, zJ=b.strides[1] * LANES,
            )  # fmt: skip


def _together(target: View, source: View) -> list[tuple[int, int, int]]:
    """Size, stride in the target and stride in the source of each dimension that both run along, the widest first."""
    joined: list[tuple[int, int, int]] = []
    dimensions = zip(target.shape, target.strides, source.strides, strict=True)
    for size, to, of in sorted((part for part in dimensions if part[0] != 1), key=lambda part: -part[1]):
        if joined and joined[-1][1] == to * size and joined[-1][2] == of * size:
            size *= joined.pop()[0]
        joined.append((size, to, of))
    return joined


def _places(dimensions: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Offsets in target and source of every index over `dimensions`."""
    if math.prod(size for size, _, _ in dimensions) > MOST_MOVES:
        raise NotLowered(f"a copy falls into more than {MOST_MOVES:,} parts. Use smaller layers.")
    return [
        (
            sum(index * to for index, (_, to, _) in zip(indices, dimensions, strict=True)),
            sum(index * of for index, (_, _, of) in zip(indices, dimensions, strict=True)),
        )
        for indices in itertools.product(*(range(size) for size, _, _ in dimensions))
    ]


def _broadcast(*shapes: Shape) -> Shape:
    """The shape that tensors of these shapes are broadcast to."""
    return tuple(np.broadcast_shapes(*shapes))


def same_layout(view: View, shape: Shape, strides: Shape) -> bool:
    """Whether a view shows a whole buffer of its own in that layout; strides of single numbers do not matter."""
    wanted = [stride for size, stride in zip(shape, strides, strict=True) if size != 1]
    have = [stride for size, stride in zip(view.shape, view.strides, strict=True) if size != 1]
    whole = view.buffer.lanes and view.offset == 0 and view.buffer.size == view.numel
    return whole and view.shape == shape and have == wanted
