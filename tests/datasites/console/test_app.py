"""What is not there, not allowed, too large or failed is a page like the others, and tells nothing of why."""

from __future__ import annotations

from typing import Any

import pytest

from datasites.console import app
from datasites.people.roles import Role
from tests.browser.desk import Desk, TestClient

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
SECRET = "SECRET-OF-THE-INSIDE"


def is_page(answer: Any) -> bool:
    return "<!doctype html>" in answer.text and '<main id="main"' in answer.text and "<h1>" in answer.text


def test_an_address_without_a_page_is_a_page_for_a_browser(desk: Desk) -> None:
    owner = desk.browser(Role.OWNER)
    answer = owner.get("/nothing/here", headers=BROWSER)
    assert answer.status_code == 404
    assert is_page(answer)
    assert "There is no such page." in answer.text
    assert 'aria-label="Console"' in answer.text  # the navigation, as signed in
    assert answer.headers["x-frame-options"] == "DENY"


def test_a_stranger_sees_the_same_without_the_navigation(desk: Desk) -> None:
    answer = desk.browser().get("/nothing", headers=BROWSER)
    assert (answer.status_code, is_page(answer)) == (404, True)
    assert 'aria-label="Console"' not in answer.text
    assert "Sign in" in answer.text


def test_a_program_gets_a_line(desk: Desk) -> None:
    answer = desk.browser().get("/nothing", headers={"accept": "application/json"})
    assert (answer.status_code, answer.text) == (404, "There is no such page.\n")
    assert desk.browser().get("/static/nothing.css", headers=BROWSER).text == "There is no such page.\n"


def test_a_method_that_an_address_does_not_take_is_a_page(desk: Desk) -> None:
    answer = desk.browser(Role.OWNER).client.delete("/requests", headers=BROWSER)
    assert (answer.status_code, is_page(answer)) == (405, True)
    assert "GET" in answer.headers["allow"]


def test_what_a_role_may_not_do_is_a_page(desk: Desk) -> None:
    answer = desk.browser(Role.AUDITOR).get("/datasets/publish", headers=BROWSER)
    assert (answer.status_code, is_page(answer)) == (403, True)
    assert "<h1>Not allowed</h1>" in answer.text


def test_a_form_of_a_session_that_ended_says_so(desk: Desk) -> None:
    owner = desk.browser(Role.OWNER)
    owner.client.cookies.clear()
    answer = owner.post("/runs/stop", headers=BROWSER)
    assert (answer.status_code, is_page(answer)) == (401, True)
    assert "nothing was done" in answer.text


def test_a_form_that_is_too_large_is_a_page(desk: Desk) -> None:
    answer = desk.browser(Role.OWNER).post("/policy", text="x" * (300 << 10))
    assert (answer.status_code, is_page(answer)) == (413, True)
    assert "larger than 262.1 kB" in answer.text


def _fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError(SECRET)


@pytest.mark.parametrize("path", ["/requests", "/nothing"])
def test_a_fault_before_the_page_is_a_page_without_details(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """As where the file of accounts cannot be read."""
    client = TestClient(desk.app, raise_server_exceptions=False)
    monkeypatch.setattr(app, "session_of", _fail)
    answer = client.get(path, headers=BROWSER)
    assert answer.status_code == (500 if path == "/requests" else 404)
    assert is_page(answer)
    assert SECRET not in answer.text


def test_a_page_that_fails_is_a_page_without_details(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = desk.browser(Role.OWNER)
    monkeypatch.setattr(type(desk.datasite.ledger.requests), "list", _fail)
    answer = owner.get("/requests", headers=BROWSER)
    assert (answer.status_code, is_page(answer)) == (500, True)
    assert "its log has the details" in answer.text
    assert SECRET not in answer.text
