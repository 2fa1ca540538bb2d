"""A small hospital in this process that speaks a datasite's protocol over real HTTP, and lies where a payload says so.

Left alone it is honest: it quotes the plan that a real datasite would, releases made-up tensors of the planned shapes
with signed certificates, and keeps to what it said. A payload changes one thing: a value before it is signed, the bytes
of an answer, or the whole of a response.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import syft.serde.recursive as recursive
import syft.serde.recursive_primitives as primitives
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from syft.serde.deserialize import _deserialize
from syft.serde.serialize import _serialize
from syft.server.credentials import SyftSigningKey
from syft.types.uid import UID

from policies.graph.exporter import export_source
from policies.graph.graphs import Graph
from policies.privacy.accountant import resolve
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import DPSGD
from policies.release.certificates import make_certificate, sign
from policies.release.compression import DOUBLINGS, compress, packed, widened
from policies.release.plans import Plan, Published, release_shapes
from policies.release.tensors import digest
from policies.schema.schemas import Schema
from policies.source.inspection import inspect_source
from researcher.parameters import DRAWING
from tests.factories import RESEARCHER, SCHEMA

Change = Callable[[Any], Any]
Respond = Callable[[BaseHTTPRequestHandler], None]


# -- PySyft's wire format, written by hand so that anything can stand anywhere ----------------------------------------


@dataclass(frozen=True)
class Raw:
    """Bytes that stand for an object as they are."""

    content: bytes


@dataclass(frozen=True)
class Made:
    """An object of a class of PySyft's, by its name and fields."""

    name: str
    fields: dict[str, Any]


def named(name: str, content: bytes) -> bytes:
    """An object that is one blob."""
    message = recursive.recursive_scheme.new_message()
    message.canonicalName, message.version = name, 1
    message.init("nonrecursiveBlob", 1)[0] = content
    return bytes(message.to_bytes())


def wire(value: Any) -> bytes:
    """A value as PySyft writes it."""
    if isinstance(value, Raw):
        return value.content
    if isinstance(value, Made):
        return _record(value)
    if isinstance(value, dict):
        return named("dict", _pairs(value))
    if isinstance(value, list | tuple):
        message = primitives.iterable_schema.new_message()
        values = message.init("values", len(value))
        for index, item in enumerate(value):
            values.init(index, 1)[0] = wire(item)
        return named(type(value).__name__, bytes(message.to_bytes()))
    return bytes(_serialize(value, to_bytes=True))


def _record(value: Made) -> bytes:
    message = recursive.recursive_scheme.new_message()
    message.canonicalName, message.version = value.name, 1
    names, data = message.init("fieldsName", len(value.fields)), message.init("fieldsData", len(value.fields))
    for index, (name, field) in enumerate(value.fields.items()):
        names[index] = name
        data.init(index, 1)[0] = wire(field)
    return bytes(message.to_bytes())


def _pairs(value: dict[Any, Any]) -> bytes:
    message = primitives.kv_iterable_schema.new_message()
    keys, values = message.init("keys", len(value)), message.init("values", len(value))
    for index, (key, item) in enumerate(value.items()):
        keys[index] = wire(key)
        values.init(index, 1)[0] = wire(item)
    return bytes(message.to_bytes())


# -- the hospital -----------------------------------------------------------------------------------------------------

_GRAPHS: dict[str, Graph] = {}  # by source: exporting takes its time, and all hospitals come to the same


