"""One file of a datasite, taken while it works; a directory of that file, or nothing; and an old one noticed."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from datasites.directory import create_directory
from datasites.ledger.ledger import Ledger
from datasites.ledger.store import utc_now
from datasites.operations.backup import _members, partial_path, restore, write_backup
from datasites.operations.restore import accept_restored, open_witness
from datasites.settings import Settings, change_settings
from datasites.vault.round_secrets import RoundSecrets
from policies.errors import DatasiteError, InvalidRequest, LedgerBehind, Unavailable, WrongStatus
from policies.secure_sums.party import begun
from tests.datasites.ledger.ledger_factories import approve, checked, new_ledger, released, running
from tests.e2e.stock import call_until_done, login, submit
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess, initial_weights, run_datasite, training_source


def asked(ledger: Ledger) -> str:
    """The id of a request that is approved for 30 days from now: a restored ledger has the date of today."""
    request = checked(ledger)
    approve(ledger, request, expires_at=datetime.now(UTC) + timedelta(days=30))
    return request


@pytest.fixture
def small(tmp_path: Path) -> Settings:
    """A directory that no PySyft was ever started on, with a ledger in which something was released."""
    directory = tmp_path / "datasite"
    settings = create_directory(directory, name="Small", host="127.0.0.1", port=9400, owner_email="o@h.example")
    with new_ledger(settings.ledger_path, utc_now) as ledger:  # type: ignore[arg-type]
        released(ledger, asked(ledger))
    (directory / "blobs").mkdir()
    (directory / "blobs" / "0a1b").write_bytes(b"private rows " * 1000)
    return settings


@pytest.fixture
def copied(small: Settings, tmp_path: Path) -> Path:
    with Ledger.open(small.ledger_path) as ledger:
        write_backup(small, ledger, tmp_path / "copy.tar")
    return tmp_path / "copy.tar"


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in ("lock", "ledger.db", "ledger.db-wal", "ledger.db-shm")
    }


def test_a_restored_directory_holds_what_the_copied_one_held(small: Settings, copied: Path, tmp_path: Path) -> None:
    done = restore(copied, tmp_path / "new", actor="os:root")
    assert files_of(tmp_path / "new") == files_of(small.directory)
    with Ledger.open(small.ledger_path) as old, Ledger.open(tmp_path / "new" / "ledger.db") as new:
        assert new.entries.head().seq == old.entries.head().seq + 1 == done.entries + 1
        assert new.budgets.balance("city") == old.budgets.balance("city")
        assert new.runs.release(new.requests.list()[0].id, 1) == old.runs.release(old.requests.list()[0].id, 1)
        assert new.recovery.is_restored
        new.verify(heads=(tuple(old.entries.head()),))  # type: ignore[arg-type]


def test_attachments_and_projects_come_back_with_the_directory(small: Settings, tmp_path: Path) -> None:
    small.attachments.mkdir()
    (small.attachments / f"{'a' * 32}.pdf").write_bytes(b"%PDF-1.7")
    with Ledger.open(small.ledger_path) as ledger:
        project = ledger.projects.make("Flu", "General", "2099-06-30")
        ledger.projects.file(ledger.requests.list()[0].id, "Flu")
        facts = {"name": "a.pdf", "size": 8, "digest": "0" * 64, "actor": "owner", "most": 9}
        attached = ledger.attachments.add("a" * 32, "project", project.id, **facts)  # type: ignore[arg-type]
        write_backup(small, ledger, tmp_path / "with.tar")
    restore(tmp_path / "with.tar", tmp_path / "new", actor="os:root")
    assert (tmp_path / "new" / "attachments" / f"{'a' * 32}.pdf").read_bytes() == b"%PDF-1.7"
    with Ledger.open(tmp_path / "new" / "ledger.db") as restored:
        assert restored.attachments.of("project", project.id) == (attached,)
        assert restored.projects.of(restored.requests.list()[0].id) == project


def test_round_secrets_are_in_no_backup_and_end_with_what_is_put_back(small: Settings, tmp_path: Path) -> None:
    """A datasite that answered a secure sum from an earlier moment could be read: see tests/attacks."""
    secrets = RoundSecrets(small.directory)
    secrets.keep("a" * 32, 1, begun("00" * 32, 1))
    with Ledger.open(small.ledger_path) as ledger:
        write_backup(small, ledger, tmp_path / "copy.tar")
    with tarfile.open(tmp_path / "copy.tar") as tar:
        assert [name for name in tar.getnames() if "secure_sums" in name] == []
    settings = put_back(small, tmp_path / "copy.tar")
    assert not secrets.path.exists()
    secrets.keep("a" * 32, 1, begun("00" * 32, 1))  # as a snapshot of the machine would bring back
    shut(opened(settings))
    accept(settings, older=True, spent={"city": 3.0})
    assert secrets.find("a" * 32, 1) is None


def test_only_its_user_can_read_backup_and_directory(copied: Path, tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        restore(copied, tmp_path / "new", actor="os:root")
    finally:
        os.umask(previous)
    assert stat.S_IMODE(copied.stat().st_mode) == 0o600
    for path in (tmp_path / "new").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_backup_overwrites_nothing_and_leaves_nothing_behind(small: Settings, copied: Path, tmp_path: Path) -> None:
    before = copied.read_bytes()
    with Ledger.open(small.ledger_path) as ledger:
        with pytest.raises(DatasiteError, match="exists"):
            write_backup(small, ledger, copied)
        with pytest.raises(DatasiteError, match="own directory"):
            write_backup(small, ledger, small.directory / "copy.tar")
        with pytest.raises(DatasiteError, match="no directory"):
            write_backup(small, ledger, tmp_path / "missing" / "copy.tar")
    assert copied.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == {"datasite", "copy.tar"}


def test_a_full_volume_leaves_no_file(small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("datasites.operations.backup.os.fsync", full)
    with Ledger.open(small.ledger_path) as ledger, pytest.raises(Unavailable, match="No space left"):
        write_backup(small, ledger, tmp_path / "copy.tar")
    assert {each.name for each in tmp_path.iterdir()} == {"datasite"}


def test_what_a_killed_backup_left_is_taken_away_by_the_next(small: Settings, tmp_path: Path) -> None:
    partial = partial_path(tmp_path / "copy.tar")
    partial.write_bytes(b"half")
    scratch = partial.with_name(f"{partial.name}.d")
    scratch.mkdir()
    (scratch / "ledger.db").write_bytes(b"half")
    with Ledger.open(small.ledger_path) as ledger:
        write_backup(small, ledger, tmp_path / "copy.tar")
    assert {each.name for each in tmp_path.iterdir()} == {"datasite", "copy.tar"}


def test_a_draft_that_a_killed_change_left_is_not_copied(small: Settings, tmp_path: Path) -> None:
    (small.directory / ".settings.toml.0badcafe.new").write_text("half")
    with Ledger.open(small.ledger_path) as ledger:
        write_backup(small, ledger, tmp_path / "copy.tar")
    restore(tmp_path / "copy.tar", tmp_path / "new", actor="os:root")
    assert set(files_of(tmp_path / "new")) == set(files_of(small.directory)) - {".settings.toml.0badcafe.new"}


# -- files that are no backups ---------------------------------------------------------------------------------------


def rewritten(copied: Path, change: Any) -> Path:
    """The backup with its members changed: `change(name, header, bytes)` answers members to write instead."""
    path = copied.with_name("changed.tar")
    with tarfile.open(copied) as source, tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as target:
        for header in source:
            file = source.extractfile(header)
            assert file is not None
            for each, content in change(header, file.read()):
                each.size = len(content) if each.isreg() else 0
                target.addfile(each, io.BytesIO(content))
    return path


def header_of(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, link
    return header


HOSTILE = {
    "climbs out": header_of("../outside"),
    "climbs out from within": header_of("blobs/../../outside"),
    "absolute": header_of("/tmp/outside"),
    "hidden": header_of(".ssh/authorized_keys"),
    "symbolic link": header_of("blobs/link", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": header_of("blobs/link", tarfile.LNKTYPE, "settings.toml"),
    "device": header_of("blobs/null", tarfile.CHRTYPE),
    "pipe": header_of("blobs/pipe", tarfile.FIFOTYPE),
    "directory": header_of("blobs/more", tarfile.DIRTYPE),
    "long name": header_of("a" * 300),
    "twice": header_of("settings.toml"),
    "unlisted": header_of("blobs/more"),
    "pax": header_of("blobs/more", tarfile.XHDTYPE),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_makes_no_directory_and_nothing_outside(copied: Path, tmp_path: Path, kind: str) -> None:
    def change(header: tarfile.TarInfo, content: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        if header.name == "manifest.json":
            yield HOSTILE[kind], b"hostile"
        yield header, content

    hostile = rewritten(copied, change)
    before = set(tmp_path.iterdir())
    with pytest.raises(DatasiteError, match="cannot be restored"):
        restore(hostile, tmp_path / "new", actor="os:root")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["settings.toml", "ledger.db", "blobs/0a1b", "manifest.json", "syft.key"])
@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_a_file_that_is_not_the_one_in_the_manifest_is_refused(
    copied: Path, tmp_path: Path, name: str, harm: str
) -> None:
    def change(header: tarfile.TarInfo, content: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        if header.name != name:
            yield header, content
        elif harm == "changed":
            yield header, content[:-3] + b"x\n]"

    with pytest.raises(DatasiteError, match="cannot be restored"):
        restore(rewritten(copied, change), tmp_path / "new", actor="os:root")
    assert not (tmp_path / "new").exists()


def test_a_file_that_ends_early_anywhere_is_refused(copied: Path, tmp_path: Path) -> None:
    whole = copied.read_bytes()
    cut = tmp_path / "cut.tar"
    for size in [0, 100, 512, *range(1000, len(whole) - 11_000, len(whole) // 40)]:
        cut.write_bytes(whole[:size])
        with pytest.raises(DatasiteError, match="cannot be restored"):
            restore(cut, tmp_path / "new", actor="os:root")
        assert not (tmp_path / "new").exists()


def test_a_ledger_that_does_not_verify_is_not_restored(small: Settings, tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(small.ledger_path) as db:
        db.execute("UPDATE totals SET reserved_divergence_nano = 1")
    db.close()
    with Ledger.open(small.ledger_path) as ledger:
        write_backup(small, ledger, tmp_path / "copy.tar")
    with pytest.raises(DatasiteError, match="total"):
        restore(tmp_path / "copy.tar", tmp_path / "new", actor="os:root")
    assert not (tmp_path / "new").exists()


def test_a_directory_that_is_not_empty_stays_as_it_is(copied: Path, small: Settings) -> None:
    before = files_of(small.directory)
    with pytest.raises(DatasiteError, match="not empty"):
        restore(copied, small.directory, actor="os:root")
    assert files_of(small.directory) == before


# -- accepting ---------------------------------------------------------------------------------------------------------


def opened(settings: Settings) -> Ledger:
    """The ledger as serving opens it."""
    ledger = Ledger.open(settings.ledger_path)
    open_witness(settings, ledger)
    return ledger


def shut(ledger: Ledger) -> None:
    ledger.close()
    if ledger.witness is not None:
        ledger.witness.close()


@pytest.fixture
def witnessed(small: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "elsewhere").mkdir()
    settings = change_settings(small.directory, {"witness": str(tmp_path / "elsewhere" / "witness")})
    shut(opened(settings))
    return settings


def put_back(settings: Settings, file: Path) -> Settings:
    shutil.rmtree(settings.directory)
    restore(file, settings.directory, actor="os:root")
    return Settings.load(settings.directory)


def accept(settings: Settings, **how: Any) -> dict[str, Any]:
    with Ledger.open(settings.ledger_path) as ledger:
        return accept_restored(settings, ledger, "os:root", **how)


def test_an_old_copy_is_refused_by_its_witness_and_accepted_at_its_price(witnessed: Settings, tmp_path: Path) -> None:
    ledger = opened(witnessed)
    write_backup(witnessed, ledger, tmp_path / "copy.tar")
    request = ledger.requests.list(status="approved")[0]
    released(ledger, request.id, 2)
    spent = ledger.budgets.balance("city").spent_nano
    shut(ledger)
    settings = put_back(witnessed, tmp_path / "copy.tar")
    with pytest.raises(LedgerBehind, match="accept-restored --accept-older"):
        opened(settings)
    with pytest.raises(LedgerBehind):
        accept(settings)
    assert accept(settings, older=True)["ended"] == 1
    ledger = opened(settings)
    assert ledger.budgets.balance("city").spent_nano >= spent
    ledger.verify()
    shut(ledger)
    with pytest.raises(WrongStatus, match="Nothing was restored"):
        accept(settings, older=True)


def test_the_newest_copy_is_vouched_for_by_its_witness(witnessed: Settings, tmp_path: Path) -> None:
    ledger = opened(witnessed)
    request = ledger.requests.list(status="approved")[0]
    write_backup(witnessed, ledger, tmp_path / "copy.tar")
    shut(ledger)
    ledger = opened(put_back(witnessed, tmp_path / "copy.tar"))
    released(ledger, request.id, 2)
    shut(ledger)


def test_a_lost_witness_opens_nothing_by_itself(witnessed: Settings, tmp_path: Path) -> None:
    Path(witnessed.witness).unlink()
    with pytest.raises(LedgerBehind, match="missing"):
        opened(witnessed)
    with pytest.raises(InvalidRequest, match="No witness vouches"):
        accept(witnessed)
    assert not Path(witnessed.witness).exists()
    with pytest.raises(InvalidRequest, match="Say what was spent"):
        accept(witnessed, older=True)
    accept(witnessed, older=True, spent={"city": 2.0})
    ledger = opened(witnessed)
    assert ledger.budgets.balance("city").epsilon_spent >= 2.0
    shut(ledger)


def test_an_empty_witness_is_a_lost_one(witnessed: Settings) -> None:
    Path(witnessed.witness).write_bytes(b"")
    with pytest.raises(LedgerBehind, match="empty"):
        opened(witnessed)


def test_without_a_witness_a_copy_stays_closed_until_its_owner_speaks(small: Settings, tmp_path: Path) -> None:
    with Ledger.open(small.ledger_path) as ledger:
        run = running(ledger, asked(ledger), 1)
        write_backup(small, ledger, tmp_path / "copy.tar")
    settings = put_back(small, tmp_path / "copy.tar")
    ledger = opened(settings)
    with pytest.raises(WrongStatus, match="restored from a copy"):
        asked(ledger)
    shut(ledger)
    with pytest.raises(InvalidRequest, match="No witness vouches"):
        accept(settings)
    done = accept(settings, older=True, spent={"city": 3.0})
    assert done["ended"] == 2
    assert done["epsilon_spent"]["city"] >= 3.0
    ledger = opened(settings)
    assert ledger.runs.get(run.id).status == "failed"  # its charge is kept
    asked(ledger)
    ledger.verify()
    shut(ledger)


def test_a_witness_in_the_directory_is_refused(small: Settings) -> None:
    for path in (str(small.directory / "witness"), "witness", str(small.directory / ".." / "datasite" / "w")):
        with pytest.raises(DatasiteError, match="outside"):
            change_settings(small.directory, {"witness": path})


# -- whole datasites ---------------------------------------------------------------------------------------------------


def check_copy(directory: Path) -> int:
    """The ledger verifies, and all that it speaks of is in the copy; answers how many releases it holds."""
    import sqlite3

    with Ledger.open(directory / "ledger.db") as ledger:
        ledger.verify()
        with sqlite3.connect(directory / "datasite.db") as db:
            stored = {row[0].replace("-", "") for row in db.execute("SELECT id FROM usercode")}
            blobs = [row[0] for row in db.execute("SELECT fields FROM blobstorageentry")]
        db.close()
        for request in ledger.requests.list():
            assert request.id.replace("-", "") in stored
        assert blobs
        assert any((directory / "blobs").iterdir())
        return len(ledger.runs.releases())


@pytest.mark.slow
def test_backups_of_a_busy_datasite_are_each_whole_and_the_study_goes_on_from_the_last(
    made_datasite: Path, tmp_path: Path, jobs: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    datasite = DatasiteProcess(made_datasite, tmp_path / "datasite", jobs=jobs)
    datasite.set(witness=str(tmp_path / "elsewhere" / "witness"), release_grid_seconds=0.0)
    datasite.start()
    copies: list[Path] = []
    faults: list[BaseException] = []
    done = threading.Event()

    def copy_all_the_time() -> None:
        from datasites.operations.control_socket import ask

        try:
            while not done.is_set() or len(copies) < 3:
                path = tmp_path / f"copy-{len(copies)}.tar"
                ask(datasite.directory / "control.sock", "backup", {"file": str(path)})
                copies.append(path)
        except BaseException as error:
            faults.append(error)

    copier = threading.Thread(target=copy_all_the_time)
    copier.start()
    try:
        client = login(datasite.url, RESEARCHER, PASSWORD)
        weights = initial_weights()
        for name in ("flu_first", "flu_second"):
            submit(client, training_source(name, rounds=3, epsilon=1.0))
            datasite.approve_all()
            for number in (1, 2):
                assert call_until_done(client, name, weights=weights, round=number)["status"] == "released"
        client.api.services.datasite.describe()
    finally:
        done.set()
        copier.join()
    assert not faults
    datasite.cli("backup", str(tmp_path / "last.tar"))
    spent = datasite.json("ledger")["balances"][0]["epsilon_spent"]
    datasite.stop()

    counts = []
    for index in sorted({*range(0, len(copies), max(1, len(copies) // 12)), len(copies) - 1}):
        restore(copies[index], tmp_path / "seen", actor="os:root")
        counts.append(check_copy(tmp_path / "seen"))
        shutil.rmtree(tmp_path / "seen")
    assert counts == sorted(counts)
    assert counts[0] < 4

    # The newest copy, elsewhere: its witness vouches, and researcher, releases and study go on.
    run_datasite("restore", str(tmp_path / "last.tar"), directory=tmp_path / "again")
    again = DatasiteProcess(tmp_path / "again", tmp_path / "again", jobs=jobs).start()
    try:
        assert again.json("ledger")["balances"][0]["epsilon_spent"] == spent
        client = login(again.url, RESEARCHER, PASSWORD)
        assert call_until_done(client, "flu_first", weights=weights, round=2)["status"] == "released"
        assert call_until_done(client, "flu_first", weights=weights, round=3)["status"] == "released"
        again.cli("ledger", "--verify")
    finally:
        again.stop()

    # The first copy: refused, then accepted at the price of all that it forgot.
    run_datasite("restore", str(copies[0]), directory=tmp_path / "old")
    old = DatasiteProcess(tmp_path / "old", tmp_path / "old", jobs=jobs)
    refused = old.cli("serve", check=False)
    assert refused.returncode == 1
    assert "accept-restored --accept-older" in refused.stderr
    old.cli("accept-restored", "--accept-older", "--yes")
    with Ledger.open(old.directory / "ledger.db") as ledger:
        assert ledger.budgets.balance("patients").epsilon_spent > spent
        ledger.verify()


def test_members_reads_no_more_than_the_file_holds(tmp_path: Path) -> None:
    header = tarfile.TarInfo("blobs/large")
    header.size = 1 << 60
    path = tmp_path / "bomb.tar"
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + b"x" * 512)
    with path.open("rb") as source, pytest.raises(DatasiteError, match="no plain file"):
        list(_members(path, source, path.stat().st_size))


def test_the_manifest_holds_public_facts_and_digests(copied: Path) -> None:
    with tarfile.open(copied) as tar:
        file = tar.extractfile("manifest.json")
        assert file is not None
        manifest = json.loads(file.read())
    assert set(manifest) == {"format", "name", "taken_at", "software", "entries", "head", "files"}
    assert "ledger.db" in manifest["files"]
