"""PySyft on a datasite's directory: its server, its accounts and its stored tables.

What a stock client sees is PySyft 0.9.5. `syft_guard` stands before it and `syft_services` behind it; no other module
on this side imports syft.
"""

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import syft as sy
from numpy.lib.format import MAGIC_PREFIX
from syft.serde.deserialize import _deserialize
from syft.serde.serialize import _serialize
from syft.server.credentials import SyftSigningKey
from syft.server.datasite import Datasite as SyftServer
from syft.service.context import AuthedServiceContext
from syft.service.metadata.server_metadata import ServerMetadataJSON
from syft.service.response import SyftError
from syft.service.user.user import UserPrivateKey, check_pwd
from syft.service.user.user_roles import ServiceRole
from syft.store.blob_storage.on_disk import OnDiskBlobStorageClientConfig, OnDiskBlobStorageConfig
from syft.store.db.sqlite import SQLiteDBConfig
from syft.types.errors import SyftException
from syft.types.uid import UID

from datasites.actions.for_researchers import ForResearchers
from datasites.datasite import Datasite
from datasites.directory import secret
from datasites.door.memory import Memory
from datasites.door.syft.client_keys import OwnerKey, renew_key
from datasites.door.syft.guard import PATHS, AnsweredCalls, Entry, inside
from datasites.door.syft.ledger_views import (
    GuardedJobService,
    GuardedLogService,
    GuardedProjectService,
    GuardedUserService,
    GuardedWorkerService,
)
from datasites.door.syft.services import (
    DatasiteService,
    GuardedActionService,
    GuardedBlobService,
    GuardedCodeService,
    GuardedRequestService,
)
from datasites.door.syft.tensors import tensor_of
from datasites.door.syft.uploads import PassingAnswers, Uploads
from datasites.door.syft.views import (
    GuardedDatasetService,
    GuardedMigrationService,
    GuardedNotificationService,
    GuardedSettingsService,
)
from datasites.settings import Settings
from policies.email_addresses import as_typed
from policies.errors import DatasiteError

logger = logging.getLogger(__name__)

# What a password is compared with where there is no such account, so that both take as long: a hash of 24 random bytes.
NOBODY = "$2b$12$8A2M0SlR.sJXyOiJW.2CLe5LMGHYKA7Z7Vwe..mmZ6LvM.W6sEdQW"


