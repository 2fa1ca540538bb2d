"""Accounts: one person has one, whoever is closed out is out, and nobody acts for another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datasites.actions.people import accept
from datasites.people.roles import Role
from policies.errors import InvalidRequest, PermissionRefused
from tests.browser.desk import AUDITOR, OWNER, REVIEWER, Desk
from tests.factories import PASSWORD, RESEARCHER

NEW = "new@university.example"
FULL_WIDTH = "ｎｅｗ＠ｕｎｉｖｅｒｓｉｔｙ．ｅｘａｍｐｌｅ"
HIDDEN = "new\u200b@university.example"
CYRILLIC = "\u0430da@university.example"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


def researcher(email: str) -> tuple[str, dict[str, Any]]:
    return "add_researcher", {"email": email, "name": "Ada", "institution": "", "password": PASSWORD}


def invited(email: str) -> tuple[str, dict[str, Any]]:
    return "invite_researcher", {"email": email, "name": "Ada"}


def auditor(email: str) -> tuple[str, dict[str, Any]]:
    return "add_console_user", {"email": email, "name": "Ada", "role": "auditor", "password": PASSWORD}


WAYS = [researcher, invited, auditor]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("email", [HIDDEN, CYRILLIC, "new", "", "new@university.example\x1b[2J"])
def test_no_account_has_an_address_that_could_pass_for_another(desk: Desk, way: Any, email: str) -> None:
    with pytest.raises(InvalidRequest, match=r"plain letters|is not an e-mail address") as refused:
        desk.act(*way(email))
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "taken", [RESEARCHER.upper(), f" {REVIEWER}", "ｏｗｎｅｒ＠hospital.example", AUDITOR.replace("a", "\uff41")]
)
def test_an_address_that_has_an_account_gets_no_second_one_however_it_is_written(
    desk: Desk, way: Any, taken: str
) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot also|has an? (researcher's )?account here"):
        desk.act(*way(taken))


def test_an_account_is_kept_under_its_address_in_plain_small_letters(desk: Desk) -> None:
    assert desk.act(*researcher(FULL_WIDTH)) == NEW
    assert desk.syft.names[NEW] == "Ada"
    (row,) = desk.datasite.audit_log.entries(search="add researcher")
    assert row.object == NEW


def test_an_invitation_makes_the_account_that_it_names_once(desk: Desk) -> None:
    link = desk.act(*invited(FULL_WIDTH))["link"]
    token = link.rsplit("/", 1)[1]
    assert accept(desk.datasite, token, PASSWORD) == NEW
    with pytest.raises(InvalidRequest, match="does not work"):
        accept(desk.datasite, token, PASSWORD)
    with pytest.raises(InvalidRequest, match="has a researcher's account here"):
        desk.act(*invited(NEW))


def test_sign_in_takes_an_address_however_it_is_written(desk: Desk) -> None:
    assert desk.browser().sign_in(" ＯＷＮＥＲ@Hospital.example").status_code == 303
    assert desk.browser().sign_in(REVIEWER.upper()).status_code == 303


def test_closing_a_researcher_ends_their_rounds_and_says_how_many(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(desk.datasite.rounds, "end_of", lambda email: asked.append(email) or 2)
    assert desk.act("disable_researcher", {"email": RESEARCHER.upper()}) == {"ended": 2}
    assert asked == [RESEARCHER]
    assert desk.syft.states[RESEARCHER] == "disabled"
    (row,) = desk.datasite.audit_log.entries(search="disable researcher")
    assert (row.object, row.details) == (RESEARCHER, {"ended": 2})


def test_a_new_password_ends_sessions_and_rounds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.datasite.rounds, "end_of", lambda email: 1)
    browser = desk.browser(Role.OWNER)
    assert desk.act("set_password", {"email": "", "password": "another long password"}) == {"ended": 1}
    assert browser.get("/account").status_code == 303  # to the sign-in
    assert desk.syft.passwords[OWNER] == "another long password"


@pytest.mark.parametrize("email", [REVIEWER, AUDITOR])
def test_closing_an_account_of_the_console_ends_its_sessions(desk: Desk, email: str) -> None:
    browser = desk.browser(Role.SECOND_REVIEWER if email == REVIEWER else Role.AUDITOR)
    assert browser.get("/account").status_code == 200
    desk.act("disable_console_user", {"email": email})
    assert browser.get("/account").status_code == 303
    assert "You are signed in no more" in browser.get("/sign-in").text
    assert browser.sign_in(email).status_code == 401
    desk.act("enable_console_user", {"email": email})
    assert browser.get("/account").status_code == 303  # the session stays ended


def test_nobody_but_the_owner_acts_on_anothers_account(desk: Desk) -> None:
    for action, more in (("sign_out", {}), ("set_console_password", {"password": "another long password"})):
        with pytest.raises(PermissionRefused, match="another's account"):
            desk.act(action, {"email": AUDITOR, **more}, role=Role.SECOND_REVIEWER)
    desk.act("sign_out", {"email": REVIEWER.upper()}, role=Role.SECOND_REVIEWER)


def test_a_limit_is_of_a_researcher_who_is_here(desk: Desk) -> None:
    arguments = {"population": desk.schema.population, "epsilon": 1.0}
    with pytest.raises(InvalidRequest, match="is no researcher here"):
        desk.act("limit_researcher", {"email": HIDDEN, **arguments})
    desk.act("limit_researcher", {"email": RESEARCHER.upper(), **arguments})
    (row,) = desk.act("researcher_budgets", {"email": RESEARCHER})
    assert row["epsilon"] == 1.0
