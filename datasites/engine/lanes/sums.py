"""Exact sums of clipped per-record gradients by a program of lanes: the memory it runs in, and the calls.

Sensitivity: a record's contribution is an integer vector k with ‖k‖ · grid ≤ clipping_norm, and zero where its loss,
its output or its gradient is not finite. It is a function of the model's weights and of that record alone, to the bit:
the record has a lane of its own, and of whole numbers the sum is exact in any order.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from datasites.engine.grid import grid_of
from datasites.engine.helpers import helpers, side_by_side
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.emitter import NotLowered
from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.programs import Program
from datasites.engine.lanes.records import LaneRecords
from datasites.engine.lanes.verifier import Verified
from policies.errors import DatasiteError

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Inputs = FloatArray | LaneRecords
Labels = FloatArray | None

MOST_RECORDS = 1008  # added up in 32 bits: 1023 of less than 2^21 units stay below 2^31, and 63 blocks are whole
MOST_FLOATS = 2**25  # of memory that grows with the records: 128 MiB
NEAR_FLOATS = 2**19  # that stay in a processor's nearer memory from the program's end to the sums: 2 MiB
MOST_PARAMETERS = 2**25
WORTH_A_HELPER = 3 * 2**19  # vectors of sixteen floats that a sum makes: about a third of a millisecond
ROUNDING = 2.0**-20  # see `shrinkage`


def shrinkage(parameters: int, clipping_norm: float) -> float:
    """What the clipping norm is multiplied by, so that rounding up never passes it.

    A record's number times its factor is rounded to the nearest whole number of the grid: at most half a unit each,
    √P / 2 over P parameters, less the last digits of float32. Norms are of float32 values in float64, off by less than
    2^-26 of themselves, or bounds from above (`kernels.interpreter.square_by_pairs`); the factor, and an outer
    product's left side times it, are rounded by 2^-24 each. `ROUNDING` is more than all three. Automatic clipping
    divides by the norm and a little more, so its factor is smaller yet.
    """
    return 1 - ROUNDING - math.sqrt(parameters) / 2 * grid_of(clipping_norm) / clipping_norm


class LaneSums:
    """Sums over records for one program and clipping norm. `weights` is read at each sum, and may be written between.

    Where this process has helpers (`engine.helpers`), each adds up a share of the records in memory of its own, if that
    is worth the asking. Of whole numbers the sum is the same.

    Args:
      checked: the program, verified.
      kernels: compiled, in this process.
      clipping_norm: largest L2 norm of one record's contribution.
      most: the most records that are expected; memory is taken for no more, and further ones are added in parts.
      together: blocks of records whose gradients are kept at a time; None for as many as are fastest.
      stability: 0 to shorten gradients that are longer than the clipping norm; above 0 for automatic clipping, which
        brings all of them near that length.

    Raises:
      NotLowered: a model of so many parameters that rounding would take a large part of the clipping norm.
    """

    def __init__(
        self,
        checked: Verified,
        kernels: Kernels,
        clipping_norm: float,
        *,
        most: int = MOST_RECORDS,
        together: int | None = None,
        stability: float = 0.0,
    ) -> None:
        program = checked.program
        self.program, self.kernels = program, kernels
        shrunk = shrinkage(program.parameters, clipping_norm)
        if program.parameters > MOST_PARAMETERS or shrunk < 0.99:
            raise NotLowered(f"{program.parameters} parameters are too many for sums on the grid.")
        grid = grid_of(clipping_norm)
        blocks = -(-max(1, min(MOST_RECORDS, most)) // LANES)
        blocks = min(blocks, _together(program) if together is None else together)
        self._uniforms = _aligned(program.uniforms, np.float32)
        self._uniforms[program.parameters :] = program.constants
        self.weights = self._uniforms[: program.parameters]
        self._helpers = helpers()
        if self._helpers and most * program.work < WORTH_A_HELPER * LANES:
            self._helpers = []
        unit = math.inf if stability else 1 / grid  # the largest factor
        self._parts = [
            _Part(program, kernels, self._uniforms, blocks, clipping_norm * shrunk / grid, unit, stability)
            for _ in range(1 + len(self._helpers))
        ]
        self.most = self._parts[0].most

    @property
    def total(self) -> npt.NDArray[np.int32]:
        """The memory of sums that 32 bits hold; whole vectors of it may be read."""
        return self._parts[0].total

    def put(self, parameters: Sequence[FloatArray]) -> None:
        """Write the weights, one parameter after the other."""
        place = 0
        for parameter in parameters:
            self.weights[place : place + parameter.size] = parameter.reshape(-1)
            place += parameter.size

    def sum(self, inputs: Inputs, labels: Labels, rows: IntArray) -> npt.NDArray[np.int32] | IntArray:
        """The clipped sum over records `rows`, in units of `grid_of(clipping_norm)`, of every parameter in order.

        Args:
          inputs: float32 [N, features], in one piece; or the records of a private matrix, which have their labels.
          labels: float32 [N], or None.
          rows: places in 0..N-1, in any order; an empty sum is zero.

        Returns:
          Whole numbers of all parameters; the array is written again by the next call.
        """
        if not isinstance(inputs, LaneRecords):
            self._check(inputs, labels, rows)
        if len(rows) <= MOST_RECORDS:
            return self._sum(inputs, labels, rows)
        whole = np.zeros(self.program.parameters, np.int64)
        for begin in range(0, len(rows), MOST_RECORDS):
            whole += self._sum(inputs, labels, rows[begin : begin + MOST_RECORDS])
        return whole

    def _check(self, inputs: FloatArray, labels: Labels, rows: IntArray) -> None:
        if labels is None:
            raise DatasiteError("Records of lanes have a label each.")
        for array, dtype, ndim in ((inputs, np.float32, 2), (labels, np.float32, 1), (rows, np.int64, 1)):
            if array.dtype != dtype or array.ndim != ndim or not array.flags.c_contiguous:
                raise DatasiteError("Records of lanes are float32 in one piece, and their places int64.")
        if inputs.shape[1] != self.program.features or len(labels) != len(inputs):
            raise DatasiteError("Records of lanes have other features than the program.")
        if len(rows) and int(rows.view(np.uint64).max()) >= len(inputs):  # below zero is enormous there
            raise DatasiteError("A place is outside the records.")

    def _sum(self, inputs: Inputs, labels: Labels, rows: IntArray) -> npt.NDArray[np.int32]:
        """The sum of so few records that 32 bits hold it."""
        parameters, share = self.program.parameters, self._share(len(rows))
        shares = [rows[begin : begin + share] for begin in range(0, len(rows), share)] or [rows]
        parts = self._parts[: len(shares)]
        works = [
            partial(part.sum, part.own(inputs) if number else inputs, labels, chosen)
            for number, (part, chosen) in enumerate(zip(parts, shares, strict=True))
        ]
        side_by_side(self._helpers, works)
        total = parts[0].total[:parameters]
        for part in parts[1:]:
            total += part.total[:parameters]
        return total

    def _share(self, count: int) -> int:
        """How many records this thread adds up, as every helper does: pairs of blocks, which run together."""
        if not self._helpers or count * self.program.work < WORTH_A_HELPER * LANES:
            return max(1, count)
        pairs = max(1, -(-count // (2 * LANES)))
        return -(-pairs // len(self._parts)) * 2 * LANES


class _Part:
    """The memory in which one thread runs a program and adds up, and the calls of the kernels on it."""

    def __init__(
        self,
        program: Program,
        kernels: Kernels,
        uniforms: FloatArray,
        blocks: int,
        clip: float,
        unit: float,
        stability: float,
    ) -> None:
        self._program, self._kernels = program, kernels
        left, right = program.widest()
        each = program.own + (left + right + 8) * LANES
        blocks = max(1, min(blocks, (MOST_FLOATS - 2 * program.scratch) // each))
        self.most = records = blocks * LANES
        # Where blocks run by twos, the second one's scratch lies after the memory of all blocks.
        second = program.scratch + blocks * program.own
        columns = max(program.groups[:, 3].tolist())
        self.memory = _aligned(second + program.scratch, np.float32)
        self.total = _aligned(program.parameters + 4 * (columns + LANES), np.int32)
        self._arrays: dict[str, npt.NDArray[Any]] = {
            "code": program.code,
            "terms": program.terms,
            "groups": program.groups,
            "uniforms": uniforms,
            "memory": self.memory,
            "total": self.total,
            "norms": np.zeros(records),
            "sound": np.zeros(records, np.int32),
            # -1 for a record and 0 for none: as many of the one as there are records, then the others.
            "present": np.concatenate([np.full(records, -1, np.int32), np.zeros(LANES, np.int32)]),
            "counted": np.zeros(records, np.int32),
            "scales": np.zeros(records, np.float32),
            "left": _aligned(left * records, np.float32),
            "right": _aligned(right * records, np.float32),
            "tail": _aligned(program.tail, np.int32),
            "spare": _aligned(LANES * LANES, np.float32),
            "zeros": np.zeros(LANES, np.float32),
        }
        self._at = {name: array.ctypes.data for name, array in self._arrays.items()}
        self._result = (ctypes.c_int64 * 4)()
        self._error = (ctypes.addressof(self._result), ctypes.addressof(self._result) + 8)
        self._records: tuple[LaneRecords, LaneRecords] | None = None
        self._prepare(second, clip, unit, stability)

    def own(self, inputs: Inputs) -> Inputs:
        """The same records, for the thread of this part alone: placing them takes arguments in memory of its own."""
        if not isinstance(inputs, LaneRecords):
            return inputs
        if self._records is None or self._records[0] is not inputs:
            self._records = inputs, inputs.again()
        return self._records[1]

    def sum(self, inputs: Inputs, labels: Labels, rows: IntArray) -> None:
        """The sum over `rows`, few enough for 32 bits, in `total`."""
        if len(rows) == 0:
            self.total[:] = 0
        for begin in range(0, len(rows), self.most):
            self._add(inputs, labels, rows[begin : begin + self.most], more=begin > 0)

    def _add(self, inputs: Inputs, labels: Labels, rows: IntArray, *, more: bool) -> None:
        count, entries = len(rows), self._kernels.entries
        blocks = -(-count // LANES)
        status = self._place(inputs, labels, rows)
        self._run_arguments[-3].value = blocks
        status |= entries["run"](*self._run_arguments)
        add_up = self._add_up_arguments
        add_up[7].value, add_up[8].value = blocks, count
        add_up[11].value = self._at["present"] + 4 * (self.most - count)
        add_up[-1].value = more
        status |= entries["add_up"](*add_up)
        if status:
            raise DatasiteError("A kernel reported an error, which none of them can: please report this.")

    def _place(self, inputs: Inputs, labels: Labels, rows: IntArray) -> int:
        """Put records into their lanes. Gives the kernel's status."""
        if isinstance(inputs, LaneRecords):
            return inputs.place(rows, self._at["memory"], self._at["present"] + 4 * (self.most - len(rows)))
        assert labels is not None
        program, (none, failed) = self._program, self._error
        return self._kernels.entries["place_records"](
            none, failed, self._at["memory"], program.record, program.own, program.features, program.label,
            inputs.ctypes.data, labels.ctypes.data, rows.ctypes.data, len(rows), -(-len(rows) // LANES),
            self._at["zeros"],
        )  # fmt: skip

    def _prepare(self, second: int, clip: float, unit: float, stability: float) -> None:
        """The kernels' arguments, made once."""
        program = self._program
        pointer, size = ctypes.c_void_p, ctypes.c_int64

        def pointers(names: str) -> list[ctypes.c_void_p]:
            return [pointer(self._at[name]) for name in names.split()]

        first = [pointer(address) for address in self._error]
        self._run_arguments: list[Any] = [
            *first, *pointers("code"), size(len(program.code)), *pointers("terms memory uniforms"),
            size(program.scratch), size(program.own), size(second), size(0), *pointers("norms sound"),
        ]  # fmt: skip
        self._add_up_arguments: list[Any] = [
            *first, *pointers("groups"), size(len(program.groups)), *pointers("terms memory"), size(program.own),
            size(0), size(0), *pointers("norms sound present"),
            *(ctypes.c_double(number) for number in (clip, unit, stability)),
            *pointers("scales counted left right total tail spare"), size(0),
        ]  # fmt: skip


def _together(program: Program) -> int:
    """Blocks after which what they left is added up, before it is out of near memory; but not so few that reading the
    sums of all parameters again takes longer. Of one block less than two share what they read, so they are even."""
    blocks = max(NEAR_FLOATS, 2 * program.parameters) // program.own
    return max(2, blocks // 2 * 2)


def _aligned(count: int, dtype: npt.DTypeLike) -> npt.NDArray:  # type: ignore[type-arg]
    """Zeros that begin a cache line."""
    size = np.dtype(dtype).itemsize
    room = np.zeros(count * size + 64, dtype=np.uint8)
    begin = -room.ctypes.data % 64
    return room[begin : begin + count * size].view(dtype)
