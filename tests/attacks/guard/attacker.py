"""What an attacker has: HTTP, PySyft's own classes, and perhaps an account. Nothing of ours is imported here."""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import syft as sy
from syft.client.api import ServerIdentity, SyftAPICall
from syft.serde.deserialize import _deserialize
from syft.serde.serialize import _serialize
from syft.server.credentials import SyftSigningKey, SyftVerifyKey
from syft.service.code.user_code import SubmitUserCode
from syft.service.policy.policy import Matches, UserOwned
from syft.service.response import SyftError
from syft.types.uid import UID

PASSWORD = "only for these tests"
RESEARCHER, OTHER, OWNER = "researcher@university.example", "other@university.example", "owner@hospital.example"
SECONDS = 30


class Refusal(Exception):
    """The server answered with an error: its text, and the status of HTTP."""

    def __init__(self, text: str, status: int = 200, trace: str = "") -> None:
        super().__init__(text)
        self.text, self.status, self.trace = text, status, trace


@dataclass
class Site:
    """A server under attack.

    Args:
      name: `"stock"` or `"ours"`.
      directory: where its files lie; read only to learn identifiers that an attacker may have come by.
    """

    name: str
    url: str
    directory: Path
    keys: dict[str, SyftSigningKey] = field(default_factory=dict)
    id: UID | None = None

    @property
    def is_stock(self) -> bool:
        return self.name == "stock"

    def http(self, method: str, path: str, **options: Any) -> requests.Response:
        """One HTTP request below `/api/v2`."""
        return requests.request(method, f"{self.url}/api/v2{path}", timeout=SECONDS, **options)

    def login(self, email: str, password: str = PASSWORD) -> Any:
        """What `/login` answers: an account with its private key, or raises `Refusal`."""
        answer = self.http("POST", "/login", json={"email": email, "password": password})
        return _value(answer)

    def key(self, who: str) -> SyftSigningKey:
        """The key of an account; a fresh one for nobody's."""
        if who not in self.keys:
            self.keys[who] = self.login(who).signing_key if "@" in who else SyftSigningKey.generate()
        return self.keys[who]

    def server_id(self) -> UID:
        if self.id is None:
            self.id = UID(self.http("GET", "/metadata").json()["id"])
        return self.id

    def identity(self) -> ServerIdentity:
        """The server as policies name it."""
        public = self.http("GET", "/metadata").json()
        key = SyftVerifyKey.from_string(public["verify_key"])
        return ServerIdentity(server_name=public["name"], server_id=self.server_id(), verify_key=key)

    def signed(
        self, who: str, path: str, /, *args: Any, server_uid: UID | None = None, blocking: bool = True, **kwargs: Any
    ) -> bytes:
        """A signed call as bytes."""
        call = SyftAPICall(
            server_uid=server_uid or self.server_id(), path=path, args=list(args), kwargs=kwargs, blocking=blocking
        )
        return bytes(_serialize(call.sign(self.key(who)), to_bytes=True))

    def send(self, data: bytes) -> Any:
        """The value that a call answers with, or raises `Refusal`."""
        answer = self.http("POST", "/api_call", data=data)
        if answer.status_code != 200:
            raise Refusal(answer.text, answer.status_code)
        return _unwrapped(_deserialize(answer.content, from_bytes=True).message.data)

    def call(self, who: str, path: str, /, *args: Any, **options: Any) -> Any:
        """A raw signed call."""
        return self.send(self.signed(who, path, *args, **options))

    def succeeds(self, who: str, path: str, /, *args: Any, **options: Any) -> bool:
        """Whether a raw signed call is answered with a value."""
        try:
            self.call(who, path, *args, **options)
        except Refusal:
            return False
        return True

    def asset(self) -> Any:
        """The `records` asset, as the catalogue shows it to a researcher."""
        return self.call(RESEARCHER, "dataset.get_all")[-1].asset_list[0]

    def private_blob(self) -> UID:
        """The identifier of the private table's blob. Random; an attacker may have it from a log or a backup."""
        largest = max((self.directory / "blobs").iterdir(), key=lambda each: each.stat().st_size)
        return UID(largest.name)

    def submission(self, source: str, **changes: Any) -> SubmitUserCode:
        """A code request on the asset, with any field changed."""
        name = source.split("(")[0].split()[-1]
        parameters = [each.strip() for each in source.split("(")[1].split(")")[0].split(",")]
        rules = {
            "records": Matches(kw="records", val=self.asset().action_id),
            "weights": UserOwned(kw="weights", type=dict),
            "round": UserOwned(kw="round", type=int),
        }
        bound = {self.identity(): {each: rules[each] for each in parameters if each in rules}}
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        values = {
            "code": source,
            "func_name": name,
            "signature": inspect.Signature([inspect.Parameter(each, kind) for each in parameters]),
            "input_policy_type": sy.MixedInputPolicy,
            "input_policy_init_kwargs": bound,
            "output_policy_type": sy.SingleExecutionExactOutput,
            "output_policy_init_kwargs": {},
            "input_kwargs": parameters,
        }
        return SubmitUserCode(**{**values, **changes})


def _value(answer: requests.Response) -> Any:
    if answer.status_code != 200:
        raise Refusal(answer.text, answer.status_code)
    return _unwrapped(_deserialize(answer.content, from_bytes=True))


def _unwrapped(result: Any) -> Any:
    if isinstance(result, SyftError):
        raise Refusal(result.message, trace=result.tb or "")
    return getattr(result, "value", result)


def wait_for(condition: Any, seconds: float = 5) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())
