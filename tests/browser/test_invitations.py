"""The link of an invitation: works once, for its time, for whoever holds it, and tells strangers nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, expect

from datasites.people.invitations import DEAD
from datasites.people.roles import Role
from policies.errors import DatasiteError, InvalidRequest
from tests.browser.desk import AUDITOR, OWNER, REVIEWER, Browser, Desk
from tests.e2e import stock
from tests.factories import RESEARCHER, DatasiteProcess

NEW = "new@university.example"
CHOSEN = "chosen by nobody else"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "datasite")
    yield made
    made.close()


def invite(desk: Desk, email: str = NEW, **more: Any) -> str:
    """The path of a new link."""
    arguments = {"email": email, "name": "New Person", **more}
    return "/invitation/" + desk.act("invite_researcher", arguments)["link"].rpartition("/")[2]


def use(browser: Browser, path: str, password: str = CHOSEN, *, again: str | None = None) -> Any:
    found = re.search(r'name="form_token" value="([^"]+)"', browser.get(path).text)
    fields = {"form_token": found[1] if found else "", "new": password, "again": password if again is None else again}
    return browser.client.post(path, data=fields)


def test_a_link_makes_one_account_once(desk: Desk) -> None:
    path, browser = invite(desk), desk.browser()
    assert browser.get(path).status_code == 200
    assert browser.get(path).status_code == 200  # looking uses nothing up
    assert NEW not in desk.syft.names
    assert use(browser, path).status_code == 200
    assert desk.syft.passwords[NEW] == CHOSEN
    again = use(desk.browser(), path, "somebody else's choice")
    assert again.status_code == 404
    assert desk.syft.passwords[NEW] == CHOSEN


def test_of_many_who_use_a_link_at_once_one_succeeds(desk: Desk) -> None:
    token = invite(desk).rpartition("/")[2]
    made: list[str] = []
    desk.syft.add_researcher = lambda email, *rest: made.append(email)  # type: ignore[method-assign]

    def one(number: int) -> bool:
        from datasites.actions.people import accept

        try:
            return bool(accept(desk.datasite, token, f"{CHOSEN} {number}"))
        except InvalidRequest:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(16))) == 1
    assert made == [NEW]


def test_used_ended_withdrawn_replaced_and_guessed_links_are_answered_alike(desk: Desk) -> None:
    now = [desk.datasite.invitations.clock()]
    desk.datasite.invitations.clock = lambda: now[0]
    used, replaced = invite(desk), invite(desk, "b@university.example")
    use(desk.browser(), used)
    invite(desk, "b@university.example")
    withdrawn, ended = invite(desk, "c@university.example"), invite(desk, "d@university.example", days=1)
    desk.act("withdraw_invitation", {"email": "c@university.example"})
    now[0] += 86_401
    answers = set()
    for path in (used, replaced, withdrawn, ended, "/invitation/" + "t" * 43, "/invitation/%00"):
        looked, tried = desk.browser().get(path), use(desk.browser(), path)
        answers |= {(each.status_code, each.text) for each in (looked, tried)}
    assert len(answers) == 1
    assert DEAD in answers.pop()[1]
    assert set(desk.syft.names) == {RESEARCHER, NEW}


def test_the_token_is_kept_nowhere(desk: Desk) -> None:
    token = invite(desk).rpartition("/")[2]
    for path in desk.datasite.settings.directory.rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path
    assert (desk.datasite.settings.directory / "console.db").stat().st_mode & 0o77 == 0
    assert token not in str([row.details for row in desk.datasite.audit_log.entries()])
    assert token not in desk.browser(Role.OWNER).get("/people").text


def test_the_form_needs_its_own_cookie_and_two_equal_passwords_that_are_long_enough(desk: Desk) -> None:
    path = invite(desk)
    browser = desk.browser()
    assert browser.client.post(path, data={"new": CHOSEN, "again": CHOSEN}).status_code == 400
    assert use(browser, path, again="another").status_code == 422
    for password in ("short", "x" * 73, "ü" * 40, "a password with \0 in it"):
        assert use(browser, path, password).status_code == 422
    foreign = browser.client.post(path, data={}, headers={"sec-fetch-site": "cross-site"})
    assert foreign.status_code == 403
    assert NEW not in desk.syft.names
    assert use(browser, path).status_code == 200  # the link was not used up by what failed


@pytest.mark.parametrize("email", [OWNER, REVIEWER, AUDITOR, RESEARCHER, RESEARCHER.upper(), "nobody", ""])
def test_nobody_is_invited_who_has_an_account_or_no_address(desk: Desk, email: str) -> None:
    with pytest.raises(DatasiteError):
        invite(desk, email)
    assert desk.datasite.invitations.open() == []


@pytest.mark.parametrize("days", [0, -1, 31, float("nan"), float("inf")])
def test_a_link_ends_within_a_month(desk: Desk, days: float) -> None:
    with pytest.raises(InvalidRequest):
        invite(desk, days=days)


def test_an_invited_person_who_reviews_meanwhile_does_not_also_ask(desk: Desk) -> None:
    path = invite(desk)
    desk.datasite.accounts.add(NEW, "", Role.AUDITOR, CHOSEN)
    assert use(desk.browser(), path).status_code == 404
    assert NEW not in desk.syft.names


def test_what_could_not_be_made_can_be_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    path, browser = invite(desk), desk.browser()

    def fails(*_: object) -> None:
        raise DatasiteError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(desk.syft, "add_researcher", fails)
        answer = use(browser, path)
        assert answer.status_code == 422
        assert "disk" not in answer.text
    assert use(browser, path).status_code == 200


def test_only_the_owner_invites(desk: Desk) -> None:
    for role in (Role.SECOND_REVIEWER, Role.AUDITOR):
        assert desk.browser(role).post("/people/invitations", email=NEW, name="X").status_code == 403
    owner = desk.browser(Role.OWNER)
    text = owner.post("/people/invitations", email=NEW, name="<b>New</b>").text
    link = re.search(r"http://testserver(/invitation/[\w-]{43})", text)
    assert link is not None
    page = desk.browser().get(link[1])
    assert "&lt;b&gt;New" in page.text
    assert page.headers["referrer-policy"] in ("same-origin", "no-referrer")
    owner.post("/people/invitations/withdraw", email=NEW)
    assert desk.browser().get(link[1]).status_code == 404


def test_a_researcher_follows_the_link_and_works_from_python(
    site: DatasiteProcess, owner: Page, chromium: Chromium
) -> None:
    owner.goto("/people")
    owner.locator("summary", has_text="Add a researcher").click()
    form = owner.locator('form[action="/people/researchers"]')
    form.get_by_label("Full name").fill("Invited \"><img src=x onerror='window.hit=1'>")
    form.get_by_label("E-mail").fill("invited@university.example")
    form.get_by_role("button", name="Invite by a link").click()
    link = owner.locator(".secret code").inner_text()
    guest = chromium.new_page()
    guest.goto(link)
    assert guest.evaluate("window.hit") is None
    assert guest.locator("img").count() == 0
    guest.get_by_label("Choose a password").fill(CHOSEN)
    guest.get_by_label("The same once more").fill(CHOSEN)
    guest.get_by_role("button", name="Make my account").click()
    expect(guest.get_by_text("Your account is ready")).to_be_visible()
    guest.close()
    client = stock.login(site.url, "invited@university.example", CHOSEN)
    assert client.api.services.datasite.requests() == []

    text = site.cli("researchers", "invite", "by@university.example", "--name", "By Command").stdout
    assert re.search(rf"{site.url}/invitation/[\w-]{{43}}", text)
    waiting = {invitation["email"] for invitation in site.json("researchers", "invitations")}
    assert "by@university.example" in waiting
    site.cli("researchers", "uninvite", "by@university.example")
    left = {invitation["email"] for invitation in site.json("researchers", "invitations")}
    assert left == waiting - {"by@university.example"}
