"""Where a program's numbers lie: buffers, views of them, and places in scratch and in a block's own memory."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from datasites.engine.lanes.instructions import LANES

Shape = tuple[int, ...]


@dataclass(eq=False)
class Buffer:
    """Memory for `size` numbers, of each record (`lanes`) or shared by all.

    Args:
      place: its address; of lane memory known when the whole program is.
      kept: lies in a block's own memory, where the sums over records find it, and not in scratch.
    """

    lanes: bool
    size: int
    place: int = -1
    kept: bool = False


@dataclass(frozen=True)
class View:
    """Some of a buffer's numbers as a tensor, strides and offset in numbers."""

    buffer: Buffer
    shape: Shape
    strides: Shape
    offset: int = 0

    @property
    def numel(self) -> int:
        """How many numbers it shows."""
        return math.prod(self.shape)

    @property
    def address(self) -> int:
        """In floats, once the buffer has its place."""
        return self.buffer.place + self.offset * (LANES if self.buffer.lanes else 1)

    def as_(self, shape: Sequence[int], strides: Sequence[int], offset: int = 0) -> View:
        """Other numbers of the same buffer, `offset` after this view's first."""
        return View(self.buffer, tuple(shape), tuple(strides), self.offset + offset)

    def ordered(self, order: Sequence[int]) -> View:
        """With its dimensions in another order."""
        return self.as_([self.shape[i] for i in order], [self.strides[i] for i in order])

    def last(self, dim: int) -> View:
        """With dimension `dim` moved to the end."""
        dim %= len(self.shape)
        return self.ordered([*(i for i in range(len(self.shape)) if i != dim), dim])

    def back(self, dim: int) -> View:
        """With the last dimension moved to `dim`."""
        order = list(range(len(self.shape) - 1))
        order.insert(dim % len(self.shape), len(self.shape) - 1)
        return self.ordered(order)


def contiguous(shape: Sequence[int]) -> Shape:
    """Strides of numbers in one piece, the last dimension fastest."""
    strides: list[int] = []
    size = 1
    for length in reversed(shape):
        strides.insert(0, size)
        size *= length
    return tuple(strides)


def runs(dimensions: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sizes and strides, outermost first, with dimensions that follow on each other made one."""
    merged: list[tuple[int, int]] = []
    for size, stride in dimensions:
        if size == 1:
            continue
        if merged and merged[-1][1] == stride * size:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    return merged


def give_places(code: Sequence[tuple[str, Mapping[str, View | int]]], always: Sequence[Buffer]) -> tuple[int, int]:
    """Give every lane buffer of `code`, and those of `always`, its place. Returns the sizes of scratch and own memory.

    Scratch is shared by buffers whose lifetimes, from the first instruction that names one to the last, do not meet.
    """
    buffers: dict[int, Buffer] = {id(buffer): buffer for buffer in always}
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, (_, fields) in enumerate(code):
        for value in fields.values():
            if isinstance(value, View) and value.buffer.lanes:
                key = id(value.buffer)
                buffers[key] = value.buffer
                first.setdefault(key, number)
                last[key] = number
    scratch = 0
    living: list[tuple[int, int, int]] = []  # place, size, last instruction; in the order of places
    ends: list[int] = []  # a heap of their last instructions
    for key in sorted((key for key in first if not buffers[key].kept), key=lambda key: first[key]):
        buffer, size, now = buffers[key], buffers[key].size * LANES, first[key]
        if ends and ends[0] < now:
            living = [part for part in living if part[2] >= now]
            while ends and ends[0] < now:
                heappop(ends)
        place = 0
        for begin, length, _ in living:
            if place + size <= begin:
                break
            place = max(place, begin + length)
        buffer.place = place
        insort(living, (place, size, last[key]))
        heappush(ends, last[key])
        scratch = max(scratch, place + size)
    own = 0
    for buffer in buffers.values():
        if buffer.kept:
            buffer.place = scratch + own
            own += buffer.size * LANES
    return scratch, own
