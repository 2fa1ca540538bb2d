"""Who acts, and in which role. What a role may do is judged in `datasites.review.decisions` and listed per action.

A role has no default, and a text that names none is an error: nobody becomes an owner by a typing mistake.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from policies.errors import PermissionRefused


class Role(StrEnum):
    """In which capacity somebody acts on a datasite."""

    OWNER = "owner"
    SECOND_REVIEWER = "second_reviewer"
    AUDITOR = "auditor"
    RESEARCHER = "researcher"
    POLICY = "policy"
    """The owner's written rules, where they decide without anybody."""


CONSOLE_ROLES = (Role.SECOND_REVIEWER, Role.AUDITOR)
"""Roles that an account of the console can be given."""

OWNER = frozenset({Role.OWNER})
REVIEWER = frozenset({Role.SECOND_REVIEWER})
DECIDERS = frozenset({Role.OWNER, Role.SECOND_REVIEWER})
CONSOLE = frozenset({Role.OWNER, Role.SECOND_REVIEWER, Role.AUDITOR})
"""Everybody who can sign in to the console."""


@dataclass(frozen=True)
class Actor:
    """Somebody who acts, as the audit log names them.

    Args:
      name: e-mail of an account, or the operating system's user of a command.
      role: a `Role`; there is no default.

    Raises:
      PermissionRefused: `role` is no role, or nobody is named.
    """

    name: str
    role: Role

    def __post_init__(self) -> None:
        if not isinstance(self.role, Role):
            raise PermissionRefused(f"role={self.role!r} is no role. The roles are {', '.join(Role)}.")
        if not self.name or not isinstance(self.name, str):
            raise PermissionRefused(f"name={self.name!r} names nobody. Say who acts.")

    def __str__(self) -> str:
        return self.name


def role_named(text: str) -> Role:
    """The role that a text names, to the letter. Raises `PermissionRefused` where it names none."""
    try:
        return Role(text)
    except ValueError:
        raise PermissionRefused(f"role={text!r} is no role. The roles are {', '.join(Role)}.") from None
