"""Transport to a datasite: TLS certificates always verified, no redirects, answers bounded in time and size.

An answer has a deadline from the first byte sent to the last one read, and a size; the connection is cut where it goes
beyond, or where no byte goes through for too long. It comes as it is: a compressed one is refused, since two megabytes
of it can unpack to gigabytes.

Nothing in the environment weakens this. PySyft's `IGNORE_TLS_ERRORS` would turn the check off and `REQUESTS_CA_BUNDLE`
would change whom it trusts: here the authorities are the system's, or `ca_file` alone where one is named.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from policies.addresses import is_loopback
from policies.errors import InvalidRequest, PermissionRefused, Unavailable

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 120.0  # from the question's first byte to the answer's last
LEAST_SECONDS = 1.0  # what a question is given at least, however little is left of a round's deadline
SMALL_ANSWER, LARGEST_ANSWER = 64 << 10, 64 << 20  # bytes of an answer, unless the caller expects more
PIECE = 64 << 10

_ends: contextvars.ContextVar[float | None] = contextvars.ContextVar("ends", default=None)
_silence: contextvars.ContextVar[float] = contextvars.ContextVar("silence", default=ANSWER_SECONDS)
_watch: contextvars.ContextVar[_Watch | None] = contextvars.ContextVar("watch", default=None)


@contextmanager
def within(seconds: float = math.inf, *, silence: float = ANSWER_SECONDS) -> Iterator[None]:
    """Bound the questions that are asked in this block.

    Args:
      seconds: that they have together, each at least `LEAST_SECONDS`.
      silence: seconds after which a datasite counts as away that takes and sends no byte, from `LEAST_SECONDS`: one
        whose process is there but stands still lets itself be connected to, and answers nothing.
    """
    ends = _ends.set(time.monotonic() + seconds)
    quiet = _silence.set(max(LEAST_SECONDS, silence))
    try:
        yield
    finally:
        _silence.reset(quiet)
        _ends.reset(ends)


def seconds_left() -> float:
    """What a question that is asked now may take, until its answer is read."""
    ends = _ends.get()
    left = ANSWER_SECONDS if ends is None else max(LEAST_SECONDS, ends - time.monotonic())
    return min(ANSWER_SECONDS, left)


def silence_left() -> float:
    """How long a question that is asked now may go without a byte."""
    return min(_silence.get(), seconds_left())


class _Watch:
    """Cuts the connections of one question at its deadline: a read that gets a byte a second never times out itself."""

    def __init__(self, seconds: float) -> None:
        self.cut, self._held = False, list[socket.socket]()
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> _Watch:
        self._token = _watch.set(self)
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _watch.reset(self._token)
        with self._lock:
            for held in self._held:
                held.close()
            self._held.clear()

    def hold(self, connected: socket.socket) -> None:
        """Watch a connection too, by a duplicate: TLS and proxies put other objects in the socket's place."""
        with self._lock:
            self._held.append(connected.dup())

    def _end(self) -> None:
        with self._lock:
            self.cut = True
            for held in self._held:
                with contextlib.suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)


class _Sending:
    """Sends in pieces, each of which may take as long as a datasite may be silent.

    urllib3 sends all of a question within the time that connecting may take, which weights on a slow line do not.
    """

    sock: Any
    timeout: Any

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.timeout = silence_left()
        self.sock.settimeout(self.timeout)

    def send(self, data: bytes) -> None:
        whole = memoryview(data)
        for begin in range(0, len(whole), PIECE):
            super().send(whole[begin : begin + PIECE])  # type: ignore[misc]


class _Connection(_Sending, HTTPConnection):  # type: ignore[misc]  # its `send` takes bytes alone
    def _new_conn(self) -> socket.socket:
        return _held(super()._new_conn())


class _TLSConnection(_Sending, HTTPSConnection):  # type: ignore[misc]
    def _new_conn(self) -> socket.socket:
        return _held(super()._new_conn())


def _held(connected: socket.socket) -> socket.socket:
    if watch := _watch.get():
        watch.hold(connected)
    return connected


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_POOLS = {"http": _Pool, "https": _TLSPool}


