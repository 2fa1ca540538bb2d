"""Settings: refused where they are wrong, changed all or nothing, and no plain HTTP beyond this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasites.settings import Settings, change_settings, create_directory
from policies.errors import DatasiteError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "datasite"
    create_directory(made, name="General", host="127.0.0.1", port=9400, owner_email="owner@general.example")
    return made


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.3", "::", "general", "127.evil.example"])
def test_plain_http_is_refused_outside_loopback(directory: Path, host: str) -> None:
    before = (directory / "settings.toml").read_text()
    with pytest.raises(DatasiteError, match=r"not loopback.*tls_certificate"):
        change_settings(directory, {"host": host})
    assert (directory / "settings.toml").read_text() == before  # nothing is half-changed


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_certificate(directory: Path, host: str) -> None:
    assert change_settings(directory, {"host": host}).url.startswith("http://")


def test_any_address_is_served_with_a_certificate(directory: Path) -> None:
    changed = change_settings(directory, {"host": "0.0.0.0", "tls_certificate": "tls.pem", "tls_key": "tls.key"})
    assert changed.url == "https://0.0.0.0:9400"
    with pytest.raises(DatasiteError, match=r"tls_certificate=.*tls\.pem.* cannot be read"):
        changed.tls_files()


def test_certificate_and_key_go_together(directory: Path) -> None:
    with pytest.raises(DatasiteError, match="go together"):
        change_settings(directory, {"tls_certificate": "tls.pem"})


def test_changed_settings_keep_their_comments_and_types(directory: Path) -> None:
    changed = change_settings(directory, {"port": "9500", "release_grid_seconds": "0.5", "smtp_host": 'a "b" # c'})
    assert (changed.port, changed.release_grid_seconds, changed.smtp_host) == (9500, 0.5, 'a "b" # c')
    text = (directory / "settings.toml").read_text()
    assert "# rounds show at a multiple of this" in text
    assert text.count("smtp_host") == 1


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"no_such": "1"}, "no setting 'no_such'"),
        ({"directory": "/"}, "no setting 'directory'"),
        ({"port": "many"}, "not a number"),
        ({"port": "0"}, r"outside \[1, 65535\]"),
        ({"isolation": "none"}, "neither of"),
    ],
)
def test_a_wrong_setting_names_what_is_wrong(directory: Path, values: dict[str, str], says: str) -> None:
    before = (directory / "settings.toml").read_text()
    with pytest.raises(DatasiteError, match=says):
        change_settings(directory, values)
    assert (directory / "settings.toml").read_text() == before


def test_a_datasite_with_a_wrong_setting_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DatasiteError, match="not loopback"):
        create_directory(tmp_path / "d", name="G", host="0.0.0.0", port=9400, owner_email="o@g.example")
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_an_older_version_wrote_no_line_for_is_added(directory: Path) -> None:
    path = directory / "settings.toml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("smtp_")))
    assert change_settings(directory, {"smtp_host": "mail"}).smtp_host == "mail"
    assert Settings.load(directory).smtp_port == 587
