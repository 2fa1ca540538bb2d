"""What is true of a ledger in PostgreSQL alone: kills, restarts of its server, lost answers, and who may do what.

What is true of every ledger is tested over both kinds of place by the fixture `ledger`.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from datasites.cli.main import app
from datasites.ledger.audit_log import AuditLog
from datasites.ledger.database import Database, ledger_place
from datasites.ledger.ledger import Ledger
from datasites.ledger.moving import MOVED, move_into_database
from datasites.ledger.postgres import check_url, postgres_definition, postgres_query
from datasites.ledger.tables import TABLES
from datasites.ledger.witness import Witness
from datasites.operations.backup import write_backup
from datasites.settings import SETTINGS_TEMPLATE, Settings, changed_settings
from policies.errors import DatasiteError, InvalidRequest, LedgerBehind, LedgerDamaged, Unavailable, WrongStatus
from policies.source.statuses import RequestStatus
from tests.datasites.ledger.ledger_factories import (
    Clock,
    approve,
    approved,
    checked,
    new_ledger,
    released,
    running,
    submitted,
)
from tests.postgres import PASSWORD, Cluster, running_cluster

pytestmark = pytest.mark.process


@pytest.fixture
def database(postgresql: Cluster) -> Database:
    return postgresql.place()


@pytest.fixture
def ledger(database: Database, clock: Clock) -> Iterator[Ledger]:
    with new_ledger(database, clock) as made:
        yield made


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    """A server that tests may stop."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def stoppable(own_cluster: Cluster, clock: Clock) -> Iterator[Ledger]:
    with new_ledger(own_cluster.place(), clock, busy_seconds=30.0) as made:
        yield made


# -- kills and restarts ----------------------------------------------------------------------------------------------


