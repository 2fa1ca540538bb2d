"""Why a hospital is not reached: the proxy, the certificate, the clock, the password or the hospital itself."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from datasites.cli.shell import read_password
from policies.errors import DatasiteError, InvalidRequest, PermissionRefused, Unavailable
from researcher.client import Datasite
from researcher.network import _password
from researcher.transport import proxy_of
from tests.factories import PASSWORD, RESEARCHER, free_port
from tests.researcher.test_transport import Certificates, Server

HOSPITAL = "https://general.hospitals.example"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def said(url: str, ca_file: Path | None = None, kind: type[DatasiteError] = Unavailable) -> str:
    with pytest.raises(kind) as told:
        Datasite(url, RESEARCHER, PASSWORD, name="general", ca_file=ca_file).describe()
    assert type(told.value) is kind
    return str(told.value)


# -- a proxy in the environment --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_that_does_not_answer_is_named_by_its_variable_and_without_its_account(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    port = free_port()
    monkeypatch.setenv(variable, f"http://ada:secret@127.0.0.1:{port}")
    message = said(HOSPITAL)
    way = f"the environment's {variable}=127.0.0.1:{port} (connection refused)"
    assert message.startswith(f"general at {HOSPITAL} is not reached through {way}")
    assert "NO_PROXY" in message
    assert "secret" not in message


@pytest.mark.parametrize(("status", "reason"), [(407, "it asks for an account"), (403, "it refuses the way there")])
def test_a_proxy_that_refuses_says_so(monkeypatch: pytest.MonkeyPatch, status: int, reason: str) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_error(status)

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    proxy = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_port}")
    try:
        assert f"HTTPS_PROXY=127.0.0.1:{proxy.server_port} ({reason})" in said(HOSPITAL)
    finally:
        proxy.shutdown()
        proxy.server_close()


@pytest.mark.parametrize(
    "value",
    [
        "http://[bad",
        "http://127.0.0.1:99999",
        "socks5://127.0.0.1:1080",
        "http://",
        "gopher://a:1",
        "http://a b:1",
        ":",
    ],
)
def test_a_proxys_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    assert "is not reached through the environment's HTTPS_PROXY=" in said(HOSPITAL)


def test_no_proxy_is_said_to_be_on_the_way_where_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", ".hospitals.example,localhost")
    assert proxy_of(HOSPITAL) is None
    assert proxy_of("http://127.0.0.1:9400") is None
    assert proxy_of("https://elsewhere.example") == "HTTPS_PROXY=proxy.example:3128"


# -- certificates and clocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days_ago", "reason"),
    [
        (-10, r"it is not valid yet, at \d{4}-\d\d-\d\d \d\d:\d\d UTC on this machine's clock\). Set the clock if it"),
        (
            800,
            r"it has expired, at \d{4}-\d\d-\d\d \d\d:\d\d UTC on this machine's clock\). Set the clock if it is wrong",
        ),
    ],
)
def test_a_certificate_of_another_time_names_this_machines_clock(
    certificates: Certificates, days_ago: int, reason: str
) -> None:
    import re

    with Server(certificates.server("other-time", days_ago=days_ago)) as server:
        assert re.search(reason, said(server.url, certificates.path("authority"), PermissionRefused))


@pytest.mark.parametrize(
    ("hosts", "strange", "reason"),
    [
        (["elsewhere.example"], False, "(it is for another host name). Is the url in network.toml the one"),
        ([], True, "(its authority is not known). Name the hospital's authority as ca_file in network.toml"),
    ],
)
def test_a_wrong_certificate_says_which_way_it_is_wrong(
    certificates: Certificates, hosts: list[str], strange: bool, reason: str
) -> None:
    with Server(certificates.server("wrong", *hosts, strange=strange)) as server:
        assert reason in said(server.url, certificates.path("authority"), PermissionRefused)


# -- a hospital that is not there ------------------------------------------------------------------------------------


@pytest.fixture
def hanging_up() -> Iterator[str]:
    """A port that hangs up on whoever comes, as a datasite does while it starts."""
    listening = socket.create_server(("127.0.0.1", 0))

    def hang_up() -> None:
        while True:
            try:
                listening.accept()[0].close()
            except OSError:
                return

    threading.Thread(target=hang_up, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def test_a_hospital_that_is_down_or_starting_is_told_apart(hanging_up: str) -> None:
    assert "does not answer (connection refused)" in said(f"http://127.0.0.1:{free_port()}")
    assert "does not answer (it hung up, as a datasite does while it starts)" in said(hanging_up)


def test_a_host_that_nobody_knows_and_one_without_a_way_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", unknown)
        assert "does not answer (no such host)" in said(HOSPITAL)

    def nowhere(*_: object, **__: object) -> None:
        raise OSError(113, "No route to host")

    with monkeypatch.context() as patched:
        patched.setattr("urllib3.util.connection.create_connection", nowhere)
        assert "does not answer (no way there)" in said(HOSPITAL)


def test_plain_http_behind_https_is_named(certificates: Certificates) -> None:
    with Server() as server:
        url = server.url.replace("http://", "https://")
        assert "TLS was not answered" in said(url, certificates.path("authority"), PermissionRefused)
    assert ssl.OPENSSL_VERSION


# -- passwords in files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    ["correct horse", "correct horse\n", "correct horse\r\n", "correct horse ", " correct horse \n", "ünï cödé ✓ \t\n"],
)
def test_a_password_file_means_the_same_on_both_sides(tmp_path: Path, content: str) -> None:
    path = tmp_path / "password"
    path.write_bytes(content.encode())
    expected = content.removesuffix("\n").removesuffix("\r")
    assert _password({"password_file": "password"}, tmp_path, "general") == expected
    assert read_password(path, prompt="") == expected


@pytest.mark.parametrize("content", [b"", b"\n", b"first line of it\nsecond\n", b"correct horse\n\n"])
def test_a_password_file_of_no_line_or_several_is_refused_on_both_sides(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"general: password_file .*password is empty or has several lines"):
        _password({"password_file": "password"}, tmp_path, "general")
    with pytest.raises(InvalidRequest, match=r"--password-file .*password is empty or has several lines"):
        read_password(path, prompt="")


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_password_file_that_cannot_be_read_is_named_on_both_sides(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "password"
    path.write_bytes(content) if content else path.mkdir()
    with pytest.raises(
        InvalidRequest, match=r"general: password_file .* (cannot be read: Is a directory|is not text in)"
    ):
        _password({"password_file": "password"}, tmp_path, "general")
    with pytest.raises(DatasiteError, match=r"--password-file .* (cannot be read: Is a directory|is not text in)"):
        read_password(path, prompt="")
