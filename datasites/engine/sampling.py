"""Poisson sampling of patients, then one record of each. Private rows are grouped once per job.

Sampling is of patients, so that a patient with many records weighs no more than one with a single record.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from datasites.engine.matrix import HELD_OUT, PATIENT
from datasites.engine.noise import NoiseSource

Rows = npt.NDArray[np.intp]

FLAGS_TOGETHER = 2**19  # patients times steps whose flags are drawn at once, half a megabyte of them


def by_place(codes: npt.NDArray[np.float64], size: int) -> list[tuple[Rows, Rows]]:
    """Records as physical batches of `size` places: (indices into `codes`, their places) of each batch, one at least.

    A record's place is its patient's code modulo `size`, whoever else is there; where several share one, they come in
    several batches. Kernels round the last bit differently in different places, and a hostile model multiplies that
    bit by 10¹⁵: were places given in order, one patient more would change the gradients of all who come after.
    """
    places = codes.astype(np.int64) % size
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    first = np.searchsorted(ordered, ordered)  # where the run of each one's place begins
    layer = np.arange(len(order)) - first
    return [(order[layer == number], ordered[layer == number]) for number in range(int(layer.max(initial=0)) + 1)]


class PatientRows:
    """Rows of a private matrix by patient: either those in training or those held out, never both.

    Private in all its parts, the number of patients included; it has no public field and no telling `repr`.

    Args:
      records: float64 [N, 2 + C], patient code first, then the hold-out flag; N may be 0.
      held_out: which of the two.
    """

    __slots__ = ("_begins", "_order", "_sizes")

    def __init__(self, records: npt.NDArray[np.float64], *, held_out: bool) -> None:
        flags = records[:, HELD_OUT] != 0
        rows = np.flatnonzero(flags if held_out else ~flags)
        codes = records[rows, PATIENT]
        order = np.argsort(codes, kind="stable")
        codes = codes[order]
        first = np.ones(len(codes), dtype=np.bool_)
        np.not_equal(codes[1:], codes[:-1], out=first[1:])
        self._order = rows[order]
        self._begins = np.flatnonzero(first)
        self._sizes = np.diff(self._begins, append=len(codes))

    def samples(self, rate: float, count: int, patients: NoiseSource, records: NoiseSource) -> list[Rows]:
        """`count` Poisson samples: one row of each patient that a sample takes, every one independently at `rate`.

        The row is uniform among the patient's own. The two sources keep the draw of patients apart from that of rows.
        Several samples are drawn together, so that they share what a draw costs by itself.
        """
        size = len(self._begins)
        if not size:
            return [np.zeros(0, dtype=np.intp) for _ in range(count)]
        found: list[Rows] = []
        together = max(1, FLAGS_TOGETHER // size)
        for begin in range(0, count, together):
            steps = min(together, count - begin)
            which, taken = np.divmod(np.flatnonzero(patients.bernoulli(steps * size, rate)), size)
            ends = np.searchsorted(which, np.arange(1, steps))
            found += np.split(self._one_of_each(taken, records), ends)
        return found

    def one_of_each(self, records: NoiseSource) -> Rows:
        """One row of every patient, uniform among the patient's own."""
        return self._one_of_each(np.arange(len(self._begins)), records)

    def _one_of_each(self, taken: Rows, records: NoiseSource) -> Rows:
        rows: Rows = self._order[self._begins[taken] + records.integers(len(taken), self._sizes[taken])]
        return rows
