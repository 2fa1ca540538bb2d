"""The two-person rule: one person tightens it, two loosen it, whoever writes the file and whatever was there before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datasites.people.roles import Actor, Role
from datasites.review.decisions import APPROVED, VOTED
from datasites.review.two_people import TwoPeople
from datasites.toml_editing import with_values
from policies.errors import DatasiteError, PermissionRefused, RuleBroken, WrongStatus
from policies.source.statuses import RequestStatus
from tests.browser.desk import OWNER, REVIEWER, Desk
from tests.factories import PASSWORD

ANOTHER = "another@hospital.example"
EPSILON = 0.2  # of a request
OF_REVIEWER = Actor(REVIEWER, Role.SECOND_REVIEWER)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


def write(desk: Desk, epsilon: float | None) -> str:
    """Write the rule into the file, as an operator with an editor does; the digest of the file."""
    path = desk.datasite.settings.policy_path
    path.write_text(with_values(path.read_text(), {"second_reviewer_epsilon": epsilon}))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def change(desk: Desk, epsilon: float | None) -> dict[str, Any]:
    """Change the rule as the owner does, by command or page."""
    before = desk.act("policy", {})
    text = with_values(before["text"], {"second_reviewer_epsilon": epsilon})
    done: dict[str, Any] = desk.act("change_policy", {"text": text, "digest": before["digest"]})
    return done


def holds(desk: Desk) -> float | None:
    return desk.datasite.decisions.read_rules().second_reviewer_epsilon


def needs_two(desk: Desk, request: str) -> bool:
    return bool(desk.act("show", {"request": request})["decision"]["voters"])


@pytest.mark.parametrize("by", [write, change])
@pytest.mark.parametrize("looser", [None, 1.0])
def test_a_loosened_rule_holds_when_a_second_reviewer_has_agreed(desk: Desk, by: Any, looser: float | None) -> None:
    request = desk.ask("first")
    by(desk, 0.1)
    assert needs_two(desk, request)
    by(desk, looser)
    assert (holds(desk), needs_two(desk, request)) == (0.1, True)
    page = desk.act("policy", {})
    assert "above ε 0.1, and that holds until a second reviewer agrees" in page["loosened"]
    desk.act("agree_policy", {"digest": page["digest"]}, role=Role.SECOND_REVIEWER)
    assert (holds(desk), needs_two(desk, request)) == (looser, False)
    assert desk.act("policy", {})["loosened"] == ""
    row = desk.datasite.audit_log.entries(newest_first=True, limit=1)[0]
    assert (row.who, row.details) == (REVIEWER, {"second_reviewer_epsilon": looser})


def test_a_tightened_rule_holds_at_once_and_is_agreed_from_then_on(desk: Desk) -> None:
    for epsilon in (2.0, 1.0, 0.1):
        write(desk, epsilon)
        assert holds(desk) == epsilon
    write(desk, 1.0)
    assert holds(desk) == 0.1


def test_whoever_changes_the_policy_is_told_that_it_waits(desk: Desk) -> None:
    assert change(desk, 0.1)["loosened"] == ""
    assert "asks for no second reviewer" in change(desk, None)["loosened"]


def test_a_datasite_that_starts_again_knows_what_was_agreed(desk: Desk) -> None:
    write(desk, 0.1)
    assert holds(desk) == 0.1
    write(desk, None)
    datasite = desk.datasite
    again = TwoPeople(datasite.audit_log, datasite.settings.policy_path, lambda: datasite.accounts)
    assert again.read().second_reviewer_epsilon == 0.1


def test_a_datasite_that_never_had_the_rule_writes_nothing_of_it(desk: Desk) -> None:
    assert holds(desk) is None
    assert desk.datasite.audit_log.entries(search="two-person") == ()


@pytest.mark.parametrize("role", [Role.OWNER, Role.AUDITOR])
def test_nobody_else_agrees(desk: Desk, role: Role) -> None:
    write(desk, 0.1)
    holds(desk)
    digest = write(desk, None)
    with pytest.raises(PermissionRefused):
        desk.act("agree_policy", {"digest": digest}, role=role)
    with pytest.raises(PermissionRefused):
        desk.datasite.two_people.agree(Actor(OWNER, role), digest=digest)
    assert holds(desk) == 0.1


def test_what_is_agreed_to_is_the_file_that_was_read(desk: Desk) -> None:
    write(desk, 0.1)
    holds(desk)
    seen = write(desk, 0.5)
    write(desk, None)  # in the moment before the reviewer presses the button
    with pytest.raises(WrongStatus, match="was changed since you opened it"):
        desk.act("agree_policy", {"digest": seen}, role=Role.SECOND_REVIEWER)
    digest = write(desk, 0.1)
    with pytest.raises(WrongStatus, match="nothing to agree to"):
        desk.act("agree_policy", {"digest": digest}, role=Role.SECOND_REVIEWER)


def test_a_file_that_cannot_be_read_still_approves_nothing(desk: Desk) -> None:
    desk.datasite.settings.policy_path.write_text("second_reviewer_epsilon = many")
    with pytest.raises(RuleBroken, match="cannot be used"):
        holds(desk)
    assert desk.act("policy", {})["error"]


# -- who reviews second ------------------------------------------------------------------------------------------------


def add(desk: Desk, email: str) -> bool:
    arguments = {"email": email, "name": "", "role": "second_reviewer", "password": PASSWORD}
    return bool(desk.act("add_console_user", arguments)["waits"])


def test_the_owner_makes_no_second_reviewer_who_votes_while_two_must_agree(desk: Desk) -> None:
    write(desk, 0.1)
    holds(desk)
    assert add(desk, ANOTHER)
    browser = desk.browser()
    assert browser.sign_in(ANOTHER).status_code == 401
    for action in ("enable_console_user", "disable_console_user"):
        with pytest.raises(WrongStatus, match="waits for another second reviewer"):
            desk.act(action, {"email": ANOTHER})
    for role in (Role.OWNER, Role.AUDITOR):
        with pytest.raises(PermissionRefused):
            desk.act("agree_console_user", {"email": ANOTHER}, role=role)
    desk.act("agree_console_user", {"email": ANOTHER}, role=Role.SECOND_REVIEWER)
    assert browser.sign_in(ANOTHER).status_code == 303


def test_closing_the_reviewer_first_is_no_way_around(desk: Desk) -> None:
    write(desk, 0.1)
    holds(desk)
    desk.act("disable_console_user", {"email": REVIEWER})
    assert add(desk, ANOTHER)


def test_an_account_that_was_closed_before_the_rule_is_no_way_around(desk: Desk) -> None:
    add(desk, ANOTHER)  # with a password that the owner knows
    desk.act("disable_console_user", {"email": ANOTHER})
    write(desk, 0.1)
    holds(desk)
    with pytest.raises(WrongStatus, match="waits for another second reviewer"):
        desk.act("enable_console_user", {"email": ANOTHER})


def test_a_reviewer_who_was_closed_under_the_rule_opens_again_with_their_own_password(desk: Desk) -> None:
    write(desk, 0.1)
    holds(desk)
    desk.act("disable_console_user", {"email": REVIEWER})
    desk.act("enable_console_user", {"email": REVIEWER})
    assert desk.browser().sign_in(REVIEWER).status_code == 303


def test_a_password_that_the_owner_gives_a_reviewer_waits_for_another_reviewer(desk: Desk) -> None:
    new = {"email": REVIEWER, "password": "known to the owner"}
    write(desk, 0.1)
    holds(desk)
    with pytest.raises(WrongStatus, match="is the only second reviewer"):
        desk.act("set_console_password", new)
    add(desk, ANOTHER)
    desk.act("agree_console_user", {"email": ANOTHER}, role=Role.SECOND_REVIEWER)
    assert desk.act("set_console_password", new) == {"waits": True}
    assert desk.browser().sign_in(REVIEWER, new["password"]).status_code == 401
    with pytest.raises(PermissionRefused, match="Another second reviewer"):
        desk.act("agree_console_user", {"email": REVIEWER}, role=Role.SECOND_REVIEWER)


def test_reviewers_change_their_own_password_alone(desk: Desk) -> None:
    write(desk, 0.1)
    holds(desk)
    new = {"email": REVIEWER, "password": "known to nobody else"}
    assert desk.act("set_console_password", new, role=Role.SECOND_REVIEWER) == {"waits": False}


@pytest.mark.parametrize("first", [Role.OWNER, Role.SECOND_REVIEWER])
def test_the_vote_of_a_closed_reviewer_does_not_count(desk: Desk, first: Role) -> None:
    write(desk, 0.1)
    request = desk.ask("first", epsilon=EPSILON)
    vote = {"request": request, "typed": "flu_counts"}
    assert desk.act("approve", vote, role=Role.SECOND_REVIEWER) == VOTED
    desk.act("disable_console_user", {"email": REVIEWER})
    for _ in range(2):
        with pytest.raises(WrongStatus, match=r"vote of the second reviewer.*does not count.*closed"):
            desk.act("approve", vote)
        assert desk.datasite.ledger.requests.get(request).status is RequestStatus.CHECKED
    desk.act("enable_console_user", {"email": REVIEWER})
    assert desk.act("approve", vote, role=first) == APPROVED


def test_both_pages_say_what_waits_and_offer_agreement_to_the_reviewer_alone(desk: Desk) -> None:
    write(desk, 0.1)
    holds(desk)
    add(desk, ANOTHER)
    write(desk, None)
    owner, reviewer = desk.browser(Role.OWNER), desk.browser(Role.SECOND_REVIEWER)
    for page, says, button in (
        ("/policy", "until a second reviewer agrees", 'action="/policy/agree"'),
        ("/people", "Waits for agreement", 'action="/people/console/agree"'),
    ):
        assert says in owner.get(page).text
        assert button not in owner.get(page).text
        assert button in reviewer.get(page).text
    assert owner.post("/policy/agree", digest=desk.act("policy", {})["digest"]).status_code == 403
    answer = reviewer.post("/policy/agree", digest=desk.act("policy", {})["digest"])
    assert (answer.status_code, holds(desk)) == (303, None)
    assert reviewer.post("/people/console/agree", email=ANOTHER).status_code == 303
    assert desk.datasite.accounts.role_of(ANOTHER) is Role.SECOND_REVIEWER


def test_every_refusal_is_a_sentence(desk: Desk) -> None:
    with pytest.raises(DatasiteError, match="does not wait for anybody"):
        desk.act("agree_console_user", {"email": "auditor@hospital.example"}, role=Role.SECOND_REVIEWER)
