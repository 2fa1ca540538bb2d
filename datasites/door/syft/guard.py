"""The signed-call entry in front of PySyft: what a client's bytes must pass before any service of PySyft sees them.

Stock PySyft rebuilds whatever objects the bytes name, from anybody, before it looks at the signature; a stranger's
`_GenericAlias` runs a command there. Here a call passes, in this order:

1. its envelope is read as three byte strings, with nothing built from them, and its Ed25519 signature is checked;
2. the key must belong to an account in use;
3. the path must be on the list of the account's role, before any argument is rebuilt;
4. the message is rebuilt from a list of classes, within bounds of depth, number and size, and within the memory that
   all calls and each account have; the call must be blocking and meant for this datasite;
5. a call that changes something is answered once: stock clients put a fresh identifier into each call;
6. an account has so many calls under way at most, and fewer that export a model: threads are everybody's;
7. what a service raises reaches the client as our own words or as one fixed text; tracebacks go to the log alone.
"""

import contextvars
import hashlib
import logging
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import syft.serde.arrow as arrow
import syft.serde.recursive as recursive
import syft.serde.recursive_primitives as primitives
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from syft.client.api import SyftAPI, SyftAPICall, SyftAPIData
from syft.serde.deserialize import _deserialize
from syft.serde.serialize import _serialize
from syft.server.credentials import SyftVerifyKey
from syft.server.datasite import Datasite
from syft.server.server import AuthServerContextRegistry
from syft.service.context import AuthedServiceContext
from syft.service.response import SyftError, SyftSuccess
from syft.service.service import UserServiceConfigRegistry, attach_attribute_to_syft_object
from syft.service.user.user_roles import ServiceRole
from syft.types.errors import SyftException
from syft.types.syft_object_registry import SyftObjectRegistry

from datasites.door.memory import CALLS, Held, Memory, NoRoom
from datasites.door.syft.call_limits import NoTurn, Turns
from datasites.door.syft.client_keys import OwnerKey
from datasites.door.syft.elsewhere import elsewhere
from datasites.logs import Shown
from policies.graph.graphs import MAX_PARAMETERS
from policies.wire.capnp import read_named, read_pairs, read_values
from policies.wire.envelopes import read_envelope, read_path

logger = logging.getLogger(__name__)

RESEARCHER_PATHS = frozenset(
    """
    metadata.get_metadata user.get_current_user settings.welcome_show notifications.resolve_object
    migration._get_object dataset.get_all action.get action.get_mock action.get_pointer action.set action.exists
    action.is_resolved blob_storage.allocate blob_storage.read blob_storage.write_to_disk user.update
    notifications.get_all notifications.get_all_unread project.get_all project.get_by_name project.get_by_uid
    project.can_create_project job.get job.get_all job.get_by_user_code_id job.get_subjobs job.get_active
    log.get_stdout log.has_storage_permission worker.get_all
    code.request_code_execution code.call code.get_all code.get_by_id request.get_all request.get_by_uid
    datasite.describe datasite.quote datasite.request_status datasite.requests datasite.withdraw
    datasite.certificates datasite.comment datasite.comments datasite.keep_weights datasite.secure_sum
    """.split()
)
OWNER_PATHS = frozenset(
    """
    metadata.get_metadata user.get_current_user settings.welcome_show settings.get notifications.resolve_object
    migration._get_object dataset.get_all action.get action.get_mock action.get_pointer blob_storage.read
    code.get_all code.get_by_id request.get_all request.get_by_uid request.apply request.undo datasite.describe
    notifications.get_all notifications.get_all_unread project.get_all project.get_by_name project.get_by_uid
    job.get job.get_all job.get_by_user_code_id job.get_subjobs job.get_active
    log.get_stdout log.get_stderr log.has_storage_permission
    """.split()
)
PATHS = {ServiceRole.ADMIN: OWNER_PATHS, ServiceRole.DATA_SCIENTIST: RESEARCHER_PATHS}

# A repeat of these is refused. Objects and blobs are keyed by identifiers of their own: repeating them changes nothing.
ONCE = frozenset(
    """
    code.request_code_execution code.call datasite.withdraw datasite.comment request.apply request.undo user.update
    """.split()
)

