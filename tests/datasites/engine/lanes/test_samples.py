"""The kernel takes whom numpy takes of the same words, for any rate, any number of rows and wherever a draw ends."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from datasites.engine import sampling
from datasites.engine.gaps import Gaps, gaps_for
from datasites.engine.lanes import compiled
from datasites.engine.lanes.compiled import Kernels
from datasites.engine.lanes.samples import Line, by_kernel
from datasites.engine.noise import NoiseSource
from datasites.engine.sampling import PatientRows, Rows
from tests.datasites.engine.lanes.guarded import guarded, survives
from tests.datasites.engine.training_factories import source

TABLES = [(1, 1), (1, 9), (7, 30), (500, 500), (4096, 4096), (300, 5000), (3, 3)]
RATES = [1e-5, 1 / 64, 0.3, 0.9, 1 - 2.0**-53]


def table(patients: int, records: int) -> np.ndarray:  # type: ignore[type-arg]
    rows = np.zeros((records, 3))
    rows[:, 0] = np.random.default_rng(1).integers(0, patients, records)
    return rows


def both(
    rows: PatientRows, rate: float, steps: int, kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Rows], list[Rows]]:
    """Samples by numpy and by the kernel."""
    by_numpy = rows.samples(rate, steps, source(1), source(2))
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "_loaded", kernels)
        return by_numpy, rows.samples(rate, steps, source(1), source(2))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("patients", "records"), TABLES)
@pytest.mark.parametrize("words", [None, 1, 8])
def test_the_kernel_takes_whom_numpy_takes(
    words: int | None, patients: int, records: int, rate: float, kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words is not None:
        monkeypatch.setattr(Gaps, "words_for", lambda self, patients: words)
    steps = 60 if words is None else 3
    one, two = both(PatientRows(table(patients, records), held_out=False), rate, steps, kernels, monkeypatch)
    assert len(one) == len(two) == steps
    for sample, other in zip(one, two, strict=True):
        assert np.array_equal(sample, other)
        assert sample.dtype == other.dtype == np.int64


def test_the_kernel_is_what_runs(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_loaded", kernels)
    monkeypatch.setattr(Gaps, "of", None)
    rows = PatientRows(table(100, 300), held_out=False)
    assert sum(map(len, rows.samples(0.1, 50, source(1), source(2)))) > 200


@pytest.mark.parametrize("number", [1, 2, 9])
def test_a_word_that_does_not_decide_is_left_to_numpy(
    number: int, kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    gaps = gaps_for(0.3)
    assert gaps is not None
    word = int(gaps.thresholds[number - 1]) + 2**63
    words = np.array([word, 5, 7], dtype=np.uint64)
    rows = PatientRows(table(10, 20), held_out=False)
    line = Line(len(rows._begins) - 1, 4)
    assert not by_kernel(kernels, line, gaps, words, source().words(3), rows._order, rows._begins)
    assert (line.place, line.count) == (0, 0)
    # A choice in excess, of more rows than one, likewise.
    line = Line(len(rows._begins) - 1, 4)
    zero = np.zeros(3, dtype=np.uint64)
    assert not by_kernel(kernels, line, gaps, np.array([5, 6, 7], dtype=np.uint64), zero, rows._order, rows._begins)


@pytest.mark.parametrize("number", [1, 2, 9])
def test_numpy_goes_on_from_there_with_the_same_words(
    number: int, kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    gaps = gaps_for(0.3)
    assert gaps is not None
    tie = np.array([int(gaps.thresholds[number - 1]) + 2**63, 5, 7], dtype=np.uint64)

    class TieFirst(NoiseSource):
        asked = False

        def words(self, count: int) -> np.ndarray:  # type: ignore[type-arg]
            if count == 3 and not self.asked:
                self.asked = True
                return tie.copy()
            return super().words(count)

    monkeypatch.setattr(Gaps, "words_for", lambda self, patients: 3)
    rows, samples = PatientRows(table(10, 20), held_out=False), []
    for loaded in (None, kernels):
        monkeypatch.setattr(compiled, "_loaded", loaded)
        samples.append(rows.samples(0.3, 2, TieFirst(bytes(32)), source(2)))
    for sample, other in zip(*samples, strict=True):
        assert np.array_equal(sample, other)


def test_tables_that_need_places_of_64_bits_are_left_to_numpy(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = PatientRows(table(30, 90), held_out=False)
    monkeypatch.setattr(sampling, "_smallest", lambda rows: np.int64)
    long = PatientRows(table(30, 90), held_out=False)
    assert (short._order.dtype, long._order.dtype) == (np.int32, np.int64)
    for sample, other in zip(
        both(short, 0.2, 9, kernels, monkeypatch)[1], both(long, 0.2, 9, kernels, monkeypatch)[1], strict=True
    ):
        assert np.array_equal(sample, other)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("rate", [0.02, 0.9])
def test_the_kernel_stays_within_its_arrays(rate: float, at_end: bool, kernels: Kernels) -> None:
    gaps = gaps_for(rate)
    assert gaps is not None
    patients, steps, drawn = 37, 5, 400
    sizes: list[tuple[int, type[np.generic]]] = [
        (drawn, np.uint64), (drawn, np.uint64), (gaps.largest, np.int64), (len(gaps.cells), np.uint16),
        (2 * patients, np.int32), (patients + 1, np.int32), (drawn, np.int64), (steps, np.int64), (4, np.int64),
    ]  # fmt: skip
    arrays = [guarded(size, kind, at_end=at_end) for size, kind in sizes]
    words, choices, thresholds, cells, order, begins, rows, ends, state = arrays
    words[:], choices[:] = source(1).words(drawn), source(2).words(drawn)
    thresholds[:], cells[:] = gaps.thresholds, gaps.cells
    order[:], begins[:] = np.arange(2 * patients), 2 * np.arange(patients + 1)
    unused = (ctypes.c_int64 * 4)()
    at = ctypes.addressof(unused)

    def work() -> None:
        kernels.entries["sample"](
            at, at + 8, words.ctypes.data, choices.ctypes.data, drawn, thresholds.ctypes.data, gaps.largest,
            cells.ctypes.data, gaps.shift, patients, steps, order.ctypes.data, begins.ctypes.data, rows.ctypes.data,
            ends.ctypes.data, state.ctypes.data,
        )  # fmt: skip

    assert survives(work)
