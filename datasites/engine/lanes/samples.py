"""A line of patients that is sampled from end to end, and the call of the kernel that goes along it."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from datasites.engine.gaps import Gaps
from datasites.engine.lanes.compiled import Kernels
from policies.errors import DatasiteError

Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int32] | npt.NDArray[np.int64]


class Line:
    """All patients of several steps in a row, and which rows were taken so far.

    Args:
      size: patients, at least 1.
      steps: how often each is in the line.
    """

    __slots__ = ("count", "ends", "length", "place", "rows", "size", "steps")

    def __init__(self, size: int, steps: int) -> None:
        self.size, self.steps, self.length = size, steps, size * steps
        self.place = self.count = 0
        self.rows = np.zeros(0, dtype=np.int64)
        self.ends = np.zeros(steps, dtype=np.int64)  # rows up to the end of each step that has been passed

    @property
    def left(self) -> int:
        """Patients that have not been passed."""
        return self.length - self.place

    @property
    def ended(self) -> bool:
        """Whether all have been passed."""
        return self.place >= self.length

    def add(self, places: Rows, rows: Rows) -> None:
        """Rows of patients at these places of the line, in order."""
        self.ends += np.searchsorted(places, np.arange(1, self.steps + 1) * self.size)
        self.rows = np.concatenate([self.rows[: self.count], rows])
        self.count += len(rows)


def by_kernel(
    kernels: Kernels,
    line: Line,
    gaps: Gaps,
    words: Words,
    choices: Words,
    order: Places,
    begins: Places,
) -> bool:
    """Go along the line as far as these words reach. False, and nothing done, where a word does not decide.

    So it is, too, of a table that needs places of 64 bits.

    Args:
      words: for gaps.
      choices: as many, for the one of a patient's rows.
      order: rows by patient; `begins` says where each patient's begin, and where the last one's end.
    """
    if order.dtype != np.int32 or begins.dtype != np.int32:
        return False
    step, place = divmod(line.place, line.size)
    state = np.array([place, step, line.count, 0], dtype=np.int64)
    rows = np.empty(line.count + len(words), dtype=np.int64)
    rows[: line.count] = line.rows[: line.count]
    ends = line.ends.copy()
    unused = (ctypes.c_int64 * 4)()
    at = ctypes.addressof(unused)
    status = kernels.entries["sample"](
        at, at + 8, words.ctypes.data, choices.ctypes.data, len(words), gaps.thresholds.ctypes.data, gaps.largest,
        gaps.cells.ctypes.data, gaps.shift, line.size, line.steps, order.ctypes.data, begins.ctypes.data,
        rows.ctypes.data, ends.ctypes.data, state.ctypes.data,
    )  # fmt: skip
    if status:
        raise DatasiteError("A kernel reported an error, which none of them can: please report this.")
    place, step, count, undecided = state.tolist()
    if undecided:
        return False
    ends[step:] = count
    line.place, line.count, line.rows, line.ends = step * line.size + place, count, rows, ends
    return True