# These run the exporter for as long as the researcher's model takes.
EXPORTS = frozenset({"datasite.quote", "code.request_code_execution"})

# Every class that a stock client's calls are made of; none of them acts when it is built.
CLASSES = frozenset(
    """
    SyftAPICall UID LineageID SyftVerifyKey nacl_verify_key ServerIdentity DateTime type
    NoneType bool int float str bytes list tuple set dict OrderedDict torch_tensor numpy_ndarray
    ActionObject AnyActionObject NumpyArrayObject ActionDataEmpty TwinMode Asset Contributor CreateBlobStorageEntry
    SubmitUserCode Matches UserOwned inspect_Signature inspect_Parameter inspect_ParameterKind inspect_empty
    LinkedObject
    """.split()
)
# With `blocking=False` these answer with a Job, which is the round's run; they wait for nothing either way.
WITH_JOBS = frozenset({"code.call"})
DEEPEST, MOST_OBJECTS = 60, 20_000
TENSOR_BYTES = 8 * MAX_PARAMETERS + (1 << 20)  # of one message, unpacked: the weights of any plan, twice as precise
COPIES = 10  # of a message while it is read: each level of nesting copies what is inside it; honest ones take 7

# These carry weights or an upload, and may be as large as a body; every other call is short.
LARGE = frozenset({"action.set", "blob_storage.write_to_disk", "code.call", "datasite.keep_weights"})
LARGEST_SHORT = 1 << 20
TOO_LARGE = "This call is too large or too deep."
DTYPES = frozenset("bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split())
SIGNED_OUT = (
    "This key belongs to no account in use: its password was changed, or its account was closed. Sign in again with"
    " your e-mail and password; where that is refused, ask the hospital."
)
UNEXPECTED = "The datasite could not answer this call. Its owner finds the reason in the log as {reference}."


class Refused(SyftException):
    """A refusal whose text was written here, for the client to read."""

    def __init__(self, message: str) -> None:
        super().__init__(public_message=message)


class Malformed(Exception):
    """Bytes that are no signed call; the text is for the client."""


class UnknownKey(Malformed):
    """A call that is signed with the key of no account in use."""


# -- bytes ----------------------------------------------------------------------------------------------------

_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("inside", default=False)
_budget: contextvars.ContextVar["_Budget | None"] = contextvars.ContextVar("budget", default=None)
_held: contextvars.ContextVar[Held | None] = contextvars.ContextVar("held", default=None)


class _Budget:
    """What one message may still build, beside what its account and all accounts may hold."""

    def __init__(self, size: int) -> None:
        self.objects, self.depth = MOST_OBJECTS, 0
        self.tensors = TENSOR_BYTES
        self.bytes = COPIES * size + (1 << 20)

    def spend_bytes(self, size: int) -> None:
        """Pay for one level of a message. Raises `Malformed` or `Refused`."""
        self.bytes -= size
        if self.bytes < 0:
            raise Malformed(TOO_LARGE)
        hold(size)

    def spend_tensor(self, size: int) -> None:
        """Pay for a tensor, which is unpacked and then copied. Raises `Malformed` or `Refused`."""
        self.tensors -= size
        if self.tensors < 0:
            raise Malformed(TOO_LARGE)
        hold(2 * size)


@contextmanager
def holding(memory: Memory, account: str) -> Iterator[None]:
    """What is unpacked inside counts as an account's, until it is answered."""
    with memory.held(CALLS, account) as held:
        token = _held.set(held)
        try:
            yield
        finally:
            _held.reset(token)


def hold(size: int) -> None:
    """Pay for memory of the call that is answered now. Raises `Refused` where there is none."""
    held = _held.get()
    try:
        if held is not None:
            held.take(size)
    except NoRoom as error:
        raise Refused(str(error)) from None


def bound_deserialization() -> None:
    """Make PySyft's reader keep to `CLASSES` and to bounds while it reads a client's bytes. Once per process.

    PySyft reads its own database by the same functions; there only the reader of generic aliases stays replaced,
    which calls anything in `sys.modules` by name.
    """
    if recursive.rs_bytes2object is _bytes_to_object:
        return
    recursive.rs_bytes2object = _bytes_to_object
    arrow.arrow_deserialize = _tensor
    arrow.numpyutf8toarray = _no_texts
    primitives.iterable_schema = _BoundedSchema(primitives.iterable_schema, read_values)
    primitives.kv_iterable_schema = _BoundedSchema(primitives.kv_iterable_schema, read_pairs)
    for versions in SyftObjectRegistry.__object_serialization_registry__.values():
        for version, properties in versions.items():
            if properties[2] is primitives.deserialize_generic_alias:
                versions[version] = (*properties[:2], _generic_alias, *properties[3:])


def _bytes_to_object(blob: bytes) -> Any:
    budget = _budget.get()
    if budget is None:
        with recursive.recursive_scheme.from_bytes(blob, traversal_limit_in_words=2**64 - 1) as message:
            return recursive.rs_proto2object(message)
    budget.objects -= 1
    if budget.objects < 0 or budget.depth >= DEEPEST:
        raise Malformed(TOO_LARGE)
    budget.spend_bytes(len(blob))
    message = read_named(blob)
    if message.canonicalName not in CLASSES:
        raise Malformed(f"A call may not carry {message.canonicalName[:60]!r}.")
    budget.depth += 1
    try:
        return recursive.rs_proto2object(message)
    finally:
        budget.depth -= 1


class _BoundedSchema:
    """A schema of lists or pairs, read by `reader` where a client's bytes are read."""

    def __init__(self, schema: Any, reader: Callable[[bytes], Any]) -> None:
        self._schema, self._reader = schema, reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._schema, name)

    def from_bytes(self, blob: bytes, **options: Any) -> Any:
        if _budget.get() is not None:
            return nullcontext(self._reader(blob))
        return self._schema.from_bytes(blob, **options)


