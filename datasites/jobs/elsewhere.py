"""A machine elsewhere that runs a datasite's jobs, as the datasite reaches it: one TLS connection for each job.

What goes over it are the frames that a warm parent on this machine would be sent, after a greeting in which both say
who they are and what the job is. Rows follow as a stream (`jobs.rows`). Each connection is new, so a machine that was
started again is simply reached again.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from datasites.jobs.frames import receive_frame, send_frame
from datasites.jobs.pinned import check_other_side, client_context, der_of, read_certificate
from datasites.jobs.rows import Layout, PublicTime
from policies.errors import DatasiteError, Unavailable

PROTOCOL = b"1"  # the first byte that the machine sends
LARGEST_GREETING = 64 << 10
TRIES = (0.0, 0.3, 1.0)  # seconds before each try: a machine may be starting again
CONNECT_SECONDS, GREETING_SECONDS = 5.0, 10.0
UNKNOWN_HERE = (  # alerts of TLS by which the machine says that it does not take our certificate
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "TLSV1_ALERT_UNKNOWN_CA",
    "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    "TLSV1_ALERT_ACCESS_DENIED",
)


class Unanswered(Unavailable):
    """Nobody answers at an address: the one reason for which waiting helps."""


@functools.cache
def software() -> str:
    """The version that both sides must have."""
    return metadata.version("private-datasites")


def host_and_port(address: str) -> tuple[str, int]:
    """From "host:port" or "[::1]:port", which was checked before."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def keep_watch(connection: socket.socket) -> None:
    """Notice within half a minute that the other machine is gone, without a word or while something is sent."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)


@dataclass(frozen=True)
class Greeting:
    """What a machine says of itself.

    Args:
      shares_user: whether jobs run there as the user of the program that takes connections, which is not root.
      rows_bytes: the longest stream of rows that it takes.
    """

    version: str
    shares_user: bool
    rows_bytes: int

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Greeting:
        """From the machine's first frame. Raises `Unavailable`."""
        version, shares_user, most = (value.get(name) for name in ("version", "shares_user", "rows_bytes"))
        if not isinstance(version, str) or not isinstance(shares_user, bool) or type(most) is not int:
            raise Unavailable("it sends what no machine of jobs sends")
        return cls("".join(part for part in version[:40] if part.isprintable()), shares_user, most)


class JobMachine:
    """Jobs of one kind on a machine elsewhere.

    Args:
      kind: `"exporter"` or `"runner"`.
      address: "host:port".
      own: the folder with this datasite's key and certificate.
      theirs: the file with the machine's certificate.
    """

    def __init__(self, kind: str, address: str, own: Path, theirs: Path) -> None:
        self.kind, self.address, self.own, self.theirs = kind, address, own, theirs

    def __repr__(self) -> str:
        return f"JobMachine({self.kind!r}, {self.address!r})"

    def look(self) -> dict[str, Any]:
        """Whether the machine can be used now: `reason` is "" or why not, `seconds` what it took to be greeted."""
        about: dict[str, Any] = {"kind": self.kind, "address": self.address, "version": "", "seconds": None}
        begin = time.monotonic()
        try:
            connection, greeting = self.connect(tries=(0.0,))
        except DatasiteError as error:
            return {**about, "reason": str(error)}
        connection.close()
        return {**about, "version": greeting.version, "seconds": time.monotonic() - begin, "reason": ""}

    def connect(
        self,
        layout: Layout | None = None,
        *,
        records: int = 0,
        zeros: bool = False,
        shown: PublicTime | None = None,
        tries: Sequence[float] = TRIES,
    ) -> tuple[ssl.SSLSocket, Greeting]:
        """A connection on which a job's frames may go, and what the machine said of itself.

        Args:
          layout: of the rows that will follow.
          records: of how many the stream is.
          shown: when the answer may leave the machine; at once where there is none.
          tries: seconds to wait before each.
          zeros: the stream stands for rows, comes before the job, and is thrown away.

        Raises:
          DatasiteError: key or certificate of this side are missing.
          Unavailable: naming address, cause and next step.
        """
        pinned = der_of(read_certificate(self.theirs))
        context = client_context(self.own, pinned)
        asked = {"kind": self.kind, "rows": layout and layout.as_dict(), "records": records, "zeros": zeros}
        kind: type[Unavailable] = Unavailable
        reason = ""
        for wait in tries:
            time.sleep(wait)
            try:
                return self._connected(context, pinned, asked, layout.size(records) if layout else 0, shown)
            except ssl.SSLError as error:
                kind, reason = Unavailable, _reason(error)
                break
            except OSError as error:
                kind = Unanswered
                reason = (
                    f"it does not answer ({error.strerror or type(error).__name__}). Start `datasite jobs serve` there,"
                    f" look at what is between, or mend {self.kind}_address in settings.toml"
                )
            except Unavailable as error:
                kind, reason = Unavailable, str(error)
                break
        raise kind(f"The {self.kind} at {self.address} cannot be used: {reason}.")

    def _connected(
        self, context: ssl.SSLContext, pinned: bytes, asked: dict[str, Any], size: int, shown: PublicTime | None
    ) -> tuple[ssl.SSLSocket, Greeting]:
        raw = socket.create_connection(host_and_port(self.address), timeout=CONNECT_SECONDS)
        with contextlib.ExitStack() as held:
            held.callback(raw.close)
            keep_watch(raw)
            raw.settimeout(GREETING_SECONDS)
            connection = held.enter_context(context.wrap_socket(raw))
            check_other_side(connection, [pinned])
            deadline = time.monotonic() + GREETING_SECONDS
            if (first := connection.recv(1)) != PROTOCOL:  # only now does it know our certificate: an alert comes here
                if not first:
                    raise ConnectionResetError("it ended the connection")
                raise Unavailable("it speaks another protocol. Install the same version on both machines")
            greeting = Greeting.from_dict(_frame(connection, deadline))
            if greeting.version != software():
                raise Unavailable(
                    f"it has version {greeting.version} and this datasite {software()}. Install the same on both"
                )
            if size > greeting.rows_bytes:
                raise Unavailable(
                    f"a round's rows are sent as {size:,} bytes and it takes {greeting.rows_bytes:,}. Lower"
                    " runner_records in settings.toml, or start it with a larger --rows-mib"
                )
            if shown is not None:
                times = {"first": max(0.0, shown.first - time.monotonic()), "every": shown.every}
                asked = {**asked, **{name: f"{seconds:018.6f}" for name, seconds in times.items()}}  # of one length
            send_frame(connection, asked)
            if (answer := _frame(connection, deadline)).get("ready") is not True:
                said = str(answer.get("refused", ""))[:200]
                raise Unavailable(f"it says {''.join(part for part in said if part.isprintable())!r}")
            held.pop_all()
            return connection, greeting


def _frame(connection: ssl.SSLSocket, deadline: float) -> dict[str, Any]:
    return receive_frame(connection, largest_payload=0, largest_json=LARGEST_GREETING, deadline=deadline)[0]


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            "it shows another certificate than the one that is pinned here. Where it was made anew there, run"
            " `datasite jobs use` again with its words; else somebody is between the two"
        )
    if error.reason in UNKNOWN_HERE:
        return "it does not know this datasite's certificate. Run `datasite jobs trust` there"
    return f"it speaks no TLS 1.3 of ours ({error.reason or type(error).__name__}). Look at what listens there"
