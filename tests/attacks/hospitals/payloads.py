"""What hostile hospitals try on a researcher's machine: one function a payload, with what must happen.

Each takes a `Hospital` that is honest so far and a `Target`, and spoils one thing. Afterwards a researcher's whole day
is driven against it (`driving.whole_day`), and what was shown must match `must`. For every payload the day ends in
time, the target's mark is not made, no other server is asked, no file is written outside the study's directories, and
nothing that acts on a terminal is shown.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from syft.server.credentials import SyftSigningKey
from syft.types.uid import UID

from policies.graph.graphs import Graph
from policies.privacy.accountant import resolve
from policies.release.plans import Plan
from researcher.answers import MOST_OBJECTS
from tests.attacks.hospitals.hospital import Hospital, Made, Raw, Respond, named, wire

TITLES = {
    "rebuilt": "classes that act when they are built",
    "bytes": "bytes that break or grow",
    "transport": "slow, endless, packed or elsewhere",
    "lies": "another release, plan or key",
    "text": "text that acts on the screen",
    "shapes": "answers of another shape",
}


@dataclass(frozen=True)
class Target:
    """What payloads aim at.

    Args:
      mark: a file that a command would make.
      elsewhere: a server on this machine that nobody should ask.
      seconds: how long an answer may take in this test.
    """

    mark: Path
    elsewhere: str
    seconds: float


@dataclass(frozen=True)
class Payload:
    """One thing that a hospital tries.

    Args:
      must: a pattern that what the researcher sees has to match.
      days: how often the researcher comes; what is spoiled is spoiled before the last.
      asks: what the researcher asks for: a training, one in whole numbers, or analyses without a model.
    """

    category: str
    name: str
    tries: str
    must: str
    spoil: Callable[[Hospital, Target], None] = field(repr=False)
    days: int = 1
    asks: str = "training"

    @property
    def id(self) -> str:
        return f"{self.category}/{self.name}"


PAYLOADS: dict[str, Payload] = {}


def payload(
    category: str, tries: str, must: str, *, days: int = 1, asks: str = "training"
) -> Callable[[Callable[[Hospital, Target], None]], Callable[[Hospital, Target], None]]:
    """Put the decorated function into the corpus under its name."""

    def kept(spoil: Callable[[Hospital, Target], None]) -> Callable[[Hospital, Target], None]:
        made = Payload(category, spoil.__name__, tries, must, spoil, days, asks)
        assert made.id not in PAYLOADS
        PAYLOADS[made.id] = made
        return spoil

    return kept


# -- classes that act when they are built -----------------------------------------------------------------------------

MAY_NOT = "may not carry '{}'"
ALIAS = MAY_NOT.format("_GenericAlias")


def command(target: Target) -> Raw:
    """A type alias whose origin is `os.system`: PySyft's reader runs a command when it rebuilds it."""
    parts = {"path": "os.system", "command": f"touch {target.mark}"}
    return Raw(named("_GenericAlias", wire(parts)))


@payload("rebuilt", "Run a command by the whole answer to the sign-in.", ALIAS)
def login(hospital: Hospital, target: Target) -> None:
    hospital.values["login"] = lambda _: command(target)


@payload(
    "rebuilt", "Run a command by the signing key inside the answer to the sign-in.", MAY_NOT.format("_GenericAlias")
)
def login_key(hospital: Hospital, target: Target) -> None:
    hospital.values["login"] = lambda _: Made("UserPrivateKey", {"email": "a", "signing_key": command(target)})


@payload("rebuilt", "Run a command by what stands in the place of the public description.", "this is not a datasite")
def metadata(hospital: Hospital, target: Target) -> None:
    hospital.contents["metadata"] = lambda _: command(target).content