def test_a_datasite_killed_within_a_transaction_leaves_nothing_of_it(ledger: Ledger) -> None:
    request, head = checked(ledger), ledger.entries.head()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with ledger.store.writing() as db:
            approve_in(ledger, request, db)
            os.write(write, b"x")
            time.sleep(60)
        os._exit(0)
    os.read(read, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert (ledger.entries.head(), ledger.requests.get(request).status) == (head, RequestStatus.CHECKED)
    approve(ledger, request)  # the lock of the killed one is gone
    ledger.verify()


def approve_in(ledger: Ledger, request: str, db: sqlite3.Connection) -> None:
    """Something of each kind that an approval does."""
    db.execute("UPDATE requests SET status = 'approved' WHERE id = ?", (request,))
    db.execute("UPDATE totals SET reserved_divergence_nano = reserved_divergence_nano + 5")


@pytest.mark.parametrize("how", ["immediate", "fast"])
def test_a_server_that_stops_within_a_transaction_leaves_nothing_of_it(
    own_cluster: Cluster, stoppable: Ledger, how: str
) -> None:
    run = running(stoppable, approved(stoppable))
    head = stoppable.entries.head()

    def spend_while_it_stops() -> None:
        with stoppable.store.writing() as db:
            db.execute("UPDATE totals SET spent_divergence_nano = spent_divergence_nano + 5")
            own_cluster.stop(how)
            own_cluster.start()
            db.execute("UPDATE totals SET spent_divergence_nano = spent_divergence_nano + 5")

    with pytest.raises(Unavailable, match="Nothing was done"):
        spend_while_it_stops()
    assert stoppable.entries.head() == head
    stoppable.runs.settle(run.id, b"bits", "d", "{}")  # and work goes on
    stoppable.verify()


def test_what_was_committed_survives_a_power_cut_of_the_server(own_cluster: Cluster, stoppable: Ledger) -> None:
    released(stoppable, approved(stoppable))
    head, spent = stoppable.entries.head(), stoppable.budgets.balance("city").spent_nano
    own_cluster.stop("immediate")
    own_cluster.start()
    assert (stoppable.verify(), stoppable.budgets.balance("city").spent_nano) == (head, spent)


def test_a_transaction_waits_for_a_server_that_restarts(own_cluster: Cluster, stoppable: Ledger) -> None:
    own_cluster.stop("fast")
    starting = threading.Timer(1.0, own_cluster.start)
    starting.start()
    request = submitted(stoppable)
    starting.join()
    assert stoppable.requests.get(request).status is RequestStatus.SUBMITTED


def test_a_server_that_stays_away_is_unavailable_in_words(own_cluster: Cluster) -> None:
    place = own_cluster.place()
    with new_ledger(place, busy_seconds=0.2) as ledger:
        own_cluster.stop("fast")
        try:
            with pytest.raises(Unavailable, match=r"does not answer.*Ask its team") as refusal:
                submitted(ledger)
            assert PASSWORD not in str(refusal.value)
            with pytest.raises(Unavailable, match="does not answer"):
                Ledger.open(place, busy_seconds=0.2)
        finally:
            own_cluster.start()
        submitted(ledger)


@pytest.mark.parametrize("stored", [True, False])
def test_a_lost_answer_of_a_commit_is_asked_for(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, stored: bool) -> None:
    execute, lost = psycopg.Connection.execute, []

    def losing(connection: Any, query: Any, *rest: Any, **options: Any) -> Any:
        if query == "COMMIT" and not lost:
            lost.append(query)
            if stored:
                execute(connection, query)
            connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return execute(connection, query, *rest, **options)

    request, head = checked(ledger), ledger.entries.head()
    monkeypatch.setattr(psycopg.Connection, "execute", losing)
    if stored:
        approve(ledger, request)
        assert ledger.requests.get(request).status is RequestStatus.APPROVED
        assert ledger.entries.head().seq > head.seq
    else:
        with pytest.raises(Unavailable, match="Nothing was done"):
            approve(ledger, request)
        assert (ledger.entries.head(), ledger.requests.get(request).status) == (head, RequestStatus.CHECKED)
    ledger.verify()


def test_a_witness_is_told_late_where_the_server_went_after_a_commit(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = Witness(tmp_path / "witness", new=True)
    ledger.recovery.attach(witness)
    with monkeypatch.context() as patch:

        def gone(db: object) -> None:
            raise Unavailable("The server is gone.")

        patch.setattr(witness, "follow", gone)
        submitted(ledger)
    assert witness.last is not None
    assert witness.last.seq < ledger.entries.head().seq
    with ledger.store.writing():
        assert (witness.last.seq, witness.last.hash) == ledger.entries.head()  # before anything new is entered
    witness.close()


def test_a_standby_that_was_behind_is_refused_while_the_datasite_serves(ledger: Ledger, database: Database) -> None:
    submitted(ledger)
    with psycopg.connect(database.url, password=PASSWORD, autocommit=True) as team:
        team.execute("SET session_replication_role = replica")  # without triggers, as a copy of before has it
        team.execute("DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)")
        me = "pid <> pg_backend_pid() AND application_name = 'datasite'"
        team.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {me}".encode())
    with pytest.raises(LedgerBehind, match="has lost entry"):
        submitted(ledger)


def test_a_lock_held_elsewhere_is_unavailable(database: Database, postgresql: Cluster) -> None:
    with new_ledger(database, busy_seconds=0.1) as ledger:
        request = checked(ledger)
        with postgresql.connect() as team:
            team.execute("BEGIN")
            team.execute(f"LOCK TABLE {schema_of(database)}.meta IN EXCLUSIVE MODE".encode())
            with pytest.raises(Unavailable, match="locked"):
                approve(ledger, request)
            assert ledger.requests.get(request).status is RequestStatus.CHECKED  # reading goes on
            team.execute("ROLLBACK")
        approve(ledger, request)


def test_a_change_around_the_lock_ends_the_transaction(database: Database, ledger: Ledger, postgresql: Cluster) -> None:
    """Two approvals cannot spend the same ε, even where somebody writes without the lock."""

    def spend_while_somebody_else_does() -> None:
        with ledger.store.writing() as db:
            with postgresql.connect() as team:
                change = f"UPDATE {schema_of(database)}.totals SET reserved_divergence_nano = 7"
                team.execute(change.encode())
            db.execute("UPDATE totals SET reserved_divergence_nano = reserved_divergence_nano + 5")

    with pytest.raises(Unavailable, match="somebody else changed it"):
        spend_while_somebody_else_does()


def schema_of(database: Database) -> str:
    return database.url.rpartition("%3D")[2]


# -- who may do what -------------------------------------------------------------------------------------------------


def test_what_is_appended_stays(ledger: Ledger) -> None:
    released(ledger, approved(ledger))
    for table in ("entries", "audit", "releases", "comments", "votes", "attachments", "drawn"):
        refused = pytest.raises(sqlite3.IntegrityError, match=f"{table} can only be appended")
        with refused, ledger.store.writing() as db:
            db.execute(f"TRUNCATE {table}")
    for statement in ("DELETE FROM entries", "UPDATE entries SET actor = actor", "DELETE FROM releases"):
        with pytest.raises(sqlite3.IntegrityError, match="can only be appended"), ledger.store.writing() as db:
            db.execute(statement)
    ledger.verify()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE entries DISABLE TRIGGER entries_not_updated",
        "DROP TRIGGER spent_never_decreases ON totals",
        "DROP INDEX one_live_run",
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
    ],
)
def test_what_guards_the_tables_is_verified(ledger: Ledger, database: Database, change: str) -> None:
    ledger.verify()
    with psycopg.connect(database.url, password=PASSWORD, autocommit=True) as team:
        team.execute(change.encode())
    with pytest.raises(LedgerDamaged, match="not the one that was made"):
        ledger.verify()


