"""Strangers at a coordinator's port, coordinators that are hostile to a dial-out, and streams that break."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datasites.operations import dial_out
from datasites.operations.dial_out import DialOut
from datasites.operations.dial_out_state import read_states
from policies.errors import PermissionRefused, Unavailable
from policies.wire.key_words import words_of
from policies.wire.relayed import ADDRESS, ATTACH, SILENCE, Frame, Kind
from policies.wire.sealing import Statement, state
from researcher import coordinator as coordinators
from researcher.coordinator import Coordinator
from researcher.sealed_calls import SILENT, NotCarried, SealedSession
from researcher.standing_coordinator import StandingCoordinator
from researcher.transport import ANSWER_SECONDS, within
from tests import loops
from tests.attacks.relays.test_relays import ANSWERED, SECRET, Hospital, send
from tests.factories import free_port
from tests.relays.connections import TOKEN, make_certificates, start_coordinator, wait_until


class NearHospital:
    """A hospital's datasite as `Local`, without a server."""

    url = "http://127.0.0.1:9400"

    def __init__(self, hospital: Hospital) -> None:
        self.hospital, self.purposes = hospital, list[str]()
        self.hold, self.read = threading.Event(), threading.Event()
        self.hold.set()
        self.read.set()

    def statement(self, purpose: str, nonce: bytes) -> bytes:
        self.purposes.append(purpose)
        return self.hospital.post("/api/v2/sealing", json.dumps({"for": purpose, "nonce": nonce.hex()}).encode())[1]

    def post(self, path: str, body: Any, **headers: str) -> Any:
        assert path == "/api/v2/sealed"
        assert self.read.wait(30)
        content = b"".join(body)
        assert self.hold.wait(30)
        status, answer = self.hospital.post(path, content)

        class Answer(io.BytesIO):
            pass

        made: Any = Answer(answer)
        made.status = status
        return made


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinators, "WAIT_SECONDS", 5.0)
    monkeypatch.setattr("datasites.operations.dial_out.LONGEST_WAIT", 0.5)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    return make_certificates(tmp_path / "certificates")


@pytest.fixture
def hospital() -> Hospital:
    return Hospital()


@contextmanager
def dialled(
    hospital: Hospital, address: str, certificates: Path, state: Path | None = None
) -> Iterator[tuple[NearHospital, list[str]]]:
    """A dial-out of this hospital in a thread, and what it said."""
    near, said = NearHospital(hospital), list[str]()
    out = DialOut(
        address,
        authority=(certificates / "ca.pem").read_bytes(),
        local=near,  # type: ignore[arg-type]
        state=state,
        tell=said.append,
    )
    running = threading.Thread(target=out.run)
    running.start()
    try:
        yield near, said
    finally:
        out.stop()
        running.join(10)  # half of what a call may be held up for
        assert not running.is_alive()


@contextmanager
def coordinating(certificates: Path, **options: Any) -> Iterator[tuple[Coordinator, str]]:
    made, address = start_coordinator(certificates, **options)
    try:
        yield made, address
    finally:
        made.stop()


class Stranger:
    """Somebody at the coordinator's port who is no hospital's dial-out."""

    def __init__(self, address: str, certificates: Path) -> None:
        self.address = address
        credentials = grpc.ssl_channel_credentials((certificates / "ca.pem").read_bytes())
        self.channel = grpc.secure_channel(address, credentials)

    def attach(self, proof: Any) -> grpc.StatusCode | list[Frame]:
        """What comes of a stream whose proof is made from the challenge: frames, or why it was ended."""
        answered = threading.Event()
        challenge: list[Frame] = []

        def frames() -> Iterator[bytes]:
            answered.wait(10)
            yield proof(challenge[0]).to_bytes()
            time.sleep(0.5)

        stream = self.channel.stream_stream(ATTACH)(frames(), metadata=((ADDRESS, self.address),))
        got: list[Frame] = []
        try:
            for data in stream:
                got.append(Frame.from_bytes(data))
                challenge = challenge or got
                answered.set()
        except grpc.RpcError as error:
            answered.set()
            code: grpc.StatusCode = error.code()  # type: ignore[attr-defined]
            return code
        return got


