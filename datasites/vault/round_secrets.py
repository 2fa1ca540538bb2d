"""What a datasite remembers of secure sums: its secrets of each round, and what it answered to whom asked.

Every answer is written durably before it is sent, so that a restart, or a researcher who asks twice, gets the same one.
Secrets are of one round and are deleted when it is over. They are in no backup: a datasite that was put back to an
earlier moment could otherwise answer a second time, and two answers may open what one of them hides.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from policies.secure_sums.party import PartyState

FILE = "secure_sums.db"
_TABLE = """
CREATE TABLE IF NOT EXISTS rounds (
  request TEXT NOT NULL, round INTEGER NOT NULL, state TEXT NOT NULL, PRIMARY KEY (request, round)) STRICT;
"""


class RoundSecrets:
    """The states of all rounds of secure sums, in `directory`; the file is made when something is first written."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._lock = threading.RLock()

    @contextmanager
    def changing(self, request: str, round_number: int) -> Iterator[PartyState | None]:
        """The state of a round, or None, held for as long as it is worked on. `keep` writes it."""
        with self._lock:
            yield self.find(request, round_number)

    def find(self, request: str, round_number: int) -> PartyState | None:
        """The state of a round, or None where it never began."""
        if not self.path.exists():
            return None
        query = "SELECT state FROM rounds WHERE request = ? AND round = ?"
        with self._lock, self._open() as db:
            row = db.execute(query, (request, round_number)).fetchone()
        return PartyState.from_dict(json.loads(row[0])) if row else None

    def keep(self, request: str, round_number: int, state: PartyState) -> None:
        """Write a state; it is on the disk when this returns, and what it overwrites is not."""
        values = (request, round_number, json.dumps(state.as_dict()))
        with self._lock, self._open() as db:
            db.execute("INSERT OR REPLACE INTO rounds VALUES (?, ?, ?)", values)

    def forget_all(self) -> None:
        """Delete every state: where the datasite was put back to an earlier moment, none may be answered from."""
        with self._lock:
            self.path.unlink(missing_ok=True)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if not self.path.exists():
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))
        db = sqlite3.connect(self.path, timeout=30.0)
        try:
            # A rollback journal holds what was before until the transaction is over; it is emptied then.
            for pragma in ("journal_mode = TRUNCATE", "synchronous = FULL", "secure_delete = ON"):
                db.execute(f"PRAGMA {pragma}")
            db.execute(_TABLE)
            with db:
                yield db
        finally:
            db.close()
