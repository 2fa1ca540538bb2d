"""A datasite's directory and its settings: one frozen value, read once, at start.

The directory holds everything: identity, keys, settings, policy, syft's database and blobs, the ledger, sockets, logs.
It is 0700 and every file in it is made under umask 077. `settings.toml` and `policy.toml` are for the owner to read
and edit; the rest is the program's.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import secrets
import shutil
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datasites.files import write_private
from datasites.review.policy import DEFAULT_POLICY, Rules
from policies.errors import DatasiteError, Unavailable

ISOLATION = ("required", "reported")
LOG_FORMATS = ("text", "json")
SMTP_SECURITY = ("starttls", "tls", "none")

SETTINGS_TEMPLATE = """\
# Settings of this datasite. Read once, when it starts.
name = {name!r}
host = {host!r}                  # any other than loopback needs a TLS certificate, here below
port = {port}
tls_certificate = ""                # PEM files, here or anywhere; a gateway before the datasite may have its own
tls_key = ""
owner_email = {email!r}
isolation = "required"              # "required" refuses to run where a protection is missing; "reported" only says so
round_seconds = 0                   # deadline of one round in seconds; 0 takes it from a dry run on synthetic rows
largest_body_mib = 64               # largest HTTP body that is read
uploads_mib = 4096                  # what each researcher's uploads and answers may take here; kept for a day
jobs_directory = ""                 # exporter/exporter.sock and runner/runner.sock are in it; "" starts them here
release_grid_seconds = 0.25         # rounds show at a multiple of this that a dry run tells, not when they end
console_idle_minutes = 30           # a console session without a request for so long is signed out
console_url = ""                    # the console's address as people reach it, for e-mails
witness = ""                        # a file elsewhere, best on another volume, that finds an old copy put back
metrics_token_file = ""             # a file with a token of 16 characters or more opens /metrics to whoever has it
log_format = "text"                 # of what serve writes to standard error: "text" or "json", no private values

