"""Invitations of researchers: a link that works once and for some days, on which they set their own password.

The link's token is 32 random bytes and is shown once; the file keeps its hash. The account is made when the link is
used, so nothing stands open meanwhile. A link that was used, ended, was withdrawn or never was is answered alike.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasites.people.accounts import check_password
from policies.errors import DatasiteError, InvalidRequest

if TYPE_CHECKING:
    from datasites.datasite import Office

DAYS = 7
MOST_DAYS = 30
LONGEST_PASSWORD = 72  # bytes; PySyft's bcrypt reads no further
DEAD = "This link does not work, or no longer. Ask the hospital for a new one."
TABLE = """
CREATE TABLE IF NOT EXISTS invitations (
  email TEXT PRIMARY KEY, name TEXT NOT NULL, institution TEXT NOT NULL, token_sha256 TEXT NOT NULL UNIQUE,
  made REAL NOT NULL, ends REAL NOT NULL) STRICT;
"""


class Invitations:
    """Open invitations in `path`, one for each e-mail; a new one takes the place of the one before.

    Args:
      clock: seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        self._db.row_factory = sqlite3.Row
        self._db.executescript(TABLE)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def make(self, email: str, name: str, institution: str, *, days: float) -> str:
        """The token of a new invitation, which is kept nowhere else."""
        token, now = secrets.token_urlsafe(32), self.clock()
        values = (email, name, institution, _sha256(token), now, now + days * 86_400)
        self._run("INSERT OR REPLACE INTO invitations VALUES (?, ?, ?, ?, ?, ?)", values)
        return token

    def open(self) -> list[dict[str, Any]]:
        """Invitations that can be used, without their tokens."""
        query = "SELECT email, name, institution, made, ends FROM invitations WHERE ends > ? ORDER BY email"
        return self._run(query, (self.clock(),))

    def find(self, token: str) -> dict[str, Any] | None:
        """The invitation of a token, or None."""
        query = "SELECT email, name, institution, ends FROM invitations WHERE token_sha256 = ? AND ends > ?"
        rows = self._run(query, (_sha256(token), self.clock()))
        return rows[0] if rows else None

    def take(self, token: str) -> dict[str, Any] | None:
        """The same, and it is used up: of many at once one alone gets it."""
        query = "DELETE FROM invitations WHERE token_sha256 = ? AND ends > ? RETURNING *"
        rows = self._run(query, (_sha256(token), self.clock()))
        return rows[0] if rows else None

    def give_back(self, taken: dict[str, Any]) -> None:
        """Make an invitation usable again whose account could not be made; not where a newer one was."""
        self._run("INSERT OR IGNORE INTO invitations VALUES (?, ?, ?, ?, ?, ?)", tuple(taken.values()))

    def withdraw(self, email: str) -> bool:
        """End an invitation; False where there was none."""
        return bool(self._run("DELETE FROM invitations WHERE email = ? RETURNING email", (email,)))

    def _run(self, query: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
        with self._lock:
            return [dict(row) for row in self._db.execute(query, values).fetchall()]


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


# -- what an owner does ------------------------------------------------------------------------------------------------


def invite_researcher(
    office: Office, actor: str, *, email: str, name: str, institution: str = "", days: float = DAYS, base: str = ""
) -> dict[str, Any]:
    """A link that works once, on which somebody becomes a researcher with a password of their own.

    Args:
      days: more than 0, at most `MOST_DAYS`.
      base: the address in front of the link where the settings name none.
    """
    email = email.strip().lower()
    if "@" not in email or len(email) > 200 or not email.isprintable():
        raise InvalidRequest(f"{email[:60]!r} is not an e-mail address.")
    if not name.strip():
        raise InvalidRequest("Write the researcher's name.")
    if not 0 < days <= MOST_DAYS:
        raise InvalidRequest(f"days={days:g} is outside (0, {MOST_DAYS}].")
    if email == office.settings.owner_email.lower() or office.accounts.user(email) is not None:
        raise InvalidRequest(f"{email} decides, reviews or audits here and cannot also ask. Use another person.")
    if email in {each["email"].lower() for each in office.syft.researchers()}:
        raise InvalidRequest(f"{email} has a researcher's account here. `datasite password {email}` gives a new one.")
    token = office.invitations.make(email, name.strip()[:200], institution.strip()[:200], days=days)
    ends = datetime.fromtimestamp(office.invitations.clock() + days * 86_400, UTC).isoformat(timespec="seconds")
    office.audit.record(actor, "invite researcher", email, ends=ends)
    address = (office.settings.console_url or base or office.settings.url).rstrip("/")
    return {"email": email, "link": f"{address}/invitation/{token}", "ends": ends}


def invitations(office: Office, actor: str) -> list[dict[str, Any]]:
    """Invitations that wait to be used."""
    return [
        {**each, "ends": datetime.fromtimestamp(each["ends"], UTC).isoformat(timespec="seconds")}
        for each in office.invitations.open()
    ]


def withdraw_invitation(office: Office, actor: str, *, email: str) -> None:
    """End an invitation: its link works no more."""
    if not office.invitations.withdraw(email.strip().lower()):
        raise InvalidRequest(f"{email[:60]} has no open invitation. `datasite researchers invitations` lists them.")
    office.audit.record(actor, "withdraw invitation", email.strip().lower())


def accept(office: Office, token: str, password: str) -> str:
    """Make the account of an invitation, with the password that its researcher chose; the e-mail.

    Raises:
      InvalidRequest: the password is too short or too long, and the link still works; or the link does not work.
    """
    check_password(password)
    if len(password.encode()) > LONGEST_PASSWORD or "\0" in password:
        raise InvalidRequest(f"The password is longer than {LONGEST_PASSWORD} bytes. Choose a shorter one.")
    taken = office.invitations.take(token)
    if taken is None:
        raise InvalidRequest(DEAD)
    email = str(taken["email"])
    if office.accounts.user(email) is not None or email in {each["email"] for each in office.syft.researchers()}:
        raise InvalidRequest(DEAD)  # the owner has made an account of that name meanwhile
    try:
        office.syft.add_researcher(email, taken["name"], password, taken["institution"])
    except DatasiteError:
        office.invitations.give_back(taken)
        raise InvalidRequest("The account could not be made. Try again in a moment.") from None
    office.audit.record(email, "accept invitation", email)
    return email


ACTIONS: dict[str, Callable[..., Any]] = {
    action.__name__: action for action in (invite_researcher, invitations, withdraw_invitation)
}
