"""A datasite's directory: how it is made, its keys and secrets, and who holds it.

The directory holds everything: identity, keys, settings, policy, syft's database and blobs, the ledger, sockets, logs.
It is 0700 and every file in it is made under umask 077. `settings.toml` and `policy.toml` are for the owner to read
and edit; the rest is the program's.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datasites.files import sync_directory, write_private
from datasites.settings import SETTINGS_TEMPLATE, Settings, changed_settings
from policies.email_addresses import email_address
from policies.errors import DatasiteError, Unavailable
from policies.text import visible

LONGEST_NAME = 200


def create_directory(
    directory: Path,
    *,
    name: str,
    host: str,
    port: int,
    owner_email: str,
    settings: Mapping[str, str] = {},
    policy: str = "",
) -> Settings:
    """A new datasite directory (0700) with identity, keys, settings and policy, or nothing at all.

    Args:
      settings: further settings by name, as typed.
      policy: the text of `policy.toml`; every rule that it leaves out has its default.

    Raises:
      DatasiteError: the directory exists and is not empty, or a setting is wrong.
    """
    if directory.exists() and not directory.is_dir():
        raise DatasiteError(f"{directory} is a file. Choose another --dir.")
    if directory.exists() and any(directory.iterdir()):
        raise DatasiteError(f"{directory} exists and is not empty. Choose another --dir, or remove it yourself.")
    _check_shown("name", name, "the hospital's name, as researchers see it")
    directory.parent.mkdir(parents=True, exist_ok=True)
    values = {"name": name, "host": host, "port": str(port), "owner_email": email_address(owner_email), **settings}
    text = changed_settings(SETTINGS_TEMPLATE, values)
    Settings.from_toml(text, directory.resolve())
    building = directory.parent / f".{directory.name}.{uuid.uuid4().hex[:8]}"
    building.mkdir(mode=0o700)
    write_private(building / "settings.toml", text)
    write_private(building / "policy.toml", policy)
    write_private(building / "syft.id", uuid.uuid4().hex)
    write_private(building / "syft.key", secrets.token_hex(32))
    write_private(building / "population.secret", secrets.token_hex(32))
    write_private(building / "certificate.pem", new_signing_key())
    if directory.exists():
        directory.rmdir()
    os.rename(building, directory)
    sync_directory(directory.parent)
    return Settings.load(directory)


def _check_shown(setting: str, value: str, what: str) -> None:
    if not 0 < len(value.strip()) <= LONGEST_NAME or visible(value) != value:
        raise DatasiteError(
            f"{setting}={value[:LONGEST_NAME]!r} is empty, longer than {LONGEST_NAME} characters or not plain text."
            f" Write {what}."
        )


class DirectoryInUse(Unavailable):
    """Another process serves a directory or works on it."""


@contextlib.contextmanager
def locked(directory: Path, *, wait_seconds: float = 0.0, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the directory: one process at a time serves or changes it.

    Args:
      wait_seconds: how long another process may go on before this one gives up.
      waiting: called between two tries; what it raises ends the wait.

    Raises:
      DirectoryInUse: another process held it for all that time.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        ends = time.monotonic() + wait_seconds
        while not _take(descriptor):
            if time.monotonic() >= ends:
                raise DirectoryInUse(
                    f"{directory} is in use by another process. Let it finish, or stop `datasite serve` first."
                )
            waiting()
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# -- keys and secrets ------------------------------------------------------------------------------------------------


def secret(directory: Path, name: str) -> str:
    """The text of one of the directory's own files, as `"syft.id"`."""
    return (directory / name).read_text(encoding="utf-8").strip()


def signing_key(directory: Path) -> Ed25519PrivateKey:
    """The key that signs certificates. Raises `DatasiteError` where its file is missing or damaged."""
    try:
        key = serialization.load_pem_private_key((directory / "certificate.pem").read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise _lost("certificate.pem")
    return key


def identity_key(directory: Path) -> Ed25519PrivateKey:
    """The datasite's lasting key, which signs its answers. Raises `DatasiteError` where its file is damaged."""
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret(directory, "syft.key")))
    except (OSError, ValueError):
        raise _lost("syft.key") from None


def derived_key(directory: Path, use: str) -> bytes:
    """32 bytes for one use, made of the datasite's lasting key: the same as long as that is."""
    raw = identity_key(directory).private_bytes_raw()
    return hmac.new(raw, f"private-datasites: {use}".encode(), hashlib.sha256).digest()


def population_secret(directory: Path) -> bytes:
    """What splits patients into training and hold-out; it never leaves the directory.

    Raises `DatasiteError` where its file is missing or damaged.
    """
    try:
        return bytes.fromhex(secret(directory, "population.secret"))
    except (OSError, ValueError):
        raise _lost("population.secret") from None


def _lost(name: str) -> DatasiteError:
    return DatasiteError(f"{name} in the datasite's directory is missing or damaged. Put it back from a backup.")


def new_signing_key() -> str:
    """A fresh Ed25519 private key as PEM text."""
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )
