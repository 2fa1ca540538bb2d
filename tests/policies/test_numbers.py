"""Numbers for people: no exponent, groups of thousands, nouns that agree."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.numbers import counted, written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (1e-05, "0.00001"),
        (1.25e-05, "0.0000125"),
        (6.0, "6"),
        (0.1, "0.1"),
        (7997, "7,997"),
        (7997.0, "7,997"),
        (1_000_000.0, "1,000,000"),
        (12345.678, "12,345.7"),
        (123456.5, "123,456"),
        (999999.96, "1,000,000"),
        (-2.5, "-2.5"),
        (-1e-05, "-0.00001"),
        (1e-15, "1 × 10⁻¹⁵"),
        (2.5e20, "2.5 × 10²⁰"),
        (math.nan, "not a number"),
        (math.inf, "infinite"),
        (-math.inf, "minus infinite"),
    ],
)
def test_a_number_is_written_as_people_read_it(value: float, text: str) -> None:
    assert written(value) == text


@given(st.floats(1e-12, 1e14))
def test_what_is_written_reads_back_to_six_digits(value: float) -> None:
    text = written(value)
    assert "e" not in text
    assert math.isclose(float(text.replace(",", "")), value, rel_tol=5.1e-6)


@pytest.mark.parametrize(("number", "text"), [(0, "0 rounds"), (1, "1 round"), (2, "2 rounds"), (7997, "7,997 rounds")])
def test_nouns_agree_with_their_number(number: int, text: str) -> None:
    assert counted(number, "round") == text


def test_a_plural_of_its_own_is_taken() -> None:
    assert counted(2, "entry", "entries") == "2 entries"
    assert counted(1, "entry", "entries") == "1 entry"
