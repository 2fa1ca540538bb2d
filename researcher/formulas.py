"""A regression's formula, as `"sbp ~ age * C(ward) + log(crp, 1)"`, read into an outcome and terms.

The formula is parsed by `formulaic`, whose operators (`+`, `:`, `*`, `**`, brackets, `-`) mean what they do in R. Its
functions are never evaluated: what stands between operators has to be one of our own terms (`policies.schema.terms`),
and a hospital gets the terms, not the formula.
"""

from __future__ import annotations

import re
from typing import Any

from policies.errors import InvalidRequest, UnsupportedMechanism
from policies.schema.terms import MOST_FACTORS, Factor, Term, parse

LARGEST_FORMULA = 4000
INSTEAD = "Write it as 'outcome ~ age * C(ward) + log(crp, 1)'."
_CATEGORY = re.compile(r"C\((.*)\)")


def read_formula(formula: str) -> tuple[str, tuple[str, ...]]:
    """Outcome and terms of a formula, main effects first.

    Raises:
      InvalidRequest: it cannot be read, or has something that no hospital can compute; says what may be written.

    >>> read_formula("sbp ~ age * C(ward) + log(crp, 1)")
    ('sbp', ('age', 'ward', 'log(crp, 1)', 'age * ward'))
    """
    if not isinstance(formula, str) or len(formula) > LARGEST_FORMULA:
        raise InvalidRequest(
            f"formula={str(formula)[:60]!r} is no text of at most {LARGEST_FORMULA} characters. {INSTEAD}"
        )
    outcomes, terms = _sides(formula)
    if len(outcomes) != 1 or len(outcomes[0]) != 1:
        raise InvalidRequest(f"{formula[:80]!r} has no one outcome on the left of ~. {INSTEAD}")
    outcome = outcomes[0][0]
    if "(" in outcome:
        raise InvalidRequest(
            f"The outcome {outcome[:60]!r} is a function. A regression is of a column as declared: write its name."
        )
    if ["1"] not in terms:
        raise InvalidRequest(
            f"{formula[:80]!r} has no intercept, and an intercept is always fitted. Leave out -1 and +0."
        )
    read = [_term(factors) for factors in terms if factors != ["1"]]
    if not read:
        raise InvalidRequest(f"{formula[:80]!r} has no terms. {INSTEAD}")
    return outcome, tuple(map(str, sorted(read, key=lambda term: len(term.factors))))


def _sides(formula: str) -> tuple[list[list[str]], list[list[str]]]:
    """Texts of factors, by term, left and right of the tilde."""
    try:
        from formulaic.errors import FormulaSyntaxError
        from formulaic.parser import DefaultFormulaParser
    except ImportError:
        raise InvalidRequest("A formula is read by formulaic, which is not here. Run pip install formulaic.") from None

    try:
        parsed: Any = DefaultFormulaParser().get_terms(formula)
        sides = {
            name: [[str(factor.expr) for factor in term.factors] for term in side]
            for name, side in parsed._structure.items()
        }
    except FormulaSyntaxError as error:
        raise InvalidRequest(f"{formula[:80]!r} cannot be read: {_first_line(error)}. {INSTEAD}") from None
    except Exception:  # of whatever kind an operator of formulaic's, as . or |, ends in here
        raise InvalidRequest(f"{formula[:80]!r} has an operator that means nothing here. {INSTEAD}") from None
    if set(sides) != {"lhs", "rhs"}:
        raise InvalidRequest(f"{formula[:80]!r} has no outcome on the left of ~. {INSTEAD}")
    return sides["lhs"], sides["rhs"]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]


def _term(factors: list[str]) -> Term:
    if len(factors) > MOST_FACTORS:
        raise InvalidRequest(f"{':'.join(factors)[:80]!r} multiplies more than {MOST_FACTORS}. Leave some out.")
    return Term(tuple(_factor(text) for text in factors))


def _factor(text: str) -> Factor:
    """One factor: a column, `C(column)`, or a function of ours."""
    named = _CATEGORY.fullmatch(text)
    try:
        (factor,) = parse(named[1] if named else text).factors
    except (UnsupportedMechanism, ValueError) as error:
        why = f" {error}" if isinstance(error, UnsupportedMechanism) else ""
        raise InvalidRequest(
            f"{text[:60]!r} is nothing that a hospital computes.{why} For powers write square(age) or cube(age)."
        ) from None
    return factor
