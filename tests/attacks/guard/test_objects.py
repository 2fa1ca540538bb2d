"""Private rows by every path that reads, stores or copies an object, and what one account can do to another's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from syft.serde.deserialize import _deserialize
from syft.serde.serialize import _serialize
from syft.service.action.action_object import ActionDataEmpty, ActionObject, TwinMode
from syft.store.blob_storage import BlobRetrieval
from syft.types.blob_storage import CreateBlobStorageEntry
from syft.types.datetime import DateTime
from syft.types.twin_object import TwinObject
from syft.types.uid import UID

from tests.attacks.guard.attacker import OTHER, OWNER, RESEARCHER, Refusal, Site
from tests.factories import DatasiteProcess


def rows_in(site: Site, value: Any) -> bool:
    """Whether a value holds private rows: more than the 200 of the mock."""
    if isinstance(value, BlobRetrieval):
        value = value.syft_object
    if isinstance(value, bytes):
        value = _deserialize(value, from_bytes=True)
    if isinstance(value, TwinObject):
        return rows_in(site, value.private_obj)
    if isinstance(value, ActionObject):
        blob = value.syft_blob_storage_entry_id
        if blob == site.private_blob():
            return True
        value = value.syft_action_data_cache
    return isinstance(value, torch.Tensor) and value.ndim == 2 and value.shape[0] != 200


def tries_to_read(site: Site, who: str, path: str, **arguments: Any) -> bool:
    """Whether a call answers with private rows, or with what leads to them."""
    try:
        return rows_in(site, site.call(who, path, **arguments))
    except Refusal:
        return False


@pytest.mark.parametrize("mode", list(TwinMode))
@pytest.mark.parametrize("path", ["action.get", "action.get_pointer", "action.get_mock", "action.is_resolved"])
def test_researcher_reads_no_private_rows(site: Site, path: str, mode: TwinMode) -> None:
    more = {"twin_mode": mode} if path == "action.get" else {}
    assert not tries_to_read(site, RESEARCHER, path, uid=site.asset().action_id, **more)


def test_owners_key_reads_no_private_rows_over_the_network(site: Site) -> None:
    """A stolen password of the owner's must not be worth the table."""
    uid = site.asset().action_id
    assert tries_to_read(site, OWNER, "action.get", uid=uid) is site.is_stock
    assert tries_to_read(site, OWNER, "blob_storage.read", uid=site.private_blob()) is site.is_stock


def test_service_gives_private_rows_to_no_role_whatever_path_leads_to_it(
    made_datasite: Path, tmp_path: Path, jobs: Path
) -> None:
    """Asked in the datasite's own process, behind the list of paths."""
    process = DatasiteProcess(made_datasite, tmp_path / "datasite", jobs=jobs)
    command = [sys.executable, "-m", "tests.attacks.guard.behind_the_entry", str(process.directory)]
    answers = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    assert answers == ["ADMIN: refused", "DATA_OWNER: refused", "DATA_SCIENTIST: refused", "mock: given"]


def test_private_blob_is_not_read_by_its_identifier(site: Site) -> None:
    assert not tries_to_read(site, RESEARCHER, "blob_storage.read", uid=site.private_blob())


def stored(blob: UID | None = None, data: Any = None) -> ActionObject:
    """A stored object that says its data lies in `blob`."""
    value = ActionObject.from_obj([1] if data is None else data)
    if blob is not None:
        value.syft_blob_storage_entry_id = blob
        value.syft_action_data_cache = ActionDataEmpty(syft_internal_type=list)
        value.syft_created_at = DateTime.now()
    else:
        value.syft_action_saved_to_blob_store = False
    return value


def test_twin_whose_mock_is_the_private_blob_opens_it_to_nobody(site: Site) -> None:
    """PySyft lets everybody read the blob that a new twin names as its mock, whoever's it is."""
    blob = site.private_blob()
    twin = TwinObject(private_obj=stored(blob), mock_obj=stored(blob))
    assert site.succeeds(RESEARCHER, "action.set", action_object=twin) is site.is_stock
    assert tries_to_read(site, RESEARCHER, "blob_storage.read", uid=blob) is site.is_stock


