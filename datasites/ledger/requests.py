"""The ledger's registers: code requests, comments, datasets, and the entries as they are read.

Reading, and the writes that move no budget. Each change of status writes its entry in the same transaction. What
reserves, spends or gives back is in `ledger.py`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sqlite3
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from datasites.ledger.entries import COLUMNS, Amount, Entry, EntryKind, entry_from
from datasites.ledger.records import CodeRequestRecord, Comment, DatasetRecord, Run, Vote, findings_text
from datasites.ledger.store import Store, canonical, head_of
from policies.errors import InvalidRequest, WrongStatus
from policies.release.plans import Plan
from policies.source.findings import Finding
from policies.source.statuses import Party, RequestStatus, RunStatus, Side, check_transition

_PLACEHOLDERS = ", ".join("?" * len(dataclasses.fields(CodeRequestRecord)))


class Head(NamedTuple):
    """The last entry's number and hash."""

    seq: int
    hash: str


class Release(NamedTuple):
    """The stored bytes of a release, the digest of its tensors, and its signed certificate."""

    bytes: bytes
    digest: str
    certificate: str


def sha256(text: str | bytes) -> str:
    """Hex digest of a text's UTF-8, or of bytes."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


class Registry(Store):
    """Code requests, comments, datasets and entries in the store. See `Ledger` for all of it together."""

    # Code requests

    def submit(self, record: CodeRequestRecord) -> CodeRequestRecord:
        """Keep a new request as `submitted`; the same record again is answered with the one that is kept.

        Raises:
          WrongStatus: the id is taken by another record.
          InvalidRequest: its population does not exist.
        """
        with self.writing() as db:
            kept = db.execute("SELECT * FROM requests WHERE id = ?", (record.id,)).fetchone()
            if kept is not None:
                found = _request(kept)
                same = ("function", "researcher", "dataset", "version", "population", "source")
                if all(getattr(found, name) == getattr(record, name) for name in same):
                    return found
                raise WrongStatus(f"Request {record.id} exists with other contents. Submit a new one.")
            return self._insert_request(db, record, RequestStatus.SUBMITTED, actor=record.researcher)

    def get(self, request: str) -> CodeRequestRecord:
        """The request with this id. Raises `InvalidRequest` where there is none."""
        with self.reading() as db:
            return find_request(db, request)

    def list(
        self,
        *,
        status: RequestStatus | str | None = None,
        researcher: str | None = None,
        by_owner: bool | None = False,
    ) -> tuple[CodeRequestRecord, ...]:
        """Requests in the order they came; `by_owner=None` lists the datasite's own charges too."""
        conditions = {"status": status and RequestStatus(status).value, "researcher": researcher, "by_owner": by_owner}
        used = {name: value for name, value in conditions.items() if value is not None}
        where = " AND ".join(f"{name} = :{name}" for name in used) or "1"
        with self.reading() as db:
            rows = db.execute(f"SELECT * FROM requests WHERE {where} ORDER BY submitted_at, rowid", used)
            return tuple(_request(row) for row in rows)

    def count(self, status: RequestStatus | str) -> int:
        """How many requests of researchers have this status."""
        query = "SELECT count(*) FROM requests WHERE status = ? AND by_owner = 0"
        with self.reading() as db:
            return int(db.execute(query, (RequestStatus(status).value,)).fetchone()[0])

    def count_by_status(self, table: Literal["requests", "runs"]) -> dict[str, int]:
        """How many requests of researchers, or runs, there are of each status that occurs."""
        where = "WHERE by_owner = 0" if table == "requests" else ""
        with self.reading() as db:
            return dict(db.execute(f"SELECT status, count(*) FROM {table} {where} GROUP BY status").fetchall())

    def check(
        self, request: str, plan: Plan, *, findings: Iterable[Finding] = (), actor: str = "datasite"
    ) -> CodeRequestRecord:
        """`submitted` to `checked`, with the plan that inspection and export made."""
        with self.writing() as db:
            found = find_request(db, request)
            check_transition(found.status, RequestStatus.CHECKED, request=request, party=Party.DATASITE)
            if found.population is None:
                raise WrongStatus(f"Request {request} names no dataset that is here; deny it.")
            return self._move(
                db,
                found,
                RequestStatus.CHECKED,
                actor=actor,
                plan_json=canonical(plan.as_dict()).decode(),
                plan_digest=plan.digest,
                findings_json=findings_text(findings),
            )

    # Comments

    def comments(self, request: str) -> tuple[Comment, ...]:
        """What was written on a request, oldest first."""
        with self.reading() as db:
            query = "SELECT request, at, actor, text FROM comments WHERE request = ? ORDER BY seq"
            return tuple(Comment(*row) for row in db.execute(query, (request,)))

    # Votes

    def vote(self, request: str, *, side: Side, actor: str, plan_digest: str) -> Vote:
        """Keep one side's approval of a plan. A side votes once; voting again is answered with the vote that is kept.

        Whoever shows votes shows a side its own alone until the request is decided: neither sees the other's first.

        Raises:
          WrongStatus: the request is not `checked`, its plan is another, or the same person voted for the other side.
        """
        with self.writing() as db:
            found = find_request(db, request)
            check_transition(found.status, RequestStatus.APPROVED, request=request, party=Party.OWNER)
            if found.plan_digest != plan_digest:
                raise WrongStatus(f"The plan of request {request} is not the one that was shown. Look at it again.")
            kept = votes_of(db, request)
            for each in kept:
                if each.side is side:
                    return each
                if each.actor == actor:
                    raise WrongStatus(f"{actor} has voted on request {request}. Another person must vote.")
            vote = Vote(request, side, actor, plan_digest, self.now())
            db.execute(
                "INSERT INTO votes (request, side, actor, plan_digest, at) VALUES (?, ?, ?, ?, ?)",
                (vote.request, vote.side.value, vote.actor, vote.plan_digest, vote.at),
            )
            return vote

    def votes(self, request: str) -> tuple[Vote, ...]:
        """Every vote on a request, oldest first; sealed ones too, so not for showing before it is decided."""
        with self.reading() as db:
            return votes_of(db, request)

    # Runs and releases

    def run(self, run: str) -> Run:
        """The run with this id. Raises `InvalidRequest` where there is none."""
        with self.reading() as db:
            return find_run(db, run)

    def runs(self, request: str | None = None, *, status: RunStatus | str | None = None) -> tuple[Run, ...]:
        """Runs in the order they were admitted."""
        conditions = {"request": request, "status": status and RunStatus(status).value}
        used = {name: value for name, value in conditions.items() if value is not None}
        where = " AND ".join(f"{name} = :{name}" for name in used) or "1"
        with self.reading() as db:
            return tuple(_run(row) for row in db.execute(f"SELECT * FROM runs WHERE {where} ORDER BY rowid", used))

    def run_page(self, *, limit: int, offset: int = 0) -> tuple[int, tuple[dict[str, Any], ...]]:
        """How many runs there are, and `limit` of them, newest first, each with its request's names."""
        query = """SELECT runs.*, requests.function, requests.researcher, requests.dataset, requests.rounds,
              requests.status AS request_status, requests.by_owner
            FROM runs JOIN requests ON requests.id = runs.request ORDER BY runs.rowid DESC LIMIT ? OFFSET ?"""
        with self.reading() as db:
            count = int(db.execute("SELECT count(*) FROM runs").fetchone()[0])
            return count, tuple(dict(row) for row in db.execute(query, (limit, offset)))

    def release(self, request: str, round: int) -> Release | None:
        """What was released for a round, or None."""
        with self.reading() as db:
            query = "SELECT bytes, digest, certificate FROM releases WHERE request = ? AND round = ?"
            row = db.execute(query, (request, round)).fetchone()
            return Release(*row) if row else None

    def releases(self, request: str | None = None) -> tuple[dict[str, Any], ...]:
        """Of every release: run, request, round, at, digest, certificate and size in bytes; oldest first."""
        columns = "run, request, round, at, digest, certificate, length(bytes) AS size"
        where, values = ("WHERE request = ?", (request,)) if request is not None else ("", ())
        with self.reading() as db:
            rows = db.execute(f"SELECT {columns} FROM releases {where} ORDER BY at, rowid", values)
            return tuple(dict(row) for row in rows)

    def release_page(self, *, limit: int, offset: int = 0) -> tuple[int, tuple[dict[str, Any], ...]]:
        """How many releases there are, and `limit` of them, newest first, each with its request's names."""
        query = """SELECT releases.request, releases.round, releases.at, releases.digest,
              length(releases.bytes) AS size,
              requests.function, requests.researcher, requests.dataset, requests.population, requests.by_owner
            FROM releases JOIN requests ON requests.id = releases.request
            ORDER BY releases.rowid DESC LIMIT ? OFFSET ?"""
        with self.reading() as db:
            count = int(db.execute("SELECT count(*) FROM releases").fetchone()[0])
            return count, tuple(dict(row) for row in db.execute(query, (limit, offset)))

    def spending(self, population: str, *, after: int = 0) -> tuple[dict[str, Any], ...]:
        """What entries above `after` spent, by day, dataset and researcher (lost ones have none), oldest day first."""
        query = """SELECT substr(entries.at, 1, 10) AS day, coalesce(requests.dataset, '') AS dataset,
              coalesce(requests.researcher, '') AS researcher,
              sum(divergence_nano) AS divergence_nano, sum(pure_nano) AS pure_nano, sum(mixed) AS mixed,
              sum(delta_atto) AS delta_atto, count(*) AS runs
            FROM entries LEFT JOIN requests ON requests.id = entries.request
            WHERE entries.population = ? AND entries.seq > ? AND kind IN ('settle', 'fail', 'lost')
            GROUP BY day, requests.dataset, requests.researcher ORDER BY day"""
        with self.reading() as db:
            return tuple(dict(row) for row in db.execute(query, (population, after)))

    # Entries

    def entries(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        request: str | None = None,
        population: str | None = None,
        newest_first: bool = False,
    ) -> tuple[Entry, ...]:
        """Entries numbered above `after` and below `before`, at most `limit`, of a request or population if given."""
        conditions = {"request": request, "population": population}
        used = {name: value for name, value in conditions.items() if value is not None}
        bounds = ["seq > :after"] if before is None else ["seq > :after", "seq < :before"]
        where = " AND ".join([*bounds, *(f"{name} = :{name}" for name in used)])
        order = "DESC" if newest_first else "ASC"
        query = f"SELECT * FROM entries WHERE {where} ORDER BY seq {order} LIMIT :limit"
        values = {**used, "after": after, "limit": -1 if limit is None else limit}
        values |= {} if before is None else {"before": before}
        with self.reading() as db:
            return tuple(entry_from(dict(row)) for row in db.execute(query, values))

    def head(self) -> Head:
        """The last entry's number and hash: whoever keeps it can later tell that the chain goes through it."""
        with self.reading() as db:
            return Head(*head_of(db, "entries"))

    # Datasets

    def stage_dataset(self, record: DatasetRecord) -> DatasetRecord:
        """Keep a version that is being published; nobody is shown it, and `recover` removes it."""
        staged = dataclasses.replace(record, status="staged", changed_at=self.now())
        with self.writing() as db:
            self._check_population(db, record.population)
            if db.execute("SELECT 1 FROM datasets WHERE version = ?", (record.version,)).fetchone():
                raise WrongStatus(f"Version {record.version} of {record.name!r} exists. Use a new random one.")
            self._insert_dataset(db, staged)
        return staged

    def publish_dataset(self, record: DatasetRecord, *, actor: str) -> DatasetRecord:
        """Publish a version (staged or new) and retire the one before it, at once, in one transaction.

        A published version's figures never change: publish another.

        Raises:
          WrongStatus: the version was published or retired before, or its name belongs to another population.
          InvalidRequest: no population or no number of patients.
        """
        if record.patients is None or record.patients < 1 or record.size_kind not in ("declared", "dp-count"):
            raise InvalidRequest("A published dataset needs a number of patients, declared or as a DP count.")
        published = dataclasses.replace(record, status="published", changed_at=self.now())
        with self.writing() as db:
            self._check_population(db, record.population)
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
                self._retire(db, DatasetRecord(**dict(before)), actor)
            db.execute("DELETE FROM datasets WHERE version = ?", (record.version,))
            self._insert_dataset(db, published)
            self._enter(db, EntryKind.PUBLICATION, actor, population=record.population, **public_facts(published))
        return published

    def retire_dataset(self, version: str, *, actor: str) -> DatasetRecord:
        """Take a published version back: nothing is approved or admitted on it any more."""
        with self.writing() as db:
            row = db.execute("SELECT * FROM datasets WHERE version = ?", (version,)).fetchone()
            if row is None or row["status"] != "published":
                raise WrongStatus(f"Version {version} is {row['status'] if row else 'unknown'}, not published.")
            return self._retire(db, DatasetRecord(**dict(row)), actor)

    def datasets(self, *, status: str | None = "published") -> tuple[DatasetRecord, ...]:
        """Dataset versions by name; of every status with `status=None`."""
        with self.reading() as db:
            query = "SELECT * FROM datasets WHERE ?1 IS NULL OR status = ?1 ORDER BY name, rowid"
            return tuple(DatasetRecord(**dict(row)) for row in db.execute(query, (status,)))

    def dataset(self, *, name: str | None = None, version: str | None = None) -> DatasetRecord:
        """The published version of `name`, or `version` whatever its status. Raises `InvalidRequest`."""
        with self.reading() as db:
            if version is not None:
                row = db.execute("SELECT * FROM datasets WHERE version = ?", (version,)).fetchone()
            else:
                row = db.execute("SELECT * FROM datasets WHERE name = ? AND status = 'published'", (name,)).fetchone()
            if row is None:
                raise InvalidRequest(f"No dataset {version or name!r} is published here.")
            return DatasetRecord(**dict(row))

    # For Ledger

    def _enter(
        self,
        db: sqlite3.Connection,
        kind: EntryKind,
        actor: str,
        *,
        population: str | None = None,
        request: str | None = None,
        run: str | None = None,
        amount: Amount | None = None,
        **details: Any,
    ) -> Entry:
        """Append one entry in the transaction that `db` is in; the witness must know all before it."""
        if self.witness is not None:
            self.witness.check()
        row = {
            "at": self.now(),
            "kind": kind.value,
            "actor": actor,
            "population": population,
            "request": request,
            "run": run,
            **dict(zip(COLUMNS, (amount or Amount()).as_row(), strict=True)),
            "details": canonical(details).decode(),
        }
        return entry_from(self.chain(db, "entries", row))

    @staticmethod
    def _check_open(db: sqlite3.Connection) -> None:
        """Raise `WrongStatus` where the ledger was put back from a copy and nobody has accepted it yet."""
        if restored_at(db):
            raise WrongStatus(
                "This datasite was restored from a copy and admits nothing yet: its owner has to run"
                " `datasite accept-restored` first. What was released can be fetched."
            )

    def _insert_request(
        self, db: sqlite3.Connection, record: CodeRequestRecord, status: RequestStatus, *, actor: str
    ) -> CodeRequestRecord:
        if not record.id or not record.researcher:
            raise InvalidRequest("A request needs an id and the e-mail of its researcher.")
        if record.population is not None:
            self._check_population(db, record.population)
        new = dataclasses.replace(
            record, status=status, submitted_at=self.now(), changed_at=self.now(), rounds=0, attempts=0, open_runs=0,
            charge_json=None, expires_at=None,
        )  # fmt: skip
        values = dataclasses.asdict(new) | {"status": status.value, "by_owner": int(new.by_owner)}
        db.execute(f"INSERT INTO requests ({', '.join(values)}) VALUES ({_PLACEHOLDERS})", tuple(values.values()))
        self._enter(
            db,
            EntryKind.SUBMIT,
            actor,
            population=new.population,
            request=new.id,
            researcher=new.researcher,
            function=new.function,
            version=new.version,
            source_sha256=sha256(new.source),
            plan_digest=new.plan_digest,
            status=status.value,
        )
        return new

    def _move(
        self, db: sqlite3.Connection, found: CodeRequestRecord, status: RequestStatus, *, actor: str, **changes: Any
    ) -> CodeRequestRecord:
        """Write a status that moves no budget, with its entry."""
        plan = {"plan_digest": changes["plan_digest"]} if "plan_digest" in changes else {}
        self._enter(
            db,
            EntryKind.STATUS,
            actor,
            population=found.population,
            request=found.id,
            before=found.status.value,
            status=status.value,
            **plan,
        )
        return self._update_request(db, found, status=status, **changes)

    def _update_request(self, db: sqlite3.Connection, found: CodeRequestRecord, **changes: Any) -> CodeRequestRecord:
        changes["changed_at"] = self.now()
        names = ", ".join(f"{name} = ?" for name in changes)
        values = [value.value if isinstance(value, RequestStatus) else value for value in changes.values()]
        db.execute(f"UPDATE requests SET {names} WHERE id = ?", (*values, found.id))
        return dataclasses.replace(found, **changes)

    def _comment(self, db: sqlite3.Connection, request: str, actor: str, text: str) -> Comment:
        comment = Comment(request, self.now(), actor, text)
        db.execute("INSERT INTO comments (request, at, actor, text) VALUES (?, ?, ?, ?)", dataclasses.astuple(comment))
        return comment

    def _insert_dataset(self, db: sqlite3.Connection, record: DatasetRecord) -> None:
        values = dataclasses.asdict(record)
        marks = ", ".join("?" * len(values))
        db.execute(f"INSERT INTO datasets ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))

    def _retire(self, db: sqlite3.Connection, record: DatasetRecord, actor: str) -> DatasetRecord:
        retired = dataclasses.replace(record, status="retired", changed_at=self.now())
        db.execute(
            "UPDATE datasets SET status = 'retired', changed_at = ? WHERE version = ?",
            (retired.changed_at, record.version),
        )
        self._enter(
            db, EntryKind.RETIREMENT, actor, population=record.population, version=record.version, name=record.name
        )
        return retired

    @staticmethod
    def _check_population(db: sqlite3.Connection, name: str) -> None:
        if not db.execute("SELECT 1 FROM populations WHERE name = ?", (name,)).fetchone():
            raise InvalidRequest(f"Population {name!r} does not exist here. Create it with its budget first.")


def restored_at(db: sqlite3.Connection) -> int:
    """The entry that says that the ledger was put back from a copy, where it is still closed; else 0."""
    query = "SELECT seq, kind FROM entries WHERE kind IN ('restore', 'accept') ORDER BY seq DESC LIMIT 1"
    row = db.execute(query).fetchone()
    return row["seq"] if row is not None and row["kind"] == EntryKind.RESTORE else 0


def public_facts(record: DatasetRecord) -> dict[str, Any]:
    """What a publication's entry says of a dataset version."""
    return {
        "name": record.name,
        "version": record.version,
        "patients": record.patients,
        "size_kind": record.size_kind,
        "schema_sha256": sha256(record.schema_json),
    }


def find_request(db: sqlite3.Connection, request: str) -> CodeRequestRecord:
    """The request with this id. Raises `InvalidRequest`."""
    row = db.execute("SELECT * FROM requests WHERE id = ?", (request,)).fetchone()
    if row is None:
        raise InvalidRequest(f"There is no request {request} here.")
    return _request(row)


def votes_of(db: sqlite3.Connection, request: str) -> tuple[Vote, ...]:
    """Votes on a request, oldest first."""
    query = "SELECT request, side, actor, plan_digest, at FROM votes WHERE request = ? ORDER BY seq"
    return tuple(Vote(row[0], Side(row[1]), *row[2:]) for row in db.execute(query, (request,)))


def find_run(db: sqlite3.Connection, run: str) -> Run:
    """The run with this id. Raises `InvalidRequest`."""
    row = db.execute("SELECT * FROM runs WHERE id = ?", (run,)).fetchone()
    if row is None:
        raise InvalidRequest(f"There is no run {run} here.")
    return _run(row)


def live_run(db: sqlite3.Connection, request: str, round: int) -> Run | None:
    """The run of a round that is reserved, running or released, or None."""
    query = "SELECT * FROM runs WHERE request = ? AND round = ? AND status IN ('reserved', 'running', 'released')"
    row = db.execute(query, (request, round)).fetchone()
    return _run(row) if row else None


def _request(row: sqlite3.Row) -> CodeRequestRecord:
    values = dict(row)
    return CodeRequestRecord(
        **values | {"status": RequestStatus(values["status"]), "by_owner": bool(values["by_owner"])}
    )


def _run(row: sqlite3.Row) -> Run:
    values = dict(row)
    return Run(**values | {"status": RunStatus(values["status"])})
