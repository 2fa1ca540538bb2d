"""TLS between researcher and datasite, against real servers on loopback: what is believed, and what changes nothing."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

import pytest
import syft

from compose.authority import Authority, certificate_bytes, key_bytes, new_key
from policies.errors import InvalidRequest, PermissionRefused, Unavailable
from researcher.client import Datasite
from researcher.network import connect
from researcher.transport import Session, check_url, tls_context, within
from tests.factories import PASSWORD, RESEARCHER, DatasiteProcess

HOST = "general.hospitals.example"
NAMES = ["localhost", HOST, "elsewhere.example"]


@dataclass
class Certificates:
    """An authority, another one, and servers' certificates of theirs."""

    directory: Path
    authority: Authority = field(default_factory=lambda: Authority.of(new_key(), NAMES))
    stranger: Authority = field(default_factory=lambda: Authority.of(new_key(), NAMES))

    def __post_init__(self) -> None:
        for name in ("authority", "stranger"):
            content = certificate_bytes(getattr(self, name).certificate)
            (self.directory / f"{name}.pem").write_bytes(content)

    def path(self, name: str) -> Path:
        return self.directory / f"{name}.pem"

    def server(self, name: str, *hosts: str, days_ago: int = 0, strange: bool = False) -> Path:
        """A PEM file with a key and its certificate."""
        key = new_key()
        signer = self.stranger if strange else self.authority
        certificate = signer.certify(key, hosts or ("localhost",), now=datetime.now(UTC) - timedelta(days=days_ago))
        path = self.directory / f"{name}.server.pem"
        path.write_bytes(key_bytes(key) + certificate_bytes(certificate))
        return path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Server:
    """A web server on loopback that counts what it is asked; with a certificate, over TLS."""

    def __init__(self, pem: Path | None = None, *, redirect: str = "") -> None:
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                self.send_response(307 if redirect else 404)
                if redirect:
                    self.send_header("Location", redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET  # noqa: N815  # the name is the library's

            def log_message(self, *_: object) -> None:
                """Nothing on standard error."""

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        if pem:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"{'https' if pem else 'http'}://localhost:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture(scope="module")
def secured(
    made_datasite: Path, tmp_path_factory: pytest.TempPathFactory, jobs: Path, certificates: Certificates
) -> Iterator[str]:
    """The address of a real datasite that serves TLS."""
    pem = certificates.server("datasite", "localhost", HOST)
    process = DatasiteProcess(made_datasite, tmp_path_factory.mktemp("secured") / "datasite", jobs=jobs)
    shutil.copy(pem, process.directory / "tls.pem")
    process.set(tls_certificate="tls.pem", tls_key="tls.pem")
    process.start(wait=False)
    url = f"https://localhost:{process.port}"
    context = ssl.create_default_context(cafile=str(certificates.path("authority")))
    deadline = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=5, context=context).close()
            break
        except OSError:
            assert time.monotonic() < deadline, process.log()
            time.sleep(0.1)
    yield url
    process.stop()


def test_a_datasite_is_reached_over_tls_with_its_authority(
    secured: str, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IGNORE_TLS_ERRORS", "CONTAINER_HOST"):  # PySyft's: one turns checks off, one changes the host
        monkeypatch.setenv(name, "docker" if name == "CONTAINER_HOST" else "1")
    shutil.copy(certificates.path("authority"), tmp_path / "ca.pem")
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "network.toml").write_text(
        f'[[datasites]]\nname = "a"\nurl = "{secured}"\nemail = "{RESEARCHER}"\n'
        'password_file = "password"\nca_file = "ca.pem"\n'
    )
    network = connect(tmp_path / "network.toml")
    asset = network.descriptions["a"]["datasets"][0]["asset"]
    assert network.datasites["a"].mock(asset).shape[1] > 2  # a call of syft's own, past the login
    assert network.datasites["a"].requests() == []


class Tunnel:
    """A web proxy on loopback that joins every CONNECT to one port, whatever host was asked for."""

    def __init__(self, port: int) -> None:
        self.asked: list[str] = []
        tunnel = self

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                tunnel.asked.append(self.path)
                self.send_response(200)
                self.end_headers()
                with socket.create_connection(("127.0.0.1", port)) as far:
                    back = threading.Thread(target=pass_on, args=(far, self.connection))
                    back.start()
                    pass_on(self.connection, far)
                    back.join()
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Nothing on standard error."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()


