"""Accounts of the console and its sessions, in one SQLite file of the directory.

The owner signs in with the PySyft account and has no row here. Second reviewers and auditors are accounts of the
console alone: no PySyft call works with them. Passwords are kept as scrypt (RFC 7914), sessions as a hash of their
random id, so that the file opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasites.people.roles import CONSOLE_ROLES, Role, role_named
from policies.email_addresses import as_typed, email_address
from policies.errors import DatasiteError, InvalidRequest, Unavailable, WrongStatus

SHORTEST_PASSWORD = 12
SCRYPT = {"n": 2**15, "r": 8, "p": 3}
LONGEST_SESSION = 12 * 3600.0
ACTIVE, CLOSED, WAITING = "active", "disabled", "waiting"
_MEMORY = 96 << 20
_NOBODY = "scrypt$" + "00" * 16 + "$" + "00" * 32  # checked where there is no account, so that both take as long

TABLES = """
CREATE TABLE IF NOT EXISTS users (
  email TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, password TEXT NOT NULL, state TEXT NOT NULL,
  created REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
  id_sha256 TEXT PRIMARY KEY, email TEXT NOT NULL, csrf TEXT NOT NULL, started REAL NOT NULL, seen REAL NOT NULL,
  browser TEXT NOT NULL, notice TEXT NOT NULL DEFAULT '') STRICT;
"""


def open_console_file(path: Path, tables: str) -> sqlite3.Connection:
    """The console's SQLite file (0600), made where there is none.

    Raises:
      Unavailable: the disk is full.
      DatasiteError: it is damaged.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    opened = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
    try:
        opened.row_factory = sqlite3.Row
        opened.executescript(tables)
    except sqlite3.Error as error:
        opened.close()
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise Unavailable(
                f"{path.name} cannot be written: the disk is full. Free space and try again; nothing in it was lost."
            ) from None
        raise DatasiteError(
            f"{path.name}, which holds the console's accounts, cannot be used ({error}). Put it back from a backup, or"
            " move it away and make the accounts anew: requests and ledger are elsewhere."
        ) from None
    return opened


@dataclass(frozen=True)
class Session:
    """Somebody signed in. `id_sha256` names it in lists; the id itself is only in the browser's cookie."""

    id_sha256: str
    email: str
    name: str
    role: Role
    csrf: str
    started: float
    seen: float
    browser: str


