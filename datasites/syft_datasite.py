"""PySyft, held to our rules: the only module here that imports syft.

What a stock client sees is PySyft 0.9.5. What stands behind it is ours:

* `GuardedCodeService._call` runs an approved plan through `Runs`, for every role; no researcher's text is executed.
* `GuardedCodeService.request_code_execution` inspects before anything is stored.
* `GuardedRequestService.apply` and `undo` pass the owner's review.
* `DatasiteService` answers schema, quote, status and certificates by plain dictionaries.
* Every signed call passes one entry that allows a list of paths per role and refuses the rest.

Annotations are real objects here, not strings: PySyft sends the signatures of service methods to its clients.
"""

import contextvars
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import syft as sy
import torch
from syft.serde.deserialize import _deserialize
from syft.serde.serializable import serializable
from syft.server.credentials import SyftSigningKey
from syft.server.datasite import Datasite
from syft.server.routes import make_routes
from syft.service.action.action_object import ActionObject
from syft.service.code.user_code import SubmitUserCode, UserCode
from syft.service.code.user_code_service import UserCodeService
from syft.service.context import AuthedServiceContext
from syft.service.policy.policy import MixedInputPolicy, SubmitUserPolicy
from syft.service.request.request import UserCodeStatusChange
from syft.service.request.request_service import RequestService
from syft.service.response import SyftError, SyftSuccess
from syft.service.service import AbstractService, service_method
from syft.service.user.user_roles import DATA_SCIENTIST_ROLE_LEVEL, ServiceRole
from syft.store.blob_storage.on_disk import OnDiskBlobStorageClientConfig, OnDiskBlobStorageConfig
from syft.store.db.sqlite import SQLiteDBConfig
from syft.types.errors import SyftException
from syft.types.result import as_result
from syft.types.uid import UID

from datasites.settings import Settings
from policies.errors import DatasiteError

logger = logging.getLogger(__name__)

RESEARCHER_PATHS = frozenset(
    """
    metadata.get_metadata user.get_current_user dataset.get_all dataset.get_by_id dataset.search action.get
    action.get_mock action.get_pointer action.set action.exists action.has_storage_permission api.exists blob_storage.allocate
    blob_storage.read blob_storage.write_to_disk blob_storage.mark_write_complete code.request_code_execution
    code.call code.get_all code.get_by_id code.get_by_service_func_name request.get_all request.get_by_uid
    datasite.describe datasite.quote datasite.request_status datasite.requests datasite.withdraw
    datasite.certificates
    """.split()
)
OWNER_PATHS = RESEARCHER_PATHS | frozenset(
    """
    request.apply request.undo request.get_all_info request.filter_all_info notifications.resolve_object
    notifications.get_all user.get_all
    """.split()
)
PATHS = {ServiceRole.ADMIN: OWNER_PATHS, ServiceRole.DATA_SCIENTIST: RESEARCHER_PATHS}

_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("inside", default=False)


class Office(Protocol):
    """What PySyft's side asks of the datasite's own: plain data in, plain data out, `DatasiteError` raised."""

    def describe(self, researcher: str) -> dict[str, Any]: ...
    def quote(self, researcher: str, source: str, dataset: str) -> dict[str, Any]: ...
    def submit(
        self, researcher: str, source: str, asset: str, purpose: str, store: Callable[[], dict[str, str]]
    ) -> None: ...
    def ask(self, researcher: str, code: str, round_number: int, weights: dict[str, Any]) -> dict[str, Any]: ...
    def status(self, researcher: str, code: str) -> dict[str, Any]: ...
    def requests_of(self, researcher: str) -> list[dict[str, Any]]: ...
    def withdraw(self, researcher: str, code: str) -> dict[str, Any]: ...
    def certificates(self, researcher: str, code: str) -> list[str]: ...
    def approve_code(self, code: str, actor: str) -> None: ...
    def deny_code(self, code: str, actor: str, reason: str) -> None: ...


@contextmanager
def _public_errors() -> Iterator[None]:
    """A `DatasiteError` reaches the client as its public message; everything else as a class name only."""
    try:
        yield
    except DatasiteError as error:
        raise SyftException(public_message=error.public_message) from None


def _email(context: AuthedServiceContext) -> str:
    server = context.server
    return str(server.services.user.stash.get_by_verify_key(server.verify_key, context.credentials).unwrap().email)


