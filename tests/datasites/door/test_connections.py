"""Connections that ask for nothing, ask slowly or take nothing keep nobody out.

On loopback, with uvicorn's server as `serve` has it. Other addresses of loopback stand for strangers here.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from datasites.door import connections as limits
from datasites.door.app import Gate
from datasites.door.connections import Bounded, Connections, Listener
from datasites.door.memory import Memory
from datasites.serve import server_options
from tests import loops

STRANGER, RESEARCHER = "127.0.0.2", "127.0.0.3"
QUICK = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
LARGE_ANSWER = 32 << 20

pytestmark = pytest.mark.process  # a server of sockets, which waits by the clock


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Says `ok` once the body is whole; at `/metrics` it says much."""
    while (await receive()).get("more_body"):
        pass
    body = bytes(LARGE_ANSWER) if scope["path"] == "/metrics" else b"ok"
    size = str(len(body)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
    await send({"type": "http.response.body", "body": body})


class Serving:
    """A gate before a small app, with the bounds that a datasite has."""

    def __init__(self, *, most: int = 40, most_of_one: int = 10, seconds: float = 30.0, rate: float = 1e6) -> None:
        self.connections = Connections(most=most, most_of_one=most_of_one, seconds=seconds)
        self.memory = Memory(64 << 20)
        gate = Gate(app, 8 << 20, memory=self.memory)
        bounded = Bounded(gate, self.connections, rate=rate, grace=0.5)
        config = uvicorn.Config(bounded, host="127.0.0.1", port=0, log_config=None, **server_options())
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self.server = uvicorn.Server(config)
        sockets = [Listener(listening, self.connections)]
        self.thread = threading.Thread(target=lambda: self.server.run(sockets), daemon=True)
        self._open: list[socket.socket] = []

    def __enter__(self) -> Serving:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._open:
            connection.close()
        self.server.should_exit = True
        self.thread.join(10)

    def connect(self, source: str = STRANGER, sent: bytes = b"") -> socket.socket:
        """A connection from an address, kept open until the end."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(source, 0))
        self._open.append(connection)
        with contextlib.suppress(OSError):  # it may be hung up on
            connection.sendall(sent)
        return connection

    def ask(self, sent: bytes = QUICK, source: str = RESEARCHER) -> bytes:
        """All that is answered."""
        connection, answer = self.connect(source, sent), b""
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                answer += part
        return answer

    def is_well(self) -> bool:
        """Whether another address is answered at once."""
        began = time.monotonic()
        return self.ask().endswith(b"ok") and time.monotonic() - began < 5


def has_ended(connection: socket.socket, seconds: float = 20.0) -> bool:
    """Whether the other side has hung up, or does within some time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback's addresses as those of strangers."""
    monkeypatch.setattr(limits, "is_loopback", lambda host: False)


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\n"], ids=["silent", "half"])
def test_half_open_connections_of_one_address_keep_nobody_out(sent: bytes) -> None:
    with Serving() as serving:
        half_open = [serving.connect(sent=sent) for _ in range(60)]
        assert serving.is_well()
        assert serving.connections.counts()[0] <= 11
        assert has_ended(half_open[0])
        assert not has_ended(half_open[-1], 0.1)


def test_half_open_connections_through_a_gateway_make_room_for_who_asks() -> None:
    """Loopback has no bound of its own: the oldest that waits goes when all are taken."""
    with Serving() as serving:
        half_open = [serving.connect(sent=b"POST /api") for _ in range(60)]
        assert serving.is_well()
        assert serving.connections.counts()[0] <= 40
        assert has_ended(half_open[0])
        assert not has_ended(half_open[-1], 0.1)


@pytest.mark.usefixtures("strangers")
def test_room_is_made_by_the_address_that_has_the_most() -> None:
    with Serving(most=20, most_of_one=15) as serving:
        one_of_another = serving.connect(RESEARCHER)
        many = [serving.connect() for _ in range(15)]
        others = [serving.connect(f"127.0.1.{number}") for number in range(1, 10)]
        assert serving.is_well()
        assert has_ended(many[0])
        assert not has_ended(one_of_another, 0.1)
        assert not has_ended(others[0], 0.1)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\n"], ids=["silent", "half"])
def test_a_connection_that_asks_for_nothing_is_ended(sent: bytes) -> None:
    with Serving(seconds=0.5) as serving:
        assert has_ended(serving.connect(sent=sent))
        assert serving.is_well()


def test_a_head_that_comes_byte_by_byte_is_ended() -> None:
    with Serving(seconds=1) as serving:
        connection, began = serving.connect(sent=b"GET /healthz HTTP/1.1\r\n"), time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 8:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() - began < 5


def test_bodies_that_come_slowly_hold_no_room() -> None:
    """Forty bodies that never come, as many as there are connections: one goes for a sign-in, the others by time."""
    head = b"POST /api/v2/api_call HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n"
    with Serving(rate=1 << 20) as serving:
        slow = [serving.connect(sent=head + b"x" * 70_000) for _ in range(40)]
        assert serving.is_well()
        sign_in = b"POST /api/v2/login HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
        assert serving.ask(sign_in).endswith(b"ok")
        assert all(has_ended(connection) for connection in slow)
        wait_until(lambda: serving.memory.in_use == 0)


def test_an_honest_body_in_parts_is_taken() -> None:
    head = b"POST /api/v2/api_call HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4000000\r\n\r\n"
    with Serving(rate=1 << 20) as serving:
        connection = serving.connect(RESEARCHER, head)
        for _ in range(8):
            connection.sendall(b"x" * 500_000)
            time.sleep(0.1)
        assert connection.recv(65536).endswith(b"ok")


def test_an_answer_that_nobody_takes_is_given_up() -> None:
    asking = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    with Serving(rate=4 << 20) as serving:
        connection = serving.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(asking)
        wait_until(lambda: serving.connections.counts() == (1, 0))
        wait_until(lambda: serving.connections.counts()[1] == 1 or serving.connections.counts()[0] == 0)
    with Serving(rate=64 << 10) as serving:  # who takes it has time for that
        assert len(serving.ask(asking.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))) > LARGE_ANSWER


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 100 + b"\r\n", b"431"),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nA: " + b"b" * (640 << 10) + b"\r\n\r\n", b"400"),
        (b"GET /" + b"b" * (640 << 10) + b" HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * (32 << 10) + b"\r\n", b"400"),
    ],
    ids=["fields", "field", "path", "many"],
)
def test_a_large_head_is_refused(head: bytes, status: bytes) -> None:
    """Whatever is not read before is hung up on, so the answer itself may be lost."""
    with Serving() as serving:
        answer = serving.ask(head)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 " + status)
        assert b"ok" not in answer
        assert serving.is_well()


