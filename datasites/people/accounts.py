"""Accounts of the console and its sessions, where `places.py` says: in a file of the directory or a database.

The owner signs in with the PySyft account and has no row here. Second reviewers and auditors are accounts of the
console alone: no PySyft call works with them. Passwords are kept as scrypt (RFC 7914), sessions as a hash of their
random id, so that what is kept opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datasites.people.places import ConsolePlace, open_rows
from datasites.people.roles import CONSOLE_ROLES, Role, role_named
from policies.email_addresses import as_typed, email_address
from policies.errors import InvalidRequest, WrongStatus

SHORTEST_PASSWORD = 12
SCRYPT = {"n": 2**15, "r": 8, "p": 3}
LONGEST_SESSION = 12 * 3600.0
ACTIVE, CLOSED, WAITING = "active", "disabled", "waiting"
_MEMORY = 96 << 20
_ALIVE = "seen >= ? AND started >= ?"
_NOBODY = "scrypt$" + "00" * 16 + "$" + "00" * 32  # checked where there is no account, so that both take as long


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
    """Accounts and sessions at `place`.

    Args:
      owner: e-mail of the owner's PySyft account.
      idle_seconds: after which a session without a request of a person's ends.
      clock: seconds since 1970.
    """

    def __init__(
        self, place: ConsolePlace, owner: str, *, idle_seconds: float = 1800.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.owner = as_typed(owner)
        self.idle_seconds = idle_seconds
        self.clock = clock
        self._rows = open_rows(place)

    def close(self) -> None:
        """Let go of the place."""
        self._rows.close()

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
        row = {
            "email": email,
            "name": name.strip()[:200],
            "role": str(role),
            "password": hash_password(password),
            "state": WAITING if waits else ACTIVE,
            "created": float(self.clock()),
        }
        self._rows.insert("users", row)

    def user(self, email: str) -> dict[str, Any] | None:
        """An account without its password, or None."""
        rows = self._rows.select("users", "email = ?", as_typed(email))
        return _without_password(rows[0]) if rows else None

    def users(self) -> list[dict[str, Any]]:
        """Every account without its password, by e-mail."""
        return [_without_password(row) for row in self._rows.select("users", "true ORDER BY email")]

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
        rows = self._rows.select("users", "role = ? AND state = ?", Role.SECOND_REVIEWER.value, ACTIVE)
        return {row["email"] for row in rows}

    def has_reviewers(self) -> bool:
        """Whether anybody is or was a second reviewer."""
        return bool(self._rows.select("users", "role = ?", Role.SECOND_REVIEWER.value))

    def hold_closed_reviewers(self) -> None:
        """Let closed accounts of second reviewers wait for another's agreement before they open again."""
        closed = "role = ? AND state = ?"
        self._rows.update("users", {"state": WAITING}, closed, Role.SECOND_REVIEWER.value, CLOSED)

    def set_password(self, email: str, password: str, *, waits: bool = False) -> None:
        """A new password; ends the account's sessions. One that `waits` can do nothing until `agree`."""
        self._existing(email)
        check_password(password)
        changes = {"password": hash_password(password)} | ({"state": WAITING} if waits else {})
        self._rows.update("users", changes, "email = ?", as_typed(email))
        self.end_all(email)

    def password_is_right(self, email: str, password: str) -> bool:
        """Whether an account of the console in use has this password; takes as long where there is none."""
        rows = self._rows.select("users", "email = ?", as_typed(email))
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
        self._rows.update("users", {"state": state}, "email = ?", as_typed(email))

    # -- sessions ------------------------------------------------------------------------------------------------

    def begin(self, email: str, *, browser: str = "") -> str:
        """Start a session; its new random id, for the cookie and nowhere else."""
        token, now = secrets.token_urlsafe(32), float(self.clock())
        self._rows.delete("sessions", "seen < ? OR started < ?", *self._oldest())
        row = {
            "id_sha256": _sha256(token),
            "email": as_typed(email),
            "csrf": secrets.token_urlsafe(32),
            "started": now,
            "seen": now,
            "browser": browser[:200],
            "notice": "",
        }
        self._rows.insert("sessions", row)
        return token

    def session(self, token: str, *, touch: bool = True) -> Session | None:
        """The session of a cookie, unless it is over or its account is closed. `touch` counts as a person's act."""
        rows = self._rows.select("sessions", f"id_sha256 = ? AND {_ALIVE}", _sha256(token), *self._oldest())
        role = self.role_of(rows[0]["email"]) if rows else None
        if role is None:
            return None
        row = rows[0]
        if touch and self.clock() - row["seen"] > 0.01 * self.idle_seconds:
            self._rows.update("sessions", {"seen": float(self.clock())}, "id_sha256 = ?", row["id_sha256"])
        user = self.user(row["email"])
        del row["notice"]
        return Session(name=user["name"] if user else "", role=role, **row)

    def is_alive(self, session: Session) -> bool:
        """Whether a session goes on and its account is open. No act of a person's."""
        rows = self._rows.select("sessions", f"id_sha256 = ? AND {_ALIVE}", session.id_sha256, *self._oldest())
        return bool(rows) and self.role_of(session.email) is not None

    def sessions(self, email: str) -> list[dict[str, Any]]:
        """Sessions of an account that are not over, newest first."""
        newest_first = f"email = ? AND {_ALIVE} ORDER BY seen DESC"
        rows = self._rows.select("sessions", newest_first, as_typed(email), *self._oldest())
        return [{name: row[name] for name in ("id_sha256", "started", "seen", "browser")} for row in rows]

    def end(self, session: Session) -> None:
        """Sign out."""
        self._rows.delete("sessions", "id_sha256 = ?", session.id_sha256)

    def end_all(self, email: str) -> None:
        """Sign an account out everywhere."""
        self._rows.delete("sessions", "email = ?", as_typed(email))

    def leave_notice(self, session: Session, text: str) -> None:
        """A sentence for the next page of this session."""
        self._rows.update("sessions", {"notice": text}, "id_sha256 = ?", session.id_sha256)

    def take_notice(self, session: Session) -> str:
        """The sentence that was left, once."""
        rows = self._rows.select("sessions", "id_sha256 = ?", session.id_sha256)
        if rows and rows[0]["notice"]:
            self.leave_notice(session, "")
            return str(rows[0]["notice"])
        return ""

    def _oldest(self) -> tuple[float, float]:
        now = self.clock()
        return now - self.idle_seconds, now - LONGEST_SESSION


def _without_password(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "password"}


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
