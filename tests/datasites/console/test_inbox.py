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
