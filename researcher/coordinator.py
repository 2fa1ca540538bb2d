"""Coordinator: where hospitals that open no port dial in, over gRPC and TLS.

It runs in a researcher's own process, or by itself as `researcher coordinate`. It is trusted with nothing: it carries
sealed bytes between researchers and datasites (`policies.wire.sealing`), in frames that it does not open, and keeps
none. A stream counts as a hospital's once the datasite has signed a fresh nonce for this coordinator's address.
"""

from __future__ import annotations

import asyncio
import atexit
import hmac
import itertools
import json
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import grpc
import grpc.aio

from policies.errors import InvalidRequest, Unavailable
from policies.text import visible
from policies.wire.key_words import fingerprint, words_of
from policies.wire.relayed import (
    ADDRESS,
    AUTHORIZATION,
    FINGERPRINT,
    KEEPALIVE,
    MOST_CALLS,
    SILENCE,
    Frame,
    Kind,
    question,
)
from policies.wire.sealing import NONCE, NotOpened, Statement, check_statement
from researcher.sealed_calls import ABSENT, BUSY, GONE, SILENT, Gathering, NotCarried
from researcher.transport import ANSWER_SECONDS, LEAST_SECONDS, silence_left

PROOF_SECONDS = 10.0  # that a stream has to show whose it is
WAIT_SECONDS = 20.0  # for a hospital to dial in again, after a start or a loss
SLOW_SECONDS = 20.0  # that a call may hold up the others of its stream
MOST_STREAMS, MOST_OF_ONE = 2000, 4  # of all, and of one hospital
WAITING_FRAMES = 32
SERVER_OPTIONS = [
    *KEEPALIVE,
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
]

Value = TypeVar("Value")


