"""Invitations of researchers: a link that works once and for some days, on which they set their own password.

The link's token is 32 random bytes and is shown once; its hash alone is kept. The account is made when the link is
used, so nothing stands open meanwhile. A link that was used, ended, was withdrawn or never was is answered alike.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Any

from datasites.people.places import ConsolePlace, open_rows

DAYS = 7
MOST_DAYS = 30
LONGEST_PASSWORD = 72  # bytes; PySyft's bcrypt reads no further
_USABLE = "token_sha256 = ? AND ends > ?"
DEAD = "This link does not work, or no longer. Ask the hospital for a new one."


class Invitations:
    """Open invitations at `place`, one for each e-mail; a new one takes the place of the one before.

    Args:
      clock: seconds since 1970.
    """

    def __init__(self, place: ConsolePlace, *, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._rows = open_rows(place)

    def close(self) -> None:
        """Let go of the place."""
        self._rows.close()

    def make(self, email: str, name: str, institution: str, *, days: float) -> str:
        """The token of a new invitation, which is kept nowhere else."""
        token, now = secrets.token_urlsafe(32), float(self.clock())
        row = {
            "email": email,
            "name": name,
            "institution": institution,
            "token_sha256": _sha256(token),
            "made": now,
            "ends": now + days * 86_400,
        }
        self._rows.insert("invitations", row, otherwise="replace")
        return token

    def open(self) -> list[dict[str, Any]]:
        """Invitations that can be used, without their tokens."""
        rows = self._rows.select("invitations", "ends > ? ORDER BY email", self.clock())
        return [{name: row[name] for name in ("email", "name", "institution", "made", "ends")} for row in rows]

    def find(self, token: str) -> dict[str, Any] | None:
        """The invitation of a token, or None."""
        rows = self._rows.select("invitations", _USABLE, _sha256(token), self.clock())
        return {name: rows[0][name] for name in ("email", "name", "institution", "ends")} if rows else None

    def take(self, token: str) -> dict[str, Any] | None:
        """The same, and it is used up: of many at once one alone gets it."""
        rows = self._rows.delete("invitations", _USABLE, _sha256(token), self.clock())
        return rows[0] if rows else None

    def give_back(self, taken: dict[str, Any]) -> None:
        """Make an invitation usable again whose account could not be made; not where a newer one was."""
        self._rows.insert("invitations", taken, otherwise="keep")

    def withdraw(self, email: str) -> bool:
        """End an invitation; False where there was none."""
        return bool(self._rows.delete("invitations", "email = ?", email))


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
