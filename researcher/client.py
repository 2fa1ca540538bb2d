"""One datasite, reached with a stock syft client: the only module of the researcher's side that imports syft.

Everything above it speaks to `researcher.network.Connection`, which `Datasite` implements with plain data. Login
happens at the first call and again after a failure, so a datasite that is down now may answer later.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import requests
import syft
import torch
from syft.client.client import HTTPConnection
from syft.client.datasite_client import DatasiteClient
from syft.service.action.action_object import ActionObject, convert_to_pointers
from syft.service.code.user_code import SubmitUserCode
from syft.service.policy.policy import OutputPolicyExecuteCount
from syft.types.errors import SyftException
from syft.types.server_url import ServerURL
from syft.types.uid import UID

from policies.errors import DatasiteError, InvalidRequest, PermissionRefused, Unavailable
from policies.release.tensors import digest
from researcher.transport import CONNECT_SECONDS, Session, check_url, tls_context

# Our datasites count releases in their ledger; syft's own output policy counts nothing that holds (it must be given).
SYFT_LIMIT = 1_000_000
_logins = threading.Lock()  # syft prints at login, and standard output is one for all threads


class _Address(ServerURL):
    """Exactly the address that the researcher gave.

    syft's own puts another host in as `CONTAINER_HOST` says, and copies of an https address go to port 443.
    """

    @classmethod
    def of(cls, url: str) -> _Address:
        parts, address = urlsplit(url), cls()
        host = parts.hostname or ""
        address.protocol, address.host_or_ip = parts.scheme, f"[{host}]" if ":" in host else host
        address.port = parts.port or (443 if parts.scheme == "https" else 80)
        return address

    def as_container_host(self, container_host: str | None = None) -> _Address:
        return self

    def __copy__(self) -> _Address:
        return _Address.of(self.base_url)


class _Connection(HTTPConnection):
    """syft's connection, with every request over our session.

    syft sends its calls outside its session, without a deadline and with other authorities, and keeps public metadata
    for minutes.
    """

    __canonical_name__ = "ResearcherConnection"

    def make_call(self, signed_call: Any) -> Any:
        content = self._make_post(self.routes.ROUTE_API_CALL.value, data=syft.serialize(signed_call, to_bytes=True))
        return syft.deserialize(content, from_bytes=True)

    def _make_get_no_params(self, path: str, stream: bool = False) -> Any:
        return self._make_get(path, params={}, stream=stream)


class Datasite:
    """A hospital's datasite as one researcher sees it.

    Args:
      url: as "https://hospital.example:9401".
      email: of the researcher's account there.
      password: of that account. It is kept in memory for logging in again and shown nowhere.
      name: what the researcher calls it; where none is given, `url` until `describe` has told.
      ca_file: PEM file of the authority behind the datasite's TLS certificate, where the system does not know it; no
        other authority is then believed.

    Making one raises `InvalidRequest` where `url` is plain HTTP to another machine or `ca_file` cannot be used. Every
    method raises `Unavailable` when the datasite cannot be reached, and `PermissionRefused` with the datasite's
    own words when it refuses.
    """

    def __init__(
        self, url: str, email: str, password: str, *, name: str | None = None, ca_file: str | Path | None = None
    ) -> None:
        check_url(url)
        self.url, self.email, self.name = url.rstrip("/"), email, name or url
        self._password, self._tls = password, tls_context(Path(ca_file) if ca_file else None)
        self._client: Any = None
        self._lock = threading.RLock()
        self._assets: dict[str, Any] = {}
        self._sent: dict[tuple[str, int, str], Any] = {}

    def __repr__(self) -> str:
        return f"<Datasite {self.name} at {self.url} as {self.email}>"

    def describe(self) -> dict[str, Any]:
        """Name, public key, datasets with their schemas, and budgets left: all public."""
        return dict(self._service("describe"))

    def quote(self, source: str, dataset: str) -> dict[str, Any]:
        """What the datasite's inspection finds in `source` and what it would cost; nothing is asked or charged."""
        return dict(self._service("quote", source=source, dataset=dataset))

    def submit(self, source: str, asset: str, purpose: str = "") -> str:
        """Ask for `source` on the dataset version `asset` with an ordinary code request; its identifier."""
        with self._calls() as client:
            request = client.code.request_code_execution(self._submission(client, source, asset), reason=purpose)
            return str(request.code_id)

    def requests(self) -> list[dict[str, Any]]:
        """The researcher's own code requests there."""
        return [dict(each) for each in self._service("requests")]

    def request_status(self, code: str) -> dict[str, Any]:
        """Status, the owner's comment and the rounds of a request."""
        return dict(self._service("request_status", code=code))

    def certificates(self, code: str) -> list[str]:
        """The signed certificates of a request's releases, as JSON texts."""
        return [str(each) for each in self._service("certificates", code=code)]

    def withdraw(self, code: str) -> dict[str, Any]:
        """Close a request; what no run has touched goes back to the budget."""
        return dict(self._service("withdraw", code=code) or {})

    def mock(self, asset: str) -> np.ndarray[Any, Any]:
        """The public stand-in of a dataset version, float64 [rows, 2 + columns]."""
        with self._calls() as client:
            return _array(self._asset(client, asset).mock)

    def run(
        self, code: str, asset: str, weights: Mapping[str, np.ndarray[Any, Any]] | None, round: int
    ) -> dict[str, Any]:
        """Call an approved request once: `{"status", "round", "release", "certificate"}`, at once, perhaps `running`.

        Calling again with the same weights costs nothing and answers with the stored release when there is one.
        """
        with self._calls() as client:
            kept = self._sent
            pointers = self._pointers(client, code, asset, weights, round)
            try:
                answer = client.api.services.code.call(uid=UID.from_string(code), **pointers)
            except SyftException:
                if self._sent is not kept:  # they were sent just now
                    raise
                self._sent = {}  # a datasite forgets uploads after a day: send them again, once
                pointers = self._pointers(client, code, asset, weights, round)
                answer = client.api.services.code.call(uid=UID.from_string(code), **pointers)
            plain = _plain(answer)
        if not isinstance(plain, dict) or "status" not in plain:
            raise Unavailable(f"{self.name} answered a call with {type(plain).__name__}, not with a status.")
        if plain.get("release") is not None:
            plain["release"] = {str(name): _array(value) for name, value in plain["release"].items()}
        return plain

    def _pointers(
        self, client: Any, code: str, asset: str, weights: Mapping[str, np.ndarray[Any, Any]] | None, round: int
    ) -> dict[str, Any]:
        """The call's arguments as syft sends them; kept, so that asking again does not send the weights again."""
        key = (code, round, digest(weights) if weights is not None else "")
        if key not in self._sent:
            values: dict[str, Any] = {"records": self._asset(client, asset), "round": round}
            if weights is not None:
                values["weights"] = {name: torch.from_numpy(value.copy()) for name, value in weights.items()}
            _, pointers = convert_to_pointers(api=client.api, server_uid=client.id, kwargs=values)
            self._sent = {key: pointers}  # a hospital is asked for one release at a time
        return dict(self._sent[key])

    def _submission(self, client: Any, source: str, asset: str) -> Any:
        """A syft code request made from text. `sy.syft_function` would need the text to be an importable function."""
        header = compile(source, "<request>", "exec", dont_inherit=True).co_consts[0]
        parameters = header.co_varnames[: header.co_argcount]
        declared: dict[str, Any] = {"records": self._asset(client, asset), "weights": dict, "round": int}
        policy = syft.MixedInputPolicy(client=client, **{name: declared[name] for name in parameters})
        output = OutputPolicyExecuteCount(limit=SYFT_LIMIT)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return SubmitUserCode(
            code=source,
            func_name=header.co_name,
            signature=inspect.Signature([inspect.Parameter(name, kind) for name in parameters]),
            input_policy_type=type(policy),
            input_policy_init_kwargs=policy.init_kwargs,
            output_policy_type=type(output),
            output_policy_init_kwargs=output.init_kwargs,
            input_kwargs=list(parameters),
        )

    def _asset(self, client: Any, asset: str) -> Any:
        if asset not in self._assets:
            for dataset in client.datasets:
                for each in dataset.asset_list:
                    self._assets[str(each.id)] = self._assets[str(each.action_id)] = each
        if asset not in self._assets:
            raise InvalidRequest(
                f"{self.name} no longer offers the dataset version {asset}. Connect again and make a new study."
            )
        return self._assets[asset]

    def _service(self, method: str, **arguments: Any) -> Any:
        with self._calls() as client:
            return _plain(getattr(client.api.services.datasite, method)(**arguments))

    @contextlib.contextmanager
    def _calls(self) -> Iterator[Any]:
        """A logged-in client, one call at a time, with syft's and the network's errors turned into ours."""
        with self._lock, self._translated():
            if self._client is None:
                self._client = self._login()
            yield self._client

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DatasiteError:
            raise
        except SyftException as error:
            raise PermissionRefused(f"{self.name}: {error.public_message}") from None
        except requests.exceptions.SSLError as error:
            self._client = None
            raise PermissionRefused(
                f"{self.name}: the TLS certificate of {self.url} was not accepted ({_reason(error)}). "
                "Name the hospital's authority as ca_file in network.toml."
            ) from None
        except requests.exceptions.ConnectionError as error:
            self._client = None
            raise Unavailable(
                f"{self.name} at {self.url} does not answer ({_reason(error)}). Is it running? Is the address right?"
            ) from None
        except requests.exceptions.RequestException as error:
            raise Unavailable(f"{self.name} at {self.url}: {type(error).__name__}. Try again.") from None

    def _login(self) -> Any:
        with _logins, contextlib.redirect_stdout(io.StringIO()):
            session = Session(self._tls)
            # One plain request first: syft retries a refused connection for seconds and then hides why it failed.
            answer = session.get(f"{self.url}/api/v2/metadata", timeout=CONNECT_SECONDS)
            if answer.status_code != 200:
                raise Unavailable(
                    f"{self.name} at {self.url} answered with status {answer.status_code}: this is not a datasite."
                )
            connection = _Connection(url=_Address.of(self.url), session_cache=session)
            client = DatasiteClient(connection=connection)
            try:
                return client.login(email=self.email, password=self._password, cache=False)
            except SyftException:
                raise PermissionRefused(
                    f"{self.name} at {self.url} does not accept {self.email} with this password. "
                    "Check the password file named in network.toml, or ask the hospital for a new password."
                ) from None


def _reason(error: BaseException) -> str:
    """A network error in a few words, without the address and the object dump that requests puts in."""
    text = str(error)
    known: dict[str, Callable[[str], bool]] = {
        "connection refused": lambda each: "refused" in each,
        "no such host": lambda each: "resolve" in each or "Name or service" in each,
        "timed out": lambda each: "timed out" in each.lower(),
        "its authority is not known": lambda each: (
            "self-signed" in each or "unable to get" in each or "signature" in each
        ),
        "it is for another host name": lambda each: "doesn't match" in each or "not valid for" in each,
        "it has expired": lambda each: "expired" in each,
        "TLS was not answered": lambda each: "WRONG_VERSION" in each,
    }
    return next((words for words, matches in known.items() if matches(text)), type(error).__name__)


def _plain(answer: Any) -> Any:
    """What an action object stands for. Its own `get()` asks once more than needed, and warns on standard output."""
    return answer.refresh_object().syft_action_data if isinstance(answer, ActionObject) else answer


def _array(value: Any) -> np.ndarray[Any, Any]:
    plain = getattr(value, "syft_action_data", value)
    return plain.detach().cpu().numpy() if isinstance(plain, torch.Tensor) else np.asarray(plain)
