# tries: Write other bytes into the mock that everybody reads.
# must: refused
from tests.attacks.guard.attacker import RESEARCHER


def attack(site):
    mock = site.call(RESEARCHER, "action.get_mock", uid=site.asset().action_id).syft_blob_storage_entry_id
    before = (site.directory / "blobs" / mock.no_dash).read_bytes()
    return site.succeeds(RESEARCHER, "blob_storage.write_to_disk", uid=mock, data=before)
