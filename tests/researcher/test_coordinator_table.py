"""The `[coordinator]` table: where hospitals that open no port are reached."""

from __future__ import annotations

from pathlib import Path

import pytest

import researcher
from policies.errors import InvalidRequest, Unavailable
from policies.wire.key_words import fingerprint, fingerprint_in, words_of
from researcher import coordinator as coordinators
from researcher import coordinator_table
from researcher.coordinator import Coordinator
from researcher.coordinator_table import start, token_in, way_of
from researcher.network import words_in
from researcher.standing_coordinator import StandingCoordinator
from tests.factories import free_port
from tests.relays.connections import TOKEN, make_certificates

ONE, OTHER = fingerprint(b"one"), fingerprint(b"other")


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    return make_certificates(tmp_path)


def here(port: int) -> dict[str, str]:
    return {"listen": f"127.0.0.1:{port}", "certificate": "coordinator.pem", "key": "coordinator.key"}


def test_one_process_has_one_coordinator_at_an_address_for_all_its_studies(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator_table, "_running", {})
    table = here(free_port())
    made = way_of(table, certificates, frozenset({ONE}))
    assert isinstance(made, Coordinator)
    try:
        assert way_of(table, certificates, frozenset({OTHER})) is made
        assert made.admitted == {ONE, OTHER}
        assert made.token == ""  # nobody else sends through it
    finally:
        made.stop()


def test_a_port_that_is_taken_is_named_with_what_to_do(certificates: Path) -> None:
    port = free_port()
    table = here(port)
    made = start(table["listen"], certificate=certificates / table["certificate"], key=certificates / table["key"])
    try:
        with pytest.raises(Unavailable, match=f"Nothing can listen at 127.0.0.1:{port}.*researcher coordinate"):
            start(table["listen"], certificate=certificates / table["certificate"], key=certificates / table["key"])
    finally:
        made.stop()


def test_a_coordinator_elsewhere_is_asked_with_its_token(certificates: Path) -> None:
    table = {"address": "localhost:1", "ca_file": "ca.pem", "token_file": "token"}
    assert isinstance(way_of(table, certificates, frozenset()), StandingCoordinator)
    assert token_in(certificates / "token", "token_file") == TOKEN


@pytest.mark.parametrize("content", [b"not PEM", b""])
def test_a_certificate_that_is_none_is_refused(certificates: Path, content: bytes) -> None:
    (certificates / "coordinator.pem").write_bytes(content)
    with pytest.raises(InvalidRequest, match="not in PEM form, or names no host"):
        way_of(here(free_port()), certificates, frozenset())


def test_a_hospital_that_has_not_dialled_in_is_named(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinators, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(coordinator_table, "_running", {})
    entry = {
        "name": "Rural",
        "via": "coordinator",
        "words": words_of(ONE),
        "email": "a@b.example",
        "password": "secret",
    }
    table = {
        name: value if name == "listen" else str(certificates / value) for name, value in here(free_port()).items()
    }
    try:
        with pytest.raises(
            Unavailable, match=r"Rural has not dialled in to the coordinator\. Does `datasite dial-out`"
        ):
            researcher.connect([entry], coordinator=table)
    finally:
        for made in coordinator_table._running.values():
            made.stop()


def test_the_words_of_a_network_file_are_those_of_hospitals_that_dial_out(tmp_path: Path) -> None:
    path = tmp_path / "network.toml"
    account = 'email = "a@b.example"\npassword_file = "p"\n'
    path.write_text(
        f'[[datasites]]\nname = "a"\nvia = "coordinator"\nwords = "{words_of(ONE)}"\n{account}'
        f'[[datasites]]\nname = "b"\nurl = "https://b.example"\nwords = "{words_of(OTHER)}"\n{account}'
    )
    assert words_in(path) == {fingerprint_in(words_of(ONE))}
