"""Text of others: what would act on a screen is shown by name, and refused where it is submitted."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from policies.errors import InvalidRequest
from policies.text import check_visible, visible

ACTING = {
    "\x1b[2J": "<U+001B>[2J",
    "\x07": "<U+0007>",
    "a\u202eb": "a<U+202E>b",
    "a\u200bb": "a<U+200B>b",
    "\u2066": "<U+2066>",
    "\ufeff": "<U+FEFF>",
    "\x9b31m": "<U+009B>31m",
    "a\u2028b": "a<U+2028>b",
    "\ud800": "<U+D800>",
    "\U000e0041": "<U+E0041>",
    "a\nb": "a<U+000A>b",
}


@pytest.mark.parametrize(("text", "shown"), ACTING.items())
def test_what_acts_on_a_screen_is_shown_by_name(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(visible(text)) == shown  # by then it is plain


@pytest.mark.parametrize("text", ["", "plain [b]text[/b]", "größer als 5 °C – ε = 2", "日本語 علي", "✓ <U+001B>"])
def test_what_shows_itself_stays_as_it_is(text: str) -> None:
    assert visible(text) == text
    check_visible(text, "The purpose")


def test_no_character_that_a_terminal_obeys_is_left() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    left = {unicodedata.category(character) for character in visible(every)}
    assert not left & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_lines_stay_where_they_are_kept() -> None:
    assert visible("a\nb\x00", keep="\n") == "a\nb<U+0000>"


def test_a_submitted_text_with_hidden_characters_is_refused_by_their_names() -> None:
    with pytest.raises(InvalidRequest, match=r"The purpose holds .*\(U\+001B, U\+202E\)\. Write it as plain text"):
        check_visible("To\x1b[2J\u202e\x1b", "The purpose")
    check_visible("Two\nlines", "The comment")