def pass_on(near: socket.socket, far: socket.socket) -> None:
    """Send what comes from one side to the other until it ends."""
    with contextlib.suppress(OSError):
        while content := near.recv(65536):
            far.sendall(content)
    with contextlib.suppress(OSError):
        far.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxied(secured: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tunnel]:
    """The university's web proxy, through which `HOST` is the datasite that serves TLS."""
    with Tunnel(int(secured.rpartition(":")[2])) as tunnel:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
        yield tunnel


# Stock clients take port 443 for every https address, which a test cannot listen on: hence the proxy.
def test_a_stock_pysyft_client_works_over_tls(
    proxied: Tunnel, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.path("authority")))
    client = syft.login(url=f"https://{HOST}", email=RESEARCHER, password=PASSWORD)
    assert client.datasets[0].name.startswith("flu ")
    assert set(proxied.asked) == {f"{HOST}:443"}


def test_a_universitys_proxy_is_used_and_the_certificate_is_still_checked(
    proxied: Tunnel, certificates: Certificates
) -> None:
    known, unknown = (
        Datasite(f"https://{HOST}", RESEARCHER, PASSWORD, ca_file=certificates.path(name))
        for name in ("authority", "stranger")
    )
    assert known.describe()["datasets"][0]["name"] == "flu"
    with pytest.raises(PermissionRefused, match="authority is not known"):
        unknown.describe()
    assert set(proxied.asked) == {f"{HOST}:443"}


BAD = {
    "another authority": {"strange": True},
    "another name": {},
    "expired": {"days_ago": 800},
}


@pytest.mark.parametrize("fault", [*BAD, "a system that does not know it"])
@pytest.mark.parametrize("variable", ["", "IGNORE_TLS_ERRORS", "REQUESTS_CA_BUNDLE"])
def test_a_bad_certificate_is_refused_before_anything_is_sent_whatever_the_environment_says(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, fault: str, variable: str
) -> None:
    signer = "stranger" if fault == "another authority" else "authority"
    if variable:
        monkeypatch.setenv(variable, str(certificates.path(signer)) if variable == "REQUESTS_CA_BUNDLE" else "1")
    ca_file = certificates.path("authority") if fault in BAD else None
    hosts = ["elsewhere.example"] if fault == "another name" else []
    with Server(certificates.server("bad", *hosts, **BAD.get(fault, {}))) as server:  # type: ignore[arg-type]
        datasite = Datasite(server.url, RESEARCHER, PASSWORD, name="a", ca_file=ca_file)
        with pytest.raises(PermissionRefused, match=r"TLS certificate of https://localhost.* was not accepted") as told:
            datasite.describe()
        assert "SSLError" not in str(told.value)  # the reason is in words
        assert server.asked == []


def test_a_caller_cannot_turn_the_check_off(certificates: Certificates) -> None:
    with Server(certificates.server("strange", strange=True)) as server:
        session = Session(tls_context(certificates.path("authority")))
        with pytest.raises(OSError, match="certificate"):
            session.get(server.url, verify=False)
        assert server.asked == []


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_redirect_is_not_followed_and_says_where_it_pointed(certificates: Certificates, method: str) -> None:
    with Server() as plain, Server(certificates.server("moved"), redirect=f"{plain.url}/api/v2/login") as server:
        session = Session(tls_context(certificates.path("authority")))
        with pytest.raises(PermissionRefused, match=r"points to 'http://localhost.*network.toml"):
            getattr(session, method)(server.url, allow_redirects=True)
        assert (len(server.asked), plain.asked) == (1, [])


def test_what_is_not_a_datasite_is_unavailable_over_tls_too(certificates: Certificates) -> None:
    with Server(certificates.server("other")) as server:
        datasite = Datasite(server.url, RESEARCHER, PASSWORD, ca_file=certificates.path("authority"))
        with pytest.raises(Unavailable, match="this is not a datasite"):
            datasite.describe()