_arrow_deserialize, _numpyutf8toarray = arrow.arrow_deserialize, arrow.numpyutf8toarray


def _tensor(numpy_bytes: bytes, decompressed_size: int, dtype: str) -> Any:
    """A tensor of numbers whose size was paid for: the bytes name any size, any strides and any type."""
    budget = _budget.get()
    if budget is None:
        return _arrow_deserialize(numpy_bytes, decompressed_size, dtype)
    if dtype not in DTYPES or type(decompressed_size) is not int or not 0 <= decompressed_size <= budget.tensors:
        raise Malformed("A tensor of this call is too large, or not of numbers.")
    budget.spend_tensor(decompressed_size)
    codec = arrow.flags.APACHE_ARROW_COMPRESSION
    if codec is not arrow.ApacheArrowCompression.NONE:
        numpy_bytes = pa.decompress(numpy_bytes, decompressed_size=decompressed_size, codec=codec.value)
    tensor = pa.ipc.read_tensor(pa.py_buffer(numpy_bytes))
    if not tensor.is_contiguous or tensor.size * np.dtype(dtype).itemsize > decompressed_size:
        raise Malformed("A tensor of this call is larger than its bytes.")
    array = tensor.to_numpy()
    if array.dtype != np.dtype(dtype):
        raise Malformed("A tensor of this call is of another type than it says.")
    return array.copy()


def _no_texts(index: Any) -> Any:
    if _budget.get() is not None:
        raise Malformed("A call may not carry an array of texts.")
    return _numpyutf8toarray(index)


def _generic_alias(blob: bytes) -> Any:
    """A type such as `list[int]`, of `typing` alone."""
    import typing

    parts = _deserialize(blob, from_bytes=True)
    module, _, name = str(parts["path"]).rpartition(".")
    if module != "typing" or not name.isidentifier():
        raise Malformed("A type may only be one of typing's.")
    arguments = parts["__args__"]
    return getattr(typing, name)[arguments[0] if name == "Optional" else arguments]


