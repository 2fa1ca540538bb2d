"""The secrets of the network in containers: a folder for each machine, with what that machine needs and nothing else.

    python -m compose.make_secrets DIR [--names compose/names.toml]

    DIR/authority      ca.key, ca.pem           the authority's own; no other machine sees this folder
    DIR/<hospital>     owner.password, researcher.password, tls.key, tls.pem, ca.pem
                       database.password, ledger.password       where the hospital has a database
    DIR/gateway        <hospital>.key, <hospital>.pem, ca.pem     of the hospitals that are reached through it
    DIR/researcher     network.toml, <hospital>.password, jupyter.token, coordinator.token, tls.key, tls.pem, ca.pem
    DIR/coordinator    coordinator.token, tls.key, tls.pem, ca.pem
    DIR/dial-out       ca.pem                   of the hospital that opens no port; it needs no secret
    DIR/database       password, ledger.password, tls.key, tls.pem, ca.pem

It runs at every start and may be interrupted: what is there is kept, what is missing is made, and a certificate is made
anew within thirty days of its end or for other names, on the key that it has. Files are 0640 (the authority's key 0600)
and take the group of their folder where that is set-group-id. What it prints is names of files.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import secrets
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from compose.authority import Authority, certificate_bytes, key_bytes, new_key, read_key

NAMES = Path(__file__).with_name("names.toml")
NOTEBOOK = ("localhost", "researcher")
SHARED, OWN = 0o640, 0o600
RESERVED = frozenset({"authority", "gateway", "researcher", "database", "coordinator", "dial-out"})
COORDINATOR_PORT = 9443
HOSPITAL = re.compile(r"[a-z][a-z0-9-]{0,30}")
HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
PASSWORD_BYTES = 24


class NamesRefused(Exception):
    """The file of names cannot be used; the message says which line and why."""


@dataclass(frozen=True)
class Hospital:
    """One hospital's names.

    Args:
      name: of its folder, its service and its datasite.
      host: at the gateway, as researchers and owners reach it; empty where it dials out to the coordinator instead.
      internal: of its own server, as the gateway reaches it.
      database: of the database server beside it; empty where there is none.
    """

    name: str
    internal: tuple[str, ...]
    host: str = ""
    database: tuple[str, ...] = ()

    @property
    def outside(self) -> tuple[str, ...]:
        """Its names at the gateway; browsers take the second for this machine, with no entry anywhere."""
        return (self.host, f"{self.name}.localhost") if self.host else ()


@dataclass(frozen=True)
class Names:
    """Everything that the secrets are made for: hospitals, the researcher's account, the coordinator and the gateway's
    port.
    """

    hospitals: tuple[Hospital, ...]
    researcher: str
    port: int = 443
    coordinator: str = ""

    @classmethod
    def read(cls, path: Path) -> Names:
        """The names in a TOML file as `compose/names.toml`. Raises `NamesRefused`."""
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
            hospitals = tuple(_hospital(each) for each in given.pop("hospitals"))
            names = cls(hospitals, **given)
        except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
            raise NamesRefused(f"{path}: {type(error).__name__}: {error}. See compose/names.toml for one.") from None
        if len({each.name for each in hospitals}) != len(hospitals) or not hospitals:
            raise NamesRefused(f"{path}: hospitals need names, each its own.")
        if not names.coordinator and not all(each.host for each in hospitals):
            raise NamesRefused(f"{path}: a hospital has no host, and there is no coordinator that it could dial.")
        if sum(bool(each.database) for each in hospitals) > 1:
            raise NamesRefused(f"{path}: one hospital may have the database, since there is one folder for it.")
        return names

    @property
    def meeting(self) -> tuple[str, ...]:
        """Names of the coordinator; none where every hospital has a host."""
        return (self.coordinator, "localhost") if self.coordinator else ()

    @property
    def hosts(self) -> list[str]:
        """Every name that a certificate is made for, each once."""
        found = [(*each.outside, *each.internal, *each.database) for each in self.hospitals]
        return sorted({name for names in (*found, NOTEBOOK, self.meeting) for name in names})


class Folder:
    """One machine's folder. Files in it are written whole or not at all, and kept once written."""

    def __init__(self, path: Path) -> None:
        self.path, self.made = path, list[str]()
        path.mkdir(mode=0o750, parents=True, exist_ok=True)  # a folder that an image prepared stays as it is

    def read(self, name: str) -> bytes | None:
        """A file's content, or None where it is missing or empty."""
        path = self.path / name
        return (path.read_bytes() or None) if path.exists() else None

    def write(self, name: str, content: bytes, *, mode: int = SHARED) -> None:
        """Replace a file, unless it holds this already."""
        if self.read(name) == content:
            return
        draft = self.path / f".{name}.draft"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWN), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path / name)
        self.made.append(name)

    def keep(self, name: str, content: bytes) -> bytes:
        """What the file holds; `content` where it held nothing."""
        kept = self.read(name)
        if kept is None:
            self.write(name, content)
        return kept or content

    def key(self, name: str, *, mode: int = SHARED) -> ec.EllipticCurvePrivateKey:
        """The private key in a file, made where there is none."""
        kept = self.read(name)
        if kept is None:
            key = new_key()
            self.write(name, key_bytes(key), mode=mode)
            return key
        return read_key(kept)

    def certificate(self, name: str) -> x509.Certificate | None:
        """The certificate in a file, or None where there is none that can be read."""
        try:
            return x509.load_pem_x509_certificate(self.read(name) or b"")
        except ValueError:
            return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing; exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m compose.make_secrets", description="Secrets for each machine.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--names", type=Path, default=NAMES, help="TOML file of hospitals and their host names")
    chosen = parser.parse_args(arguments)
    try:
        for folder in make_secrets(chosen.directory, Names.read(chosen.names)):
            print(f"{folder.path}: {'made ' + ', '.join(folder.made) if folder.made else 'complete'}")
    except (NamesRefused, OSError, ValueError) as error:
        print(f"The secrets were not made. {error}", file=sys.stderr)
        return 1
    return 0


