"""What a type takes, what it refuses, and the words for it; every rule and every setting has them."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta

from datasites.review.policy import Rules
from datasites.settings import KINDS
from datasites.shapes import checked, described, shapes

PORT = Annotated[int, Meta(ge=1, le=65_535)]
SHARE = Annotated[float, Meta(gt=0, le=0.5)]
COLOURS = tuple[Literal["red", "blue"], ...]


@pytest.mark.parametrize(
    ("shape", "value", "taken"),
    [
        (str, "", ""),
        (bool, True, True),
        (PORT, 1, 1),
        (PORT, 65_535, 65_535),
        (SHARE, 0.5, 0.5),
        (Annotated[float, Meta(ge=0, le=4)], 1, 1.0),
        (Literal["a", "b"], "b", "b"),
        (PORT | None, None, None),
        (PORT | None, 3, 3),
        (COLOURS, ("red", "red"), ("red", "red")),
        (COLOURS, (), ()),
    ],
)
def test_what_fits_is_taken(shape: Any, value: object, taken: object) -> None:
    found = checked(value, shape)
    assert found == taken
    assert type(found) is type(taken)


@pytest.mark.parametrize(
    ("shape", "values", "words"),
    [
        (str, (1, None, ["a"]), "text in quotation marks"),
        (bool, (1, "true", None), "true or false"),
        (PORT, (0, 65_536, 1.0, "1", True, None, 10**30, -(10**30)), "a whole number from 1 to 65535"),
        (SHARE, (0, 0.0, -1, 0.51, math.nan, math.inf, -math.inf, "0.1", True), "a number above 0, at most 0.5"),
        (Literal["a", "b"], ("c", "", 1, None), "one of a, b"),
        (PORT | None, (0, "x"), "a whole number from 1 to 65535"),
        (COLOURS, (("green",), "red", (1,), None), "a list of red, blue"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(shape: Any, values: tuple[object, ...], words: str) -> None:
    assert described(shape) == words
    for value in values:
        with pytest.raises(ValueError, match=f"is not {words}$"):
            checked(value, shape)


def test_a_long_value_is_not_repeated_whole() -> None:
    with pytest.raises(ValueError, match="is not") as refusal:
        checked("x" * 10_000, PORT)
    assert len(str(refusal.value)) < 300


# Plans by population are a table, which `datasites.review.policy` reads and words itself.
RULES = [shape for name, shape in shapes(Rules).items() if name != "yearly_plans"]


@pytest.mark.parametrize("shape", [*RULES, *KINDS.values()])
def test_every_rule_and_setting_has_words(shape: Any) -> None:
    assert described(shape)