def read_strictly(blob: bytes) -> Any:
    """An object from a client's bytes: listed classes, bounded depth, number and size. Raises `Malformed`."""
    token = _budget.set(_Budget(len(blob)))
    try:
        return _deserialize(blob, from_bytes=True)
    except (Malformed, Refused):
        raise
    except (Exception, RecursionError):
        raise Malformed("These bytes are not a call.") from None
    finally:
        _budget.reset(token)


def open_envelope(data: bytes) -> tuple[SyftVerifyKey, bytes]:
    """Key and message of a signed call whose signature is right. Raises `Malformed`."""
    try:
        envelope = read_envelope(data)
        key = VerifyKey(envelope.key)
        key.verify(envelope.message, envelope.signature)
    except BadSignatureError:
        raise Malformed("The signature of this call is wrong.") from None
    except Exception:  # whatever a reader of broken bytes raises
        raise Malformed("These bytes are not a signed call.") from None
    return SyftVerifyKey(key), envelope.message


# -- calls ----------------------------------------------------------------------------------------------------


class AnsweredCalls:
    """Remembers calls that were answered, on disk, so that a recorded one does nothing after a restart either.

    Args:
      most: how many are kept; the oldest go first. A million are 30 MB.
    """

    def __init__(self, path: Path, *, most: int = 1_000_000) -> None:
        self._most, self._lock = most, threading.Lock()
        self._store = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        path.chmod(0o600)
        self._store.execute("PRAGMA journal_mode=WAL")
        self._store.execute("PRAGMA synchronous=NORMAL")
        self._store.execute("CREATE TABLE IF NOT EXISTS calls (number INTEGER PRIMARY KEY, digest BLOB UNIQUE)")

    def is_new(self, message: bytes) -> bool:
        """Whether this message was not seen before; from now on it was."""
        digest = hashlib.sha256(message).digest()[:16]
        with self._lock:
            added = self._store.execute("INSERT OR IGNORE INTO calls (digest) VALUES (?)", (digest,))
            if added.rowcount == 1:
                self._store.execute("DELETE FROM calls WHERE number <= ?", ((added.lastrowid or 0) - self._most,))
            return added.rowcount == 1


