"""The machine elsewhere, from its own side: it takes datasites' connections and hands each job to a warm parent here.

    datasite jobs serve --dir DIRECTORY --listen HOST:PORT

Nobody is heard whose certificate is not in the folder `trusted`, which is read anew for each connection. What passes
through is looked at for its length alone, but for rows: these come as a stream, are written to sealed files in memory,
handed to the job as open files, as a datasite on this machine would, and let go of. Nothing of a job is written to disk
or logged. A job lives as long as its datasite's connection.

Parents, confinement and what a job computes are those of the datasite's own machine (`jobs.parent`, `jobs.child`).
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import ssl
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path

from datasites.jobs.elsewhere import LARGEST_GREETING, PROTOCOL, keep_watch, software
from datasites.jobs.frames import HEADER, LARGEST_ANSWER, LARGEST_JSON, receive_frame, send_frame
from datasites.jobs.pinned import check_other_side, der_of, read_certificate, server_context
from datasites.jobs.rows import MOST_RECORDS, Layout, PublicTime, discard_stream, hand_over, received_stream
from policies.errors import DatasiteError, Unavailable

TRUSTED = "trusted"
KINDS = ("exporter", "runner")
LARGEST_WEIGHTS = 256 << 20  # as `jobs.child`
LARGEST_RELEASE = 2 << 30  # its reader has a bound of its own, of the plan
HANDSHAKE_SECONDS = 10.0
IDLE_SECONDS = 600.0  # that a datasite may take from one part of a job to the next
MOST_STRANGERS = 32  # connections that have not shown a certificate; the oldest makes room
MOST_OF_ONE = 32  # of one datasite
LONGEST_SECONDS = 1e7
CHUNK = 64 << 10
PADDED_TO = 128 << 10  # more than a job prints
MOST_TOLD = 1000

Connect = Callable[[str], socket.socket]


class HungUp(Exception):
    """A datasite ended a connection, or sent what has no place there."""


def trusted_by(directory: Path) -> list[bytes]:
    """Certificates (DER) of the datasites whose jobs run here. Raises `DatasiteError` naming a file that is none."""
    folder = directory / TRUSTED
    return [der_of(read_certificate(path)) for path in sorted(folder.glob("*.pem"))] if folder.is_dir() else []


class Machine:
    """Takes connections of datasites, and relays each one's job.

    Args:
      directory: with this side's key and certificate, and the folder of trusted ones.
      connect: a connection to the warm parent of a kind; raises `Unavailable`.
      listener: bound, and listening.
      rows_bytes: the longest stream of rows that is taken.
      tell: hears what an operator should know: no address of a patient, no size, no time of a job.
    """

    def __init__(
        self,
        directory: Path,
        connect: Connect,
        listener: socket.socket,
        *,
        rows_bytes: int,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.directory, self.connect, self.listener = directory, connect, listener
        self.rows_bytes, self._tell = rows_bytes, tell
        self._lock = threading.Lock()
        self._strangers: OrderedDict[int, socket.socket] = OrderedDict()
        self._known: Counter[bytes] = Counter()
        self._told: set[tuple[str, str]] = set()
        self._stopping = threading.Event()

    def serve(self) -> None:
        """Take connections until `stop`."""
        while not self._stopping.is_set():
            try:
                raw, (host, *_) = self.listener.accept()
            except OSError:
                if self._stopping.is_set():
                    return
                time.sleep(0.05)  # no descriptor is free: one of a job will be
                continue
            with self._lock:
                self._strangers[id(raw)] = raw
                oldest = self._strangers.popitem(last=False)[1] if len(self._strangers) > MOST_STRANGERS else None
            if oldest is not None:
                _shut(oldest)
            threading.Thread(target=self._take, args=(raw, str(host)), daemon=True).start()

    def stop(self) -> None:
        """End `serve`; jobs under way end with this process."""
        self._stopping.set()
        _shut(self.listener)
        self.listener.close()

    def _take(self, raw: socket.socket, host: str) -> None:
        key, peer = id(raw), b""
        try:
            raw.settimeout(HANDSHAKE_SECONDS)
            keep_watch(raw)
            trusted = trusted_by(self.directory)
            context = server_context(self.directory, trusted)
            with context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False) as connection:
                with self._lock:
                    if key not in self._strangers:  # it had to make room
                        raise HungUp
                    self._strangers[key] = connection
                connection.do_handshake()
                peer = self._let_in(key, check_other_side(connection, trusted))
                self._greet(connection)
        except (ssl.SSLError, Unavailable) as error:
            if not peer:
                self._say(host, "shows no certificate that is trusted here, or speaks no TLS 1.3", error)
        except (OSError, HungUp):
            pass  # it went away
        except DatasiteError as error:
            self._say(host, f"could not be answered: {error}", error)
        finally:
            with self._lock:
                self._strangers.pop(key, None)
                if peer:
                    self._known[peer] -= 1
            raw.close()

    def _let_in(self, key: int, peer: bytes) -> bytes:
        with self._lock:
            self._strangers.pop(key, None)
            if self._known[peer] >= MOST_OF_ONE:
                raise HungUp
            self._known[peer] += 1
        return peer

    def _say(self, host: str, what: str, error: Exception) -> None:
        with self._lock:
            if (host, what) in self._told or len(self._told) >= MOST_TOLD:
                return
            self._told.add((host, what))
        reason = getattr(error, "reason", None) or type(error).__name__
        self._tell(f"Refused {host}: it {what} ({reason}). It is said once.")

    def _greet(self, connection: ssl.SSLSocket) -> None:
        connection.sendall(PROTOCOL)
        said = {"version": software(), "shares_user": os.geteuid() != 0, "rows_bytes": self.rows_bytes}
        send_frame(connection, said)
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        asked, _, _ = receive_frame(connection, largest_payload=0, largest_json=LARGEST_GREETING, deadline=deadline)
        try:
            kind, layout, records = self._checked(asked)
            shown = _shown(asked)
            job = self.connect(kind)
        except Unavailable as error:
            send_frame(connection, {"refused": str(error)})
            return
        with job:
            for end in (connection, job):
                end.settimeout(IDLE_SECONDS)
            send_frame(connection, {"ready": True})
            if asked.get("zeros") is True and layout is not None:
                discard_stream(connection, layout, records)
                layout = None
            _relay(connection, job, layout, records, shown)

    def _checked(self, asked: dict[str, object]) -> tuple[str, Layout | None, int]:
        kind, records = asked.get("kind"), asked.get("records")
        if kind not in KINDS or type(records) is not int or not 0 <= records <= MOST_RECORDS:
            raise Unavailable("That is no job of this machine.")
        layout = None if asked.get("rows") is None else Layout.from_dict(asked["rows"])
        if layout is not None and (kind != "runner" or layout.size(records) > self.rows_bytes):
            raise Unavailable("Such rows are not taken here.")
        return str(kind), layout, records


def _shown(asked: dict[str, object]) -> PublicTime | None:
    """When an answer may leave, on this machine's clock. Raises `Unavailable` for what is no time."""
    if "first" not in asked:
        return None
    try:
        first, every = (float(str(asked.get(name))) for name in ("first", "every"))
    except ValueError:
        first, every = -1.0, 0.0
    if not (0 <= first <= LONGEST_SECONDS and 0 < every <= LONGEST_SECONDS):
        raise Unavailable("An answer cannot leave at such a time.")
    return PublicTime(time.monotonic() + first, every)


