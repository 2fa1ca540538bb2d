"""The policy file, read and replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.people.roles import Role
from datasites.review.policy import DEFAULT_POLICY
from policies.errors import RuleBroken, WrongStatus
from tests.browser.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


def file_of(desk: Desk) -> Path:
    return desk.datasite.settings.policy_path


def test_it_is_shown_as_the_file_and_as_values(desk: Desk) -> None:
    shown = desk.act("policy", {}, role=Role.AUDITOR)
    assert shown["text"] == DEFAULT_POLICY
    assert shown["rules"]["max_epsilon"] == 4.0
    assert (shown["error"], shown["loosened"]) == ("", "")


def test_a_change_is_recorded_with_what_it_was_before(desk: Desk) -> None:
    text = DEFAULT_POLICY.replace("max_epsilon = 4.0", "max_epsilon = 3.0")
    done = desk.act("change_policy", {"text": text, "digest": desk.act("policy", {})["digest"]})
    assert done["changed"] == {"max_epsilon": {"from": 4.0, "to": 3.0}}
    assert file_of(desk).read_text() == text
    assert file_of(desk).stat().st_mode & 0o777 == 0o600
    assert desk.datasite.audit_log.entries()[-1].details["changed"] == done["changed"]


def test_a_text_that_cannot_be_used_changes_nothing(desk: Desk) -> None:
    digest = desk.act("policy", {})["digest"]
    for text in ("max_epsilon = ", "max_epsilon = -1", "no_such_rule = 1"):
        with pytest.raises(RuleBroken, match="cannot be used"):
            desk.act("change_policy", {"text": text, "digest": digest})
    assert file_of(desk).read_text() == DEFAULT_POLICY


def test_nobody_writes_over_anothers_change(desk: Desk) -> None:
    digest = desk.act("policy", {})["digest"]
    desk.act("change_policy", {"text": "max_rounds = 7\n", "digest": digest})
    with pytest.raises(WrongStatus, match="was changed since you opened it"):
        desk.act("change_policy", {"text": "max_rounds = 9\n", "digest": digest})
    assert file_of(desk).read_text() == "max_rounds = 7\n"


def test_a_file_that_somebody_broke_is_shown_with_the_reason_and_can_be_replaced(desk: Desk) -> None:
    file_of(desk).write_text("max_rounds = many\n")
    shown = desk.act("policy", {})
    assert shown["rules"] is None
    assert "cannot be used" in shown["error"]
    done = desk.act("change_policy", {"text": "max_rounds = 7\n", "digest": shown["digest"]})
    assert done["changed"]["max_rounds"] == {"from": None, "to": 7}
