"""The ledger's SQLite file: its creation, its connections and its transactions. What rows mean is said elsewhere.

Durability: WAL with `synchronous=FULL`, so a committed transaction survives `kill -9` and power loss. Each thread of
each process has its own connection; writers take the file's write lock at once (`BEGIN IMMEDIATE`). A lock that does
not come, a full disk or a failing one raises `Unavailable`, with nothing of the transaction done. While a store is open
its file must not be opened and closed by other means in the same process (POSIX would drop SQLite's locks): back it up
with `Store.backup`.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, Self

from datasites.files import sync_directory
from datasites.ledger.tables import SCHEMA_VERSION, TABLES, UPGRADES
from policies.errors import DatasiteError, LedgerDamaged, Unavailable, WrongStatus

# Primary result codes of SQLite after which trying again, or freeing the disk, may help.
_TRANSIENT = {
    sqlite3.SQLITE_BUSY: "it is locked by another process",
    sqlite3.SQLITE_LOCKED: "it is locked",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_READONLY: "it cannot be written",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_NOMEM: "memory is short",
    sqlite3.SQLITE_PERM: "its permissions forbid it",
    sqlite3.SQLITE_INTERRUPT: "it was interrupted",
}

EVERY = (1 << 63) - 1
"""The `LIMIT` of a query that has none."""


def utc_now() -> datetime:
    """The time of this machine, with its zone."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """`moment` in UTC as ISO 8601 with microseconds: such texts sort as times do."""
    if moment.tzinfo is None:
        raise ValueError("A time without a zone was given. Pass one with tzinfo, as datetime.now(UTC).")
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class Follower(Protocol):
    """Who is told of the chain outside of the file: a witness (`witness.py`)."""

    def check(self) -> None:
        """Raise `Unavailable` unless everything that the file holds is known outside."""

    def follow(self, db: sqlite3.Connection) -> None:
        """Learn what a transaction added, once it is durable. Raises nothing: `check` says what is missing."""


class _Connection(sqlite3.Connection):
    """A connection that can be weakly referenced, so that one of a finished thread is closed with it.

    SQLite reads freed memory where a connection is closed in the middle of another thread's query, so whoever queries
    or closes one holds `in_use`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.in_use = threading.RLock()
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True
        super().close()