def _relay(
    connection: ssl.SSLSocket, job: socket.socket, layout: Layout | None, records: int, shown: PublicTime | None
) -> None:
    """One job, part after part: what is asked, what protections hold, the rows, the answer."""
    _copy_frame(connection, job, LARGEST_JSON, LARGEST_WEIGHTS)
    _await(job, connection)
    _copy_frame(job, connection, LARGEST_ANSWER, 0)
    if layout is not None:
        with received_stream(connection, layout, records) as rows:
            hand_over(job, rows)
    _await(job, connection)
    if shown is not None:
        _hold(connection, shown)
    _copy_frame(job, connection, LARGEST_ANSWER, LARGEST_RELEASE, padded=layout is not None)


def _hold(connection: ssl.SSLSocket, shown: PublicTime) -> None:
    """Return at the next public time: whoever watches the wire does not see when a job was done, or that it died."""
    late = max(0.0, time.monotonic() - shown.first)
    until = shown.first + math.ceil(late / shown.every) * shown.every
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        if poll.poll(max(1, int(1000 * left))):
            _check_silent(connection)


def _await(job: socket.socket, connection: ssl.SSLSocket) -> None:
    """Return when the job says something. Raises `HungUp` once its datasite is gone, or speaks out of turn."""
    poll = select.poll()
    poll.register(job, select.POLLIN)
    poll.register(connection, select.POLLIN)
    if connection.pending():
        raise HungUp
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if connection.fileno() in ready:
            _check_silent(connection)
        if job.fileno() in ready:
            return


def _check_silent(connection: ssl.SSLSocket) -> None:
    """Raise `HungUp` unless what came over the wire was TLS's own."""
    previous = connection.gettimeout()
    connection.setblocking(False)
    try:
        connection.recv(1)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return
    except OSError:
        raise HungUp from None
    finally:
        connection.settimeout(previous)
    raise HungUp


def _copy_frame(
    source: socket.socket, target: socket.socket, largest_json: int, largest_payload: int, *, padded: bool = False
) -> None:
    """Pass one frame on, in pieces of one length, which show on the wire.

    Raises `HungUp` where it is longer than it may be, or ends early.

    Args:
      padded: fill its JSON up with spaces, so that what a job printed does not show by its length.
    """
    header = _exactly(source, HEADER.size)
    length, size = HEADER.unpack(header)
    if length > largest_json or size > largest_payload:
        raise HungUp
    if padded:
        body = _exactly(source, length)
        body = body.ljust(min(largest_json, math.ceil(length / PADDED_TO) * PADDED_TO))
        target.sendall(HEADER.pack(len(body), size) + body)
        length = 0
    else:
        target.sendall(header)
    left = length + size
    while left:
        target.sendall(_exactly(source, min(left, CHUNK)))
        left -= min(left, CHUNK)


def _exactly(source: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = source.recv(count - len(parts))
        if not part:
            raise HungUp
        parts += part
    return bytes(parts)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # of TLS's own, another thread is in the middle
