"""Settings: refused where they are wrong, changed all or nothing, and no plain HTTP beyond this machine."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasites.directory import create_directory
from datasites.settings import KINDS, SETTINGS_TEMPLATE, Settings, change_settings, changed_settings
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


def test_files_that_are_no_certificate_and_its_own_key_are_named_before_anything_starts(directory: Path) -> None:
    from compose.authority import Authority, certificate_bytes, key_bytes, new_key

    authority, key = Authority.of(new_key(), ["localhost"]), new_key()
    certificate = certificate_bytes(authority.certify(key, ["localhost"]))
    files = {"good": certificate + key_bytes(key), "other": key_bytes(new_key()), "none": b"not PEM"}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    for names in (("good", "other"), ("good", "none"), ("none", "good")):
        changed = change_settings(directory, dict(zip(("tls_certificate", "tls_key"), names, strict=True)))
        with pytest.raises(DatasiteError, match=r"tls_certificate='.*' and tls_key='.*' are not a certificate and its"):
            changed.tls_files()
    assert change_settings(directory, {"tls_certificate": "good", "tls_key": "good"}).tls_files()


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
        ({"port": "many"}, "port='many' is not a whole number from 1 to 65535"),
        ({"port": "0"}, r"settings\.toml, port=0 is not a whole number from 1 to 65535\. Mend that line"),
        ({"smtp_port": "65536"}, "smtp_port=65536 is not a whole number from 1 to 65535"),
        ({"port": "9" * 30}, "9 is not a whole number from"),
        ({"round_seconds": "-1"}, r"round_seconds=-1\.0 is not a number from 0 to 10000000"),
        ({"round_seconds": "nan"}, "round_seconds=nan is not a number from"),
        ({"round_seconds": "inf"}, "round_seconds=inf is not a number from"),
        ({"console_idle_minutes": "0"}, "is not a number above 0, at most 1000000"),
        ({"isolation": "none"}, "isolation='none' is not one of required, reported"),
        ({"log_format": "xml"}, "is not one of text, json"),
        ({"smtp_security": ""}, "is not one of starttls, tls, none"),
        ({"smtp_user": "\ud800"}, "not text in UTF-8"),
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


# -- what a line may hold ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("port = '9400'", r"In .*settings\.toml, port='9400' is not a whole number from 1 to 65535\. Mend that line"),
        ("port = true", "port=True is not a whole number"),
        ("port = 9400.0", r"port=9400\.0 is not a whole number"),
        ("smtp_host = 25", "smtp_host=25 is not text in quotation marks"),
        ("smtp_host = ['a']", r"smtp_host=\['a'\] is not text"),
        ("round_seconds = '0'", "round_seconds='0' is not a number from 0"),
        ("uploads_mib = 1000000000000000000000000000000", "uploads_mib=10.* is not a whole number from 1 to 1048576"),
        ("smtphost = ''", "There is no setting 'smtphost', which .* has. There are name, host"),
        ("directory = '/'", "There is no setting 'directory'"),
        ("smtp_host = ", "cannot be read: .*line"),
        ("smtp_port = 25\nsmtp_port = 26", "cannot be read: .*line"),
    ],
)
def test_a_wrong_line_names_value_bound_and_next_step(directory: Path, line: str, says: str) -> None:
    path, name = directory / "settings.toml", line.partition(" ")[0]
    kept = [each for each in path.read_text().splitlines() if not each.startswith(f"{name} ")]
    path.write_text("\n".join([*kept, line, ""]))
    with pytest.raises(DatasiteError, match=says):
        Settings.load(directory)


def test_settings_that_are_needed_are_asked_for(directory: Path) -> None:
    (directory / "settings.toml").write_text("host = '127.0.0.1'\nport = 9400\n")
    with pytest.raises(DatasiteError, match="has no name and no owner_email"):
        Settings.load(directory)


def test_a_file_that_is_no_text_is_refused(directory: Path) -> None:
    (directory / "settings.toml").write_bytes(b"name = '\xff'\n")
    with pytest.raises(DatasiteError, match="not UTF-8 at byte 8"):
        Settings.load(directory)


def test_a_whole_number_may_stand_where_a_fraction_may(directory: Path) -> None:
    path = directory / "settings.toml"
    path.write_text(path.read_text().replace("release_grid_seconds = 0.05", "release_grid_seconds = 1"))
    assert Settings.load(directory).release_grid_seconds == 1.0


def test_every_field_has_a_line_in_the_template_and_the_default_that_stands_there() -> None:
    lines = tomllib.loads(SETTINGS_TEMPLATE)
    assert list(KINDS) == [each.name for each in fields(Settings) if each.name != "directory"]
    assert set(lines) == set(KINDS)
    defaults = {each.name: each.default for each in fields(Settings) if each.name in lines}
    for name in set(lines) - {"name", "host", "port", "owner_email"}:
        assert lines[name] == defaults[name], name


# -- changing leaves the rest as the owner wrote it --------------------------------------------------------------------

TEXTS = tuple(name for name, kind in KINDS.items() if kind is str)
BOUND = (
    "host",
    "tls_certificate",
    "tls_key",
    "witness",
    "gateway_addresses",
    "ledger",
    "ledger_password_file",
    "exporter_address",
    "runner_address",
)  # to more than being text
FREE = tuple(name for name in TEXTS if name not in BOUND)
ENDS = st.sampled_from(["\n", "\r\n"])
COMMENTS = st.text(st.characters(exclude_categories=["C"]), max_size=30)


@st.composite
def files(draw: st.DrawFn) -> str:
    """Settings as an owner may have left them: other order, comments, blank lines, ends of lines, old values."""
    end, lines = draw(ENDS), []
    for line in draw(st.permutations(SETTINGS_TEMPLATE.splitlines())):
        name, equals, _ = line.partition(" = ")
        if equals and KINDS.get(name) is str and draw(st.booleans()):
            value = draw(st.sampled_from(['"a#b"', "'c \"d\" # e'", '"\\u0041\\\\"', '""', "'''it's'''"]))
            line = f"{draw(st.sampled_from(['', '  ']))}{name}={value}" + draw(
                st.sampled_from(["", " # x", "\t#y # z"])
            )
        lines.append(line)
        if draw(st.integers(0, 9)) == 0:
            lines.append(draw(st.sampled_from(["", "# " + draw(COMMENTS), "# smtp_user is the clinic's"])))
    return end.join(lines) + draw(st.sampled_from(["", end]))


def _lines(text: str, without: str) -> list[str]:
    return [line for line in text.split("\n") if line.split("=")[0].strip() != without]


@given(text=files(), name=st.sampled_from(TEXTS), value=st.text())
@settings(max_examples=120, deadline=None)
def test_any_text_is_read_back_and_every_other_line_stays(text: str, name: str, value: str) -> None:
    changed = changed_settings(text, {name: value})
    assert tomllib.loads(changed) == {**tomllib.loads(text), name: value}
    assert _lines(changed, name) == _lines(text, name)


@given(values=st.dictionaries(st.sampled_from(FREE), st.text(), min_size=1))
@settings(max_examples=15, deadline=None)
def test_any_values_are_what_the_next_start_reads(
    values: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("any") / "datasite"
    create_directory(directory, name="General", host="127.0.0.1", port=9400, owner_email="owner@general.example")
    changed = change_settings(directory, values)
    assert changed == Settings.load(directory)
    assert {name: getattr(changed, name) for name in values} == values


@given(text=files(), name=st.sampled_from([each for each in KINDS if each not in TEXTS]))
@settings(max_examples=50, deadline=None)
def test_a_name_without_a_line_comes_last(text: str, name: str) -> None:
    less = "".join(line for line in text.splitlines(keepends=True) if line.split("=")[0].strip() != name)
    value = {"isolation": "reported", "log_format": "json", "smtp_security": "tls"}.get(name, "77")
    changed = changed_settings(less, {name: value})
    assert list(tomllib.loads(changed)) == [*tomllib.loads(less), name]
    assert "".join(_lines(changed, name)).rstrip() == "".join(_lines(less, name)).rstrip()
    assert str(tomllib.loads(changed)[name]) in (value, "77.0")


def test_a_value_with_a_hash_leaves_nothing_of_the_old_one(directory: Path) -> None:
    for value in ("a#b", "c", 'd "#', "e"):
        change_settings(directory, {"smtp_user": value})
    line = next(each for each in (directory / "settings.toml").read_text().splitlines() if each.startswith("smtp_user"))
    assert line == 'smtp_user = "e"'


def test_a_refused_change_and_a_kept_one_leave_no_other_file(directory: Path) -> None:
    before = sorted(each.name for each in directory.iterdir())
    change_settings(directory, {"smtp_user": "a"})
    with pytest.raises(DatasiteError):
        change_settings(directory, {"smtp_user": "b", "port": "0"})
    assert sorted(each.name for each in directory.iterdir()) == before
    assert (directory / "settings.toml").stat().st_mode & 0o777 == 0o600
    assert Settings.load(directory).smtp_user == "a"


@pytest.mark.parametrize("wrong", ["gateway", "10.0.0.0/8, gateway", "10.0.0.1/8", "*"])
def test_gateways_are_addresses_or_networks(tmp_path: Path, wrong: str) -> None:
    directory = tmp_path / "datasite"
    create_directory(directory, name="General", host="127.0.0.1", port=9400, owner_email="owner@general.example")
    assert change_settings(directory, {"gateway_addresses": "10.0.0.0/8, ::1"}).gateways == ("10.0.0.0/8", "::1")
    with pytest.raises(DatasiteError, match="no address and no network"):
        change_settings(directory, {"gateway_addresses": wrong})


def test_the_largest_body_always_has_room(tmp_path: Path) -> None:
    """An older settings file with large bodies and no `memory_mib` goes on working."""
    directory = tmp_path / "datasite"
    create_directory(directory, name="General", host="127.0.0.1", port=9400, owner_email="owner@general.example")
    assert change_settings(directory, {"largest_body_mib": "512"}).memory_bytes == 16 * 512 << 20


def test_addresses_of_jobs_elsewhere_are_read_by_kind_and_written_into_files_of_older_versions(tmp_path: Path) -> None:
    older = 'name = "A"\nhost = "127.0.0.1"\nport = 9400\nowner_email = "o@h.example"\n'
    (tmp_path / "settings.toml").write_text(older)
    assert Settings.load(tmp_path).job_addresses == {}
    change_settings(tmp_path, {"runner_address": "[::1]:9500", "runner_records": "50"})
    settings = Settings.load(tmp_path)
    assert (settings.job_addresses, settings.runner_records) == ({"runner": "[::1]:9500"}, 50)
    for wrong in ("jobs", "jobs:0", "jobs:port", ":9500", "http://jobs:9500/x"):
        with pytest.raises(DatasiteError, match=r"exporter_address=.* is no host and port\. Write jobs:9500\."):
            change_settings(tmp_path, {"exporter_address": wrong})
    assert Settings.load(tmp_path) == settings
