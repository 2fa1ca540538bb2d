"""The address that a datasite listens at: bound before anything is started, and held until it serves.

Whoever asks while it starts is hung up on at once, as where nothing listens, and does not wait for minutes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import threading
from collections.abc import Iterator

from datasites.settings import Settings
from policies.errors import Unavailable

BACKLOG = 128  # of connections in the moment between the start and the first one that is served


class Address:
    """Sockets that are bound and listen. `serve` gives them, once, to the server that answers from then on."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets
        self._wake, self._woken = socket.socketpair()
        self._hanging_up = threading.Thread(target=self._hang_up, daemon=True)
        self._hanging_up.start()

    def serve(self) -> list[socket.socket]:
        """The sockets; connections that come from now on wait to be accepted."""
        self._wake.close()
        self._hanging_up.join()
        return self._sockets

    def close(self) -> None:
        """Let go of the address."""
        self._wake.close()
        self._hanging_up.join()
        for listening in self._sockets:
            listening.close()

    def _hang_up(self) -> None:
        with selectors.DefaultSelector() as selector, self._woken:
            for readable in (*self._sockets, self._woken):
                selector.register(readable, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._woken in ready:
                    return
                for listening in self._sockets:
                    if listening in ready:
                        with contextlib.suppress(OSError):  # as where who came has gone again
                            listening.accept()[0].close()


@contextlib.contextmanager
def held_address(settings: Settings) -> Iterator[Address]:
    """Bind host and port of the settings.

    Raises:
      Unavailable: they cannot be had; the message names the setting and why.
    """
    address = Address(_bound(settings))
    try:
        yield address
    finally:
        address.close()


def _bound(settings: Settings) -> list[socket.socket]:
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
    except (OSError, UnicodeError):  # a name that nobody knows, or that no name can be
        raise Unavailable(
            f"host={settings.host!r} has no address. Set it to one of this machine in {_where(settings)}."
        ) from None
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, place in dict.fromkeys(found):
            listening = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of connections that have ended
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(place)
            listening.listen(BACKLOG)  # two programs may bind the same port; only one may listen
            listening.setblocking(False)
    except OSError as error:
        for listening in sockets:
            listening.close()
        raise Unavailable(_why(settings, error)) from None
    return sockets


def _why(settings: Settings, error: OSError) -> str:
    where = _where(settings)
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {settings.port} of {settings.host} is taken by another program. Stop that one, or set another port"
            f" in {where}."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"This user may not listen at port {settings.port}. Set one of 1024 or more as port in {where}."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"host={settings.host!r} is no address of this machine. Set one that is in {where}."
    why = os.strerror(error.errno) if error.errno else "unknown"
    return f"Nothing can listen at port {settings.port} of host={settings.host!r}: {why}. Mend {where}."


def _where(settings: Settings) -> str:
    return str(settings.directory / "settings.toml")
