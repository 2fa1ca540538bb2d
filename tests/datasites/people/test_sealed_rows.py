"""Accounts in PostgreSQL: who can write the database gains nothing, kills, restarts, lost answers, and moving there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from datasites.cli.main import app
from datasites.ledger.database import ledger_place
from datasites.ledger.ledger import Ledger
from datasites.operations.backup import write_backup
from datasites.people import accounts as module
from datasites.people.accounts import Accounts
from datasites.people.invitations import Invitations
from datasites.people.moving import MOVED, move_accounts
from datasites.people.places import SealedDatabase, accounts_place, open_rows
from datasites.people.roles import Role
from datasites.settings import Settings
from policies.errors import DatasiteError, Unavailable
from tests.postgres import PASSWORD, Cluster, running_cluster

pytestmark = pytest.mark.process
OWNER, REVIEWER, AUDITOR = "owner@hospital.example", "reviewer@hospital.example", "auditor@hospital.example"
LETTERS = "twelve letters"


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCRYPT", {"n": 2, "r": 8, "p": 1})


@pytest.fixture
def accounts(sealed: SealedDatabase) -> Iterator[Accounts]:
    with closing(Accounts(sealed, OWNER)) as made:
        made.add(REVIEWER, "Rita", Role.SECOND_REVIEWER, LETTERS)
        made.add(AUDITOR, "Otto", Role.AUDITOR, LETTERS)
        yield made


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    """A server that tests may stop."""
    with running_cluster() as cluster:
        yield cluster


def by_hand(place: SealedDatabase, *statements: str) -> None:
    """What somebody does who may write the database."""
    with psycopg.connect(place.database.url, password=PASSWORD, autocommit=True) as team:
        for statement in statements:
            team.execute(statement.encode())


# -- who can write the database --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE users SET role = 'second_reviewer' WHERE email = '{AUDITOR}'",
        f"UPDATE users SET password = (SELECT password FROM users WHERE email = '{REVIEWER}')",
        f"DELETE FROM users WHERE email = '{REVIEWER}'; UPDATE users SET email = '{REVIEWER}'",
        "UPDATE users SET seal = ''",
    ],
)
def test_an_account_that_was_changed_in_the_database_is_no_account(
    accounts: Accounts, sealed: SealedDatabase, change: str
) -> None:
    by_hand(sealed, change)
    changed = REVIEWER if "DELETE" in change else AUDITOR
    for use in (
        lambda: accounts.role_of(changed),
        lambda: accounts.password_is_right(changed, LETTERS),
        lambda: accounts.set_state(changed, active=True),  # and no change of ours makes it one
        lambda: accounts.role_of(changed),
    ):
        with pytest.raises(DatasiteError, match="not written by this datasite"):
            use()


def test_an_account_that_is_closed_cannot_be_opened_in_the_database(accounts: Accounts, sealed: SealedDatabase) -> None:
    accounts.set_state(REVIEWER, active=False)
    by_hand(sealed, f"UPDATE users SET state = 'active' WHERE email = '{REVIEWER}'")
    with pytest.raises(DatasiteError, match="not written by this datasite"):
        accounts.password_is_right(REVIEWER, LETTERS)
    with pytest.raises(DatasiteError, match="not written by this datasite"):
        accounts.reviewers()


def test_a_session_that_was_put_into_the_database_signs_nobody_in(accounts: Accounts, sealed: SealedDatabase) -> None:
    of_auditor = accounts.begin(AUDITOR)
    by_hand(sealed, f"UPDATE sessions SET email = '{OWNER}'")
    with pytest.raises(DatasiteError, match="not written by this datasite"):
        accounts.session(of_auditor)
    known = module._sha256("a cookie of mine")
    by_hand(
        sealed,
        "DELETE FROM sessions",
        f"INSERT INTO sessions VALUES ('{known}', '{OWNER}', 'c', {time.time()}, {time.time()}, '', '', '{'0' * 64}')",
    )
    with pytest.raises(DatasiteError, match="not written by this datasite"):
        accounts.session("a cookie of mine")


def test_an_invitation_that_was_put_into_the_database_invites_nobody(sealed: SealedDatabase) -> None:
    with closing(Invitations(sealed)) as invitations:
        known, ends = module._sha256("a link of mine"), time.time() + 1000
        by_hand(sealed, f"INSERT INTO invitations VALUES ('e@x.example', '', '', '{known}', 0, {ends}, '{'0' * 64}')")
        for use in (invitations.find, invitations.take, invitations.take):  # nor is it used up
            with pytest.raises(DatasiteError, match="not written by this datasite"):
                use("a link of mine")


def test_a_row_of_another_datasite_or_table_is_refused(accounts: Accounts, sealed: SealedDatabase) -> None:
    with closing(Accounts(SealedDatabase(sealed.database, b"x" * 32), OWNER)) as other:
        with pytest.raises(DatasiteError, match="not written by this datasite"):
            other.role_of(REVIEWER)
        other.add("mine@else.example", "", Role.SECOND_REVIEWER, LETTERS)
    with pytest.raises(DatasiteError, match="not written by this datasite"):
        accounts.role_of("mine@else.example")
    assert accounts.role_of(REVIEWER) is Role.SECOND_REVIEWER


# -- kills, restarts, lost answers -----------------------------------------------------------------------------------


def test_a_datasite_killed_within_a_change_leaves_nothing_of_it(accounts: Accounts, sealed: SealedDatabase) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with closing(open_rows(sealed)) as rows, rows._transaction() as execute:
            execute("DELETE FROM users", ())
            os.write(write, b"x")
            time.sleep(60)
        os._exit(0)
    os.read(read, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert accounts.reviewers() == {REVIEWER}
    accounts.set_state(REVIEWER, active=False)  # the locks of the killed one are gone
    assert accounts.reviewers() == set()


def test_accounts_outlive_a_power_cut_of_the_server_and_go_on(own_cluster: Cluster) -> None:
    place = SealedDatabase(own_cluster.place(), b"k" * 32)
    with closing(Accounts(place, OWNER)) as accounts, closing(Invitations(place)) as invitations:
        accounts.add(REVIEWER, "", Role.SECOND_REVIEWER, LETTERS)
        token, link = accounts.begin(REVIEWER), invitations.make("ada@x.example", "", "", days=1)
        own_cluster.stop("immediate")
        own_cluster.start()
        assert accounts.session(token) is not None
        assert invitations.take(link) is not None


def test_a_server_that_stays_away_lets_nobody_in(own_cluster: Cluster) -> None:
    place = SealedDatabase(own_cluster.place(), b"k" * 32)
    with closing(Accounts(place, OWNER)) as accounts:
        accounts._rows._busy_seconds = 0.2  # type: ignore[attr-defined]
        token = accounts.begin(OWNER)
        own_cluster.stop("fast")
        try:
            with pytest.raises(Unavailable, match="does not answer") as refusal:
                accounts.session(token)
            assert PASSWORD not in str(refusal.value)
        finally:
            own_cluster.start()
        assert accounts.session(token) is not None


@pytest.mark.parametrize("stored", [True, False])
def test_a_lost_answer_of_a_commit_is_asked_for(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    execute, lost = psycopg.Connection.execute, list[str]()

    def losing(connection: Any, query: Any, *rest: Any, **options: Any) -> Any:
        if query == "COMMIT" and not lost:
            lost.append(query)
            if stored:
                execute(connection, query)
            connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return execute(connection, query, *rest, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", losing)
    rows, closed = accounts._rows, {"state": "disabled"}
    if stored:
        rows.update("users", closed, "email = ?", REVIEWER)
    else:
        with pytest.raises(Unavailable, match="Nothing was done"):
            rows.update("users", closed, "email = ?", REVIEWER)
    assert lost
    assert accounts.reviewers() == (set() if stored else {REVIEWER})


# -- moving ----------------------------------------------------------------------------------------------------------


def filled(path: Path) -> tuple[str, str]:
    """Accounts in a file; a session and a link of them."""
    with closing(Accounts(path, OWNER)) as accounts, closing(Invitations(path)) as invitations:
        accounts.add(REVIEWER, "Rita", Role.SECOND_REVIEWER, LETTERS)
        accounts.add(AUDITOR, "Otto", Role.AUDITOR, LETTERS)
        accounts.set_state(AUDITOR, active=False)
        return accounts.begin(REVIEWER), invitations.make("ada@x.example", "Ada", "U", days=7)


def test_accounts_move_with_sessions_and_invitations(tmp_path: Path, sealed: SealedDatabase) -> None:
    token, link = filled(tmp_path / "console.db")
    assert move_accounts(tmp_path / "console.db", sealed) == 2
    assert [path.name for path in tmp_path.iterdir()] == [MOVED]
    with closing(Accounts(sealed, OWNER)) as accounts, closing(Invitations(sealed)) as invitations:
        assert accounts.session(token) is not None
        assert accounts.password_is_right(REVIEWER, LETTERS)
        assert not accounts.password_is_right(AUDITOR, LETTERS)  # closed
        assert invitations.take(link) is not None


def test_an_interrupted_move_is_ended_by_the_next(
    tmp_path: Path, sealed: SealedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "console.db"
    filled(file)
    with monkeypatch.context() as patch:

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("datasites.people.moving.os.rename", killed)
        with pytest.raises(KeyboardInterrupt):
            move_accounts(file, sealed)
    assert file.exists()
    move_accounts(file, sealed)
    assert not file.exists()


def test_accounts_are_not_moved_over_others(tmp_path: Path, accounts: Accounts, sealed: SealedDatabase) -> None:
    filled(tmp_path / "console.db")
    accounts.set_state(REVIEWER, active=False)
    with pytest.raises(DatasiteError, match="has other accounts"):
        move_accounts(tmp_path / "console.db", sealed)
    assert (tmp_path / "console.db").exists()
    assert accounts.reviewers() == set()


# -- a directory -----------------------------------------------------------------------------------------------------


def run_command(*words: object, **options: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "300", "TERM": "dumb"}, **options)


def test_accounts_follow_a_directorys_ledger_into_the_database_and_back_out_of_a_backup(
    postgresql: Cluster, tmp_path: Path
) -> None:
    directory, after, database = tmp_path / "a", tmp_path / "b", postgresql.place()
    assert run_command("init", "--dir", directory, "--name", "G").exit_code == 0
    token, _ = filled(directory / "console.db")
    named = [f"ledger={database.url}", f"ledger_password_file={database.password_file}"]
    assert run_command("settings", "--dir", directory, *named).exit_code == 0
    settings = Settings.load(directory)
    with pytest.raises(DatasiteError, match="datasite move-ledger"):  # an account must not be open in one and not both
        accounts_place(settings)
    answer = run_command("move-ledger", "--dir", directory)
    assert answer.exit_code == 0, answer.output
    assert "Moved 2 account(s)" in answer.output
    assert not (directory / "console.db").exists()
    with closing(Accounts(accounts_place(settings), OWNER)) as accounts:
        assert accounts.session(token) is not None
        accounts.set_state(AUDITOR, active=True)
    (directory / MOVED).unlink()
    with Ledger.open(ledger_place(settings)) as ledger:
        write_backup(settings, ledger, tmp_path / "backup")
    assert run_command("restore", tmp_path / "backup", "--dir", after).exit_code == 0
    assert run_command("settings", "--dir", after, f"ledger={postgresql.place().url}").exit_code == 0
    answer = run_command("move-ledger", "--dir", after)
    assert answer.exit_code == 0, answer.output
    with closing(Accounts(accounts_place(Settings.load(after)), OWNER)) as accounts:
        assert accounts.role_of(AUDITOR) is Role.AUDITOR  # as it was changed in the database
        assert accounts.session(token) is not None


def test_accounts_alone_are_moved_where_the_ledger_is_there_already(postgresql: Cluster, tmp_path: Path) -> None:
    directory, database = tmp_path / "a", postgresql.place()
    named = ["--set", f"ledger={database.url}", "--set", f"ledger_password_file={database.password_file}"]
    assert run_command("init", "--dir", directory, "--name", "G", *named).exit_code == 0
    filled(directory / "console.db")
    answer = run_command("move-ledger", "--dir", directory)
    assert answer.exit_code == 0, answer.output
    listed = run_command("console-users", "list", "--dir", directory)
    assert REVIEWER in listed.output


def test_a_key_is_of_one_directory(tmp_path: Path) -> None:
    from datasites.directory import derived_key

    for name in "ab":
        assert run_command("init", "--dir", tmp_path / name, "--name", "G").exit_code == 0
    keys = {derived_key(tmp_path / name, use) for name in "ab" for use in ("rows", "others")}
    assert {len(key) for key in keys} == {32}
    assert len(keys) == 4
    assert "key=" not in repr(SealedDatabase(SimpleNamespace(url="u"), b"k" * 32))  # type: ignore[arg-type]