def test_object_that_points_at_anothers_blob_is_not_stored(ours: Site) -> None:
    with pytest.raises(Refusal, match="no such object"):
        ours.call(RESEARCHER, "action.set", action_object=stored(ours.private_blob()))


def test_private_blob_is_not_taken_as_an_argument_in_the_owners_name(ours: Site) -> None:
    """An object says itself in whose name its blob is read: here in the server's own."""
    value = stored(ours.private_blob())
    value.syft_client_verify_key = ours.identity().verify_key
    value.syft_server_location = ours.server_id()
    with pytest.raises(Refusal) as refusal:
        ours.call(RESEARCHER, "code.call", uid=UID(), weights=value, records=UID(), round=1)
    assert refusal.value.text == "You have no such object here."


def test_stored_object_is_not_replaced(site: Site) -> None:
    mine = stored(data=[1, 2])
    site.call(RESEARCHER, "action.set", action_object=mine)
    again = stored(data=["changed"])
    again.id = mine.id
    assert site.succeeds(RESEARCHER, "action.set", action_object=again) is site.is_stock


def test_asset_is_not_replaced(ours: Site) -> None:
    value = stored()
    value.id = ours.asset().action_id
    with pytest.raises(Refusal, match="taken"):
        ours.call(RESEARCHER, "action.set", action_object=value)


def test_objects_of_others_look_as_if_they_were_not_there(ours: Site) -> None:
    mine = stored(data=[1, 2])
    ours.call(RESEARCHER, "action.set", action_object=mine)
    assert ours.call(RESEARCHER, "action.get", uid=mine.id).syft_action_data_cache == [1, 2]
    for path in ("action.get", "action.get_mock"):
        with pytest.raises(Refusal, match="no such object"):
            ours.call(OTHER, path, uid=mine.id)


@pytest.mark.parametrize("extension", ["/../../settings.toml", "../x", "/etc/cron.d/x", ".py", "\0", "\\..\\x"])
def test_blob_goes_to_no_place_of_the_clients_choosing(site: Site, extension: str) -> None:
    entry = CreateBlobStorageEntry(id=UID(), file_size=3, extensions=[extension])
    assert site.succeeds(RESEARCHER, "blob_storage.allocate", obj=entry) is site.is_stock


def test_blob_is_written_once_by_its_uploader_within_bounds(ours: Site) -> None:
    data = bytes(_serialize([1, 2, 3], to_bytes=True))
    entry = CreateBlobStorageEntry(id=UID(), file_size=len(data))
    ours.call(RESEARCHER, "blob_storage.allocate", obj=entry)
    with pytest.raises(Refusal, match="no such object"):
        ours.call(OTHER, "blob_storage.write_to_disk", uid=entry.id, data=data)
    assert ours.succeeds(RESEARCHER, "blob_storage.write_to_disk", uid=entry.id, data=data)
    with pytest.raises(Refusal, match="written before"):
        ours.call(RESEARCHER, "blob_storage.write_to_disk", uid=entry.id, data=data)
    with pytest.raises(Refusal, match="no such object"):
        ours.call(OTHER, "blob_storage.read", uid=entry.id)
    with pytest.raises(Refusal, match="at most"):
        ours.call(RESEARCHER, "blob_storage.allocate", obj=CreateBlobStorageEntry(id=UID(), file_size=1 << 40))
    with pytest.raises(Refusal, match="taken"):
        ours.call(RESEARCHER, "blob_storage.allocate", obj=CreateBlobStorageEntry(id=ours.private_blob(), file_size=1))


def test_mock_is_not_overwritten(site: Site) -> None:
    """Everybody may read a mock's blob, and PySyft lets everybody who may read it write it: into others' Python."""
    mock = site.call(RESEARCHER, "action.get_mock", uid=site.asset().action_id).syft_blob_storage_entry_id
    before = (site.directory / "blobs" / mock.no_dash).read_bytes()
    assert site.succeeds(RESEARCHER, "blob_storage.write_to_disk", uid=mock, data=before) is site.is_stock
