"""`datasite`: what an owner does on the command line. Every command acts through the same functions as the console.

While `datasite serve` runs on a directory, a command reaches it through the directory's control socket; else it takes
the directory's lock and works on the files itself.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from datasites.cli import (
    backup_commands,
    console_user_commands,
    decision_commands,
    dial_out_commands,
    display,
    export_commands,
    jobs_commands,
    policy_commands,
    privacy_audit,
    project_commands,
    researcher_commands,
    round_commands,
    thread_commands,
)
from datasites.cli.shell import (
    AsJson,
    Directory,
    PasswordFile,
    RequestId,
    Yes,
    act,
    err,
    out,
    read_password,
    read_settings,
    read_text,
    show,
)
from datasites.files import refused_by_system
from policies.commands import Commands
from policies.errors import DatasiteError, InvalidRequest
from policies.numbers import counted, written
from policies.source.statuses import RequestStatus

app = Commands(
    name="datasite",
    help="Run a hospital's datasite: publish tables, decide on requests, read the ledger.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
TRACEBACK = "DATASITE_TRACEBACK"


@app.command()
def init(
    directory: Directory,
    name: Annotated[str, typer.Option(help="The hospital's name, as researchers see it.")],
    email: Annotated[str, typer.Option(help="The owner's account.")] = "owner@datasite.example",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 9400,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="Take the owner's password from this file; else one is made.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A setting as NAME=VALUE; `datasite settings` lists them.")
    ] = None,
) -> None:
    """Make a datasite's directory: identity, keys, settings, policy, ledger and the owner's account."""
    from datasites.datasite import Datasite
    from datasites.directory import create_directory
    from datasites.review.policy import DEFAULT_POLICY

    password = read_password(password_file, prompt="") if password_file else secrets.token_urlsafe(15)
    values = read_settings(setting or [])
    if values.get("ledger"):
        from datasites.ledger.database import Database
        from datasites.ledger.postgres import check_empty

        secret = values.get("ledger_password_file")
        check_empty(Database(values["ledger"], directory / secret if secret else None))
    settings = create_directory(
        directory,
        name=name,
        host=host,
        port=port,
        owner_email=email,
        settings=values,
        policy=DEFAULT_POLICY,
    )
    Datasite.create(settings, owner_password=password)
    out.print(f"Made {directory} for {name}, owner {email}.")
    if not password_file:
        out.print(Text.assemble("Owner's password, shown only now: ", (password, "bold")))
    out.print(
        f"Next: `export DATASITE_DIR={directory}` spares you --dir. Draft a schema with `datasite schema data.csv >"
        " schema.toml`, fill it in, start `datasite serve`, and `datasite publish data.csv --schema schema.toml`."
    )


@app.command()
def settings(
    directory: Directory,
    change: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="New values; none shows them all.", show_default=False),
    ] = None,
) -> None:
    """Show the settings, or change some. They are read when the datasite starts."""
    from datasites.settings import Settings, change_settings

    if change:
        change_settings(directory, read_settings(change))
        out.print(f"Changed {', '.join(read_settings(change))}; restart the datasite for it to count.")
    else:
        out.print((Settings.load(directory).directory / "settings.toml").read_text(encoding="utf-8"), markup=False)


@app.command()
def serve(directory: Directory) -> None:
    """Run the datasite: PySyft's API under /api/v2, /healthz, and the warm exporter and runner. Ctrl-C ends it."""
    from datasites.serve import serve as run

    run(directory, tell=err.print)


