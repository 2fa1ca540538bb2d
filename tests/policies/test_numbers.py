"""Numbers for people: no exponent, groups of thousands, nouns that agree."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.numbers import counted, outward, places_for, to_places, with_error, written


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


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        # Leading digits 100 to 354: two digits of the error; 355 to 949: one; 950 to 999: as 1000, with two.
        (0.827, 0.119, "0.83 ± 0.12"),
        (0.827, 0.354, "0.83 ± 0.35"),
        (0.827, 0.367, "0.8 ± 0.4"),
        (0.827, 0.949, "0.8 ± 0.9"),
        (14.674, 0.964, "14.7 ± 1.0"),
        (8031.6, 42.0, "8,030 ± 40"),
        (8031.6, 131.0, "8,030 ± 130"),
        (123456.0, 9.7e3, "123,000 ± 10,000"),
        (-0.001, 0.4, "0.0 ± 0.4"),
        (37.5, 0.0, "37.5"),
        (37.5, math.inf, "37.5"),
    ],
)
def test_a_number_has_the_digits_that_its_error_allows(value: float, error: float, text: str) -> None:
    assert with_error(value, error) == text


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_rounding_loses_less_than_a_fifth_of_the_error(value: float, error: float) -> None:
    # One digit is kept of 0.355 and more: half a unit of it is 0.05, 14 % of the error. Ends are rounded outwards.
    places = places_for(error)
    shown = float(to_places(value, places).replace(",", ""))
    assert abs(shown - value) <= 0.15 * error + 1e-9 * abs(value)
    low, high = (float(end.replace(",", "")) for end in outward(value - error, value + error, places))
    assert low <= value - error + 1e-6 * abs(value) + 1e-6
    assert high >= value + error - 1e-6 * abs(value) - 1e-6


def test_an_interval_without_an_end_is_shown_as_one() -> None:
    assert outward(-math.inf, 0.8771, 2) == ("minus infinite", "0.88")
    assert outward(0.8123, math.inf, 2) == ("0.81", "infinite")
