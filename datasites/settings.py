"""A datasite's settings: one frozen value, read once, at start, from `settings.toml` in its directory.

The file is the owner's to read and edit; changing a setting here leaves the rest of it as the owner wrote it. What
else lies in the directory is `datasites.directory`'s.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from msgspec import Meta

from datasites.files import replace_private
from datasites.shapes import checked, described, shapes
from datasites.toml_editing import Value, with_values
from policies.addresses import check_host_and_port, is_loopback
from policies.errors import DatasiteError, InvalidRequest

Isolation = Literal["required", "reported"]
LogFormat = Literal["text", "json"]
SmtpSecurity = Literal["starttls", "tls", "none"]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Mebibytes = Annotated[int, Meta(ge=1, le=1 << 20)]
Seconds = Annotated[float, Meta(ge=0, le=10_000_000)]
Attachments = Annotated[int, Meta(ge=0, le=10_000)]
Minutes = Annotated[float, Meta(gt=0, le=1_000_000)]
StartSeconds = Annotated[float, Meta(ge=1, le=86_400)]
ShortSeconds = Annotated[float, Meta(ge=1, le=3600)]
Many = Annotated[int, Meta(ge=1, le=1_000_000)]
Threads = Annotated[int, Meta(ge=1, le=16)]
PerHour = Annotated[float, Meta(ge=1, le=1_000_000)]
Kibibytes = Annotated[int, Meta(ge=1, le=1 << 20)]
Records = Annotated[int, Meta(ge=1, le=1_000_000_000)]
LARGEST_FILE = 1 << 20

SETTINGS_TEMPLATE = """\
# Settings of this datasite. Read once, when it starts.
name = ""
host = "127.0.0.1"                  # any other than loopback needs a TLS certificate, here below
port = 9400
tls_certificate = ""                # PEM files, here or anywhere; a gateway before the datasite may have its own
tls_key = ""
owner_email = ""
isolation = "required"              # "required" refuses to run where a protection is missing; "reported" only says so
start_seconds = 300                 # what exporter and runner may take to come up, and serve waits for a command
round_seconds = 0                   # deadline of one round in seconds; 0 takes it from a dry run on synthetic rows
training_threads = 1                # of one round: processors that it may keep busy, where a step is worth it
largest_body_mib = 64               # largest HTTP body that is read
uploads_mib = 4096                  # what each researcher's uploads and answers may take here; kept for a day
public_weights_mib = 512            # what public weights of each researcher's requests may take, while they are open
memory_mib = 2048                   # what bodies and what is unpacked of them may take; 16 bodies at the least
connections = 512                   # open at once; where all are taken, one that has asked for nothing yet makes room
connections_per_address = 64        # of them, from one address that is not loopback's or a gateway's
header_seconds = 20                 # until a connection must have asked for something, or asked again
least_kib_per_second = 16           # at which a body must come and an answer be taken, after 15 seconds
gateway_addresses = ""              # whose X-Forwarded-For is believed: addresses or networks, with commas between
open_requests = 100                 # of one researcher, that wait for a decision
requests_per_day = 500              # of one researcher, what is withdrawn or refused included
refused_kib_per_day = 1024          # that the ledger keeps of one researcher's sources that inspection refuses
exporter_seconds_per_hour = 1800    # that one researcher's models may keep the exporter busy
attachment_mib = 10                 # largest PDF that is attached to a request or a project
most_attachments = 20               # of one request or project
jobs_directory = ""                 # exporter/exporter.sock and runner/runner.sock are in it; "" starts them here
exporter_address = ""               # host:port of `datasite jobs serve` on another machine, by `datasite jobs use`
runner_address = ""                 # likewise; private rows go there, over TLS, with each round
runner_records = 100000             # a runner elsewhere is sent as many records, padded; larger tables are refused
release_grid_seconds = 0.05         # rounds show at a multiple of this that a dry run tells, not when they end
dial_out_state = "dial-out"         # directory where `datasite dial-out` writes how its connection stands
console_idle_minutes = 30           # a console session without a request for so long is signed out
console_url = ""                    # the console's address as people reach it, for e-mails
witness = ""                        # a file elsewhere, best on another volume, that finds an old copy put back
ledger = ""                         # postgresql://user@host/name?sslmode=verify-full, or "" for files here
ledger_password_file = ""           # a file with the password of that database alone
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
    """What a datasite runs with; every field is public to its owner. A field's type is what its value is checked by.

    Args:
      directory: the datasite's directory.
      host: where it listens; plain HTTP is served on loopback only.
      tls_certificate, tls_key: PEM files, relative to the directory, or both "".
      start_seconds: what the warm parents may take to come up; as long serve waits for a command that works here.
      round_seconds: deadline of one round, 0 for one taken from a dry run.
      training_threads: of one round; a record's bits do not depend on them.
      uploads_mib: what one researcher's uploads and answers may take on disk; each is kept for a day.
      public_weights_mib: what the public weights that one researcher's open requests name may take on disk.
      memory_mib: what bodies and what is unpacked of them may take at once, of all accounts together.
      connections, connections_per_address: how many may be open; loopback and gateways have no bound of their own.
      header_seconds: what a connection may wait before its request is whole, its TLS handshake included.
      least_kib_per_second: the least rate of a body and of an answer, after a time for short ones.
      gateway_addresses: of gateways before the datasite, whose X-Forwarded-For names who asks; or "".
      open_requests, requests_per_day: of one researcher: that wait for a decision, and that were made within a day.
      refused_kib_per_day: what the ledger keeps of one researcher's sources that inspection refuses.
      exporter_seconds_per_hour: that one researcher's quotes and submissions may keep the exporter busy.
      attachment_mib, most_attachments: of PDF files attached to a request or a project.
      jobs_directory: where exporter and runner listen if something else runs them, or "".
      exporter_address, runner_address: "host:port" of the machine elsewhere that runs these jobs, or "".
      runner_records: as many records are sent to a runner elsewhere with each round, whatever a table holds; no larger
        table is published.
      release_grid_seconds: finished rounds become visible at a public multiple of it, which a dry run tells.
      dial_out_state: where dial-outs write how their connections stand, relative to the directory.
      console_idle_minutes: after which a session of the console that asks for nothing ends.
      console_url: the console's address as people reach it, or "".
      witness: absolute path of the ledger's witness, outside of the directory, or "".
      ledger: URL of the PostgreSQL database with ledger and accounts, without a password; "" keeps them in files here.
      ledger_password_file: with that database's password alone, relative to the directory, or "".
      metrics_token_file: whose token `/metrics` asks for, relative to the directory; with "" there is no such page.
      log_format: of standard error.
      smtp_host: the mail server for notices, or "" for none.
    """

    directory: Path
    name: str
    host: str
    port: Port
    owner_email: str
    tls_certificate: str = ""
    tls_key: str = ""
    isolation: Isolation = "required"
    start_seconds: StartSeconds = 300.0
    round_seconds: Seconds = 0.0
    training_threads: Threads = 1
    largest_body_mib: Mebibytes = 64
    uploads_mib: Mebibytes = 4096
    public_weights_mib: Mebibytes = 512
    memory_mib: Mebibytes = 2048
    connections: Many = 512
    connections_per_address: Many = 64
    header_seconds: ShortSeconds = 20.0
    least_kib_per_second: Kibibytes = 16
    gateway_addresses: str = ""
    open_requests: Many = 100
    requests_per_day: Many = 500
    refused_kib_per_day: Kibibytes = 1024
    exporter_seconds_per_hour: PerHour = 1800.0
    attachment_mib: Mebibytes = 10
    most_attachments: Attachments = 20
    jobs_directory: str = ""
    exporter_address: str = ""
    runner_address: str = ""
    runner_records: Records = 100_000
    release_grid_seconds: Seconds = 0.05
    dial_out_state: str = "dial-out"
    console_idle_minutes: Minutes = 30.0
    console_url: str = ""
    witness: str = ""
    ledger: str = ""
    ledger_password_file: str = ""
    metrics_token_file: str = ""
    log_format: LogFormat = "text"
    smtp_host: str = ""
    smtp_port: Port = 587
    smtp_security: SmtpSecurity = "starttls"
    smtp_user: str = ""
    smtp_from: str = ""
    smtp_to: str = ""

    @classmethod
    def load(cls, directory: Path) -> Settings:
        """The settings in `directory/settings.toml`. Raises `DatasiteError` naming what is missing or wrong."""
        directory = directory.resolve()
        return cls.from_toml(_read(directory), directory)

    @classmethod
    def from_toml(cls, text: str, directory: Path) -> Settings:
        """The settings in the text of a `settings.toml`. Raises `DatasiteError` naming value, bound and next step."""
        path = directory / "settings.toml"
        try:
            values = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise DatasiteError(f"{path} cannot be read: {error}. Mend that line and start again.") from None
        values = {name: _checked(name, value, path) for name, value in values.items()}
        needed = [name for name in ("name", "host", "port", "owner_email") if name not in values]
        if needed:
            raise DatasiteError(f"{path} has no {' and no '.join(needed)}. Write a line as {needed[0]} = ...")
        settings = cls(directory=directory, **values)
        settings._check_together(path)
        return settings

    def _check_together(self, path: Path) -> None:
        if self.witness and (
            not Path(self.witness).is_absolute() or Path(self.witness).resolve().is_relative_to(self.directory)
        ):
            raise DatasiteError(
                f"witness={self.witness!r} in {path} is no absolute path outside of {self.directory}. In it, an old"
                " copy would bring its own witness along; name a file on another volume."
            )
        self._check_ledger(path)
        for name in ("exporter_address", "runner_address"):
            try:
                if value := getattr(self, name):
                    check_host_and_port(value, name)
            except InvalidRequest:
                raise DatasiteError(f"{name}={value[:200]!r} in {path} is no host and port. Write jobs:9500.") from None
        if self.uploads_mib < self.largest_body_mib:
            raise DatasiteError(
                f"uploads_mib={self.uploads_mib} in {path} is less than one body, largest_body_mib="
                f"{self.largest_body_mib}. Use 4096."
            )
        for network in self.gateways:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise DatasiteError(
                    f"gateway_addresses in {path} has {network!r}, which is no address and no network. Write"
                    " 192.0.2.7 or 192.0.2.0/24, with commas between several."
                ) from None
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise DatasiteError(f"tls_certificate and tls_key in {path} go together: give both or neither.")
        if not self.tls_certificate and not is_loopback(self.host):
            raise DatasiteError(
                f"host={self.host!r} in {path} is not loopback, and plain HTTP is served nowhere else. Set"
                " tls_certificate and tls_key, or host = '127.0.0.1' and put a TLS gateway before it."
            )

    def _check_ledger(self, path: Path) -> None:
        """Raise `DatasiteError` for a URL of another kind or with a password, without repeating it."""
        if not self.ledger:
            if self.ledger_password_file:
                raise DatasiteError(f"ledger_password_file in {path} is of no use without `ledger`. Set both.")
            return
        try:
            parts = urlsplit(self.ledger)
            has_password = bool(parts.password) or "password" in parse_qs(parts.query, keep_blank_values=True)
        except ValueError:
            parts, has_password = None, False
        if parts is None or parts.scheme != "postgresql":
            raise DatasiteError(
                f"ledger in {path} is no URL of a PostgreSQL database. Write it as"
                " postgresql://user@host/name?sslmode=verify-full, or leave it empty for a file."
            )
        if has_password:
            raise DatasiteError(
                f"ledger in {path} holds a password, which would be shown. Put it into a file of its own, readable by"
                " the datasite alone, and name that as ledger_password_file."
            )

    @property
    def url(self) -> str:
        """Where the datasite listens."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls_certificate else 'http'}://{host}:{self.port}"

    @property
    def gateways(self) -> tuple[str, ...]:
        """Addresses and networks of the gateways before this datasite."""
        return tuple(part.strip() for part in self.gateway_addresses.split(",") if part.strip())

    @property
    def memory_bytes(self) -> int:
        """What bodies and what is unpacked of them may take: room for the largest body, whatever `memory_mib` says."""
        return max(self.memory_mib, 16 * self.largest_body_mib) << 20

    def tls_files(self) -> tuple[Path, Path] | None:
        """Certificate and key, or None where plain HTTP is served. Raises `DatasiteError` where they cannot be used."""
        if not self.tls_certificate:
            return None
        files = self.directory / self.tls_certificate, self.directory / self.tls_key
        for name, path in zip(("tls_certificate", "tls_key"), files, strict=True):
            if not os.access(path, os.R_OK):
                raise DatasiteError(f"{name}={str(path)!r} cannot be read. Mend settings.toml or the file's rights.")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files, password="")  # else a terminal is asked
        except (OSError, ValueError):
            raise DatasiteError(
                f"tls_certificate={str(files[0])!r} and tls_key={str(files[1])!r} are not a certificate and its key,"
                " both in PEM form and without a passphrase. Mend settings.toml or the files."
            ) from None
        return files

    @property
    def ledger_path(self) -> Path:
        return self.directory / "ledger.db"

    @property
    def attachments(self) -> Path:
        """Where attached files are, each under its identifier."""
        return self.directory / "attachments"

    @property
    def dial_out_states(self) -> Path:
        """Where the files are that say how dial-outs' connections stand."""
        return self.directory / self.dial_out_state

    @property
    def policy_path(self) -> Path:
        return self.directory / "policy.toml"

    @property
    def control_socket(self) -> Path:
        return self.directory / "control.sock"

    @property
    def elsewhere(self) -> Path:
        """The folder with this datasite's key and certificate for jobs elsewhere, and the machines' certificates."""
        return self.directory / "elsewhere"

    @property
    def job_addresses(self) -> dict[str, str]:
        """Where jobs run on a machine elsewhere, by kind; a kind that is not there runs here."""
        places = {"exporter": self.exporter_address, "runner": self.runner_address}
        return {kind: address for kind, address in places.items() if address}

    def job_certificate(self, kind: str) -> Path:
        """The pinned certificate of that machine."""
        return self.elsewhere / f"{kind}.pem"

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


