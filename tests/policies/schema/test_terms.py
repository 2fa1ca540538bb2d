"""The language of transformations: what it reads, what it says in plain words, and what hostile texts come to."""

from __future__ import annotations

import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.errors import UnsupportedMechanism
from policies.schema import transformations
from policies.schema.terms import FUNCTIONS, LARGEST_TERM, MOST_CONSTANTS, Factor, Term, is_plain, parse, words_of


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("age", Term((Factor("age"),))),
        ("log( crp,1 )", Term((Factor("crp", "log", (1.0,)),))),
        ("bands(age, 18, 40.5, +6e1)", Term((Factor("age", "bands", (18.0, 40.5, 60.0)),))),
        ("clip(base excess, -10, .5)", Term((Factor("base excess", "clip", (-10.0, 0.5)),))),
        ("bands(admitted, 2026-01-31)", Term((Factor("admitted", "bands", (datetime.date(2026, 1, 31),)),))),
        (""" among(ward, 'a, b', "o'clock") """, Term((Factor("ward", "among", ("a, b", "o'clock")),))),
        ("age*ward * log(CRP-max)", Term((Factor("age"), Factor("ward"), Factor("CRP-max", "log")))),
    ],
)
def test_a_text_is_read_as_it_is_meant_and_written_back(text: str, term: Term) -> None:
    assert parse(text) == term
    assert parse(str(term)) == term


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it ends before a column or a function"),
        ("age *", "it ends before a column or a function"),
        ("age + ward", "after age there is '+ ward'"),
        ("age ** 2", "'* 2' stands where a column or a function should"),
        ("age * age", "square(...) or cube(...)"),
        ("a * b * c * d", "multiplies more than 3"),
        ("exp(age)", "'exp' is not a function. Use one of above, among, bands"),
        ("log(log(age))", "goes on with a comma or ends with )"),
        ("log(age", "it ends where log(age, ...) goes on"),
        ("log(age,)", "')' is not a constant of log"),
        ("log(3)", "'3)' stands where the column of log(...) should"),
        ("bands(age, nan)", "'nan)' is not a constant of bands. Write a number within ±1e+15"),
        ("bands(age, inf)", "'inf)' is not a constant"),
        ("bands(age, 1e999)", "'1e999)' is not a constant"),
        ("bands(age, -1e16)", "'-1e16)' is not a constant"),
        ("bands(age, 0x10)", "is not a constant"),
        ("bands(age, 1_000)", "is not a constant"),
        ("bands(age, 2026-02-30)", "a date as 2026-01-31"),
        ("bands(age, (18, 40))", "is not a constant"),
        ("__import__('os')", "is not a function"),
        ("age.__class__(x)", "cannot be read"),
        ("lambda: 0", "after lambda there is ': 0'"),
        ("x" * (LARGEST_TERM + 1), f"above {LARGEST_TERM} characters"),
        ("(" * 900, "stands where a column or a function should"),
        ("log(" * 200, "cannot be read"),
        ("bands(age" + ", 1" * (MOST_CONSTANTS + 1) + ")", f"more than {MOST_CONSTANTS} constants"),
        (" * ".join(["a"] * 200), "multiplies more than 3"),
        ("bands(age, 9" + "9" * 900 + ")", "is not a constant"),
        ("a" + " -." * 300 + "!", "cannot be read"),
    ],
)
def test_anything_else_is_refused_with_what_stands_there_and_what_may(text: str, says: str) -> None:
    began = time.process_time()
    with pytest.raises(UnsupportedMechanism) as refused:
        parse(text)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 700
    assert time.process_time() - began < 1


@given(st.text(max_size=80) | st.text("agelo(),*'\"0123456789.-+e ", max_size=80))
def test_any_text_is_read_or_refused_and_reading_what_was_read_changes_nothing(text: str) -> None:
    words_of((text,))
    try:
        term = parse(text)
    except UnsupportedMechanism:
        return
    assert parse(str(term)) == term


NUMBERS = st.floats(-1e15, 1e15).filter(lambda number: number == number)


@given(st.sampled_from(FUNCTIONS), st.lists(NUMBERS, max_size=5))
def test_every_term_that_can_be_made_is_written_so_that_it_reads_as_itself(function: str, numbers: list[float]) -> None:
    term = Term((Factor("age", function, tuple(numbers)), Factor("ward")))
    assert parse(str(term)) == term


def test_every_function_has_words_and_a_usage_that_reads() -> None:
    assert set(transformations.FUNCTIONS) == set(FUNCTIONS)
    for name, function in transformations.FUNCTIONS.items():
        factor = parse(function.usage).factors[0]
        assert factor.function == name
        assert factor.column in factor.words
        assert name not in factor.words.split() or name in (
            "above",
            "clip",
            "missing",
            "month",
            "square",
            "cube",
            "bands",
        )


def test_inputs_are_told_in_plain_words() -> None:
    assert words_of("features") == "all features that the schema declares"
    assert words_of("fever") == "the sequence fever"
    told = words_of(("age", "bands(age, 18, 40, 65)", "log(crp, 1) * ward", "among(ward, 'icu', 'general')"))
    assert told == (
        "age; age in bands cut at 18, 40 and 65; the logarithm of crp + 1 times ward; "
        "whether ward is one of icu and general"
    )


def test_names_alone_are_plain() -> None:
    assert is_plain("base excess")
    assert is_plain("CRP-max.2")
    assert not any(map(is_plain, ("log(age)", "a*b", "a,b", "'a'", "(", ")")))
