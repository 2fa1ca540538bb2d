import math

import numpy as np
import pytest

from datasites.engine import sampling
from datasites.engine.sampling import PatientRows
from tests.datasites.engine.training_factories import matrix, source

STEPS = 4000


def draws(rows: PatientRows, rate: float, steps: int = STEPS) -> list[np.ndarray]:
    return rows.samples(rate, steps, source(1), source(2))


def test_batches_are_poisson_and_not_of_fixed_size() -> None:
    sizes = np.array([len(each) for each in draws(PatientRows(matrix(500), held_out=False), 0.06)])
    mean, variance = 500 * 0.06, 500 * 0.06 * 0.94
    assert abs(sizes.mean() - mean) < 5 * math.sqrt(variance / STEPS)
    # The sample variance of n draws has deviation of about variance · √(2/n).
    assert abs(sizes.var() - variance) < 5 * variance * math.sqrt(2 / STEPS)


def test_samples_that_are_drawn_together_are_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = PatientRows(matrix(40), held_out=False)
    taken = np.zeros((STEPS, 40))
    for step, sample in enumerate(draws(rows, 0.25)):
        taken[step, sample] = 1
    following = np.corrcoef(taken[:-1].reshape(-1), taken[1:].reshape(-1))[0, 1]
    beside = np.corrcoef(taken[:, :-1].reshape(-1), taken[:, 1:].reshape(-1))[0, 1]
    assert max(abs(following), abs(beside)) < 5 / math.sqrt(40 * STEPS)
    # Where few fit together, they are as many and of the same rate.
    monkeypatch.setattr(sampling, "FLAGS_TOGETHER", 100)
    few = draws(rows, 0.25)
    assert len(few) == STEPS
    assert abs(np.mean([len(sample) for sample in few]) - 10) < 5 * math.sqrt(7.5 / STEPS)


def test_small_rates_give_empty_batches() -> None:
    assert any(len(each) == 0 for each in draws(PatientRows(matrix(10), held_out=False), 0.05, 100))


def test_patients_are_sampled_and_not_records() -> None:
    many = np.zeros((900, 6))  # patient 0 has 900 records and patient 1 has one
    one = np.array([[1.0, 0, 0, 0, 0, 0]])
    rows = PatientRows(np.concatenate([many, one]), held_out=False)
    taken = np.concatenate(draws(rows, 0.3))
    for patient in (taken < 900, taken == 900):
        assert abs(patient.sum() - 0.3 * STEPS) < 5 * math.sqrt(0.21 * STEPS)


def test_a_sampled_patient_gives_one_record_and_each_is_as_likely() -> None:
    table = matrix(20, each=5)
    table = table[np.random.default_rng(3).permutation(len(table))]
    chosen = draws(PatientRows(table, held_out=False), 0.5)
    for rows in chosen:
        assert len(np.unique(table[rows, 0])) == len(rows)
    observed = np.bincount(np.concatenate(chosen), minlength=100)
    expected = STEPS * 0.5 / 5
    assert np.abs(observed - expected).max() < 5 * math.sqrt(expected)


def test_training_and_hold_out_never_mix() -> None:
    table = matrix(50, each=3, held_out=20)
    training = PatientRows(table, held_out=False).one_of_each(source())
    held_out = PatientRows(table, held_out=True).one_of_each(source())
    assert (table[training, 1] == 0).all()
    assert len(training) == 30
    assert (table[held_out, 1] == 1).all()
    assert len(held_out) == 20


def test_a_table_without_rows_gives_empty_samples() -> None:
    rows = PatientRows(np.zeros((0, 6)), held_out=False)
    assert [len(sample) for sample in rows.samples(0.5, 3, source(), source())] == [0, 0, 0]
    assert len(rows.one_of_each(source())) == 0


def test_a_repr_tells_nothing() -> None:
    assert "object at" in repr(PatientRows(matrix(5), held_out=False))