# E-mail when a request waits for a decision; no server, no e-mail. A password stands alone in the file smtp.password.
smtp_host = ""
smtp_port = 587
smtp_security = "starttls"          # "starttls", "tls" or "none"
smtp_user = ""
smtp_from = ""                      # the owner's address where it is left empty, as smtp_to
smtp_to = ""                        # one address, or several with commas between them
"""


@dataclass(frozen=True)
class Settings:
    """What a datasite runs with; every field is public to its owner.

    Args:
      directory: the datasite's directory.
      host: where it listens; plain HTTP is served on loopback only.
      tls_certificate, tls_key: PEM files, relative to the directory, or both "".
      isolation: `"required"` or `"reported"`.
      round_seconds: deadline of one round, 0 for one taken from a dry run.
      uploads_mib: what one researcher's uploads and answers may take on disk; each is kept for a day.
      jobs_directory: where exporter and runner listen if something else runs them, or "".
      release_grid_seconds: finished rounds become visible at a public multiple of it, which a dry run tells.
      console_idle_minutes: after which a session of the console that asks for nothing ends.
      console_url: the console's address as people reach it, or "".
      witness: absolute path of the ledger's witness, outside of the directory, or "".
      metrics_token_file: whose token `/metrics` asks for, relative to the directory; with "" there is no such page.
      log_format: of standard error, one of `LOG_FORMATS`.
      smtp_host: the mail server for notices, or "" for none; `smtp_security` is one of `SMTP_SECURITY`.
    """

    directory: Path
    name: str
    host: str
    port: int
    owner_email: str
    tls_certificate: str = ""
    tls_key: str = ""
    isolation: str = "required"
    round_seconds: float = 0.0
    largest_body_mib: int = 64
    uploads_mib: int = 4096
    jobs_directory: str = ""
    release_grid_seconds: float = 0.25
    console_idle_minutes: float = 30.0
    console_url: str = ""
    witness: str = ""
    metrics_token_file: str = ""
    log_format: str = "text"
    smtp_host: str = ""
    smtp_port: int = 587
    smtp_security: str = "starttls"
    smtp_user: str = ""
    smtp_from: str = ""
    smtp_to: str = ""

    @classmethod
    def load(cls, directory: Path) -> Settings:
        """The settings in `directory/settings.toml`. Raises `DatasiteError` naming what is missing or wrong."""
        directory = directory.resolve()
        path = directory / "settings.toml"
        if not path.is_file():
            raise DatasiteError(
                f"{directory} is not a datasite: it has no settings.toml. Make one with `datasite init`."
            )
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
            settings = cls(directory=directory, **values)
        except (tomllib.TOMLDecodeError, TypeError) as error:
            raise DatasiteError(f"{path} cannot be read: {error}. Mend that line and start again.") from None
        if settings.isolation not in ISOLATION:
            raise DatasiteError(f"isolation={settings.isolation!r} in {path} is neither of {', '.join(ISOLATION)}.")
        if settings.smtp_security not in SMTP_SECURITY:
            known = ", ".join(SMTP_SECURITY)
            raise DatasiteError(f"smtp_security={settings.smtp_security!r} in {path} is none of {known}.")
        if settings.log_format not in LOG_FORMATS:
            raise DatasiteError(f"log_format={settings.log_format!r} in {path} is neither of {', '.join(LOG_FORMATS)}.")
        if settings.witness and (
            not Path(settings.witness).is_absolute() or Path(settings.witness).resolve().is_relative_to(directory)
        ):
            raise DatasiteError(
                f"witness={settings.witness!r} in {path} is no absolute path outside of {directory}. In it, an old copy"
                " would bring its own witness along; name a file on another volume."
            )
        if not 1 <= settings.port <= 65535:
            raise DatasiteError(f"port={settings.port} in {path} is outside [1, 65535].")
        if settings.uploads_mib < settings.largest_body_mib:
            raise DatasiteError(
                f"uploads_mib={settings.uploads_mib} in {path} is less than one body, largest_body_mib="
                f"{settings.largest_body_mib}. Use 4096."
            )
        if bool(settings.tls_certificate) != bool(settings.tls_key):
            raise DatasiteError(f"tls_certificate and tls_key in {path} go together: give both or neither.")
        if not settings.tls_certificate and not is_loopback(settings.host):
            raise DatasiteError(
                f"host={settings.host!r} in {path} is not loopback, and plain HTTP is served nowhere else. Set"
                " tls_certificate and tls_key, or host = '127.0.0.1' and put a TLS gateway before it."
            )
        return settings

    @property
    def url(self) -> str:
        """Where the datasite listens."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls_certificate else 'http'}://{host}:{self.port}"

    def tls_files(self) -> tuple[Path, Path] | None:
        """Certificate and key, or None where plain HTTP is served. Raises `DatasiteError` where one cannot be read."""
        if not self.tls_certificate:
            return None
        files = self.directory / self.tls_certificate, self.directory / self.tls_key
        for name, path in zip(("tls_certificate", "tls_key"), files, strict=True):
            if not os.access(path, os.R_OK):
                raise DatasiteError(f"{name}={str(path)!r} cannot be read. Mend settings.toml or the file's rights.")
        return files

    @property
    def ledger_path(self) -> Path:
        return self.directory / "ledger.db"

    @property
    def control_socket(self) -> Path:
        return self.directory / "control.sock"

    def job_socket(self, kind: str) -> Path:
        """Where the warm parent of `kind` (`"exporter"` or `"runner"`) listens.

        Elsewhere each has a folder of its own: who can write to the runner's could take its place and be handed rows.
        """
        return job_socket(Path(self.jobs_directory), kind) if self.jobs_directory else self.directory / f"{kind}.sock"

    def metrics_token(self) -> str:
        """The token that `/metrics` asks for, or "". Raises `DatasiteError` where its file does not hold one."""
        if not self.metrics_token_file:
            return ""
        path = self.directory / self.metrics_token_file
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            raise DatasiteError(f"metrics_token_file {str(path)!r} cannot be read.") from None
        if len(token) < 16 or not token.isascii():
            raise DatasiteError(f"{path} holds no token of 16 characters or more. Make one: openssl rand -hex 24")
        return token

    def rules(self) -> Rules:
        """The owner's policy, as `policy.toml` has it now."""
        return Rules.from_toml((self.directory / "policy.toml").read_text(encoding="utf-8"))

    def secret(self, name: str) -> str:
        """The text of one of the directory's own files, as `"syft.id"`."""
        return (self.directory / name).read_text(encoding="utf-8").strip()

    def signing_key(self) -> Ed25519PrivateKey:
        """The key that signs certificates."""
        key = serialization.load_pem_private_key((self.directory / "certificate.pem").read_bytes(), password=None)
        assert isinstance(key, Ed25519PrivateKey)
        return key

    def population_secret(self) -> bytes:
        """What splits patients into training and hold-out; it never leaves the directory."""
        return bytes.fromhex(self.secret("population.secret"))


