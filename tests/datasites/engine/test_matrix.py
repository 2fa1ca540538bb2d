"""Secret codes and orders of rows: uniform, and telling nothing of how many there are."""

from __future__ import annotations

import numpy as np
import pytest

from datasites.engine.matrix import grouped, in_groups, secure_codes, secure_permutation


def test_secure_permutation_is_one_and_each_place_is_as_likely() -> None:
    assert sorted(secure_permutation(1000)) == list(range(1000))
    firsts = np.bincount([secure_permutation(4)[0] for _ in range(4000)], minlength=4)
    # Each place 1000 times, standard deviation 27; seven of them either way.
    assert np.all(np.abs(firsts - 1000) < 200)


def test_secure_codes_are_different_whole_numbers_that_tell_no_number_of_patients() -> None:
    codes = secure_codes(1000)
    assert len(set(codes)) == 1000
    assert (codes.astype(np.float64).astype(np.int64) == codes).all()
    # Uniform below 2^53: a mean of half of it, standard deviation 2^53 / √12,000; six of them either way.
    assert abs(codes.mean() / 2**53 - 0.5) < 6 / 12_000**0.5


def test_rows_are_grouped_by_side_and_code_in_an_order_of_chance() -> None:
    codes, held_out = np.array([5, 2, 5, 9, 2, 5]), np.array([True, False, True, False, False, True])
    seen = set()
    for _ in range(400):
        order = grouped(codes, held_out, 10)
        assert codes[order].tolist() == [2, 2, 9, 5, 5, 5]
        seen.add(tuple(order.tolist()))
    assert len(seen) == 2 * 6  # every order of the two and of the three


def test_of_a_patients_records_every_choice_of_so_many_is_as_likely() -> None:
    codes = np.array([7, 7, 7, 7, 1, 3, 3])
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(3000):
        order = grouped(codes, codes < 0, 2)
        assert codes[order].tolist() == [1, 3, 3, 7, 7]
        of_seven = tuple(sorted(order[3:].tolist()))
        counts[of_seven] = counts.get(of_seven, 0) + 1
    assert len(counts) == 6  # pairs of four
    assert min(counts.values()) > 500 - 6 * 21  # 500 each, deviation 20.4


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_a_table_of_before_is_grouped_when_it_is_read_and_left_when_it_is(most: int) -> None:
    table = np.column_stack([np.tile([4.0, 1.0, 9.0], 5), np.tile([0.0, 1.0, 0.0], 5), np.arange(15.0)])
    made = in_groups(table, most)
    kept = min(5, most)
    assert made.matrix[:, 0].tolist() == [4.0] * kept + [9.0] * kept + [1.0] * kept
    assert {tuple(row) for row in made.matrix} <= {tuple(row) for row in table}
    assert len({row[2] for row in made.matrix}) == 3 * kept
    assert made.begins(held_out=False).tolist() == [0, kept, 2 * kept]
    assert made.begins(held_out=True).tolist() == [2 * kept, 3 * kept]
    assert in_groups(made.matrix, most).matrix is made.matrix


@pytest.mark.parametrize("side", [0.0, 1.0])
def test_a_side_without_patients_has_an_end_alone(side: float) -> None:
    for rows in (0, 4):
        made = in_groups(np.column_stack([np.arange(rows), np.full(rows, side), np.zeros(rows)]), 10)
        empty, full = made.begins(held_out=not side), made.begins(held_out=bool(side))
        assert len(empty) == 1
        assert full.tolist() == list(range(rows + 1))
    assert repr(made) == "GroupedRows(…)"
