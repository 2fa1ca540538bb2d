"""The ledger's SQLite file: its tables, its transactions, and rows chained by hash.

Every row of a chained table holds the hash of the row before it, and its own: SHA-256 over the canonical JSON of all
its other columns. What the rows mean is `ledger.py`'s business and `replay.py` recomputes it.

Durability: WAL with `synchronous=FULL`, so a committed transaction survives `kill -9` and power loss. Each thread of
each process has its own connection; writers take the file's write lock at once (`BEGIN IMMEDIATE`). A lock that does
not come, a full disk or a failing one raises `Unavailable`, with nothing of the transaction done. While a store is open
its file must not be opened and closed by other means in the same process (POSIX would drop SQLite's locks): back it up
with `Store.backup`.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from datasites.files import sync_directory
from policies.errors import DatasiteError, LedgerDamaged, Unavailable, WrongStatus

if TYPE_CHECKING:
    from datasites.ledger.witness import Witness

SCHEMA_VERSION = "3"
_AMOUNTS = """
  {0}divergence_nano INTEGER NOT NULL DEFAULT 0 CHECK ({0}divergence_nano >= 0),
  {0}pure_nano INTEGER NOT NULL DEFAULT 0 CHECK ({0}pure_nano >= 0),
  {0}mixed INTEGER NOT NULL DEFAULT 0 CHECK ({0}mixed >= 0),
  {0}delta_atto INTEGER NOT NULL DEFAULT 0 CHECK ({0}delta_atto >= 0)"""

# Sealed until a request is decided, and so not in the chain, whose length anybody may see; approval's entry names them.
_VOTES = """CREATE TABLE votes (
      seq INTEGER PRIMARY KEY, request TEXT NOT NULL REFERENCES requests, side TEXT NOT NULL, actor TEXT NOT NULL,
      plan_digest TEXT NOT NULL, at TEXT NOT NULL, UNIQUE (request, side)) STRICT"""

# For one question, at each admission: whether the ledger was put back from a copy and has yet to be accepted.
_RESTORES = "CREATE INDEX restores ON entries (seq) WHERE kind IN ('restore', 'accept')"

TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    # Mutable only through entries: capacity in nano-nats, δ in 1e-18; see ledger.py for their meaning.
    """CREATE TABLE populations (
      name TEXT PRIMARY KEY, epsilon REAL NOT NULL, delta REAL NOT NULL, "order" INTEGER NOT NULL,
      conversion_nano INTEGER NOT NULL, capacity_nano INTEGER NOT NULL, delta_capacity_atto INTEGER NOT NULL) STRICT""",
    # Running totals: of a population where researcher is '', else of that researcher's share in it.
    f"""CREATE TABLE totals (
      population TEXT NOT NULL REFERENCES populations, researcher TEXT NOT NULL, limit_epsilon REAL,
      {_AMOUNTS.format("spent_")}, {_AMOUNTS.format("reserved_")},
      PRIMARY KEY (population, researcher)) STRICT""",
    """CREATE TABLE datasets (
      version TEXT PRIMARY KEY, name TEXT NOT NULL, population TEXT NOT NULL REFERENCES populations,
      schema_json TEXT NOT NULL, patients INTEGER, size_kind TEXT NOT NULL, assets_json TEXT NOT NULL,
      status TEXT NOT NULL, changed_at TEXT NOT NULL) STRICT""",
    "CREATE UNIQUE INDEX one_published_version ON datasets (name) WHERE status = 'published'",
    """CREATE TABLE requests (
      id TEXT PRIMARY KEY, function TEXT NOT NULL, researcher TEXT NOT NULL, dataset TEXT NOT NULL,
      version TEXT NOT NULL, population TEXT REFERENCES populations, source TEXT NOT NULL, plan_json TEXT,
      plan_digest TEXT, findings_json TEXT NOT NULL, purpose TEXT NOT NULL, syft_json TEXT NOT NULL,
      by_owner INTEGER NOT NULL, status TEXT NOT NULL, rounds INTEGER NOT NULL,
      attempts INTEGER NOT NULL, open_runs INTEGER NOT NULL CHECK (open_runs >= 0), charge_json TEXT,
      submitted_at TEXT NOT NULL, changed_at TEXT NOT NULL, expires_at TEXT,
      CHECK (attempts + open_runs <= rounds)) STRICT""",
    "CREATE INDEX requests_by_status ON requests (status, submitted_at)",
    """CREATE TABLE runs (
      id TEXT PRIMARY KEY, request TEXT NOT NULL REFERENCES requests, round INTEGER NOT NULL,
      weights_digest TEXT NOT NULL, status TEXT NOT NULL, created_at TEXT NOT NULL, changed_at TEXT NOT NULL,
      reason TEXT) STRICT""",
    "CREATE INDEX runs_by_request ON runs (request, round)",
    "CREATE INDEX open_runs ON runs (status) WHERE status IN ('reserved', 'running')",
    # At most one live run of a round, whatever the code above it does.
    """CREATE UNIQUE INDEX one_live_run ON runs (request, round)
      WHERE status IN ('reserved', 'running', 'released')""",
    """CREATE TABLE releases (
      run TEXT PRIMARY KEY REFERENCES runs, request TEXT NOT NULL, round INTEGER NOT NULL, at TEXT NOT NULL,
      digest TEXT NOT NULL, certificate TEXT NOT NULL, bytes BLOB NOT NULL, UNIQUE (request, round)) STRICT""",
    """CREATE TABLE comments (
      seq INTEGER PRIMARY KEY, request TEXT NOT NULL REFERENCES requests, at TEXT NOT NULL, actor TEXT NOT NULL,
      text TEXT NOT NULL) STRICT""",
    "CREATE INDEX comments_by_request ON comments (request)",
    _VOTES,
    f"""CREATE TABLE entries (
      seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL, population TEXT,
      request TEXT, run TEXT, {_AMOUNTS.format("")}, details TEXT NOT NULL, prev TEXT NOT NULL,
      hash TEXT NOT NULL) STRICT""",
    "CREATE INDEX entries_by_request ON entries (request) WHERE request IS NOT NULL",
    "CREATE INDEX entries_by_population ON entries (population) WHERE population IS NOT NULL",
    _RESTORES,
    """CREATE TABLE audit (
      seq INTEGER PRIMARY KEY, at TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, object TEXT NOT NULL,
      details TEXT NOT NULL, prev TEXT NOT NULL, hash TEXT NOT NULL) STRICT""",
    """CREATE TRIGGER spent_never_decreases BEFORE UPDATE ON totals
      WHEN NEW.spent_divergence_nano < OLD.spent_divergence_nano
      BEGIN SELECT RAISE(ABORT, 'spent never decreases'); END""",
    *(
        f"""CREATE TRIGGER {table}_not_{verb.lower()}d BEFORE {verb} ON {table}
          BEGIN SELECT RAISE(ABORT, '{table} can only be appended to'); END"""
        for table in ("entries", "audit", "releases", "comments", "votes")
        for verb in ("UPDATE", "DELETE")
    ),
)

# What makes a file of an older version one of this version: from each to the next.
UPGRADES = {"1": tuple(each for each in TABLES if " votes" in each), "2": (_RESTORES,)}

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

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


def canonical(data: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal data, equal bytes."""
    return _ENCODER.encode(data).encode()


