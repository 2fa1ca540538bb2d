"""Gaps leave every patient taken with exactly one chance, which is the sampling rate to 2^-64 and never above it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from datasites.engine.gaps import LARGEST_GAP, WORD, Gaps, gaps_for
from tests.datasites.engine.training_factories import source

RATES = [2.0**-64, 1e-9, 1 / 4096, 0.02, 1 / 64, 0.3, 0.5, 0.9999, 1 - 2.0**-53]


def tables(rate: float) -> Gaps:
    gaps = gaps_for(rate)
    assert gaps is not None
    return gaps


def exact_thresholds(gaps: Gaps, count: int) -> list[Fraction]:
    q = 1 - Fraction(gaps.chance, WORD)
    return [1 - q**number for number in range(1, count + 1)]


def nothing_more() -> int:
    raise AssertionError


@pytest.mark.parametrize("rate", RATES)
def test_the_chance_is_the_rate_to_64_bits_and_never_above(rate: float) -> None:
    chance = Fraction(tables(rate).chance, WORD)
    assert 0 <= Fraction(rate) - chance < Fraction(1, WORD)


@pytest.mark.parametrize("rate", RATES)
def test_thresholds_are_the_first_64_digits_of_exact_ones(rate: float) -> None:
    gaps = tables(rate)
    numbers = sorted({*range(1, min(40, gaps.largest) + 1), gaps.largest // 2 or 1, gaps.largest})
    q = WORD - gaps.chance
    for number in numbers:
        exact = WORD - -(-(q**number) // WORD ** (number - 1))  # floor(2^64 - q^j / 2^(64 (j - 1)))
        assert int(gaps.thresholds[number - 1]) + 2**63 == exact
    assert (np.diff(gaps.thresholds) >= 0).all()
    assert gaps.largest <= LARGEST_GAP


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.75])
def test_every_patient_is_taken_independently_with_one_chance(rate: float) -> None:
    # The law of a whole line in exact fractions, gap by gap as the tables say: at these rates no digit is cut off them.
    gaps, p, patients = tables(rate), Fraction(rate), 5
    largest = gaps.largest
    thresholds = [Fraction(int(threshold) + 2**63, WORD) for threshold in gaps.thresholds]
    reached = [Fraction(1), *(1 - threshold for threshold in thresholds)]  # P(gap >= j)
    law: dict[tuple[int, ...], Fraction] = {}

    def go_on(flags: tuple[int, ...], weight: Fraction) -> None:
        if len(flags) >= patients:
            law[flags[:patients]] = law.get(flags[:patients], Fraction(0)) + weight
            return
        for gap in range(largest):  # the longest takes nobody
            go_on((*flags, *[0] * gap, 1), weight * (reached[gap] - reached[gap + 1]))
        go_on((*flags, *[0] * largest), weight * reached[largest])

    go_on((), Fraction(1))
    for flags in itertools.product((0, 1), repeat=patients):
        assert law[flags] == math.prod(p if flag else 1 - p for flag in flags)


@pytest.mark.parametrize("rate", RATES)
def test_a_word_gives_the_number_of_thresholds_up_to_it(rate: float) -> None:
    gaps = tables(rate)
    words = source().words(2000)
    exact = exact_thresholds(gaps, min(gaps.largest, 60))
    for word, gap in zip(words.tolist(), gaps.of(words, nothing_more).tolist(), strict=True):
        if gap < len(exact):
            assert Fraction(word + 1, WORD) <= exact[gap]  # whatever digits follow
        if gap:
            assert exact[min(gap, len(exact)) - 1] <= Fraction(word, WORD)


@pytest.mark.parametrize("rate", RATES)
def test_cells_begin_where_a_search_through_all_thresholds_would_end(rate: float) -> None:
    gaps = tables(rate)
    for cell in (0, 1, len(gaps.cells) // 2, len(gaps.cells) - 1):
        lowest = (cell << gaps.shift) - 2**63
        below = np.count_nonzero(gaps.thresholds < lowest)
        assert gaps.cells[cell] == below
    assert len(gaps.cells) << gaps.shift == WORD


@pytest.mark.parametrize("rate", [0.3, 1 / 64, 1e-9, 1 - 2.0**-53])
def test_a_word_that_does_not_decide_is_decided_by_all_digits(rate: float) -> None:
    gaps = tables(rate)
    exact = exact_thresholds(gaps, min(gaps.largest, 6))
    for number, threshold in enumerate(exact, start=1):
        numerator = threshold * WORD**number
        assert numerator.denominator == 1
        digits = [int(numerator) >> 64 * (number - 1 - place) & (WORD - 1) for place in range(number)]
        for change, expected in ((0, number), (1, number), (-1, number - 1)):
            following = [*digits[1:], 0, 0, 0]
            if change and number > 1:
                if not 0 <= following[number - 2] + change < WORD:
                    continue
                following[number - 2] += change
            elif change:
                continue  # of one digit alone a threshold is decided by the word
            asked: Iterator[int] = iter(following)
            found = gaps.of(np.array([digits[0]], dtype=np.uint64), lambda asked=asked: next(asked))
            value = sum(Fraction(digit, WORD ** (at + 1)) for at, digit in enumerate([digits[0], *following]))
            assert found[0] == sum(other <= value for other in exact_thresholds(gaps, min(gaps.largest, 40)))
            if rate < 0.9:
                assert found[0] == expected


def test_all_or_nobody_needs_no_draw() -> None:
    assert gaps_for(1.0) is None
    assert gaps_for(2.0**-65) is None


def test_gaps_are_geometric() -> None:
    gaps = tables(0.05)
    drawn = gaps.of(source().words(400_000), nothing_more)
    for gap in (0, 1, 7, 40, gaps.largest - 1):
        expected = 400_000 * 0.05 * 0.95**gap
        assert abs(np.count_nonzero(drawn == gap) - expected) < 5 * math.sqrt(expected)
    beyond = 400_000 * 0.95**gaps.largest
    assert abs(np.count_nonzero(drawn == gaps.largest) - beyond) < 5 * math.sqrt(beyond)
