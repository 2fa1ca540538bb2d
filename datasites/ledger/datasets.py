"""Versions of datasets in the ledger: staged while they are published, published, retired."""

from __future__ import annotations

import dataclasses
import sqlite3
from typing import Any, Protocol

from datasites.ledger.budgets import Budgets, check_population, holdout_of, split_of
from datasites.ledger.chain import sha256
from datasites.ledger.entries import Entries, EntryKind
from datasites.ledger.records import CodeRequestRecord, DatasetRecord
from datasites.ledger.store import Store
from policies.errors import InvalidRequest, RuleBroken, WrongStatus


class Retiring(Protocol):
    """What becomes of the requests on a version that is retired, in the same transaction."""

    def __call__(self, db: sqlite3.Connection, record: DatasetRecord, actor: str, *, replaced: bool) -> None: ...


class Datasets:
    """The dataset versions of a store; `retiring` closes the requests on one that is retired."""

    retiring: Retiring

    def __init__(self, store: Store, entries: Entries, budgets: Budgets) -> None:
        self._store, self._entries, self._budgets = store, entries, budgets

    def stage(self, record: DatasetRecord) -> DatasetRecord:
        """Keep a version that is being published; nobody is shown it, and `recover` removes it."""
        staged = dataclasses.replace(record, status="staged", changed_at=self._store.now())
        with self._store.writing() as db:
            check_population(db, record.population)
            check_split(db, record)
            if db.execute("SELECT 1 FROM datasets WHERE version = ?", (record.version,)).fetchone():
                raise WrongStatus(f"Version {record.version} of {record.name!r} exists. Use a new random one.")
            self._insert(db, staged)
        return staged

    def publish(self, record: DatasetRecord, *, actor: str) -> DatasetRecord:
        """Publish a version (staged or new) and retire the one before it, at once, in one transaction.

        A published version's figures never change: publish another.

        Raises:
          WrongStatus: the version was published or retired before, or its name belongs to another population.
          RuleBroken: it holds another share of patients out than the population's other tables.
          InvalidRequest: no population or no number of patients.
        """
        if record.patients is None or record.patients < 1 or record.size_kind not in ("declared", "dp-count"):
            raise InvalidRequest("A published dataset needs a number of patients, declared or as a DP count.")
        published = dataclasses.replace(record, status="published", changed_at=self._store.now())
        with self._store.writing() as db:
            check_population(db, record.population)
            check_split(db, record)
            kept = db.execute("SELECT * FROM datasets WHERE version = ?", (record.version,)).fetchone()
            if kept is not None and (kept["status"] != "staged" or kept["population"] != record.population):
                raise WrongStatus(f"Version {record.version} is {kept['status']}. Publish under a new version.")
            before = db.execute(
                "SELECT * FROM datasets WHERE name = ? AND status = 'published'", (record.name,)
            ).fetchone()
            if before is not None:
                if before["population"] != record.population:
                    raise WrongStatus(
                        f"{record.name!r} belongs to population {before['population']!r}, whose budget it stays on."
                    )
                self._retire(db, DatasetRecord(**dict(before)), actor, replaced=True)
            db.execute("DELETE FROM datasets WHERE version = ?", (record.version,))
            self._insert(db, published)
            self._entries.append(
                db, EntryKind.PUBLICATION, actor, population=record.population, **public_facts(published)
            )
            self._budgets.split(db, record.population, actor=actor)
        return published

    def retire(self, version: str, *, actor: str) -> DatasetRecord:
        """Take a published version back: its requests are closed, and nothing more is released of it."""
        with self._store.writing() as db:
            row = db.execute("SELECT * FROM datasets WHERE version = ?", (version,)).fetchone()
            if row is None or row["status"] != "published":
                raise WrongStatus(f"Version {version} is {row['status'] if row else 'unknown'}, not published.")
            return self._retire(db, DatasetRecord(**dict(row)), actor, replaced=False)

    def list(self, *, status: str | None = "published") -> tuple[DatasetRecord, ...]:
        """Dataset versions by name; of every status with `status=None`."""
        with self._store.reading() as db:
            query = "SELECT * FROM datasets WHERE ?1 IS NULL OR status = ?1 ORDER BY name, rowid"
            return tuple(DatasetRecord(**dict(row)) for row in db.execute(query, (status,)))

    def get(self, *, name: str | None = None, version: str | None = None) -> DatasetRecord:
        """The published version of `name`, or `version` whatever its status. Raises `InvalidRequest`."""
        with self._store.reading() as db:
            if version is not None:
                row = db.execute("SELECT * FROM datasets WHERE version = ?", (version,)).fetchone()
            else:
                row = db.execute("SELECT * FROM datasets WHERE name = ? AND status = 'published'", (name,)).fetchone()
            if row is None:
                raise InvalidRequest(f"No dataset {version or name!r} is published here.")
            return DatasetRecord(**dict(row))

    # Within a transaction

    def remove_staged(self, db: sqlite3.Connection) -> tuple[DatasetRecord, ...]:
        """Forget versions whose publication never ended."""
        staged = db.execute("SELECT * FROM datasets WHERE status = 'staged'").fetchall()
        db.execute("DELETE FROM datasets WHERE status = 'staged'")
        return tuple(DatasetRecord(**dict(row)) for row in staged)

    def _insert(self, db: sqlite3.Connection, record: DatasetRecord) -> None:
        values = dataclasses.asdict(record)
        marks = ", ".join("?" * len(values))
        db.execute(f"INSERT INTO datasets ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))

    def _retire(self, db: sqlite3.Connection, record: DatasetRecord, actor: str, *, replaced: bool) -> DatasetRecord:
        retired = dataclasses.replace(record, status="retired", changed_at=self._store.now())
        db.execute(
            "UPDATE datasets SET status = 'retired', changed_at = ? WHERE version = ?",
            (retired.changed_at, record.version),
        )
        self._entries.append(
            db, EntryKind.RETIREMENT, actor, population=record.population, version=record.version, name=record.name
        )
        self.retiring(db, retired, actor, replaced=replaced)
        return retired


def check_split(db: sqlite3.Connection, record: DatasetRecord) -> None:
    """Raise `RuleBroken` where a table splits the patients of its population otherwise than what was charged for."""
    split = split_of(db, record.population)
    if split is not None and holdout_of(record.schema_json) != split:
        raise RuleBroken(
            f"Population {record.population!r} holds out {split:g} of its patients, and this schema says"
            f" {holdout_of(record.schema_json):g}: a patient who trained would be held out, or the other way round, and"
            f" could lose both budgets. Write holdout = {split:g}."
        )


def public_facts(record: DatasetRecord) -> dict[str, Any]:
    """What a publication's entry says of a dataset version."""
    return {
        "name": record.name,
        "version": record.version,
        "patients": record.patients,
        "size_kind": record.size_kind,
        "schema_sha256": sha256(record.schema_json),
    }


def check_version(db: sqlite3.Connection, request: CodeRequestRecord) -> None:
    """Raise `WrongStatus` where the request's dataset version is known here and not published."""
    row = db.execute("SELECT status FROM datasets WHERE version = ?", (request.version,)).fetchone()
    if row is not None and row["status"] != "published":
        raise WrongStatus(f"The version of {request.dataset!r} that request {request.id} names is {row['status']}.")
