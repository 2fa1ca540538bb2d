"""PySyft's services as this datasite has them: ours in place of every one that stores, reads, runs or approves.

* `GuardedCodeService._call` runs an approved plan through `Rounds`; no researcher's text is executed.
* `GuardedCodeService.request_code_execution` inspects before anything is stored, and stores a request made here.
* `GuardedRequestService.apply` and `undo` pass the owner's review.
* `GuardedActionService` gives nobody a private object, and takes plain values alone.
* `GuardedBlobService` keeps uploads in their folder, in bounds (`syft_uploads`), and each in its uploader's hands.
* `DatasiteService` answers schema, quote, status and certificates by plain dictionaries.

Annotations are real objects here, not strings: PySyft sends the signatures of service methods to its clients.
"""

import ast
import inspect
from pathlib import Path
from typing import Any

import numpy as np
from syft.serde.serializable import serializable
from syft.serde.serialize import _serialize
from syft.service.action.action_object import ActionObject, TwinMode
from syft.service.action.action_permissions import ActionObjectPermission, ActionPermission
from syft.service.action.action_service import ActionService
from syft.service.blob_storage.service import BlobStorageService
from syft.service.code.user_code import SubmitUserCode, UserCode
from syft.service.code.user_code_service import UserCodeService
from syft.service.context import AuthedServiceContext
from syft.service.policy.policy import (
    ExactMatch,
    Matches,
    MixedInputPolicy,
    SingleExecutionExactOutput,
    SubmitUserPolicy,
    UserOwned,
)
from syft.service.request.request import UserCodeStatusChange
from syft.service.request.request_service import RequestService
from syft.service.response import SyftSuccess
from syft.service.service import AbstractService, service_method
from syft.service.user.user_roles import DATA_SCIENTIST_ROLE_LEVEL, ServiceRole
from syft.types.blob_storage import CreateBlobStorageEntry
from syft.types.errors import SyftException
from syft.types.result import as_result
from syft.types.twin_object import TwinObject
from syft.types.uid import UID

from datasites.actions.for_researchers import ForResearchers
from datasites.actions.registry import act
from datasites.actions.seen import run_of_round
from datasites.datasite import Datasite
from datasites.door.syft.callers import actor_of, email_of, public_errors
from datasites.door.syft.guard import Malformed, Refused, is_inside, read_strictly
from datasites.door.syft.ledger_views import job_of
from datasites.door.syft.tensors import array_of, tensor_of
from datasites.door.syft.uploads import PassingAnswers, Uploads
from datasites.review.decisions import check_has_voice
from policies.python_trees import parsed
from policies.release.compression import DOUBLINGS, packed, widened
from policies.source.statuses import RequestStatus

LONGEST_SOURCE = 64 << 10
NO_PRIVATE = "Private rows are read by the runner alone. Use the mock, and submit a code request."
HOW_TO_CALL = "Call it as f(records=asset, weights={name: tensor}, round=1)."
NOT_YOURS = "You have no such object here."
HOW_TO_BIND = (
    "The input policy must be sy.MixedInputPolicy(records=asset, weights=dict, round=int, client=client); for"
    " statistics without weights, or @sy.syft_function_single_use(records=asset) of a function of records alone."
)