@payload("rebuilt", "Run a command by the answer to a call.", ALIAS)
def description(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.describe"] = lambda _: command(target)


@payload("rebuilt", "Run a command by a key deep inside a schema.", ALIAS)
def schema_key(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.describe"] = lambda told: {**told, "budgets": {"a": [{"b": {"c": command(target)}}]}}


@payload("rebuilt", "Run a command by the mock of a dataset.", ALIAS)
def mock(hospital: Hospital, target: Target) -> None:
    hospital.values["action.get_mock"] = lambda _: Made("NumpyArrayObject", {"syft_action_data_cache": command(target)})


@payload("rebuilt", "Run a command by a finding in a quote.", ALIAS)
def quote(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.quote"] = lambda told: {**told, "findings": [{"why": command(target)}]}


@payload("rebuilt", "Run a command by what a quote says of the engine.", ALIAS)
def engine(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.quote"] = lambda told: {**told, "engine": {"lanes": False, "why": command(target)}}


@payload("rebuilt", "Run a command by the request that a submission is answered with.", ALIAS)
def submission(hospital: Hospital, target: Target) -> None:
    hospital.values["code.request_code_execution"] = lambda _: Made("Request", {"changes": [command(target)]})


@payload("rebuilt", "Run a command by an owner's comment.", ALIAS)
def status(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.request_status"] = lambda told: {**told, "comment": command(target)}


@payload("rebuilt", "Run a command by the answer to a round.", ALIAS)
def round_answer(hospital: Hospital, target: Target) -> None:
    hospital.values["code.call"] = lambda _: Made("AnyActionObject", {"syft_action_data_cache": command(target)})


@payload(
    "rebuilt", "Run a command by bytes inside bytes: the blob that holds a release.", MAY_NOT.format("_GenericAlias")
)
def blob(hospital: Hospital, target: Target) -> None:
    pointer = {"syft_action_data_cache": None, "syft_blob_storage_entry_id": UID()}
    hospital.values["code.call"] = lambda _: Made("AnyActionObject", pointer)
    hospital.values["blob_storage.read"] = lambda _: Made(
        "SyftObjectRetrieval", {"syft_object": command(target).content}
    )


@payload("rebuilt", "Run a command by a refusal's message.", ALIAS)
def refusal(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.describe"] = lambda _: Made("SyftError", {"message": command(target)})


@payload("rebuilt", "Have a policy written by the hospital compiled here.", MAY_NOT.format("SubmitUserPolicy"))
def policy(hospital: Hospital, target: Target) -> None:
    code = {"code": f"import os\nos.system('touch {target.mark}')", "class_name": "P"}
    hospital.values["datasite.describe"] = lambda _: Made("SubmitUserPolicy", code)


@payload("rebuilt", "Name a class of this process.", MAY_NOT.format("type"))
def class_by_name(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.quote"] = lambda told: {**told, "cost": Raw(named("type", b"SyftSigningKey:1"))}


@payload("rebuilt", "Have a table read by a library with parsers of its own.", MAY_NOT.format("pandas_DataFrame"))
def dataframe(hospital: Hospital, target: Target) -> None:
    hospital.values["action.get_mock"] = lambda _: Raw(named("pandas_DataFrame", b"PAR1"))


# -- bytes that break or grow -----------------------------------------------------------------------------------------


@payload("bytes", "Send no message at all.", "sent what no datasite sends")
def noise(hospital: Hospital, target: Target) -> None:
    hospital.contents["datasite.describe"] = lambda _: b"\xff" * 4096


@payload("bytes", "Nest lists deeper than a reader can follow.", "too large or too deep|sent what no datasite sends")
def depth(hospital: Hospital, target: Target) -> None:
    def deep(_: Any) -> Raw:
        inner = Raw(wire(None))
        for _level in range(100):
            inner = Raw(wire([inner]))
        return inner

    hospital.values["datasite.describe"] = deep


@payload("bytes", "Send a list of more objects than a machine likes to make.", "too large or too deep")
def number(hospital: Hospital, target: Target) -> None:
    enormous = Raw(
        wire([None] * (MOST_OBJECTS + 1))
    )  # written before memory is counted: it is the researcher's that counts
    hospital.values["datasite.describe"] = lambda _: enormous


@payload("bytes", "Announce an array of a terabyte in a few bytes.", "array of this answer is too large")
def announced(hospital: Hospital, target: Target) -> None:
    array = Raw(named("numpy_ndarray", wire((b"few", 1 << 40, "float64"))))
    hospital.values["action.get_mock"] = lambda _: Made("NumpyArrayObject", {"syft_action_data_cache": array})


@payload("bytes", "Pack a gigabyte of zeros into an array of some kilobytes.", "array of this answer is too large")
def packed_array(hospital: Hospital, target: Target) -> None:
    import pyarrow as pa

    size = (256 << 20) + 8
    packed = pa.compress(bytes(size), codec="zstd", asbytes=True)
    array = Raw(named("numpy_ndarray", wire((packed, size, "float64"))))
    hospital.values["action.get_mock"] = lambda _: Made("NumpyArrayObject", {"syft_action_data_cache": array})


@payload(
    "bytes",
    "Pack a gigabyte of zeros into the whole numbers of a compressed release.",
    "array of this answer is too large",
    asks="int8",
)
def packed_release(hospital: Hospital, target: Target) -> None:
    import pyarrow as pa

    size = (1 << 30) + 8
    packed = pa.compress(bytes(size), codec="zstd", asbytes=True)
    bomb = Raw(named("torch_tensor", wire((packed, size, "int8"))))
    told = {"status": "released", "round": 1, "certificate": "{}"}
    hospital.values["code.call"] = lambda _: {**told, "release": {"output.weight": bomb}}


@payload(
    "lies",
    "Double the grid of a compressed release past all numbers.",
    "a grid that was doubled 16384 times",
    asks="int8",
)
def doubled_grid(hospital: Hospital, target: Target) -> None:
    from policies.release.compression import DOUBLINGS

    hospital.tensors = lambda told: {**told, DOUBLINGS: np.full_like(told[DOUBLINGS], 2**14)}


@payload(
    "lies",
    "Send fewer packed bytes than the weights take.",
    "A compressed release of 5 numbers is other bytes than these",
    asks="int4",
)
def cut_off(hospital: Hospital, target: Target) -> None:
    from policies.release.compression import PACKED

    def shorter(told: dict[str, Any]) -> dict[str, Any]:
        release = told["release"]
        return told if release is None else {**told, "release": {PACKED: release[PACKED][:-1]}}

    hospital.values["code.call"] = shorter


@payload(
    "lies",
    "Send weights in full where whole numbers were approved.",
    "is not the one asked for, and it was not kept",
    asks="int4",
)
def uncompressed(hospital: Hospital, target: Target) -> None:
    from policies.release.compression import DOUBLINGS

    hospital.tensors = lambda told: {
        name: value.astype(np.float32) for name, value in told.items() if name != DOUBLINGS
    }


@payload("bytes", "Send an array of objects, which would be unpickled.", "not of numbers")
def objects(hospital: Hospital, target: Target) -> None:
    array = Raw(named("numpy_ndarray", wire((b"", 8, "object"))))
    hospital.values["action.get_mock"] = lambda _: Made("NumpyArrayObject", {"syft_action_data_cache": array})


@payload("bytes", "Send a number of a million digits.", "number of this answer is too long")
def long_number(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.describe"] = lambda told: {**told, "datasets": [10**400_000]}


@payload("bytes", "Give a signing key of another length.", "no key to sign with")
def short_key(hospital: Hospital, target: Target) -> None:
    key = Made("SyftSigningKey", {"signing_key": b"short"})
    hospital.values["login"] = lambda _: Made("UserPrivateKey", {"email": "a", "signing_key": key})


@payload("bytes", "Answer with a call's envelope that nobody signed.", "did not sign")
def unsigned(hospital: Hospital, target: Target) -> None:
    def zeroed(content: bytes) -> bytes:
        assert content
        fields = {
            "credentials": hospital.syft_key.verify_key,
            "serialized_message": wire(Made("SyftAPIData", {"data": command(target)})),
            "signature": bytes(64),
        }
        return wire(Made("SignedSyftAPICall", fields))

    hospital.contents["datasite.describe"] = zeroed


# -- slow, endless, packed or elsewhere -------------------------------------------------------------------------------


def answering(*headers: tuple[str, str], body: Callable[[], Any] = lambda: (), status: int = 200) -> Respond:
    """A response by hand: its headers, then pieces of a body for as long as the other side listens."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        for piece in body():
            handler.wfile.write(piece)
            handler.wfile.flush()

    return respond


def drops() -> Any:
    """A byte now and then, for longer than a day may take."""
    for _ in range(200):
        yield b"a"
        time.sleep(0.2)


def floods() -> Any:
    """Half a gigabyte, which is more than a day may take of memory."""
    for _ in range(512):
        yield bytes(1 << 20)


@payload("transport", "Pack the description so that it unpacks to half a gigabyte.", "sends a compressed answer")
def gzipped(hospital: Hospital, target: Target) -> None:
    packed = gzip.compress(bytes(1 << 29), compresslevel=1)
    headers = (("Content-Encoding", "gzip"), ("Content-Length", str(len(packed))))
    hospital.responds["metadata"] = answering(*headers, body=lambda: [packed])


@payload("transport", "Pack the page that a redirect comes with, which libraries read on the way.", "not followed")
def gzipped_redirect(hospital: Hospital, target: Target) -> None:
    packed = gzip.compress(bytes(1 << 29), compresslevel=1)
    headers = (
        ("Location", f"{target.elsewhere}/x"),
        ("Content-Encoding", "gzip"),
        ("Content-Length", str(len(packed))),
    )
    hospital.responds["metadata"] = answering(*headers, body=lambda: [packed], status=307)


@payload("transport", "Send the password's request on to another server.", "not followed")
def redirect(hospital: Hospital, target: Target) -> None:
    headers = (("Location", f"{target.elsewhere}/api/v2/login"), ("Content-Length", "0"))
    hospital.responds["login"] = answering(*headers, status=307)


@payload("transport", "Send a public description without an end.", "sends more than the 65,536 bytes")
def endless(hospital: Hospital, target: Target) -> None:
    hospital.responds["metadata"] = answering(body=floods)


@payload("transport", "Send an answer to a call without an end.", r"sends more than the [\d,]+ bytes")
def endless_call(hospital: Hospital, target: Target) -> None:
    hospital.responds["datasite.describe"] = answering(body=floods)


@payload("transport", "Announce ten gigabytes and begin to send them.", r"sends more than the [\d,]+ bytes")
def announced_body(hospital: Hospital, target: Target) -> None:
    body = answering(("Content-Length", str(10 << 30)), body=floods)
    hospital.responds["login"] = body


@payload("transport", "Send the answer to the sign-in a byte at a time, for ever.", "did not answer within")
def dripping_login(hospital: Hospital, target: Target) -> None:
    hospital.responds["login"] = answering(("Content-Length", "100000"), body=drops)


@payload(
    "transport",
    "Send the answer to a round a byte at a time: no deadline of a round counts then.",
    "left out|0 of the 1",
)
def dripping_round(hospital: Hospital, target: Target) -> None:
    hospital.responds["code.call"] = answering(("Content-Length", "100000"), body=drops)


@payload("transport", "Send headers a byte at a time, for ever.", "did not answer within")
def dripping_headers(hospital: Hospital, target: Target) -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        for piece in drops():
            handler.wfile.write(piece)

    hospital.responds["metadata"] = respond


@payload("transport", "Say that the answer goes on, for ever.", "did not answer within")
def going_on(hospital: Hospital, target: Target) -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        for _ in drops():
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    hospital.responds["metadata"] = respond


@payload("transport", "Take the question and say nothing.", "did not answer within|timed out")
def silence(hospital: Hospital, target: Target) -> None:
    hospital.responds["datasite.describe"] = lambda _: time.sleep(target.seconds + 1)


@payload("transport", "Hang up in the middle of an answer.", "does not answer")
def cut(hospital: Hospital, target: Target) -> None:
    hospital.responds["datasite.describe"] = answering(("Content-Length", "1000"), body=lambda: [b"a"])


# -- another release, plan or key -------------------------------------------------------------------------------------

NOT_ASKED = "not the one asked for.*{}"


def certified(**changes: Any) -> Callable[[Any], Any]:
    """A certificate that is signed as it should be, and says something else in some fields."""
    return lambda content: {**content, **changes}


@payload("lies", "Pass the release of another round.", NOT_ASKED.format("round"))
def other_round(hospital: Hospital, target: Target) -> None:
    hospital.certificate = certified(round=2)


@payload("lies", "Pass the release of another request.", NOT_ASKED.format("request"))
def other_request(hospital: Hospital, target: Target) -> None:
    hospital.certificate = certified(request="0" * 32)


@payload("lies", "Pass the release of another function.", NOT_ASKED.format("function"))
def other_function(hospital: Hospital, target: Target) -> None:
    hospital.certificate = certified(function="larger")


@payload("lies", "Pass a release that began from other weights.", NOT_ASKED.format("weights_digest"))
def other_weights(hospital: Hospital, target: Target) -> None:
    hospital.certificate = certified(weights_digest="1" * 64)


@payload("lies", "Pass a release of another plan.", NOT_ASKED.format("plan_digest"))
def other_plan(hospital: Hospital, target: Target) -> None:
    hospital.certificate = certified(plan_digest="1" * 64)


@payload("lies", "Pass a release of another model's graph.", NOT_ASKED.format("graph_digest"))
def other_graph(hospital: Hospital, target: Target) -> None:
    hospital.certificate = certified(graph_digest="1" * 64)


@payload("lies", "Pass a release of another source.", NOT_ASKED.format("source_sha256"))
def other_source(hospital: Hospital, target: Target) -> None:
    hospital.certificate = certified(source_sha256="1" * 64)


@payload("lies", "Pass a release of another version of the table.", NOT_ASKED.format("version"))
def other_version(hospital: Hospital, target: Target) -> None:
    hospital.certificate = certified(version="older")


@payload("lies", "Pass a release of another table.", NOT_ASKED.format("dataset"))
def other_dataset(hospital: Hospital, target: Target) -> None:
    hospital.certificate = certified(dataset="cold")


@payload("lies", "Pass a release of other patients.", NOT_ASKED.format("population"))
def other_population(hospital: Hospital, target: Target) -> None:
    hospital.certificate = certified(population="staff")


@payload("lies", "Pass a release of a table of another size.", NOT_ASKED.format("size"))
def other_size(hospital: Hospital, target: Target) -> None:
    hospital.certificate = certified(size={"patients": 4000, "kind": "declared"})


@payload("lies", "Pass another researcher's release.", NOT_ASKED.format("researcher"))
def other_researcher(hospital: Hospital, target: Target) -> None:
    hospital.certificate = certified(researcher="other@university.example")


@payload("lies", "Sign in another hospital's name.", NOT_ASKED.format("datasite"))
def other_name(hospital: Hospital, target: Target) -> None:
    hospital.certificate = certified(datasite="Paediatric")


@payload("lies", "State less privacy loss than the mechanism comes to.", NOT_ASKED.format("epsilon"))
def less_epsilon(hospital: Hospital, target: Target) -> None:
    hospital.certificate = lambda content: {**content, "privacy": {**content["privacy"], "epsilon": 0.01}}


@payload("lies", "Pass a release with a certificate that another hospital signed.", "is signed by")
def other_signer(hospital: Hospital, target: Target) -> None:
    hospital.signs_certificates = Ed25519PrivateKey.generate()


@payload("lies", "Pass another release than the certified one.", NOT_ASKED.format("digest"))
def other_tensors(hospital: Hospital, target: Target) -> None:
    hospital.values["release"] = lambda told: {
        **told, "release": {name: value * 2 for name, value in told["release"].items()}
    }  # fmt: skip


@payload("lies", "Pass a release without a certificate.", "without a certificate")
def no_certificate(hospital: Hospital, target: Target) -> None:
    hospital.values["release"] = lambda told: {**told, "certificate": None}


@payload("lies", "Add a tensor that the plan does not have.", NOT_ASKED.format("tensors"))
def added_tensor(hospital: Hospital, target: Target) -> None:
    hospital.tensors = lambda tensors: {**tensors, "extra": np.zeros(3, np.float32)}


@payload("lies", "Leave a tensor out.", NOT_ASKED.format("tensors"))
def missing_tensor(hospital: Hospital, target: Target) -> None:
    hospital.tensors = lambda tensors: {"output.weight": tensors["output.weight"]}


@payload("lies", "Release a tensor of another shape.", NOT_ASKED.format("tensors"))
def other_shape(hospital: Hospital, target: Target) -> None:
    hospital.tensors = lambda tensors: {**tensors, "output.bias": np.zeros((1, 1), np.float32)}


@payload("lies", "Call a tensor by a name that clears the screen.", r"<U\+001B>\[2J")
def tensor_name(hospital: Hospital, target: Target) -> None:
    named_so = {"\x1b[2J": np.zeros(1, np.float32)}
    hospital.values["release"] = lambda told: {**told, "release": named_so}


@payload("lies", "Release what is no number, so that every hospital's aggregate ends.", "values that are not finite")
def not_a_number(hospital: Hospital, target: Target) -> None:
    hospital.tensors = lambda tensors: {name: np.full_like(value, np.nan) for name, value in tensors.items()}


@payload("lies", "Quote a plan with another model than the researcher's.", "another graph of the model than is asked")
def quoted_graph(hospital: Hospital, target: Target) -> None:
    def other(plan: Plan) -> Plan:
        assert plan.graph is not None
        content = json.loads(json.dumps(plan.graph.as_dict()).replace("output.", "hidden."))
        return dataclasses.replace(plan, graph=Graph.from_dict(content))

    hospital.plan = other


@payload("lies", "Quote a plan that trains for other rounds.", "another mechanism than is asked")
def quoted_mechanism(hospital: Hospital, target: Target) -> None:
    def other(plan: Plan) -> Plan:
        declared = dataclasses.replace(plan.declared, steps=5)  # type: ignore[type-var]
        return dataclasses.replace(plan, declared=declared, mechanism=resolve(declared))

    hospital.plan = other


@payload("lies", "Quote one plan and record another.", "recorded another plan")
def recorded(hospital: Hospital, target: Target) -> None:
    hospital.recorded_plan = lambda plan: dataclasses.replace(plan, model="Other")


@payload("lies", "Sign answers with another key than the one that is shown.", "did not sign")
def answers_by_another(hospital: Hospital, target: Target) -> None:
    hospital.signs_answers = SyftSigningKey.generate()


@payload("lies", "Show another key of the answers than the first time.", "key of its answers than before", days=2)
def changed_verify_key(hospital: Hospital, target: Target) -> None:
    hospital.syft_key = hospital.signs_answers = SyftSigningKey.generate()


@payload("lies", "Show another key of certificates than the first time.", "key of its certificates than before", days=2)
def changed_public_key(hospital: Hospital, target: Target) -> None:
    hospital.key = hospital.signs_certificates = Ed25519PrivateKey.generate()


# -- text that acts on the screen -------------------------------------------------------------------------------------

CLEARS, TITLE, TURNS = "\x1b[2J\x1b[H", "\x1b]0;owned\x07", "\u202e2.0 = ε\u202c"


@payload("text", "Clear the terminal with an owner's comment.", r"<U\+001B>\[2J")
def comment(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.request_status"] = lambda told: {**told, "comment": f"Good.{CLEARS}{TITLE}"}


@payload("text", "Turn a number around in an owner's comment.", r"<U\+202E>2.0 = ε<U\+202C>")
def turned(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.request_status"] = lambda told: {**told, "comment": TURNS}


@payload("text", "End the table of progress with markup that does not close.", r"\[/nonsense\]")
def markup(hospital: Hospital, target: Target) -> None:
    hospital.values["code.call"] = lambda _: Made("SyftError", {"message": "[/nonsense] [link=file:///]here"})


@payload("text", "Clear the terminal with a finding.", r"<U\+001B>\[2J")
def finding(hospital: Hospital, target: Target) -> None:
    found = [{"code": "rule", "line": 3, "why": f"Not allowed.{CLEARS}", "instead": TURNS}]
    hospital.values["datasite.quote"] = lambda told: {**told, "accepted": False, "findings": found}


@payload("text", "Write lines that look like ours in a refusal.", r"\n    paediatric: approved")
def lines(hospital: Hospital, target: Target) -> None:
    words = f"No.\npaediatric: approved{CLEARS}"
    hospital.values["datasite.describe"] = lambda _: Made("SyftError", {"message": words})


@payload("text", "Clear the terminal with the refusal of a password.", r"<U\+001B>\[2J")
def password(hospital: Hospital, target: Target) -> None:
    hospital.values["login"] = lambda _: Made("SyftError", {"message": f"Wrong.{CLEARS}{TITLE}"})


@payload("text", "Clear the terminal with the name of a dataset.", r"<U\+001B>\[2J")
def dataset_name(hospital: Hospital, target: Target) -> None:
    def other(told: Any) -> Any:
        return {**told, "datasets": [*told["datasets"], {**told["datasets"][0], "name": f"a{CLEARS}"}]}

    hospital.values["datasite.describe"] = other


@payload(
    "text", "Clear the terminal with the name of a class that is not allowed.", r"<U\+001B>\[2J|sent what no datasite"
)
def class_name(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.describe"] = lambda _: Raw(named(CLEARS, b""))


@payload("text", "Clear the terminal with where a redirect points.", "not followed")
def location(hospital: Hospital, target: Target) -> None:
    headers = (("Location", f"https://a.example/{CLEARS}{TITLE}"), ("Content-Length", "0"))
    hospital.responds["metadata"] = answering(*headers, status=307)


@payload("text", "Put a script and mathematics into a notebook's table.", "&lt;script&gt;.*&#36;<wbr>x&#95;1")
def page(hospital: Hospital, target: Target) -> None:
    words = "<script>alert(1)</script> $x_1$ `a` *b*"
    hospital.values["datasite.request_status"] = lambda told: {**told, "comment": words}


@payload(
    "text", "Clear the terminal with a comment of a thread, from somebody who turns text around.", r"<U\+001B>\[2J"
)
def thread(hospital: Hospital, target: Target) -> None:
    words = {"at": CLEARS, "from": TURNS, "text": f"Good.{CLEARS}{TITLE}\nrural: approved"}
    hospital.values["datasite.comments"] = lambda _: [words]


# -- answers of another shape -----------------------------------------------------------------------------------------


@payload("shapes", "Describe itself with a list.", "description is missing or of another kind")
def listed(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.describe"] = lambda _: ["flu"]


@payload("shapes", "Leave the budgets out.", "budget is missing or of another kind")
def no_budget(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.describe"] = lambda told: {**told, "budgets": {}}


@payload("shapes", "Publish a schema that is none.", "schema")
def schema(hospital: Hospital, target: Target) -> None:
    def other(told: Any) -> Any:
        return {**told, "datasets": [{**told["datasets"][0], "schema": {"name": "flu", "columns": {"a": 3}}}]}

    hospital.values["datasite.describe"] = other


@payload("shapes", "Name an asset as a path.", "asset is missing or of another kind")
def asset_path(hospital: Hospital, target: Target) -> None:
    def other(told: Any) -> Any:
        return {**told, "datasets": [{**told["datasets"][0], "asset": "../../../.bashrc"}]}

    hospital.values["datasite.describe"] = other


@payload("shapes", "Name a request as a path, under which its release would be kept.", "An identifier is none")
def code_path(hospital: Hospital, target: Target) -> None:
    link = Made("LinkedObject", {"object_uid": "../../../.bashrc"})
    changes = [Made("UserCodeStatusChange", {"linked_user_code": link})]
    hospital.values["code.request_code_execution"] = lambda _: Made("Request", {"changes": changes})


@payload("shapes", "Call itself by a path, under which releases would be kept.", "2 rounds, 2 releases")
def name_path(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.describe"] = lambda told: {**told, "name": "../../../general"}
    hospital.certificate = certified(datasite="../../../general")


@payload("shapes", "Answer a thread with a comment that is no text.", "list of comments: text is missing or of another")
def thread_of_numbers(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.comments"] = lambda told: [{**told[0], "text": 7}]


@payload("shapes", "Answer a quote with words.", "quote is missing or of another kind")
def quoted_words(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.quote"] = lambda _: "cheap"


@payload(
    "shapes", "Quote a cost in words, which would be shown as a number.", "cost: short is missing or of another kind"
)
def cost_in_words(hospital: Hospital, target: Target) -> None:
    hospital.values["datasite.quote"] = lambda told: {**told, "cost": {**told["cost"], "fits": False, "short": "much"}}


@payload("shapes", "Send a mock of another width than the schema's.", "mock is no table")
def mock_width(hospital: Hospital, target: Target) -> None:
    cache = {"syft_action_data_cache": np.zeros((3, 2)), "syft_blob_storage_entry_id": None}
    hospital.values["action.get_mock"] = lambda _: Made("NumpyArrayObject", cache)


@payload("shapes", "Release one tensor as a text.", "is not arrays by name")
def text_for_tensor(hospital: Hospital, target: Target) -> None:
    hospital.values["release"] = lambda told: {**told, "release": {"output.bias": "much"}}


@payload("shapes", "Say that a release shows in a billion years.", "not done with round 1 after 2 s")
def shows_late(hospital: Hospital, target: Target) -> None:
    hospital.values["code.call"] = lambda told: {**told, "status": "running", "shows_in": 3e16}


@payload("shapes", "Say that a release shows in no time, for ever.", "not done with round 1 after 2 s")
def shows_at_once(hospital: Hospital, target: Target) -> None:
    hospital.values["code.call"] = lambda told: {**told, "status": "running", "shows_in": 5e-324}


@payload("shapes", "Say that a release shows at no time that there is.", "not done with round 1 after 2 s")
def shows_never(hospital: Hospital, target: Target) -> None:
    hospital.values["code.call"] = lambda told: {**told, "status": "running", "shows_in": float("nan")}


@payload("shapes", "Say in words when a release shows.", "shows_in is missing or of another kind")
def shows_in_words(hospital: Hospital, target: Target) -> None:
    hospital.values["code.call"] = lambda told: {**told, "shows_in": "soon"}


@payload("shapes", "Send a mock that is no table.", "mock is no table")
def mock_of_words(hospital: Hospital, target: Target) -> None:
    cache = {"syft_action_data_cache": "rows", "syft_blob_storage_entry_id": None}
    hospital.values["action.get_mock"] = lambda _: Made("NumpyArrayObject", cache)


# -- analyses without a model -----------------------------------------------------------------------------------------

NOTHING_TOLD = "Noise hides every coefficient"
REFUSED = "Fetch it again|Tell the hospital's owner"


def released(**changed: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Tensors of a release with some of them changed, where it has them."""
    return lambda tensors: {name: changed.get(name, lambda as_is: as_is)(value) for name, value in tensors.items()}


@payload("lies", "Release a survival table with a group more.", NOT_ASKED.format("tensors"), asks="survival")
def survival_of_more_groups(hospital: Hospital, target: Target) -> None:
    hospital.tensors = released(patients=lambda table: np.concatenate([table, table]))


@payload("lies", "Release survival that is no number.", "values that are not finite", asks="survival")
def survival_not_a_number(hospital: Hospital, target: Target) -> None:
    hospital.tensors = released(patients=lambda table: np.full_like(table, np.inf))


@payload("lies", "Quote a survival table with less noise for the same words.", "another mechanism", asks="survival")
def survival_with_less_noise(hospital: Hospital, target: Target) -> None:
    def other(plan: Plan) -> Plan:
        declared = dataclasses.replace(plan.declared, epsilon=9.0)  # type: ignore[type-var]
        return dataclasses.replace(plan, declared=declared, mechanism=resolve(declared))

    hospital.plan = other


@payload("shapes", "Count 10^300 patients, whose sums are no numbers.", "combined|Fetch it again", asks="survival")
def survival_of_giants(hospital: Hospital, target: Target) -> None:
    hospital.tensors = released(patients=lambda table: np.full_like(table, 1e300))


@payload("shapes", "Count fewer patients than none.", "median not reached", asks="survival")
def survival_of_less_than_nobody(hospital: Hospital, target: Target) -> None:
    hospital.tensors = released(patients=lambda table: np.full_like(table, -1e6))


@payload("shapes", "Count more events than patients at risk.", "combined", asks="survival")
def survival_of_more_events_than_patients(hospital: Hospital, target: Target) -> None:
    def alternating(table: Any) -> Any:
        return np.where(np.arange(table.size).reshape(table.shape) % 2, -1e9, 1e9 + 7)

    hospital.tensors = released(patients=alternating)


@payload("lies", "Say that a regression's sums have no noise.", REFUSED, asks="regression")
def sums_without_noise(hospital: Hospital, target: Target) -> None:
    hospital.tensors = released(noise=lambda errors: errors * 0)


@payload("shapes", "Release an information of which no inverse exists.", REFUSED, asks="regression")
def information_without_an_inverse(hospital: Hospital, target: Target) -> None:
    def singular(information: Any) -> Any:  # eigenvalues are read of the lower half alone, where all is well
        made = information.copy()
        made[:2, :2] = [[300.0, 900.0], [100.0, 300.0]]
        return made

    hospital.tensors = released(information=singular)


@payload("shapes", "Turn all inputs into nothing, so that no covariance has an inverse.", REFUSED, asks="regression")
def turned_into_nothing(hospital: Hospital, target: Target) -> None:
    hospital.tensors = released(turn=lambda turn: turn * 0)


@payload(
    "shapes", "Release sums of 10^300, whose products are no numbers.", f"{NOTHING_TOLD}|{REFUSED}", asks="regression"
)
def sums_of_giants(hospital: Hospital, target: Target) -> None:
    hospital.tensors = lambda tensors: {name: value * 1e300 for name, value in tensors.items()}


@payload("shapes", "Release sums of which nothing is left.", f"{NOTHING_TOLD}|{REFUSED}", asks="regression")
def sums_of_nothing(hospital: Hospital, target: Target) -> None:
    hospital.tensors = lambda tensors: {
        name: np.full_like(value, 5e-324) if name == "noise" else value * 0 for name, value in tensors.items()
    }
