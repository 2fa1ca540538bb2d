"""Formulas become terms, and what no hospital computes is refused with what may be written."""

import pytest

from policies.errors import InvalidRequest
from researcher.formulas import read_formula


@pytest.mark.parametrize(
    ("formula", "outcome", "terms"),
    [
        ("sbp ~ age + C(ward)", "sbp", ("age", "ward")),
        ("y ~ a * b", "y", ("a", "b", "a * b")),
        ("y ~ (a + b + c) ** 2", "y", ("a", "b", "c", "a * b", "a * c", "b * c")),
        ("y ~ a + spline(age, 5) + among(ward, 'icu')", "y", ("a", "spline(age, 5)", "among(ward, 'icu')")),
        ("y ~ `days in` + a - b", "y", ("days in", "a")),
    ],
)
def test_a_formula_is_read(formula: str, outcome: str, terms: tuple[str, ...]) -> None:
    assert read_formula(formula) == (outcome, terms)


@pytest.mark.parametrize(
    ("formula", "says"),
    [
        ("y ~ I(age**2)", "write square"),
        ("y ~ __import__('os').getcwd()", "means nothing here"),
        ("y ~ .", "means nothing here"),
        ("y ~ a | b", "means nothing here"),
        ("y ~ a - 1", "an intercept is always fitted"),
        ("~ a", "no outcome"),
        ("log(y) ~ a", "is a function"),
        ("y ~ 1", "has no terms"),
        ("y ~ (a", "cannot be read"),
        ("y ~ a:b:c:d", "multiplies more than 3"),
        ("x" * 5000, "no text of at most"),
    ],
)
def test_what_cannot_be_read_is_refused(formula: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        read_formula(formula)
