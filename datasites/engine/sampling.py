"""Poisson sampling of patients, then one record of each. Private rows are grouped once per job.

Sampling is of patients, so that a patient with many records weighs no more than one with a single record. What it takes
in time goes with how many are sampled, not with how many there are (`engine.gaps`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from datasites.engine.gaps import Gaps, gaps_for
from datasites.engine.lanes import compiled
from datasites.engine.lanes.samples import Line, by_kernel
from datasites.engine.matrix import HELD_OUT, PATIENT, GroupedRows
from datasites.engine.noise import NoiseSource

Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


def by_place(codes: npt.NDArray[np.float64] | Rows, size: int) -> list[tuple[Rows, Rows]]:
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

    Private in all its parts, the number of patients included; it has no public field and no telling `repr`. Rows whose
    patients come in order are not sorted; whether they do is seen in one look at all. Of `GroupedRows`, as they are
    published, none is looked at.

    Args:
      records: float64 [N, 2 + C], patient code first, then the hold-out flag; N may be 0.
      held_out: which of the two.
    """

    __slots__ = ("_begins", "_order")

    def __init__(self, records: npt.NDArray[np.float64] | GroupedRows, *, held_out: bool) -> None:
        if isinstance(records, GroupedRows):
            self._begins = records.begins(held_out=held_out)
            self._order = np.arange(self._begins[-1], dtype=self._begins.dtype)
            return
        flags = records[:, HELD_OUT] != 0
        rows = np.flatnonzero(flags if held_out else ~flags).astype(_smallest(len(records)))
        del flags
        codes = records[rows, PATIENT]
        if np.count_nonzero(codes[1:] < codes[:-1]):
            order = np.argsort(codes, kind="stable")
            codes, rows = codes[order], rows[order]
        begins = np.flatnonzero(codes[1:] != codes[:-1])
        begins += 1
        self._order = rows
        ends = ([0], begins, [len(rows)]) if len(rows) else ([0],)
        self._begins = np.concatenate(ends).astype(rows.dtype)

    @property
    def rows(self) -> npt.NDArray[np.signedinteger[Any]]:
        """All rows of this side, a patient's together."""
        return self._order

    @property
    def numbers(self) -> Rows:
        """Of each of these rows the how manieth of its patient it is, from 0."""
        begins = self._begins.astype(np.int64)
        numbers: Rows = np.arange(len(self._order)) - np.repeat(begins[:-1], np.diff(begins))
        return numbers

    def samples(self, rate: float, count: int, patients: NoiseSource, records: NoiseSource) -> list[Rows]:
        """`count` Poisson samples: one row of each patient that a sample takes, every one independently at `rate`.

        The chance is exact to 2^-64, and never above `rate`: more sampling costs more privacy. The row is uniform among
        the patient's own. The two sources keep the draw of patients apart from that of rows. Samples are drawn
        together, as one line of patients, so that they share what a draw costs by itself.
        """
        size, gaps = len(self._begins) - 1, gaps_for(rate)
        if gaps is None and rate == 1.0:
            return [self.one_of_each(records) for _ in range(count)]
        if gaps is None or not size:
            return [np.zeros(0, dtype=np.int64) for _ in range(count)]
        line = Line(size, count)
        while not line.ended:
            self._go_on(line, gaps, patients, records)
        rows, ends = line.rows[: line.count], line.ends.tolist()
        return [rows[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]

    def _go_on(self, line: Line, gaps: Gaps, patients: NoiseSource, records: NoiseSource) -> None:
        """Take as many patients of a line as the words reach that are drawn at once."""
        number = gaps.words_for(line.left)
        words, choices = patients.words(number), records.words(number)
        kernels = compiled.loaded()
        if kernels is not None and by_kernel(kernels, line, gaps, words, choices, self._order, self._begins):
            return
        distances = gaps.of(words, lambda: int(patients.words(1)[0]))
        taken = distances < gaps.largest
        places = line.place + np.cumsum(distances + taken) - taken
        line.place = int(places[-1] + taken[-1])
        chosen = np.flatnonzero(taken & (places < line.length))
        line.add(places[chosen], self._rows_of(places[chosen] % line.size, choices[: len(chosen)], records))

    def one_of_each(self, records: NoiseSource) -> Rows:
        """One row of every patient, uniform among the patient's own."""
        return self._one_of_each(np.arange(len(self._begins) - 1), records)

    def _one_of_each(self, taken: Rows, records: NoiseSource) -> Rows:
        return self._rows_of(taken, records.words(len(taken)), records)

    def _rows_of(self, taken: Rows, words: npt.NDArray[np.uint64], records: NoiseSource) -> Rows:
        """One row of each of these patients by a word each, and by further words where a word is in excess."""
        begins = self._begins[taken].astype(np.int64)
        sizes = (self._begins[taken + 1] - begins).astype(np.uint64)
        which, rest = _product(words, sizes)
        while len(again := np.flatnonzero(rest < (np.uint64(0) - sizes) % sizes)):
            which[again], rest[again] = _product(records.words(len(again)), sizes[again])
        rows: Rows = self._order[begins + which.astype(np.int64)].astype(np.int64)
        return rows


def _smallest(rows: int) -> type[np.signedinteger]:  # type: ignore[type-arg]
    """What places of rows are kept as."""
    return np.int32 if rows < 2**31 else np.int64


def _product(words: Words, bounds: Words) -> tuple[Words, Words]:
    """floor(word · bound / 2^64), and the product modulo 2^64.

    Each number below the bound comes from as many words as every other, if words are left out whose product modulo 2^64
    is below 2^64 modulo the bound (Lemire 2019, arXiv:1805.10941).
    """
    half, bits = np.uint64(2**32 - 1), np.uint64(32)
    low = (words & half) * (bounds & half)
    cross = (words >> bits) * (bounds & half) + (low >> bits)
    middle = (words & half) * (bounds >> bits) + (cross & half)
    return (words >> bits) * (bounds >> bits) + (cross >> bits) + (middle >> bits), words * bounds
