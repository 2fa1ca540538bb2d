"""The process that dials out: one gRPC stream over TLS to a coordinator, and sealed calls from it to the datasite.

The hospital opens no port for it. It knows no secret and opens nothing: what comes over the stream is handed to two
routes of the datasite, `/api/v2/sealed` and `/api/v2/sealing`, and what these answer goes back. A stream that ends is
dialled again, after a wait that doubles; what was asked over it is asked again by the researcher, and paid for once.

Its state is a small file (`datasites.operations.dial_out_state`) that `datasite status` reads.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from datasites.operations.dial_out_state import TELL_SECONDS, State
from datasites.settings import Settings
from policies.errors import DatasiteError, Unavailable
from policies.wire.key_words import fingerprint, words_of
from policies.wire.relayed import ADDRESS, ATTACH, KEEPALIVE, MOST_CALLS, PIECE_BYTES, Frame, Kind
from policies.wire.sealing import FOR_CALLS, NONCE, NotOpened, check_statement

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0  # seconds between two tries, doubled each time
STEADY_SECONDS = 30.0  # after which a stream counts as one that stood
ANSWER_SECONDS = 150.0  # that the datasite may take, longer than a researcher waits
PROOF_SECONDS = 30.0  # that a coordinator may take to let a stream in
PIECE_SECONDS = 20.0  # that a piece of a call may take
LOOK_SECONDS = 0.2  # between two looks whether anybody waits for a call
WAITING_PIECES = 4  # of one call
UNREACHED = b"503"


class Local:
    """The datasite, as the dial-out reaches it.

    Args:
      url: http://127.0.0.1:9400, or https with any host.
      tls: by which its certificate is checked; the system's authorities where there is none.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self.url, self._host, self._port = url, parts.hostname or "", parts.port
        self._tls = None if parts.scheme == "http" else tls or ssl.create_default_context()

    @classmethod
    def of(cls, settings: Settings) -> Local:
        """The datasite of a directory, on this machine. It is known by its certificate, whatever name that has."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
        if (files := settings.tls_files()) is None:
            return cls(_url("http", host, settings.port))
        context = ssl.create_default_context(cafile=files[0])
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return cls(_url("https", host, settings.port), context)

    def post(self, path: str, body: Any, **headers: str) -> http.client.HTTPResponse:
        """The answer to one request. Raises `OSError` or `http.client.HTTPException`."""
        if self._tls is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_SECONDS)
        else:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=ANSWER_SECONDS, context=self._tls)
        try:
            connection.request("POST", path, body, {"connection": "close", **headers})
            return connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def statement(self, purpose: str, nonce: bytes) -> bytes:
        """What the datasite says of its keys, signed. Raises `Unavailable`."""
        asked = json.dumps({"for": purpose, "nonce": nonce.hex()}).encode()
        try:
            with contextlib.closing(self.post("/api/v2/sealing", asked)) as answer:
                content = answer.read(64 << 10)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the datasite at {self.url} does not answer ({type(error).__name__})") from None
        if answer.status != 200:
            raise Unavailable(f"the datasite at {self.url} answers with status {answer.status}")
        return content


class _Cancelled(Exception):
    """Nobody waits for a call any more, or the rest of it does not come."""


class _Call:
    """One call of the stream, while its pieces come."""

    def __init__(self, number: int) -> None:
        self.number, self.cancelled = number, threading.Event()
        self._pieces: queue.Queue[Frame] = queue.Queue(WAITING_PIECES)

    def add(self, frame: Frame) -> None:
        """A piece came. A call that takes none for too long is given up, since others wait behind it."""
        until = time.monotonic() + PIECE_SECONDS
        while not self.cancelled.is_set():
            try:
                self._pieces.put(frame, timeout=LOOK_SECONDS)
            except queue.Full:
                if time.monotonic() >= until:
                    self.cancelled.set()
            else:
                return

    def content(self) -> Iterator[bytes]:
        """The pieces, until the last. Raises `_Cancelled`."""
        while True:
            try:
                frame = self._pieces.get(timeout=PIECE_SECONDS)
            except queue.Empty:
                raise _Cancelled from None
            if self.cancelled.is_set() or frame.kind is Kind.CANCEL:
                raise _Cancelled
            yield frame.content
            if frame.kind is Kind.LAST:
                return


class DialOut:
    """Keeps the stream to one coordinator.

    Args:
      address: of the coordinator, as "coordinator.example:9443".
      authority: PEM of the authority behind its certificate; None for those that gRPC knows.
      local: the datasite.
      state: where the state is written, or None.
      tell: hears what happens, a line at a time.
    """

    def __init__(
        self,
        address: str,
        *,
        authority: bytes | None,
        local: Local,
        state: Path | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.address, self.local = address, local
        self._credentials = grpc.ssl_channel_credentials(authority)
        self._state, self._tell = State(address, state), tell
        self._stopped = threading.Event()
        self._stream: Any = None
        self._calls: _Calls | None = None

    def run(self) -> None:
        """Dial, and dial again, until `stop`."""
        wait = FIRST_WAIT
        threading.Thread(target=self._beat, daemon=True).start()
        try:
            while not self._stopped.is_set():
                began = time.monotonic()
                reason = self._once()
                if self._stopped.is_set():
                    break
                wait = FIRST_WAIT if time.monotonic() - began > STEADY_SECONDS else min(LONGEST_WAIT, 2 * wait)
                if self._state.lost(reason):
                    self._tell(f"Not connected to {self.address}: {reason}. It is tried again.")
                self._stopped.wait(wait * random.uniform(0.5, 1.0))  # not all hospitals at once
        finally:
            self._state.ended()

    def stop(self) -> None:
        """End the stream and `run`."""
        self._stopped.set()
        stream, calls = self._stream, self._calls
        if stream is not None:
            stream.cancel()
        if calls is not None:
            calls.end()

    def _beat(self) -> None:
        while not self._stopped.wait(TELL_SECONDS):
            self._state.write()

    def _once(self) -> str:
        """One stream, from its first frame to its last; why it ended."""
        with grpc.secure_channel(self.address, self._credentials, options=KEEPALIVE) as channel:
            calls = self._calls = _Calls(self.local, self._state)
            stream = self._stream = channel.stream_stream(ATTACH)(
                (frame.to_bytes() for frame in calls.frames()), metadata=((ADDRESS, self.address),)
            )
            if self._stopped.is_set():  # in between: `stop` did not find this stream
                stream.cancel()
            try:
                self._prove(stream, calls)
                for data in stream:
                    calls.take(Frame.from_bytes(data))
                return "it ended the connection"
            except grpc.RpcError as error:
                return _reason(error)
            except Unavailable as error:
                return str(error)
            except (ValueError, StopIteration):
                return "it sends what no coordinator sends"
            finally:
                stream.cancel()
                calls.end()

    def _prove(self, stream: Any, calls: _Calls) -> None:
        """Answer the coordinator's challenge with the datasite's statement for its address, and be let in."""
        silence = threading.Timer(PROOF_SECONDS, stream.cancel)
        silence.daemon = True
        silence.start()
        try:
            challenge = Frame.from_bytes(next(stream))
            if challenge.kind is not Kind.CHALLENGE or len(challenge.content) != NONCE:
                raise ValueError
            statement = self.local.statement(self.address, challenge.content)
            try:
                about = check_statement(statement, purpose=self.address, nonce=challenge.content)
            except NotOpened:
                raise Unavailable(f"{self.local.url} is no datasite that takes sealed calls") from None
            calls.hand_on(Frame(Kind.PROOF, 0, statement))
            if Frame.from_bytes(next(stream)).kind is not Kind.WELCOME:
                raise ValueError
        finally:
            silence.cancel()
        words = words_of(fingerprint(about.identity))
        if self._state.connected():
            self._tell(f"{about.name} is connected to {self.address}. Words of its key: {words}")


class _Calls:
    """The calls of one stream, each answered in a thread of its own, and the frames that go back."""

    def __init__(self, local: Local, state: State) -> None:
        self._local, self._state = local, state
        self._outgoing: queue.Queue[Frame | None] = queue.Queue(WAITING_PIECES * MOST_CALLS)
        self._calls: dict[int, _Call] = {}
        self._answered: deque[int] = deque(maxlen=1024)  # whose last pieces may still come
        self._ended = threading.Event()

    def frames(self) -> Iterator[Frame]:
        """What goes to the coordinator, until `end`."""
        return iter(self._outgoing.get, None)

    def end(self) -> None:
        """The stream is over: nobody waits for any of its calls."""
        self._ended.set()
        for call in list(self._calls.values()):
            call.cancelled.set()
        while True:
            try:
                self._outgoing.put_nowait(None)
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._outgoing.get_nowait()
            else:
                return

    def hand_on(self, frame: Frame, call: _Call | None = None) -> None:
        """Send a frame, unless nobody waits for it."""
        while not self._ended.is_set() and not (call and call.cancelled.is_set()):
            with contextlib.suppress(queue.Full):
                self._outgoing.put(frame, timeout=1.0)
                return

    def take(self, frame: Frame) -> None:
        """Hand a frame to its call, which begins with it where it is the first."""
        call = self._calls.get(frame.call)
        if frame.kind is Kind.CANCEL:
            if call is not None:
                call.cancelled.set()
        elif call is not None:
            call.add(frame)
        elif frame.call in self._answered or frame.kind not in (Kind.ASK, Kind.PIECE, Kind.LAST):
            return
        elif len(self._calls) >= MOST_CALLS:
            self._answered.append(frame.call)
            self.hand_on(Frame(Kind.FAILED, frame.call, b"busy"))
        else:
            call = self._calls[frame.call] = _Call(frame.call)
            call.add(frame)
            work = self._ask if frame.kind is Kind.ASK else self._call
            threading.Thread(target=self._answer, args=(work, call), daemon=True).start()

    def _answer(self, work: Callable[[_Call], Iterator[Frame]], call: _Call) -> None:
        """Send what the datasite answers to one call."""
        try:
            for frame in work(call):
                self.hand_on(frame, call)
            self._state.calls += 1
        except (OSError, http.client.HTTPException, Unavailable, _Cancelled):
            self.hand_on(Frame(Kind.FAILED, call.number, UNREACHED), call)
        finally:
            self._answered.append(call.number)
            self._calls.pop(call.number, None)

    def _ask(self, call: _Call) -> Iterator[Frame]:
        """A statement for a researcher: for calls alone, so that no stream is proved with it."""
        nonce = next(call.content())
        yield Frame(Kind.LAST, call.number, self._local.statement(FOR_CALLS, nonce))

    def _call(self, call: _Call) -> Iterator[Frame]:
        kind = {"content-type": "application/octet-stream"}
        with contextlib.closing(self._local.post("/api/v2/sealed", call.content(), **kind)) as answer:
            if answer.status != 200:
                yield Frame(Kind.FAILED, call.number, str(answer.status).encode())
                return
            held = b""
            while piece := answer.read(PIECE_BYTES):
                if held:
                    yield Frame(Kind.PIECE, call.number, held)
                held = piece
            yield Frame(Kind.LAST, call.number, held)


def authority_in(path: Path | None) -> bytes | None:
    """The PEM file of an authority. Raises `DatasiteError` where it cannot be used."""
    if path is None:
        return None
    try:
        ssl.create_default_context(cafile=path)
        return path.read_bytes()
    except ssl.SSLError:
        raise DatasiteError(f"--ca {path} holds no certificate in PEM form. Ask the coordinator for one.") from None
    except OSError as error:
        raise DatasiteError(f"--ca {path} cannot be read: {error.strerror}.") from None


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _reason(error: grpc.RpcError) -> str:
    code = error.code() if isinstance(error, grpc.Call) else None
    details = str(error.details() or "") if isinstance(error, grpc.Call) else ""
    if "CERTIFICATE_VERIFY_FAILED" in details or "not match" in details or "handshake" in details.lower():
        return "its TLS certificate was not accepted; is --ca its authority, and the host the certificate's?"
    known = {
        grpc.StatusCode.PERMISSION_DENIED: "it does not know this hospital's words; give them to the researcher",
        grpc.StatusCode.UNAUTHENTICATED: "its certificate is for another address than this one",
        grpc.StatusCode.UNAVAILABLE: "it does not answer",
        grpc.StatusCode.RESOURCE_EXHAUSTED: "it has too many connections",
    }
    return known.get(code, f"it answers with {code.name}") if code is not None else "it does not answer"