class Entry:
    """Answers signed calls on one PySyft server."""

    def __init__(self, server: Datasite, answered: AnsweredCalls, owner_key: OwnerKey, memory: Memory) -> None:
        self.server = server
        self.answered = answered
        self.owner_key = owner_key
        self.memory = memory
        self.turns = Turns()
        bound_deserialization()
        inner: Callable[..., Any] = server.handle_api_call_with_unsigned_result

        def closed(api_call: Any, job_id: Any = None, check_call_location: bool = True) -> Any:
            if _inside.get():
                return inner(api_call, job_id=job_id, check_call_location=check_call_location)
            return SyftError(message="Calls are answered over HTTP alone.")

        server.handle_api_call_with_unsigned_result = closed

    def answer(self, data: bytes) -> bytes:
        """The signed answer to a call. Raises `Malformed` where the bytes are no call of an account in use."""
        signer, message = open_envelope(data)
        credentials = self.account_of(signer)
        role, account = self.role_of(credentials), str(credentials)
        try:
            with self.turns.taken(account), holding(self.memory, account):
                call = self._admitted(message, credentials, role)
                with self.turns.taken(account, export=True) if call.path in EXPORTS else nullcontext():
                    result = self._result(call, credentials, role, signer)
        except Refused as refusal:
            result = SyftError(message=refusal.public_message)
        except NoTurn as refusal:
            result = SyftError(message=str(refusal))
        return bytes(_serialize(SyftAPIData(data=result).sign(self.server.signing_key), to_bytes=True))

    def account_of(self, signer: SyftVerifyKey) -> SyftVerifyKey:
        """The key by which PySyft knows the account of a call's signer: the server's own stands for the owner's.

        Raises `UnknownKey` for the server's: it is handed to nobody, so a call that it signed was recorded or stolen.
        """
        if self.owner_key.signs(signer):
            return self.server.verify_key
        if signer == self.server.verify_key:
            raise UnknownKey(SIGNED_OUT)
        return signer

    def role_of(self, credentials: SyftVerifyKey) -> ServiceRole:
        """The role of an account in use. Raises `UnknownKey` for every other key."""
        role = self.server.get_role_for_credentials(credentials)
        if role not in PATHS:
            raise UnknownKey(SIGNED_OUT)
        return role

    def endpoints(self, verify_key: str) -> bytes | None:
        """What a role may call, in PySyft's form, for the key of an account in use; else None."""
        try:
            credentials = self.account_of(SyftVerifyKey.from_string(verify_key))
            role = self.role_of(credentials)
        except (Malformed, ValueError, TypeError):
            return None
        api = SyftAPI.for_user(self.server, self.server.current_protocol, credentials)
        allowed = PATHS[role] | elsewhere(role).keys()  # the latter end in a sentence: see `check_path`
        api.endpoints = {name: each for name, each in api.endpoints.items() if each.service_path in allowed}
        api.lib_endpoints = {}  # 3.6 MB of operations on pointers, none of which is allowed
        return bytes(_serialize(api, to_bytes=True))

    def _admitted(self, message: bytes, credentials: SyftVerifyKey, role: ServiceRole) -> SyftAPICall:
        check_path(message, role)
        try:
            call = read_strictly(message)
        except Malformed as error:
            raise Refused(str(error)) from None
        if type(call) is not SyftAPICall:
            raise Refused("This message is not a call.")
        waits = call.blocking is True or (call.blocking is False and call.path in WITH_JOBS)
        if not waits or call.server_uid != self.server.id:
            raise Refused("Only blocking calls to this datasite are answered.")
        if call.path not in PATHS[role]:
            raise Refused(_may_not(role, call.path))
        if call.path in ONCE and not self.answered.is_new(bytes(credentials.verify_key) + message):
            raise Refused("This call was answered before. Make it anew.")
        return call

    def _result(self, call: SyftAPICall, credentials: SyftVerifyKey, role: ServiceRole, signer: SyftVerifyKey) -> Any:
        context = AuthedServiceContext(
            server=self.server, credentials=credentials, role=role, is_blocking_api_call=call.blocking
        )
        AuthServerContextRegistry.set_server_context(self.server.id, context, credentials)
        with _errors_in_words(call.path):
            private_path = UserServiceConfigRegistry.from_role(role).private_path_for(call.path)
            method = self.server.get_service_method(private_path)
            result = method(context, *call.args, **call.kwargs)
            if isinstance(result, SyftError):
                raise TypeError(result.message)
            if signer != credentials:  # a stock client finds its session by the key that it signs with
                attach_attribute_to_syft_object(result, {"syft_client_verify_key": signer})
            return result if isinstance(result, SyftSuccess) else SyftSuccess(message="", value=result)


def check_path(message: bytes, role: ServiceRole) -> None:
    """Raise `Refused` unless a role may call what a message names, with as many bytes. Nothing is rebuilt."""
    try:
        path = read_path(message)
    except ValueError:
        raise Refused("This message is not a call.") from None
    if path not in PATHS[role]:
        raise Refused(_may_not(role, path))
    if path not in LARGE and len(message) > LARGEST_SHORT:
        raise Refused(f"{TOO_LARGE} One of {path} has at most {LARGEST_SHORT:,} bytes.")


def _may_not(role: ServiceRole, path: str) -> str:
    """Who does it instead, where that is known."""
    return f"{role.name} may not call {path[:80]}. {elsewhere(role).get(path, '')}".rstrip()


@contextmanager
def _errors_in_words(path: str) -> Iterator[None]:
    """Our refusals as they are; everything else as one text with a reference into the owner's log."""
    try:
        yield
    except Refused:
        raise
    except Exception:
        reference = secrets.token_hex(4)
        logger.warning("A call of %s failed (%s).", path, Shown(reference), exc_info=True)
        raise Refused(UNEXPECTED.format(reference=reference)) from None


def is_inside() -> bool:
    """Whether the datasite itself is calling PySyft now."""
    return _inside.get()


@contextmanager
def inside() -> Iterator[None]:
    """The datasite's own calls of PySyft, which need no entry."""
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)
