# tries: Choose where an upload is written.
# must: refused
from syft.types.blob_storage import CreateBlobStorageEntry
from syft.types.uid import UID

from tests.attacks.guard.attacker import RESEARCHER


def attack(site):
    entry = CreateBlobStorageEntry(id=UID(), file_size=3, extensions=["/../../elsewhere"])
    return site.succeeds(RESEARCHER, "blob_storage.allocate", obj=entry)
