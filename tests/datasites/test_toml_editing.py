"""Editing TOML: values change, lines go out of use and come back, and every other byte stays."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasites.review.policy import DEFAULT_POLICY, MECHANISMS, Rules
from datasites.toml_editing import Value, with_values
from policies.errors import DatasiteError

OPTIONAL = ("second_reviewer_epsilon", "approve_at_once_epsilon", "researcher_epsilon")
OTHERS = ("max_epsilon", "typed_confirmation_epsilon", "min_noise_multiplier")
NUMBERS = st.floats(0.06, 99.0) | st.integers(1, 99)
RULES = st.fixed_dictionaries(
    {},
    optional={
        **{name: NUMBERS | st.none() for name in OPTIONAL},
        **dict.fromkeys(OTHERS, NUMBERS),
        "deny_at_once": st.booleans(),
        "allowed_mechanisms": st.lists(st.sampled_from(MECHANISMS), unique=True),
    },
)


def lines(text: str, without: set[str]) -> list[str]:
    return [line for line in text.splitlines(keepends=True) if line.split("=")[0].strip("# ") not in without]


@given(RULES, RULES, st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=100, deadline=None)
def test_rules_are_what_was_set_and_every_other_line_stays(
    first: dict[str, Value], second: dict[str, Value], end: str
) -> None:
    text = DEFAULT_POLICY.replace("\n", end)
    changed = with_values(with_values(text, first), second)
    given = {**first, **second}
    assert lines(changed, set(given)) == lines(text, set(given))
    values = {name: value for name, value in given.items() if value is not None}
    expected = {name: value for name, value in tomllib.loads(DEFAULT_POLICY).items() if name not in given} | values
    assert tomllib.loads(changed) == expected
    Rules.from_toml(changed)


def test_a_line_goes_out_of_use_and_comes_back_in_its_place() -> None:
    text = with_values(DEFAULT_POLICY, {"researcher_epsilon": 2.5})
    assert "\nresearcher_epsilon = 2.5\n" in text
    assert "# researcher_epsilon" not in text
    off = with_values(text, {"researcher_epsilon": None})
    assert "\n# researcher_epsilon = 2.5\n" in off
    assert with_values(off, {"researcher_epsilon": 3.0}) == with_values(DEFAULT_POLICY, {"researcher_epsilon": 3.0})


def test_a_sentence_that_begins_as_a_line_is_left_alone() -> None:
    text = "# limit = 3 was agreed in May\nother = 1\n"
    assert with_values(text, {"limit": 2}) == text + "limit = 2\n"


def test_a_list_over_several_lines_is_replaced_whole() -> None:
    text = 'a = [ # kinds\n  "x", # max = 1\n  "y",\n] # end\nb = 1\n'
    assert with_values(text, {"a": ["z#"], "max": 2}) == 'a = ["z#"] # end\nb = 1\nmax = 2\n'
    assert with_values(text, {"a": None}) == '# a = [ # kinds\n#   "x", # max = 1\n#   "y",\n# ] # end\nb = 1\n'


def test_a_value_that_is_there_is_not_written_again() -> None:
    text = "a = 4.00  # four\nb = 0x10\nc = true\n"
    assert with_values(text, {"a": 4.0, "b": 16, "c": True, "d": None}) == text
    assert with_values(text, {"c": 1}) == text.replace("true", "1")


def test_a_file_that_is_no_toml_is_refused() -> None:
    with pytest.raises(DatasiteError, match=r"not TOML: .*line 1.*Mend that line"):
        with_values("a = \n", {"a": 1})
