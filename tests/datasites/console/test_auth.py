"""Cookies, tokens and where a form came from."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from datasites.console import auth


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request(
        {"type": "http", "method": "POST", "path": "/", "scheme": "http", "headers": raw, "query_string": b""}
    )


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({}, True),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"origin": "http://here.example", "host": "here.example"}, True),
        ({"origin": "http://there.example", "host": "here.example"}, False),
        ({"origin": "null", "host": "here.example"}, False),
    ],
)
def test_a_form_is_taken_from_this_site_alone(headers: dict[str, str], ours: bool) -> None:
    assert auth.comes_from_here(request(**headers)) is ours


def test_no_token_matches_where_there_should_be_one() -> None:
    assert auth.tokens_match("a", "a")
    assert not auth.tokens_match("a", "b")
    assert not auth.tokens_match("", "")
    assert not auth.tokens_match("é", "e")


def test_form_tokens_differ() -> None:
    assert len({auth.form_token() for _ in range(100)}) == 100
