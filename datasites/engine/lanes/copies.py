"""Leave out instructions that only copy: whoever makes the numbers writes them where they are wanted.

What torch calls is full of copies: gradients of gates are joined, a series is stacked, a sum goes over one number. None
of them changes a number, so a program without them computes the same bits, faster and in less memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from datasites.engine.lanes.instructions import CODES, INSTRUCTIONS, LANES
from datasites.engine.lanes.memory import Buffer, View, runs

Instruction = tuple[str, dict[str, View | int]]
Term = tuple[View, int, View, int]

_ROOM = 2**26  # numbers between buffers that have no place yet; none has more


class _Use(NamedTuple):
    """That instruction `number` reads or writes numbers `first` to `last` of a buffer."""

    number: int
    first: int
    last: int
    writes: bool


def without_copies(
    code: Sequence[Instruction], terms: Sequence[Term], always: Sequence[Buffer]
) -> tuple[list[Instruction], list[Term]]:
    """The same program with fewer copies.

    Args:
      code: instructions whose buffers have no place yet.
      terms: what the sums over records read after it.
      always: buffers that are given and stay as they are.
    """
    return _Program(code, terms, always).without_copies()


class _Program:
    """Instructions, and of every buffer what reads and writes it."""

    def __init__(self, code: Sequence[Instruction], terms: Sequence[Term], always: Sequence[Buffer]) -> None:
        self._code: list[Instruction | None] = list(code)
        self._terms = list(terms)
        self._always = {id(buffer) for buffer in always}
        self._uses: dict[int, list[_Use]] = defaultdict(list)
        self._of_terms: dict[int, set[int]] = defaultdict(set)
        for number, (left, _, right, _) in enumerate(terms):
            self._of_terms[id(left.buffer)].add(number)
            self._of_terms[id(right.buffer)].add(number)
        looked_at = {
            id(view.buffer)
            for name, fields in code
            if name in ("move", "copy", "sum")
            for view in (fields["x"], fields["y"])
            if isinstance(view, View)
        }
        for number, (name, fields) in enumerate(code):
            buffers = (view.buffer for view in fields.values() if isinstance(view, View))
            if not looked_at.isdisjoint(id(buffer) for buffer in buffers):
                self._note(number, name, fields)

    def without_copies(self) -> tuple[list[Instruction], list[Term]]:
        for number, instruction in enumerate(self._code):
            assert instruction is not None
            copied = _copied(*instruction)
            if copied is not None:
                self._leave_out(number, *copied)
        for number, instruction in enumerate(self._code):
            if instruction is not None and instruction[0] == "sum":
                self._sum_in_place(number, instruction[1])
        return [instruction for instruction in self._code if instruction is not None], self._terms

    def _note(self, number: int, name: str, fields: dict[str, View | int]) -> None:
        buffers = [view.buffer for view in fields.values() if isinstance(view, View) and view.buffer.lanes]
        at = {id(buffer): place for place, buffer in enumerate(buffers)}

        def address(value: View | int) -> int:
            if not isinstance(value, View):
                return value
            if not value.buffer.lanes:
                return value.address
            return (at[id(value.buffer)] * _ROOM + value.offset) * LANES

        placed = {field: address(value) for field, value in fields.items()}
        for access in INSTRUCTIONS[CODES[name]].accesses(placed, ()):
            if not access.uniform:
                place, first = divmod(access.start // LANES, _ROOM)
                reach = sum((count - 1) * stride for count, stride in zip(access.counts, access.strides, strict=True))
                self._uses[id(buffers[place])].append(_Use(number, first, first + reach // LANES, access.writes))

    def _leave_out(self, number: int, source: View, target: View, size: int) -> None:
        """Leave out a copy of `size` numbers in one piece, where one of its buffers can stand for the other."""
        x, y = source.buffer, target.buffer
        if x is y:
            return
        to_y = [use for use in self._uses[id(y)] if use.number != number and use.writes]
        if any(use.first < target.offset + size and use.last >= target.offset for use in to_y):
            return
        last_of_x = max((use.number for use in self._uses[id(x)] if use.writes), default=-1)
        if last_of_x > number:
            return
        if y.size == size and id(y) not in self._always:
            self._drop(number, x, y)
            self._rename(y, x, source.offset)
        elif x.size == size and id(x) not in self._always:
            self._drop(number, x, y)
            self._rename(x, y, target.offset)

    def _sum_in_place(self, number: int, fields: dict[str, View | int]) -> None:
        """Let a sum over the last of two dimensions read what was turned around for it."""
        x = fields["x"]
        assert isinstance(x, View)
        uses = self._uses[id(x.buffer)]
        makers = {use.number for use in uses if use.writes}
        if len(makers) != 1 or len(uses) != 2 or id(x.buffer) in self._of_terms:
            return
        (maker,) = makers
        instruction = self._code[maker]
        if instruction is None or instruction[0] != "move":
            return
        moved = instruction[1]
        n, k = fields["n"], fields["k"]
        source, target = moved["x"], moved["y"]
        assert isinstance(source, View)
        assert isinstance(target, View)
        layout = (moved["d0"], moved["d1"], moved["d2"], moved["d3"])
        if layout != (1, 1, n, k) or fields["inner"] != LANES or x.offset != 0 or target.offset != 0:
            return
        if any(use.writes and use.number > maker for use in self._uses[id(source.buffer)]):
            return
        self._drop(maker, source.buffer, x.buffer)
        changed = {"x": source, "outer": moved["s2"], "inner": moved["s3"]}
        self._code[number] = ("sum", {**fields, **changed})

    def _drop(self, number: int, *buffers: Buffer) -> None:
        self._code[number] = None
        for buffer in buffers:
            self._uses[id(buffer)] = [use for use in self._uses[id(buffer)] if use.number != number]

    def _rename(self, former: Buffer, buffer: Buffer, further: int) -> None:
        """Let everything that names `former` name `buffer`, `further` numbers on."""

        def renamed(value: View | int) -> View | int:
            if not isinstance(value, View) or value.buffer is not former:
                return value
            return View(buffer, value.shape, value.strides, value.offset + further)

        for use in self._uses.pop(id(former), []):
            instruction = self._code[use.number]
            if instruction is not None:
                fields = {field: renamed(value) for field, value in instruction[1].items()}
                self._code[use.number] = (instruction[0], fields)
            moved = use._replace(first=use.first + further, last=use.last + further)
            self._uses[id(buffer)].append(moved)
        for number in self._of_terms.pop(id(former), set()):
            left, by, right, at = self._terms[number]
            self._terms[number] = (renamed(left), by, renamed(right), at)  # type: ignore[assignment]
            self._of_terms[id(buffer)].add(number)
        buffer.kept = buffer.kept or former.kept


def _copied(name: str, fields: dict[str, View | int]) -> tuple[View, View, int] | None:
    """Source, target and size, where an instruction copies numbers in one piece to numbers in one piece."""
    x, y = fields.get("x"), fields.get("y")
    if not isinstance(x, View) or not isinstance(y, View):
        return None
    if name == "move":
        merged = runs((int(fields[f"d{i}"]), int(fields[f"s{i}"])) for i in range(4))  # type: ignore[arg-type]
    elif name == "copy":
        merged = runs([(int(fields["n"]), int(fields["sx"]))])  # type: ignore[arg-type]
    elif name == "sum" and fields["k"] == 1:
        merged = runs([(int(fields["n"]), int(fields["outer"]))])  # type: ignore[arg-type]
    else:
        return None
    if len(merged) > 1 or (merged and merged[0][1] != LANES):
        return None
    return x, y, merged[0][0] if merged else 1