def make_secrets(directory: Path, names: Names) -> list[Folder]:
    """Make what is missing below `directory` and renew what ends soon; the folders, which say what was made."""
    machines = ("authority", "gateway", "researcher", *(("coordinator", "dial-out") if names.coordinator else ()))
    folders = {each: Folder(directory / each) for each in machines}
    with _alone(folders["authority"].path):
        authority = _authority(folders["authority"], names)
        for hospital in names.hospitals:
            folder = folders[hospital.name] = Folder(directory / hospital.name)
            folder.keep("owner.password", _secret())
            _share("researcher.password", folder, f"{hospital.name}.password", folders["researcher"])
            _certify(authority, folder, "tls", hospital.internal)
            if hospital.host:
                _certify(authority, folders["gateway"], hospital.name, hospital.outside)
            if hospital.database:
                database = folders["database"] = Folder(directory / "database")
                _share("database.password", folder, "password", database)
                _share("ledger.password", folder, "ledger.password", database)
                _certify(authority, database, "tls", hospital.database)
        folders["researcher"].keep("jupyter.token", _secret())
        if names.coordinator:
            _share("coordinator.token", folders["coordinator"], "coordinator.token", folders["researcher"])
            _certify(authority, folders["coordinator"], "tls", names.meeting)
        _certify(authority, folders["researcher"], "tls", NOTEBOOK)
        folders["researcher"].write("network.toml", network_file(names).encode())
        for folder in folders.values():
            folder.write("ca.pem", certificate_bytes(authority.certificate))
    return list(folders.values())


def network_file(names: Names) -> str:
    """The researcher's `network.toml`, with the fields of `make demo`'s and the authority of the hospitals.

    A hospital that dials out has no words yet: its owner reads them out (`compose.introduce` writes them in).
    """
    port = "" if names.port == 443 else f":{names.port}"
    meeting = f'[coordinator]\naddress = "{names.coordinator}:{COORDINATOR_PORT}"\ntoken_file = "coordinator.token"\n'
    tables = [meeting + 'ca_file = "ca.pem"\n'] if names.coordinator else []
    for each in names.hospitals:
        where = (
            f'url = "https://{each.host}{port}"\nca_file = "ca.pem"\n'
            if each.host
            else 'via = "coordinator"\nwords = ""\n'
        )
        tables.append(
            f'[[datasites]]\nname = "{each.name}"\n{where}email = "{names.researcher}"\n'
            f'password_file = "{each.name}.password"\n'
        )
    return "\n".join(tables)


def _authority(folder: Folder, names: Names) -> Authority:
    """The authority, its certificate renewed where it ends soon or the names are others."""
    key, certificate = folder.key("ca.key", mode=OWN), folder.certificate("ca.pem")
    kept = Authority(key, certificate) if certificate else None
    return kept if kept and kept.is_for(names.hosts) else Authority.of(key, names.hosts)


def _certify(authority: Authority, folder: Folder, stem: str, names: Sequence[str]) -> None:
    """`stem`.key and a certificate for it that holds."""
    key, kept = folder.key(f"{stem}.key"), folder.certificate(f"{stem}.pem")
    if kept is None or not authority.vouches_for(kept, key, names):
        folder.write(f"{stem}.pem", certificate_bytes(authority.certify(key, names)))


def _share(name: str, folder: Folder, other_name: str, other: Folder) -> None:
    """One password in two folders. Where both hold one already, both stay: somebody has changed theirs."""
    known = folder.read(name) or other.read(other_name) or _secret()
    folder.keep(name, known)
    other.keep(other_name, known)


def _secret() -> bytes:
    return secrets.token_urlsafe(PASSWORD_BYTES).encode()


def _hospital(given: dict[str, Any]) -> Hospital:
    internal, database = (tuple(given.pop(key, ())) for key in ("internal", "database"))
    hospital = Hospital(**given, internal=internal, database=database)
    if not HOSPITAL.fullmatch(hospital.name) or hospital.name in RESERVED:
        raise NamesRefused(
            f"{hospital.name!r} cannot name a hospital's folder. Use small letters, figures and hyphens."
        )
    for host in (*((hospital.host,) if hospital.host else ()), *hospital.internal, *hospital.database):
        if not HOST.fullmatch(host):
            raise NamesRefused(f"{hospital.name}: {host!r} is not a host name. Write it as general.hospitals.example.")
    if not hospital.internal:
        raise NamesRefused(f"{hospital.name}: internal is empty. Name its server as the gateway reaches it.")
    return hospital


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let two of these runs happen one after the other."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
