"""What `datasite serve` does before it serves: whom it waits for, whom it does not, and what ends it in one line."""

from __future__ import annotations

import dataclasses
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from datasites.directory import create_directory, locked
from datasites.jobs.isolation import PROTECTIONS
from datasites.operations.control_socket import ControlServer
from datasites.serve import _check_protections, _directory, certificate_warning
from datasites.settings import Settings
from policies.errors import IsolationMissing, Unavailable


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = create_directory(
        tmp_path / "hospital", name="A", host="127.0.0.1", port=9400, owner_email="owner@datasite.example"
    )
    return dataclasses.replace(made, start_seconds=20.0)


def test_a_command_that_works_on_the_directory_is_waited_for(settings: Settings) -> None:
    """`datasite publish` right after `datasite serve` often has the directory first, and must not end it."""
    heard: list[str] = []
    working, ended = threading.Event(), threading.Event()

    def command() -> None:
        with locked(settings.directory):
            working.set()
            ended.wait(20)

    def tell(text: str) -> None:
        heard.append(text)
        threading.Timer(0.3, ended.set).start()

    thread = threading.Thread(target=command)
    thread.start()
    working.wait(20)
    with _directory(settings, tell):
        assert ended.is_set()
    thread.join()
    assert heard == [f"Waiting for {settings.directory}: another command works on it."]


def test_a_command_that_does_not_end_is_named_with_the_setting(settings: Settings) -> None:
    impatient = dataclasses.replace(settings, start_seconds=0.3)
    said = r"in use by another command for start_seconds=0\.3\. Let it finish, or raise start_seconds in settings\.toml"
    with locked(settings.directory), pytest.raises(Unavailable, match=said), _directory(impatient, lambda text: None):
        pass


def test_a_directory_that_is_served_is_not_waited_for(settings: Settings) -> None:
    heard: list[str] = []
    control = ControlServer(settings.control_socket, lambda name, actor, arguments: {"status": "serving"})
    control.start()
    try:
        said = r"serves .* at http://127\.0\.0\.1:9400 already\. Stop that one first"
        with (
            locked(settings.directory),
            pytest.raises(Unavailable, match=said),
            _directory(settings, heard.append),
        ):
            pass
    finally:
        control.stop()
    assert heard == []


def test_a_host_without_a_protection_is_refused_with_what_to_mend_and_what_to_set(settings: Settings) -> None:
    held = dict.fromkeys(PROTECTIONS, True)
    _check_protections(settings, held)
    _check_protections(settings, held | {"own_user": False})
    lacking = held | {PROTECTIONS[0]: False}
    said = rf'does not give {PROTECTIONS[0]}\. Mend the host .* isolation = "reported" in settings\.toml\.$'
    with pytest.raises(IsolationMissing, match=said):
        _check_protections(settings, lacking)
    _check_protections(dataclasses.replace(settings, isolation="reported"), lacking)


def test_a_certificate_of_another_time_is_told_to_whoever_starts_the_datasite(settings: Settings) -> None:
    from compose.authority import Authority, certificate_bytes, key_bytes, new_key

    assert certificate_warning(settings, datetime.now(UTC)) == ""
    key = new_key()
    certificate = Authority.of(new_key(), ["localhost"]).certify(key, ["localhost"])
    (settings.directory / "tls.pem").write_bytes(certificate_bytes(certificate) + key_bytes(key))
    secured = dataclasses.replace(settings, tls_certificate="tls.pem", tls_key="tls.pem")
    now = datetime.now(UTC)
    assert certificate_warning(secured, now) == ""
    for other in (now - timedelta(days=10), now + timedelta(days=9000)):
        said = certificate_warning(secured, other)
        assert f"this machine's clock says {other:%Y-%m-%d %H:%M} UTC: nobody will accept it." in said