@serializable(canonical_name="GuardedCodeService", version=1)
class GuardedCodeService(UserCodeService):
    """Code requests that are inspected before they are stored, and run by our runner alone."""

    office: Office

    def request_code_execution(
        self,
        context: AuthedServiceContext,
        code: SubmitUserCode | UserCode,
        reason: str | None = "",
        communication_protocol: Any = None,
    ) -> Any:
        """Inspect, export and record the request; store it in PySyft only if it has a plan."""
        if not isinstance(code, SubmitUserCode):
            raise SyftException(public_message="Submit the function itself, not a stored code object.")
        asset = _submitted_asset(code)

        def store() -> dict[str, str]:
            user_code = self._get_or_submit_user_code(context, code).unwrap()
            request = self._request_code_execution(context, user_code, reason).unwrap()
            stored.append(request)
            return {"code": str(user_code.id), "request": str(request.id)}

        stored: list[Any] = []
        with _public_errors():
            self.office.submit(_email(context), code.code, asset, reason or "", store)
        return stored[0]

    @as_result(SyftException)
    def _call(
        self, context: AuthedServiceContext, uid: UID, result_id: UID | None = None, **kwargs: Any
    ) -> ActionObject:
        """One round of an approved request, whoever calls: the release, or `running`."""
        weights = _plain(kwargs.get("weights"), context, {})
        round_number = _plain(kwargs.get("round"), context, 1)
        if not isinstance(weights, dict) or isinstance(round_number, bool) or not isinstance(round_number, int):
            raise SyftException(public_message="Call it as f(records=asset, weights={name: tensor}, round=1).")
        arrays = {str(name): _array(value) for name, value in weights.items()}
        with _public_errors():
            answer = self.office.ask(_email(context), str(uid), round_number, arrays)
        if answer["release"] is not None:
            answer = {**answer, "release": {name: torch.from_numpy(a.copy()) for name, a in answer["release"].items()}}
        result = ActionObject.from_obj(answer, id=result_id or UID())
        context.server.services.action.set_result_to_store(result, context, None).unwrap()
        return result


@serializable(canonical_name="GuardedRequestService", version=1)
class GuardedRequestService(RequestService):
    """Approvals and denials of a stock client, passed to the owner's review."""

    office: Office

    def apply(self, context: AuthedServiceContext, uid: UID, **kwargs: Any) -> SyftSuccess:
        """A stock `request.approve()`: the same review, then PySyft's status follows."""
        code = self._only_code(context, uid)
        with _public_errors():
            self.office.approve_code(str(code), _email(context))
        return SyftSuccess(message="Approved; the whole cost is reserved in the ledger.")

    def undo(
        self, context: AuthedServiceContext, uid: UID, reason: str = "", communication_protocol: Any = None
    ) -> SyftSuccess:
        """A stock `request.deny(reason)`."""
        code = self._only_code(context, uid)
        with _public_errors():
            self.office.deny_code(str(code), _email(context), reason)
        return SyftSuccess(message=f"Request {uid} denied.")

    def project(self, context: AuthedServiceContext, uid: UID, *, approved: bool, reason: str) -> None:
        """Write the ledger's status into PySyft's own; never read for a decision."""
        if approved:
            RequestService.apply(self, context, uid)
        else:
            RequestService.undo(self, context, uid, reason)

    def _only_code(self, context: AuthedServiceContext, uid: UID) -> UID:
        """The code of a request that changes nothing but that code's own status. Refuses everything else."""
        request = self.stash.get_by_uid(context.credentials, uid).unwrap()
        changes = request.changes
        if len(changes) != 1 or type(changes[0]) is not UserCodeStatusChange:
            raise SyftException(public_message="This request asks for more than one code's approval. It stays denied.")
        change = changes[0]
        code = change.linked_user_code.resolve_with_context(context).unwrap()
        if change.linked_obj.object_uid != code.status_link.object_uid or code.nested_codes:
            raise SyftException(public_message="This request links the status of other code. It stays denied.")
        return code.id


