"""Commands of an operator: backup, restore, accepting what was restored, and asking whether the datasite serves."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from datasites.cli.shell import Directory, Yes, act, err, out, read_text
from policies.errors import DatasiteError, Unavailable

File = Annotated[Path, typer.Argument(help="The backup.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Put these commands among the others."""
    for command in (backup, restore, accept_restored, move_ledger, health):
        app.command()(command)


def backup(directory: Directory, file: File) -> None:
    """Copy everything into one new FILE, while the datasite serves or not.

    The file holds private rows and keys: it needs the same care as the directory. Encrypt it where it leaves the
    machine, for example with age or gpg.
    """
    from datasites.operations.backup import partial_path

    target = file.absolute()
    with _growing(partial_path(target)):
        done = act(directory, "backup", file=str(target))
    out.print(f"Copied into {done['file']}: {done['bytes']:,} bytes, with the ledger up to entry {done['entries']}.")
    out.print("It holds private rows and keys. Encrypt it (age, gpg) before it leaves this machine.")


@contextlib.contextmanager
def _growing(partial: Path) -> Iterator[None]:
    """Say, after two seconds, how much there is."""
    ended = threading.Event()
    with err.status("Copying ...") as status:

        def watch() -> None:
            while not ended.wait(2.0):
                with contextlib.suppress(OSError):
                    status.update(f"Copying ... {partial.stat().st_size / 2**20:,.0f} MiB")

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def restore(
    file: File,
    directory: Annotated[Path, typer.Option("--dir", help="The new directory.", show_default=False)],
) -> None:
    """Make a new directory of a backup FILE, or nothing at all. It admits nothing until it is accepted."""
    from datasites.operations.backup import restore as make
    from datasites.operations.control_socket import user_name

    if not file.is_file():
        raise DatasiteError(f"{file} is not a file.")
    with err.status("Putting back ..."):
        done = make(file, directory, actor=user_name(os.getuid()))
    out.print(f"Made {directory} for {done.name}, copied at {done.taken_at}.")
    out.print(f"Its ledger verifies and ends at entry {done.entries} ({done.kind}, {done.newest}).")
    out.print("Nothing is admitted until it is known that nothing spent since then is forgotten:")
    if done.witness:
        out.print(f"  its witness {done.witness} is asked when it starts. If that refuses:")
        out.print("  datasite accept-restored --accept-older, which charges what the witness knows.")
    else:
        out.print("  datasite accept-restored --newest-certificate FILE, or")
        out.print("  datasite accept-restored --accept-older --spent POPULATION=EPSILON")


def accept_restored(
    directory: Directory,
    newest_certificate: Annotated[
        Path | None, typer.Option(help="The newest certificate that any researcher or you have.")
    ] = None,
    accept_older: Annotated[
        bool, typer.Option("--accept-older", help="The copy may be old: charge what it forgot, end every approval.")
    ] = False,
    spent: Annotated[
        list[str] | None, typer.Option(help="Without a witness: POPULATION=EPSILON, spent in all. For each population.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Let a restored datasite admit work again, with nothing forgotten that was spent."""
    text = read_text(newest_certificate, "--newest-certificate") if newest_certificate else None
    if accept_older and not yes:
        for each in spent or []:
            out.print(f"You say that was spent in all: {each}")
        typer.confirm("Charge what this copy may have forgotten, for good, and end every approval?", abort=True)
    done = _accept(directory, certificate=text, older=accept_older, spent=_numbers(spent or []))
    by = {"witness": "its witness", "certificate": "the certificate", "owner": "what you said"}[done["how"]]
    out.print(f"Accepted, by {by}.")
    for name, epsilon in done["epsilon_spent"].items():
        charged = done["charged"].get(name, 0.0)
        out.print(f"  {name}: ε = {epsilon:.4f} is spent" + (f", {charged:.4f} of it added now." if charged else "."))
    if done["ended"]:
        out.print(f"{done['ended']} approval(s) ended; their researchers may ask again.")
    for each in done["approvals"]:
        out.print(f"Still approved: {each['id'][:8]} {each['function']} of {each['researcher']}")
    out.print(
        "Look through approvals, accounts, datasets and policy: what was revoked, closed, retired or changed after the"
        " copy was made is as it was before."
    )


def _accept(directory: Path, **arguments: Any) -> Any:
    """As `shell.act`; but a ledger that its witness refuses is reached here alone."""
    from datasites.directory import locked
    from datasites.ledger.database import ledger_place
    from datasites.ledger.ledger import Ledger
    from datasites.operations.control_socket import ask, user_name
    from datasites.operations.restore import accept_restored as accept
    from datasites.settings import Settings

    settings = Settings.load(directory)
    with contextlib.suppress(ConnectionError):
        return ask(settings.control_socket, "accept_restored", arguments)
    with locked(directory), Ledger.open(ledger_place(settings)) as ledger:
        return accept(settings, ledger, user_name(os.getuid()), **arguments)


def _numbers(words: list[str]) -> dict[str, float]:
    found = {}
    for each in words:
        name, _, number = each.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise DatasiteError(f"--spent {each!r} is not of the form POPULATION=EPSILON.") from None
    return found


def move_ledger(directory: Directory) -> None:
    """Move ledger and console's accounts out of files into the PostgreSQL database of the settings; nothing may serve.

    The database must have neither yet. The files are kept, under names that nothing opens. Interrupted, run it again.
    """
    from datasites.directory import locked
    from datasites.ledger.database import database_of
    from datasites.ledger.ledger import Ledger
    from datasites.ledger.moving import MOVED, move_into_database
    from datasites.people import moving as accounts
    from datasites.people.places import FILE, accounts_database
    from datasites.settings import Settings

    settings = Settings.load(directory)
    if not settings.ledger:
        raise DatasiteError(
            "The setting `ledger` names no database. Set it first:"
            " datasite settings ledger=postgresql://user@host/name?sslmode=verify-full"
        )
    file, console = settings.ledger_path, settings.directory / FILE
    with locked(directory), err.status("Moving ..."):
        if file.exists() or not console.exists():  # the ledger first: it says whether the database is this datasite's
            head = move_into_database(file, database_of(settings))
            out.print(f"Moved, and verified there: the ledger ends at entry {head.seq}.")
            out.print(f"What was its file is {MOVED} now. Nothing reads it: delete it once the database is backed up.")
        if console.exists():
            Ledger.open(database_of(settings)).close()  # a database without one is not this datasite's
            number = accounts.move_accounts(console, accounts_database(settings))
            out.print(f"Moved {number} account(s) of the console. What was their file is {accounts.MOVED} now.")


def health(directory: Directory) -> None:
    """Exit with 0 where the datasite serves, else with 1: for a container's health check."""
    from datasites.operations.control_socket import ask
    from datasites.settings import Settings

    try:
        state = ask(Settings.load(directory).control_socket, "health", {})
    except ConnectionError:
        raise Unavailable("Nothing serves there.") from None
    out.print(state["status"])
