"""A record's program: its instructions, and how the sums over records read what it leaves.

The clipped sum of a parameter's gradients is read from a block's own memory in one of two ways. *Direct*: the gradient
lies there as it is. *Outer*: it is a sum of outer products left ⊗ right, of which only the factors lie there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from datasites.engine.lanes.instructions import INSTRUCTIONS

Words = npt.NDArray[np.int64]

DIRECT, OUTER = 0, 1
_TIMES = {"linear": "Q", "product": "J", "convolve": "O", "correlate": "M"}  # how often what it reads is multiplied


@dataclass(frozen=True, eq=False)
class Program:
    """What the interpreter runs. Public: made from the graph and the loss alone.

    Args:
      code: int64 [instructions, 32].
      terms: int64 [terms, 4]: address and stride of the left and of the right factor; of a direct gradient its address
        and stride, twice.
      groups: int64 [parameters, 6]: kind, place among the flat parameters, rows, columns, first term, terms.
      constants: float32, after the parameters among the uniforms.
      scratch: floats of memory that every block uses again.
      own: floats of memory of each block.
      record, label: addresses of a record's inputs and of its label.
      features: inputs of a record.
      parameters: numbers in all parameters.
      outputs: 0; or of a program that scores records how many numbers it gives of each. Such a program has no groups,
        and one term that says where they are.
    """

    code: Words
    terms: Words
    groups: Words
    constants: npt.NDArray[np.float32]
    scratch: int
    own: int
    record: int
    label: int
    features: int
    parameters: int
    outputs: int = 0

    @property
    def uniforms(self) -> int:
        """Floats that all records share."""
        return self.parameters + len(self.constants)

    @cached_property
    def work(self) -> int:
        """About how many vectors are made for one block of records; public, as the program is."""
        terms = self.terms.tolist()
        work: int = sum(rows * columns * count for _, _, rows, columns, _, count in self.groups.tolist())
        for words in self.code.tolist():
            instruction = INSTRUCTIONS[words[0]]
            fields: dict[str, int] = dict(zip(instruction.fields, words[1:], strict=False))
            sizes = [math.prod(access.counts) for access in instruction.accesses(fields, terms)]
            work += max(sizes, default=0) * fields.get(_TIMES.get(instruction.name, ""), 1)
        return work

    def widest(self) -> tuple[int, int]:
        """Floats of packed left and of packed right factors per record, at most over the parameters."""
        outer = [group for group in self.groups.tolist() if group[0] == OUTER]
        left = max((_packed(rows, terms) for _, _, rows, _, _, terms in outer), default=16)
        right = max((_packed(columns, terms) for _, _, _, columns, _, terms in outer), default=16)
        return left, right

    @property
    def tail(self) -> int:
        """Numbers that the sum of a parameter is made in where its columns are not whole panels, or its terms many."""
        outer = [group for group in self.groups.tolist() if group[0] == OUTER]
        return max(
            ((rows + 8) * (_up(columns) if terms > 1 else 16) for _, _, rows, columns, _, terms in outer), default=16
        )


def _packed(count: int, terms: int) -> int:
    return _up(count) * terms + (16 if terms > 1 else 0)


def _up(count: int) -> int:
    return (count + 15) // 16 * 16