@serializable(canonical_name="GuardedCodeService", version=1)
class GuardedCodeService(UserCodeService):
    """Code requests that are inspected before they are stored, and run by our runner alone."""

    datasite: Datasite
    passing: PassingAnswers

    def request_code_execution(
        self,
        context: AuthedServiceContext,
        code: SubmitUserCode | UserCode,
        reason: str | None = "",
        communication_protocol: Any = None,
        *,
        project: str = "",
    ) -> Any:
        """Inspect, export and record the request; store it in PySyft only if it has a plan."""
        if not isinstance(code, SubmitUserCode):
            raise Refused("Submit the function itself, not a stored code object.")
        if not isinstance(project, str):
            raise Refused("Name the project as text.")
        asset = _submitted_asset(code, context)
        ours = _own_submission(code, context, asset)

        def store() -> dict[str, str]:
            user_code = self._get_or_submit_user_code(context, ours).unwrap()
            request = self._request_code_execution(context, user_code, reason).unwrap()
            stored.append(request)
            return {"code": str(user_code.id), "request": str(request.id)}

        stored: list[Any] = []
        with public_errors():
            purpose = reason if isinstance(reason, str) else ""
            ForResearchers(self.datasite).submit(email_of(context), code.code, asset, purpose, store, project)
        return stored[0]

    def get_all(self, context: AuthedServiceContext, communication_protocol: Any = None) -> list[UserCode]:
        """The caller's own code; all of it for the owner."""
        return [each for each in UserCodeService.get_all(self, context) if _may_see(context, each.user_verify_key)]

    def get_by_uid(self, context: AuthedServiceContext, uid: UID, communication_protocol: Any = None) -> UserCode:
        """Code of the caller's own."""
        found = [each for each in self.get_all(context) if each.id == uid]
        if not found:
            raise Refused(NOT_YOURS)
        return found[0]

    def load_user_code(self, context: AuthedServiceContext) -> Any:
        """Nothing: PySyft would run the class bodies of submitted policies here."""

    @as_result(SyftException)
    def _call(
        self, context: AuthedServiceContext, uid: UID, result_id: UID | None = None, **kwargs: Any
    ) -> ActionObject:
        """One round of an approved request, whoever calls: the release, or `running` and when it shows.

        With `weights_digest` in place of the weights it only looks where the round stands. With `plain=True` the answer
        comes by itself, and PySyft keeps nothing of it; else it is an object, as PySyft's own code gives. With
        `blocking=False` it is the round's run, as a Job.
        """
        round_number = _plain(kwargs.get("round"), context, 1)
        if type(round_number) is not int:
            raise Refused(HOW_TO_CALL)
        answer = self._answer(context, str(uid), round_number, kwargs)
        if not context.is_blocking_api_call:
            return job_of(context, run_of_round(self.datasite, str(uid), round_number))
        plain = kwargs.get("plain") is True
        if plain and DOUBLINGS in (answer["release"] or {}):
            answer = {**answer, "release": packed(answer["release"])}
        if answer["release"] is not None:
            answer = {**answer, "release": {name: tensor_of(array) for name, array in answer["release"].items()}}
        if plain:
            return answer
        result = ActionObject.from_obj(answer, id=result_id or UID())
        if answer["release"] is None:
            result._set_obj_location_(context.server.id, context.credentials)
            self.passing.keep(context.credentials, result)
        else:
            context.server.services.action.set_result_to_store(result, context, None).unwrap()
        return result

    def _answer(
        self, context: AuthedServiceContext, code: str, round_number: int, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        researchers, email = ForResearchers(self.datasite), email_of(context)
        sent = kwargs.get("weights_digest")
        if sent is not None:
            if type(sent) is not str:
                raise Refused(HOW_TO_CALL)
            with public_errors():
                return researchers.look(email, code, round_number, sent)
        weights = _plain(kwargs.get("weights"), context, {})
        if not isinstance(weights, dict):
            raise Refused(HOW_TO_CALL)
        arrays = widened({str(name): _array(value) for name, value in weights.items()})
        with public_errors():
            return researchers.ask(email, code, round_number, arrays)


@serializable(canonical_name="GuardedRequestService", version=1)
class GuardedRequestService(RequestService):
    """Approvals and denials of a stock client, passed to the one judge."""

    datasite: Datasite

    def apply(
        self,
        context: AuthedServiceContext,
        uid: UID,
        typed: str = "",
        communication_protocol: Any = None,
        **others: Any,
    ) -> SyftSuccess:
        """A stock `request.approve()`, or `request.approve(typed=NAME)` where a name is to be typed."""
        if others or not isinstance(typed, str):
            raise Refused('approve() takes typed="NAME OF THE REQUEST" and nothing else here.')
        code = self._only_code(context, uid)
        with public_errors():
            done = act(self.datasite, "approve", actor_of(context), {"request": str(code), "typed": typed})
        return SyftSuccess(message=done)

    def undo(
        self, context: AuthedServiceContext, uid: UID, reason: str = "", communication_protocol: Any = None
    ) -> SyftSuccess:
        """A stock `request.deny(reason)`: denies a waiting request, or revokes an approved one."""
        code = str(self._only_code(context, uid))
        with public_errors():
            approved = self.datasite.ledger.requests.get(code).status is RequestStatus.APPROVED
            act(self.datasite, "revoke" if approved else "deny", actor_of(context), {"request": code, "reason": reason})
        return SyftSuccess(message=f"Request {uid} denied.")

    def project(self, context: AuthedServiceContext, uid: UID, *, approved: bool, reason: str) -> None:
        """Write the ledger's status into PySyft's own; never read for a decision."""
        if approved:
            RequestService.apply(self, context, uid)
        else:
            RequestService.undo(self, context, uid, reason)

    def _only_code(self, context: AuthedServiceContext, uid: UID) -> UID:
        """The code of a request that changes nothing but that code's own status. Refuses everything else."""
        with public_errors():
            check_has_voice(actor_of(context))
        request = self.stash.get_by_uid(context.credentials, uid).unwrap()
        changes = request.changes
        if len(changes) != 1 or type(changes[0]) is not UserCodeStatusChange:
            raise Refused("This request asks for more than one code's approval. It stays denied.")
        change = changes[0]
        code = change.linked_user_code.resolve_with_context(context).unwrap()
        if change.linked_obj.object_uid != code.status_link.object_uid or code.nested_codes:
            raise Refused("This request links the status of other code. It stays denied.")
        return code.id


@serializable(canonical_name="GuardedActionService", version=1)
class GuardedActionService(ActionService):
    """Plain values in, the caller's own values and mocks out."""

    uploads: Uploads
    passing: PassingAnswers

    def get(
        self,
        context: AuthedServiceContext,
        uid: UID,
        twin_mode: TwinMode = TwinMode.PRIVATE,
        resolve_nested: bool = True,
        communication_protocol: Any = None,
    ) -> Any:
        """An object of the caller's own, or an asset's mock. Private sides are given to no role."""
        passing = self.passing.find(context.credentials, uid.id)
        if passing is not None:
            return passing
        stored = self._stored(uid)
        if isinstance(stored, TwinObject):
            if twin_mode is not TwinMode.MOCK:
                raise Refused(NO_PRIVATE)
        elif context.role is ServiceRole.ADMIN:
            raise Refused(NOT_YOURS)  # in PySyft's eyes every object is an administrator's
        elif not self.has_read_permission(context, uid.id) or stored.is_link:
            raise Refused(NOT_YOURS)
        return self._get(context, uid.id, twin_mode, has_permission=True, resolve_nested=False).unwrap()

    def get_mock(self, context: AuthedServiceContext, uid: UID, communication_protocol: Any = None) -> Any:
        """The public side of an asset."""
        stored = self._stored(uid)
        if not isinstance(stored, TwinObject):
            raise Refused(NOT_YOURS)
        mock = stored.mock
        mock._set_obj_location_(context.server.id, context.credentials)
        return mock

    def get_pointer(self, context: AuthedServiceContext, uid: UID, communication_protocol: Any = None) -> Any:
        """A pointer to an asset's mock."""
        return self.get_mock(context, uid).syft_point_to(context.server.id)

    def is_resolved(self, context: AuthedServiceContext, uid: UID, communication_protocol: Any = None) -> bool:
        """Yes, whatever is asked for: nothing here is a link to what has yet to be made."""
        return True

    def set(
        self,
        context: AuthedServiceContext,
        action_object: Any,
        add_storage_permission: bool = True,
        ignore_detached_objs: bool = False,
        communication_protocol: Any = None,
    ) -> Any:
        """Keep a plain value under a new identifier, with data in a blob of the caller's own or in itself."""
        if is_inside():
            return ActionService.set(self, context, action_object)
        if not isinstance(action_object, ActionObject) or action_object.is_link:
            raise Refused("Only plain values can be stored here.")
        if self.stash.exists(credentials=context.credentials, uid=action_object.id):
            raise Refused("This identifier is taken.")
        blob = action_object.syft_blob_storage_entry_id
        if blob is not None:
            _own_blob(context, blob)
        self.uploads.take(context.credentials, len(_serialize(action_object, to_bytes=True)))
        return ActionService.set(self, context, action_object)

    def _stored(self, uid: UID) -> Any:
        try:
            return self.stash.get(uid=uid.id, credentials=None, has_permission=True).unwrap()
        except SyftException:
            raise Refused(NOT_YOURS) from None


@serializable(canonical_name="GuardedBlobService", version=1)
class GuardedBlobService(BlobStorageService):
    """Uploads as files of their own in one folder, written once by who made them, within the size of a body."""

    uploads: Uploads
    largest: int

    def allocate(
        self, context: AuthedServiceContext, obj: CreateBlobStorageEntry, communication_protocol: Any = None
    ) -> Any:
        """Room for one upload under its identifier; no part of the file's name is the client's to choose."""
        if not is_inside():
            if obj.extensions or not 0 <= obj.file_size <= self.largest:
                raise Refused(f"An upload is one value of at most {self.largest} bytes, without a file name.")
            if self.stash.exists(context.server.verify_key, UID(obj.id.value)):
                raise Refused("This identifier is taken.")
            self.uploads.take(context.credentials, obj.file_size)
        entry = CreateBlobStorageEntry(
            id=UID(obj.id.value), type_=obj.type_, mimetype="bytes", file_size=obj.file_size, extensions=[]
        )
        return BlobStorageService.allocate(self, context, entry)

    def write_to_disk(
        self, context: AuthedServiceContext, uid: UID, data: bytes, communication_protocol: Any = None
    ) -> SyftSuccess:
        """Write an upload, once, after its bytes were read as a value of the listed classes."""
        if not is_inside():
            entry = _own_blob(context, uid)
            if not isinstance(data, bytes) or len(data) > entry.file_size:
                raise Refused(f"This upload is larger than the {entry.file_size} bytes that it was announced with.")
            if Path(entry.location.path).exists():
                raise Refused("This upload was written before.")
            try:
                read_strictly(data)
            except Malformed as error:
                raise Refused(str(error)) from None
        return BlobStorageService.write_to_disk(self, context, uid, data)

    def read(self, context: AuthedServiceContext, uid: UID, communication_protocol: Any = None) -> Any:
        """The bytes of the caller's own upload or release, or of a mock."""
        if not is_inside() and not _may_read_blob(context, uid):
            raise Refused(NOT_YOURS)
        return BlobStorageService.read(self, context, uid)


@serializable(canonical_name="DatasiteService", version=1)
class DatasiteService(AbstractService):
    """Schema, budget, quote, status and certificates, as plain dictionaries, to any signed-in researcher."""

    researchers: ForResearchers

    def __init__(self, store: Any) -> None:
        self.store = store

    @service_method(path="datasite.describe", name="describe", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def describe(self, context: AuthedServiceContext) -> dict:
        """Name, public key, datasets with schemas and public sizes, budgets left."""
        with public_errors():
            return self.researchers.describe(email_of(context))

    @service_method(path="datasite.quote", name="quote", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def quote(self, context: AuthedServiceContext, source: str, dataset: str) -> dict:
        """Findings, plan and cost of a request, before it is made."""
        with public_errors():
            return self.researchers.quote(email_of(context), source, dataset)

    @service_method(path="datasite.request_status", name="request_status", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def request_status(self, context: AuthedServiceContext, code: str) -> dict:
        """Where the caller's request stands, with comments and rounds."""
        with public_errors():
            return self.researchers.status(email_of(context), code)

    @service_method(path="datasite.requests", name="requests", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def requests(self, context: AuthedServiceContext) -> list:
        """The caller's own requests."""
        with public_errors():
            return self.researchers.requests_of(email_of(context))

    @service_method(path="datasite.secure_sum", name="secure_sum", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def secure_sum(self, context: AuthedServiceContext, code: str, round: int, step: str, message: str) -> str:
        """This datasite's answer to one step of a secure sum, as JSON."""
        if type(round) is not int or type(step) is not str or type(message) is not str:
            raise Refused("A step of a secure sum is named by a whole number and two texts.")
        with public_errors():
            return self.researchers.secure_sum(email_of(context), code, round, step, message)

    @service_method(path="datasite.withdraw", name="withdraw", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def withdraw(self, context: AuthedServiceContext, code: str) -> dict:
        """Take the caller's request back; what no run touched returns to the budget."""
        with public_errors():
            return self.researchers.withdraw(email_of(context), code)

    @service_method(path="datasite.keep_weights", name="keep_weights", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def keep_weights(
        self, context: AuthedServiceContext, code: str, begin: int = 0, size: int = 0, content: bytes = b""
    ) -> dict:
        """Take the next bytes of the public weights that the caller's request names; what is here of them."""
        if not isinstance(content, bytes) or type(begin) is not int or type(size) is not int:
            raise Refused("Public weights come as bytes of a safetensors file, with begin and size in bytes.")
        with public_errors():
            return self.researchers.keep_weights(email_of(context), code, begin, size, content)

    @service_method(path="datasite.comment", name="comment", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def comment(self, context: AuthedServiceContext, code: str, text: str) -> list:
        """Write on the caller's request; everything that is written on it."""
        with public_errors():
            return self.researchers.comment(email_of(context), code, text)

    @service_method(path="datasite.comments", name="comments", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def comments(self, context: AuthedServiceContext, code: str) -> list:
        """What is written on the caller's request, oldest first."""
        with public_errors():
            return self.researchers.comments(email_of(context), code)

    @service_method(path="datasite.certificates", name="certificates", roles=DATA_SCIENTIST_ROLE_LEVEL)
    def certificates(self, context: AuthedServiceContext, code: str) -> list:
        """The signed certificates of the caller's releases, as JSON texts."""
        with public_errors():
            return self.researchers.certificates(email_of(context), code)


def _may_see(context: AuthedServiceContext, owner: Any) -> bool:
    return context.role is ServiceRole.ADMIN or owner == context.credentials


def _own_blob(context: AuthedServiceContext, uid: UID) -> Any:
    """The entry of a blob that the caller uploaded. Refuses all others as if they were not there."""
    try:
        entry = context.server.services.blob_storage.stash.get_by_uid(context.server.verify_key, uid).unwrap()
    except SyftException:
        entry = None
    if entry is None or entry.uploaded_by != context.credentials:
        raise Refused(NOT_YOURS)
    return entry


def _may_read_blob(context: AuthedServiceContext, uid: UID) -> bool:
    """Whether a blob is the mock of a stored table, or a researcher's own upload or release.

    Tables are PySyft's administrator's uploads, so an owner is given the mocks alone.
    """
    try:
        if context.role is ServiceRole.ADMIN:
            raise Refused(NOT_YOURS)
        _own_blob(context, uid)
    except Refused:
        everybody = ActionObjectPermission(uid, ActionPermission.ALL_READ)
        return bool(context.server.services.blob_storage.stash.has_permission(everybody))
    return True


def _submitted_asset(code: SubmitUserCode, context: AuthedServiceContext) -> str:
    """The action id that a submitted function binds `records` to. Refuses policies that are not PySyft's own."""
    exact = code.input_policy_type is ExactMatch
    if isinstance(code.input_policy_type, SubmitUserPolicy | UID) or not (
        exact or code.input_policy_type is MixedInputPolicy
    ):
        raise Refused(HOW_TO_BIND)
    if isinstance(code.output_policy_type, SubmitUserPolicy | UID):
        raise Refused("Own output policies are not taken: the ledger counts releases.")
    servers = code.input_policy_init_kwargs or {}
    if len(servers) != 1 or next(iter(servers)).server_id != context.server.id:
        raise Refused("Bind records=asset of this datasite alone.")
    rules = next(iter(servers.values()))
    if exact:
        if set(rules) != {"records"} or not isinstance(rules["records"], UID):
            raise Refused(HOW_TO_BIND)
        return str(rules["records"])
    wanted = {"records": Matches, "weights": UserOwned, "round": UserOwned}
    if "records" not in rules or any(type(rule) is not wanted.get(name) for name, rule in rules.items()):
        raise Refused(HOW_TO_BIND)
    return str(rules["records"].val)


def _own_submission(code: SubmitUserCode, context: AuthedServiceContext, asset: str) -> SubmitUserCode:
    """The request as it is stored: the researcher's text, and everything else made here from its parameters."""
    if len(code.code) > LONGEST_SOURCE or len(code.code.encode("utf-8", "replace")) > LONGEST_SOURCE:
        raise Refused(f"The source is longer than {LONGEST_SOURCE} bytes. Send one short function.")
    name, parameters = _header(code.code)
    given = tuple(code.signature.parameters)
    if name is not None and (name != code.func_name or parameters != given or parameters != tuple(code.input_kwargs)):
        raise Refused(
            f"The request is called {code.func_name[:80]}({', '.join(given)[:200]}) and its source defines"
            f" {name}({', '.join(parameters)}). Submit the function as it is written."
        )
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    rules: dict[str, Any] = {"records": UID(asset), "weights": dict, "round": int}
    bound = code.input_policy_init_kwargs or {}
    policy = {next(iter(bound)): {n: r for n, r in next(iter(bound.values())).items() if n in rules}}
    if code.input_policy_type is ExactMatch:
        policy = {next(iter(bound)): {"records": Matches(kw="records", val=UID(asset))}}
    return SubmitUserCode(
        code=code.code,
        func_name=code.func_name,
        signature=inspect.Signature([inspect.Parameter(each, kind) for each in given if each in rules]),
        input_policy_type=MixedInputPolicy,
        input_policy_init_kwargs=policy,
        output_policy_type=SingleExecutionExactOutput,
        output_policy_init_kwargs={},
        input_kwargs=[each for each in given if each in rules],
        worker_pool_name=None,
    )


def _header(source: str) -> tuple[str | None, tuple[str, ...]]:
    """Name and parameters of the one function that a source defines; no name where inspection will refuse it."""
    try:
        functions = [each for each in parsed(source).body if isinstance(each, ast.FunctionDef)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None, ()
    if len(functions) != 1:
        return None, ()
    return functions[0].name, tuple(each.arg for each in functions[0].args.args)


def _plain(value: Any, context: AuthedServiceContext, default: Any) -> Any:
    """What the researcher sent: a value in the call itself, or in an object and a blob of the caller's own."""
    if value is None:
        return default
    if isinstance(value, UID):
        value = context.server.services.action.get(context, uid=value)
    if not isinstance(value, ActionObject):
        return value
    blob = value.syft_blob_storage_entry_id
    if blob is None:
        return value.syft_action_data_cache
    try:
        return read_strictly(Path(_own_blob(context, blob).location.path).read_bytes())
    except (Malformed, OSError):
        raise Refused("An argument was not uploaded whole. Call again.") from None


def _array(value: Any) -> np.ndarray:
    if isinstance(value, ActionObject):
        value = value.syft_action_data_cache
    array = array_of(value)
    if array is not None:
        return array
    raise Refused("Weights must be a dict of tensors, as model.state_dict() gives.")
