"""A relay between researcher and datasite that reads, changes, replays, reorders, swaps or keeps back what it carries.

The datasite here is the two routes that open sealed calls, with an app behind them that counts; the researcher's side
is the real one. Each attack ends in an error at the researcher and in nothing done twice at the datasite.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI, Request, Response

from datasites.door import sealed
from datasites.door.app import PYSYFT_ROUTES, Gate, add_sealed_routes
from datasites.door.memory import Memory
from datasites.door.sealed import SealedCalls
from policies.errors import PermissionRefused, Unavailable
from policies.wire.key_words import fingerprint
from policies.wire.relayed import Kind
from researcher.sealed_calls import ABSENT, NotCarried, SealedSession

SECRET = b"correct horse battery staple"
ANSWERED = b"what the datasite answers"


class Hospital:
    """The routes that open sealed calls, and what reached the app behind them."""

    def __init__(self, *, identity: Ed25519PrivateKey | None = None, answer: bytes = ANSWERED) -> None:
        self.identity = identity or Ed25519PrivateKey.generate()
        self.print = fingerprint(self.identity.public_key().public_bytes_raw())
        self.answer, self.got, self.now = answer, list[bytes](), 0.0
        self.start()

    def start(self) -> None:
        """As after a restart: the lasting key is the same, and what was in memory is gone."""
        behind, self.app = FastAPI(), FastAPI()

        @behind.post("/api/v2/login")
        @behind.post("/api/v2/api_call")
        async def call(request: Request) -> Response:
            self.got.append(await request.body())
            return Response(self.answer + str(len(self.got)).encode())

        @behind.get("/metrics")
        @behind.get("/console")
        async def private() -> Response:
            return Response("private")

        self.calls = SealedCalls(self.identity, "Rural Hospital", clock=lambda: self.now)
        add_sealed_routes(self.app, self.calls, Gate(behind, 1 << 20, memory=Memory(64 << 20), routes=PYSYFT_ROUTES))

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        with ThreadPoolExecutor(1) as elsewhere:  # a browser's tests in this process leave a loop running
            return elsewhere.submit(asyncio.run, self._post(path, body)).result()

    async def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        status, parts, given = 0, list[bytes](), False

        async def receive() -> dict[str, Any]:
            nonlocal given
            if given:
                return {"type": "http.disconnect"}
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            parts.append(message.get("body", b""))

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": [],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        await self.app(scope, receive, send)  # type: ignore[arg-type]
        return status, b"".join(parts)


class Relay:
    """Carries honestly, and keeps what it saw. Attacks replace `ask`, `call` or `back`."""

    def __init__(self, *hospitals: Hospital) -> None:
        self.hospitals = {hospital.print: hospital for hospital in hospitals}
        self.asked, self.sent, self.came = list[bytes](), list[bytes](), list[bytes]()
        self.ask: Callable[[Hospital, bytes], bytes] = self.honest_ask
        self.call: Callable[[Hospital, bytes], bytes] = self.honest_call

    def exchange(self, to: bytes, kind: Kind, content: bytes, *, seconds: float, largest: int) -> bytes:
        hospital = self.hospitals.get(to)
        if hospital is None:
            raise NotCarried(ABSENT)
        if kind is Kind.ASK:
            self.asked.append(self.ask(hospital, content))
            return self.asked[-1]
        self.sent.append(content)
        self.came.append(self.call(hospital, content))
        return self.came[-1]

    def honest_ask(self, hospital: Hospital, nonce: bytes) -> bytes:
        asked = json.dumps({"for": "calls", "nonce": nonce.hex()}).encode()
        return hospital.post("/api/v2/sealing", asked)[1]

    def honest_call(self, hospital: Hospital, content: bytes) -> bytes:
        status, answer = hospital.post("/api/v2/sealed", content)
        if status != 200:
            raise NotCarried(str(status))
        return answer


@pytest.fixture
def hospital() -> Hospital:
    return Hospital()


def session(relay: Relay, hospital: Hospital) -> SealedSession:
    return SealedSession(relay, hospital.print, "Rural")


def send(on: SealedSession, body: bytes = SECRET) -> bytes:
    return on.request("POST", "sealed://x/api/v2/api_call", data=body).content


def test_an_honest_relay_carries_calls(hospital: Hospital) -> None:
    on = session(Relay(hospital), hospital)
    assert [send(on, body) for body in (b"one", b"two")] == [ANSWERED + b"1", ANSWERED + b"2"]
    assert hospital.got == [b"one", b"two"]


def test_a_relay_reads_nothing(hospital: Hospital) -> None:
    relay = Relay(hospital)
    on = session(relay, hospital)
    assert send(on) == ANSWERED + b"1"
    on.request("POST", "sealed://x/api/v2/login", json={"email": "who@u.example", "password": SECRET.decode()})
    seen = b"".join(relay.asked + relay.sent + relay.came)
    for secret in (SECRET, ANSWERED, b"who@u.example", b"api_call", b"login"):
        assert secret not in seen
    assert len(set(map(len, relay.sent))) == 1  # not even which of the two was the sign-in


def test_a_relay_reads_nothing_later_either(hospital: Hospital) -> None:
    """The lasting key alone, taken with the directory afterwards, opens nothing that was recorded."""
    relay = Relay(hospital)
    send(session(relay, hospital))
    stolen = Hospital(identity=hospital.identity)
    stolen.calls.statement("calls", bytes(32))
    assert stolen.post("/api/v2/sealed", relay.sent[0])[0] == 409
    assert stolen.got == []


@pytest.mark.parametrize("place", [0, 31, 32, 100, -1])
def test_a_relay_that_changes_a_call_reaches_nothing(hospital: Hospital, place: int) -> None:
    relay = Relay(hospital)
    relay.call = lambda to, content: relay.honest_call(to, _changed(content, place))
    with pytest.raises(Unavailable, match="status 409"):
        send(session(relay, hospital))
    assert hospital.got == []


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_relay_that_changes_an_answer_is_found(hospital: Hospital, place: int) -> None:
    relay = Relay(hospital)
    relay.call = lambda to, content: _changed(relay.honest_call(to, content), place)
    with pytest.raises(PermissionRefused, match="was not sealed by the datasite"):
        send(session(relay, hospital))


@pytest.mark.parametrize("answer", [b"", b"x", b"\0" * 5000, b'{"status": 200}'])
def test_a_relay_that_answers_itself_is_found(hospital: Hospital, answer: bytes) -> None:
    relay = Relay(hospital)
    relay.call = lambda to, content: answer
    with pytest.raises(PermissionRefused, match="was not sealed by the datasite"):
        send(session(relay, hospital))
    assert hospital.got == []


def test_a_call_that_is_replayed_does_nothing(hospital: Hospital) -> None:
    relay = Relay(hospital)
    send(session(relay, hospital))
    for _ in range(3):
        assert hospital.post("/api/v2/sealed", relay.sent[0])[0] == 409
    assert hospital.got == [SECRET]


def test_a_call_that_is_replayed_after_a_restart_or_hours_does_nothing(hospital: Hospital) -> None:
    relay = Relay(hospital)
    on = session(relay, hospital)
    send(on)
    hospital.now += sealed.KEY_SECONDS
    hospital.calls.statement("calls", bytes(32))  # a new key, the old one beside it
    assert hospital.post("/api/v2/sealed", relay.sent[0])[0] == 409
    hospital.now += 2 * sealed.KEY_SECONDS
    assert hospital.post("/api/v2/sealed", relay.sent[0])[0] == 409
    hospital.start()
    hospital.calls.statement("calls", bytes(32))
    assert hospital.post("/api/v2/sealed", relay.sent[0])[0] == 409
    assert hospital.got == [SECRET]


def test_an_answer_that_is_replayed_is_found(hospital: Hospital) -> None:
    relay = Relay(hospital)
    on = session(relay, hospital)
    send(on)
    relay.call = lambda to, content: relay.came[0]
    with pytest.raises(PermissionRefused, match="was not sealed by the datasite"):
        send(on)


def test_answers_that_are_reordered_are_found(hospital: Hospital) -> None:
    relay = Relay(hospital)
    first, second = session(relay, hospital), session(relay, hospital)
    held: list[bytes] = []

    def swap(to: Hospital, content: bytes) -> bytes:
        held.append(relay.honest_call(to, content))
        return held[0] if len(held) == 2 else b"later"

    relay.call = swap
    for on in (first, second):
        with pytest.raises(PermissionRefused, match="was not sealed by the datasite"):
            send(on)


def test_a_relay_that_swaps_hospitals_is_found(hospital: Hospital) -> None:
    other = Hospital()
    relay = Relay(hospital, other)
    relay.ask = lambda to, nonce: relay.honest_ask(other, nonce)  # from the beginning
    with pytest.raises(PermissionRefused, match="another datasite's statement"):
        send(session(relay, hospital))
    relay.ask = relay.honest_ask
    relay.call = lambda to, content: relay.honest_call(other, content)  # or only for calls
    with pytest.raises(Unavailable, match="status 409"):
        send(session(relay, hospital))
    assert other.got == hospital.got == []


def test_a_relay_that_shows_a_key_of_its_own_is_found(hospital: Hospital) -> None:
    """Even with the hospital's own name in it, and with the hospital's signature over another nonce."""
    relay, impostor = Relay(hospital), Hospital()
    honest = relay.honest_ask(hospital, bytes(32))

    def mixed(to: Hospital, nonce: bytes) -> bytes:
        own = json.loads(relay.honest_ask(impostor, nonce))
        return json.dumps(json.loads(relay.honest_ask(hospital, nonce)) | {"call_key": own["call_key"]}).encode()

    forgeries: list[Callable[[Hospital, bytes], bytes]] = [
        lambda to, nonce: relay.honest_ask(impostor, nonce),
        lambda to, nonce: honest,
        mixed,
    ]
    for forgery in forgeries:
        relay.ask = forgery
        with pytest.raises(PermissionRefused, match="was not sealed by the datasite"):
            send(session(relay, hospital))
    assert relay.sent == []  # nothing was sealed, to anybody


def test_an_old_statement_is_not_believed(hospital: Hospital) -> None:
    """One whose key was stolen since would let a relay read everything from then on."""
    relay = Relay(hospital)
    send(session(relay, hospital))
    relay.ask = lambda to, nonce: relay.asked[0]
    with pytest.raises(PermissionRefused, match="no signed statement"):
        send(session(relay, hospital))


def test_a_relay_that_lies_about_a_lost_key_gets_the_call_done_once_more_at_most(hospital: Hospital) -> None:
    """The researcher seals anew once; what is in it is the same signed call, which a datasite does once."""
    relay, lies = Relay(hospital), [True]

    def lie(to: Hospital, content: bytes) -> bytes:
        answer = relay.honest_call(to, content)
        if lies.pop() if lies else False:
            raise NotCarried("409")
        return answer

    relay.call = lie
    assert send(session(relay, hospital)) == ANSWERED + b"2"
    assert hospital.got == [SECRET, SECRET]  # to the byte: `AnsweredCalls` refuses the second
    relay.call = lambda to, content: (relay.honest_call(to, content), _raise(NotCarried("409")))[0]
    with pytest.raises(Unavailable):
        send(session(relay, hospital))
    assert len(hospital.got) == 4  # two tries, and no more


@pytest.mark.parametrize("why", ["absent", "gone", "busy", "503", "\x1b[31m"])
def test_a_relay_that_drops_calls_keeps_them_back_and_that_is_all(hospital: Hospital, why: str) -> None:
    relay = Relay(hospital)
    relay.call = lambda to, content: _raise(NotCarried(why))
    with pytest.raises(Unavailable, match="Rural"):
        send(session(relay, hospital))
    assert hospital.got == []


def test_a_datasite_that_starts_again_is_asked_again_by_itself(hospital: Hospital) -> None:
    on = session(Relay(hospital), hospital)
    send(on)
    hospital.start()
    assert send(on) == ANSWERED + b"2"


@pytest.mark.parametrize("target", ["/metrics", "/console", "/healthz", "/api/v2/sealed", "/api/v2/sealing", "/"])
def test_only_pysyfts_four_routes_can_be_sealed(hospital: Hospital, target: str) -> None:
    on = session(Relay(hospital), hospital)
    for method in ("GET", "POST"):
        assert on.request(method, f"sealed://x{target}").status_code == 404
    assert hospital.got == []


def test_bodies_inside_have_the_same_bounds(hospital: Hospital) -> None:
    on = session(Relay(hospital), hospital)
    assert on.request("POST", "sealed://x/api/v2/login", data=bytes(5000)).status_code == 413
    assert on.request("POST", "sealed://x/api/v2/api_call", data=bytes((1 << 20) + 1)).status_code == 413
    assert hospital.got == []


def test_bytes_that_are_no_sealed_call_are_refused_alike(hospital: Hospital) -> None:
    """One text for every reason: a stranger learns nothing of keys from it."""
    hospital.calls.statement("calls", bytes(32))
    said = {hospital.post("/api/v2/sealed", body) for body in (b"", b"x", bytes(31), bytes(5000), SECRET * 100)}
    assert said == {(409, f"{sealed.REFUSED}\n".encode())}
    for asked in (
        b"",
        b"[]",
        b"{}",
        b'{"for": "calls", "nonce": "00"}',
        b'{"for": "", "nonce": "' + b"00" * 32 + b'"}',
    ):
        assert hospital.post("/api/v2/sealing", asked)[0] == 400


def test_strangers_who_seal_calls_without_end_fill_no_memory(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed, "KEY_CALLS", 5)
    on = session(Relay(hospital), hospital)
    for _ in range(40):
        send(on)
        hospital.calls.statement("calls", bytes(32))
        assert sum(len(key.seen) for key in hospital.calls._keys) <= 4 * 5
    on = session(Relay(hospital), hospital)
    for _ in range(40):  # with one key that nobody asks for again, until it has had its calls
        send(on)
    assert sum(len(key.seen) for key in hospital.calls._keys) <= 4 * 5


def _changed(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


def _raise(error: Exception) -> Any:
    raise error