@app.command()
def schema(
    table: Annotated[
        str | None, typer.Argument(help="A CSV, Parquet, Excel, SAS or FHIR file.", show_default=False)
    ] = None,
    names_only: Annotated[
        bool, typer.Option("--names-only", help="Look at no cell: kinds come from the columns' names.")
    ] = False,
    omop: Annotated[
        str | None, typer.Option(help="Instead of a file: a table of OMOP CDM 5.4, as person or measurement.")
    ] = None,
    concept: Annotated[list[int] | None, typer.Option(help="A concept of OMOP to publish; may be repeated.")] = None,
    query: Annotated[bool, typer.Option("--query", help="With --omop: print the query instead of the schema.")] = False,
) -> None:
    """Draft a schema.toml for a table, for you to finish: bounds are left to fill in, never taken from the data."""
    from datasites.vault.omop import omop_query, omop_schema
    from datasites.vault.schema_draft import draft_schema

    if (table is None) == (omop is None) or (omop is None and (query or concept)):
        raise InvalidRequest("Name a file, or a table of OMOP as --omop person; --concept and --query go with --omop.")
    if omop is not None:
        print((omop_query if query else omop_schema)(omop, concept or ()), end="")
    else:
        print(draft_schema(Path(str(table)), names_only=names_only))