@serializable(canonical_name="DatasiteService", version=1)
class DatasiteService(AbstractService):
    """Schema, budget, quote, status and certificates, as plain dictionaries, to any signed-in researcher."""

    office: Office

    def __init__(self, store: Any) -> None:
        self.store = store

    @service_method(path="datasite.describe", name="describe", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def describe(self, context: AuthedServiceContext) -> dict:
        """Name, public key, datasets with schemas and public sizes, budgets left."""
        with _public_errors():
            return self.office.describe(_email(context))

    @service_method(path="datasite.quote", name="quote", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def quote(self, context: AuthedServiceContext, source: str, dataset: str) -> dict:
        """Findings, plan and cost of a request, before it is made."""
        with _public_errors():
            return self.office.quote(_email(context), source, dataset)

    @service_method(path="datasite.request_status", name="request_status", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def request_status(self, context: AuthedServiceContext, code: str) -> dict:
        """Where the caller's request stands, with comments and rounds."""
        with _public_errors():
            return self.office.status(_email(context), code)

    @service_method(path="datasite.requests", name="requests", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def requests(self, context: AuthedServiceContext) -> list:
        """The caller's own requests."""
        with _public_errors():
            return self.office.requests_of(_email(context))

    @service_method(path="datasite.withdraw", name="withdraw", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def withdraw(self, context: AuthedServiceContext, code: str) -> dict:
        """Take the caller's request back; what no run touched returns to the budget."""
        with _public_errors():
            return self.office.withdraw(_email(context), code)

    @service_method(path="datasite.certificates", name="certificates", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def certificates(self, context: AuthedServiceContext, code: str) -> list:
        """The signed certificates of the caller's releases, as JSON texts."""
        with _public_errors():
            return self.office.certificates(_email(context), code)


class SyftDatasite:
    """A PySyft server on the datasite's directory, guarded. Identity, accounts, assets and requests live in it."""

    def __init__(self, settings: Settings, office: Office) -> None:
        os.umask(0o077)
        self.settings = settings
        logging.getLogger("syft").setLevel(logging.CRITICAL + 1)  # it logs the hash of its signing key as critical
        root_level = logging.getLogger().level
        with _silence():
            self.server = _make_server(settings)
        logging.getLogger().setLevel(root_level)  # PySyft silences the whole process
        logging.getLogger("syft").setLevel(logging.ERROR)
        for path in settings.directory.glob("datasite.db*"):
            path.chmod(0o600)
        _replace_service(self.server, "user_code", GuardedCodeService, office)
        _replace_service(self.server, "request", GuardedRequestService, office)
        own = DatasiteService(store=self.server.db)
        own.office = office
        self.server.services.services.append(own)
        self.server.services.service_path_map["datasiteservice"] = own
        _guard_entry(self.server)

    def routes(self) -> Any:
        """PySyft's HTTP routes, to be mounted under `/api/v2`."""
        with warnings.catch_warnings():  # FastAPI deprecates how PySyft writes its examples
            warnings.simplefilter("ignore")
            return make_routes(worker=self.server)

    # -- accounts ------------------------------------------------------------------------------------------------

    def login(self, email: str, password: str) -> bytes | None:
        """The serialized answer to a right e-mail and password of an account in use, else None."""
        from syft.serde.serialize import _serialize
        from syft.server.credentials import UserLoginCredentials
        from syft.service.context import UnauthedServiceContext

        try:
            credentials = UserLoginCredentials(email=email, password=password)
            context = UnauthedServiceContext(server=self.server, login_credentials=credentials)
            key = self.server.services.user.exchange_credentials(context=context).value
        except (SyftException, ValueError):
            return None
        if key.role not in PATHS:
            return None
        return bytes(_serialize(key, to_bytes=True))

    def refusal(self, message: str) -> bytes:
        """A refusal in the form that PySyft's client shows."""
        from syft.serde.serialize import _serialize

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
        """Close an account: its key signs nothing from now on."""
        self._update_user(email, role=ServiceRole.GUEST)

    def enable_researcher(self, email: str) -> None:
        """Open a closed account again."""
        self._update_user(email, role=ServiceRole.DATA_SCIENTIST)

    def set_password(self, email: str, password: str) -> None:
        """Give an account a new password."""
        self._update_user(email, password=password)

    def set_password_hash(self, email: str, hashed: str) -> None:
        """Give an account the password of which `hashed` is the bcrypt hash."""
        stash, key = self.server.services.user.stash, self.server.verify_key
        user = stash.get_by_email(key, email).unwrap()
        user.hashed_password, user.salt = hashed, hashed[:29]
        stash.update(key, user, has_permission=True).unwrap()

    def _update_user(self, email: str, **changes: Any) -> None:
        try:
            user = self.server.services.user.stash.get_by_email(self.server.verify_key, email).unwrap()
            self.server.services.user.update(self._root_context(), uid=user.id, **changes)
        except SyftException:
            raise DatasiteError(f"There is no account {email!r}. `datasite researchers list` shows them.") from None

    # -- datasets ------------------------------------------------------------------------------------------------

    def upload(self, name: str, description: str, private: np.ndarray, mock: np.ndarray) -> str:
        """Store one table as a private tensor with its mock; returns the asset's action id."""
        token = _inside.set(True)
        try:
            client = self.server.get_guest_client(verbose=False)
            client.credentials = self.server.signing_key
            asset = sy.Asset(name="records", data=torch.from_numpy(private), mock=torch.from_numpy(mock))
            dataset = sy.Dataset(name=name, description=description or None, asset_list=[asset])
            with _silence():
                client.upload_dataset(dataset)
            stored = [each for each in client.api.services.dataset.get_all() if each.name == name]
            return str(stored[0].asset_list[0].action_id)
        finally:
            _inside.reset(token)

    def records(self, asset: str) -> np.ndarray:
        """The private tensor of an asset, decoded from its blob; for the runner alone."""
        services, key = self.server.services, self.server.verify_key
        twin = services.action.stash.get(uid=UID(asset), credentials=key, has_permission=True).unwrap()
        entry_id = twin.private.syft_blob_storage_entry_id
        if entry_id is None:
            return np.asarray(twin.private.syft_action_data)
        entry = services.blob_storage.stash.get_by_uid(key, entry_id).unwrap()
        return np.asarray(_deserialize(Path(entry.location.path).read_bytes(), from_bytes=True))

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


def _make_server(settings: Settings) -> Datasite:
    return Datasite(
        name=settings.name,
        id=UID(settings.secret("syft.id")),
        signing_key=SyftSigningKey.from_string(settings.secret("syft.key")),
        root_email=settings.owner_email,
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


def _replace_service(server: Datasite, name: str, service_class: Any, office: Office) -> None:
    old = getattr(server.services, name)
    new = service_class(store=server.db)
    new.office = office
    setattr(server.services, name, new)
    server.services.services = [new if service is old else service for service in server.services.services]
    for path, service in server.services.service_path_map.items():
        if service is old:
            server.services.service_path_map[path] = new


def _guard_entry(server: Datasite) -> None:
    """Put our entry before PySyft's: signed, blocking, to this server, on a path that the role may call."""
    inner = server.handle_api_call_with_unsigned_result

    def entry(api_call: Any, job_id: Any = None, check_call_location: bool = True) -> Any:
        if _inside.get():
            return inner(api_call, job_id=job_id, check_call_location=check_call_location)
        if not hasattr(api_call, "signature") or not api_call.is_valid:
            return SyftError(message="This call is not signed. Log in with your e-mail and password.")
        message = api_call.message
        role = server.get_role_for_credentials(api_call.credentials)
        if not message.blocking or message.server_uid != server.id:
            return SyftError(message="Only blocking calls to this datasite are answered.")
        if message.path not in PATHS.get(role, frozenset()):
            return SyftError(message=f"{role.name} may not call {str(message.path)[:80]}.")
        return inner(api_call, job_id=job_id, check_call_location=check_call_location)

    server.handle_api_call_with_unsigned_result = entry


def _submitted_asset(code: SubmitUserCode) -> str:
    """The action id that a submitted function binds `records` to. Refuses policies that are not PySyft's own."""
    if isinstance(code.input_policy_type, SubmitUserPolicy | UID) or code.input_policy_type is not MixedInputPolicy:
        raise SyftException(
            public_message="The input policy must be sy.MixedInputPolicy(records=asset, weights=dict, round=int,"
            " client=client); for statistics without weights."
        )
    if isinstance(code.output_policy_type, SubmitUserPolicy | UID):
        raise SyftException(public_message="Own output policies are not taken: the ledger counts releases.")
    rules = {name: rule for server in (code.input_policy_init_kwargs or {}).values() for name, rule in server.items()}
    extra = set(rules) - {"records", "weights", "round"}
    if extra or "records" not in rules or not isinstance(getattr(rules["records"], "val", None), UID):
        raise SyftException(public_message="Bind records=asset in the input policy, and weights=dict, round=int.")
    return str(rules["records"].val)


def _plain(value: Any, context: AuthedServiceContext, default: Any) -> Any:
    """What the researcher sent, out of whatever PySyft wrapped it in."""
    if value is None:
        return default
    if isinstance(value, UID):
        value = context.server.services.action.get(context, uid=value)
    return value.syft_action_data if isinstance(value, ActionObject) else value


def _array(value: Any) -> np.ndarray:
    if isinstance(value, ActionObject):
        value = value.syft_action_data
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return value
    raise SyftException(public_message="Weights must be a dict of tensors, as model.state_dict() gives.")


@contextmanager
def _silence() -> Iterator[None]:
    """Keep PySyft's progress bars off the owner's terminal."""
    import contextlib

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
