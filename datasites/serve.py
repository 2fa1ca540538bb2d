"""`datasite serve`: one process with PySyft's API, the control socket, and the warm parents beside it."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from datasites.actions.registry import act
from datasites.datasite import Datasite, PySyft
from datasites.directory import DirectoryInUse, locked, population_secret, signing_key
from datasites.ledger.ledger import Ledger
from datasites.logs import Observed, Shown, say, serving_logs
from datasites.operations.control_socket import ControlServer, ask
from datasites.people.roles import Actor, Role
from datasites.progress import Tell
from datasites.settings import Settings
from policies.errors import DatasiteError, IsolationMissing, Unavailable

if TYPE_CHECKING:
    import uvicorn


logger = logging.getLogger(__name__)


def open_datasite(settings: Settings) -> Datasite:
    """The datasite of a directory, whose PySyft starts when it is first needed."""
    return Datasite.open(settings, start_pysyft)


def start_pysyft(datasite: Datasite) -> PySyft:
    """PySyft on a datasite's directory; its import takes seconds."""
    from datasites.door.syft.server import SyftDatasite

    return SyftDatasite(datasite)


@contextlib.contextmanager
def _staying_in_memory() -> Iterator[None]:
    """Collect seldom while modules are imported, and after that never go through what they have made.

    A collection of all that PySyft and torch import takes a quarter of a second, in which nobody is answered.
    """
    before = gc.get_threshold()
    gc.set_threshold(10_000, *before[1:])
    try:
        yield
        gc.collect()
        gc.freeze()
    finally:
        gc.set_threshold(*before)


def act_as_owner(datasite: Datasite, name: str, user: str, arguments: dict[str, Any]) -> Any:
    """Run an action for a user of the operating system who has the directory: whoever has it acts as owner."""
    return act(datasite, name, Actor(user, Role.OWNER), arguments)


def serve(directory: Path, *, tell: Tell = lambda text: None) -> None:
    """Serve a datasite until it is interrupted. It says that it serves once it does, and nothing before.

    Args:
      tell: hears that another command is waited for.

    Raises:
      Unavailable: another process serves the directory or keeps it; the port is taken; exporter or runner do not start.
      IsolationMissing: this host lacks a protection and the settings require it.
    """
    import uvicorn

    from datasites.door.listening import held_address

    settings = Settings.load(directory)
    certificate, key = settings.tls_files() or (None, None)
    for read_secret in (signing_key, population_secret):  # found missing now, and not at the first release
        read_secret(settings.directory)
    token = settings.metrics_token()
    with (
        _directory(settings, tell),
        held_address(settings) as address,
        serving_logs(settings.directory, settings.log_format) as out,
        _told(),
        open_datasite(settings) as datasite,
    ):
        with _staying_in_memory():
            protections = datasite.start_serving()
            from datasites.console.app import make_console
            from datasites.console.news import News
            from datasites.door.app import make_app, route_class
            from datasites.door.connections import Bounded, Connections, Listener, allow_files
            from datasites.door.syft.server import SyftDatasite
            from datasites.operations.metrics import Metrics
        _check_protections(settings, protections)
        engine = datasite.pool.engine()

        syft = datasite.syft
        assert isinstance(syft, SyftDatasite)
        metrics = Metrics(settings.directory, datasite.ledger, token, is_stopped=datasite.rounds.stopped.is_set)
        control = ControlServer(settings.control_socket, functools.partial(act_as_owner, datasite))
        control.start()
        try:
            news = News(datasite)
            console = functools.partial(make_console, datasite, news=news)
            app = make_app(settings, syft, console, metrics if token else None)
            connections = Connections(
                most=settings.connections,
                most_of_one=settings.connections_per_address,
                seconds=settings.header_seconds,
                gateways=settings.gateways,
            )
            allow_files(settings.connections)
            rate = float(settings.least_kib_per_second << 10)
            bounded = Bounded(app, connections, rate=rate, gateways=settings.gateways)
            config = uvicorn.Config(
                Observed(bounded, route_class, metrics.count),
                host=settings.host,
                port=settings.port,
                ssl_certfile=certificate,
                ssl_keyfile=key,
                log_config=None,
                timeout_graceful_shutdown=5,
                **server_options(),
            )
            _run(
                config,
                [Listener(listening, connections) for listening in address.serve()],
                started=lambda: _say(settings, protections, engine, datasite.ledger, out),
                before_shutdown=news.close,
            )
        finally:
            control.stop()