class SyftDatasite:
    """A PySyft server on the datasite's directory, guarded. Identity, accounts, assets and requests live in it."""

    def __init__(self, datasite: Datasite) -> None:
        os.umask(0o077)
        self.settings = settings = datasite.settings
        logging.getLogger("syft").setLevel(logging.CRITICAL + 1)  # it logs the hash of its signing key as critical
        root_level = logging.getLogger().level
        with _silence():
            self.server = _make_server(settings)
        logging.getLogger().setLevel(root_level)  # PySyft silences the whole process
        logging.getLogger("syft").setLevel(logging.ERROR)
        for path in settings.directory.glob("datasite.db*"):
            path.chmod(0o600)
        self._relocate_blobs()
        for name, service_class in GUARDED.items():
            _replace_service(self.server, name, service_class, datasite)
        self.server.services.blob_storage.largest = settings.largest_body_mib << 20
        objects, blobs = self.server.services.action.stash, self.server.services.blob_storage.stash
        uploads = Uploads(objects, blobs, settings.directory, most=settings.uploads_mib << 20)
        passing = PassingAnswers()
        for name in ("action", "blob_storage"):
            getattr(self.server.services, name).uploads = uploads
        for name in ("action", "user_code"):
            getattr(self.server.services, name).passing = passing
        own = DatasiteService(store=self.server.db)
        own.researchers = ForResearchers(datasite)
        self.server.services.services.append(own)
        self.server.services.service_path_map["datasiteservice"] = own
        self._owner_key = OwnerKey(settings.directory)
        self.memory = Memory(settings.memory_bytes)
        self._entry = Entry(self.server, AnsweredCalls(settings.directory / "calls.db"), self._owner_key, self.memory)

    # -- what the app serves -------------------------------------------------------------------------------------

    def metadata(self) -> dict[str, Any]:
        """Name, identifier, public key and version, as every PySyft client asks first. Public."""
        public: dict[str, Any] = self.server.metadata.to(ServerMetadataJSON).model_dump(mode="json")
        return {**public, "organization": self.settings.name, "description": ""}  # PySyft's own name and a default text

    def endpoints(self, verify_key: str) -> bytes | None:
        """What the account of a key may call; None for a key of no account in use."""
        return self._entry.endpoints(verify_key)

    def answer(self, call: bytes) -> bytes:
        """The signed answer to a signed call. Raises `Malformed` where it is none."""
        return self._entry.answer(call)

    # -- accounts ------------------------------------------------------------------------------------------------

    def login(self, email: str, password: str) -> bytes | None:
        """The serialized answer to a right e-mail and password of an account in use, else None.

        An unknown e-mail, a wrong password and a closed account take the same time.
        """
        email = self._as_kept(email)
        try:
            user = self.server.services.user.stash.get_by_email(self.server.verify_key, email).unwrap()
        except SyftException:
            user = None
        try:
            right = check_pwd(password, NOBODY if user is None else user.hashed_password)
        except ValueError:  # bcrypt takes no zero bytes, and no more than 72
            right = False
        if user is None or not right or user.role not in PATHS:
            return None
        answer = user.to(UserPrivateKey)
        if user.role is ServiceRole.ADMIN:
            answer.signing_key = self._owner_key.signing_key()  # never the server's own, which signs every answer
        return bytes(_serialize(answer, to_bytes=True))

    def _as_kept(self, email: str) -> str:
        """An e-mail as its account has it; the owner's may have been typed into the settings in any way."""
        typed, owner = as_typed(email), self.settings.owner_email
        return owner if typed == as_typed(owner) else typed

    def refusal(self, message: str) -> bytes:
        """A refusal in the form that PySyft's client shows."""
        return bytes(_serialize(SyftError(message=message), to_bytes=True))

    def add_researcher(self, email: str, name: str, password: str, institution: str = "") -> None:
        """A new account with the role of a data scientist."""
        account = {"email": email, "name": name, "institution": institution, "role": ServiceRole.DATA_SCIENTIST}
        try:
            self.server.services.user.create(
                self._root_context(), id=UID(), password=password, password_verify=password, **account
            )
        except SyftException as error:
            raise DatasiteError(f"{email!r} cannot be added: {error.public_message}") from None

    def researchers(self) -> list[dict[str, str]]:
        """Every researcher's account: e-mail, name, institution and whether it is in use."""
        users = self.server.services.user.stash.get_all(self.server.verify_key).unwrap()
        return [
            {
                "email": str(user.email),
                "name": user.name or "",
                "institution": user.institution or "",
                "state": "active" if user.role == ServiceRole.DATA_SCIENTIST else "disabled",
            }
            for user in users
            if user.role not in (ServiceRole.ADMIN, ServiceRole.DATA_OWNER)
        ]

    def disable_researcher(self, email: str) -> None:
        """Close an account: its key signs nothing from now on, also when it is opened again."""
        self._update_user(email, role=ServiceRole.GUEST)
        self._end_clients(email)

    def enable_researcher(self, email: str) -> None:
        """Open a closed account again."""
        self._update_user(email, role=ServiceRole.DATA_SCIENTIST)

    def set_password(self, email: str, password: str) -> None:
        """Give an account a new password; clients that are signed in are so no more."""
        self._update_user(email, password=password)
        self._end_clients(email)

    def _end_clients(self, email: str) -> None:
        """Let calls that are signed with the key of earlier sign-ins be refused."""
        user = self.server.services.user.stash.get_by_email(self.server.verify_key, email).unwrap()
        if user.role is ServiceRole.ADMIN:
            self._owner_key.renew()
        else:
            renew_key(self.server.db, user)

    def set_password_hash(self, email: str, hashed: str) -> None:
        """Give an account the password of which `hashed` is the bcrypt hash."""
        stash, key = self.server.services.user.stash, self.server.verify_key
        user = stash.get_by_email(key, email).unwrap()
        user.hashed_password, user.salt = hashed, hashed[:29]
        stash.update(key, user, has_permission=True).unwrap()

    def _update_user(self, email: str, **changes: Any) -> None:
        try:
            user = self.server.services.user.stash.get_by_email(self.server.verify_key, email).unwrap()
            with inside():
                self.server.services.user.update(self._root_context(), uid=user.id, **changes)
        except SyftException:
            raise DatasiteError(f"There is no account {email!r}. `datasite researchers list` shows them.") from None

    # -- datasets ------------------------------------------------------------------------------------------------

    def upload(self, name: str, description: str, private: np.ndarray, mock: np.ndarray) -> str:
        """Store one table as a private tensor with its mock; returns the asset's action id.

        PySyft is handed a row of zeros in its place, and the table is then written into that tensor's own file: PySyft
        would hold it in memory six times over, and keep its first rows as text beside it.
        """
        stand_in = tensor_of(np.zeros((1, private.shape[1])))
        with inside():
            client = self.server.get_guest_client(verbose=False)
            client.credentials = self.server.signing_key
            asset = sy.Asset(name="records", data=stand_in, mock=tensor_of(mock))
            dataset = sy.Dataset(name=name, description=description or None, asset_list=[asset])
            with _silence():
                client.upload_dataset(dataset)
            stored = [each for each in client.api.services.dataset.get_all() if each.name == name]
            asset_id = str(stored[0].asset_list[0].action_id)
        path = self._file_of(self._sides(asset_id).private)
        assert path is not None
        with path.open("wb") as file:
            np.save(file, np.ascontiguousarray(private, dtype="<f8"), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        return asset_id

    def _relocate_blobs(self) -> None:
        """Point PySyft's blobs at this directory: it keeps absolute paths, and a directory may be moved or restored."""
        stash, key, here = (
            self.server.services.blob_storage.stash,
            self.server.verify_key,
            self.settings.directory / "blobs",
        )
        for entry in stash.get_all(key, has_permission=True).unwrap():
            path = here / Path(entry.location.path).name
            if str(path) != str(entry.location.path):
                entry.location.path = str(path)
                stash.update(key, entry, has_permission=True).unwrap()

    def forget_datasets(self, *, keep: set[str]) -> None:
        """Delete every stored table whose asset is not in `keep`: retired ones, and those never fully published."""
        context, service = self._root_context(), self.server.services.dataset
        with inside(), _silence():
            for dataset in service.get_all(context):
                if any(str(asset.action_id) in keep for asset in dataset.asset_list):
                    continue
                try:
                    service.delete(context, dataset.id)
                except SyftException:  # its blob went in a deletion that was cut off
                    service.delete(context, dataset.id, delete_assets=False)

    def records(self, asset: str) -> np.ndarray:
        """The private tensor of an asset, as it lies in its file; for the runner alone."""
        return self._decoded(self._sides(asset).private)

    def mock(self, asset: str) -> np.ndarray:
        """The mock of an asset, as researchers see it."""
        return self._decoded(self._sides(asset).mock)

    def _sides(self, asset: str) -> Any:
        """An asset's private tensor and its mock, as PySyft keeps them."""
        stash, key = self.server.services.action.stash, self.server.verify_key
        return stash.get(uid=UID(asset), credentials=key, has_permission=True).unwrap()

    def _file_of(self, stored: Any) -> Path | None:
        """The file of a tensor; None where PySyft keeps it in its database."""
        if stored.syft_blob_storage_entry_id is None:
            return None
        stash, key = self.server.services.blob_storage.stash, self.server.verify_key
        return Path(stash.get_by_uid(key, stored.syft_blob_storage_entry_id).unwrap().location.path)

    def _decoded(self, stored: Any) -> np.ndarray:
        path = self._file_of(stored)
        if path is None:
            return np.asarray(stored.syft_action_data)
        with path.open("rb") as file:
            ours = file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX
        if ours:
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        return np.asarray(_deserialize(path.read_bytes(), from_bytes=True))  # a mock, or a table of 0.1.0

    # -- status --------------------------------------------------------------------------------------------------

    def project_status(self, request: str, *, approved: bool, reason: str = "") -> None:
        """Rewrite PySyft's status of a request from the ledger's."""
        context = self._root_context()
        self.server.services.request.project(context, UID(request), approved=approved, reason=reason)

    def forget_requests(self, *, keep: set[str]) -> None:
        """Remove code requests that a crash left here without a record in the ledger; their researchers ask again."""
        services, key = self.server.services, self.server.verify_key
        for request in services.request.stash.get_all(key, has_permission=True).unwrap():
            code = getattr(request.changes[0], "linked_user_code", None) if request.changes else None
            if code is None or str(code.object_uid) not in keep:
                services.request.stash.delete_by_uid(key, request.id, has_permission=True).unwrap()
        for code in services.user_code.stash.get_all(key, has_permission=True).unwrap():
            if str(code.id) not in keep:
                services.user_code.stash.delete_by_uid(key, code.id, has_permission=True).unwrap()

    def _root_context(self) -> AuthedServiceContext:
        return AuthedServiceContext(server=self.server, credentials=self.server.verify_key, role=ServiceRole.ADMIN)


GUARDED = {
    "user_code": GuardedCodeService,
    "request": GuardedRequestService,
    "action": GuardedActionService,
    "blob_storage": GuardedBlobService,
    "notification": GuardedNotificationService,
    "settings": GuardedSettingsService,
    "dataset": GuardedDatasetService,
    "migration": GuardedMigrationService,
    "job": GuardedJobService,
    "log": GuardedLogService,
    "worker": GuardedWorkerService,
    "project": GuardedProjectService,
    "user": GuardedUserService,
}


def _make_server(settings: Settings) -> SyftServer:
    return SyftServer(
        name=settings.name,
        id=UID(secret(settings.directory, "syft.id")),
        signing_key=SyftSigningKey.from_string(secret(settings.directory, "syft.key")),
        root_email=settings.owner_email,
        root_username=settings.name,
        root_password=os.urandom(24).hex(),  # read once, when the account is made; the owner's own replaces it
        db_config=SQLiteDBConfig(filename="datasite.db", path=str(settings.directory)),
        blob_storage_config=OnDiskBlobStorageConfig(
            client_config=OnDiskBlobStorageClientConfig(base_directory=settings.directory / "blobs")
        ),
        deployment_type="python",
        create_producer=False,
        n_consumers=0,
        in_memory_workers=True,
        reset=False,
    )


def _replace_service(server: SyftServer, name: str, service_class: Any, datasite: Datasite) -> None:
    old = getattr(server.services, name)
    new = service_class(store=server.db)
    new.datasite = datasite
    setattr(server.services, name, new)
    server.services.services = [new if service is old else service for service in server.services.services]
    for path, service in server.services.service_path_map.items():
        if service is old:
            server.services.service_path_map[path] = new


@contextmanager
def _silence() -> Iterator[None]:
    """Keep PySyft's progress bars off the owner's terminal."""
    import contextlib

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
