"""Exact sums of clipped per-record gradients by a program of lanes: the memory it runs in, and the calls.

Sensitivity: a record's contribution is an integer vector k with ‖k‖ · grid ≤ clipping_norm, and zero where its loss,
its output or its gradient is not finite. It is a function of the model's weights and of that record alone, to the bit:
the record has a lane of its own, and of whole numbers the sum is exact in any order.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from datasites.engine.grid import grid_of
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.emitter import NotLowered
from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.programs import Program
from datasites.engine.lanes.records import LaneRecords
from datasites.engine.lanes.verifier import Verified
from policies.errors import DatasiteError

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

MOST_RECORDS = 1008  # added up in 32 bits: 1023 of less than 2^21 units stay below 2^31, and 63 blocks are whole
MOST_FLOATS = 2**25  # of memory that grows with the records: 128 MiB
NEAR_FLOATS = 2**19  # that stay in a processor's nearer memory from the program's end to the sums: 2 MiB
MOST_PARAMETERS = 2**25
ROUNDING = 2.0**-20  # see `shrinkage`


def shrinkage(parameters: int, clipping_norm: float) -> float:
    """What the clipping norm is multiplied by, so that rounding up never passes it.

    A record's number times its factor is rounded to the nearest whole number of the grid: at most half a unit each,
    √P / 2 over P parameters, less the last digits of float32. Norms are of float32 values in float64, off by less than
    2^-26 of themselves, or bounds from above (`kernels.interpreter.square_by_pairs`); the factor, and an outer
    product's left side times it, are rounded by 2^-24 each. `ROUNDING` is more than all three.
    """
    return 1 - ROUNDING - math.sqrt(parameters) / 2 * grid_of(clipping_norm) / clipping_norm


class LaneSums:
    """Sums over records for one program and clipping norm. `weights` is read at each sum, and may be written between.

    Args:
      checked: the program, verified.
      kernels: compiled, in this process.
      clipping_norm: largest L2 norm of one record's contribution.
      most: the most records that are expected; memory is taken for no more, and further ones are added in parts.
      together: blocks of records whose gradients are kept at a time; None for as many as are fastest.

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
    ) -> None:
        program = checked.program
        self._program, self._kernels = program, kernels
        shrunk = shrinkage(program.parameters, clipping_norm)
        if program.parameters > MOST_PARAMETERS or shrunk < 0.99:
            raise NotLowered(f"{program.parameters} parameters are too many for sums on the grid.")
        grid = grid_of(clipping_norm)
        self._clip, self._unit = clipping_norm * shrunk / grid, 1 / grid
        left, right = program.widest()
        blocks = -(-max(1, min(MOST_RECORDS, most)) // LANES)
        each = program.own + (left + right + 8) * LANES
        blocks = max(1, min(blocks, (MOST_FLOATS - 2 * program.scratch) // each))
        blocks = min(blocks, _together(program) if together is None else together)
        self.most = records = blocks * LANES
        # Blocks run by twos: the second one's scratch lies after the memory of all blocks.
        self._second = program.scratch + blocks * program.own
        self._memory = _aligned(self._second + program.scratch, np.float32)
        self._uniforms = _aligned(program.uniforms, np.float32)
        self._uniforms[program.parameters :] = program.constants
        self.weights = self._uniforms[: program.parameters]
        self._norms = np.zeros(records)
        # -1 for a record and 0 for none: as many of the one as there are records, then the others.
        self._sound, self._counted = np.zeros(records, np.int32), np.zeros(records, np.int32)
        self._present = np.concatenate([np.full(records, -1, np.int32), np.zeros(LANES, np.int32)])
        self._scales, self._ones = np.zeros(records, np.float32), np.ones(records, np.float32)
        self._left, self._right = _aligned(left * records, np.float32), _aligned(right * records, np.float32)
        columns = max(program.groups[:, 3].tolist())
        self.total = _aligned(program.parameters + 4 * (columns + LANES), np.int32)
        self._tail, self._spare = _aligned(program.tail, np.int32), _aligned(LANES * LANES, np.float32)
        self._zeros = np.zeros(LANES, np.float32)
        self._prepare()

    @property
    def program(self) -> Program:
        """Where records lie, and how many parameters there are."""
        return self._program

    @property
    def kernels(self) -> Kernels:
        """What it runs on."""
        return self._kernels

    def put(self, parameters: Sequence[FloatArray]) -> None:
        """Write the weights, one parameter after the other."""
        place = 0
        for parameter in parameters:
            self.weights[place : place + parameter.size] = parameter.reshape(-1)
            place += parameter.size

    def sum(
        self, inputs: FloatArray | LaneRecords, labels: FloatArray | None, rows: IntArray
    ) -> npt.NDArray[np.int32] | IntArray:
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
        parameters = self._program.parameters
        if len(rows) <= MOST_RECORDS:
            self._sum(inputs, labels, rows)
            return self.total[:parameters]
        whole = np.zeros(parameters, np.int64)
        for begin in range(0, len(rows), MOST_RECORDS):
            self._sum(inputs, labels, rows[begin : begin + MOST_RECORDS])
            whole += self.total[:parameters]
        return whole

    def _check(self, inputs: FloatArray, labels: FloatArray | None, rows: IntArray) -> None:
        if labels is None:
            raise DatasiteError("Records of lanes have a label each.")
        for array, dtype, ndim in ((inputs, np.float32, 2), (labels, np.float32, 1), (rows, np.int64, 1)):
            if array.dtype != dtype or array.ndim != ndim or not array.flags.c_contiguous:
                raise DatasiteError("Records of lanes are float32 in one piece, and their places int64.")
        if inputs.shape[1] != self._program.features or len(labels) != len(inputs):
            raise DatasiteError("Records of lanes have other features than the program.")
        if len(rows) and int(rows.view(np.uint64).max()) >= len(inputs):  # below zero is enormous there
            raise DatasiteError("A place is outside the records.")

    def _place(self, inputs: FloatArray | LaneRecords, labels: FloatArray | None, rows: IntArray) -> int:
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

    def _sum(self, inputs: FloatArray | LaneRecords, labels: FloatArray | None, rows: IntArray) -> None:
        """The sum of so few records that 32 bits hold it, in `total`."""
        if len(rows) == 0:
            self.total[:] = 0
        for begin in range(0, len(rows), self.most):
            self._add(inputs, labels, rows[begin : begin + self.most], more=begin > 0)

    def _add(self, inputs: FloatArray | LaneRecords, labels: FloatArray | None, rows: IntArray, *, more: bool) -> None:
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

    def _prepare(self) -> None:
        """The kernels' arguments, made once."""
        program = self._program
        arrays = {
            "code": program.code, "terms": program.terms, "groups": program.groups, "memory": self._memory,
            "uniforms": self._uniforms, "norms": self._norms, "sound": self._sound, "present": self._present,
            "scales": self._scales, "counted": self._counted, "ones": self._ones, "left": self._left,
            "right": self._right, "total": self.total, "tail": self._tail, "spare": self._spare, "zeros": self._zeros,
        }  # fmt: skip
        self._at = {name: array.ctypes.data for name, array in arrays.items()}
        self._result = (ctypes.c_int64 * 4)()
        self._error = (ctypes.addressof(self._result), ctypes.addressof(self._result) + 8)
        pointer, size = ctypes.c_void_p, ctypes.c_int64

        def pointers(names: str) -> list[ctypes.c_void_p]:
            return [pointer(self._at[name]) for name in names.split()]

        first = [pointer(address) for address in self._error]
        self._run_arguments: list[Any] = [
            *first, *pointers("code"), size(len(program.code)), *pointers("terms memory uniforms"),
            size(program.scratch), size(program.own), size(self._second), size(0), *pointers("norms sound"),
        ]  # fmt: skip
        self._add_up_arguments: list[Any] = [
            *first, *pointers("groups"), size(len(program.groups)), *pointers("terms memory"), size(program.own),
            size(0), size(0), *pointers("norms sound present"), ctypes.c_double(self._clip),
            ctypes.c_double(self._unit), *pointers("scales counted ones left right total tail spare"), size(0),
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
