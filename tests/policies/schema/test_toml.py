"""TOML as we write it is what TOML readers read, whatever the text."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.errors import DataRefused
from policies.schema.toml import quoted


@given(st.text())
@example("\x7f")
@example('\\"\\')
@example("\0\b\t\n\f\r\x1b\x1f\x7f\x80\x85\xa0\u2028\ufeff\ufffe😀")
@example("\r\n# no comment ]")
def test_any_text_is_read_back_as_value_and_as_key(text: str) -> None:
    written = quoted(text)
    assert tomllib.loads(f"value = {written} # end") == {"value": text}
    assert tomllib.loads(f"[columns.{written}]\n{written} = 1") == {"columns": {text: {text: 1}}}
    assert "\n" not in written


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_half_a_character_is_refused(text: str) -> None:
    with pytest.raises(DataRefused, match="not text in Unicode"):
        quoted(text)