class Accounts:
    """Accounts and sessions in `path`, which only the datasite's user can read.

    Args:
      owner: e-mail of the owner's PySyft account.
      idle_seconds: after which a session without a request of a person's ends.
      clock: seconds since 1970.
    """

    def __init__(
        self, path: Path, owner: str, *, idle_seconds: float = 1800.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.owner = as_typed(owner)
        self.idle_seconds = idle_seconds
        self.clock = clock
        self._lock = threading.Lock()
        self._db = open_console_file(path, TABLES)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # -- people --------------------------------------------------------------------------------------------------

    def add(self, email: str, name: str, role: str, password: str, *, waits: bool = False) -> None:
        """A new account of a second reviewer or auditor; one that `waits` can do nothing until `agree`.

        Raises `InvalidRequest` where the e-mail is taken or is none, the role is not one, or the password too short.
        """
        email = email_address(email)
        if role not in CONSOLE_ROLES:
            raise InvalidRequest(f"{role!r} is no role of the console. Use {' or '.join(CONSOLE_ROLES)}.")
        check_password(password)
        if email == self.owner or self.user(email) is not None:
            raise InvalidRequest(f"{email} has an account here.")
        values = (email, name.strip()[:200], role, hash_password(password), WAITING if waits else ACTIVE, self.clock())
        self._write("INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)", values)

    def user(self, email: str) -> dict[str, Any] | None:
        """An account without its password, or None."""
        rows = self._read("SELECT email, name, role, state, created FROM users WHERE email = ?", (as_typed(email),))
        return rows[0] if rows else None

    def users(self) -> list[dict[str, Any]]:
        """Every account without its password, by e-mail."""
        return self._read("SELECT email, name, role, state, created FROM users ORDER BY email")

    def set_state(self, email: str, *, active: bool) -> None:
        """Open or close an account; closing ends its sessions. Raises `WrongStatus` where it waits for `agree`."""
        if self._existing(email)["state"] == WAITING:
            raise WrongStatus(
                f"{email} waits for another second reviewer to agree, on the console's page of people, and can do"
                " nothing until then."
            )
        self._set_state(email, ACTIVE if active else CLOSED)
        if not active:
            self.end_all(email)

    def agree(self, email: str) -> None:
        """Open an account that waits. Raises `WrongStatus` where it does not."""
        if self._existing(email)["state"] != WAITING:
            raise WrongStatus(f"{email} does not wait for anybody's agreement.")
        self._set_state(email, ACTIVE)

    def reviewers(self) -> set[str]:
        """Second reviewers whose accounts are open."""
        rows = self._read("SELECT email FROM users WHERE role = ? AND state = ?", (Role.SECOND_REVIEWER, ACTIVE))
        return {row["email"] for row in rows}

    def has_reviewers(self) -> bool:
        """Whether anybody is or was a second reviewer."""
        return bool(self._read("SELECT 1 FROM users WHERE role = ?", (Role.SECOND_REVIEWER,)))

    def hold_closed_reviewers(self) -> None:
        """Let closed accounts of second reviewers wait for another's agreement before they open again."""
        values = (WAITING, Role.SECOND_REVIEWER, CLOSED)
        self._write("UPDATE users SET state = ? WHERE role = ? AND state = ?", values)

    def set_password(self, email: str, password: str, *, waits: bool = False) -> None:
        """A new password; ends the account's sessions. One that `waits` can do nothing until `agree`."""
        self._existing(email)
        check_password(password)
        if waits:
            self._set_state(email, WAITING)
        self._write("UPDATE users SET password = ? WHERE email = ?", (hash_password(password), as_typed(email)))
        self.end_all(email)

    def password_is_right(self, email: str, password: str) -> bool:
        """Whether an account of the console in use has this password; takes as long where there is none."""
        rows = self._read("SELECT password, state FROM users WHERE email = ?", (as_typed(email),))
        right = password_matches(password, rows[0]["password"] if rows else _NOBODY)
        return right and bool(rows) and rows[0]["state"] == ACTIVE

    def role_of(self, email: str) -> Role | None:
        """What an account may do now; None where it is closed or gone."""
        if email == self.owner:
            return Role.OWNER
        user = self.user(email)
        return role_named(user["role"]) if user and user["state"] == ACTIVE else None

    def _existing(self, email: str) -> dict[str, Any]:
        user = self.user(email)
        if user is None:
            raise InvalidRequest(f"{email} has no account of the console. `datasite console-users list` shows them.")
        return user

    def _set_state(self, email: str, state: str) -> None:
        self._write("UPDATE users SET state = ? WHERE email = ?", (state, as_typed(email)))

    # -- sessions ------------------------------------------------------------------------------------------------

    def begin(self, email: str, *, browser: str = "") -> str:
        """Start a session; its new random id, for the cookie and nowhere else."""
        token, now = secrets.token_urlsafe(32), self.clock()
        self._write("DELETE FROM sessions WHERE seen < ? OR started < ?", self._oldest())
        self._write(
            "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, '')",
            (_sha256(token), as_typed(email), secrets.token_urlsafe(32), now, now, browser[:200]),
        )
        return token

    def session(self, token: str, *, touch: bool = True) -> Session | None:
        """The session of a cookie, unless it is over or its account is closed. `touch` counts as a person's act."""
        rows = self._read(
            "SELECT * FROM sessions WHERE id_sha256 = ? AND seen >= ? AND started >= ?",
            (_sha256(token), *self._oldest()),
        )
        role = self.role_of(rows[0]["email"]) if rows else None
        if role is None:
            return None
        row = rows[0]
        if touch and self.clock() - row["seen"] > 0.01 * self.idle_seconds:
            self._write("UPDATE sessions SET seen = ? WHERE id_sha256 = ?", (self.clock(), row["id_sha256"]))
        user = self.user(row["email"])
        del row["notice"]
        return Session(name=user["name"] if user else "", role=role, **row)

    def is_alive(self, session: Session) -> bool:
        """Whether a session goes on and its account is open. No act of a person's."""
        query = "SELECT 1 FROM sessions WHERE id_sha256 = ? AND seen >= ? AND started >= ?"
        return bool(self._read(query, (session.id_sha256, *self._oldest()))) and self.role_of(session.email) is not None

    def sessions(self, email: str) -> list[dict[str, Any]]:
        """Sessions of an account that are not over, newest first."""
        query = "SELECT id_sha256, started, seen, browser FROM sessions WHERE email = ? AND seen >= ? AND started >= ?"
        return self._read(f"{query} ORDER BY seen DESC", (as_typed(email), *self._oldest()))

    def end(self, session: Session) -> None:
        """Sign out."""
        self._write("DELETE FROM sessions WHERE id_sha256 = ?", (session.id_sha256,))

    def end_all(self, email: str) -> None:
        """Sign an account out everywhere."""
        self._write("DELETE FROM sessions WHERE email = ?", (as_typed(email),))

    def leave_notice(self, session: Session, text: str) -> None:
        """A sentence for the next page of this session."""
        self._write("UPDATE sessions SET notice = ? WHERE id_sha256 = ?", (text, session.id_sha256))

    def take_notice(self, session: Session) -> str:
        """The sentence that was left, once."""
        rows = self._read("SELECT notice FROM sessions WHERE id_sha256 = ?", (session.id_sha256,))
        if rows and rows[0]["notice"]:
            self.leave_notice(session, "")
            return str(rows[0]["notice"])
        return ""

    def _oldest(self) -> tuple[float, float]:
        now = self.clock()
        return now - self.idle_seconds, now - LONGEST_SESSION

    def _read(self, query: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        with self._lock:
            return [dict(row) for row in self._db.execute(query, values)]

    def _write(self, query: str, values: tuple[Any, ...]) -> None:
        with self._lock:
            self._db.execute(query, values)


def check_password(password: str) -> None:
    """Raise `InvalidRequest` unless a password is long enough, and short enough to be hashed."""
    if not SHORTEST_PASSWORD <= len(password) <= 1000:
        raise InvalidRequest(f"The password has {len(password)} characters; at least {SHORTEST_PASSWORD} are needed.")


def hash_password(password: str) -> str:
    """`scrypt$salt$hash` of a password."""
    salt = secrets.token_bytes(16)
    return f"scrypt${salt.hex()}${_scrypt(password, salt).hex()}"


def password_matches(password: str, kept: str) -> bool:
    """Whether `kept` was made of this password."""
    _, salt, wanted = kept.split("$")
    return hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)), bytes.fromhex(wanted))


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode()[:4000], salt=salt, maxmem=_MEMORY, dklen=32, **SCRYPT)


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
