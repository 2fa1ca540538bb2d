"""The language of cohort filters: a bounded text such as `age >= 65 and ward == 'icu'`, read into a small tree.

    condition   = every ("or" every)*
    every       = part ("and" part)*
    part        = "not" part | "(" condition ")" | comparison
    comparison  = column                                             a boolean column
                | column "is" ["not"] "missing"
                | column ["not"] "in" "(" value ("," value)* ")"
                | [value order] column order value                   18 <= age < 65
    order       = "==" "!=" "<" "<=" ">" ">="
    column      = name | `name with spaces`
    value       = 65, -1.5, 'icu', "icu", yes, no, 2025-10-01

Nothing is executed and no other language's parser is asked: what is not in the list above is refused with what may be
written. What the names and values mean is for a schema to say (`policies.schema.filters`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NoReturn

from policies.errors import UnsupportedMechanism
from policies.text import visible

MOST_CHARACTERS = 1000
MOST_COMPARISONS = 64
MOST_CHOICES = 100  # in all lists together
DEEPEST = 10  # brackets and "not" inside one another
LONGEST_NUMBER = 30

EXAMPLE = "age >= 65 and ward == 'icu'"
ORDERS = ("==", "!=", "<=", ">=", "<", ">")
FLIPPED = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "missing", "yes", "no", "true", "false"})

Value = float | str | bool


@dataclass(frozen=True)
class Comparison:
    """One column against values: `operator` is one of `ORDERS`, `"in"` or `"missing"`; yes for a bare boolean."""

    column: str
    operator: str
    values: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Not:
    """The opposite of a condition."""

    part: Condition


@dataclass(frozen=True)
class Every:
    """All of several conditions."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Either:
    """At least one of several conditions."""

    parts: tuple[Condition, ...]


Condition = Comparison | Not | Every | Either


@dataclass(frozen=True)
class _Token:
    kind: str  # name, quoted, text, number, date, mark or end
    text: str


_TOKENS = re.compile(
    r"""(?P<space>[ ]+)
    |(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)?(?![\w.:-]))
    |(?P<number>-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))
    |(?P<name>[^\W0-9]\w*)
    |`(?P<quoted>[^`'"]+)`
    |'(?P<single>[^'"`\\]*)'
    |"(?P<double>[^'"`\\]*)"
    |(?P<mark>==|!=|<=|>=|<|>|\(|\)|,)""",
    re.VERBOSE,
)
_INSTEAD = {
    "=": "Write == for equal",
    "&": "Write and",
    "|": "Write or",
    "~": "Write not",
    "!": "Write != or not",
    "[": "Write a list in round brackets, as ward in ('icu', 'general')",
    ".": "Write a column of such a name between backquotes, as `heart.rate`",
    "-": "Write a column of such a name between backquotes, as `heart-rate`",
    "'": "Close every quote; no quote or backslash stands inside one",
    '"': "Close every quote; no quote or backslash stands inside one",
    "`": "Close every backquote",
}


def parse(text: object) -> Condition:
    """The tree of a condition, at most `MOST_COMPARISONS` comparisons and `DEEPEST` deep.

    Raises:
      UnsupportedMechanism: naming what is not understood and what may be written.

    >>> parse("18 <= age < 65 and not ward in ('icu',)")  # doctest: +ELLIPSIS
    Every(parts=(Comparison(column='age', operator='>=', values=(18.0,)), ...
    """
    if not isinstance(text, str):
        raise UnsupportedMechanism(f"where={text!r:.60} is no text. Write one as where={EXAMPLE!r}.")
    if not text.strip() or len(text) > MOST_CHARACTERS:
        raise UnsupportedMechanism(
            f"where has {len(text):,} characters, outside [1, {MOST_CHARACTERS:,}]. Write one as where={EXAMPLE!r}."
        )
    if not text.isprintable():
        raise UnsupportedMechanism(
            f"where={visible(text)[:80]!r} has a character that does not show itself, or a second line. Write it as "
            "plain text."
        )
    return _Parser(_tokens(text)).whole()


def written(condition: Condition) -> str:
    """The text of a condition, from which `parse` makes an equal one."""
    if isinstance(condition, Comparison):
        column = condition.column
        if not column.isidentifier() or column.lower() in _KEYWORDS:
            column = f"`{column}`"
        values = [_written_value(value) for value in condition.values]
        if condition.operator == "missing":
            return f"{column} is missing"
        if condition.operator == "in":
            return f"{column} in ({', '.join(values)},)"
        return f"{column} {condition.operator} {values[0]}"
    if isinstance(condition, Not):
        return f"not ({written(condition.part)})"
    joint = " and " if isinstance(condition, Every) else " or "
    return joint.join(f"({written(part)})" for part in condition.parts)


def comparisons(condition: Condition) -> tuple[Comparison, ...]:
    """Every comparison in a condition, in the order of its text."""
    if isinstance(condition, Comparison):
        return (condition,)
    parts = (condition.part,) if isinstance(condition, Not) else condition.parts
    return tuple(comparison for part in parts for comparison in comparisons(part))


