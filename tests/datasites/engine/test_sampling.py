import math

import numpy as np
import pytest
import torch

from datasites.engine.evaluation import score_histogram
from datasites.engine.gaps import LARGEST_GAP, Gaps, gaps_for
from datasites.engine.matrix import GroupedRows, in_groups
from datasites.engine.sampling import PatientRows, _product
from datasites.engine.training import train_round
from tests.datasites.engine.training_factories import Sigmoid, evaluation, exported, matrix, mechanism, schema, source

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
    # Where words do not reach the end of the line, it goes on from there.
    monkeypatch.setattr(Gaps, "words_for", lambda self, patients: 7)
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


@pytest.mark.parametrize("rate", [0.5, 0.03, 1.0, 2.0**-66])
def test_rows_in_order_and_in_any_order_give_the_same_patients(rate: float) -> None:
    table = matrix(30, each=3)
    mixed = table[np.random.default_rng(5).permutation(len(table))]
    one, two = (draws(PatientRows(rows, held_out=False), rate, 50) for rows in (table, mixed))
    for sample, other in zip(one, two, strict=True):
        assert np.array_equal(table[sample, 0], mixed[other, 0])


def test_rows_in_order_are_not_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "argsort", None)
    assert len(PatientRows(matrix(30, each=3), held_out=False).one_of_each(source())) == 30
    with pytest.raises(TypeError):
        PatientRows(matrix(30, each=3)[::-1], held_out=False)


def test_a_rate_of_one_takes_everybody_and_one_of_nothing_nobody() -> None:
    rows = PatientRows(matrix(30, each=2), held_out=False)
    assert [len(sample) for sample in draws(rows, 1.0, 4)] == [30] * 4
    assert [len(sample) for sample in draws(rows, 2.0**-66, 4)] == [0] * 4


def test_a_row_is_drawn_anew_where_a_word_is_in_excess() -> None:
    # Of 3 rows the product of word and 3 must not be below 2^64 mod 3 = 1, as that of the word 0 is.
    rows, later = PatientRows(matrix(1, each=3), held_out=False), source(1)
    expected = int(later.words(1)[0]) * 3 >> 64
    drawn = rows._rows_of(np.array([0]), np.zeros(1, dtype=np.uint64), source(1))
    assert drawn.tolist() == [expected]


@pytest.mark.parametrize("bound", [1, 2, 3, 1000, 2**31 - 1, 2**40 + 7])
def test_the_product_of_word_and_bound_is_exact(bound: int) -> None:
    words = np.concatenate([source().words(200), np.array([0, 1, 2**32, 2**64 - 1], dtype=np.uint64)])
    which, rest = _product(words, np.full(len(words), bound, dtype=np.uint64))
    for word, upper, lower in zip(words.tolist(), which.tolist(), rest.tolist(), strict=True):
        assert divmod(word * bound, 2**64) == (upper, lower)


def test_what_a_sample_draws_goes_with_who_is_sampled_and_not_with_who_is_there() -> None:
    for patients in (1_000_000, 100_000_000):
        gaps = gaps_for(64 / patients)
        assert gaps is not None
        assert gaps.words_for(patients) < 900 + patients // LARGEST_GAP


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


@pytest.mark.parametrize("held_out", [False, True])
def test_of_rows_in_groups_the_same_are_drawn_and_none_is_looked_at(held_out: bool) -> None:
    """By where each patient's begin alone: the matrix holds nothing that says whose a row is."""
    table = in_groups(matrix(60, each=3, held_out=20), 10)
    blind = GroupedRows(np.full_like(table.matrix, np.nan), table.begins(held_out=False), table.begins(held_out=True))
    plain, by_groups = (PatientRows(each, held_out=held_out) for each in (table.matrix, blind))
    for one, other in zip(draws(plain, 0.2, 50), draws(by_groups, 0.2, 50), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(plain.one_of_each(source(3)), by_groups.one_of_each(source(3)))


def test_training_and_scoring_give_the_same_of_rows_in_groups() -> None:
    table, (graph, weights) = in_groups(matrix(60, each=3, held_out=20), 10), exported(Sigmoid)
    declared = mechanism(steps=4, sampling_rate=0.3)
    one, other = (train_round(graph, declared, schema(), 40, rows, weights, source()) for rows in (table.matrix, table))
    assert all(torch.equal(one[name], other[name]) for name in one)
    first, second = (
        score_histogram(graph, evaluation(), schema(), rows, weights, source()) for rows in (table.matrix, table)
    )
    np.testing.assert_array_equal(first["scores"], second["scores"])