def test_a_changed_entry_is_found(ledger: Ledger, database: Database) -> None:
    with psycopg.connect(database.url, password=PASSWORD, autocommit=True) as team:
        team.execute("ALTER TABLE entries DISABLE TRIGGER ALL")
        team.execute("UPDATE entries SET actor = 'somebody' WHERE seq = 1")
        team.execute("ALTER TABLE entries ENABLE TRIGGER ALL")
    with pytest.raises(LedgerDamaged, match="Row 1 of entries"):
        ledger.verify()


def test_a_ledger_is_never_made_over_another_nor_found_where_there_is_none(
    ledger: Ledger, database: Database, postgresql: Cluster
) -> None:
    with pytest.raises(WrongStatus, match="never started anew"):
        Ledger.create(database)
    with pytest.raises(Unavailable, match="datasite init"):
        Ledger.open(postgresql.place())


@pytest.mark.parametrize("version", ["5000", "2", ""])
def test_a_ledger_of_another_version_is_refused(ledger: Ledger, database: Database, version: str) -> None:
    with ledger.store.writing() as db:
        db.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (version,))
    with pytest.raises(LedgerDamaged, match=f"schema version '{version}'; this software reads"):
        Ledger.open(database)


def test_a_server_that_forgets_is_refused(own_cluster: Cluster) -> None:
    place = own_cluster.place()
    with own_cluster.connect() as team:
        team.execute("ALTER SYSTEM SET fsync = off")
        team.execute("SELECT pg_reload_conf()")
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until and setting(own_cluster, "fsync") != "off":
            time.sleep(0.05)
        with pytest.raises(DatasiteError, match=r"fsync='off'.*sets fsync = on"):
            Ledger.create(place)
    finally:
        with own_cluster.connect() as team:
            team.execute("ALTER SYSTEM RESET fsync")
            team.execute("SELECT pg_reload_conf()")


def setting(cluster: Cluster, name: str) -> object:
    with cluster.connect() as team:
        row = team.execute(f"SHOW {name}".encode()).fetchone()
        return row and row[0]


def test_a_commit_waits_for_the_servers_disk(database: Database) -> None:
    lax = Database(f"{database.url}%20-csynchronous_commit%3Doff", database.password_file)
    with new_ledger(lax) as ledger, ledger.store.reading() as db:
        assert db.execute("SHOW synchronous_commit").fetchone()[0] == "on"


