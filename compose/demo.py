"""`make demo`: three hospitals train one model together, on real datasites, from nothing to a report.

    python -m compose.demo [--real] [--keep] [--directory build/demo] [--seed 2027]

Each hospital is a process of its own on loopback. Its owner publishes a table and approves requests with the `datasite`
command; the researcher uses the `researcher` package and sees nothing else. Only `compose.baseline` looks at the
synthetic files themselves, to say what is true of the models that came out.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import researcher
from compose import baseline, outcome, study
from compose.demonstration import Demonstration, Site
from compose.processes import (
    Datasite,
    DemonstrationFailed,
    add_researcher,
    everywhere,
    make_datasite,
    write_network,
)
from compose.serve import consoles
from policies.errors import DatasiteError
from researcher.cohort import Cohort
from researcher.report import write_report

MARK = ".demonstration"  # a directory with this file in it is ours to clear
DECISION_SECONDS = 60.0


@dataclass(frozen=True)
class Studies:
    """The studies of a demonstration: one joint, one per hospital alone, and the statistics."""

    joint: researcher.Study
    local: dict[str, researcher.Study]
    statistics: researcher.StatisticsStudy

    def __iter__(self) -> Any:
        return iter((self.joint, *self.local.values(), self.statistics))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; exit code 0 where every step worked."""
    parser = argparse.ArgumentParser(prog="python -m compose.demo", description="Three hospitals train one model.")
    parser.add_argument("--real", action="store_true", help="scikit-learn's breast cancer table instead of influenza")
    parser.add_argument("--keep", action="store_true", help="leave the datasites running")
    parser.add_argument("--directory", type=Path, help="where everything goes; build/demo, or build/demo-real")
    parser.add_argument("--seed", type=int, default=2027, help="of the synthetic patients")
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
        run(shown, directory, console, keep=chosen.keep)
    except (DemonstrationFailed, DatasiteError) as error:
        console.print(f"[red]The demonstration failed.[/red] {error}", soft_wrap=True)
        return 1
    return 0


def run(shown: Demonstration, directory: Path, console: Console, *, keep: bool = False) -> dict[str, Any]:
    """Start the datasites, do all of it, write `report.json` and `report.html`, end the datasites; the report."""
    started = time.monotonic()
    say = _steps(console, started)
    datasites: list[Datasite] = []
    try:
        say(f"Making {len(shown.sites)} datasites, one process each")
        datasites = start_datasites(shown.sites, directory / "hospitals")
        say("Owners publish their tables")
        everywhere(datasites, lambda each: publish(each, shown))
        network = researcher.connect(write_network(datasites, directory / "hospitals"))
        cohort = network.dataset(shown.dataset, datasites=[each.name for each in shown.sites])
        console.print(str(cohort.table()))

        studies = make_studies(shown, cohort, directory / "studies")
        say("The researcher checks and submits; the owners read and approve")
        console.print(str(studies.joint.check()))
        for each in studies:
            each.submit()
        approved = sum(everywhere(datasites, lambda each: each.approve_all()))
        say(f"{approved} requests approved")
        found = collect(shown, studies, say)
        report = outcome.report_of(shown, cohort, datasites, found, directory, seconds=time.monotonic() - started)
        written = write_report(report, directory)
        show(report, console)
        console.print(f"Wrote {written[0]} and {written[1]}.")
        if keep:
            kept = ", ".join(
                f"{each.title} {each.url} (process {each.process.pid})" for each in datasites if each.process
            )
            console.print(f"Still running: {kept}. Open a console:\n{consoles(datasites)}", soft_wrap=True)
        else:
            console.print("Open the hospitals' consoles with make demo-serve:", soft_wrap=True)
            console.print(consoles(datasites), soft_wrap=True)
        return report
    finally:
        if not keep:
            for each in datasites:
                each.stop()


def start_datasites(sites: Sequence[Site], root: Path) -> list[Datasite]:
    """Every hospital's datasite, made and serving; where one fails, the others are ended."""
    root.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=len(sites)) as pool:
        datasites = list(pool.map(lambda each: make_datasite(each.name, each.title, root), sites))
    try:
        everywhere(datasites, lambda each: each.start())
        everywhere(datasites, lambda each: add_researcher(each, root))
    except BaseException:
        for each in datasites:
            each.stop()
        raise
    return datasites


