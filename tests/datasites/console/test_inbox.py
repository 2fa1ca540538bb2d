"""The inbox of a new datasite says what will come."""

from __future__ import annotations

import contextlib
from pathlib import Path

from datasites.people.roles import Role
from tests.browser.desk import Desk


def test_an_empty_inbox_says_what_will_appear_there(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "datasite")
    with contextlib.closing(desk):
        page = desk.browser(Role.OWNER).get("/requests").text
    assert "No requests yet" in page
    assert "it appears here by itself" in page


def test_a_request_that_cannot_be_charged_any_more_is_shown_and_can_be_denied(tmp_path: Path) -> None:
    # Version 0.1 took any ε above 0; below 1e-9 a draw, python-dp's noise is too coarse for its own promise.
    desk = Desk(tmp_path / "datasite")
    with contextlib.closing(desk):
        request = desk.ask("e" * 32, epsilon=1e-12)
        owner = desk.browser(Role.OWNER)
        assert request in owner.get("/requests").text
        assert owner.get(f"/requests/{request}").status_code == 200
        desk.act("deny", {"request": request, "reason": "Ask for a larger epsilon."})
        assert request in owner.get("/requests?show=all").text
