"""What a model gets of chosen rows: columns scaled from the private matrix, or tensors that lie beside it.

A tensor of the records is an array as `policies.schema.tensors` stores it, [N, *shape], entry i of row i: read-only,
mapped from its file, so that rows are read as they are chosen. Every record takes as many bytes, and nothing made of
one depends on another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from datasites.engine.lanes.sums import MOST_RECORDS, LaneSums
from datasites.engine.losses import Loss, compared_with
from datasites.engine.matrix import GroupedRows
from policies.errors import DatasiteError
from policies.schema.schemas import FIRST_COLUMN, Schema
from policies.schema.tensors import Stored

MOST_FLOATS = 1 << 24  # of inputs that are prepared together: 64 MiB

Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class ModelInputs:
    """Inputs of a model by rows of one private matrix. Private in all its parts, so it has no telling `repr`.

    Args:
      inputs: of `schema`, as a mechanism names them.
      matrix: float64 [N, 2 + C].
      tensors: by name, [N, *shape]; of made-up rows fewer, which lie there again and again.

    Raises:
      DatasiteError: the tensor that the inputs name is not there as the schema declares it.
    """

    __slots__ = ("_inputs", "_matrix", "_schema", "_stored", "_tensor", "shape")

    def __init__(
        self,
        schema: Schema,
        inputs: str | tuple[str, ...],
        matrix: npt.NDArray[np.float64],
        tensors: Mapping[str, Stored],
    ) -> None:
        self._schema, self._inputs, self._matrix = schema, inputs, matrix
        self._tensor = schema.tensor_of(inputs)
        self.shape = schema.input_shape(inputs)
        self._stored: Stored | None = None
        if self._tensor is not None:
            stored = tensors.get(self._tensor.name)
            if stored is None or stored.shape[1:] != self.shape or stored.dtype != np.dtype(self._tensor.dtype):
                raise DatasiteError(f"The records have no tensor {self._tensor.name!r} as it is declared.")
            self._stored = stored

    @property
    def together(self) -> int:
        """Rows whose inputs may be prepared at once: a public number, at least 1."""
        return max(1, MOST_FLOATS // math.prod(self.shape))

    @property
    def are_tensors(self) -> bool:
        """Whether they lie beside the matrix."""
        return self._tensor is not None

    def of(self, rows: IntArray) -> Float32Array:
        """Inputs [len(rows), *shape] of rows, in their order."""
        if self._tensor is None or self._stored is None:
            return self._schema.inputs(self._matrix[rows], self._inputs)
        # Of real records there are as many as rows; of none, none is asked for.
        chosen = rows if len(self._stored) >= len(self._matrix) else rows % max(1, len(self._stored))
        return self._tensor.scaled(self._stored[chosen])

    def __repr__(self) -> str:
        return "ModelInputs(…)"


class InputsOfRows(Protocol):
    """What gives a model its inputs by rows: those of a whole model, or a head's."""

    @property
    def together(self) -> int: ...
    def of(self, rows: IntArray) -> Float32Array: ...


class TensorSums:
    """Sums in lanes over records whose inputs are tensors: they are placed from arrays, some hundred at a time."""

    def __init__(
        self, sums: LaneSums, inputs: InputsOfRows, schema: Schema, matrix: npt.NDArray[np.float64], loss: Loss
    ) -> None:
        self._sums, self._inputs, self._schema, self._matrix, self._loss = sums, inputs, schema, matrix, loss
        target = schema.columns.index(schema.column(schema.target_columns[0]))
        self._label, self._place = schema.columns[target], FIRST_COLUMN + target
        self._together = min(MOST_RECORDS, inputs.together)

    def sum(self, rows: IntArray) -> IntArray | npt.NDArray[np.int32]:
        """The clipped sum over `rows`, as `LaneSums.sum`, whatever is prepared together: of whole numbers it is one."""
        if len(rows) <= self._together:
            return self._sum(rows)
        whole = np.zeros(self._sums.program.parameters, np.int64)
        for begin in range(0, len(rows), self._together):
            whole += self._sum(rows[begin : begin + self._together])
        return whole

    def _sum(self, rows: IntArray) -> IntArray | npt.NDArray[np.int32]:
        cells = self._matrix[rows]
        inputs = self._inputs.of(rows).reshape(len(rows), -1)
        if self._loss.values:  # of a target that is no class, they lie behind the inputs
            inputs = np.concatenate([inputs, compared_with(self._schema, cells, self._loss)], axis=1)
        labels = self._label.natural(cells[:, self._place]).astype(np.float32)
        return self._sums.sum(np.ascontiguousarray(inputs, np.float32), labels, np.arange(len(rows)))


def tensors_of(records: object) -> Mapping[str, Stored]:
    """Tensors of the records, by name; none of a plain matrix."""
    return records.tensors if isinstance(records, GroupedRows) else {}
