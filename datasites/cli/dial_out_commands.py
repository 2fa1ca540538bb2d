"""`datasite dial-out` and `datasite status`: a hospital that opens no port, and how its connections stand."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path
from typing import Annotated

import typer

from datasites.cli import display
from datasites.cli.shell import AsJson, Directory, act, err, show
from policies.addresses import check_host_and_port, is_loopback
from policies.errors import DatasiteError, InvalidRequest
from policies.wire.relayed import quiet


def add_to(app: typer.Typer) -> None:
    """Put these commands among the others."""
    for command in (status, dial_out):
        app.command()(command)


def dial_out(
    coordinator: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="The researcher's coordinator.", show_default=False)
    ],
    ca: Annotated[
        Path | None, typer.Option(help="PEM file of the authority behind the coordinator's certificate.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", envvar="DATASITE_DIR", help="The datasite's directory, on this machine.")
    ] = None,
    datasite: Annotated[
        str, typer.Option(help="Instead of --dir: the datasite's address, as https://datasite:9400.")
    ] = "",
    datasite_ca: Annotated[
        Path | None, typer.Option(help="PEM file of the authority behind the datasite's certificate.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Directory to write the connection's state to; else the setting dial_out_state.")
    ] = None,
) -> None:
    """Connect outwards to a coordinator, and carry researchers' sealed calls from it to the datasite. Ctrl-C ends it.

    The hospital opens no port. This process opens no call: it can read nothing of what it carries.
    """
    quiet()
    from datasites.operations.dial_out import DialOut, Local, authority_in
    from datasites.settings import Settings

    check_host_and_port(coordinator, "HOST:PORT")
    if datasite:
        local, where = Local(_checked_url(datasite), _context(datasite_ca)), state
    elif directory is not None:
        settings = Settings.load(directory)
        local, where = Local.of(settings), state or settings.dial_out_states
    else:
        raise InvalidRequest("Name the datasite: --dir on its own machine, or --datasite https://host:port elsewhere.")
    dialled = DialOut(coordinator, authority=authority_in(ca), local=local, state=where, tell=err.print)
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: dialled.stop())
    dialled.run()


def status(directory: Directory, as_json: AsJson = False) -> None:
    """Show whether the datasite serves, the words of its key, and its connections to coordinators."""
    show(act(directory, "status"), display.status, as_json)


def _checked_url(url: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        plain = parts.scheme == "http" and is_loopback(parts.hostname or "")
        sound = (plain or parts.scheme == "https") and parts.hostname and parts.port and not parts.path.strip("/")
    except ValueError:
        sound = False
    if not sound:
        raise InvalidRequest(f"--datasite {url[:200]!r} is no address. Write https://host:port, or http on loopback.")
    return url


def _context(authority: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority)
    except ssl.SSLError:
        raise DatasiteError(f"--datasite-ca {authority} holds no certificate in PEM form.") from None
    except OSError as error:
        raise DatasiteError(f"--datasite-ca {authority} cannot be read: {error.strerror}.") from None
