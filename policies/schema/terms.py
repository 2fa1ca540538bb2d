"""The language of transformations: what a model's inputs are made of, written as short public texts.

    age                                 a declared column, as it is
    log(crp, 1)                         a function of one column, with public constants
    bands(age, 18, 40, 65) * ward       a product of up to three of these

A text is read by the parser below and by nothing else: it has no variables, no nesting and no evaluation, and its
length bounds all work. Constants are numbers, dates as 2026-01-31, and labels in quotes. What the functions compute
stands in `policies.schema.transformations`.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from functools import lru_cache

from policies.errors import UnsupportedMechanism
from policies.numbers import written
from policies.schema.columns import LARGEST_BOUND

LARGEST_TERM = 1000
MOST_FACTORS = 3
MOST_CONSTANTS = 50

Constant = float | datetime.date | str

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2}(?![\w.-]))
    | (?P<number>[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?(?![\w.]))
    | (?P<name>[^\W\d]\w*(?:[ .-]+\w+)*)
    | '(?P<single>[^'"]*)' | "(?P<double>[^"]*)"
    | (?P<sign>[(),*])
    )\s*""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Factor:
    """A column as it is (`function` is empty), or a function of it with constants."""

    column: str
    function: str = ""
    constants: tuple[Constant, ...] = ()

    def __str__(self) -> str:
        if not self.function:
            return self.column
        return f"{self.function}({', '.join([self.column, *map(_shown, self.constants)])})"

    @property
    def words(self) -> str:
        """In plain words, as far as the text alone says it."""
        added = f" + {_listed(self.constants)}" if self.function == "log" and self.constants else ""
        return _WORDS[self.function].format(column=self.column, constants=_listed(self.constants)) + added


@dataclass(frozen=True)
class Term:
    """A product of factors, all of them different. Its text is the shortest that means it."""

    factors: tuple[Factor, ...]

    def __str__(self) -> str:
        return " * ".join(map(str, self.factors))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads, once each."""
        return tuple(dict.fromkeys(factor.column for factor in self.factors))

    @property
    def words(self) -> str:
        """In plain words, for whoever decides on it."""
        return " times ".join(factor.words for factor in self.factors)


_WORDS = {
    "": "{column}",
    "above": "whether {column} is {constants} or more",
    "among": "whether {column} is one of {constants}",
    "bands": "{column} in bands cut at {constants}",
    "clip": "{column} held between {constants}",
    "cube": "the cube of {column}",
    "log": "the logarithm of {column}",
    "missing": "whether {column} is missing",
    "month": "the month of {column}",
    "spline": "a smooth curve over {column} ({constants} splines)",
    "sqrt": "the square root of {column}",
    "square": "the square of {column}",
    "weekday": "the day of the week of {column}",
    "yearly": "the season of {column}, as a point on a circle",
}

FUNCTIONS = tuple(name for name in _WORDS if name)


def is_plain(text: str) -> bool:
    """Whether a text is a name alone, of a column or of a declared transformation."""
    return not set(text) & set("()*,'\"")


@lru_cache(maxsize=1024)
def parse(text: str) -> Term:
    """The term that a text writes. Raises `UnsupportedMechanism`, naming what stands there and what may."""
    if not isinstance(text, str) or len(text) > LARGEST_TERM:
        shown = f"{text[:40]!r}… of {len(text)} characters" if isinstance(text, str) else repr(text)[:40]
        raise UnsupportedMechanism(f"The term {shown} is above {LARGEST_TERM} characters. Write several shorter ones.")
    parser = _Parser(text)
    factors = [parser.factor()]
    while parser.takes("*"):
        factors.append(parser.factor())
        if len(factors) > MOST_FACTORS:
            raise parser.refused(f"it multiplies more than {MOST_FACTORS}. Leave some out")
    if parser.rest:
        raise parser.refused(f"after {factors[-1]} there is {parser.rest[:20]!r}. Write * there, or nothing")
    if len(set(factors)) != len(factors):
        raise parser.refused("it multiplies something by itself. Write square(...) or cube(...) of the column")
    return Term(tuple(factors))


def words_of(inputs: str | tuple[str, ...]) -> str:
    """What a mechanism's `inputs` mean, in plain words that need no schema. Never raises."""
    if isinstance(inputs, str):
        return "all features that the schema declares" if inputs == "features" else f"the sequence {inputs}"
    return "; ".join(_words_of(text) for text in inputs)


def _words_of(text: str) -> str:
    try:
        return parse(text).words
    except UnsupportedMechanism:  # a column's name that terms cannot write: it stands for itself
        return text


class _Parser:
    """Reads one text from left to right, each character once."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0

    @property
    def rest(self) -> str:
        return self.text[self.place :].strip()

    def refused(self, why: str) -> UnsupportedMechanism:
        return UnsupportedMechanism(f"The term {self.text[:80]!r} cannot be read: {why}. {MAY_BE_WRITTEN}")

    def takes(self, sign: str) -> bool:
        """Whether `sign` comes next; it is passed."""
        token = _TOKEN.match(self.text, self.place)
        if token is None or token["sign"] != sign:
            return False
        self.place = token.end()
        return True

    def factor(self) -> Factor:
        name = self._name("a column or a function")
        if not self.takes("("):
            return Factor(name)
        if name not in FUNCTIONS:
            raise self.refused(f"{name[:40]!r} is not a function. Use one of {', '.join(FUNCTIONS)}")
        column = self._name(f"the column of {name}(...)")
        constants: list[Constant] = []
        while self.takes(","):
            constants.append(self._constant(name))
            if len(constants) > MOST_CONSTANTS:
                raise self.refused(f"{name} has more than {MOST_CONSTANTS} constants. Use fewer")
        if not self.takes(")"):
            where = f"{self.rest[:20]!r} stands where" if self.rest else "it ends where"
            raise self.refused(f"{where} {name}({column}, ...) goes on with a comma or ends with )")
        return Factor(column, name, tuple(constants))

    def _name(self, wanted: str) -> str:
        token = _TOKEN.match(self.text, self.place)
        if token is None or token["name"] is None:
            where = f"{self.rest[:20]!r} stands where {wanted} should" if self.rest else f"it ends before {wanted}"
            raise self.refused(where)
        self.place = token.end()
        return token["name"]

    def _constant(self, function: str) -> Constant:
        token = _TOKEN.match(self.text, self.place)
        constant = None if token is None else _constant_of(token)
        if token is None or constant is None:
            raise self.refused(
                f"{self.rest[:20]!r} is not a constant of {function}. "
                f"Write a number within ±{LARGEST_BOUND:g}, a date as 2026-01-31, or a label in quotes"
            )
        self.place = token.end()
        return constant


MAY_BE_WRITTEN = "A term is as log(crp, 1), bands(age, 18, 65) or age * ward."


def _constant_of(token: re.Match[str]) -> Constant | None:
    if token["date"] is not None:
        try:
            return datetime.date.fromisoformat(token["date"])
        except ValueError:
            return None
    if token["number"] is not None:
        number = float(token["number"])
        return number if abs(number) <= LARGEST_BOUND else None  # infinite where it has too many digits
    return token["single"] if token["single"] is not None else token["double"]


def _shown(constant: Constant) -> str:
    if isinstance(constant, str):
        return f'"{constant}"' if "'" in constant else f"'{constant}'"
    if isinstance(constant, float):
        return f"{int(constant)}" if constant.is_integer() else repr(constant)
    return constant.isoformat()


def _listed(constants: tuple[Constant, ...]) -> str:
    texts = [written(constant) if isinstance(constant, float) else str(constant) for constant in constants]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
