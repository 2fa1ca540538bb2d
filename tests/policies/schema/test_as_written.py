"""How tables write things: what a schema refuses of it, and that older schemas stay as they are."""

from __future__ import annotations

import re
import textwrap
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.errors import DataRefused
from policies.schema import as_written
from policies.schema.as_written import FileFormat, format_pattern, named, normal_header
from policies.schema.schemas import Schema

HEAD = 'name = "t"\npopulation = "p"\npatient = "pid"\n'
AGE = '[columns.age]\nkind = "integer"\nminimum = 0\nmaximum = 110\n'
SEX = '[columns.sex]\nkind = "category"\n'
SEEN = '[columns.seen]\nkind = "datetime"\nminimum = 2025-10-01T00:00:00\nmaximum = 2025-10-03T00:00:00\n'
EXAMPLE = textwrap.dedent(as_written.__doc__[as_written.__doc__.index("    missing_values") :])


def test_example_of_the_docstring_is_read() -> None:
    schema = Schema.from_toml(HEAD + EXAMPLE)
    assert schema.file == FileFormat(separator=";", decimal=",", encoding="windows-1252", skip=2, sheet="Visits")
    assert schema.headers["hba1c"] == "HbA1c (%)"
    assert schema.headers["pid"] == "Patient No."
    assert schema.column("sex").categories == ("male", "female")
    assert schema.words_for_missing(schema.column("hba1c")) == ("<LOD",)
    assert schema.words_for_missing(schema.column("sex")) == ("NA", "n/a", "-")
    seen = schema.column("seen")
    assert (seen.low, seen.high) == (0, 211 * 24)  # hours from 2025-10-01 to 2026-04-30
    assert seen.written(25) == "2025-10-02 01:00"
    assert Schema.from_toml(schema.to_toml()) == schema


def test_a_schema_without_anything_new_is_what_it_was() -> None:
    schema = Schema.from_toml(HEAD + AGE)
    assert schema.as_dict() == {
        "name": "t", "population": "p", "description": "", "patient": "pid", "target": None, "holdout": 0.0,
        "columns": [
            {
                "name": "age", "kind": "integer", "unit": "", "minimum": 0.0, "maximum": 110.0, "categories": [],
                "missing": "refuse", "indicator": False, "outside": "refuse", "feature": True, "description": "",
                "origin": "",
            }
        ],
        "sequences": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + '[file]\nseparator = ":"\n' + AGE, "separator=':' is not known"),
        (HEAD + '[file]\ndecimal = ","\n' + AGE, "separator and decimal are both ','"),
        (HEAD + '[file]\nencoding = "rot13"\n' + AGE, "encoding='rot13' is not known"),
        (HEAD + "[file]\nskip = -1\n" + AGE, r"skip=-1 is not a whole number in \[0, 1000\]"),
        (HEAD + "[file]\nskip = true\n" + AGE, "skip=True"),
        (HEAD + "[file]\nquote = 1\n" + AGE, "has 'quote', which is not known"),
        (HEAD + "file = 3\n" + AGE, "is a table of names"),
        (HEAD + "missing_values = 3\n" + AGE, "should be a list of texts"),
        (HEAD + 'missing_values = ["NA", "NA"]\n' + AGE, "listed twice"),
        (HEAD + 'missing_values = [" "]\n' + AGE, "begins or ends with a space"),
        (HEAD + 'missing_values = [""]\n' + AGE, "1 to 100 characters"),
        (HEAD + AGE + 'header = "a\\u200bge"', r"U\+200B \(ZERO WIDTH SPACE\) as character 2"),
        (HEAD + AGE + 'header = "a\\u001b[2J"', r"has U\+001B as character 2"),
        (HEAD + AGE + 'header = "  "', "nothing but spaces"),
        (HEAD + AGE + 'header = " pid"', "Two columns are read from the header 'pid'"),
        (HEAD + AGE + 'labels = {"1" = "one"}', "labels are for booleans and categories"),
        (HEAD + SEX + 'labels = ["M"]', "labels should be a table"),
        (HEAD + SEX + 'labels = {"M" = 3, "F" = 4}', "labels should be a table of texts"),
        (HEAD + SEX + 'categories = ["m", "f"]\nlabels = {"X" = "x"}', "'X' means 'x', which is not one of m, f"),
        (HEAD + SEX + 'categories = ["m", "f"]\nlabels = {"m" = "f"}', "it is a category itself"),
        (HEAD + SEX + 'categories = ["-", "f"]\nmissing_values = ["-"]', "'-' is a label and stands for a missing"),
        (HEAD + AGE + 'truncate = "day"', "truncate is for kind='datetime', not 'integer'"),
        (HEAD + AGE + 'zone = "UTC"', "zone is for kind='datetime'"),
        (HEAD + AGE + 'format = "%Y"', "format is for dates alone"),
        (HEAD + SEEN, "needs truncate = one of 'day', 'hour'"),
        (HEAD + SEEN + 'truncate = "week"', "needs truncate = one of"),
        (HEAD + SEEN + 'truncate = "day"\nzone = "../../etc/passwd"', "names no time zone"),
        (HEAD + SEEN + 'truncate = "day"\nformat = "%d.%m."', "Use %Y, %m and %d once each"),
        (HEAD + SEEN + 'truncate = "day"\nformat = "(.*)%d%m%Y"', "Use %Y, %m and %d once each"),
        (HEAD + SEEN.replace("T00:00:00", "T00:30:00") + 'truncate = "hour"', "is not a whole hour"),
        (HEAD + SEEN.replace("T00:00:00", "T00:00:00Z") + 'truncate = "hour"', "has an offset"),
        (HEAD + SEEN.replace("2025-10-03", "2025-10-01") + 'truncate = "hour"', "is not after minimum"),
        (HEAD + '[columns."HbA1c (%)"]\nkind = "boolean"', r"it has '\(', U\+0028 \(LEFT PARENTHESIS\)"),
    ],
)
def test_what_a_schema_refuses_names_value_and_what_to_write(text: str, words: str) -> None:
    with pytest.raises(DataRefused, match=words):
        Schema.from_toml(text)


@given(st.text(max_size=50))
def test_a_normal_header_stays_as_it_is_and_can_be_seen(text: str) -> None:
    once = normal_header(text)
    assert normal_header(once) == once
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in once)


@pytest.mark.parametrize(
    "written", ["HbA1c (%)", " HbA1c  (%) ", "HbA1c\n(%)", "HbA1c\xa0(%)", "Hb\xadA1c (%)", "ＨbA1c (%)"]
)
def test_headers_that_look_alike_are_one(written: str) -> None:
    assert normal_header(written) == "HbA1c (%)"


@given(st.text(max_size=30))
def test_any_format_is_a_sound_expression_or_refused(form: str) -> None:
    try:
        pattern = format_pattern("format", form)
    except DataRefused:
        return
    assert {"Y", "m", "d"} <= set(re.compile(pattern).groupindex)


def test_characters_are_named_by_what_they_are() -> None:
    assert named("(") == "'(', U+0028 (LEFT PARENTHESIS)"
    assert named("\x1b") == "U+001B"
