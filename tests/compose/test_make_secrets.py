"""The first start of the network in containers: what is made for whom, what is kept, and what is renewed."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import threading
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from compose.authority import Authority, certificate_bytes, new_key, read_key
from compose.make_secrets import NAMES, Names, NamesRefused, main, make_secrets

FOLDERS = {
    "authority": {"ca.key", "ca.pem", ".lock"},
    "gateway": {"ca.pem"} | {f"{name}.{kind}" for name in ("general", "rural") for kind in ("key", "pem")},
    "coordinator": {"coordinator.token", "tls.key", "tls.pem", "ca.pem"},
    "dial-out": {"ca.pem"},
    "general": {"owner.password", "researcher.password", "tls.key", "tls.pem", "ca.pem"},
    "paediatric": {"owner.password", "researcher.password", "tls.key", "tls.pem", "ca.pem"},
    "rural": {"owner.password", "researcher.password", "database.password", "ledger.password", "tls.key", "tls.pem"}
    | {"ca.pem"},
    "database": {"password", "ledger.password", "tls.key", "tls.pem", "ca.pem"},
    "researcher": {"network.toml", "jupyter.token", "coordinator.token", "tls.key", "tls.pem", "ca.pem"}
    | {f"{name}.password" for name in ("general", "paediatric", "rural")},
}


@pytest.fixture(scope="module")
def names() -> Names:
    return Names.read(NAMES)


@pytest.fixture
def made(tmp_path: Path, names: Names) -> Path:
    make_secrets(tmp_path / "made", names)
    return tmp_path / "made"


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def secrets_of(directory: Path) -> list[bytes]:
    return [
        text.strip()
        for name, text in content(directory).items()
        if name.endswith(("password", "token", ".key")) and text.strip()
    ]


def signed_by(certificate: Path, authority: Path) -> bool:
    issuer = x509.load_pem_x509_certificate(authority.read_bytes())
    x509.load_pem_x509_certificate(certificate.read_bytes()).verify_directly_issued_by(issuer)
    return True


def test_each_machine_gets_what_it_needs_and_nothing_else(made: Path) -> None:
    assert {each.name: {file.name for file in each.iterdir()} for each in made.iterdir()} == FOLDERS


def test_no_machine_but_the_authority_holds_its_key_and_no_two_share_a_private_key(made: Path) -> None:
    keys = [text for name, text in content(made).items() if name.endswith(".key")]
    assert len(set(keys)) == len(keys)
    assert not any(b"PRIVATE" in text for name, text in content(made).items() if name.endswith(".pem"))


def test_no_hospital_holds_another_hospitals_password(made: Path) -> None:
    for name in ("general", "paediatric", "rural"):
        own = [(made / name / f"{who}.password").read_bytes() for who in ("owner", "researcher")]
        for other in ("general", "paediatric", "rural", "gateway", "database"):
            assert other == name or not any(text in own for text in content(made / other).values())
    assert (made / "researcher/rural.password").read_bytes() == (made / "rural/researcher.password").read_bytes()
    assert (made / "database/password").read_bytes() == (made / "rural/database.password").read_bytes()
    assert (made / "database/ledger.password").read_bytes() == (made / "rural/ledger.password").read_bytes()


def test_files_are_closed_to_others_whatever_the_umask_and_take_the_folders_group(tmp_path: Path, names: Names) -> None:
    group = next((each for each in os.getgroups() if each != os.getegid()), os.getegid())
    (tmp_path / "made/general").mkdir(parents=True)
    os.chown(tmp_path / "made/general", -1, group)
    (tmp_path / "made/general").chmod(0o2750)
    before = os.umask(0)
    try:
        make_secrets(tmp_path / "made", names)
    finally:
        os.umask(before)
    for path in (tmp_path / "made").rglob("*"):
        if path.is_file() and path.name != ".lock":
            assert stat.S_IMODE(path.stat().st_mode) == (0o600 if path.name == "ca.key" else 0o640), path
    assert {each.stat().st_gid for each in (tmp_path / "made/general").iterdir()} == {group}
    assert stat.S_IMODE((tmp_path / "made/general").stat().st_mode) == 0o2750


def test_a_second_start_changes_nothing(made: Path, names: Names) -> None:
    before = content(made)
    assert not any(each.made for each in make_secrets(made, names))
    assert content(made) == before


def test_what_is_missing_is_made_and_the_rest_is_kept(made: Path, names: Names) -> None:
    before = content(made)
    missing = ("general/owner.password", "gateway/rural.pem", "researcher/general.password", "database/password")
    for name in missing:
        (made / name).unlink()
    make_secrets(made, names)
    after = content(made)
    changed = {name for name in before if before[name] != after[name]}
    # The shared passwords come back from their other holder; the certificate is another on the same key.
    assert changed == {"general/owner.password", "gateway/rural.pem"}


def test_a_start_that_was_cut_off_at_any_file_leaves_what_the_next_completes(tmp_path: Path, names: Names) -> None:
    whole = tmp_path / "whole"
    make_secrets(whole, names)
    for left in range(0, len(content(whole)), 5):
        part = tmp_path / f"part{left}"
        for name, text in list(content(whole).items())[:left]:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(text)
        make_secrets(part, names)
        assert set(content(part)) == set(content(whole))
        for path in [*part.glob("*/tls.pem"), *(part / "gateway").glob("*[!a].pem")]:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            assert certificate.public_key() == read_key(path.with_suffix(".key").read_bytes()).public_key()
            assert signed_by(path, part / "researcher/ca.pem")


def test_a_password_that_the_researcher_changed_stays_changed(made: Path, names: Names) -> None:
    (made / "researcher/general.password").write_text("mine")
    make_secrets(made, names)
    assert (made / "researcher/general.password").read_text() == "mine"
    assert (made / "general/researcher.password").read_text() != "mine"


@pytest.mark.parametrize(("days", "renewed"), [(31, False), (29, True), (-1, True)])
def test_a_certificate_is_renewed_within_thirty_days_of_its_end_on_the_same_key(
    made: Path, names: Names, days: int, renewed: bool
) -> None:
    authority = Authority(
        read_key((made / "authority/ca.key").read_bytes()),
        x509.load_pem_x509_certificate((made / "authority/ca.pem").read_bytes()),
    )
    key = read_key((made / "general/tls.key").read_bytes())
    # Certificates live 397 days: one made 397 - days ago has `days` left.
    old = authority.certify(key, ("general", "localhost"), now=datetime.now(UTC) - timedelta(days=397 - days))
    (made / "general/tls.pem").write_bytes(certificate_bytes(old))
    make_secrets(made, names)
    found = x509.load_pem_x509_certificate((made / "general/tls.pem").read_bytes())
    assert (found != old) == renewed
    assert found.public_key() == key.public_key()
    if renewed:
        assert found.not_valid_after_utc > datetime.now(UTC) + timedelta(days=300)


def test_an_authority_near_its_end_is_renewed_and_its_old_certificates_still_hold(made: Path, names: Names) -> None:
    key = read_key((made / "authority/ca.key").read_bytes())
    old = Authority.of(key, names.hosts, now=datetime.now(UTC) - timedelta(days=3650 - 10)).certificate
    for path in made.glob("*/ca.pem"):
        path.write_bytes(certificate_bytes(old))
    before = (made / "general/tls.pem").read_bytes()
    make_secrets(made, names)
    assert (made / "general/tls.pem").read_bytes() == before
    assert (made / "general/ca.pem").read_bytes() != certificate_bytes(old)
    assert len({path.read_bytes() for path in made.glob("*/ca.pem")}) == 1
    assert signed_by(made / "general/tls.pem", made / "researcher/ca.pem")


@pytest.mark.parametrize("spoiled", [b"", b"nonsense", None])
def test_a_spoiled_or_strange_certificate_is_made_anew(made: Path, names: Names, spoiled: bytes | None) -> None:
    stranger = Authority.of(new_key(), ["general"])
    strange = stranger.certify(read_key((made / "general/tls.key").read_bytes()), ("general", "localhost"))
    (made / "general/tls.pem").write_bytes(certificate_bytes(strange) if spoiled is None else spoiled)
    make_secrets(made, names)
    assert signed_by(made / "general/tls.pem", made / "researcher/ca.pem")


def test_other_names_make_other_certificates_and_the_authority_may_sign_for_these_names_alone(
    made: Path, names: Names
) -> None:
    *others, rural = names.hospitals
    make_secrets(made, replace(names, hospitals=(*others, replace(rural, host="rural.elsewhere.example"))))
    found = x509.load_pem_x509_certificate((made / "gateway/rural.pem").read_bytes())
    shown = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert shown.get_values_for_type(x509.DNSName) == ["rural.elsewhere.example", "rural.localhost"]
    authority = x509.load_pem_x509_certificate((made / "authority/ca.pem").read_bytes())
    limits = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    assert "rural.hospitals.example" not in {each.value for each in limits.value.permitted_subtrees or ()}


def handshake(folder: Path, stem: str, ca_file: Path, host: str) -> None:
    """A TLS handshake on loopback with the files as made. Raises `ssl.SSLError` where the client refuses."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / f"{stem}.pem", folder / f"{stem}.key")
    asking = ssl.create_default_context(cafile=str(ca_file))
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    near, far = socket.socketpair()

    def serve() -> None:
        try:
            serving.wrap_socket(far, server_side=True).close()
        except OSError:  # the client went away, as it should where it refuses
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        asking.wrap_socket(near, server_hostname=host).close()
    finally:
        near.close()
        thread.join()


