"""The command line `researcher`: datasets, check, submit, wait, run, resume, evaluate, status, withdraw, verify,
`coordinate`, `devices`, and `flower-run` and `flower-client`, by which Flower's own programs drive a study.

A study is a Python file that makes one `researcher.Study` (or `cohort.statistics(...)`) at its top level. The commands
load the file and do one thing with that study, so the same file serves a notebook, a script and the command line.
"""

from __future__ import annotations

import os
import runpy
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policies.commands import Commands
from policies.errors import DatasiteError, InvalidRequest
from policies.text import visible
from researcher.devices.commands import app as devices_app

if TYPE_CHECKING:
    from researcher.analyses import AnalysisStudy
    from researcher.studies import Study

app = Commands(
    help="Train models and ask for statistics at several hospitals' datasites.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(devices_app, name="devices")
environments = Commands(help="Environments of their own for what trains with other libraries.", no_args_is_help=True)
app.add_typer(environments, name="environments")
NEW_LINE = "\n"
TRACEBACK = "RESEARCHER_TRACEBACK"
INTERRUPTED = 130  # what typer ends with after Ctrl-C

StudyFile = Annotated[Path, typer.Argument(help="Python file that makes the study at its top level.")]
StudyOption = Annotated[Path, typer.Option("--study", help="Python file that makes the study at its top level.")]
NetworkFile = Annotated[Path, typer.Option("--network", help="TOML file that names the datasites.")]

Quorum = Annotated[
    int | None, typer.Option(help="Hospitals without which a round is not closed; two, or one where there is one.")
]


@app.command()
def datasets(network: NetworkFile = Path("network.toml")) -> None:
    """Show what every datasite publishes: schema, published size and budget left."""
    import researcher

    reached = researcher.connect(network)
    names = {dataset["name"]: None for about in reached.descriptions.values() for dataset in about.get("datasets", [])}
    _echo(repr(reached))
    for name in names:
        try:
            _echo("\n" + repr(reached.dataset(name)))
        except InvalidRequest as error:
            _echo(f"\n{visible(name)}: {error}")


@environments.command("setup-tf-privacy")
def setup_tf_privacy(
    wheels: Annotated[Path | None, typer.Option(help="Directory of wheels to install from, without a network.")] = None,
    python: Annotated[str | None, typer.Option(help="The Python 3.11 to make it with.")] = None,
) -> None:
    """Install TensorFlow Privacy, pinned by hashes, into an environment of its own, for framework="tensorflow"."""
    from researcher.environments import set_up_tf_privacy

    where, version = set_up_tf_privacy(_echo, wheels=wheels, python=python)
    _echo(f"TensorFlow {version} with TensorFlow Privacy is in {where}. Train with framework='tensorflow'.")


@app.command()
def source(study: StudyFile) -> None:
    """Show the source that the owners will read."""
    typer.echo("\n\n".join(load_study(study).sources.values()), nl=False)


@app.command()
def check(study: StudyFile) -> None:
    """Inspect the study as the owners would, and show what it would cost at every hospital. Asks for nothing."""
    checked = load_study(study).check()
    _echo(str(checked))
    if checked.reasons:
        raise typer.Exit(1)


@app.command()
def submit(
    study: StudyFile,
    project: Annotated[str, typer.Option(help="File the requests under this project of the hospitals.")] = "",
) -> None:
    """Check the study and submit its code requests to every hospital where it fits."""
    _echo(str(load_study(study).submit(project=project)))


@app.command()
def status(study: StudyFile) -> None:
    """Show where each request stands at each hospital, with the owner's comment."""
    standing = load_study(study).status()
    typer.echo(
        str(standing) if standing.rows else f"Not submitted yet. `researcher submit {study}` asks the hospitals."
    )


@app.command()
def comment(study: StudyFile, text: Annotated[str, typer.Argument(help="What the owners should read.")]) -> None:
    """Write on the study's requests at every hospital."""
    typer.echo(str(load_study(study).comment(text)))


@app.command()
def comments(study: StudyFile) -> None:
    """Show what you and the hospitals wrote on the study's requests."""
    written = load_study(study).comments()
    typer.echo(str(written) if written.rows else "Nobody has written anything yet.")


@app.command()
def wait(
    study: StudyFile,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait at most.")] = None,
) -> None:
    """Wait until every hospital has decided."""
    _echo(str(load_study(study).wait_for_approval(timeout=timeout)))


@app.command()
def run(
    study: StudyFile,
    strategy: Annotated[
        str | None, typer.Option(help="One of Flower's strategies, as FedAdam; the suggested one, or FedAvg.")
    ] = None,
    deadline: Annotated[float, typer.Option(help="Seconds that a hospital may take for a round.")] = 600.0,
    buffer: Annotated[
        int | None,
        typer.Option(help="Answers that close a round; what comes later enters a later one. All until the deadline."),
    ] = None,
    quorum: Quorum = None,
    save: Annotated[Path | None, typer.Option(help="Directory to write weights, releases and certificates to.")] = None,
) -> None:
    """Run an approved study, or go on with one that was interrupted."""
    loaded: Any = load_study(study)
    options: dict[str, Any] = {}
    if hasattr(loaded, "training"):
        options = {"strategy": strategy, "buffer": buffer, **_quorum(loaded, quorum)}
    elif buffer is not None:
        raise InvalidRequest(f"--buffer {buffer}: this study trains no model, so that it has no rounds to close.")
    _show(loaded.run(deadline=deadline, **options), save)


@app.command()
def resume(
    study: StudyFile,
    quorum: Quorum = None,
    save: Annotated[Path | None, typer.Option(help="Directory to write weights, releases and certificates to.")] = None,
) -> None:
    """Go on with an interrupted study as it was begun. Nothing is paid for twice."""
    loaded: Any = load_study(study)
    _show(loaded.resume(**_quorum(loaded, quorum)), save)


@app.command()
def evaluate(study: StudyFile) -> None:
    """Score the study's final model on the hold-outs of the hospitals that approved it."""
    loaded: Any = load_study(study)
    if not hasattr(loaded, "evaluate"):
        raise InvalidRequest("A study of statistics has no model to evaluate.")
    _echo(str(loaded.evaluate()))


@app.command()
def simulate(
    study: StudyFile,
    hospitals: Annotated[int, typer.Option(help="How many are simulated, 1 to 100,000.")] = 1000,
    patients: Annotated[int, typer.Option(help="Of a hospital of the middle size.")] = 500,
    strategy: Annotated[str | None, typer.Option(help="One of Flower's strategies, as FedAvg or FedAdam.")] = None,
    quorum: Quorum = None,
    schema: Annotated[
        Path | None, typer.Option(help="The dataset's schema.toml, where its hospitals cannot be reached.")
    ] = None,
    table: Annotated[Path | None, typer.Option(help="A public CSV file that patients are drawn from.")] = None,
    population: Annotated[
        str, typer.Option(help="FILE.py:FUNCTION that gives a hospital's patients as a DataFrame.")
    ] = "",
    epsilon: Annotated[float, typer.Option(help="ε of each hospital's budget.")] = 6.0,
    delta: Annotated[float, typer.Option(help="δ of each hospital's budget.")] = 1e-5,
    denying: Annotated[float, typer.Option(help="Chance that an owner denies.")] = 0.02,
    dropping: Annotated[float, typer.Option(help="Chance that a hospital does not answer in a round.")] = 0.05,
    straggling: Annotated[float, typer.Option(help="Chance that it answers too late, which is charged.")] = 0.03,
    late: Annotated[bool, typer.Option(help="Let late answers enter the next round, as a buffer does.")] = False,
    spent: Annotated[float, typer.Option(help="Largest share of a budget that others have spent before.")] = 0.9,
    seed: Annotated[int, typer.Option(help="Same seed, same simulation.")] = 0,
    engine: Annotated[
        str, typer.Option(help="process: all in this one; ray: Flower's engine, where ray is installed.")
    ] = "process",
) -> None:
    """Run the study at simulated hospitals, on this machine: nobody is asked and nothing is charged."""
    from policies.privacy.budget import PrivacyBudget
    from researcher import simulated_sources
    from researcher.simulation import Faults
    from researcher.simulation import simulate as run_simulation

    with simulated_sources.reached(schema, patients):
        loaded = load_study(study)
    made = run_simulation(
        loaded,
        hospitals=hospitals,
        patients=patients,
        strategy=strategy,
        faults=Faults(denying=denying, dropping=dropping, straggling=straggling, spent=spent),
        budget=PrivacyBudget(epsilon, delta),
        table=simulated_sources.read_table(table),
        population=simulated_sources.function_of(population),
        late=late,
        seed=seed,
        engine=engine,
        **_quorum(loaded, quorum),
    )
    _echo(str(made))


@app.command()
def withdraw(study: StudyFile) -> None:
    """Withdraw the study's requests; what no run has touched goes back to the hospitals' budgets."""
    _echo(str(load_study(study).withdraw()))


@app.command()
def verify(
    files: Annotated[
        list[Path], typer.Argument(help="Certificates, as releases/*.certificate.json of a saved result.")
    ],
    public_key: Annotated[
        str | None, typer.Option(help="The datasite's key in hex, as it published it; else the certificate's own.")
    ] = None,
) -> None:
    """Check certificates offline and say in words what each states.

    Checked are the signature, the recomputed ε, and the release beside each file where there is one. Sums of masked
    releases are opened again where the files are those of a saved result.
    """
    from policies.release import certificates
    from researcher.opened_sums import FOLDER, sentences_of

    for path in files:
        release = Path(str(path).removesuffix(".certificate.json") + ".safetensors")
        try:
            text = path.read_text(encoding="utf-8")
            released = release.read_bytes() if release != path and release.exists() else None
        except OSError as error:
            raise InvalidRequest(f"{str(error.filename)[:200]} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise InvalidRequest(f"{path} is no certificate: it is not text in UTF-8.") from None
        certificate = certificates.verify(text, public_key=public_key, release=released)
        against = f"and its release {release.name}" if released is not None else "(its release is not beside it)"
        trusted = (
            "" if public_key else " Signed by its own key: compare that with the hospital's, or give --public-key."
        )
        typer.echo(f"{path}: valid, {against}.{trusted}")
        for sentence in certificates.explain(certificate):
            typer.echo(f"  {visible(sentence)}")
    for directory in dict.fromkeys(path.parent.parent for path in files):
        if (directory / "result.json").exists() and (directory / FOLDER).is_dir():
            from researcher.results import load

            result = load(directory)  # which holds each sum and the mean of weights against masked releases
            for sentence in sentences_of(result.openings, result.releases, mean_of_weights=bool(result.begun)):
                typer.echo(visible(sentence))


@app.command()
def coordinate(
    listen: Annotated[str, typer.Option(help="Address that hospitals dial, as 0.0.0.0:9443.")],
    certificate: Annotated[Path, typer.Option(help="TLS certificate for that address, in PEM form.")],
    key: Annotated[Path, typer.Option(help="The certificate's key, in PEM form.")],
    token_file: Annotated[Path, typer.Option(help="A token of 24 characters or more, which researchers show.")],
    network: Annotated[
        Path | None, typer.Option(help="Only hospitals of this network file may dial in; else all may.")
    ] = None,
) -> None:
    """Stand as the coordinator that hospitals without an open port dial in to. It reads nothing of what it carries."""
    import signal
    import threading

    from researcher.coordinator_table import start, token_in
    from researcher.network import words_in

    coordinator = start(
        listen,
        certificate=certificate,
        key=key,
        token=token_in(token_file, "--token-file"),
        admitted=words_in(network) if network else None,
        tell=_echo,
    )
    _echo(f"Hospitals may dial in at {listen}.")
    ended = threading.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: ended.set())
    ended.wait()
    coordinator.stop()


@app.command("flower-run")
def flower_run(
    program: Annotated[
        Path, typer.Argument(help="Python file that makes the ServerApp, or the directory of a Flower project.")
    ],
    study: StudyOption,
    run_config: Annotated[
        str, typer.Option(help="Values in place of the project's run configuration, as 'lr=0.1 num-server-rounds=3'.")
    ] = "",
    deadline: Annotated[float, typer.Option(help="Seconds that a hospital may take for a round.")] = 600.0,
    quorum: Quorum = None,
    save: Annotated[Path | None, typer.Option(help="Directory to write weights, releases and certificates to.")] = None,
) -> None:
    """Run a stock Flower ServerApp whose Grid is an approved study. Run again, it goes on where it was.

    Its strategy is rehearsed with its own settings on made-up weights first; what cannot work costs nothing.
    """
    from researcher.flower_app import run_app

    loaded = _training_in(study)
    result = run_app(program, loaded, run_config=run_config, deadline=deadline, quorum=quorum)
    if result is None:
        _echo(f"The app started no strategy of Flower's. Its releases are in {loaded.state.directory}.")
    else:
        _show(result, save)


@app.command("flower-client")
def flower_client(
    server: Annotated[str, typer.Argument(help="HOST:PORT of a Flower server (`start_server`).")],
    study: StudyOption,
    ca: Annotated[Path | None, typer.Option(help="Authority of the server's certificate, in PEM form.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds that a hospital may take for a round.")] = 600.0,
    patience: Annotated[float, typer.Option(help="Seconds that the server may be away.")] = 60.0,
) -> None:
    """Let a Flower server drive the rounds of an approved study: a client for each hospital, until the server ends.

    The server chooses weights and rounds; hospitals run what they approved, and what it gets are their releases.
    """
    from researcher.flower_client import Server, drive

    for line in drive(_training_in(study), Server.at(server, ca), deadline=deadline, patience=patience):
        _echo(line)


@app.command()
def translate(
    file: Annotated[Path, typer.Argument(help="Opacus training script (.py) or notebook (.ipynb); it is not run.")],
    dataset: Annotated[str, typer.Option(help="Published dataset in the place of the script's own data.")],
    network: NetworkFile = Path("network.toml"),
    name: Annotated[str | None, typer.Option(help="Of the study; else the file's own.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the study here, not over a file that is there.")] = None,
) -> None:
    """Write the study that an Opacus training script stands for, and say line by line what it leaves out.

    The script is read and never run. The study goes to the screen or to a file; notes and refusals beside it. Where a
    line has no counterpart, nothing is written.
    """
    from researcher.translation import translate as translated

    found = translated(file, dataset=dataset, network=str(network), name=name)
    for note in found.notes:
        typer.echo(f"Left out, {note}.", err=True)
    for refusal in found.refused:
        typer.echo(f"Not known, {refusal}", err=True)
    if found.refused:
        raise InvalidRequest(f"{file} was not translated. Change those lines, and translate it again.")
    if output is None:
        typer.echo(found.study, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8") as written:
            written.write(found.study)
    except FileExistsError:
        raise InvalidRequest(f"{output} exists already. Name another file with --output.") from None
    typer.echo(f"Wrote {output}. `researcher check {output}` shows what it costs.", err=True)


def load_study(path: Path) -> Study | AnalysisStudy:
    """The one study that a Python file makes. Raises `InvalidRequest` where there is none, or more than one."""
    from researcher.analyses import AnalysisStudy
    from researcher.studies import Study

    if not path.is_file():
        raise InvalidRequest(f"{path} is not a file. Name the Python file that makes the study.")
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        names = runpy.run_path(str(path), run_name="__study__")
    except DatasiteError:
        raise
    except SystemExit as ended:
        raise InvalidRequest(
            f"{path} ended itself with {ended.code!r} before it had made a study. Take that out, or put it under "
            'if __name__ == "__main__".'
        ) from None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else "?"
        raise InvalidRequest(f"{path}, line {line}: {type(error).__name__}: {error}. Mend the file.") from error
    finally:
        sys.path.pop(0)
    studies = {id(value): value for value in names.values() if isinstance(value, (Study, AnalysisStudy))}
    if len(studies) != 1:
        raise InvalidRequest(
            f"{path} makes {len(studies)} studies at its top level, and a command needs one. Put what runs it under "
            'if __name__ == "__main__".'
        )
    return next(iter(studies.values()))


def _training_in(path: Path) -> Study:
    """The study that a file makes, where it trains a model."""
    loaded: Any = load_study(path)
    if not hasattr(loaded, "training"):
        raise InvalidRequest(f"{path} trains no model, so it has no rounds that Flower could drive.")
    trains: Study = loaded
    return trains


def _echo(text: str) -> None:
    """Print what holds hospitals' words: hidden characters by name, lines kept."""
    typer.echo(visible(text, keep=NEW_LINE))


def _quorum(study: Any, number: int | None) -> dict[str, Any]:
    return {"min_train_nodes": number} if number is not None and hasattr(study, "training") else {}


def _show(result: Any, save: Path | None) -> None:
    _echo(repr(result))
    if save is not None and hasattr(result, "save"):
        typer.echo(f"Saved to {result.save(save)}.")


def _fault(error: Exception) -> str:
    return (
        f"This command failed inside ({type(error).__name__}), a fault of the software. With {TRACEBACK}=1 before the "
        "command it shows where; please report that."
    )


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except DatasiteError as error:
        typer.echo(f"Error: {visible(str(error), keep=NEW_LINE)}", err=True)
        sys.exit(1)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        where = f"{str(error.filename)[:200]}: {error.strerror}" if isinstance(error, OSError) else ""
        typer.echo(f"Error: {visible(where or _fault(error), keep=NEW_LINE)}", err=True)
        sys.exit(1)
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:
            typer.echo("Interrupted. `researcher resume` goes on with a study; nothing is paid for twice.", err=True)
        raise


def main() -> None:
    """Run the command line; our own errors are one line, without a traceback."""
    warnings.formatwarning = lambda message, *_, **__: f"Warning: {visible(str(message))}\n"
    with _errors():
        app()


if __name__ == "__main__":
    main()
