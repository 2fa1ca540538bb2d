"""Check every address of a program before it runs: the kernels have no bounds checks.

Checked is also that nothing is read that this run of the program did not write. Scratch is used again by the next
block's records, and a block's own memory by the next step's: what is left there from another record stays unread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datasites.engine.lanes.instructions import INSTRUCTIONS, LANES, WORDS, Access
from datasites.engine.lanes.programs import DIRECT, OUTER, Program
from policies.errors import DatasiteError

LARGEST_MEMORY = 2**27  # floats of scratch, of a block's own memory, and of the uniforms
LARGEST_FIELD = 2**31  # so that no sum of products of two fields leaves 64 bits
LARGEST_ACCESS = 2**22  # slots that one operand of an instruction reads or writes; uniforms may be more


class ProgramRefused(DatasiteError):
    """A program reads or writes what it must not, so it does not run: a fault of the lowering."""


@dataclass(frozen=True, eq=False)
class Verified:
    """A program whose every access was checked; `verified` alone makes one."""

    program: Program


def verified(program: Program) -> Verified:
    """The program, its arrays copied and closed to changes. Raises `ProgramRefused` unless every access is in bounds.

    In bounds means: a whole number of slots from the start of its memory, wholly inside scratch, wholly inside the
    block's own memory, or wholly inside the uniforms; and what is read was written before, or is the record.
    """
    program = _closed(program)
    _check_sizes(program)
    slots = _Slots(program)
    slots.write(Access(program.record, (program.features,), (LANES,)))
    slots.write(Access(program.label, (1,), (LANES,)))
    terms = program.terms.tolist()
    for number, words in enumerate(program.code.tolist()):
        try:
            _check_instruction(words, terms, slots)
        except ProgramRefused as error:
            raise ProgramRefused(f"Instruction {number} of {len(program.code)}: {error}") from None
    _check_groups(program, terms, slots)
    return Verified(program)


def _closed(program: Program) -> Program:
    arrays: dict[str, Any] = {}
    for name, columns in (("code", WORDS), ("terms", 4), ("groups", 6)):
        arrays[name] = np.ascontiguousarray(getattr(program, name)).copy()
        if arrays[name].dtype != np.int64 or arrays[name].ndim != 2 or arrays[name].shape[1] != columns:
            raise ProgramRefused(f"{name} is {arrays[name].dtype} {arrays[name].shape}, not int64 [n, {columns}].")
    constants = np.ascontiguousarray(program.constants, dtype=np.float32).copy()
    for array in (*arrays.values(), constants):
        array.flags.writeable = False
    sizes: dict[str, Any] = {
        name: int(getattr(program, name)) for name in ("scratch", "own", "record", "label", "features", "parameters")
    }
    return replace(program, **arrays, constants=constants, **sizes)


def _check_sizes(program: Program) -> None:
    for name in ("scratch", "own"):
        size = getattr(program, name)
        if not 0 <= size <= LARGEST_MEMORY or size % LANES:
            raise ProgramRefused(f"{name} has {size} floats, which are not whole slots up to {LARGEST_MEMORY}.")
    if not (0 < program.parameters <= program.uniforms <= LARGEST_MEMORY and program.own and program.features > 0):
        raise ProgramRefused("A program has parameters, a record and memory of a block's own.")


class _Slots:
    """Which slots of scratch and of a block's own memory were written so far."""

    def __init__(self, program: Program) -> None:
        self._scratch, self._uniforms = program.scratch, program.uniforms
        self._size = program.scratch + program.own
        self._written = np.zeros(self._size // LANES, dtype=np.bool_)

    def write(self, access: Access) -> None:
        self._written[self._places(access)] = True

    def read(self, access: Access) -> None:
        if access.uniform:
            _check_runs(access, LARGEST_MEMORY)
            last = access.start + sum((n - 1) * s for n, s in zip(access.counts, access.strides, strict=True))
            if access.start < 0 or last >= self._uniforms:
                raise ProgramRefused(f"reads uniforms up to {last} of {self._uniforms}.")
        elif not self._written[self._places(access)].all():
            raise ProgramRefused(f"reads at {access.start} what was not written.")

    def own(self, access: Access) -> None:
        """The same of what the sums over records read, which is not in scratch."""
        if access.start < self._scratch:
            raise ProgramRefused(f"the sums would read scratch, at {access.start}.")
        self.read(access)

    def _places(self, access: Access) -> slice | np.ndarray:  # type: ignore[type-arg]
        _check_runs(access, LARGEST_ACCESS)
        if any(stride % LANES for stride in access.strides) or access.start % LANES:
            raise ProgramRefused(f"address {access.start} or its strides {access.strides} are not whole slots.")
        runs = list(zip(access.counts, access.strides, strict=True))
        last = access.start + sum((count - 1) * stride for count, stride in runs)  # no stride is below zero
        low, high = (0, self._scratch) if access.start < self._scratch else (self._scratch, self._size)
        if access.start < low or last >= high:
            raise ProgramRefused(f"reaches from {access.start} to {last}, outside [{low}, {high}).")
        first = access.start // LANES
        if (step := _only_step(runs)) is not None:
            return slice(first, last // LANES + 1, step // LANES)
        places = np.array([first])
        for count, stride in runs:
            places = np.add.outer(places, np.arange(count, dtype=np.int64) * (stride // LANES)).reshape(-1)
        return places


def _only_step(runs: list[tuple[int, int]]) -> int | None:
    """The step at which runs follow on each other as one, if they do; outermost first."""
    size, step = 1, LANES
    for count, stride in reversed(runs):
        if count == 1 or stride == 0:
            continue
        if size == 1:
            step = stride
        elif stride != size * step:
            return None
        size *= count
    return step


def _check_runs(access: Access, most: int) -> None:
    if not all(1 <= count <= most for count in access.counts):
        raise ProgramRefused(f"counts {access.counts} are outside [1, {most}].")
    if any(stride < 0 for stride in access.strides):
        raise ProgramRefused(f"strides {access.strides} are below zero.")
    size = 1
    for count in access.counts:
        size *= count
    if size > most:
        raise ProgramRefused(f"{size} numbers are more than {most}.")


def _check_instruction(words: list[int], terms: list[list[int]], slots: _Slots) -> None:
    if not 0 <= words[0] < len(INSTRUCTIONS):
        raise ProgramRefused(f"{words[0]} is no instruction.")
    instruction = INSTRUCTIONS[words[0]]
    fields = dict(zip(instruction.fields, words[1:], strict=False))
    if not all(-1 <= value <= LARGEST_FIELD for value in fields.values()):
        raise ProgramRefused(f"{instruction.name} has a field outside [-1, {LARGEST_FIELD}].")
    if instruction.name == "norm_terms":
        _check_terms(fields["first"], fields["T"], terms)
    for access in instruction.accesses(fields, terms):
        (slots.write if access.writes else slots.read)(access)


def _check_terms(first: int, count: int, terms: list[list[int]]) -> None:
    if not (first >= 0 and count >= 1 and first + count <= len(terms)):
        raise ProgramRefused(f"terms {first} to {first + count} of {len(terms)}.")
    for term in terms[first : first + count]:
        if not all(0 <= word <= LARGEST_FIELD for word in term):
            raise ProgramRefused(f"a term outside [0, {LARGEST_FIELD}].")


def _check_groups(program: Program, terms: list[list[int]], slots: _Slots) -> None:
    """Each parameter's place is written exactly once, in order, from what the program left in its own memory."""
    place = 0
    for kind, begin, rows, columns, first, count in program.groups.tolist():
        if kind not in (DIRECT, OUTER) or begin != place or not (1 <= rows <= LARGEST_ACCESS) or columns < 1:
            raise ProgramRefused(f"A parameter at {begin}, {rows} by {columns}, does not follow on {place}.")
        place += rows * columns
        _check_terms(first, count, terms)
        if kind == DIRECT and (columns != 1 or count != 1 or terms[first][1] != LANES):
            raise ProgramRefused("A direct gradient is one column of slots in one piece.")
        for left, left_stride, right, right_stride in terms[first : first + count]:
            slots.own(Access(left, (rows,), (left_stride,)))
            if kind == OUTER:
                slots.own(Access(right, (columns,), (right_stride,)))
    if place != program.parameters:
        raise ProgramRefused(f"Sums of {place} numbers for {program.parameters} parameters.")
