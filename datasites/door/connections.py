"""Bounds on connections and on the pace of what goes over them, before anything of a request is believed.

A connection is counted from the moment it is accepted, its TLS handshake included. Until the head of its request is
whole it *waits*, which it may do for so long; then it *sends* its body, at a least rate. Where there is no room for
another, the oldest that waits of the address that has the most makes it, or else the oldest that sends. So half-open
connections keep nobody out: who asks is answered, `/healthz` among them. Heads have a bound on the number of their
fields here, and one on their bytes in `serve`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import resource
import socket
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from policies.addresses import is_loopback, owner_of

LARGEST_HEADER = 32 << 10  # bytes of one request's head
MOST_FIELDS = 100  # of one request's head
OTHER_FILES = 512  # that the datasite has open beside its connections
GRACE_SECONDS = 15.0  # in which a short body comes and a short answer is taken, however slow the line
PIECE = 64 << 10  # bytes of an answer that are handed on at once

Peer = tuple[str, int]
logger = logging.getLogger(__name__)


class Connections:
    """The open connections of a datasite. For all threads of a process.

    Args:
      most, most_of_one: of all, and of one address; loopback and `gateways` stand for many and have the first bound.
      seconds: how long one may wait.
    """

    def __init__(
        self,
        *,
        most: int,
        most_of_one: int,
        seconds: float,
        gateways: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most, self.most_of_one, self.seconds, self.clock = most, most_of_one, seconds, clock
        self._gateways = [ipaddress.ip_network(network) for network in gateways]
        self._open: dict[Peer, _Connection] = {}
        self._waiting: OrderedDict[Peer, float] = OrderedDict()  # the oldest first
        self._sending: OrderedDict[Peer, float] = OrderedDict()
        self._of_one: Counter[str] = Counter()
        self._lock = threading.RLock()

    def admit(self, connection: _Connection) -> bool:
        """Whether there is room for a connection, made where it can be; from now on it is counted."""
        owner = owner_of(connection.peer[0])
        with self._lock:
            self.end_slow()
            if not self._stands_for_many(connection.peer[0]) and self._of_one[owner] >= self.most_of_one:
                if not self._make_room(self._waiting, owner):
                    return False
            elif len(self._open) >= self.most and not (
                self._make_room(self._waiting) or self._make_room(self._sending)
            ):
                return False
            self._open[connection.peer] = connection
            self._of_one[owner] += 1
            self._waiting[connection.peer] = self.clock()
            return True

    def forget(self, connection: _Connection) -> None:
        """A connection was closed."""
        with self._lock:
            if self._open.get(connection.peer) is connection:
                del self._open[connection.peer]
                self.asks(connection.peer)
                owner = owner_of(connection.peer[0])
                self._of_one[owner] -= 1
                if not self._of_one[owner]:
                    del self._of_one[owner]

    def sends(self, peer: Peer) -> None:
        """The head of a connection's request is whole, and its body comes."""
        with self._lock:
            if self._waiting.pop(peer, None) is not None:
                self._sending[peer] = self.clock()

    def asks(self, peer: Peer) -> None:
        """A connection's request is whole, and is being answered."""
        with self._lock:
            self._waiting.pop(peer, None)
            self._sending.pop(peer, None)

    def is_answered(self, peer: Peer) -> None:
        """A connection waits for its next request."""
        with self._lock:
            if peer in self._open:
                self._sending.pop(peer, None)
                self._waiting[peer] = self.clock()

    def end_slow(self) -> None:
        """End connections that have waited for too long."""
        with self._lock:
            before = self.clock() - self.seconds
            while self._waiting and next(iter(self._waiting.values())) < before:
                self._end(next(iter(self._waiting)))

    def counts(self) -> tuple[int, int]:
        """How many are open, and how many of them wait or send."""
        with self._lock:
            return len(self._open), len(self._waiting) + len(self._sending)

    def _stands_for_many(self, host: str) -> bool:
        if is_loopback(host):
            return True
        try:
            return any(ipaddress.ip_address(host) in network for network in self._gateways)
        except ValueError:
            return False

    def _make_room(self, some: Mapping[Peer, float], owner: str | None = None) -> bool:
        """End the oldest of some connections that is `owner`'s, or else whoever's has the most of them."""
        if owner is None:
            owners = Counter(owner_of(peer[0]) for peer in some)
            if not owners:
                return False
            owner = owners.most_common(1)[0][0]
        oldest = next((peer for peer in some if owner_of(peer[0]) == owner), None)
        if oldest is None:
            return False
        self._end(oldest)
        return True

    def _end(self, peer: Peer) -> None:
        connection = self._open[peer]
        self.forget(connection)
        with contextlib.suppress(OSError):  # it may have gone by itself
            connection.shutdown(socket.SHUT_RDWR)


