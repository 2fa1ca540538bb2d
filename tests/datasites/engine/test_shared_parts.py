"""A hospital's part of shared noise: exact, of bits that are used once, and the whole only with all the others'."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from datasites.engine import shared_parts
from datasites.engine.noise import NoiseSource
from datasites.engine.shared_parts import Bits, on_steps, with_part
from datasites.engine.statistics import answer
from datasites.engine.survival import survival_table
from policies.errors import UnsupportedMechanism
from policies.privacy.mechanisms import Query, Statistics
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.privacy.shared_noise import laplace_variance
from policies.privacy.shared_sums import grid_of
from policies.release.summed import steps_of
from policies.schema.summed_statistics import RECORDS, SQUARES, SUMMED, summed_numbers
from policies.secure_sums.encoding import added, counted
from tests.policies.plan_factories import published, survival
from tests.proof.neighbours import SCHEMA, crowd, pair

ROSTER = SecureAggregation(
    threshold=4,
    hospitals=tuple(Party(f"Hospital {number}", f"{number:064x}", 1000) for number in range(5)),
    mode="shared-noise",
    may_collude=2,
)
EVERY = (
    Query("count"),
    Query("histogram", ("x2",)),
    Query("crosstab", ("x2", "y")),
    Query("missing", ("x2",)),
    Query("describe", ("x2",)),
    Query("quantiles", ("x2",), (0.5,)),
    Query("sum", ("x2",)),
    Query("mean", ("x2",)),
    Query("variance", ("x2",)),
)


def source(number: int = 0) -> NoiseSource:
    return NoiseSource(bytes([number]) * 32)


def test_bits_are_the_sources_own_and_none_is_given_twice() -> None:
    bits, words = Bits(source()), source().words(64)
    whole = int.from_bytes(words.tobytes(), "little")
    taken, place = [], 0
    for count in (1, 7, 64, 130, 300):
        taken.append(bits.getrandbits(count))
        assert taken[-1] == (whole >> place) & ((1 << count) - 1)
        place += count
    assert Bits(source()).getrandbits(10_000).bit_length() > 9_900  # more than it holds at once
    drawn = [bits.randrange(3) for _ in range(6000)]
    assert stats.chisquare(np.bincount(drawn, minlength=3)).pvalue > 1e-6


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_so_many_parts_make_the_whole_noise(parts: int) -> None:
    halvings, steps = grid_of(1.0)
    exact = np.full(3000, 40)
    drawn = sum(with_part(exact, epsilon=1.0, parts=parts, source=source(number)) for number in range(parts))
    noise = (np.asarray(drawn) - 40 * parts) * steps
    np.testing.assert_allclose(noise, np.rint(noise), atol=1e-6)  # whole steps of the grid
    wanted = laplace_variance(halvings, 1.0)
    assert abs(noise.var() / wanted - 1) < 6 * np.sqrt(5 / 3000)  # a variance's own error: kurtosis 6
    # Half of discrete Laplace noise of the rate 2^-m lies within 2^m ln 2 steps; of fewer parts more would.
    assert abs((np.abs(noise) <= np.log(2) * 2**halvings).mean() - 0.5) < 0.06


@given(
    st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=9),
    st.integers(0, 2**26),
    st.integers(64, 133),
)
def test_a_sum_moves_by_as_many_steps_as_its_value_counts_for_at_the_most(
    sums: list[int], more: int, steps: int
) -> None:
    """Whatever the others' values come to: in exact fractions, for a value of up to 1 and for a whole 1."""
    others = np.array(sums) // 2**10 / 2**26  # multiples of 2^-26 with 53 bits
    before, after, whole = (on_steps(others + value, steps) for value in (0, more / 2**26, 1))
    exact = [math.floor(Fraction(value) * steps + Fraction(1, 2)) for value in others.tolist()]
    assert before.tolist() == exact
    assert ((after - before >= 0) & (after - before <= steps)).all()
    assert (whole - before == steps).all()


