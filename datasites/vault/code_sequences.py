"""Sequences of codes as the table has them, as numbers of the declared vocabulary.

A cell is a list of texts or whole numbers, or a text whose codes spaces, commas, semicolons or bars part. An empty cell
has no code. What is kept are numbers, as many for each record: those of the vocabulary from 2 on, 1 for any other code
where that is declared, and 0 in the places that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from datasites.vault.tensor_faults import TensorFault
from policies.schema.tensors import FIRST_CODE, NO_CODE, OTHER_CODE, SEPARATED, Tensor


class CodeReader:
    """Numbers of one tensor's codes."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._numbers = {code: number for number, code in enumerate(tensor.vocabulary, start=FIRST_CODE)}

    def numbers(self, cell: Any) -> npt.NDArray[np.int64]:
        """[places] of a cell in Python's own types. Raises `TensorFault`."""
        (places,) = self._tensor.shape
        codes = self._codes(cell)
        if len(codes) > places:
            codes = self._cut(codes, places)
        made = np.full(places, NO_CODE)
        made[: len(codes)] = [self._number(code) for code in codes]
        return made

    def _codes(self, cell: Any) -> Sequence[str]:
        if cell is None:
            return ()
        if isinstance(cell, str):
            return [code for code in SEPARATED.split(cell) if code]
        for code in cell:
            if code is None or isinstance(code, bool) or not isinstance(code, str | int):
                raise TensorFault(f"holds {type(code).__name__!r} among its codes; write texts or whole numbers")
        return [str(code).strip() for code in cell]

    def _cut(self, codes: Sequence[str], places: int) -> Sequence[str]:
        if self._tensor.window == "refuse":
            raise TensorFault(
                f"has {len(codes)} codes, and the schema declares {places}; write window = 'start', 'middle' or 'end'"
            )
        begin = {"start": 0, "middle": (len(codes) - places) // 2, "end": len(codes) - places}[self._tensor.window]
        return codes[begin : begin + places]

    def _number(self, code: str) -> int:
        number = self._numbers.get(code)
        if number is None and self._tensor.outside == "refuse":
            raise TensorFault(
                f"holds {code[:40]!r}, which is not in the vocabulary; add it, or write outside = 'clamp', by which it"
                " counts as other"
            )
        return OTHER_CODE if number is None else number
