"""What one account can fill: a researcher's uploads and answers are bounded, and forgotten after a day."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from syft.serde.serialize import _serialize
from syft.server.credentials import SyftSigningKey
from syft.service.action.action_object import ActionObject

from datasites.door.syft.guard import Refused
from datasites.door.syft.uploads import KEPT_FREE, PassingAnswers, Uploads
from datasites.settings import change_settings
from researcher.client import Datasite
from tests.attacks.guard.attacker import OTHER, RESEARCHER, Refusal, Site
from tests.attacks.guard.test_objects import stored
from tests.attacks.guard.uploading import upload
from tests.e2e import stock
from tests.factories import PASSWORD, DatasiteProcess, initial_weights, training_source

ROOM = 64  # MiB, as much as one body


@pytest.fixture(scope="module")
def small(made_datasite: Path, tmp_path_factory: pytest.TempPathFactory, jobs: Path) -> Iterator[DatasiteProcess]:
    """A datasite that gives each researcher little room, and shows a round after two minutes."""
    process = DatasiteProcess(made_datasite, tmp_path_factory.mktemp("small") / "datasite", jobs=jobs)
    change_settings(process.directory, {"uploads_mib": str(ROOM), "release_grid_seconds": "120"})
    yield process.start()
    process.stop()


@pytest.fixture
def site(small: DatasiteProcess) -> Site:
    return Site("ours", small.url, small.directory)


def blobs(process: DatasiteProcess) -> set[str]:
    return {each.name for each in (process.directory / "blobs").iterdir()}


def test_an_account_fills_no_more_than_its_room(site: Site) -> None:
    value = bytes(_serialize(b"x" * (20 << 20), to_bytes=True))
    for _ in range(3):
        upload(site, RESEARCHER, value)
    with pytest.raises(Refusal, match=r"take 6\d MiB here and an account may keep 64 MiB"):
        upload(site, RESEARCHER, value)
    with pytest.raises(Refusal, match="may keep 64 MiB"):
        site.call(RESEARCHER, "action.set", action_object=stored(data="x" * (8 << 20)))
    upload(site, OTHER, value)


def test_uploads_leave_the_ledger_room_on_its_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(free=KEPT_FREE + 99)
    monkeypatch.setattr(
        "datasites.door.syft.uploads.shutil.disk_usage", lambda path: free if path == tmp_path else None
    )
    with pytest.raises(Refused, match="disk is nearly full"):
        Uploads(None, None, tmp_path, most=1 << 40).take(SyftSigningKey.generate().verify_key, 100)


def test_an_upload_is_no_larger_than_announced(site: Site) -> None:
    value = bytes(_serialize(b"x" * 10_000, to_bytes=True))
    with pytest.raises(Refusal, match="larger than the 5000 bytes"):
        upload(site, OTHER, value, announced=5_000)


def test_room_is_counted_across_a_restart_and_old_uploads_make_room(small: DatasiteProcess) -> None:
    """Ages what PySyft keeps, by its own time of making, and starts again."""
    value = bytes(_serialize(b"y" * (50 << 20), to_bytes=True))

    def begin_again() -> Site:
        small.start()
        return Site("ours", small.url, small.directory)

    with contextlib.suppress(Refusal):  # full already where the tests before ran
        upload(Site("ours", small.url, small.directory), RESEARCHER, value)
    before = blobs(small)
    small.stop()
    with pytest.raises(Refusal, match="may keep 64 MiB"):
        upload(begin_again(), RESEARCHER, value)
    small.stop()
    with sqlite3.connect(small.directory / "datasite.db") as database:
        for table in ("ActionObject", "BlobStorageEntry"):
            database.execute(f"UPDATE {table} SET _created_at = datetime('now', '-25 hours')")
    site = begin_again()
    new = upload(site, RESEARCHER, value).no_dash
    assert blobs(small) - before == {new}
    assert len(blobs(small)) == 3  # with the table and its mock
    mock = site.call(OTHER, "action.get_mock", uid=site.asset().action_id)
    assert site.succeeds(OTHER, "blob_storage.read", uid=mock.syft_blob_storage_entry_id)


def kept(process: DatasiteProcess) -> tuple[set[str], int]:
    """What PySyft keeps of calls: files of blobs, and how many objects."""
    with sqlite3.connect(process.directory / "datasite.db") as database:
        return blobs(process), database.execute("SELECT count(*) FROM ActionObject").fetchone()[0]


def test_polling_leaves_nothing_and_is_told_when_a_round_shows(small: DatasiteProcess) -> None:
    datasite = Datasite(small.url, OTHER, PASSWORD)
    asset = datasite.describe()["datasets"][0]["asset"]
    code = datasite.submit(training_source(rounds=2), asset)
    small.approve_all()
    client = stock.login(small.url, OTHER, PASSWORD)
    weights = {name: value.numpy() for name, value in initial_weights().items()}
    before = kept(small)
    answers = [datasite.run(code, asset, weights, 1) for _ in range(10)]
    assert {each["status"] for each in answers} == {"running"}
    assert kept(small) == before
    told = [each["shows_in"] for each in answers if each["shows_in"] is not None]
    assert told
    assert all(0 < each < 300 for each in told)

    # A stock client fetches what it is told by a call of its own. PySyft keeps its two arguments, each time.
    for looks in range(1, 6):
        assert stock.call(client, "flu_round", weights=initial_weights(), round=2)["status"] == "running"
        assert kept(small)[1] == before[1] + 2 * looks


def test_an_answer_that_passes_is_its_account_s_alone_and_soon_forgotten() -> None:
    keys = [SyftSigningKey.generate().verify_key for _ in range(2)]
    passing, given = PassingAnswers(most=2), [ActionObject.from_obj({"round": number}) for number in range(3)]
    for answer in given:
        passing.keep(keys[0], answer)
    for _ in range(5):
        passing.keep(keys[1], ActionObject.from_obj({}))
    assert [passing.find(keys[0], answer.id) for answer in given] == [None, *given[1:]]
    assert passing.find(keys[1], given[2].id) is None