@app.command()
def publish(
    directory: Directory,
    schema: Annotated[Path, typer.Option(help="The table's schema.toml.")],
    table: Annotated[
        str | None, typer.Argument(help="A CSV, Parquet, Excel, SAS or FHIR file.", show_default=False)
    ] = None,
    sql: Annotated[str | None, typer.Option(help="Instead of a file: a query.")] = None,
    database: Annotated[
        str | None, typer.Option(help="The database, as postgresql+psycopg://reader@host/name; no password here.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="The database's password; else DATASITE_DATABASE_PASSWORD is read.")
    ] = None,
    patients: Annotated[
        float | None, typer.Option(help="Publish this number of patients; it stands as declared.")
    ] = None,
    count_epsilon: Annotated[
        float | None, typer.Option(help="Publish a differentially private count of patients at this ε, charged.")
    ] = None,
    budget_epsilon: Annotated[float, typer.Option(help="ε of a new population.")] = 6.0,
    budget_delta: Annotated[float, typer.Option(help="δ of a new population.")] = 1e-5,
    public_mock: Annotated[Path | None, typer.Option(help="A table that you declare public, to be the mock.")] = None,
    tensors: Annotated[
        Path | None,
        typer.Option(help="Of tensors: the folder of files that the table names, or .npy/.npz; else the table's own."),
    ] = None,
    mock_epsilon: Annotated[
        float | None,
        typer.Option(help="Draw the mock from differentially private tables of the data at this ε, charged."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Publish nothing: only check, and say what you should know of the table.")
    ] = False,
) -> None:
    """Check a table against its schema and publish it: private tensor, mock, public size. All or nothing."""
    if check:
        with err.status("Checking ..."):
            seen = act(
                directory,
                "check_publication",
                table=str(Path(table).resolve()) if table else None,
                sql=sql,
                database=database,
                password_file=str(password_file.resolve()) if password_file else None,
                schema=read_text(schema, "--schema"),
                budget=[budget_epsilon, budget_delta],
                tensors=str(tensors.resolve()) if tensors else None,
            )
        show(seen, display.publication_report, False)
        out.print(
            f"Nothing was published. The table fits {seen['name']}: {counted(seen['records'], 'record')} of"
            f" {counted(seen['patients'], 'patient')} (exact, for you alone)."
        )
        return
    with err.status("Checking and publishing ..."):
        done = act(
            directory,
            "publish",
            table=str(Path(table).resolve()) if table else None,
            sql=sql,
            database=database,
            password_file=str(password_file.resolve()) if password_file else None,
            schema=read_text(schema, "--schema"),
            patients=patients,
            count_epsilon=count_epsilon,
            budget=[budget_epsilon, budget_delta],
            public_mock=str(public_mock.resolve()) if public_mock else None,
            tensors=str(tensors.resolve()) if tensors else None,
            **({} if mock_epsilon is None else {"mock_epsilon": mock_epsilon}),
        )
    show(done, display.publication_report, False)
    out.print(
        f"Published {done['name']}, version {done['version']}: {counted(done['patients'], 'patient')}"
        f" ({done['size_kind']}), population {done['population']}."
    )
    budget = done["budget"]
    out.print(
        f"All tables of {done['population']} share ε = {written(budget['epsilon'])} at δ = {written(budget['delta'])}:"
        f" {budget['epsilon_remaining']:.3f} is left."
    )


@app.command()
def report(
    directory: Directory,
    name: Annotated[str, typer.Argument(help="A published dataset.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Show what publishing noticed about a dataset's table, such as identifiers written in two ways. For you alone."""
    noticed = act(directory, "publication_report", name=name)
    show(noticed, display.publication_report, as_json)
    if not as_json and not noticed["notes"] and not noticed["concerns"]:
        out.print("Nothing was noticed." if noticed["kept"] else "It was published before there were reports.")


@app.command()
def datasets(directory: Directory, as_json: AsJson = False) -> None:
    """List published datasets and the budgets of their populations."""
    show(act(directory, "datasets"), display.datasets, as_json)


@app.command()
def retire(directory: Directory, name: Annotated[str, typer.Argument(help="The dataset.", show_default=False)]) -> None:
    """Take a dataset back: its rounds end and its requests are closed. Its population's ledger keeps every charge."""
    done = act(directory, "retire", name=name)
    out.print(f"Retired {name}. Requests closed, and what they had reserved given back: {done['closed']}.")


@app.command()
def requests(
    directory: Directory,
    status: Annotated[
        RequestStatus | None, typer.Option(help="Only requests of this status. Those that are checked wait for you.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List code requests, those that wait for you first."""
    show(act(directory, "requests", status=status and status.value), display.requests, as_json)


@app.command("show")
def show_request(directory: Directory, request: RequestId, as_json: AsJson = False) -> None:
    """Show a request: source, plan, findings, checks, risk in plain words, cost before and after."""
    show(act(directory, "show", request=request), display.request, as_json)


@app.command("try")
def try_request(directory: Directory, request: RequestId, as_json: AsJson = False) -> None:
    """Run a request on mock rows, confined as a round is, and show what it did. No patient's row is read."""
    with err.status("Running it on the mock ..."):
        done = act(directory, "try_request", request=request)
    show(done, display.trial, as_json)


decision_commands.add_to(app)


@app.command()
def stop(directory: Directory, yes: Yes = False) -> None:
    """Stop everything at once: running rounds end and nothing is released until `datasite resume`."""
    if not yes:
        typer.confirm("Stop all running work and all releases?", abort=True)
    done = act(directory, "stop")
    out.print(
        f"Stopped. Rounds ended by it, and not released: {done['ended']}. Rounds that had ended by themselves:"
        f" {done['by_themselves']}. `datasite resume` lets other work go on."
    )


@app.command()
def resume(directory: Directory) -> None:
    """Let work go on after `datasite stop`."""
    act(directory, "resume")
    out.print("Work goes on.")


@app.command()
def releases(directory: Directory, as_json: AsJson = False) -> None:
    """List what left: when, to whom, which round, at what cost."""
    show(act(directory, "releases"), display.releases, as_json)


@app.command()
def certificate(
    directory: Directory,
    request: RequestId,
    round_number: Annotated[int, typer.Argument(metavar="ROUND", help="Of the request, from 1.")],
) -> None:
    """Print the signed certificate of one release."""
    print(act(directory, "certificate", request=request, round_number=round_number), end="")


@app.command()
def ledger(
    directory: Directory,
    verify: Annotated[bool, typer.Option("--verify", help="Recompute chain and totals.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show balances and entries of the ledger, or verify it."""
    if verify:
        done = act(directory, "verify_ledger")
        out.print(f"The ledger verifies: {done['entries']} entries, head {done['head']}.")
        return
    show(act(directory, "ledger"), display.ledger, as_json)


@app.command("raise-budget")
def raise_budget(
    directory: Directory,
    population: Annotated[str, typer.Argument(help="As `datasite datasets` shows it.", show_default=False)],
    epsilon: Annotated[float, typer.Option(help="The new ε in total.")],
    yes: Yes = False,
) -> None:
    """Raise a population's ε. The new total is the promise to its patients from then on."""
    from policies.privacy.risk import loss_in_filter, risk_sentences

    if not yes:
        budgets = act(directory, "datasets")["populations"]
        for budget in (budget for budget in budgets if budget["population"] == population):
            for sentence in risk_sentences(loss_in_filter(epsilon, budget["delta"], budget["order"])):
                out.print(f"· {sentence}")
        typer.confirm(f"Promise ε = {epsilon} in total to {population} from now on?", abort=True)
    done = act(directory, "raise_budget", population=population, epsilon=epsilon)
    out.print(f"The budget of {population} is now ε = {done['epsilon']} at δ = {done['delta']}.")


@app.command()
def log(
    directory: Directory,
    search: Annotated[str, typer.Option(help="Only rows that hold this text.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show the audit log: who did what."""
    show(act(directory, "search_log", search=search, limit=200), display.audit_log, as_json)


@app.command()
def password(
    directory: Directory,
    email: Annotated[str, typer.Argument(help="An account; the owner by default.")] = "",
    password_file: PasswordFile = None,
) -> None:
    """Give the owner (or the account EMAIL) a new password; sessions, clients and rounds under way end."""
    new = read_password(password_file, prompt="New password")
    done = act(directory, "set_password", email=email, password=new)
    out.print(
        f"The password of {email or 'the owner'} is changed, and sessions and clients are signed in no more. Rounds"
        f" ended by it, and not released: {done['ended']}."
    )


@app.command("rotate-key")
def rotate_key(directory: Directory, yes: Yes = False) -> None:
    """Sign certificates with a new key from now on. Old certificates stay valid under the old public key."""
    if not yes:
        typer.confirm("Make a new signing key? Researchers must be told the new public key.", abort=True)
    done = act(directory, "rotate_key")
    out.print(f"New public key: {done['public_key']}\nOld public key: {done['old_public_key']}")


@app.command()
def key(
    directory: Directory,
    request: Annotated[str, typer.Argument(help="Show the keys of its roster, to compare with its hospitals.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show the key that this datasite signs with, in words that two people compare by telephone."""
    show(act(directory, "key", request=request), display.key, as_json)


@app.command()
def isolation(directory: Directory, as_json: AsJson = False) -> None:
    """Show which protections hold for jobs on this host."""
    show(act(directory, "isolation"), display.isolation, as_json)


for noun in (
    researcher_commands,
    round_commands,
    privacy_audit,
    console_user_commands,
    policy_commands,
    export_commands,
    backup_commands,
    thread_commands,
    project_commands,
    dial_out_commands,
    jobs_commands,
):
    noun.add_to(app)


def main() -> None:
    """Run the command line; a `DatasiteError` becomes one sentence and exit code 1."""
    logging.basicConfig(level=logging.WARNING)
    os.umask(0o077)
    try:
        app(standalone_mode=False)
    except DatasiteError as error:
        err.print(Text("Error:", style="red"), end=" ")
        err.print(str(error))
        sys.exit(1)
    except typer.Abort as abort:
        if isinstance(abort.__cause__, KeyboardInterrupt):
            err.print("Interrupted. What a serving datasite was asked, it may still do: see `datasite log`.")
        else:
            err.print("Nothing was done.")
        sys.exit(1)
    except typer.Exit as leaving:
        sys.exit(leaving.exit_code)
    except Exception as error:
        if type(error).__module__.startswith("click") or type(error).__module__.startswith("typer"):
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        if os.environ.get(TRACEBACK):
            raise
        said = refused_by_system(error) if isinstance(error, OSError) else _fault(error)
        err.print(Text("Error:", style="red"), said)
        sys.exit(1)


def _fault(error: Exception) -> str:
    return (
        f"This command failed inside ({type(error).__name__}), a fault of the software. With {TRACEBACK}=1 before the"
        " command it shows where; report that, once you have seen that nothing private stands in it."
    )
