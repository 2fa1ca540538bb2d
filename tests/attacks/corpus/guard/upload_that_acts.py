# tries: Upload bytes that act when they are read.
# must: refused
import tempfile
from pathlib import Path

from syft.types.blob_storage import CreateBlobStorageEntry
from syft.types.uid import UID

from tests.attacks.guard.attacker import RESEARCHER
from tests.attacks.guard.test_bytes import command


def attack(site):
    data = command(Path(tempfile.mkdtemp()) / "ran")
    entry = CreateBlobStorageEntry(id=UID(), file_size=len(data))
    site.call(RESEARCHER, "blob_storage.allocate", obj=entry)
    return site.succeeds(RESEARCHER, "blob_storage.write_to_disk", uid=entry.id, data=data)
