"""Comments on a request: who may write, what is refused, and what either side reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.actions import comments
from datasites.actions.for_researchers import ForResearchers
from datasites.people.roles import Role
from policies.errors import InvalidRequest, PermissionRefused, WrongStatus
from tests.browser.desk import OWNER, REVIEWER, Desk
from tests.factories import RESEARCHER

REQUEST = "1" * 32
OTHER = "other@university.example"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "datasite")
    made.ask(REQUEST)
    yield made
    made.close()


def test_owner_reviewer_and_researcher_write_and_all_of_them_read(desk: Desk) -> None:
    asked = ForResearchers(desk.datasite)
    desk.browser(Role.OWNER).post(f"/requests/{REQUEST}/comments", comment="Which ward?\r\nAnd when?")
    desk.browser(Role.SECOND_REVIEWER).post(f"/requests/{REQUEST}/comments", comment="Is there a protocol?")
    told = asked.comment(RESEARCHER, REQUEST, "Ward 7, in <b>June</b>.")
    assert [(each["from"], each["text"]) for each in told] == [
        ("data owner", "Which ward?\nAnd when?"),
        ("data owner", "Is there a protocol?"),
        ("researcher", "Ward 7, in <b>June</b>."),
    ]
    assert told == asked.comments(RESEARCHER, REQUEST)
    assert OWNER not in str(told)
    assert REVIEWER not in str(told)
    page = desk.browser(Role.AUDITOR).get(f"/requests/{REQUEST}").text
    assert "Ward 7, in &lt;b&gt;June&lt;/b&gt;." in page
    assert f"/requests/{REQUEST}/comments" not in page  # an auditor reads
    who = [row.who for row in desk.datasite.audit_log.entries() if row.what == "comment"]
    assert who == [OWNER, REVIEWER, RESEARCHER]


def test_the_status_shows_the_hospitals_last_words_and_not_the_researchers_own(desk: Desk) -> None:
    asked = ForResearchers(desk.datasite)
    desk.act("comment", {"request": REQUEST, "text": "Which ward?"})
    asked.comment(RESEARCHER, REQUEST, "Ward 7.")
    assert asked.status(RESEARCHER, REQUEST)["comment"] == "Which ward?"


def test_a_foreign_request_is_answered_as_one_that_does_not_exist(desk: Desk) -> None:
    asked = ForResearchers(desk.datasite)
    for code in (REQUEST, "2" * 32, "", "%"):
        with pytest.raises(InvalidRequest, match="You have no such request"):
            asked.comment(OTHER, code, "Let me in.")
        with pytest.raises(InvalidRequest, match="You have no such request"):
            asked.comments(OTHER, code)
    assert desk.datasite.ledger.requests.comments(REQUEST) == ()


@pytest.mark.parametrize("text", ["", " \n", "\x1b[2J", "a\u202eb", "zero\u200bwidth", "x" * 4001, 7, None, b"bytes"])
def test_what_is_no_plain_text_is_refused(desk: Desk, text: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^The comment "):
        ForResearchers(desk.datasite).comment(RESEARCHER, REQUEST, text)  # type: ignore[arg-type]
    assert desk.datasite.ledger.requests.comments(REQUEST) == ()


def test_a_closed_request_takes_no_comments_and_an_approved_one_does(desk: Desk) -> None:
    desk.act("approve", {"request": REQUEST})
    desk.act("comment", {"request": REQUEST, "text": "Go on."})
    desk.act("revoke", {"request": REQUEST, "reason": "No more."})
    with pytest.raises(WrongStatus, match="nothing more is written"):
        desk.act("comment", {"request": REQUEST, "text": "Too late."})
    assert f"/requests/{REQUEST}/comments" not in desk.browser(Role.OWNER).get(f"/requests/{REQUEST}").text


def test_nobody_writes_without_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comments, "MOST_COMMENTS", 2)
    asked = ForResearchers(desk.datasite)
    for _ in range(2):
        asked.comment(RESEARCHER, REQUEST, "Please.")
    with pytest.raises(WrongStatus, match="which is the most of one person"):
        asked.comment(RESEARCHER, REQUEST, "Please.")
    desk.act("comment", {"request": REQUEST, "text": "We read it."})  # each person counts alone


def test_auditors_and_researchers_have_no_comment_of_the_hospital(desk: Desk) -> None:
    for role in (Role.AUDITOR, Role.RESEARCHER):
        with pytest.raises(PermissionRefused):
            desk.act("comment", {"request": REQUEST, "text": "As the hospital."}, role=role)
