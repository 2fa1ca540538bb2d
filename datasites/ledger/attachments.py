"""What the ledger knows of attached files: to what each belongs, its name, size and SHA-256. Only ever added to."""

from __future__ import annotations

import dataclasses
import secrets
from dataclasses import dataclass

from datasites.ledger.store import Store
from policies.errors import InvalidRequest, WrongStatus


@dataclass(frozen=True)
class Attachment:
    """One attached file. `kind` is what it belongs to, `"request"` or `"project"`, and `object` is that one's id."""

    id: str
    kind: str
    object: str
    name: str
    size: int
    digest: str
    at: str
    actor: str


class Attachments:
    """The attachments of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def new_id(self) -> str:
        """An identifier that nobody can guess, under which a file is kept before the ledger hears of it."""
        return secrets.token_hex(16)

    def add(
        self, id: str, kind: str, object: str, *, name: str, size: int, digest: str, actor: str, most: int
    ) -> Attachment:
        """Keep what is known of a file that is stored. Raises `WrongStatus` where there are `most` already."""
        with self._store.writing() as db:
            count = db.execute("SELECT count(*) FROM attachments WHERE kind = ? AND object = ?", (kind, object))
            if count.fetchone()[0] >= most:
                raise WrongStatus(f"This {kind} has {most} attachments, which is the most (setting most_attachments).")
            attachment = Attachment(id, kind, object, name, size, digest, self._store.now(), actor)
            marks = ", ".join("?" * len(dataclasses.fields(Attachment)))
            db.execute(f"INSERT INTO attachments VALUES ({marks})", dataclasses.astuple(attachment))
            return attachment

    def get(self, id: str) -> Attachment:
        """The attachment with this id. Raises `InvalidRequest`."""
        with self._store.reading() as db:
            row = db.execute("SELECT * FROM attachments WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise InvalidRequest("There is no such attachment here.")
        return Attachment(*row)

    def of(self, kind: str, object: str) -> tuple[Attachment, ...]:
        """What is attached to a request or a project, oldest first."""
        query = "SELECT * FROM attachments WHERE kind = ? AND object = ? ORDER BY at, rowid"
        with self._store.reading() as db:
            return tuple(Attachment(*row) for row in db.execute(query, (kind, object)))

    def ids(self) -> set[str]:
        """Identifiers of every attachment."""
        with self._store.reading() as db:
            return {str(row[0]) for row in db.execute("SELECT id FROM attachments")}