KINDS: dict[str, Any] = {name: shape for name, shape in shapes(Settings).items() if name != "directory"}
"""The type of every setting, by its name in `settings.toml`."""


def job_socket(jobs_directory: Path, kind: str) -> Path:
    """Where a warm parent that something else runs listens."""
    return jobs_directory / kind / f"{kind}.sock"


def change_settings(directory: Path, values: Mapping[str, str]) -> Settings:
    """Change `settings.toml`, all or nothing; counts from the next start. Raises `DatasiteError`.

    Args:
      values: as typed, by name.
    """
    directory = directory.resolve()
    before = _read(directory)
    Settings.from_toml(before, directory)
    text = changed_settings(before, values)
    settings = Settings.from_toml(text, directory)
    replace_private(directory / "settings.toml", text)
    return settings


def changed_settings(text: str, values: Mapping[str, str]) -> str:
    """A settings file with other values; every other line stays. Raises `DatasiteError` for a name or a wrong value."""
    return with_values(text, {name: _typed(name, value) for name, value in values.items()})


def _read(directory: Path) -> str:
    path = directory / "settings.toml"
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DatasiteError(f"{path} is larger than {LARGEST_FILE} bytes. Take out what is no setting.")
        return path.read_bytes().decode()  # with the ends of lines that the file has
    except (FileNotFoundError, NotADirectoryError):
        raise DatasiteError(
            f"{directory} is not a datasite: it has no settings.toml. Make one with `datasite init`."
        ) from None
    except UnicodeDecodeError as error:
        raise DatasiteError(f"{path} is not UTF-8 at byte {error.start}. Mend that line and start again.") from None


def _checked(name: str, value: object, where: Path) -> Any:
    """One value as its type has it. Raises `DatasiteError` for an unknown name and a value of another type."""
    if name not in KINDS:
        raise DatasiteError(f"There is no setting {name!r}, which {where} has. There are {', '.join(KINDS)}.")
    try:
        return checked(value, KINDS[name])
    except ValueError as error:
        raise DatasiteError(f"In {where}, {name}={error}. Mend that line and start again.") from None


def _typed(name: str, value: str) -> Value:
    """What was typed on a command line as a value of the setting's type; `_checked` looks at its range."""
    if name not in KINDS:
        raise DatasiteError(f"There is no setting {name!r}. There are {', '.join(KINDS)}.")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise DatasiteError(f"{name}={value!r} is not text in UTF-8. Type it anew.")
    kind = getattr(KINDS[name], "__origin__", str)  # of a number with bounds; nothing else has any
    if kind not in (int, float):
        return value
    try:
        return int(value) if kind is int else float(value)
    except ValueError:
        raise DatasiteError(f"{name}={value!r} is not {described(KINDS[name])}.") from None
