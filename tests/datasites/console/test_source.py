"""A source is shown as text: coloured, numbered, its findings in place, and nothing in it hidden."""

from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from datasites.console.source import MOST_LINES, difference, lines


def text_of(markup: object) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", str(markup)))


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=200))
def test_every_character_of_a_line_is_there_as_text(source: str) -> None:
    (line,) = lines(source)
    assert text_of(line.text) == source


def test_findings_stand_on_their_line() -> None:
    finding = {"line": 2, "why": "No.", "instead": "Yes."}
    first, second = lines("x = 1\nimport os", [finding])
    assert (first.findings, second.findings) == ((), (finding,))
    assert (first.number, second.number) == (1, 2)


def test_markup_in_a_source_is_text() -> None:
    (line,) = lines("x = '<script>alert(1)</script>'")
    assert "<script" not in str(line.text)


def test_what_reorders_or_hides_text_is_shown_by_name() -> None:
    shown = str(lines("x = 1  # \u202e\u200b")[0].text)
    assert "U+202E" in shown
    assert "U+200B" in shown
    assert not {"\u202e", "\u200b"} & set(shown)


def test_a_long_source_is_cut() -> None:
    assert len(lines("\n" * (MOST_LINES + 5))) == MOST_LINES


def test_a_difference_says_what_each_line_is() -> None:
    assert [kind for kind, _ in difference(["--- a", "+++ b", "@@ -1 +1 @@", "-x", "+y", " z", "+<b>"])] == [
        "head", "head", "head", "removed", "added", "same", "added",
    ]  # fmt: skip
    assert difference(["+<b>"])[0][1] == "+&lt;b&gt;"
