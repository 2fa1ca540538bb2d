"""The address of a datasite is had before anything starts, or one line says which setting is why not."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from datasites.door import listening
from datasites.door.listening import held_address
from datasites.settings import Settings
from policies.errors import Unavailable
from tests.factories import free_port


def _settings(directory: Path, *, host: str = "127.0.0.1", port: int = 0) -> Settings:
    return Settings(directory, name="A", host=host, port=port or free_port(), owner_email="owner@datasite.example")


def test_a_port_that_another_program_has_is_named_with_the_setting(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    said = (
        rf"^Port {settings.port} of 127\.0\.0\.1 is taken by another program\. .* port in {tmp_path}/settings\.toml\.$"
    )
    taken = socket.create_server(("127.0.0.1", settings.port))
    with taken, pytest.raises(Unavailable, match=said), held_address(settings):
        pass


def test_of_two_datasites_that_start_at_once_with_one_port_the_second_is_refused(tmp_path: Path) -> None:
    """Both would bind: on Linux two sockets may, as long as neither listens."""
    settings = _settings(tmp_path)
    with held_address(settings), pytest.raises(Unavailable, match="is taken"), held_address(settings):
        pass
    with held_address(settings):
        pass


def test_who_comes_while_it_starts_is_hung_up_on_and_who_comes_later_waits_to_be_served(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    place = ("127.0.0.1", settings.port)
    with held_address(settings) as address:
        for _ in range(3):
            with socket.create_connection(place, timeout=5) as early:
                assert early.recv(1) == b""
        (listens,) = address.serve()
        with socket.create_connection(place, timeout=5) as late:
            listens.setblocking(True)
            accepted, _ = listens.accept()
            with accepted:
                accepted.sendall(b"!")
                assert late.recv(1) == b"!"


def test_the_address_is_free_again_afterwards_though_connections_have_just_ended(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    for _ in range(2):
        with held_address(settings), socket.create_connection(("127.0.0.1", settings.port), timeout=5) as early:
            early.recv(1)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "may not listen at port 443. Set one of 1024 or more as port in "),
        (errno.EADDRNOTAVAIL, "host='hospital.example' is no address of this machine. Set one that is in "),
        (errno.EMFILE, "Nothing can listen at port 443 of host='hospital.example': Too many open files. Mend "),
    ],
)
def test_every_other_reason_names_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    class Refused(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(number, "as the system says it")

    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.1", 443))]
    )
    monkeypatch.setattr(listening.socket, "socket", Refused)
    with pytest.raises(Unavailable) as told, held_address(_settings(tmp_path, host="hospital.example", port=443)):
        pass
    assert said in str(told.value)
    assert str(tmp_path / "settings.toml") in str(told.value)


@pytest.mark.parametrize("host", ["no host", "a" * 70, "\udcff"])
def test_a_host_without_an_address_is_named(tmp_path: Path, host: str) -> None:
    said = r"has no address\. Set it to one of this machine in .*settings\.toml"
    with pytest.raises(Unavailable, match=said), held_address(_settings(tmp_path, host=host)):
        pass