def utc_now() -> datetime:
    """The time of this machine, with its zone."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """`moment` in UTC as ISO 8601 with microseconds: such texts sort as times do."""
    if moment.tzinfo is None:
        raise ValueError("A time without a zone was given. Pass one with tzinfo, as datetime.now(UTC).")
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class _Connection(sqlite3.Connection):
    """A connection that can be weakly referenced, so that one of a finished thread is closed with it."""


class Store:
    """One SQLite file with the tables above, safe to share between threads and processes.

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
        self.witness: Witness | None = None
        self._begin_process()
        if not self.path.is_file():
            raise Unavailable(f"There is no ledger at {self.path}. Make one with `datasite init`.")
        with self.reading() as db:
            if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
                raise LedgerDamaged(f"{self.path} is not a ledger, or its creation was interrupted. Create it again.")
            version = db.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
        if version is not None and version[0] in UPGRADES:
            version = (self._upgrade(),)
        if version is None or version[0] != SCHEMA_VERSION:
            found = version and version[0]
            raise LedgerDamaged(f"{self.path} has schema version {found!r}; this software reads {SCHEMA_VERSION}.")

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
        """Close every connection of this process. The store opens them anew when it is used again."""
        for connection in list(self._connections):
            connection.close()
        self._begin_process()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def now(self) -> str:
        """The clock's time as text, as entries hold it; the last entry's where the clock has gone back behind it.

        So an approval that expired cannot come back to life, and entries are in the order of their times.
        """
        with self.reading() as db:
            last = db.execute("SELECT at FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
        clock = iso(self._clock())
        return clock if last is None else max(clock, str(last["at"]))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection whose queries all see one moment of the file (or the transaction that this thread is in)."""
        db = self._connection()
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
        db = self._connection()
        lock = self._lock
        # Threads queue here rather than in SQLite, whose waiting is by sleeping and unfair.
        if not lock.acquire(timeout=self._busy_seconds):
            raise Unavailable("The ledger is busy. Try again in a moment.")
        try:
            with _sqlite_errors():
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    self._roll_back(db)
                    raise
                if self.witness is not None:
                    self.witness.follow(db)
        finally:
            lock.release()

    def chain(self, db: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """`row` appended to the chained `table`, with its `seq`, `prev` and `hash`."""
        seq, prev = head_of(db, table)
        full = {**row, "seq": seq + 1, "prev": prev}
        full["hash"] = hash_of(full)
        names, marks = ", ".join(full), ", ".join("?" * len(full))
        db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(full.values()))
        return full

    def backup(self, path: str | Path) -> None:
        """A consistent copy at `path`, which must not exist, readable by its user alone."""
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with _sqlite_errors():
            copy = sqlite3.connect(path)
            try:
                self._connection().backup(copy)
            finally:
                copy.close()

    def _upgrade(self) -> str:
        """Bring the file to this version in one transaction; the version that it then has."""
        with self.writing() as db:
            query = "SELECT value FROM meta WHERE name = 'schema_version'"
            while (version := str(db.execute(query).fetchone()[0])) in UPGRADES:  # another process may have done it
                for statement in UPGRADES[version]:
                    db.execute(statement)
                db.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (str(int(version) + 1),))
            return version

    def _begin_process(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection; a forked child never touches its parent's."""
        if self._pid != os.getpid():
            self._inherited = self._local, list(self._connections)  # kept: closing them would drop the parent's locks
            self._begin_process()
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = self._local.connection = self._connect()
        return found

    def _connect(self) -> sqlite3.Connection:
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


def head_of(db: sqlite3.Connection, table: str) -> tuple[int, str]:
    """(seq, hash) of the last row of a chained table; of an empty one, 0 and a hash of the ledger's random name."""
    last = db.execute(f"SELECT seq, hash FROM {table} ORDER BY seq DESC LIMIT 1").fetchone()
    if last is not None:
        return last[0], last[1]
    return 0, hashlib.sha256(f"{table}:{ledger_name(db)}".encode()).hexdigest()


def ledger_name(db: sqlite3.Connection) -> str:
    """The random name that the ledger was created with."""
    return str(db.execute("SELECT value FROM meta WHERE name = 'ledger'").fetchone()[0])


def hash_of(row: Mapping[str, Any]) -> str:
    """Hex SHA-256 over the canonical JSON of every column but `hash`."""
    return hashlib.sha256(canonical({name: value for name, value in row.items() if name != "hash"})).hexdigest()


def check_chain(db: sqlite3.Connection, table: str) -> Iterator[dict[str, Any]]:
    """Every row in order, each checked against the one before. Raises `LedgerDamaged` at the first unsound one."""
    seq, prev = 0, hashlib.sha256(f"{table}:{ledger_name(db)}".encode()).hexdigest()
    for found in db.execute(f"SELECT * FROM {table} ORDER BY seq"):
        row = dict(found)
        if row["seq"] != seq + 1:
            raise LedgerDamaged(f"After row {seq} of {table} comes row {row['seq']}: rows were removed.", seq=seq + 1)
        if row["prev"] != prev or row["hash"] != hash_of(row):
            raise LedgerDamaged(f"Row {row['seq']} of {table} is not the one that was written.", seq=row["seq"])
        seq, prev = row["seq"], row["hash"]
        yield row


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