def test_a_call_goes_through_both_processes_and_back(certificates: Path, hospital: Hospital, tmp_path: Path) -> None:
    with coordinating(certificates) as (made, address), dialled(hospital, address, certificates, tmp_path) as (_, said):
        on = SealedSession(made, hospital.print, "Rural")
        assert send(on) == ANSWERED + b"1"
        for size in (0, 1, 256 << 10, (256 << 10) + 1, 1_000_000):
            send(on, bytes(size))
            assert hospital.got[-1] == bytes(size)
        hospital.answer = bytes(3_000_000)
        assert len(send(on)) == 3_000_001
        assert made.hospitals() == [(words_of(hospital.print), "Rural Hospital")]
        wait_until(lambda: read_states(tmp_path)[0]["state"] == "connected")
        assert said == [f"Rural Hospital is connected to {address}. Words of its key: {words_of(hospital.print)}"]
    assert read_states(tmp_path)[0]["state"] == "ended"


def test_many_calls_at_once_each_get_their_own_answer(certificates: Path, hospital: Hospital) -> None:
    with coordinating(certificates) as (made, address), dialled(hospital, address, certificates):
        answers: list[bytes] = []

        def ask() -> None:
            answers.append(send(SealedSession(made, hospital.print, "Rural")))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(answers) == sorted(ANSWERED + str(number).encode() for number in range(1, 9))


@pytest.mark.parametrize("forged", ["another key", "no proof", "another nonce", "another address", "for calls"])
def test_a_stranger_takes_no_hospitals_place(certificates: Path, hospital: Hospital, forged: str) -> None:
    """Whoever has no datasite that signs for this nonce and this address is turned away before any call."""
    impostor = Ed25519PrivateKey.generate()

    def proof(challenge: Frame) -> Frame:
        signer = impostor if forged == "another key" else hospital.identity
        purpose = {"another address": "evil.example:1", "for calls": "calls"}.get(forged, address)
        nonce = bytes(32) if forged == "another nonce" else challenge.content
        made = state(signer, purpose=purpose, nonce=nonce, call_key=bytes(32), name="Rural Hospital")
        if forged == "another key":
            parts = json.loads(made) | {"identity": hospital.identity.public_key().public_bytes_raw().hex()}
            made = json.dumps(parts).encode()
        return Frame(Kind.LAST if forged == "no proof" else Kind.PROOF, 0, made)

    with coordinating(certificates) as (made, address):
        assert Stranger(address, certificates).attach(proof) is grpc.StatusCode.UNAUTHENTICATED
        assert made.hospitals() == []


def test_the_hostile_coordinator_of_another_study_cannot_take_a_hospitals_place_at_this_one(
    certificates: Path, hospital: Hospital, tmp_path: Path
) -> None:
    """It passes this one's challenge on to the hospital, whose dial-out signs for the address that it dialled."""
    with coordinating(certificates) as (made, address):

        def proof(challenge: Frame) -> Frame:
            near = NearHospital(hospital)
            return Frame(Kind.PROOF, 0, near.statement("evil.example:9443", challenge.content))

        assert Stranger(address, certificates).attach(proof) is grpc.StatusCode.UNAUTHENTICATED
        stranger = Stranger(address, certificates)
        stranger.address = "evil.example:9443"  # and says that this is where it dialled
        assert stranger.attach(proof) is grpc.StatusCode.UNAUTHENTICATED
        assert made.hospitals() == []


def test_a_coordinator_gets_statements_for_its_own_address_and_for_calls_alone(
    certificates: Path, hospital: Hospital
) -> None:
    with coordinating(certificates) as (made, address), dialled(hospital, address, certificates) as (near, _):
        send(SealedSession(made, hospital.print, "Rural"))
        assert near.purposes == [address, "calls"]


def test_a_hospital_whose_words_are_not_in_the_network_file_is_turned_away(
    certificates: Path, hospital: Hospital
) -> None:
    said: list[str] = []
    with (
        coordinating(certificates, admitted=frozenset({bytes(12)}), tell=said.append) as (made, address),
        dialled(hospital, address, certificates) as (_, hears),
    ):
        wait_until(lambda: any("give them to the researcher" in line for line in hears))
        assert made.hospitals() == []
    assert words_of(hospital.print) in said[0]


def test_a_stranger_sends_no_call_through_a_coordinator(certificates: Path, hospital: Hospital) -> None:
    authority = (certificates / "ca.pem").read_bytes()
    for token, shown in ((TOKEN, "wrong" * 10), (TOKEN, ""), ("", "")):
        with coordinating(certificates, token=token) as (_, address), dialled(hospital, address, certificates):
            way = StandingCoordinator(address, authority=authority, token=shown)
            with pytest.raises(PermissionRefused, match="does not accept this token"):
                send(SealedSession(way, hospital.print, "Rural"))
            with pytest.raises(PermissionRefused, match="does not accept this token"):
                way.hospitals()
    assert hospital.got == []


