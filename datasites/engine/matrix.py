"""Layout of the private matrix: its first two columns, and the secret codes and order of its rows.

Float64 [N, 2 + C]: the patient's code, the hold-out flag, and the schema's columns in their order. Rows lie in
groups, those of a patient together. What is drawn here comes from the operating system's randomness.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.schema.columns import FloatArray, IntArray

PATIENT, HELD_OUT = 0, 1  # columns of the private matrix

Places = npt.NDArray[np.signedinteger[Any]]


def secure_permutation(size: int) -> IntArray:
    """A permutation of 0..size-1 from the operating system's randomness.

    It is the order of 64-bit random keys; two of them are equal with probability below size² / 2⁶⁵.
    """
    return np.argsort(np.frombuffer(secrets.token_bytes(8 * size), dtype=np.uint64), kind="stable").astype(np.int64)


def secure_codes(size: int) -> IntArray:
    """Different whole numbers below 2^53, which float64 holds exactly, each a draw of its own.

    All are drawn again where two are equal: with probability below size² / 2⁵⁴.
    """
    while True:
        drawn = np.frombuffer(secrets.token_bytes(8 * size), dtype=np.uint64) >> np.uint64(11)
        if len(np.unique(drawn)) == size:
            return drawn.astype(np.int64)


class GroupedRows:
    """A private matrix in the order that `grouped` gives, and where each patient's rows begin in it.

    Whoever has it need not look through the matrix: what is taken of it goes with the patients who are taken. Private
    in all its parts, so it has no telling `repr`.

    Args:
      matrix: float64 [N, 2 + C].
      training: where rows begin of each patient in training, and where the last one's end: whole numbers [P + 1].
      held_out: the same of those held out.
      tensors: what lies beside the matrix, by name, as it is stored: entry i is row i's.
    """

    __slots__ = ("_held_out", "_training", "matrix", "tensors")

    def __init__(
        self,
        matrix: FloatArray,
        training: Places,
        held_out: Places,
        tensors: Mapping[str, npt.NDArray[Any]] = MappingProxyType({}),
    ) -> None:
        self.matrix, self._training, self._held_out, self.tensors = matrix, training, held_out, tensors

    def begins(self, *, held_out: bool) -> Places:
        """Where rows begin of each patient on one side, and where the last one's end."""
        return self._held_out if held_out else self._training

    def __array__(self, dtype: npt.DTypeLike = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.matrix, dtype=dtype) if copy else np.asarray(self.matrix, dtype=dtype)

    def __len__(self) -> int:
        return len(self.matrix)

    def __repr__(self) -> str:
        return "GroupedRows(…)"


def dtype_of_places(rows: int) -> np.dtype[Any]:
    """What places among so many rows are kept as."""
    return np.dtype("<i4" if rows < 2**31 else "<i8")


def grouped(codes: IntArray, held_out: npt.NDArray[np.bool_], most: int) -> IntArray:
    """Rows by patient, at most `most` of each: every such subset, in every order, as likely.

    Those in training come first; on either side patients are in the order of their codes. Codes are secret random
    numbers, so the order tells nothing that they do not.

    Args:
      codes: of each row; `held_out`, likewise, is the same for all rows of a patient.
      most: at least 1.
    """
    order = secure_permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    side = held_out[order]
    order = np.concatenate([order[~side], order[side]])
    if len(order) <= most:
        return order
    ordered = codes[order]
    # Whoever stands `most` rows further up is the same patient: then this row is one too many.
    kept = np.ones(len(order), dtype=np.bool_)
    np.not_equal(ordered[most:], ordered[:-most], out=kept[most:])
    return order[kept]


def in_groups(records: FloatArray, most: int) -> GroupedRows:
    """A private matrix [N, 2 + C] with its groups; a copy in a new secret order where it has none.

    So it is of tables that were published before rows lay in groups.
    """
    codes, side = records[:, PATIENT], records[:, HELD_OUT] != 0
    training = int(np.count_nonzero(~side))
    parts = codes[:training], codes[training:]
    in_order = not np.any(side[:training]) and not any(np.any(part[1:] < part[:-1]) for part in parts)
    if not in_order or np.any(codes[most:] == codes[:-most]):
        return in_groups(records[grouped(codes.astype(np.int64), side, most)], most)
    begins = [np.flatnonzero(part[1:] != part[:-1]) + 1 for part in parts]
    first, second = (
        np.concatenate(([0][: len(part)], begin, [len(part)])) for part, begin in zip(parts, begins, strict=True)
    )
    kind = dtype_of_places(len(records))
    return GroupedRows(records, first.astype(kind), (second + training).astype(kind))