class _Carried:
    """One call over a hospital's stream."""

    def __init__(self, hospital: _Hospital, number: int) -> None:
        self.hospital, self.number = hospital, number
        self.answer: asyncio.Queue[Frame] = asyncio.Queue(WAITING_FRAMES)
        self.gone, self.ended = asyncio.Event(), False
        self._moved = time.monotonic()

    async def send(self, frame: Frame) -> None:
        """Hand a frame on to the hospital, as this call's. Raises `NotCarried` once the stream is lost."""
        await self._unless_gone(self.hospital.outgoing.put(Frame(frame.kind, self.number, frame.content)))
        self._moved = time.monotonic()

    async def receive(self, silence: float) -> Frame:
        """The next frame of the answer.

        Raises `NotCarried` once the stream is lost, or no frame went either way for `silence` seconds.
        """
        receiving = asyncio.ensure_future(self._unless_gone(self.answer.get()))
        self._moved = time.monotonic()
        try:
            while not receiving.done():
                if (left := self._moved + silence - time.monotonic()) <= 0:
                    raise NotCarried(SILENT)
                await asyncio.wait((receiving,), timeout=left)
            frame = receiving.result()
        finally:
            receiving.cancel()
        self.ended = frame.kind in (Kind.LAST, Kind.FAILED)
        return frame

    async def _unless_gone(self, step: Coroutine[Any, Any, Value]) -> Value:
        waiting, lost = asyncio.ensure_future(step), asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait((waiting, lost), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise NotCarried(GONE)
            return waiting.result()
        finally:
            waiting.cancel()
            lost.cancel()


class _Hospital:
    """A stream whose datasite has shown its key."""

    def __init__(self, statement: Statement) -> None:
        self.print, self.name = fingerprint(statement.identity), visible(statement.name)
        self.outgoing: asyncio.Queue[Frame] = asyncio.Queue(WAITING_FRAMES)
        self.calls: dict[int, _Carried] = {}
        self.gone = asyncio.Event()
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def call(self) -> AsyncIterator[_Carried]:
        """A call of a number of its own. Raises `NotCarried` where there are too many."""
        if len(self.calls) >= MOST_CALLS:
            raise NotCarried(BUSY)
        carried = _Carried(self, next(self._numbers))
        self.calls[carried.number] = carried
        try:
            yield carried
        finally:
            self.calls.pop(carried.number, None)
            if not carried.ended and not self.gone.is_set():
                with suppress(asyncio.QueueFull):
                    self.outgoing.put_nowait(Frame(Kind.CANCEL, carried.number))

    def lose(self) -> None:
        """The stream is lost, and all its calls with it."""
        self.gone.set()
        for carried in self.calls.values():
            carried.gone.set()

    async def write_to(self, context: Any) -> None:
        """Send what is handed on, for as long as the stream is open."""
        while True:
            await context.write((await self.outgoing.get()).to_bytes())

    async def read_from(self, context: Any) -> None:
        """Give each call its frames, until the stream ends or sends what is none."""
        with suppress(ValueError):
            while (data := await context.read()) is not grpc.aio.EOF:
                frame = Frame.from_bytes(data)
                carried = self.calls.get(frame.call)
                if carried is not None and frame.kind in (Kind.PIECE, Kind.LAST, Kind.FAILED):
                    try:
                        await asyncio.wait_for(carried.answer.put(frame), SLOW_SECONDS)
                    except TimeoutError:
                        carried.gone.set()
                        self.calls.pop(frame.call, None)


class Coordinator:
    """Hospitals that have dialled in, and calls to them. `exchange` may be called from any thread.

    Args:
      listen: as "0.0.0.0:9443".
      certificate, key: in PEM form; the certificate's names are the addresses that hospitals dial.
      token: that researchers elsewhere show; with "" nobody else is served.
      admitted: fingerprints of the datasites that may dial in; None for all.
      tell: hears of hospitals that come and go.
    """

    def __init__(
        self,
        listen: str,
        *,
        certificate: bytes,
        key: bytes,
        token: str = "",
        admitted: frozenset[bytes] | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.listen, self.token, self.admitted = listen, token, admitted
        self._names = _names_in(certificate)
        self._pair, self._tell = (key, certificate), tell
        self._hospitals: dict[bytes, list[_Hospital]] = {}  # of each, its streams, the newest last
        self._lost: dict[bytes, float] = {}
        self._started = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="coordinator", daemon=True)

    def start(self) -> int:
        """Listen from now on, in a thread of its own; the port. Raises `Unavailable` where that is taken."""
        self._thread.start()
        try:
            port = self._run(self._serve(), 30.0)
        except Unavailable:
            self.stop()
            raise
        atexit.register(self.stop)
        return port

    def stop(self) -> None:
        """Close every stream."""
        if self._thread.is_alive():
            with suppress(Exception):
                self._run(self._server.stop(0.2), 5.0)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5.0)
        atexit.unregister(self.stop)

    def hospitals(self) -> list[tuple[str, str]]:
        """Words and name of each datasite that has dialled in."""
        return [(words_of(print_of_key), streams[-1].name) for print_of_key, streams in list(self._hospitals.items())]

    def exchange(self, to: bytes, kind: Kind, content: bytes, *, seconds: float, largest: int) -> bytes:
        """As `researcher.sealed_calls.Way` says."""
        return self._run(self._exchange(to, kind, content, largest, silence_left()), seconds)

    def _run(self, work: Coroutine[Any, Any, Value], seconds: float) -> Value:
        """The outcome of work on the loop, from another thread."""
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), self._loop)
        try:
            return future.result()
        except TimeoutError:
            raise Unavailable(f"The hospital did not answer through the coordinator within {seconds:.0f} s.") from None

    # -- inside the loop ----------------------------------------------------------------------------------------------

    async def _serve(self) -> int:
        self._server = grpc.aio.server(options=SERVER_OPTIONS, maximum_concurrent_rpcs=MOST_STREAMS)
        methods = {
            "Attach": grpc.stream_stream_rpc_method_handler(self._attach),
            "Carry": grpc.stream_stream_rpc_method_handler(self._carry),
            "Hospitals": grpc.unary_unary_rpc_method_handler(self._list),
        }
        handlers = grpc.method_handlers_generic_handler("private.datasites.Coordinator", methods)
        self._server.add_generic_rpc_handlers((handlers,))
        try:
            port = self._server.add_secure_port(self.listen, grpc.ssl_server_credentials([self._pair]))
        except RuntimeError:
            port = 0
        if not port:
            raise Unavailable(
                f"Nothing can listen at {self.listen}. Stop the other program there, such as another study's"
                " coordinator; or run `researcher coordinate` once, and let every network.toml name its address."
            )
        await self._server.start()
        return int(port)

    async def _attach(self, _: Any, context: Any) -> None:
        """A hospital's stream, for as long as it lasts."""
        address, nonce = _metadata(context).get(ADDRESS, ""), secrets.token_bytes(NONCE)
        await context.write(Frame(Kind.CHALLENGE, 0, nonce).to_bytes())
        try:
            statement = await asyncio.wait_for(self._proof(context, address, nonce), PROOF_SECONDS)
        except (NotOpened, TimeoutError, ValueError):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "The datasite's statement is not for this address.")
        hospital = _Hospital(statement)
        if self.admitted is not None and hospital.print not in self.admitted:
            self._tell(f"{hospital.name} is not in the network file, and was turned away: {words_of(hospital.print)}")
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "No study here has this datasite's words.")
        await context.write(Frame(Kind.WELCOME).to_bytes())
        self._join(hospital)
        work = [
            asyncio.ensure_future(part)
            for part in (hospital.write_to(context), hospital.read_from(context), hospital.gone.wait())
        ]
        try:
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in work:
                task.cancel()
            self._leave(hospital)

    async def _proof(self, context: Any, address: str, nonce: bytes) -> Statement:
        data = await context.read()
        frame = Frame.from_bytes(data if isinstance(data, bytes) else b"")
        if frame.kind is not Kind.PROOF or not self._is_ours(address):
            raise ValueError
        return check_statement(frame.content, purpose=address, nonce=nonce)

    def _is_ours(self, address: str) -> bool:
        """Whether hospitals reach this coordinator at an address: its host is in the certificate."""
        host = address.rpartition(":")[0].strip("[]").lower()
        return host in self._names or f"*.{host.partition('.')[2]}" in self._names

    def _join(self, hospital: _Hospital) -> None:
        streams = self._hospitals.setdefault(hospital.print, [])
        streams.append(hospital)
        if len(streams) > MOST_OF_ONE:  # the oldest may be dead, and is not known to be
            streams.pop(0).lose()
        self._tell(f"{hospital.name} has dialled in: {words_of(hospital.print)}")

    def _leave(self, hospital: _Hospital) -> None:
        hospital.lose()
        streams = [stream for stream in self._hospitals.get(hospital.print, ()) if stream is not hospital]
        if streams:
            self._hospitals[hospital.print] = streams
        elif self._hospitals.pop(hospital.print, None):
            self._lost[hospital.print] = time.monotonic()
            self._tell(f"{hospital.name} is cut off.")

    async def _attached(self, to: bytes) -> _Hospital:
        """A hospital's stream; one that was lost a moment ago may come again. Raises `NotCarried`."""
        until = max(self._started, self._lost.get(to, 0.0)) + WAIT_SECONDS
        while (streams := self._hospitals.get(to)) is None:
            if time.monotonic() >= until:
                raise NotCarried(ABSENT)
            await asyncio.sleep(0.05)
        return streams[-1]

    async def _exchange(self, to: bytes, kind: Kind, content: bytes, largest: int, silence: float) -> bytes:
        async with (await self._attached(to)).call() as carried:
            sending = asyncio.ensure_future(_send_all(question(kind, content), carried))
            try:
                gathering = Gathering(largest)
                while not gathering.takes(await carried.receive(silence)):
                    pass
            finally:
                sending.cancel()
            return gathering.content

    async def _carry(self, _: Any, context: Any) -> None:
        """One call of a researcher elsewhere."""
        await self._check_token(context)
        try:
            told = _metadata(context)
            to, silence = bytes.fromhex(told.get(FINGERPRINT, "")), _silence_in(told)
            async with (await self._attached(to)).call() as carried:
                sending = asyncio.ensure_future(_forward(context, carried))
                try:
                    while not carried.ended:
                        await context.write((await carried.receive(silence)).to_bytes())
                finally:
                    sending.cancel()
        except (ValueError, NotCarried) as error:
            why = error.why if isinstance(error, NotCarried) else ABSENT
            await context.write(Frame(Kind.FAILED, 0, why.encode()).to_bytes())

    async def _list(self, _: bytes, context: Any) -> bytes:
        await self._check_token(context)
        return json.dumps(self.hospitals()).encode()

    async def _check_token(self, context: Any) -> None:
        shown = str(_metadata(context).get(AUTHORIZATION, ""))
        if not self.token or not hmac.compare_digest(shown.encode(), f"Bearer {self.token}".encode()):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "Show the coordinator's token.")