def check_url(url: str) -> None:
    """Pass where `url` is https, or plain http on this machine alone.

    Raises:
      InvalidRequest: it is neither, or holds more than scheme, host and port.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError as error:  # of a port, an address, or a name with a part that is empty or too long
        raise InvalidRequest(f"url={url!r}: {error}. Write https://host:port.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidRequest(f"url={url!r} does not begin with https:// (or http:// on loopback) and a host.")
    if "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise InvalidRequest("A datasite's url is https://host:port and nothing more: no account, no path.")
    if parts.scheme == "http" and not is_loopback(host):
        raise InvalidRequest(
            f"url={url!r} is plain HTTP to another machine: whoever is between could read and change what is sent. "
            f"Write https://{parts.netloc}, and the hospital's authority as ca_file where the system does not know it."
        )


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """A context that checks certificate and host name. Raises `InvalidRequest` where `ca_file` cannot be used."""
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except ssl.SSLError:
        raise InvalidRequest(f"ca_file {ca_file} holds no certificate in PEM form. Ask the hospital for one.") from None
    except OSError as error:
        raise InvalidRequest(f"ca_file {ca_file} cannot be read: {error.strerror}.") from None


def proxy_of(url: str) -> str | None:
    """The environment's proxy on the way to `url`, as "HTTPS_PROXY=proxy.example:3128", without an account; or None."""
    if not url.lower().startswith("https://"):
        return None
    chosen = select_proxy(url, get_environ_proxies(url))
    if not chosen:
        return None
    names = (name for name in PROXY_VARIABLES if os.environ.get(name) == chosen)
    return f"{next(names, 'proxy')}={chosen.rpartition('@')[2].rpartition('//')[2]}"


class Session(requests.Session):
    """A session of one datasite. Certificates are checked whatever a caller asks, and redirects are not followed.

    Args:
      context: as `tls_context` makes it.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _CheckedAdapter(context))
        # A datasite may start again between two calls, and a call that changes something is never sent twice.
        self.headers["Connection"] = "close"
        self.headers["Accept-Encoding"] = "identity"

    def request(  # type: ignore[override]  # the rest goes on as it comes
        self, method: str, url: str, *arguments: Any, largest: int = LARGEST_ANSWER, **options: Any
    ) -> requests.Response:
        """One request, its answer read whole.

        Args:
          largest: bytes of the answer.

        Raises:
          Unavailable: a fault of the datasite, or an answer that is too slow.
          PermissionRefused: a redirect, or an answer that is compressed or too large.
        """
        seconds = seconds_left()
        options |= {"verify": True, "allow_redirects": False, "stream": True}
        quiet = silence_left()
        options["timeout"] = (min(CONNECT_SECONDS, quiet), quiet)
        with _Watch(seconds) as watch:
            try:
                answer = super().request(method, url, *arguments, **options)
                _read_whole(answer, largest)
            except (requests.RequestException, HTTPError, OSError):
                if watch.cut:  # whatever the cut looked like from inside
                    raise Unavailable(f"{url} did not answer within {seconds:.0f} s. Try again.") from None
                raise
            except ValueError as error:  # of a proxy's address that is none
                raise requests.exceptions.InvalidProxyURL(error) from None
            if watch.cut:  # a cut connection can look like one that has ended
                raise Unavailable(f"{url} did not answer within {seconds:.0f} s. Try again.")
        if answer.status_code >= 500:  # syft would call it a failed connection
            raise Unavailable(
                f"{answer.url} answered with status {answer.status_code}: something failed there that only its "
                "owner can see. Try again, or tell the owner when it happened."
            )
        return answer

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere. The library would read an answer whole, and unpack it, to look where it points."""

    def get_adapter(self, url: str) -> Any:
        """The way to `url`; none for plain HTTP to another machine."""
        check_url("{0.scheme}://{0.netloc}".format(urlsplit(url)))
        return super().get_adapter(url)

    def merge_environment_settings(self, url: str, *arguments: Any, **options: Any) -> Any:
        """What the environment adds: a proxy, which sees no more than host names, and on loopback nothing."""
        self.trust_env = url.lower().startswith("https://")
        return super().merge_environment_settings(url, *arguments, **options)


def _read_whole(answer: requests.Response, largest: int) -> None:
    """Read an answer's bytes as they are, within `largest`; what is refused is refused before it is read."""
    try:
        if answer.is_redirect:
            raise PermissionRefused(
                f"{answer.url} points to {answer.headers['location'][:200]!r}, which is not followed. If the hospital "
                "has moved there, write that address into network.toml."
            )
        _check_plain(answer)
        parts, size = [], 0
        while part := _piece(answer):
            parts.append(part)
            size += len(part)
            if size > largest:
                raise PermissionRefused(
                    f"{answer.url} sends more than the {largest:,} bytes that its answer may have. Tell its owner."
                )
        answer._content, answer._content_consumed = b"".join(parts), True  # what .content and .json() give
    finally:
        answer.close()


def _check_plain(answer: requests.Response) -> None:
    if answer.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise PermissionRefused(f"{answer.url} sends a compressed answer, which was not asked for. Tell its owner.")


def _piece(answer: requests.Response) -> bytes:
    try:
        return bytes(answer.raw.read(PIECE, decode_content=False))
    except HTTPError as error:
        raise requests.ConnectionError(error) from error


class _CheckedAdapter(HTTPAdapter):
    """Connects with one TLS context, and leaves alone what requests would put in its place."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options, ssl_context=self._context)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        host, _ = super().build_connection_pool_key_attributes(request, True, cert)
        return host, {"cert_reqs": "CERT_REQUIRED", "ssl_context": self._context}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing: the context decides."""