def test_a_strict_client_accepts_each_server_under_its_own_names_and_no_other(made: Path, names: Names) -> None:
    authority = made / "researcher/ca.pem"
    for hospital in names.hospitals:
        if hospital.host:
            handshake(made / "gateway", hospital.name, authority, hospital.host)
        for name in hospital.internal:
            handshake(made / hospital.name, "tls", authority, name)
    handshake(made / "database", "tls", authority, "database")
    handshake(made / "coordinator", "tls", authority, "coordinator.university.example")
    with pytest.raises(ssl.SSLError, match="mismatch"):
        handshake(made / "rural", "tls", authority, "general")


def test_a_stolen_authority_key_cannot_speak_for_other_names(made: Path, tmp_path: Path) -> None:
    stolen = Authority(
        read_key((made / "authority/ca.key").read_bytes()),
        x509.load_pem_x509_certificate((made / "authority/ca.pem").read_bytes()),
    )
    key = read_key((made / "general/tls.key").read_bytes())
    (tmp_path / "bank.pem").write_bytes(certificate_bytes(stolen.certify(key, ("bank.example",))))
    (tmp_path / "bank.key").write_bytes((made / "general/tls.key").read_bytes())
    with pytest.raises(ssl.SSLError, match="permitted subtree"):
        handshake(tmp_path, "bank", made / "researcher/ca.pem", "bank.example")