def allow_files(connections: int) -> None:
    """Raise what this process may open to what so many connections need, as far as the host lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Connection(socket.socket):
    """An accepted connection, which says when it is closed."""

    peer: Peer
    connections: Connections

    def close(self) -> None:
        self.connections.forget(self)
        super().close()


class Listener(socket.socket):
    """A listening socket whose connections are counted, and hung up on where there is no room. For asyncio's own loop.

    Args:
      listening: taken over.
    """

    def __init__(self, listening: socket.socket, connections: Connections) -> None:
        blocking = listening.gettimeout()
        super().__init__(listening.family, listening.type, listening.proto, fileno=listening.detach())
        self.settimeout(blocking)
        self.connections = connections
        self._watching: asyncio.TimerHandle | None = None

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection that there is room for. Raises `BlockingIOError` where none waits."""
        while True:
            accepted, address = super().accept()
            connection = _Connection(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
            connection.peer, connection.connections = (str(address[0]), int(address[1])), self.connections
            if self.connections.admit(connection):
                self._watch()
                return connection, address
            connection.close()

    def _watch(self) -> None:
        """Look for connections that wait for too long, in the loop that accepts, for as long as any are open."""
        if self._watching is None:
            self._watching = asyncio.get_running_loop().call_later(min(1.0, self.connections.seconds / 4), self._look)

    def _look(self) -> None:
        self._watching = None
        self.connections.end_slow()
        if self.connections.counts()[0]:
            self._watch()


class Bounded:
    """An ASGI app whose requests have a bounded head, come and are taken at a least rate, and mark their connection.

    Args:
      rate: bytes a second, after `grace` seconds.
      gateways: whose X-Forwarded-For names who asks. The scheme is taken from a gateway on loopback in any case.
    """

    def __init__(
        self,
        app: ASGIApp,
        connections: Connections,
        *,
        rate: float,
        grace: float = GRACE_SECONDS,
        gateways: Iterable[str] = (),
    ) -> None:
        trusted = list(gateways)
        inner: Any = app if trusted else _as_connected(app)
        self.app: Any = ProxyHeadersMiddleware(inner, trusted or "127.0.0.1")
        self.connections, self.rate, self.grace = connections, rate, grace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        peer = scope.get("client") or ("", 0)
        self.connections.sends(peer)
        pace = _Pace(receive, send, self.rate, self.grace, whole=lambda: self.connections.asks(peer))
        if not any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"]):
            self.connections.asks(peer)
        scope["peer"] = scope.get("client")
        try:
            if len(scope["headers"]) > MOST_FIELDS:
                refusal = Response(
                    f"A request has at most {MOST_FIELDS} header fields.\n", 431, {"connection": "close"}
                )
                await refusal(scope, receive, send)
            else:
                await self.app(scope, pace.receive, pace.send)
        except TooSlow:
            logger.info("A client took its answer too slowly.")
        finally:
            self.connections.is_answered(peer)


class TooSlow(TimeoutError):
    """A client sends its body, or takes its answer, more slowly than it may."""


class _Pace:
    """One request's body and answer, each within a deadline that moves on with what has gone over the line.

    What the datasite itself takes is on nobody's clock. Answers go out in pieces: else the whole of one waits in the
    memory of its connection.
    """

    def __init__(
        self, receive: Receive, send: Send, rate: float, grace: float, *, whole: Callable[[], None] = lambda: None
    ) -> None:
        self._receive, self._send, self._whole = receive, send, whole
        self._more = True
        self._coming, self._going = _Allowance(rate, grace), _Allowance(rate, grace)

    async def receive(self) -> Message:
        """The next part of the body. Raises `TooSlow`."""
        if not self._more:
            return await self._receive()  # waits for the client to go, for as long as it stays
        with self._coming.spent():
            message: Message = await _within(self._receive(), self._coming.left)
        self._coming.add(len(message.get("body", b"")))
        self._more = bool(message.get("more_body", False))
        if not self._more:
            self._whole()
        return message

    async def send(self, message: Message) -> None:
        """Hand on a part of the answer. Raises `TooSlow` where the client does not take it."""
        body = message.get("body", b"")
        for start in range(0, len(body) - PIECE, PIECE):
            await self._hand_on({**message, "body": body[start : start + PIECE], "more_body": True})
        await self._hand_on({**message, "body": body[(len(body) - 1) // PIECE * PIECE :]} if body else message)

    async def _hand_on(self, message: Message) -> None:
        with self._going.spent():
            await _within(self._send(message), self._going.left)
        self._going.add(len(message.get("body", b"")))


def _within(awaitable: Awaitable[Any], seconds: float) -> Awaitable[Any]:
    """Its outcome, or `TimeoutError` after `seconds`."""
    return asyncio.wait_for(awaitable, seconds)


class _Allowance:
    """Seconds that a client may still keep the datasite waiting."""

    def __init__(self, rate: float, grace: float) -> None:
        self.left, self._rate = grace, rate

    def add(self, size: int) -> None:
        """So many bytes went over the line."""
        self.left += size / self._rate

    @contextlib.contextmanager
    def spent(self) -> Iterator[None]:
        """Count what is waited for inside. Raises `TooSlow` where it took all that was left."""
        began = time.monotonic()
        try:
            yield
        except TimeoutError:
            raise TooSlow from None
        finally:
            self.left = max(0.001, self.left - (time.monotonic() - began))


def _as_connected(app: ASGIApp) -> ASGIApp:
    """The app with the address that is connected as who asks, whatever a header says."""

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        if "peer" in scope:
            scope["client"] = scope["peer"]
        await app(scope, receive, send)

    return called