def publish(datasite: Datasite, shown: Demonstration) -> None:
    """The owner publishes the table: a DP count of patients as its size, and the population's budget."""
    site = next(each for each in shown.sites if each.name == datasite.name)
    datasite.owner(
        "publish", str(site.table), "--schema", str(site.schema), "--count-epsilon", str(study.COUNT_EPSILON),
        "--budget-epsilon", str(study.POPULATION_EPSILON), "--budget-delta", str(study.DELTA),
    )  # fmt: skip


def make_studies(shown: Demonstration, cohort: Cohort, root: Path) -> Studies:
    """What the researcher asks: the joint study, the same at each hospital alone, and statistics."""
    evaluation = researcher.Evaluation(epsilon=shown.evaluation_epsilon, bins=shown.bins)

    def training(name: str, members: Cohort, purpose: str) -> researcher.Study:
        return researcher.Study(
            name, members, shown.model, shown.training,
            evaluation=evaluation, purpose=purpose, state=root / name, progress=False,
        )  # fmt: skip

    statistics = researcher.StatisticsStudy(
        cohort,
        cohort.statistics(
            epsilon=shown.statistics_epsilon,
            count=True,
            mean=shown.statistic[0],
            histogram=shown.histogram,
            bins=study.STATISTICS_BINS,
        ).mechanism,
        name=f"{shown.name}-statistics",
        purpose="To describe the patients of each hospital.",
        state=root / f"{shown.name}-statistics",
        progress=False,
    )
    local = {
        name: training(f"{shown.name}-{name}-alone", cohort.only(name), f"Baseline: {name} alone. {shown.purpose}")
        for name in cohort.members
    }
    return Studies(training(shown.name, cohort, shown.purpose), local, statistics)


def collect(shown: Demonstration, studies: Studies, say: Any) -> outcome.Found:
    """Run every approved study, and train without privacy beside them."""
    for each in studies:
        each.wait_for_approval(timeout=DECISION_SECONDS)
    say(f"Training {shown.model.__name__} together, {shown.training.rounds} rounds")
    joint = studies.joint.run()
    say("Scoring it on the hospitals' held-out patients")
    joint.evaluate()
    say("Training each hospital's own model, for comparison")
    local = {name: each.run() for name, each in studies.local.items()}
    for each in local.values():
        each.evaluate()
    say("Asking for statistics")
    statistics = studies.statistics.run()
    say("Training without privacy on all files in one place, outside every datasite")
    pooled = baseline.train_without_privacy(shown.model, shown.pooled, seed=1)
    return outcome.Found(joint, local, statistics, pooled)


def show(report: dict[str, Any], console: Console) -> None:
    """The table that the demonstration ends with."""
    table = Table(title=report["title"], title_justify="left", padding=(0, 0), collapse_padding=True)
    for name in ("hospital", "patients", "ε spent", "ε left", "AUC local", "joint", "as released"):
        table.add_column(name, justify="left" if name == "hospital" else "right", overflow="fold")
    for each in report["hospitals"]:
        cells = (
            f"{each['patients_published']:,}",
            f"{each['epsilon_spent']:.2f}",
            f"{each['epsilon_budget'] - each['epsilon_spent']:.2f}",
            f"{each['auc_local_private']:.3f}",
            f"{each['auc_joint_private']:.3f}",
            f"{each['auc_released']:.3f} ± {each['auc_released_error']:.3f}",
        )
        table.add_row(each["title"], *cells)
    console.print(table)
    for each in report["hospitals"]:
        asked = each["statistic"]
        text = f"{asked['value']:.2f} {asked['unit']} (95 % from {asked['low']:.2f} to {asked['high']:.2f})"
        console.print(f"{each['title']}: {asked['what']} {text}", soft_wrap=True)
    auc = report["auc"]
    console.print(
        f"AUC on the common test population: joint private {auc['joint_private']:.3f}, pooled not private "
        f"{auc['pooled_not_private']:.3f}, local private {auc['local_private_mean']:.3f} (mean). "
        f"{len(report['certificates'])} certificates, all verified. {report['seconds']:.0f} s.",
        soft_wrap=True,
    )


def _steps(console: Console, started: float) -> Any:
    def say(step: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.0f} s[/dim]  {step}", soft_wrap=True)

    return say


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