def test_a_wrong_password_is_not_repeated(database: Database, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("another-horse")
    with pytest.raises(Unavailable, match="password authentication failed") as refusal:
        Ledger.create(Database(database.url, tmp_path / "password"))
    assert "another-horse" not in str(refusal.value)
    with pytest.raises(DatasiteError, match="cannot be read"):
        Ledger.create(Database(database.url, tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://u@db.hospital.example/ledger", "without sslmode=verify-full"),
        ("postgresql://u@db.hospital.example/ledger?sslmode=require", "without sslmode=verify-full"),
        ("postgresql://u@127.0.0.1,db.hospital.example/ledger", "without sslmode=verify-full"),
        ("postgresql://u:horse@127.0.0.1/ledger", "holds a password"),
        ("postgresql://u@127.0.0.1/ledger?nonsense=1", "cannot be read"),
    ],
)
def test_a_url_that_would_show_something_is_refused(url: str, why: str) -> None:
    with pytest.raises(DatasiteError, match=why) as refusal:
        check_url(url)
    assert "horse" not in str(refusal.value)


def test_urls_of_this_machine_and_of_verified_servers_are_taken() -> None:
    for url in (
        "postgresql://u@/ledger?host=/run/postgresql",
        "postgresql://u@127.0.0.1/ledger",
        "postgresql://u@db.hospital.example/ledger?sslmode=verify-full",
    ):
        check_url(url)


def test_closing_waits_for_another_threads_query(ledger: Ledger) -> None:
    store = ledger.store
    within = threading.Event()

    def read() -> int:
        with store.reading() as db:
            within.set()
            return int(db.execute("SELECT 7 FROM pg_sleep(0.5)").fetchone()[0])

    with ThreadPoolExecutor(1) as thread:
        reads = thread.submit(read)
        assert within.wait(30)
        time.sleep(0.1)
        store.close()
        assert reads.result(30) == 7
    assert ledger.budgets.populations() == ("city",)  # it opens anew


def test_a_text_that_postgresql_cannot_hold_is_refused(ledger: Ledger) -> None:
    with pytest.raises(InvalidRequest, match="NUL"), ledger.store.writing() as db:
        db.execute("INSERT INTO comments (request, at, actor, text) VALUES ('r', 'a', 'b', ?)", ("a\0b",))


# -- words -----------------------------------------------------------------------------------------------------------


def test_parameters_are_marked_and_texts_are_left_alone() -> None:
    assert postgres_query("SELECT ? WHERE a = ?") == "SELECT %s WHERE a = %s"
    assert postgres_query("a = ?1 OR ?1 IS NULL") == "a = %(p1)s OR %(p1)s IS NULL"
    assert postgres_query("a = :name AND b = '?:x %'") == "a = %(name)s AND b = '?:x %%'"
    assert postgres_query("INSERT OR IGNORE INTO t VALUES (?)") == "INSERT INTO t VALUES (%s) ON CONFLICT DO NOTHING"


def test_every_definition_has_one_in_postgresql() -> None:
    for statement in TABLES:
        for made in postgres_definition(statement):
            assert not {"STRICT", "RAISE(", "BLOB"} & set(made.split())


# -- moving ----------------------------------------------------------------------------------------------------------


def test_a_ledger_moves_with_everything_in_it(tmp_path: Path, database: Database, clock: Clock) -> None:
    file = tmp_path / "ledger.db"
    with new_ledger(file, clock) as before:
        request = approved(before)
        released(before, request)
        run = running(before, request, 2)
        AuditLog(before.store).record("os:root", "init", "general")
        expected, used = before.entries.list(), before.budgets.balance("city")
    move_into_database(file, database)
    assert sorted(path.name for path in tmp_path.iterdir()) == [MOVED]
    with Ledger.open(database, clock=clock) as after:
        assert (after.entries.list(), after.budgets.balance("city")) == (expected, used)
        assert after.runs.release(request, 1) is not None
        after.runs.settle(run.id, b"bits", "d", "{}")  # goes on
        submitted(after)
        after.verify()


def test_an_interrupted_move_is_ended_by_the_next(
    tmp_path: Path, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ledger.db"
    new_ledger(file, clock).close()
    with monkeypatch.context() as patch:

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("datasites.ledger.moving.os.rename", killed)
        with pytest.raises(KeyboardInterrupt):
            move_into_database(file, database)
    assert file.exists()
    move_into_database(file, database)
    assert not file.exists()


def test_a_ledger_is_not_moved_over_another(tmp_path: Path, ledger: Ledger, database: Database) -> None:
    file = tmp_path / "ledger.db"
    new_ledger(file).close()
    head = ledger.entries.head()
    with pytest.raises(DatasiteError, match="another ledger"):
        move_into_database(file, database)
    assert file.exists()
    assert ledger.verify() == head


def test_two_places_never_count_at_once(tmp_path: Path) -> None:
    values = {"name": "G", "host": "127.0.0.1", "port": "9400", "owner_email": "o@g.example"}
    text = changed_settings(SETTINGS_TEMPLATE, values | {"ledger": "postgresql://u@/ledger"})
    settings = Settings.from_toml(text, tmp_path)
    assert ledger_place(settings) == Database("postgresql://u@/ledger")
    (tmp_path / "ledger.db").touch()
    with pytest.raises(DatasiteError, match="datasite move-ledger"):
        ledger_place(settings)


def test_a_backup_of_a_database_is_a_ledgers_file(ledger: Ledger, tmp_path: Path) -> None:
    released(ledger, approved(ledger))
    AuditLog(ledger.store).record("os:root", "init", "general")
    ledger.backup(tmp_path / "copy.db")
    with Ledger.open(tmp_path / "copy.db") as copy:
        assert copy.verify() == ledger.verify()
        assert copy.entries.list() == ledger.entries.list()
        assert AuditLog(copy.store).verify() == AuditLog(ledger.store).verify()


# -- the commands ----------------------------------------------------------------------------------------------------


def run_command(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "300", "TERM": "dumb"})


def test_init_makes_the_ledger_in_the_database_and_nothing_where_it_cannot(database: Database, tmp_path: Path) -> None:
    with_ledger = ["--set", f"ledger={database.url}", "--set", f"ledger_password_file={database.password_file}"]
    for directory, expected in ((tmp_path / "a", 0), (tmp_path / "b", 1)):
        answer = run_command("init", "--dir", directory, "--name", "G", *with_ledger)
        assert (answer.exit_code != 0, directory.exists()) == (bool(expected), not expected), answer.output
    assert not (tmp_path / "a" / "ledger.db").exists()
    with Ledger.open(database) as ledger:
        assert AuditLog(ledger.store).verify().seq == 1
    assert PASSWORD not in (tmp_path / "a" / "settings.toml").read_text()


def test_move_ledger_moves_the_ledger_of_a_directory(database: Database, tmp_path: Path) -> None:
    directory = tmp_path / "a"
    assert run_command("init", "--dir", directory, "--name", "G").exit_code == 0
    assert run_command("move-ledger", "--dir", directory).exit_code != 0  # no database is named yet
    named = [f"ledger={database.url}", f"ledger_password_file={database.password_file}"]
    assert run_command("settings", "--dir", directory, *named).exit_code == 0
    answer = run_command("move-ledger", "--dir", directory)
    assert answer.exit_code == 0, answer.output
    assert (directory / MOVED).is_file()
    with Ledger.open(ledger_place(Settings.load(directory))) as ledger:
        assert AuditLog(ledger.store).verify().seq == 1


@pytest.mark.parametrize(
    ("ledger", "why"),
    [
        ("mysql://u@h/l", "no URL of a PostgreSQL database"),
        ("postgresql://u:horse@h/l", "holds a password"),
        ("postgresql://u@h/l?password=horse", "holds a password"),
    ],
)
def test_settings_refuse_a_url_that_would_show_a_password(tmp_path: Path, ledger: str, why: str) -> None:
    values = {"name": "G", "host": "127.0.0.1", "port": "9400", "owner_email": "o@g.example", "ledger": ledger}
    with pytest.raises(DatasiteError, match=why) as refusal:
        Settings.from_toml(changed_settings(SETTINGS_TEMPLATE, values), tmp_path)
    assert "horse" not in str(refusal.value)


def test_a_restored_directory_gets_its_ledger_back_into_a_database(
    database: Database, postgresql: Cluster, tmp_path: Path
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    named = ["--set", f"ledger={database.url}", "--set", f"ledger_password_file={database.password_file}"]
    assert run_command("init", "--dir", before, "--name", "G", *named).exit_code == 0
    settings = Settings.load(before)
    with Ledger.open(ledger_place(settings)) as ledger:
        head = ledger.entries.head()
        write_backup(settings, ledger, tmp_path / "backup")
    assert run_command("restore", tmp_path / "backup", "--dir", after).exit_code == 0
    with pytest.raises(DatasiteError, match="move-ledger"):  # nothing starts while there are two places
        ledger_place(Settings.load(after))
    refused = run_command("move-ledger", "--dir", after)  # the old database has more in it, or other things
    assert refused.exit_code != 0
    assert run_command("settings", "--dir", after, f"ledger={postgresql.place().url}").exit_code == 0
    answer = run_command("move-ledger", "--dir", after)
    assert answer.exit_code == 0, answer.output
    with Ledger.open(ledger_place(Settings.load(after))) as ledger:
        assert ledger.recovery.is_restored  # and admits nothing until it is accepted
        assert ledger.entries.head().seq == head.seq + 1
        ledger.verify()