class Hospital:
    """One hospital on loopback.

    A payload sets:
      values: by path, what becomes of the value in a signed answer (of a call, of `login`, of `metadata`);
      contents: by path, what becomes of an answer's bytes;
      responds: by path, who writes the whole HTTP response instead;
      certificate, tensors, plan, recorded_plan: what becomes of those.
    """

    def __init__(self) -> None:
        self.schema = Schema.from_toml(SCHEMA)
        self.published = Published("flu", secrets.token_hex(8), "patients", self.schema, 400, "declared")
        self.asset, self.id = UID().hex, UID().hex
        self.syft_key, self.researcher_key = SyftSigningKey.generate(), SyftSigningKey.generate()
        self.signs_answers = self.syft_key
        self.key = self.signs_certificates = Ed25519PrivateKey.generate()
        self.values: dict[str, Change] = {}
        self.contents: dict[str, Change] = {}
        self.responds: dict[str, Respond] = {}
        self.certificate: Change = lambda content: content
        self.tensors: Change = lambda tensors: tensors
        self.plan: Change = lambda plan: plan
        self.recorded_plan: Change = lambda plan: plan
        self.asked: list[str] = []
        self.codes: dict[str, Plan] = {}
        self.under_way: dict[tuple[str, int, str], dict[str, Any]] = {}
        self._start()

    def _start(self) -> None:
        hospital = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hospital.respond(self, b"")

            def do_POST(self) -> None:
                hospital.respond(self, self.rfile.read(int(self.headers["content-length"])))

            def log_message(self, *_: object) -> None:
                """Nothing on standard error."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that hangs up in the middle is what many payloads are for."""

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def respond(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request, with the payload's changes."""
        path, call = handler.path.removeprefix("/api/v2/"), None
        if path == "api_call":
            call = _deserialize(_deserialize(body, from_bytes=True).serialized_message, from_bytes=True)
            path = call.path
        self.asked.append(path)
        if path in self.responds:
            self.responds[path](handler)
            return
        if path == "metadata":
            about = {"id": self.id, "name": "General", "verify_key": bytes(self.syft_key.verify_key.verify_key).hex()}
            content = json.dumps(self._value(path, about)).encode()
        elif path == "login":
            key = Made("SyftSigningKey", {"signing_key": self.researcher_key.signing_key})
            content = wire(self._value(path, Made("UserPrivateKey", {"email": RESEARCHER, "signing_key": key})))
        else:
            assert call is not None, path
            content = self._signed(self._value(path, self._answer(path, call.kwargs)))
        content = self.contents.get(path, lambda unchanged: unchanged)(content)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def _value(self, path: str, value: Any) -> Any:
        return self.values.get(path, lambda unchanged: unchanged)(value)

    def _signed(self, value: Any) -> bytes:
        done = value
        if not (isinstance(value, Made) and value.name == "SyftError"):
            done = Made("SyftSuccess", {"message": "", "value": value})
        signed = self.signs_answers.signing_key.sign(wire(Made("SyftAPIData", {"data": done})))
        fields = {
            "credentials": self.signs_answers.verify_key,
            "serialized_message": bytes(signed.message),
            "signature": bytes(signed.signature),
        }
        return wire(Made("SignedSyftAPICall", fields))

    # -- what an honest hospital answers

    def _answer(self, path: str, given: dict[str, Any]) -> Any:
        answers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "datasite.describe": lambda _: self.described(),
            "datasite.quote": self._quote,
            "datasite.requests": lambda _: [],
            "datasite.request_status": self._status,
            "datasite.withdraw": self._status,
            "datasite.comments": lambda _: [{"at": "2026-11-25T20:00:00", "from": "data owner", "text": "Good."}],
            "datasite.certificates": lambda _: [],
            "code.request_code_execution": self._submit,
            "code.call": self._call,
            "blob_storage.read": lambda _: Made("SyftObjectRetrieval", {"syft_object": b""}),
            "action.get_mock": lambda _: Made(
                "NumpyArrayObject", {"syft_action_data_cache": np.zeros((3, 7)), "syft_blob_storage_entry_id": None}
            ),
        }  # fmt: skip
        return answers[path](given)

    def described(self) -> dict[str, Any]:
        """What an honest hospital says of itself."""
        dataset = {
            "name": "flu",
            "version": self.published.version,
            "population": "patients",
            "schema": json.loads(json.dumps(self.schema.as_dict())),
            "patients": 400,
            "size_kind": "declared",
            "asset": self.asset,
        }
        budget = {"epsilon": 6.0, "delta": 1e-5, "epsilon_spent": 0.0, "epsilon_remaining": 6.0}
        key = self.key.public_key().public_bytes_raw().hex()
        return {"name": "General", "public_key": key, "datasets": [dataset], "budgets": {"patients": budget}}

    def _plan(self, source: str) -> Plan:
        inspection = inspect_source(source)
        with DRAWING:  # the researcher's own export may be under way in this process, and torch has one at a time
            if source not in _GRAPHS and inspection.model is not None:
                shape = self.schema.input_shape(inspection.mechanism.inputs)
                _GRAPHS[source], _ = export_source(str(inspection.model_source), str(inspection.model), shape)
        return Plan(
            function=inspection.function,
            mechanism=resolve(inspection.mechanism),
            model=inspection.model,
            graph=_GRAPHS.get(source),
            source_sha256=hashlib.sha256(source.encode()).hexdigest(),
            dataset="flu",
            version=self.published.version,
            declared=inspection.mechanism,
        )

    def _quote(self, given: dict[str, Any]) -> dict[str, Any]:
        plan = self.plan(self._plan(given["source"]))
        cost = {
            "epsilon": 2.0, "delta": 1e-5, "rounds": plan.rounds, "noise_multiplier": 1.0, "spent_before": 0.0,
            "spent_after": 2.0, "budget": 6.0, "fits": True, "short": 0.0,
        }  # fmt: skip
        return {
            "accepted": True,
            "findings": [],
            "plan": json.loads(json.dumps(plan.as_dict())),
            "plan_digest": plan.digest,
            "cost": cost,
        }

    def _submit(self, given: dict[str, Any]) -> Made:
        code = UID().hex
        self.codes[code] = self._plan(given["code"].code)
        link = Made("LinkedObject", {"object_uid": UID(code)})
        return Made("Request", {"changes": [Made("UserCodeStatusChange", {"linked_user_code": link})]})

    def _status(self, given: dict[str, Any]) -> dict[str, Any]:
        plan = self.recorded_plan(self.codes[given["code"]])
        return {"status": "approved", "comment": "Good.", "rounds": [], "expires": None, "plan_digest": plan.digest}

    def _call(self, given: dict[str, Any]) -> dict[str, Any]:
        code, round_number = given["uid"].hex, given["round"]
        if "weights_digest" in given:
            answer = self.under_way[code, round_number, given["weights_digest"]]
            return dict(self._value("release", answer))
        weights = widened({name: value.numpy() for name, value in given.get("weights", {}).items()})
        self.under_way[code, round_number, digest(weights)] = self._released(code, round_number, weights)
        return {"status": "running", "round": round_number, "release": None, "certificate": None, "shows_in": 0.02}

    def _released(self, code: str, round_number: int, weights: dict[str, Any]) -> dict[str, Any]:
        plan = self.codes[code]
        trained = {name: value + np.float32(0.5) for name, value in weights.items()} or self._analysed(plan)
        if isinstance(plan.mechanism, DPSGD) and plan.mechanism.compression != "none":
            trained = compress(trained, weights, plan.mechanism, self.published.training_patients, round_number)
        release = self.tensors(trained)
        content = make_certificate(
            plan=plan,
            published=self.published,
            datasite="General",
            request=code,
            researcher=RESEARCHER,
            round_number=round_number,
            tensors={name: (value.shape, value.dtype.name) for name, value in release.items()},
            release_digest=digest(release),
            weights_digest=digest(weights),
            order=5,
            budget=PrivacyBudget(6.0, 1e-5),
            entry=7,
            head="0" * 64,
            protections={"no_network": True},
            issued_at="2026-11-25T20:00:00+00:00",
        )
        assert set(release_shapes(plan, self.schema)) == set(trained)
        return {
            "status": "released",
            "round": round_number,
            "release": {
                name: torch.from_numpy(value.copy())
                for name, value in (packed(release) if DOUBLINGS in release else release).items()
            },
            "certificate": sign(self.certificate(content), self.signs_certificates),
        }

    def _analysed(self, plan: Plan) -> dict[str, Any]:
        """What an analysis without a model releases: thirty patients in each cell, or sums that tell coefficients."""
        made = {name: np.full(shape, 30.0) for name, (shape, _) in release_shapes(plan, self.schema).items()}
        if "turn" in made:
            size = len(made["start"])
            made |= {"start": np.zeros(size), "turn": np.eye(size), "information": 300 * np.eye(size)}
            made |= {"noise": np.array([1.0, 1.0, 1.0]), "patients": np.array([400.0])}
        return made
