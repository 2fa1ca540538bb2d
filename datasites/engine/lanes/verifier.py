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
LARGEST_ACCESS = 2**22  # different slots that one operand of an instruction reads or writes; uniforms may be more


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
    if program.outputs:
        _check_outputs(program, terms, slots)
    else:
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
        name: int(getattr(program, name))
        for name in ("scratch", "own", "record", "label", "features", "parameters", "outputs")
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
        self._written = bytearray(self._size // LANES)

    def write(self, access: Access) -> None:
        places, length = self._places(access)
        for place in places:
            self._written[place] = b"\1" * length

    def read(self, access: Access) -> None:
        if access.uniform:
            _check_runs(access, LARGEST_MEMORY)
            last = access.start + sum((n - 1) * s for n, s in zip(access.counts, access.strides, strict=True))
            if access.start < 0 or last >= self._uniforms:
                raise ProgramRefused(f"reads uniforms up to {last} of {self._uniforms}.")
        elif any(0 in self._written[place] for place in self._places(access)[0]):
            raise ProgramRefused(f"reads at {access.start} what was not written.")

    def own(self, access: Access) -> None:
        """The same of what the sums over records read, which is not in scratch."""
        if access.start < self._scratch:
            raise ProgramRefused(f"the sums would read scratch, at {access.start}.")
        self.read(access)

    def _places(self, access: Access) -> tuple[list[slice], int]:
        """The slots of an access, all of them and no other, as slices of one length."""
        _check_runs(access, LARGEST_ACCESS)
        if any(stride % LANES for stride in access.strides) or access.start % LANES:
            raise ProgramRefused(f"address {access.start} or its strides {access.strides} are not whole slots.")
        reach = sum((count - 1) * stride for count, stride in zip(access.counts, access.strides, strict=True))
        low, high = (0, self._scratch) if access.start < self._scratch else (self._scratch, self._size)
        if access.start < low or access.start + reach >= high:
            raise ProgramRefused(f"reaches from {access.start} to {access.start + reach}, outside [{low}, {high}).")
        longest, step, others = _longest_run(access)
        begins = [access.start // LANES]
        for count, stride in others:
            begins = [begin + index * stride for begin in begins for index in range(count)]
        return [slice(begin, begin + (longest - 1) * step + 1, step) for begin in begins], longest


def _longest_run(access: Access) -> tuple[int, int, list[tuple[int, int]]]:
    """Count and stride in slots of the longest run that an access is made of, and of the others."""
    runs = _runs(access)
    if not runs:
        return 1, 1, []
    longest = max(runs)
    runs.remove(longest)
    return longest[0], longest[1] // LANES, [(count, stride // LANES) for count, stride in runs]


def _runs(access: Access) -> list[tuple[int, int]]:
    """Counts and strides of the same addresses, in as few dimensions as are found.

    A run of n at stride s, taken several times at a stride of m s, is one run if m is n at most: it leaves no gap. So
    windows that overlap are what they stand over.
    """
    runs: list[tuple[int, int]] = []
    for stride, count in sorted(zip(access.strides, access.counts, strict=True)):
        if count == 1 or stride == 0:
            continue
        if runs and stride % runs[-1][1] == 0 and stride // runs[-1][1] <= runs[-1][0]:
            runs[-1] = (runs[-1][0] + (count - 1) * (stride // runs[-1][1]), runs[-1][1])
        else:
            runs.append((count, stride))
    return runs


def _check_runs(access: Access, most: int) -> None:
    if not all(1 <= count <= most for count in access.counts):
        raise ProgramRefused(f"counts {access.counts} are outside [1, {most}].")
    if any(stride < 0 for stride in access.strides):
        raise ProgramRefused(f"strides {access.strides} are below zero.")
    size = 1
    for count, _ in _runs(access):
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


def _check_outputs(program: Program, terms: list[list[int]], slots: _Slots) -> None:
    """Of a program that scores records: what is read after its run is in the block's own memory."""
    if len(program.groups) or len(terms) != 1 or program.outputs < 1:
        raise ProgramRefused("A program that scores records adds up nothing and has one term.")
    _check_terms(0, 1, terms)
    slots.own(Access(terms[0][0], (program.outputs,), (terms[0][1],)))


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
