"""A datasite and a machine of its jobs in this process, over TLS on loopback; warm parents are functions."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasites.jobs.elsewhere import JobMachine
from datasites.jobs.frames import receive_frame, send_frame
from datasites.jobs.isolation import PROTECTIONS
from datasites.jobs.machine import TRUSTED, Machine
from datasites.jobs.pinned import CERTIFICATE, keep, key_words, make_own, read_certificate
from datasites.jobs.pool import JobPool

HELD = dict.fromkeys(PROTECTIONS, True)
Play = Callable[[socket.socket], None]


def trust(certificate: Path, target: Path) -> None:
    """Have a side believe another's certificate, its words compared."""
    keep(certificate, key_words(read_certificate(certificate)), target)


def ready(connection: socket.socket) -> None:
    """What a job says once it is confined."""
    send_frame(connection, {"event": "ready", "protections": HELD})


def answering(connection: socket.socket) -> None:
    """A job without rows that is done at once."""
    ready(connection)
    send_frame(connection, {"event": "done"}, b"tensors")


class Parent:
    """A warm parent on a Unix socket; each job is a function of its connection, after what it was asked was read."""

    def __init__(self, path: Path, play: Play) -> None:
        self.path, self.play = path, play
        self.asked: list[tuple[dict[str, Any], bytes]] = []
        self.connections = 0
        self.hung_up = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._job, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _job(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, Exception):
            connection.settimeout(20)
            job, payload, _ = receive_frame(connection, largest_payload=1 << 28)
            self.asked.append((job, payload))
            self.play(connection)
            while connection.recv(1 << 16):
                pass
        self.hung_up.set()

    def close(self) -> None:
        """Listen no more, and wait for what was begun."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


class Pair:
    """A machine of jobs that listens, and a datasite that it trusts and that has pinned it."""

    def __init__(self, directory: Path, play: Play = answering, *, rows_bytes: int = 1 << 26) -> None:
        self.there, self.here = directory / "machine", directory / "datasite"
        self.machines_certificate, self.own = make_own(self.there), make_own(self.here)
        self.pinned = self.here / "runner.pem"
        self.trusted = self.there / TRUSTED / "datasite.pem"
        trust(self.machines_certificate, self.pinned)
        trust(self.own, self.trusted)
        self.parent = Parent(directory / "p.sock", play)
        self.said: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self.machine = Machine(self.there, self._connect, self._listener, rows_bytes=rows_bytes, tell=self.said.append)
        self._thread = threading.Thread(target=self.machine.serve, daemon=True)
        self._thread.start()

    def _connect(self, kind: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.parent.path))
        return connection

    def reached(self, port: int | None = None, *, own: Path | None = None, pinned: Path | None = None) -> JobMachine:
        """The machine as a datasite reaches it, at another port or with another certificate where that is said."""
        return JobMachine("runner", f"127.0.0.1:{port or self.port}", own or self.here, pinned or self.pinned)

    def pool(self, machine: JobMachine | None = None, *, records: int = 1000) -> JobPool:
        """A pool whose runner is there."""
        return JobPool({}, start_parents=False, elsewhere={"runner": machine or self.reached()}, records=records)

    def close(self) -> None:
        """End the machine and its parent."""
        self.machine.stop()
        self._thread.join(10)
        self.parent.close()


def another(directory: Path) -> Path:
    """A folder with a key and a certificate that nobody knows."""
    return make_own(directory / "another").parent / CERTIFICATE


class Wire:
    """A relay between two machines that keeps what passes, and may change it.

    Args:
      change: of a piece on its way to the machine, and how many bytes passed before; a shorter one ends it.
    """

    def __init__(self, port: int, change: Callable[[bytes, int], bytes] = lambda piece, _: piece) -> None:
        self._to, self._change = port, change
        self.there, self.back = bytearray(), bytearray()
        self.came_back: list[float] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            for source, target, kept in ((near, far, self.there), (far, near, self.back)):
                thread = threading.Thread(target=self._pass, args=(source, target, kept), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass(self, source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError):  # and when something came back, an end included
            while piece := source.recv(1 << 16):
                changed = self._change(piece, len(kept)) if kept is self.there else piece
                kept += piece
                if kept is self.back:
                    self.came_back.append(time.monotonic())
                target.sendall(changed)
                if len(changed) < len(piece):
                    break
        if kept is self.back:
            self.came_back.append(time.monotonic())
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
