"""The `[coordinator]` table of a network file: where hospitals that open no port are reached.

Either `listen`, `certificate` and `key`: this process is the coordinator while it lives. Or `address`, `token_file` and
perhaps `ca_file`: `researcher coordinate` runs there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.addresses import check_host_and_port
from policies.errors import InvalidRequest
from policies.text import password_in
from policies.wire.relayed import quiet

if TYPE_CHECKING:
    from researcher.coordinator import Coordinator
    from researcher.sealed_calls import Way

HERE = ("listen", "certificate", "key")
ELSEWHERE = ("address", "token_file")
FIELDS = {*HERE, *ELSEWHERE, "ca_file"}
LEAST_TOKEN = 24

_running: dict[str, Coordinator] = {}
_lock = threading.Lock()


def way_of(table: object, base: Path, admitted: frozenset[bytes]) -> Way:
    """The way that a table names; a coordinator in this process is started, or its hospitals added to one that runs.

    Args:
      base: of relative paths.
      admitted: fingerprints of the datasites that may dial in here.

    Raises:
      InvalidRequest: the table is not one of the two kinds, or a file of it cannot be used.
      Unavailable: the port is taken.
    """
    quiet()
    fields = _checked(table)
    if "listen" in fields:
        return _here(fields, base, admitted)
    from researcher.standing_coordinator import StandingCoordinator

    authority = read_file(base / fields["ca_file"], "ca_file") if fields.get("ca_file") else None
    check_host_and_port(fields["address"], "address")
    return StandingCoordinator(
        fields["address"], authority=authority, token=token_in(base / fields["token_file"], "token_file")
    )


def start(
    listen: str,
    *,
    certificate: Path,
    key: Path,
    token: str = "",
    admitted: frozenset[bytes] | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Coordinator:
    """A coordinator that listens. Raises `InvalidRequest` and `Unavailable` as `way_of`."""
    quiet()
    from researcher.coordinator import Coordinator

    check_host_and_port(listen, "listen")
    coordinator = Coordinator(
        listen,
        certificate=read_file(certificate, "certificate"),
        key=read_file(key, "key"),
        token=token,
        admitted=admitted,
        tell=tell,
    )
    coordinator.start()
    return coordinator


def token_in(path: Path, what: str) -> str:
    """The token in a file. Raises `InvalidRequest` where it is short."""
    token = password_in(read_file(path, what).decode("utf-8", "replace"), f"{what} {path}")
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable():
        raise InvalidRequest(
            f"{what} {path} holds no token of {LEAST_TOKEN} characters or more. Make one: openssl rand -hex 24"
        )
    return token


def read_file(path: Path, what: str) -> bytes:
    """A file's bytes. Raises `InvalidRequest` naming `what`."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{what} {path} cannot be read: {getattr(error, 'strerror', error)}.") from None


def _here(fields: Mapping[str, str], base: Path, admitted: frozenset[bytes]) -> Coordinator:
    with _lock:
        running = _running.get(fields["listen"])
        if running is not None:
            running.admitted = (running.admitted or frozenset()) | admitted
            return running
        certificate, key = base / fields["certificate"], base / fields["key"]
        made = start(fields["listen"], certificate=certificate, key=key, admitted=admitted)
        _running[fields["listen"]] = made
        return made


def _checked(table: object) -> dict[str, str]:
    if not isinstance(table, Mapping):
        raise InvalidRequest(
            'A datasite says via = "coordinator", and there is no [coordinator] table. Write one with listen,'
            " certificate and key, or with address and token_file."
        )
    if unknown := set(map(str, table)) - FIELDS:
        raise InvalidRequest(f"[coordinator]: {', '.join(sorted(unknown))} is not known. Use {_FORMS}.")
    fields: dict[str, Any] = dict(table)
    for name, value in fields.items():
        if not isinstance(value, str):
            raise InvalidRequest(f"[coordinator]: {name}={value!r} is not a text. Write it in quotation marks.")
    wanted = HERE if "listen" in fields else ELSEWHERE
    if (missing := [name for name in wanted if not fields.get(name)]) or ("listen" in fields and "address" in fields):
        raise InvalidRequest(
            f"[coordinator]: {', '.join(missing) or 'listen and address'} "
            f"{'is missing' if missing else 'exclude each other'}. Use {_FORMS}."
        )
    return fields


_FORMS = "listen, certificate and key; or address, token_file and perhaps ca_file"
