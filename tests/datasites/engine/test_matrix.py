"""Secret codes and orders of rows: uniform, and telling nothing of how many there are."""

from __future__ import annotations

import numpy as np

from datasites.engine.matrix import secure_codes, secure_permutation


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
