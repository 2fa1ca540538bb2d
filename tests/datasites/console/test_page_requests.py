"""What a view reads of an address, and what every page of the console is printed with."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2 import UndefinedError
from starlette.requests import Request

from datasites.console.forms import Form
from datasites.console.page_requests import PageRequest, asset_digest, download, environment

NONE: Any = None


def visit(query: str) -> PageRequest:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": query.encode()}
    return PageRequest(NONE, NONE, NONE, Request(scope), None, Form(), "")


@pytest.mark.parametrize(
    ("query", "page"),
    [("", 1), ("page=3", 3), ("page=0", 1), ("page=-1", 1), ("page=x", 1), ("page=٣", 1), ("page=" + "9" * 30, 1),
     ("page=" + "9" * 18, 1_000_000)],
)  # fmt: skip
def test_a_page_number_is_from_one_to_a_million(query: str, page: int) -> None:
    assert visit(query).page_number() == page


def test_a_parameter_is_cut_short() -> None:
    assert len(visit("q=" + "x" * 5_000).query("q")) == 200


def test_what_a_template_prints_is_escaped_and_what_it_lacks_is_an_error() -> None:
    assert environment().from_string("{{ name }}").render(name="<b>") == "&lt;b&gt;"
    with pytest.raises(UndefinedError):
        environment().from_string("{{ nothing }}").render()


def test_a_download_has_a_name_of_ours() -> None:
    assert download("ledger.csv") == {"content-disposition": 'attachment; filename="ledger.csv"'}
    assert len(asset_digest()) == 12
