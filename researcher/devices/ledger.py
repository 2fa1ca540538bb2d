"""A device's own ledger: its budget, what was charged for each question, and what it was answered with.

One SQLite file, or a dictionary for a simulated device. Everything that an answer changes is one transaction: it is
there whole before the answer is sent, or not at all, so a device that is killed at any moment neither pays twice nor
answers one question with two draws of noise.
"""

from __future__ import annotations

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from policies.errors import InvalidRequest, Unavailable
from policies.privacy.device_reports import UNITS

ANSWER, ROUND, ACCEPTED, FACT = "answer", "round", "accepted", "fact"
_TABLE = """CREATE TABLE IF NOT EXISTS kept (
    kind TEXT NOT NULL, name TEXT NOT NULL, content TEXT NOT NULL, charge INTEGER NOT NULL CHECK (charge >= 0),
    PRIMARY KEY (kind, name)
) WITHOUT ROWID"""


class Book(ABC):
    """What is kept, inside one transaction."""

    @abstractmethod
    def read(self, kind: str, name: str) -> str | None:
        """What is kept under a name, or None."""

    @abstractmethod
    def write(self, kind: str, name: str, content: str, *, charge: int = 0) -> None:
        """Keep something, in the place of what was there; a charge stays."""

    @abstractmethod
    def spent(self) -> int:
        """All charges, in millionths of ε."""

    def budget(self) -> int:
        """That was given to the device, in millionths of ε."""
        return int(self.read(FACT, "budget") or 0)


class Ledger(ABC):
    """Where a device keeps what it knows."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Book]:
        """A context manager with a `Book`: all of what is written in it is kept, or nothing where it raises."""


class FileLedger(Ledger):
    """In a file of its own, which is made where there is none.

    Args:
      file: `ledger.db` in the device's directory.
      budget: ε of the person's whole budget, for a new file; one that is there keeps its own.

    Raises:
      InvalidRequest: there is no file and no budget was given, or the budget is outside (0, 100].
    """

    def __init__(self, file: str | Path, *, budget: float | None = None) -> None:
        self._file = Path(file)
        if not self._file.exists() and budget is None:
            raise InvalidRequest(f"{file} does not exist. Give this device's person a budget first, as --budget 2.")
        with self.transaction() as book:
            if book.read(FACT, "budget") is None:
                book.write(FACT, "budget", str(_budget(budget)))

    @contextmanager
    def transaction(self) -> Iterator[Book]:
        """One at a time, also between processes."""
        connection = sqlite3.connect(self._file, timeout=30, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # round secrets are overwritten when they were used
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_TABLE)
            yield _Rows(connection)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise Unavailable(f"This device's ledger cannot be used ({type(error).__name__}). Nothing left.") from None
        finally:
            connection.close()  # rolls back what was not committed


class SimulatedLedger(Ledger):
    """In memory, for as long as the process lives: a simulated device has one."""

    __slots__ = ("_kept", "_lock")

    def __init__(self, *, budget: float) -> None:
        self._kept: dict[tuple[str, str], tuple[str, int]] = {(FACT, "budget"): (str(_budget(budget)), 0)}
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[Book]:
        """Of a copy, which takes the place of what was there."""
        with self._lock:
            draft = dict(self._kept)
            yield _Dictionary(draft)
            self._kept = draft


class _Rows(Book):
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def read(self, kind: str, name: str) -> str | None:
        row = self._connection.execute("SELECT content FROM kept WHERE kind = ? AND name = ?", (kind, name)).fetchone()
        return None if row is None else str(row[0])

    def write(self, kind: str, name: str, content: str, *, charge: int = 0) -> None:
        self._connection.execute(
            "INSERT INTO kept VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET content = excluded.content, charge = charge + excluded.charge",
            (kind, name, content, charge),
        )

    def spent(self) -> int:
        return int(self._connection.execute("SELECT COALESCE(SUM(charge), 0) FROM kept").fetchone()[0])


class _Dictionary(Book):
    def __init__(self, kept: dict[tuple[str, str], tuple[str, int]]) -> None:
        self._kept = kept

    def read(self, kind: str, name: str) -> str | None:
        content, _ = self._kept.get((kind, name), (None, 0))
        return content

    def write(self, kind: str, name: str, content: str, *, charge: int = 0) -> None:
        _, before = self._kept.get((kind, name), ("", 0))
        self._kept[kind, name] = content, before + charge

    def spent(self) -> int:
        return sum(charge for _, charge in self._kept.values())


def _budget(epsilon: float | None) -> int:
    if not isinstance(epsilon, int | float) or isinstance(epsilon, bool) or not 0 < epsilon <= 100:
        raise InvalidRequest(f"budget={epsilon!r} is outside (0, 100]. Choose one between 0.1 and 10.")
    return int(epsilon * UNITS)
