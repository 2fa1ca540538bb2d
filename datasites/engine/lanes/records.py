"""Rows of a private matrix as model inputs in lanes, by a kernel that does to the bit what `Schema.inputs` does."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.instructions import LANES
from datasites.engine.lanes.programs import Program
from policies.errors import DatasiteError
from policies.privacy.outcomes import Outcome
from policies.schema.columns import Column
from policies.schema.schemas import FIRST_COLUMN, Schema

REAL, WHOLE, LABEL, ONE_HOT, MISSING = range(5)  # kinds of inputs, as `kernels.records` numbers them

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class LaneRecords:
    """The records of one private matrix, as a program takes them.

    Args:
      inputs: of `schema`, as a mechanism names them.
      outcome: what is predicted: the label of a class is apart, values of other targets lie behind the inputs.
      matrix: float64 [N, 2 + C], in one piece; N may be 0.
      program: says where a record lies.

    Raises:
      DatasiteError: they do not go together.
    """

    def __init__(
        self,
        schema: Schema,
        inputs: str | tuple[str, ...],
        matrix: FloatArray,
        program: Program,
        kernels: Kernels,
        outcome: Outcome = Outcome.CLASS,
    ) -> None:
        self._given = (schema, inputs, matrix, program, kernels, outcome)
        width = FIRST_COLUMN + len(schema.columns)
        if matrix.dtype != np.float64 or matrix.ndim != 2 or matrix.shape[1] != width:
            raise DatasiteError(f"A private matrix is float64 [N, {width}].")
        if not matrix.flags.c_contiguous:
            raise DatasiteError("A private matrix lies in one piece.")
        kinds, bounds = recipe(schema, inputs, outcome)
        if len(kinds) != program.features + 1:
            raise DatasiteError(f"{len(kinds) - 1} inputs are not the program's {program.features}.")
        self._entry = kernels.entries["take_records"]
        self._outside, cells, result = np.zeros(1, dtype=np.int64), np.zeros(LANES), np.zeros(4, dtype=np.int64)
        self._kept = (matrix, kinds, bounds, cells, result)  # whose memory the arguments name
        pointer, size = ctypes.c_void_p, ctypes.c_int64

        def at(array: npt.NDArray[Any], place: int = 0) -> ctypes.c_void_p:
            return pointer(array.ctypes.data + place)

        self._rows, self._count, self._memory, self._present = pointer(), size(), pointer(), pointer()
        self._arguments: list[Any] = [
            at(result), at(result, 8), at(matrix), size(width), size(len(matrix)), self._rows, self._count, at(kinds),
            at(bounds), size(program.features), self._memory, size(program.record), size(program.own),
            size(program.label), self._present, at(cells), at(self._outside),
        ]  # fmt: skip

    def again(self) -> LaneRecords:
        """The same records for another thread: `place` is for one at a time."""
        return LaneRecords(*self._given)

    def place(self, rows: IntArray, memory: int, present: int) -> int:
        """Put records `rows` into lanes of the memory at that address. Gives the kernel's status.

        Args:
          present: address of as many int32 below zero as there are records, then of zeros for the rest of a block.

        Raises:
          DatasiteError: a row is outside of the matrix.
        """
        if rows.dtype != np.int64 or not rows.flags.c_contiguous:
            raise DatasiteError("Places of records are int64 in one piece.")
        self._rows.value, self._count.value = rows.ctypes.data, len(rows)
        self._memory.value, self._present.value = memory, present
        status = self._entry(*self._arguments)
        if self._outside[0]:
            raise DatasiteError("A place is outside the records.")
        return status


def recipe(
    schema: Schema, inputs: str | tuple[str, ...], outcome: Outcome = Outcome.CLASS
) -> tuple[IntArray, FloatArray]:
    """How a model's inputs, the values of a target that is no class, and last the label, are made of a row's cells.

    Returns:
      int64 [inputs + values + 1, 3]: column of the matrix, kind, category; float64, alike: what stands in for a missing
      cell, lowest and highest value.
    """
    if schema.has_terms(inputs):
        raise DatasiteError("Transformations are made before records lie in lanes.")
    kinds: list[tuple[int, int, int]] = []
    bounds: list[tuple[float, float, float]] = []

    def add(column: Column, parts: list[tuple[int, int]]) -> None:
        place = FIRST_COLUMN + schema.columns.index(column)
        kinds.extend((place, kind, category) for kind, category in parts)
        bounds.extend([(column.fill, column.low, column.high)] * len(parts))

    for name in schema.input_columns(inputs):
        add(schema.column(name), _parts(schema.column(name)))
    if outcome is not Outcome.CLASS:
        for number, name in enumerate(schema.target_columns):
            column = schema.column(name)
            scaled = outcome is Outcome.NUMBER or (outcome is Outcome.TIME and number == 0)
            add(column, _parts(column)[:1] if scaled else [(LABEL, 0)])
    add(schema.column(schema.target_columns[0]), [(LABEL, 0)])
    return np.array(kinds, dtype=np.int64), np.array(bounds, dtype=np.float64)


def _parts(column: Column) -> list[tuple[int, int]]:
    """Kind and category of each input that a column gives, as `Column.scaled` orders them."""
    if column.kind == "category" and len(column.categories) > 2:
        parts = [(ONE_HOT, category) for category in range(len(column.categories))]
    elif column.labels:
        parts = [(LABEL, 0)]
    else:
        parts = [(REAL if column.kind == "real" else WHOLE, 0)]
    return [*parts, (MISSING, 0)] if column.indicator else parts
