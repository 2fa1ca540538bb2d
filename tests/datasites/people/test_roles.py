"""Who acts: a person and a role, neither by default."""

from __future__ import annotations

from typing import Any

import pytest

from datasites.people.roles import CONSOLE, CONSOLE_ROLES, DECIDERS, OWNER, REVIEWER, Actor, Role, role_named
from policies.errors import PermissionRefused


@pytest.mark.parametrize("role", ["owner", "OWNER", "", None, 1, "root"])
def test_a_text_is_no_role(role: Any) -> None:
    with pytest.raises(PermissionRefused, match=r"is no role\. The roles are"):
        Actor("ada@hospital.example", role)


@pytest.mark.parametrize("name", ["", None, 7])
def test_nobody_acts_without_a_name(name: Any) -> None:
    with pytest.raises(PermissionRefused, match="names nobody"):
        Actor(name, Role.OWNER)


def test_roles_are_named_to_the_letter() -> None:
    assert [role_named(role.value) for role in Role] == list(Role)
    for text in ("Owner", " owner", "second reviewer", ""):
        with pytest.raises(PermissionRefused, match="is no role"):
            role_named(text)


def test_whoever_decides_can_sign_in_and_neither_policy_nor_researcher_can() -> None:
    assert OWNER | REVIEWER == DECIDERS < CONSOLE
    assert not CONSOLE & {Role.POLICY, Role.RESEARCHER}
    assert Role.OWNER not in CONSOLE_ROLES  # the owner's account is PySyft's, and there is one
