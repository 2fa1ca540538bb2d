"""A PySyft 0.9.5 server as its makers build it, with nothing of ours: what the attacks are seen to work on.

Run: python stock_server.py DIRECTORY PORT. `/healthz` answers once it is set up.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import syft as sy
import torch
import uvicorn
from fastapi import APIRouter, FastAPI
from syft.server.credentials import SyftSigningKey
from syft.server.datasite import Datasite
from syft.server.routes import make_routes
from syft.service.user.user_roles import ServiceRole
from syft.store.blob_storage.on_disk import OnDiskBlobStorageClientConfig, OnDiskBlobStorageConfig
from syft.store.db.sqlite import SQLiteDBConfig
from syft.types.uid import UID

from tests.attacks.witnesses import ROW, Canaries

PASSWORD = "only for these tests"
ACCOUNTS = ("researcher@university.example", "other@university.example")


def make_app(directory: Path) -> FastAPI:
    """The server with one table and two researchers."""
    server = Datasite(
        name="stock",
        id=UID(),
        signing_key=SyftSigningKey.generate(),
        root_email="owner@hospital.example",
        root_password=PASSWORD,
        db_config=SQLiteDBConfig(filename="datasite.db", path=str(directory)),
        blob_storage_config=OnDiskBlobStorageConfig(
            client_config=OnDiskBlobStorageClientConfig(base_directory=directory / "blobs")
        ),
        deployment_type="python",
        create_producer=True,
        n_consumers=1,
        in_memory_workers=True,
        reset=False,
    )
    owner = server.get_guest_client(verbose=False)
    owner.credentials = server.signing_key
    private, mock = torch.rand((413, 7), dtype=torch.float64), torch.zeros((200, 7), dtype=torch.float64)
    private[0] = ROW  # by which rows are known
    owner.upload_dataset(sy.Dataset(name="flu", asset_list=[sy.Asset(name="records", data=private, mock=mock)]))
    for email in ACCOUNTS:
        passwords = {"password": PASSWORD, "password_verify": PASSWORD}
        owner.api.services.user.create(email=email, name="R", role=ServiceRole.DATA_SCIENTIST, **passwords)
    app = FastAPI()
    router = APIRouter()
    router.include_router(make_routes(worker=server))
    app.include_router(router, prefix="/api/v2")

    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    where = Path(sys.argv[1])
    tokens = json.loads(os.environ.pop("CANARIES", "{}"))
    canaries = Canaries(tokens) if tokens else None
    (where / "canaries.json").write_text(json.dumps(canaries.aims() if canaries else {}))
    uvicorn.run(make_app(where), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