def test_a_proxy_of_the_environment_does_not_see_what_stays_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as proxy, Server() as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert Session(tls_context(None)).get(f"{server.url}/healthz").status_code == 404
        assert (proxy.asked, server.asked) == ([], ["/healthz"])


class SlowReader:
    """A server that reads one question in pieces and answers it, as over a slow line; or stands still in the middle.

    Args:
      pause: seconds before each piece.
      most: bytes after which it stands still; None to answer.
    """

    PIECE = 64 << 10

    def __init__(self, pem: Path | None, *, pause: float, most: int | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.PIECE)
        self._pem, self._pause, self._most = pem, pause, most
        self._ended = threading.Event()
        self.url = f"{'https' if pem else 'http'}://localhost:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> SlowReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listener.close()

    def _serve(self) -> None:
        connected, _ = self._listener.accept()
        if self._pem:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._pem)
            connected = context.wrap_socket(connected, server_side=True)
        with connected, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += connected.recv(1)
            (length,) = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            read = 0
            while read < min(length, self._most or length) and not self._ended.wait(self._pause):
                read += len(connected.recv(self.PIECE))
            if self._most:
                self._ended.wait()
            connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


LARGE = 8 << 20  # more than loopback's buffers hold


@pytest.mark.parametrize("over_tls", [False, True])
def test_weights_may_take_longer_on_a_slow_line_than_connecting_may(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, over_tls: bool
) -> None:
    monkeypatch.setattr("researcher.transport.CONNECT_SECONDS", 0.5)
    pem = certificates.server("slow") if over_tls else None
    with SlowReader(pem, pause=0.006 if over_tls else 0.02) as server:  # TLS comes in smaller pieces
        begun = time.monotonic()
        answer = Session(tls_context(certificates.path("authority"))).request("POST", server.url, data=bytes(LARGE))
        assert (answer.status_code, answer.content) == (200, b"ok")
        assert time.monotonic() - begun > 1.0  # twice of what connecting may take, or this shows nothing


@pytest.mark.parametrize("most", [1, 1 << 20, LARGE])
def test_a_datasite_that_stands_still_is_away_after_the_silence_that_it_may_keep(
    certificates: Certificates, most: int
) -> None:
    with SlowReader(None, pause=0.0, most=most) as server:
        begun = time.monotonic()
        session, told = Session(tls_context(None)), Datasite(server.url, RESEARCHER, PASSWORD)._translated()
        with pytest.raises(Unavailable, match=r"did not answer in time|timed out"), told, within(60, silence=1.0):
            session.request("POST", server.url, data=bytes(LARGE))
        assert 0.9 < time.monotonic() - begun < 10


PLAIN = (
    "http://general.hospitals.example",
    "http://192.0.2.1:9400",
    "http://127.0.0.1.example",
    "http://[2001:db8::1]",
)


@pytest.mark.parametrize("url", PLAIN)
def test_plain_http_to_another_machine_is_refused_with_the_address_and_the_next_step(url: str) -> None:
    with pytest.raises(InvalidRequest, match="plain HTTP to another machine") as told:
        Datasite(url, RESEARCHER, PASSWORD)
    assert url in str(told.value)
    assert url.replace("http://", "https://") in str(told.value)
    with pytest.raises(InvalidRequest, match="general: url="):
        connect([{"name": "general", "url": url, "email": RESEARCHER, "password": PASSWORD}])
    with pytest.raises(InvalidRequest, match="plain HTTP"):
        Session(tls_context(None)).get(url)


@pytest.mark.parametrize("url", ["http://localhost:9400", "http://127.8.9.1", "http://[::1]:9400", "https://a.example"])
def test_https_and_this_machine_are_accepted(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize("url", ["ftp://a.example", "https://", "https://a:b@c.example", "https://a.example/x", "x"])
def test_an_address_with_more_or_less_than_scheme_host_and_port_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="url"):
        check_url(url)


def test_an_authority_file_that_cannot_be_used_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for name, said in (("missing.pem", "cannot be read: No such file"), ("empty.pem", "holds no certificate")):
        with pytest.raises(InvalidRequest, match=said):
            Datasite("https://a.example", RESEARCHER, PASSWORD, ca_file=tmp_path / name)
