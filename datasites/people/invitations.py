"""Invitations of researchers: a link that works once and for some days, on which they set their own password.

The link's token is 32 random bytes and is shown once; the file keeps its hash. The account is made when the link is
used, so nothing stands open meanwhile. A link that was used, ended, was withdrawn or never was is answered alike.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasites.people.accounts import open_console_file

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
        self._db = open_console_file(path, TABLE)

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