class Store:
    """One SQLite file with the tables of `tables.py`, safe to share between threads and processes.

    Args:
      path: of an existing store; `create` makes one.
      clock: tells the time of entries.
      busy_seconds: how long to wait for the write lock before `Unavailable`.

    Raises:
      Unavailable: the file is missing, locked or cannot be read.
      LedgerDamaged: it is not a ledger, or of another version.
    """

    def __init__(
        self, path: str | Path, *, clock: Callable[[], datetime] = utc_now, busy_seconds: float = 10.0
    ) -> None:
        self.path = Path(path)
        self._clock = clock
        self._busy_seconds = busy_seconds
        self.follower: Follower | None = None
        self._begin_process()
        if not self.path.is_file():
            raise Unavailable(f"There is no ledger at {self.path}. Make one with `datasite init`.")
        with self.reading() as db:
            if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
                raise LedgerDamaged(f"{self.path} is not a ledger, or its creation was interrupted. Create it again.")
            written = _schema_version(db)
        if written in UPGRADES:
            self._upgrade()
        elif written != SCHEMA_VERSION:
            raise LedgerDamaged(
                f"{self.path} has schema version {written!r}; this software reads {SCHEMA_VERSION!r} and those of"
                f" {', '.join(map(repr, UPGRADES))}. Open it with the software that wrote it."
            )

    def _upgrade(self) -> None:
        """Add what an earlier version's file lacks, at once or not at all; nothing that is there changes."""
        with self.writing() as db:
            written = _schema_version(db)  # another process may have been first
            for statement in UPGRADES.get(str(written), ()):
                db.execute(statement)
            db.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (SCHEMA_VERSION,))

    @classmethod
    def create(cls, path: str | Path, *, clock: Callable[[], datetime] = utc_now, busy_seconds: float = 10.0) -> Self:
        """A new store at `path`, readable by its user alone. Raises `WrongStatus` where one exists already."""
        path = Path(path)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with _sqlite_errors():
            db = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)
        try:
            with _sqlite_errors():
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                db.execute("BEGIN IMMEDIATE")
                # A creation that was killed left a file without tables: it is made here as if new.
                if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
                    raise WrongStatus(f"A ledger exists at {path}. Open it; budgets are never started anew.")
                for statement in TABLES:
                    db.execute(statement)
                rows = [("schema_version", SCHEMA_VERSION), ("ledger", secrets.token_hex(16))]
                db.executemany("INSERT INTO meta VALUES (?, ?)", rows)
                db.execute("COMMIT")
        finally:
            db.close()
        sync_directory(path.parent)
        return cls(path, clock=clock, busy_seconds=busy_seconds)

    @classmethod
    def open(cls, path: str | Path, *, clock: Callable[[], datetime] = utc_now, busy_seconds: float = 10.0) -> Self:
        """The store at `path`, as the constructor."""
        return cls(path, clock=clock, busy_seconds=busy_seconds)

    def close(self) -> None:
        """Close every connection of this process. The store opens them anew when it is used again.

        A transaction that another thread is in ends first; a connection that stays in use closes with its thread.
        """
        self._check_process()
        for connection in list(self._connections):
            if connection.in_use.acquire(timeout=self._busy_seconds):
                try:
                    connection.close()
                    self._connections.discard(connection)
                finally:
                    connection.in_use.release()

    @property
    def open_connections(self) -> int:
        """How many connections this process has open."""
        return len(self._connections)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def now(self) -> str:
        """The clock's time as text, as entries hold it; the last entry's where the clock has gone back behind it.

        So an approval that expired cannot come back to life, no year opens twice, and entries are in the order of their
        times. Within a transaction it is one moment: what is decided by the time is written with that time.
        """
        moment: str | None = getattr(self._local, "moment", None)
        if moment is not None:
            return moment
        with self.reading() as db:
            last = db.execute("SELECT at FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
        clock = iso(self._clock())
        return clock if last is None else max(clock, str(last["at"]))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection whose queries all see one moment of the file (or the transaction that this thread is in)."""
        with self._used() as db:
            if db.in_transaction:
                yield db
                return
            with _sqlite_errors():
                db.execute("BEGIN")
                try:
                    yield db
                finally:
                    self._roll_back(db)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the file's write lock: all of it is durable on leaving, or, on an error, none."""
        self._check_process()
        lock = self._lock
        # Threads queue here rather than in SQLite, whose waiting is by sleeping and unfair.
        if not lock.acquire(timeout=self._busy_seconds):
            raise Unavailable("The ledger is busy. Try again in a moment.")
        try:
            with self._used() as db, _sqlite_errors():
                db.execute("BEGIN IMMEDIATE")
                try:
                    self._local.moment = self.now()
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    self._roll_back(db)
                    raise
                finally:
                    self._local.moment = None
                if self.follower is not None:
                    self.follower.follow(db)
        finally:
            lock.release()

    def backup(self, path: str | Path) -> None:
        """A consistent copy at `path`, which must not exist, readable by its user alone."""
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with _sqlite_errors():
            copy = sqlite3.connect(path)
            try:
                with self._used() as db:
                    db.backup(copy)
            finally:
                copy.close()

    def _begin_process(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()

    def _check_process(self) -> None:
        """Begin anew in a forked child, which never touches its parent's connections."""
        if self._pid != os.getpid():
            self._inherited = self._local, list(self._connections)  # kept: closing them would drop the parent's locks
            self._begin_process()

    def _connection(self) -> _Connection:
        self._check_process()
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None or connection.is_closed:
            connection = self._local.connection = self._connect()
        return connection

    @contextmanager
    def _used(self) -> Iterator[_Connection]:
        """This thread's connection, which no other thread closes before the block ends."""
        while True:
            db = self._connection()
            with db.in_use:
                if not db.is_closed:
                    yield db
                    return

    def _connect(self) -> _Connection:
        with _sqlite_errors():
            uri = f"{self.path.absolute().as_uri()}?mode=rw"
            # close() may come from another thread than the one that uses the connection.
            db = sqlite3.connect(
                uri,
                uri=True,
                timeout=self._busy_seconds,
                isolation_level=None,
                check_same_thread=False,
                factory=_Connection,
            )
            db.row_factory = sqlite3.Row
            for pragma in (
                "synchronous = FULL",
                "foreign_keys = ON",
                "recursive_triggers = ON",
                "trusted_schema = OFF",
            ):
                db.execute(f"PRAGMA {pragma}")
        assert isinstance(db, _Connection)
        self._connections.add(db)
        return db

    def _roll_back(self, db: sqlite3.Connection) -> None:
        """End the transaction; where even that fails, drop the connection, whose transaction then never happened."""
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
        except sqlite3.Error:
            self._local.connection = None
            with suppress(sqlite3.Error):
                db.close()


def _schema_version(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
    return None if row is None else str(row[0])


@contextmanager
def _sqlite_errors() -> Iterator[None]:
    """Errors of SQLite as ours, without the text of any statement or row."""
    try:
        yield
    except DatasiteError:
        raise
    except sqlite3.Error as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in _TRANSIENT:
            raise Unavailable(f"The ledger is unavailable: {_TRANSIENT[code]}. Nothing was done; try again.") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise LedgerDamaged("The ledger's file is damaged. Stop the datasite and restore a backup.") from error
        raise
