"""`datasite jobs`: run exporter and runner on another machine, which a datasite reaches over TLS."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from datasites.cli import display
from datasites.cli.shell import AsJson, Directory, err, out, show
from policies.addresses import check_host_and_port
from policies.commands import Commands
from policies.errors import DatasiteError, Unavailable

jobs = Commands(help="Run a datasite's exporter and runner on another machine of the hospital.", no_args_is_help=True)
Place = Annotated[Path, typer.Option("--dir", help="The directory of the machine's key.", show_default=False)]
Certificate = Annotated[Path, typer.Argument(help="The other side's own.pem, copied here.", show_default=False)]
Words = Annotated[
    str, typer.Option(help="The twelve words of its key, as the other side prints them.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Put these commands among the others."""
    for command in (make, trust, serve, use, check):
        jobs.command()(command)
    app.add_typer(jobs, name="jobs")


def make(directory: Place) -> None:
    """On the machine of the jobs: make its key and certificate, or show their words again, and whom it trusts."""
    from datasites.jobs.machine import TRUSTED
    from datasites.jobs.pinned import key_words, make_own, read_certificate

    certificate = make_own(directory)
    out.print(
        f"Certificate of this machine: {certificate}\nWords of its key: {key_words(read_certificate(certificate))}"
    )
    trusted = sorted((directory / TRUSTED).glob("*.pem"))
    for path in trusted:
        out.print(f"Trusts {path}: {key_words(read_certificate(path))}")
    if not trusted:
        out.print(
            "Next: copy the certificate to the datasite's machine, and run there `datasite jobs use HOST:PORT own.pem"
            ' --words "…" --dir DATASITE` with these words, read to whoever types them.'
        )


def trust(directory: Place, certificate: Certificate, words: Words) -> None:
    """On the machine of the jobs: run those of a datasite from now on, until the file is deleted that this names."""
    from datasites.jobs.machine import TRUSTED
    from datasites.jobs.pinned import keep
    from policies.wire.key_words import fingerprint_in, words_of

    target = directory / TRUSTED / f"{'-'.join(words_of(fingerprint_in(words)).split()[:4])}.pem"
    keep(certificate, words, target)
    out.print(f"Jobs of that datasite are run here from now on, as long as {target} is there.")


def serve(
    directory: Place,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where datasites reach this machine.", show_default=False)
    ],
    rows_mib: Annotated[
        int, typer.Option(min=1, max=1 << 20, help="Largest stream of rows of one job, which is held in memory.")
    ] = 4096,
    start_seconds: Annotated[float, typer.Option(min=1, help="What exporter and runner may take to come up.")] = 300.0,
) -> None:
    """On the machine of the jobs: run exporter and runner for the datasites that it trusts. Ctrl-C ends it."""
    from datasites.directory import locked
    from datasites.jobs.machine import Machine, trusted_by
    from datasites.jobs.pinned import CERTIFICATE, key_words, read_certificate
    from datasites.jobs.pool import KINDS, JobPool

    check_host_and_port(listen, "--listen")
    words = key_words(read_certificate(directory / CERTIFICATE))
    known = len(trusted_by(directory))
    pool = JobPool(
        {kind: directory.resolve() / f"{kind}.sock" for kind in KINDS}, required=False, start_seconds=start_seconds
    )
    stopped = threading.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: stopped.set())
    with locked(directory), _listening(listen) as listener:
        machine = Machine(directory, pool.connect, listener, rows_bytes=rows_mib << 20, tell=err.print)
        try:
            pool.start()
            for name, holds in pool.protections().items():
                out.print(f"  {'holds  ' if holds else 'MISSING'} {name}")
            taking = threading.Thread(target=machine.serve, daemon=True)
            taking.start()
            out.print(f"Jobs are taken at {listen} from {known} datasite(s). Words of this machine's key: {words}")
            stopped.wait()
        finally:
            machine.stop()
            pool.stop()
    os._exit(0)  # threads of connections that just ended hold nothing


@contextmanager
def _listening(listen: str) -> Iterator[socket.socket]:
    from datasites.jobs.elsewhere import host_and_port

    host, port = host_and_port(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise Unavailable(f"--listen {listen} cannot be taken: {error.strerror}. Free it or name another.") from None
    with listener:
        yield listener


def use(
    directory: Directory,
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where the machine listens.", show_default=False)],
    certificate: Certificate,
    words: Words,
    only: Annotated[
        Literal["exporter", "runner"] | None, typer.Option(help="Have one of the two there alone; the other stays.")
    ] = None,
) -> None:
    """On the datasite's machine: have its jobs run elsewhere from the next start on.

    The runner's machine is sent private rows. It has to be the hospital's own, and to be protected as this one is.
    """
    from datasites.jobs.pinned import keep, key_words, make_own, read_certificate
    from datasites.jobs.pool import KINDS
    from datasites.settings import Settings, change_settings

    check_host_and_port(address, "HOST:PORT")
    settings = Settings.load(directory)
    kinds = (only,) if only else KINDS
    own = make_own(settings.elsewhere)
    for kind in kinds:
        keep(certificate, words, settings.job_certificate(kind))
    change_settings(directory, {f"{kind}_address": address for kind in kinds})
    mine = key_words(read_certificate(own))
    out.print(f"{' and '.join(kinds)} run at {address} from the next start on.")
    if "runner" in kinds:
        out.print("Private rows go there with each round: it has to be the hospital's own machine.")
    out.print(
        f'Next: copy {own} there, and run `datasite jobs trust own.pem --words "{mine}" --dir DIRECTORY` on it; then'
        " `datasite jobs check` here."
    )


def check(directory: Directory, as_json: AsJson = False) -> None:
    """On the datasite's machine: try whether the machines of its jobs answer, and say why not."""
    from datasites.datasite import machines
    from datasites.settings import Settings

    found: list[dict[str, Any]] = [machine.look() for machine in machines(Settings.load(directory)).values()]
    show(found, display.jobs_elsewhere, as_json)
    if any(each["reason"] for each in found):
        raise DatasiteError("Not all machines of this datasite's jobs can be used; the reason is above.")