def test_the_network_file_names_what_is_beside_it(made: Path) -> None:
    network = tomllib.loads((made / "researcher/network.toml").read_text())
    tables, meeting = network["datasites"], network["coordinator"]
    assert (made / "researcher" / meeting["token_file"]).read_text() == (
        made / "coordinator/coordinator.token"
    ).read_text()
    assert [each["name"] for each in tables] == ["general", "paediatric", "rural"]
    assert [each.get("via") for each in tables] == [None, "coordinator", None]
    for each in tables:
        assert (made / "researcher" / each["password_file"]).read_text()
    for each in (meeting, tables[0], tables[2]):
        assert each.get("url", "https://").startswith("https://")
        assert (made / "researcher" / each["ca_file"]).read_bytes().startswith(b"-----BEGIN CERTIFICATE")


def test_no_secret_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main([str(tmp_path / "made")]) == 0
    shown = "".join(capsys.readouterr())
    assert "owner.password" in shown
    assert "complete" in shown
    for secret in secrets_of(tmp_path / "made"):
        assert secret.decode() not in shown
        assert not any(line in shown for line in secret.decode().splitlines())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "hospitals"),
        ("hospitals = []\nresearcher = 'a@b.example'", "names, each its own"),
        ("[[hospitals]]\nname = '../x'\nhost = 'a.example'\ninternal = ['a']", "cannot name a hospital's folder"),
        ("[[hospitals]]\nname = 'gateway'\nhost = 'a.example'\ninternal = ['a']", "cannot name a hospital's folder"),
        ("[[hospitals]]\nname = 'a'\nhost = 'a b'\ninternal = ['a']", "is not a host name"),
        ("[[hospitals]]\nname = 'a'\nhost = 'a.example'", "internal is empty"),
        ("[[hospitals]]\nname = 'a'\nhost = 'a.example'\ninternal = ['a']\ncolour = 'red'", "colour"),
    ],
)
def test_names_that_cannot_be_used_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "names.toml").write_text(text)
    with pytest.raises(NamesRefused, match=said):
        Names.read(tmp_path / "names.toml")
    assert main([str(tmp_path / "made"), "--names", str(tmp_path / "names.toml")]) == 1
    assert not (tmp_path / "made").exists()
    assert said in capsys.readouterr().err
