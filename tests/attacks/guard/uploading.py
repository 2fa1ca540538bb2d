"""Uploads by raw signed calls, as large as an attacker says."""

from __future__ import annotations

from syft.types.blob_storage import CreateBlobStorageEntry
from syft.types.uid import UID

from tests.attacks.guard.attacker import Site


def upload(site: Site, who: str, data: bytes, *, announced: int | None = None) -> UID:
    """Announce and write one upload; its identifier. Raises `Refusal`."""
    entry = CreateBlobStorageEntry(id=UID(), file_size=len(data) if announced is None else announced)
    site.call(who, "blob_storage.allocate", obj=entry)
    site.call(who, "blob_storage.write_to_disk", uid=entry.id, data=data)
    return entry.id