def test_a_researcher_elsewhere_sends_calls_with_the_token(certificates: Path, hospital: Hospital) -> None:
    authority = (certificates / "ca.pem").read_bytes()
    with coordinating(certificates, token=TOKEN) as (_, address), dialled(hospital, address, certificates):
        way = StandingCoordinator(address, authority=authority, token=TOKEN)
        on = SealedSession(way, hospital.print, "Rural")
        assert send(on, bytes(600_000)) == ANSWERED + b"1"
        assert hospital.got == [bytes(600_000)]
        assert way.hospitals() == [(words_of(hospital.print), "Rural Hospital")]
        with pytest.raises(Unavailable, match="has not dialled in"):
            send(SealedSession(way, bytes(12), "Other"))
        hospital.answer = bytes(2_000_000)
        with pytest.raises(PermissionRefused, match="bytes that the answer may have"):
            on.request("POST", "sealed://x/api/v2/api_call", data=b"", largest=1_000_000)
        assert way.hospitals()  # and others are still served


@pytest.mark.parametrize("elsewhere", [False, True], ids=["in this process", "elsewhere"])
def test_a_hospital_that_stands_still_is_away_after_the_silence_that_it_may_keep(
    certificates: Path, hospital: Hospital, elsewhere: bool
) -> None:
    authority = (certificates / "ca.pem").read_bytes()
    with (
        coordinating(certificates, token=TOKEN) as (made, address),
        dialled(hospital, address, certificates) as (near, _),
    ):
        way = StandingCoordinator(address, authority=authority, token=TOKEN) if elsewhere else made
        on = SealedSession(way, hospital.print, "Rural")
        send(on)
        near.hold.clear()
        began = time.monotonic()
        with pytest.raises(Unavailable, match="took and sent nothing"), within(60, silence=1.0):
            send(on)
        assert 0.9 < time.monotonic() - began < 10
        near.hold.set()
        assert send(on).startswith(ANSWERED)


def test_a_call_whose_frames_come_slowly_is_not_silent() -> None:
    """A second of frames to a hospital, and an answer in frames, with less than the silence between any two."""

    async def answered() -> list[Frame]:
        hospital = coordinators._Hospital(Statement(bytes(32), bytes(32), "Rural Hospital"))
        async with hospital.call() as carried:

            async def go_on() -> None:
                for _ in range(8):
                    await asyncio.sleep(0.15)
                    await carried.send(Frame(Kind.PIECE, 0, b"a"))
                for kind in (Kind.PIECE, Kind.PIECE, Kind.LAST):
                    await asyncio.sleep(0.3)
                    await carried.answer.put(Frame(kind, 1, b"b"))

            going = asyncio.ensure_future(go_on())
            frames = []
            while not carried.ended:
                frames.append(await carried.receive(0.6))
            await going
            with pytest.raises(NotCarried) as silent:
                await carried.receive(0.2)
            assert silent.value.why == SILENT
            return frames

    assert len(loops.run(answered())) == 3


@pytest.mark.parametrize("asked", ["", "soon", "nan", "inf", "-1", "0", "1e9"])
def test_a_silence_that_is_none_ends_no_call_early(asked: str) -> None:
    assert coordinators._silence_in({SILENCE: asked}) == coordinators._silence_in({}) == ANSWER_SECONDS
    assert coordinators._silence_in({SILENCE: "20.0"}) == 20


def test_a_dial_out_believes_the_named_authority_alone(certificates: Path, hospital: Hospital, tmp_path: Path) -> None:
    other = make_certificates(tmp_path / "other")
    with coordinating(certificates) as (made, address), dialled(hospital, address, other) as (near, said):
        wait_until(lambda: bool(said))
        assert near.purposes == []  # nothing was signed for whoever that is
        assert made.hospitals() == []


def test_a_coordinator_whose_certificate_has_another_name_is_not_believed(hospital: Hospital, tmp_path: Path) -> None:
    named = make_certificates(tmp_path / "named", "coordinator.example")
    with coordinating(named) as (_, address), dialled(hospital, address, named) as (near, said):
        wait_until(lambda: bool(said))
        assert near.purposes == []


@contextmanager
def hostile(certificates: Path, behave: Any) -> Iterator[str]:
    """A coordinator that does as it likes on every stream that a dial-out opens."""
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(4))
    handler = grpc.stream_stream_rpc_method_handler(behave)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("private.datasites.Coordinator", {"Attach": handler}),)
    )
    port = free_port()
    pair = ((certificates / "coordinator.key").read_bytes(), (certificates / "coordinator.pem").read_bytes())
    server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(0)