def _written_value(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(value) if isinstance(value, float) else f"'{value}'"


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    place = 0
    while place < len(text):
        match = _TOKENS.match(text, place)
        if match is None:
            here = text[place]
            instead = _INSTEAD.get(here, f"Use columns, values, and, or, not, in, is missing, {', '.join(ORDERS)}")
            raise UnsupportedMechanism(f"where: {text[place : place + 20]!r} is not understood. {instead}.")
        place = match.end()
        kind = match.lastgroup or ""
        if kind == "space":
            continue
        kind, part = ("text" if kind in ("single", "double") else kind), match[kind]
        if kind == "name" and part.lower() in _KEYWORDS:
            kind, part = "keyword", part.lower()
        tokens.append(_Token(kind, part))
    return [*tokens, _Token("end", "")]


class _Parser:
    """Reads tokens from left to right; every method takes what it names."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._place = tokens, 0
        self._comparisons = self._choices = self._depth = 0

    def whole(self) -> Condition:
        condition = self._any()
        if self._next.kind != "end":
            self._refuse("an end, and, or")
        return condition

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self, kind: str, *texts: str) -> _Token | None:
        token = self._next
        if token.kind != kind or (texts and token.text not in texts):
            return None
        self._place += 1
        return token

    def _refuse(self, wanted: str) -> NoReturn:
        found = repr(self._next.text) if self._next.kind != "end" else "the end"
        raise UnsupportedMechanism(f"where: {found} stands where {wanted} should. Write it as where={EXAMPLE!r}.")

    def _any(self) -> Condition:
        parts = [self._every()]
        while self._take("keyword", "or"):
            parts.append(self._every())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _every(self) -> Condition:
        parts = self._part()
        while self._take("keyword", "and"):
            parts += self._part()
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _part(self) -> list[Condition]:
        """One part, or the two that a chain as `18 <= age < 65` comes to."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise UnsupportedMechanism(f"where is more than {DEEPEST} brackets deep. Write it flatter.")
        if self._take("keyword", "not"):
            of = self._part()
            parts: list[Condition] = [Not(of[0] if len(of) == 1 else Every(tuple(of)))]
        elif self._take("mark", "("):
            parts = [self._any()]
            if not self._take("mark", ")"):
                self._refuse("a closing bracket")
        else:
            parts = list(self._comparison())
        self._depth -= 1
        return parts

    def _comparison(self) -> list[Comparison | Not]:
        before = None
        if self._next.kind in ("number", "date", "text"):
            before = self._value()
            order = self._take("mark", *ORDERS)
            if order is None:
                self._refuse(f"one of {', '.join(ORDERS)}")
        column = self._column()
        found: list[Comparison | Not] = []
        if before is not None and order is not None:
            found.append(self._counted(Comparison(column, FLIPPED[order.text], (before,))))
        if after := self._take("mark", *ORDERS):
            found.append(self._counted(Comparison(column, after.text, (self._value(),))))
        if found:
            return found
        if self._take("keyword", "is"):
            opposite = self._take("keyword", "not") is not None
            if not self._take("keyword", "missing"):
                self._refuse("missing")
            comparison = self._counted(Comparison(column, "missing"))
            return [Not(comparison) if opposite else comparison]
        opposite = self._take("keyword", "not") is not None
        if self._take("keyword", "in"):
            comparison = self._counted(Comparison(column, "in", self._values()))
            return [Not(comparison) if opposite else comparison]
        if opposite:
            self._refuse("in")
        return [self._counted(Comparison(column, "==", (True,)))]

    def _column(self) -> str:
        token = self._take("name") or self._take("quoted")
        if token is None:
            self._refuse("a column")
        return token.text

    def _value(self) -> Value:
        token = self._next
        if token.kind == "number":
            number = float(token.text) if len(token.text) <= LONGEST_NUMBER else math.inf
            if not math.isfinite(number):
                raise UnsupportedMechanism(f"where: the number {token.text[:40]} is too long. Write fewer digits.")
            self._place += 1
            return number
        if token.kind in ("date", "text"):
            self._place += 1
            return token.text
        if token.kind != "keyword" or token.text not in ("yes", "true", "no", "false"):
            self._refuse("a value, as 65, 'icu', yes or 2025-10-01,")
        self._place += 1
        return token.text in ("yes", "true")

    def _values(self) -> tuple[Value, ...]:
        if not self._take("mark", "("):
            self._refuse("a list in round brackets")
        values = [self._value()]
        while self._take("mark", ",") and self._next != _Token("mark", ")"):
            values.append(self._value())
        if not self._take("mark", ")"):
            self._refuse("a comma or a closing bracket")
        self._choices += len(values)
        if self._choices > MOST_CHOICES:
            raise UnsupportedMechanism(f"where lists more than {MOST_CHOICES} values. List fewer, or use not in.")
        return tuple(values)

    def _counted(self, comparison: Comparison) -> Comparison:
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            raise UnsupportedMechanism(f"where compares more than {MOST_COMPARISONS} times. Write fewer comparisons.")
        return comparison