def test_numbers_that_move_by_half_have_half_the_noise() -> None:
    exact = np.full(2000, -7.25)
    halves, wholes = (
        with_part(exact, epsilon=1.0, parts=1, source=source(3), sensitivity=unit) + 7.25 for unit in (0.5, 1)
    )
    assert halves.std() == pytest.approx(wholes.std() / 2, rel=1e-2)
    units = (halves - 7.25) / 0.5 * grid_of(1.0)[1]
    np.testing.assert_allclose(units, np.rint(units), atol=1e-6)


def test_what_moves_more_than_one_number_by_one_has_no_part() -> None:
    with pytest.raises(UnsupportedMechanism, match="sensitivity=2"):
        with_part(np.zeros(3, int), epsilon=1.0, parts=2, source=source(), sensitivity=2)


def forgotten(*_: Any) -> int:
    return 0


@pytest.mark.parametrize("noise", [True, False], ids=["with its part", "its part forgotten"])
def test_every_number_of_a_release_has_a_part_of_its_own(noise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a fault by which none has is found here, as in `tests/proof`."""
    if not noise:
        monkeypatch.setattr(shared_parts, "laplace_part", forgotten)
    asked = Statistics(queries=EVERY, epsilon=6.0, secure_aggregation=ROSTER)
    numbers = summed_numbers(asked, SCHEMA)
    first, second = (answer(asked, SCHEMA, crowd(300), source(number)) for number in (1, 2))
    exact = answer(
        replace(asked, secure_aggregation=None, queries=EVERY[:5], epsilon=500 / 5), SCHEMA, crowd(300), source()
    )
    moved = 0
    for name, part in numbers.items():
        assert first[name].shape == part.shape
        for released in (first[name], second[name]):
            units = released / part.step
            np.testing.assert_allclose(units, np.rint(units), atol=1e-6)
        moved += int((first[name] != second[name]).sum())
        if name in exact:
            error = np.abs(first[name] - np.rint(exact[name].reshape(part.shape)))
            assert error.max() < 40  # of one part at ε = 1, in patients
    total = sum(int(np.prod(part.shape)) for part in numbers.values())
    assert (moved > 0.8 * total) == noise
    steps = steps_of(asked, SCHEMA, first)
    assert steps is not None
    back = added(counted(first, steps, ROSTER), first, steps)  # what one hospital adds is what is read, exactly
    assert all(np.allclose(back[name], first[name], atol=1e-9) for name in first)


def test_a_survival_table_has_parts_too() -> None:
    schema, asked = published().schema, survival(epsilon=1.0, secure_aggregation=ROSTER)
    nobody = np.zeros((0, 2 + len(schema.columns)))
    first, second = (survival_table(asked, schema, nobody, source(number))["patients"] for number in (1, 2))
    _, steps = grid_of(1.0)
    np.testing.assert_allclose(first * steps, np.rint(first * steps), atol=1e-6)
    assert (first != second).mean() > 0.7
    assert 0 < np.abs(first).max() < 40


def test_what_is_drawn_knows_nothing_of_the_rows() -> None:
    """Under one key neighbours' releases differ by the exact counts of one patient, and by nothing else."""
    asked = Statistics(queries=EVERY, epsilon=6.0, secure_aggregation=ROSTER)
    without, with_patient = pair(300)
    answers = [answer(asked, SCHEMA, table, source(7)) for table in (without, with_patient)]
    for name, part in summed_numbers(asked, SCHEMA).items():
        moved = (answers[1][name] - answers[0][name]).ravel()
        if name.partition("/")[0] in SUMMED and not name.endswith(RECORDS):
            most = 0.5 if name.endswith(SQUARES) else 1.0
            assert 0 < np.abs(moved).max() <= most  # one sum, by no more than its value can be
            np.testing.assert_allclose(moved / part.step, np.rint(moved / part.step), atol=1e-6)
            continue
        np.testing.assert_allclose(moved, np.rint(moved), atol=1e-9)
        draws = 4 if name.startswith("quantiles") else 1  # a tree has a level for each
        assert np.rint(moved).sum() == draws, name
        assert np.count_nonzero(np.rint(moved)) == draws, (name, part)  # one patient: one number of each draw, by 1