GREETING = [Frame(Kind.CHALLENGE, 0, bytes(32)), Frame(Kind.WELCOME)]


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xff" * 9],
        [Frame(Kind.CHALLENGE, 0, bytes(5)).to_bytes()],
        [frame.to_bytes() for frame in reversed(GREETING)],
        [*(frame.to_bytes() for frame in GREETING), b"x"],
        [*(frame.to_bytes() for frame in GREETING), Frame(Kind.LAST, 7, SECRET).to_bytes()],
        [*(frame.to_bytes() for frame in GREETING), Frame(Kind.ASK, 7, bytes(5)).to_bytes()],
        [*(frame.to_bytes() for frame in GREETING), Frame(Kind.CANCEL, 9).to_bytes(), Frame(Kind.PROOF).to_bytes()],
        [frame.to_bytes() for frame in GREETING + [Frame(Kind.PIECE, number) for number in range(200)]],
    ],
    ids="empty unknown short reversed broken unsealed nonce stray flood".split(),
)
def test_a_hostile_coordinator_reaches_nothing_and_ends_no_dial_out(
    certificates: Path, hospital: Hospital, frames: list[bytes]
) -> None:
    streams: list[int] = []

    def behave(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        streams.append(1)
        yield from frames
        time.sleep(0.2)

    with hostile(certificates, behave) as address, dialled(hospital, address, certificates):
        wait_until(lambda: len(streams) >= 3)  # it dials again each time
    assert hospital.got == []


def test_a_stream_that_is_lost_is_dialled_again_and_calls_wait_for_it(certificates: Path, hospital: Hospital) -> None:
    port = free_port()
    made, address = start_coordinator(certificates, port)
    with dialled(hospital, address, certificates):
        try:
            assert send(SealedSession(made, hospital.print, "Rural")) == ANSWERED + b"1"
        finally:
            made.stop()
        again, _ = start_coordinator(certificates, port)
        try:
            assert send(SealedSession(again, hospital.print, "Rural")) == ANSWERED + b"2"
        finally:
            again.stop()


def test_a_call_under_way_on_a_stream_that_is_lost_ends_at_once(certificates: Path, hospital: Hospital) -> None:
    with coordinating(certificates) as (made, address):
        with dialled(hospital, address, certificates) as (near, _):
            on = SealedSession(made, hospital.print, "Rural")
            send(on)
            near.hold.clear()
            caught: list[BaseException] = []

            def ask() -> None:
                try:
                    send(on)
                except Unavailable as error:
                    caught.append(error)

            asking = threading.Thread(target=ask)
            asking.start()
            time.sleep(0.3)
        asking.join(10)
        near.hold.set()
        assert "was cut off from the coordinator" in str(caught[0])


def test_a_call_that_is_still_being_sent_on_a_stream_that_is_lost_ends_at_once(
    certificates: Path, hospital: Hospital
) -> None:
    """More than all queues on the way hold, to a datasite that takes none of it."""
    with coordinating(certificates) as (made, address):
        with dialled(hospital, address, certificates) as (near, _):
            on = SealedSession(made, hospital.print, "Rural")
            send(on)
            near.read = threading.Event()
            caught: list[BaseException] = []

            def ask() -> None:
                try:
                    send(on, bytes(40 << 20))
                except Unavailable as error:
                    caught.append(error)

            asking = threading.Thread(target=ask)
            asking.start()
            time.sleep(1.0)
            assert asking.is_alive()
        asking.join(10)
        near.read.set()
        assert "was cut off from the coordinator" in str(caught[0])


def test_a_dial_out_that_is_stopped_as_it_dials_does_not_stay(
    certificates: Path, hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    with coordinating(certificates) as (_, address):
        authority = (certificates / "ca.pem").read_bytes()
        out = DialOut(address, authority=authority, local=NearHospital(hospital))  # type: ignore[arg-type]

        class Stopping(dial_out._Calls):
            def __init__(self, *about: Any) -> None:
                super().__init__(*about)
                out.stop()

        monkeypatch.setattr(dial_out, "_Calls", Stopping)
        running = threading.Thread(target=out.run, daemon=True)
        running.start()
        running.join(10)
        assert not running.is_alive()


def test_a_hospital_that_dials_again_is_reached_by_its_newest_stream(certificates: Path, hospital: Hospital) -> None:
    """As after a network that went away without a word: the old stream still looks open."""
    with (
        coordinating(certificates) as (made, address),
        dialled(hospital, address, certificates) as (first, _),
    ):
        wait_until(lambda: bool(made.hospitals()))
        first.hold.clear()
        with dialled(hospital, address, certificates) as (second, _):
            wait_until(lambda: bool(second.purposes))
            time.sleep(0.2)
            first.hold.set()
            assert send(SealedSession(made, hospital.print, "Rural")) == ANSWERED + b"1"
