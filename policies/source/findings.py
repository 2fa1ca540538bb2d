"""Findings: what inspection has against a source, by line and column, with what to write instead."""

from __future__ import annotations

import ast
from dataclasses import dataclass

MAX_FINDINGS = 50


@dataclass(frozen=True)
class Finding:
    """One thing that a source may not do.

    Args:
      code: the rule, one short word that stays the same, as `"import"`.
      line: in the source, from 1; 0 where it is the whole.
      column: from 1; 0 where it is the whole line.
      text: the offending text, shortened.
      why: why it matters.
      instead: what to write instead.
    """

    code: str
    line: int
    column: int
    text: str
    why: str
    instead: str

    def __str__(self) -> str:
        return f"line {self.line}: `{self.text}`: {self.why} {self.instead}"


class Findings:
    """Collects findings about one source, the first `MAX_FINDINGS` of them."""

    def __init__(self, source: str) -> None:
        self.found: list[Finding] = []
        self._lines = source.split("\n")

    def add(self, code: str, node: ast.AST | None, why: str, instead: str, *, text: str | None = None) -> None:
        """Note a finding at a node of the syntax tree, or about the whole source."""
        if len(self.found) >= MAX_FINDINGS:
            return
        line = getattr(node, "lineno", 0)
        column = getattr(node, "col_offset", -1) + 1
        self.found.append(Finding(code, line, column, (text or self._text(node))[:120], why, instead))

    def at(self, code: str, line: int, column: int, text: str, why: str, instead: str) -> None:
        """Note a finding at a place of the text."""
        if len(self.found) < MAX_FINDINGS:
            self.found.append(Finding(code, line, column, text[:120], why, instead))

    def _text(self, node: ast.AST | None) -> str:
        line = getattr(node, "lineno", 0)
        if not 1 <= line <= len(self._lines):
            return ""
        row = self._lines[line - 1].encode()
        last = getattr(node, "end_col_offset", None) if getattr(node, "end_lineno", line) == line else None
        return row[getattr(node, "col_offset", 0) : last].decode(errors="replace").strip()
