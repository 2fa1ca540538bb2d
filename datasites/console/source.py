"""A request's source as lines of coloured text with findings in place. The text is data here and never runs."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape
from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES

MOST_LINES = 3000


@dataclass(frozen=True)
class Line:
    """One line: its number, its coloured text, and what inspection found on it."""

    number: int
    text: Markup
    findings: tuple[dict[str, Any], ...]


def lines(source: str, findings: Sequence[dict[str, Any]] = ()) -> list[Line]:
    """The lines of a source, at most `MOST_LINES`."""
    rows: list[list[Markup]] = [[]]
    for kind, text in PythonLexer(stripnl=False, ensurenl=False).get_tokens(source):
        for index, piece in enumerate(text.split("\n")):
            if index:
                rows.append([])
            if piece:
                rows[-1].append(_span(kind, piece))
    return [
        Line(number, Markup("").join(row), tuple(finding for finding in findings if finding["line"] == number))
        for number, row in enumerate(rows[:MOST_LINES], 1)
    ]


def difference(text: Sequence[str]) -> list[tuple[str, Markup]]:
    """Lines of a unified difference with what each is: `"head"`, `"added"`, `"removed"` or `"same"`."""
    kinds = {"+++": "head", "---": "head", "@@ ": "head"}
    return [
        (kinds.get(line[:3]) or {"+": "added", "-": "removed"}.get(line[:1], "same"), visible(line)) for line in text
    ]


def visible(text: str) -> Markup:
    """Text with every invisible or reordering character as its name, so that nothing reads as what it is not."""
    return Markup("").join(
        Markup('<span class="odd">{}</span>').format(f"U+{ord(letter):04X}") if _is_odd(letter) else escape(letter)
        for letter in text
    )


def _is_odd(letter: str) -> bool:
    return letter != "\t" and unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _span(kind: Any, text: str) -> Markup:
    name: str | None = None
    while name is None:
        name = STANDARD_TYPES.get(kind)
        kind = kind.parent or kind
    return Markup('<span class="{}">{}</span>').format(f"t-{name}", visible(text)) if name else visible(text)
