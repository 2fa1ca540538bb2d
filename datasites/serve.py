"""`datasite serve`: one process with PySyft's API, the control socket, and the warm parents beside it."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from datasites.control import ControlServer
from datasites.office import Office
from datasites.settings import Settings, locked
from policies.errors import IsolationMissing

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger(__name__)


def serve(directory: Path) -> None:
    """Serve a datasite until it is interrupted.

    Raises:
      Unavailable: another process holds the directory.
      IsolationMissing: this host lacks a protection and the settings require it.
    """
    import uvicorn

    settings = Settings.load(directory)
    certificate, key = settings.tls_files() or (None, None)
    with locked(directory), Office.open(settings) as office:
        protections = office.start_serving()
        _say(settings, protections)
        from datasites.app import make_app
        from datasites.console.app import make_console
        from datasites.console.news import News

        control = ControlServer(settings.control_socket, office.act)
        control.start()
        try:
            _configure_logs(directory)
            news = News(office)
            config = uvicorn.Config(
                make_app(settings, office.syft, lambda lock_out: make_console(office, lock_out, news)),
                host=settings.host,
                port=settings.port,
                ssl_certfile=certificate,
                ssl_keyfile=key,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=5,
            )
            _run(config, before_shutdown=news.close)
        finally:
            control.stop()


def _run(config: uvicorn.Config, *, before_shutdown: Callable[[], None]) -> None:
    """Serve until a signal; open event streams end first, which else would be waited for."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            before_shutdown()
            await super().shutdown(sockets)

    server = Server(config)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(3)  # as uvicorn itself does: it said why


def _say(settings: Settings, protections: dict[str, bool]) -> None:
    print(f"{settings.name} at {settings.url}", flush=True)
    for name, holds in protections.items():
        print(f"  {'holds  ' if holds else 'MISSING'} {name}", flush=True)
    missing = [name for name, holds in protections.items() if not holds]
    if missing and settings.isolation != "required":
        print(f'  isolation = "{settings.isolation}": work runs without {", ".join(missing)}.', flush=True)
    elif missing == ["own_user"]:
        print("  The datasite is not root: jobs share its user; the other layers stand.", flush=True)
    elif missing:
        raise IsolationMissing(f"Missing on this host: {', '.join(missing)}.", missing=tuple(missing))


def _configure_logs(directory: Path) -> None:
    """Warnings and errors to `datasite.log` in the directory, and to standard error."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[logging.FileHandler(directory / "datasite.log"), logging.StreamHandler(sys.stderr)],
        force=True,
    )
