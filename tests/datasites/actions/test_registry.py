"""Actions by name: who may run which, and that no other is run."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import Parameter, getdoc, signature
from pathlib import Path

import pytest

from datasites.actions.registry import act, action, actions
from datasites.people.roles import CONSOLE, OWNER, REVIEWER, Actor, Role
from policies.errors import InvalidRequest, PermissionRefused
from tests.browser.desk import Desk

READ_ONLY = Role.AUDITOR


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


@pytest.mark.parametrize("name", ["", "nothing", "Publish", "__init__", "act", "datasite"])
def test_what_is_no_action_is_not_run(desk: Desk, name: str) -> None:
    with pytest.raises(InvalidRequest, match="There is no action"):
        act(desk.datasite, name, Actor("o@hospital.example", Role.OWNER), {})


def test_an_action_is_not_run_for_another_role_whatever_its_arguments(desk: Desk) -> None:
    for name, known in actions().items():
        for role in set(Role) - known.roles:
            with pytest.raises(PermissionRefused, match=rf"may not do this \({name}\); the .* can"):
                act(desk.datasite, name, Actor("x@hospital.example", role), {"no": "such argument"})


def test_every_action_says_what_it_does_and_takes_its_arguments_by_name() -> None:
    for name, known in actions().items():
        assert getdoc(known.function), name
        datasite, actor, *others = signature(known.function).parameters.values()
        assert (datasite.name, actor.name) == ("datasite", "actor")
        assert all(parameter.kind is Parameter.KEYWORD_ONLY for parameter in others), name


def test_who_changes_what() -> None:
    """An auditor reads; what two people must agree to is for the second one alone."""
    by_roles = {known.name: known.roles for known in actions().values()}
    assert by_roles["agree_policy"] == by_roles["agree_console_user"] == REVIEWER
    for name in ("publish", "retire", "stop", "resume", "change_policy", "raise_budget", "backup", "rotate_key"):
        assert by_roles[name] == OWNER, name
    for name in ("ledger", "releases", "policy", "search_log", "verify_ledger", "show"):
        assert by_roles[name] >= CONSOLE, name


def test_a_name_is_taken_once() -> None:
    def publish() -> None: ...

    publish.__module__ = "elsewhere"
    assert "publish" in actions()
    with pytest.raises(ValueError, match="two actions 'publish'"):
        action(OWNER)(publish)
