"""Two addresses that look alike are one account, or none."""

from __future__ import annotations

import pytest

from policies.email_addresses import as_typed, email_address
from policies.errors import InvalidRequest

ADA = "ada@university.example"


@pytest.mark.parametrize(
    "text",
    [
        ADA,
        " Ada@University.Example\n",
        "ａｄａ＠ｕｎｉｖｅｒｓｉｔｙ．ｅｘａｍｐｌｅ",  # full-width
        "ᵃda@university.example",  # modifier letter small a
        "ada@universit\uff59.example",
    ],
)
def test_ways_to_write_one_address_come_to_one(text: str) -> None:
    assert email_address(text) == ADA
    assert as_typed(text) == ADA


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ada\u200b@university.example", "U+200B"),
        ("ada@university.example\u200d", "U+200D"),
        ("\u202eada@university.example", "U+202E"),
        ("\u0430da@university.example", "U+0430"),  # Cyrillic
        ("ad\u00adа@university.example", "U+00AD"),
        ("ada@university\u3002example", "U+3002"),
    ],
)
def test_an_address_with_another_letter_is_refused_and_names_it(text: str, names: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"{names.replace('+', '.')}.*plain letters") as refused:
        email_address(text)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "text",
    ["", "ada", "@", "ada@", "@university.example", "a da@university.example", "ada@university..example",
     "a@b@c.example", "ada.@university.example", "ada@-university.example", "ada\x00@university.example",
     "ada@university.example\nx@y.z", '"ada"@university.example', f"{'a' * 190}@university.example"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not an e-mail address"):
        email_address(text)
