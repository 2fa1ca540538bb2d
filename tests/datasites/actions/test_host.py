"""The host: another signing key, a copy, and whether it serves."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from datasites.cli import display
from datasites.people.roles import Role
from policies.errors import DatasiteError, InvalidRequest
from policies.privacy.secure_aggregation import Party, SecureAggregation
from policies.wire.key_words import fingerprint, fingerprint_in
from tests.browser.desk import Desk
from tests.policies.plan_factories import plan_of, training


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "datasite")
    yield desk
    desk.close()


def test_a_new_key_is_another_and_the_old_one_is_kept(desk: Desk) -> None:
    directory, before = desk.datasite.settings.directory, desk.datasite.public_key()
    done = desk.act("rotate_key", {})
    assert done == {"public_key": desk.datasite.public_key(), "old_public_key": before}
    assert done["public_key"] != before
    (kept,) = directory.glob("certificate.*.pem")
    for path in (kept, directory / "certificate.pem"):
        assert path.stat().st_mode & 0o777 == 0o600
    (row,) = desk.datasite.audit_log.entries(search="rotate key")
    assert (row.object, row.details["before"]) == (done["public_key"], before)


def test_the_own_key_is_read_in_twelve_words(desk: Desk) -> None:
    shown = desk.act("key", {})
    (own,) = shown["hospitals"]
    assert own["own"]
    assert fingerprint_in(own["words"]) == fingerprint(bytes.fromhex(desk.datasite.public_key()))
    assert own["public_key"].startswith(own["digits"].replace(" ", ""))


def test_the_keys_of_a_roster_are_read_beside_the_own_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "7b" * 32
    parties = (Party("Test Hospital", desk.datasite.public_key(), 800), Party("Other", other, 400))
    plan = plan_of(training(secure_aggregation=SecureAggregation(threshold=2, hospitals=parties)))
    record = SimpleNamespace(id="a" * 32, plan=plan)
    monkeypatch.setattr(desk.datasite.submissions, "find", lambda prefix: record)
    shown = desk.act("key", {"request": "aaaa"}, role=Role.SECOND_REVIEWER)
    assert [(hospital["name"], hospital["own"]) for hospital in shown["hospitals"]] == [
        ("Test Hospital", True),
        ("Other", False),
    ]
    assert fingerprint_in(shown["hospitals"][1]["words"]) == fingerprint(bytes.fromhex(other))
    out = Console(file=io.StringIO(), width=100)
    display.key(out, shown)
    said = " ".join(out.file.getvalue().split())  # type: ignore[attr-defined]
    assert "Other: key 7b7b 7b7b 7b7b 7b7b" in said
    assert "twelve words are others" in said


def test_a_request_without_a_roster_has_no_keys_to_compare(desk: Desk) -> None:
    desk.ask("alone-1")
    with pytest.raises(InvalidRequest, match="names no other hospitals"):
        desk.act("key", {"request": "alone-1"})


def test_two_keys_in_the_same_second_leave_three(desk: Desk) -> None:
    for _ in range(2):
        desk.act("rotate_key", {})
    assert len(list(desk.datasite.settings.directory.glob("certificate*.pem"))) == 3


def test_a_backup_says_where_and_when_and_writes_over_nothing(desk: Desk, tmp_path: Path) -> None:
    target = tmp_path / "copy.tar.gz"
    done = desk.act("backup", {"file": str(target)})
    assert target.exists()
    assert done["entries"] == desk.datasite.ledger.entries.head().seq
    assert (desk.datasite.settings.directory / "last_backup").read_text().strip().endswith("+00:00")
    with pytest.raises(DatasiteError):
        desk.act("backup", {"file": str(target)})


def test_a_datasite_that_serves_says_ok(desk: Desk) -> None:
    assert desk.act("health", {}) == {"status": "ok"}