async def _send_all(frames: list[Frame], carried: _Carried) -> None:
    """Frames to the hospital; that the stream is lost is told by what waits for the answer."""
    with suppress(NotCarried):
        for frame in frames:
            await carried.send(frame)


async def _forward(context: Any, carried: _Carried) -> None:
    """A researcher's frames to the hospital, as they come."""
    with suppress(ValueError, NotCarried):
        while (data := await context.read()) is not grpc.aio.EOF:
            frame = Frame.from_bytes(data)
            if frame.kind in (Kind.ASK, Kind.PIECE, Kind.LAST):
                await carried.send(frame)


def _metadata(context: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in context.invocation_metadata() or ()}


def _silence_in(metadata: Mapping[str, str]) -> float:
    """Seconds that a call may go without a frame: what a researcher asks for, where it is within bounds."""
    try:
        seconds = float(metadata.get(SILENCE, ""))
    except ValueError:
        return ANSWER_SECONDS
    return seconds if LEAST_SECONDS <= seconds <= ANSWER_SECONDS else ANSWER_SECONDS


def _names_in(certificate: bytes) -> frozenset[str]:
    """Host names and addresses of a certificate. Raises `InvalidRequest` where it is none, or names nothing."""
    from cryptography import x509

    try:
        extension = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (ValueError, x509.ExtensionNotFound):
        raise InvalidRequest(
            "The coordinator's certificate is not in PEM form, or names no host (as a subjectAltName). Hospitals check"
            " it: make one for the name that they dial."
        ) from None
    hosts = extension.value.get_values_for_type(x509.DNSName)
    addresses = extension.value.get_values_for_type(x509.IPAddress)
    return frozenset([*(host.lower() for host in hosts), *map(str, addresses)])
