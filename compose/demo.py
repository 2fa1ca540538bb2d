"""`make demo`: three hospitals train one model together, on real datasites, from nothing to a report.

    python -m compose.demo [--real] [--secure-aggregation] [--keep] [--directory build/demo] [--seed 2027]

Each hospital is a process of its own on loopback. Its owner publishes a table and approves requests with the `datasite`
command; the researcher's half is `compose.study_run`, which uses the `researcher` package and sees nothing else. Only
`compose.baseline` looks at the synthetic patients themselves, to say what is true of the models that came out.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

import researcher
from compose import study
from compose.demonstration import Demonstration
from compose.processes import (
    Datasite,
    DemonstrationFailed,
    add_researcher,
    everywhere,
    make_datasite,
    write_network,
)
from compose.serve import consoles
from compose.study_run import conclude, make_studies, prepare, steps, submit
from compose.tables import SEED
from policies.errors import DatasiteError

MARK = ".demonstration"  # a directory with this file in it is ours to clear
DECISION_SECONDS = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; exit code 0 where every step worked."""
    parser = argparse.ArgumentParser(prog="python -m compose.demo", description="Three hospitals train one model.")
    parser.add_argument("--real", action="store_true", help="scikit-learn's breast cancer table instead of influenza")
    parser.add_argument("--keep", action="store_true", help="leave the datasites running")
    parser.add_argument("--directory", type=Path, help="where everything goes; build/demo, or build/demo-real")
    parser.add_argument("--seed", type=int, default=SEED, help="of the synthetic patients")
    parser.add_argument(
        "--secure-aggregation",
        action="store_true",
        help="read nothing of the joint model's hospitals but the mean of weights and the sum of scores",
    )
    chosen = parser.parse_args(arguments)
    directory = chosen.directory or Path("build/demo-real" if chosen.real else "build/demo")
    console = Console(highlight=False)
    torch.set_num_threads(1)  # two cores are shared with three hospitals
    try:
        _clear(directory)
        if chosen.real:
            from compose.real import real_patients

            shown = real_patients(directory / "data")
        else:
            from compose.synthetic import synthetic_patients

            shown = synthetic_patients(directory / "data", seed=chosen.seed)
        shown = replace(shown, secure_aggregation=chosen.secure_aggregation)
        run(shown, directory, console, keep=chosen.keep)
    except (DemonstrationFailed, DatasiteError) as error:
        console.print(f"[red]The demonstration failed.[/red] {error}", soft_wrap=True)
        return 1
    return 0


def run(shown: Demonstration, directory: Path, console: Console, *, keep: bool = False) -> dict[str, Any]:
    """Start the datasites, do all of it, write `report.json` and `report.html`, end the datasites; the report."""
    started = time.monotonic()
    say = steps(console, started)
    datasites: list[Datasite] = []
    try:
        say(f"Making {len(shown.sites)} datasites, one process each; beside them, training without privacy")
        datasites, pooled = start_datasites(shown, directory / "hospitals")
        say("Owners publish their tables")
        everywhere(datasites, lambda datasite: publish(datasite, shown))
        network = researcher.connect(write_network(datasites, directory / "hospitals"))
        cohort = network.dataset(shown.dataset, datasites=[site.name for site in shown.sites])
        console.print(str(cohort.table()))

        studies = make_studies(shown, cohort, directory / "studies")
        say("The researcher checks and submits; the owners read and approve")
        submit(studies, console)
        approved = sum(everywhere(datasites, lambda datasite: datasite.approve_all()))
        say(f"{approved} requests approved")
        for submitted in studies:
            submitted.wait_for_approval(timeout=DECISION_SECONDS)
        report = conclude(shown, cohort, studies, pooled, directory, console, started=started)
        if keep:
            kept = ", ".join(
                f"{datasite.title} {datasite.url} (process {datasite.process.pid})"
                for datasite in datasites
                if datasite.process
            )
            console.print(f"Still running: {kept}. Open a console:\n{consoles(datasites)}", soft_wrap=True)
        else:
            console.print("Open the hospitals' consoles with make demo-serve:", soft_wrap=True)
            console.print(consoles(datasites), soft_wrap=True)
        return report
    finally:
        if not keep:
            for datasite in datasites:
                datasite.stop()


def start_datasites(shown: Demonstration, root: Path) -> tuple[list[Datasite], nn.Module]:
    """Every hospital's datasite, made and serving, and what `prepare` gives; where one fails, the others are ended."""
    root.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=len(shown.sites)) as pool:
        datasites = list(pool.map(lambda site: make_datasite(site.name, site.title, root), shown.sites))
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:
            prepared = pool.submit(prepare, shown)
            everywhere(datasites, lambda datasite: _open(datasite, root))
            return datasites, prepared.result()
    except BaseException:
        for datasite in datasites:
            datasite.stop()
        raise


def _open(datasite: Datasite, root: Path) -> None:
    datasite.start()
    add_researcher(datasite, root)


def publish(datasite: Datasite, shown: Demonstration) -> None:
    """The owner publishes the table: a DP count of patients as its size, and the population's budget."""
    site = next(site for site in shown.sites if site.name == datasite.name)
    datasite.owner(
        "publish", str(site.table), "--schema", str(site.schema), "--count-epsilon", str(study.COUNT_EPSILON),
        "--budget-epsilon", str(study.POPULATION_EPSILON), "--budget-delta", str(study.DELTA),
    )  # fmt: skip


def _clear(directory: Path) -> None:
    """Make `directory` new. Raises `DemonstrationFailed` rather than remove what a demonstration did not write."""
    if directory.exists() and any(directory.iterdir()):
        if not (directory / MARK).exists():
            raise DemonstrationFailed(f"{directory} holds other files. Name another with --directory.")
        shutil.rmtree(directory)
    (directory / "data").mkdir(parents=True)
    (directory / MARK).touch()


if __name__ == "__main__":
    sys.exit(main())
