"""The two-person rule: `second_reviewer_epsilon` of the policy, which two people loosen and one tightens.

`policy.toml` is the owner's file, and whoever runs the host can write it too. What holds is the stricter of the file
and of what was last agreed, which is kept in the audit log; so a loosened file changes nothing until a second reviewer
has agreed to it in the console. A file that is stricter holds at once, and is what is agreed from then on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datasites.ledger.audit_log import AuditLog
from datasites.people.accounts import Accounts
from datasites.people.roles import Actor, Role
from datasites.review.policy import Rules
from policies.errors import PermissionRefused, WrongStatus

AGREED = "agree two-person rule"
FIELD = "second_reviewer_epsilon"


@dataclass(frozen=True)
class Loosened:
    """A file that says less than what was agreed: the ε above which two people decide; None is never."""

    agreed: float
    written: float | None

    def __str__(self) -> str:
        to = "no second reviewer" if self.written is None else f"a second reviewer above ε {self.written:g}"
        return (
            f"policy.toml asks for {to}; agreed is a second reviewer above ε {self.agreed:g}, and that holds until a"
            " second reviewer agrees to the change on the console's page of the policy."
        )


class TwoPeople:
    """The rule as it holds, over one audit log.

    Args:
      path: of `policy.toml`.
      accounts: the console's; asked for when they are first needed.
    """

    def __init__(self, audit_log: AuditLog, path: Path, accounts: Callable[[], Accounts]) -> None:
        self._audit_log, self._path, self._accounts = audit_log, path, accounts
        self._lock = threading.RLock()
        self._agreed: float | None = None
        self._is_read = False

    def read(self) -> Rules:
        """The owner's policy as the file has it, with the two-person rule as it holds. Raises `RuleBroken`."""
        rules = Rules.read(self._path)
        with self._lock:
            agreed = self.agreed()
            if _above(rules.second_reviewer_epsilon) < _above(agreed):
                if agreed is None:
                    self._accounts().hold_closed_reviewers()
                self._keep("policy.toml", rules.second_reviewer_epsilon)
        return dataclasses.replace(rules, second_reviewer_epsilon=self.agreed())

    def agreed(self) -> float | None:
        """The ε above which two people decide, as it was last agreed; None where one person decides all."""
        with self._lock:
            if not self._is_read:
                rows = self._audit_log.entries(newest_first=True, search=AGREED)
                values = [row.details[FIELD] for row in rows if row.what == AGREED]
                self._agreed, self._is_read = (values[0] if values else None), True
            return self._agreed

    def loosened(self) -> Loosened | None:
        """What the file says less than was agreed; None where it does not. Raises `RuleBroken`."""
        written, agreed = Rules.read(self._path).second_reviewer_epsilon, self.agreed()
        return Loosened(agreed, written) if agreed is not None and _above(written) > agreed else None

    def agree(self, actor: Actor, *, digest: str) -> Loosened:
        """Let a loosened file hold from now on, in the name of a second reviewer; what it was.

        Args:
          digest: SHA-256 of the file's text that the actor read.

        Raises:
          PermissionRefused: somebody else.
          WrongStatus: there is nothing to agree to, or the file has changed since it was read.
        """
        check_second_reviewer(actor)
        with self._lock:
            if hashlib.sha256(self._path.read_bytes()).hexdigest() != digest:
                raise WrongStatus("The policy was changed since you opened it. Look at it again, then agree.")
            loosened = self.loosened()
            if loosened is None:
                raise WrongStatus("The policy asks for no less than was agreed. There is nothing to agree to.")
            self._keep(actor.name, loosened.written)
            return loosened

    def is_voter(self, email: str) -> bool:
        """Whether somebody is a second reviewer now: the vote of one whose account is closed does not count."""
        return self._accounts().role_of(email) is Role.SECOND_REVIEWER

    def needs_agreement(self) -> bool:
        """Whether who reviews second is for a second reviewer to agree to: the owner would hold both votes."""
        return self.agreed() is not None and self._accounts().has_reviewers()

    def _keep(self, who: str, epsilon: float | None) -> None:
        self._audit_log.record(who, AGREED, "policy.toml", second_reviewer_epsilon=epsilon)
        self._agreed = epsilon


def check_second_reviewer(actor: Actor) -> None:
    """Raise `PermissionRefused` unless the actor is a second reviewer."""
    if actor.role is not Role.SECOND_REVIEWER:
        raise PermissionRefused("A second reviewer agrees to this, in the console; the owner alone cannot.")


def _above(epsilon: float | None) -> float:
    return math.inf if epsilon is None else epsilon