def job_socket(jobs_directory: Path, kind: str) -> Path:
    """Where a warm parent that something else runs listens."""
    return jobs_directory / kind / f"{kind}.sock"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def create_directory(
    directory: Path, *, name: str, host: str, port: int, owner_email: str, settings: Mapping[str, str] = {}
) -> Settings:
    """A new datasite directory (0700) with identity, keys, settings and policy, or nothing at all.

    Args:
      settings: further settings by name, as typed.

    Raises:
      DatasiteError: the directory exists and is not empty, or a setting is wrong.
    """
    if directory.exists() and any(directory.iterdir()):
        raise DatasiteError(f"{directory} exists and is not empty. Choose another --dir, or remove it yourself.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    building = directory.parent / f".{directory.name}.{uuid.uuid4().hex[:8]}"
    building.mkdir(mode=0o700)
    values = {"name": name, "host": host, "port": port, "email": owner_email}
    try:
        text = changed_settings(SETTINGS_TEMPLATE.format(**values), settings)
        write_private(building / "settings.toml", text)
        Settings.load(building)
    except DatasiteError:
        shutil.rmtree(building)
        raise
    write_private(building / "policy.toml", DEFAULT_POLICY)
    write_private(building / "syft.id", uuid.uuid4().hex)
    write_private(building / "syft.key", secrets.token_hex(32))
    write_private(building / "population.secret", secrets.token_hex(32))
    write_private(building / "certificate.pem", new_signing_key())
    if directory.exists():
        directory.rmdir()
    os.rename(building, directory)
    return Settings.load(directory)


def change_settings(directory: Path, values: Mapping[str, str]) -> Settings:
    """Change `settings.toml`, all or nothing; counts from the next start. Raises `DatasiteError`."""
    path = directory / "settings.toml"
    Settings.load(directory)
    before = path.read_text(encoding="utf-8")
    write_private(path, changed_settings(before, values))
    try:
        return Settings.load(directory)
    except DatasiteError:
        write_private(path, before)
        raise


def changed_settings(text: str, values: Mapping[str, str]) -> str:
    """A settings file with other values; comments stay. Raises `DatasiteError` for a name or value that is wrong."""
    kinds = {each.name: each.type for each in fields(Settings) if each.name != "directory"}
    lines = text.splitlines()
    for name, value in values.items():
        if name not in kinds:
            raise DatasiteError(f"There is no setting {name!r}. There are {', '.join(kinds)}.")
        line = f"{name} = {_as_toml(name, value, str(kinds[name]))}"
        found = [index for index, each in enumerate(lines) if each.split("=")[0].strip() == name]
        if not found:
            lines.append(line)
            continue
        comment = lines[found[0]].partition("#")[2] if "#" not in value else ""
        lines[found[0]] = f"{line:<35} #{comment}" if comment else line
    return "\n".join(lines) + "\n"


def _as_toml(name: str, value: str, kind: str) -> str:
    if kind == "str":
        return json.dumps(value, ensure_ascii=False)
    try:
        return str(int(value) if kind == "int" else float(value))
    except ValueError:
        raise DatasiteError(f"{name}={value!r} is not a number.") from None


def new_signing_key() -> str:
    """A fresh Ed25519 private key as PEM text."""
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the directory: one process at a time serves or changes it. Raises `Unavailable` where another does."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(
                f"{directory} is in use by another process. Let it finish, or stop `datasite serve` first."
            ) from None
        yield
    finally:
        os.close(descriptor)