def test_many_large_heads_take_little_memory() -> None:
    """A hundred heads of a megabyte, none of which ends: 100 MB took 1.4 GB."""
    import psutil

    with Serving(most=200) as serving:
        assert serving.is_well()
        before = psutil.Process().memory_info().rss
        for _ in range(100):
            serving.connect(sent=b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 170_000)
        assert serving.is_well()
        assert psutil.Process().memory_info().rss - before < 100 << 20


@pytest.mark.parametrize(("gateways", "client"), [((), ""), (("127.0.0.0/8",), "203.0.113.5")])
def test_who_asks_is_believed_of_gateways_in_the_settings_alone(gateways: tuple[str, ...], client: str) -> None:
    """A header that any client may send changes nobody's address; the scheme a gateway on loopback may tell."""

    seen: list[Any] = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["client"][0], scope["scheme"]))

    known = Connections(most=8, most_of_one=8, seconds=1, gateways=gateways)
    headers = [(b"x-forwarded-for", b"198.51.100.1, 203.0.113.5"), (b"x-forwarded-proto", b"https")]

    async def nothing(*_: Any) -> Any:
        return {}

    for peer in ("127.0.0.9", "127.0.0.1"):
        scope = {"type": "http", "scheme": "http", "client": (peer, 9), "headers": headers}
        loops.run(Bounded(look, known, rate=1e6, gateways=gateways)(scope, nothing, nothing))
    assert seen[0] == (client or "127.0.0.9", "https" if gateways else "http")
    assert seen[1] == (client or "127.0.0.1", "https")


def wait_until(holds: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("CRITICAL"):
        yield
