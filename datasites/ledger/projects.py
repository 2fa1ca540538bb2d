"""Projects: requests of one agreement, filed together under a name, its parties and its last day.

After that day, or once the owner has closed a project, no request of it is approved and no round of it begins. Approved
requests then expire, and what no run touched goes back to the budget. A project permits nothing by itself.
"""

from __future__ import annotations

import dataclasses
import secrets
import sqlite3
from dataclasses import dataclass

from datasites.ledger.store import Store
from policies.errors import InvalidRequest, WrongStatus

HAS_ENDED = "(projects.closed_at IS NOT NULL OR projects.ends < :today)"
"""Of a project, in SQL; `today` is a day in UTC."""


@dataclass(frozen=True)
class Project:
    """One agreement. `ends` is its last day, in UTC as "2027-06-30"; times are UTC, ISO 8601."""

    id: str
    name: str
    parties: str
    ends: str
    made_at: str
    closed_at: str | None = None

    def has_ended(self, now: str) -> bool:
        """Whether nothing more may run under it at a time of the ledger's clock."""
        return self.closed_at is not None or self.ends < now[:10]

    @property
    def why_ended(self) -> str:
        """Why nothing more runs under it, for the researcher as well."""
        how = "was closed by the data owner" if self.closed_at else f"ended on {self.ends}"
        return f"The project {self.name} {how}. Nothing more of it is approved, and no further round begins."


class Projects:
    """The projects of a store, and which requests are filed under them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def now(self) -> str:
        """The ledger's time, by which projects end."""
        return self._store.now()

    def list(self) -> tuple[Project, ...]:
        """Every project in the order they were made."""
        with self._store.reading() as db:
            return tuple(Project(*row) for row in db.execute("SELECT * FROM projects ORDER BY made_at, rowid"))

    def find(self, name: str) -> Project:
        """The project of this name or id. Raises `InvalidRequest`."""
        with self._store.reading() as db:
            return find_project(db, name)

    def of(self, request: str) -> Project | None:
        """The project that a request is filed under."""
        with self._store.reading() as db:
            return project_of(db, request)

    def requests(self, project: str) -> tuple[str, ...]:
        """Identifiers of the requests under a project, in the order they were filed."""
        with self._store.reading() as db:
            rows = db.execute("SELECT request FROM filed WHERE project = ? ORDER BY at, rowid", (project,))
            return tuple(str(row[0]) for row in rows)

    def counts(self, project: str) -> tuple[int, int]:
        """How many requests are filed under a project, and how many of them are approved."""
        query = """SELECT count(*), coalesce(sum(requests.status = 'approved'), 0)
          FROM filed JOIN requests ON requests.id = filed.request WHERE filed.project = ?"""
        with self._store.reading() as db:
            filed, approved = db.execute(query, (project,)).fetchone()
            return int(filed), int(approved)

    def make(self, name: str, parties: str, ends: str) -> Project:
        """A new project. Raises `WrongStatus` where the name is taken."""
        with self._store.writing() as db:
            if db.execute("SELECT 1 FROM projects WHERE name = ?", (name,)).fetchone():
                raise WrongStatus(f"There is a project {name!r} already. Choose another name.")
            project = Project(secrets.token_hex(8), name, parties, ends, self._store.now())
            db.execute("INSERT INTO projects VALUES (?, ?, ?, ?, ?, ?)", dataclasses.astuple(project))
            return project

    def change(self, name: str, *, parties: str, ends: str) -> Project:
        """Other parties and another last day; who shortens it ends it at once. Raises `WrongStatus` once closed."""
        with self._store.writing() as db:
            project = find_project(db, name)
            _check_open(project)
            db.execute("UPDATE projects SET parties = ?, ends = ? WHERE id = ?", (parties, ends, project.id))
            return dataclasses.replace(project, parties=parties, ends=ends)

    def close(self, name: str) -> Project:
        """End a project now, for good. Raises `WrongStatus` where it is closed."""
        with self._store.writing() as db:
            project = find_project(db, name)
            _check_open(project)
            closed = dataclasses.replace(project, closed_at=self._store.now())
            db.execute("UPDATE projects SET closed_at = ? WHERE id = ?", (closed.closed_at, project.id))
            return closed

    def file(self, request: str, name: str) -> Project:
        """Put a request under a project, or under another than it was. Raises `WrongStatus` where that has ended."""
        with self._store.writing() as db:
            return self.file_in(db, request, name)

    def file_in(self, db: sqlite3.Connection, request: str, name: str) -> Project:
        """As `file`, within a transaction."""
        project = find_project(db, name)
        if project.has_ended(self._store.now()):
            raise WrongStatus(project.why_ended)
        db.execute(
            "INSERT INTO filed VALUES (?, ?, ?) ON CONFLICT (request) DO UPDATE SET project = excluded.project,"
            " at = excluded.at",
            (request, project.id, self._store.now()),
        )
        return project


def project_of(db: sqlite3.Connection, request: str) -> Project | None:
    """The project that a request is filed under."""
    query = "SELECT projects.* FROM filed JOIN projects ON projects.id = filed.project WHERE filed.request = ?"
    row = db.execute(query, (request,)).fetchone()
    return None if row is None else Project(*row)


def check_project(db: sqlite3.Connection, request: str, now: str) -> None:
    """Raise `WrongStatus` where the project of a request has ended."""
    project = project_of(db, request)
    if project is not None and project.has_ended(now):
        raise WrongStatus(project.why_ended)


def find_project(db: sqlite3.Connection, name: str) -> Project:
    """The project of this name or id. Raises `InvalidRequest`."""
    row = db.execute("SELECT * FROM projects WHERE id = ? OR name = ? ORDER BY id = ? DESC", (name,) * 3).fetchone()
    if row is None:
        raise InvalidRequest(f"There is no project {name[:80]!r} here. `datasite projects list` shows them.")
    return Project(*row)


def _check_open(project: Project) -> None:
    if project.closed_at is not None:
        raise WrongStatus(f"The project {project.name} is closed, for good. Make another one.")
