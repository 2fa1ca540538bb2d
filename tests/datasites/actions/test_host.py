"""The host: another signing key, a copy, and whether it serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.errors import DatasiteError
from tests.browser.desk import Desk


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