def server_options() -> dict[str, Any]:
    """How uvicorn is to serve: by a parser that bounds a request's head, on a loop that accepts by our `Listener`."""
    from datasites.door.connections import LARGEST_HEADER

    return {
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,  # `Bounded` has them, and believes whom the settings name
        "http": "h11",
        "h11_max_incomplete_event_size": LARGEST_HEADER,
        "loop": "asyncio",
    }


@contextlib.contextmanager
def _directory(settings: Settings, tell: Tell) -> Iterator[None]:
    """The directory's lock, waited for while a command works there; not where another process serves it."""
    announced = False

    def waiting() -> None:
        nonlocal announced
        with contextlib.suppress(ConnectionError):
            ask(settings.control_socket, "health", {})
            raise Unavailable(
                f"Another `datasite serve` serves {settings.directory} at {settings.url} already. Stop that one first."
            )
        if not announced:
            tell(f"Waiting for {settings.directory}: another command works on it.")
            announced = True

    try:
        with locked(settings.directory, wait_seconds=settings.start_seconds, waiting=waiting):
            yield
    except DirectoryInUse:
        raise Unavailable(
            f"{settings.directory} was in use by another command for start_seconds={settings.start_seconds:g}. Let it"
            " finish, or raise start_seconds in settings.toml."
        ) from None


def _run(
    config: uvicorn.Config,
    sockets: list[socket.socket],
    *,
    started: Callable[[], None],
    before_shutdown: Callable[[], None],
) -> None:
    """Serve until a signal; open event streams end first, which else would be waited for."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                started()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            before_shutdown()
            await super().shutdown(sockets)

    server = Server(config)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets)
    if not server.started:
        logger.error("It could not begin to listen; datasite.log says why.")
        sys.exit(3)  # as uvicorn itself does


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Let a fault of ours end the program with its class on standard error, and its traceback in the log alone."""
    try:
        yield
    except (DatasiteError, SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        name = Shown(type(error).__name__)
        logger.critical("The datasite ended with %s; datasite.log in its directory says why.", name, exc_info=True)
        raise SystemExit(1) from None


def _check_protections(settings: Settings, protections: dict[str, bool]) -> None:
    missing = [name for name, holds in protections.items() if not holds]
    if missing and missing != ["own_user"] and settings.isolation == "required":
        raise IsolationMissing(
            f"This host does not give {', '.join(missing)}. Mend the host (libseccomp2, Landlock, Linux 5.13 or later),"
            ' or accept less with isolation = "reported" in settings.toml.',
            missing=tuple(missing),
        )


def certificate_warning(settings: Settings, now: datetime) -> str:
    """Why browsers and researchers will not accept the TLS certificate at this time, or ""."""
    from cryptography import x509

    if (files := settings.tls_files()) is None:
        return ""
    certificate = x509.load_pem_x509_certificate(files[0].read_bytes())
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begins <= now <= ends:
        return ""
    return (
        f"The TLS certificate is valid from {begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC, and this machine's"
        f" clock says {now:%Y-%m-%d %H:%M} UTC: nobody will accept it. Set the clock if it is wrong, or renew it."
    )


def _say(settings: Settings, protections: dict[str, bool], engine: str, ledger: Ledger, out: TextIO) -> None:
    missing = [name for name, holds in protections.items() if not holds]
    lines = [f"{settings.name} at {settings.url}"]
    lines += [f"  {'holds  ' if holds else 'MISSING'} {name}" for name, holds in protections.items()]
    lines.append(f"  trains  with {engine}.")
    lines += [f"  The {kind} runs at {address}." for kind, address in settings.job_addresses.items()]
    if missing and settings.isolation != "required":
        lines.append(f'  isolation = "{settings.isolation}": work runs without {", ".join(missing)}.')
    elif missing == ["own_user"]:
        lines.append("  The datasite is not root: jobs share its user; the other layers stand.")
    if warning := certificate_warning(settings, datetime.now(UTC)):
        lines.append(f"  {warning}")
    if ledger.witness is None:
        lines.append("  The ledger has no witness: an old copy that is put back by hand would not be noticed here.")
    if ledger.recovery.is_restored:
        lines.append("  Restored from a copy: nothing is admitted until `datasite accept-restored`.")
    if settings.log_format == "json":
        facts = {"name": settings.name, "url": settings.url, "protections": protections, "engine": engine}
        say("serving", **facts, witness=ledger.witness is not None, restored=ledger.recovery.is_restored)
    else:
        print("\n".join(lines), file=out, flush=True)
