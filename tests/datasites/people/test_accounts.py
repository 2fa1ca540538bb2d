"""Accounts and sessions of the console: who is let in, for how long, and what the file shows of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from datasites.people import accounts as module
from datasites.people.accounts import LONGEST_SESSION, Accounts, check_password, hash_password, password_matches
from datasites.people.places import ConsolePlace
from datasites.people.roles import Role
from datasites.people.rows import TABLES, FileRows
from policies.errors import DatasiteError, InvalidRequest, Unavailable, WrongStatus
from tests.datasites.people.stored import all_text

OWNER, REVIEWER, AUDITOR = "Owner@Hospital.example", "reviewer@hospital.example", "auditor@hospital.example"
PASSWORD = "twelve letters"
IDLE = 1800.0


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCRYPT", {"n": 2, "r": 8, "p": 1})


@pytest.fixture
def clock() -> Any:
    return SimpleNamespace(now=1_000_000.0)


@pytest.fixture
def accounts(place: ConsolePlace, clock: Any) -> Iterator[Accounts]:
    accounts = Accounts(place, OWNER, idle_seconds=IDLE, clock=lambda: float(clock.now))
    accounts.add(REVIEWER, "Rita", Role.SECOND_REVIEWER, PASSWORD)
    accounts.add(AUDITOR, "Otto", Role.AUDITOR, PASSWORD)
    yield accounts
    accounts.close()


def test_only_the_datasites_user_reads_the_file_and_no_password_or_session_stands_in_it(
    accounts: Accounts, place: ConsolePlace
) -> None:
    token = accounts.begin(REVIEWER)
    if isinstance(place, Path):
        assert place.stat().st_mode & 0o777 == 0o600
    text = all_text(place)
    assert REVIEWER in text
    assert PASSWORD not in text
    assert token not in text


@pytest.mark.parametrize("email", [REVIEWER, REVIEWER.upper(), OWNER.lower(), "ａuditor@hospital.example"])
def test_an_address_has_one_account(accounts: Accounts, email: str) -> None:
    with pytest.raises(InvalidRequest, match="has an account here"):
        accounts.add(email, "", Role.AUDITOR, PASSWORD)


@pytest.mark.parametrize("role", ["owner", "researcher", "policy", "", "Auditor"])
def test_no_other_role_is_given(accounts: Accounts, role: str) -> None:
    with pytest.raises(InvalidRequest, match="is no role of the console"):
        accounts.add("new@hospital.example", "", role, PASSWORD)


def test_a_password_is_right_for_its_own_account_while_that_is_open(accounts: Accounts) -> None:
    assert accounts.password_is_right(REVIEWER.upper(), PASSWORD)
    assert not accounts.password_is_right(REVIEWER, PASSWORD + " ")
    assert not accounts.password_is_right("nobody@hospital.example", PASSWORD)
    accounts.set_state(REVIEWER, active=False)
    assert not accounts.password_is_right(REVIEWER, PASSWORD)


def test_roles_are_of_open_accounts_and_the_owners_is_its_own(accounts: Accounts) -> None:
    assert accounts.role_of(OWNER.lower()) is Role.OWNER
    assert accounts.role_of(REVIEWER) is Role.SECOND_REVIEWER
    assert accounts.role_of("nobody@hospital.example") is None
    accounts.set_state(REVIEWER, active=False)
    assert accounts.role_of(REVIEWER) is None


@pytest.mark.parametrize("after", [IDLE + 1, LONGEST_SESSION + 1])
def test_a_session_ends_when_it_is_idle_and_after_a_day_of_work(accounts: Accounts, clock: Any, after: float) -> None:
    token = accounts.begin(REVIEWER)
    step = after if after < LONGEST_SESSION else IDLE / 2  # one that is used goes on until it is too old
    while clock.now < 1_000_000.0 + after:
        assert accounts.session(token) is not None
        clock.now += step
    assert accounts.session(token) is None


@pytest.mark.parametrize("how", ["closed", "password", "signed out", "everywhere"])
def test_what_ends_sessions(accounts: Accounts, how: str) -> None:
    token, other = accounts.begin(REVIEWER), accounts.begin(AUDITOR)
    session = accounts.session(token)
    assert session is not None
    match how:
        case "closed":
            accounts.set_state(REVIEWER, active=False)
        case "password":
            accounts.set_password(REVIEWER, "another password")
        case "signed out":
            accounts.end(session)
        case _:
            accounts.end_all(REVIEWER.upper())
    assert accounts.session(token) is None
    assert not accounts.is_alive(session)
    assert accounts.session(other) is not None
    if how == "closed":
        accounts.set_state(REVIEWER, active=True)
        assert accounts.session(token) is None  # opened again, one signs in again


def test_an_account_that_waits_can_do_nothing_until_somebody_agrees(accounts: Accounts) -> None:
    new = "new@hospital.example"
    accounts.add(new, "", Role.SECOND_REVIEWER, PASSWORD, waits=True)
    assert not accounts.password_is_right(new, PASSWORD)
    assert accounts.role_of(new) is None
    assert accounts.reviewers() == {REVIEWER}
    for active in (True, False):
        with pytest.raises(WrongStatus, match="waits for another"):
            accounts.set_state(new, active=active)
    accounts.agree(new)
    assert accounts.reviewers() == {REVIEWER, new}
    with pytest.raises(WrongStatus, match="does not wait"):
        accounts.agree(new)


def test_a_notice_is_read_once(accounts: Accounts) -> None:
    session = accounts.session(accounts.begin(REVIEWER))
    assert session is not None
    accounts.leave_notice(session, "Saved.")
    assert [accounts.take_notice(session) for _ in range(2)] == ["Saved.", ""]


@pytest.mark.parametrize("password", ["", "elevenchars", "x" * 1001])
def test_passwords_are_neither_short_nor_endless(password: str) -> None:
    with pytest.raises(InvalidRequest, match="characters"):
        check_password(password)


def test_equal_passwords_are_kept_unequally() -> None:
    kept = {hash_password(PASSWORD) for _ in range(2)}
    assert len(kept) == 2
    assert all(password_matches(PASSWORD, each) and not password_matches("x" + PASSWORD, each) for each in kept)


def test_a_full_disk_is_named_and_no_backup_is_asked_for(tmp_path: Path) -> None:
    cramped = ("PRAGMA max_page_count = 1", *TABLES)  # as full as a disk without room
    with pytest.raises(Unavailable, match="the disk is full") as refusal:
        FileRows(tmp_path / "console.db", cramped)
    assert "backup" not in str(refusal.value)
    (tmp_path / "console.db").write_text("no database, but long enough to be read as one" * 40)
    with pytest.raises(DatasiteError, match="Put it back from a backup"):
        FileRows(tmp_path / "console.db")
