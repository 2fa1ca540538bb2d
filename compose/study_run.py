"""The researcher's half of the demonstration, over whatever network a file names.

    python -m compose.study_run [--network network.toml] [--directory flu-2026] [--seed 2027] [--patience 300]
        [--secure-aggregation]

Connect, check, submit, wait for the owners, train, evaluate, ask for statistics, write the report: all of it through
the `researcher` package. It may be interrupted at any place and run again with the same directory: requests are
submitted once, closed rounds stay closed and nothing is paid twice. Only `compose.baseline` makes the patients
again, from their seed, to say what is true of the models that came out. `NETWORK` may name the network's file.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import researcher
from compose import analyses, baseline, outcome, study
from compose.demonstration import Demonstration
from compose.report import write_report
from compose.tables import SEED
from policies.errors import DatasiteError, Unavailable, WrongStatus
from policies.numbers import outward, places_for, to_places, with_error
from researcher.code_requests import APPROVED, UNDECIDED
from researcher.cohort import Cohort
from researcher.network import Network
from researcher.regression import RegressionStudy
from researcher.survival import SurvivalStudy

if TYPE_CHECKING:
    from researcher.results import Result

Asking = researcher.Study | researcher.StatisticsStudy | SurvivalStudy | RegressionStudy
Say = Callable[[str], None]
Answer = TypeVar("Answer")
INTERRUPTED = 130
PATIENCE = 300.0
PAUSE = 2.0


@dataclass(frozen=True)
class Studies:
    """The studies of a demonstration: one joint, one per hospital alone, the statistics, and analyses where asked."""

    joint: researcher.Study
    local: dict[str, researcher.Study]
    statistics: researcher.StatisticsStudy
    survival: SurvivalStudy | None = None
    regression: RegressionStudy | None = None

    def __iter__(self) -> Any:
        analyses = (each for each in (self.survival, self.regression) if each is not None)
        return iter((self.joint, *self.local.values(), self.statistics, *analyses))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; exit code 0 where every step worked, 130 where it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m compose.study_run", description="A researcher's whole study.")
    network = Path(os.environ.get("NETWORK") or "network.toml")
    parser.add_argument("--network", type=Path, default=network, help="where the hospitals are")
    parser.add_argument("--directory", type=Path, default=Path("flu-2026"), help="the study's state and report")
    parser.add_argument("--seed", type=int, default=SEED, help="of the synthetic patients, to judge the models by")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE, help="seconds that a hospital may be away, or publish nothing yet"
    )
    parser.add_argument(
        "--secure-aggregation", action="store_true", help="read nothing of the joint model's hospitals but their mean"
    )
    chosen = parser.parse_args(arguments)
    console = Console(highlight=False)
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"
    torch.set_num_threads(1)
    try:
        from compose.synthetic import influenza

        chosen.directory.mkdir(parents=True, exist_ok=True)
        shown = replace(influenza(Path(), seed=chosen.seed), secure_aggregation=chosen.secure_aggregation)
        run(shown, chosen.network, chosen.directory, console, patience=chosen.patience)
    except DatasiteError as error:
        console.print(f"[red]The study stopped.[/red] {error}", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted. The same command goes on with the study; nothing is paid for twice.")
        return INTERRUPTED
    return 0


def run(
    shown: Demonstration, network: Path, directory: Path, console: Console, *, patience: float = PATIENCE
) -> dict[str, Any]:
    """All of the study over the hospitals that `network` names, to `report.json` and `report.html`; the report."""
    started = time.monotonic()
    say = steps(console, started)
    names = [each.name for each in shown.sites]
    pooled = prepare(shown)
    found = persist(lambda: researcher.connect(network), say, patience=patience)
    cohort = persist(lambda: published(found, shown.dataset, names), say, patience=patience)
    console.print(str(cohort.table()))
    studies = make_studies(shown, cohort, directory / "studies")
    say("The researcher checks and submits")
    submit(studies, console)
    waiting(studies, say)
    for each in studies:
        each.wait_for_approval()
        approved(each)
    return conclude(shown, cohort, studies, pooled, directory, console, started=started, patience=patience)


def prepare(shown: Demonstration) -> nn.Module:
    """Train without privacy on all files in one place, and import and warm up what a study takes seconds to import."""
    import dp_accounting  # noqa: F401

    import researcher.client
    import researcher.federated  # noqa: F401
    from policies.graph.exporter import export_model

    export_model(shown.model(), shown.common.inputs.shape[1:])
    return baseline.train_without_privacy(shown.model, shown.pooled, seed=1)


def conclude(
    shown: Demonstration,
    cohort: Cohort,
    studies: Studies,
    pooled: nn.Module,
    directory: Path,
    console: Console,
    *,
    started: float,
    patience: float = PATIENCE,
) -> dict[str, Any]:
    """Run what was approved, write the report and show it; the report.

    Args:
      pooled: the model that `prepare` trained without privacy.
    """
    say = steps(console, started)
    found = collect(shown, studies, pooled, say, patience=patience)
    report = outcome.report_of(shown, cohort, found, directory, seconds=time.monotonic() - started)
    written = write_report(report, directory)
    show(report, console)
    console.print(f"Wrote {written[0]} and {written[1]}.", soft_wrap=True)
    return report


def published(network: Network, dataset: str, names: Sequence[str]) -> Cohort:
    """The dataset at every hospital named. Raises `Unavailable` while one does not answer or publishes nothing yet."""
    network.refresh()
    offers = {
        name
        for name, about in network.descriptions.items()
        if any(each["name"] == dataset for each in about.get("datasets", []))
    }
    if lacking := [name for name in names if name not in offers]:
        raise Unavailable(f"{', '.join(lacking)}: no answer, or {dataset!r} is not published yet.")
    return network.dataset(dataset, datasites=list(names))


def make_studies(shown: Demonstration, cohort: Cohort, root: Path) -> Studies:
    """What the researcher asks: the joint study, the same at each hospital alone, and statistics."""

    def training(name: str, members: Cohort, purpose: str, *, secure: bool = False) -> researcher.Study:
        evaluation = researcher.Evaluation(epsilon=shown.evaluation_epsilon, bins=shown.bins, secure_aggregation=secure)
        suggested = researcher.Training.suggest(members, epsilon=shown.epsilon, delta=study.DELTA, rounds=study.ROUNDS)
        return researcher.Study(
            name, members, shown.model, suggested,
            evaluation=evaluation, purpose=purpose, state=root / name, progress=False, secure_aggregation=secure,
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
    return Studies(
        training(shown.name, cohort, shown.purpose, secure=shown.secure_aggregation),
        local,
        statistics,
        analyses.survival_study(shown, cohort, root),
        analyses.regression_study(shown, cohort, root),
    )


def submit(studies: Studies, console: Console) -> None:
    """Check and submit what was not submitted yet; what was is spent from the budget and no longer fits a check."""
    if not asked(studies.joint):
        console.print(str(studies.joint.check()))
    beside([each.submit for each in studies if not asked(each)])


def asked(each: Asking) -> bool:
    """Whether every hospital of a study has all of its requests."""
    codes = [each.requests.codes(request.role) for request in each.requests.requests]
    return all(set(each.cohort.members) <= set(code) for code in codes)


def waiting(studies: Studies, say: Say) -> None:
    """Say, once, which requests wait for whom and what their owners do about it."""
    undecided: dict[str, list[str]] = {}
    for each in studies:
        for role, by_hospital in each.requests.statuses().items():
            codes = each.requests.codes(role)
            for hospital, status in by_hospital.items():
                if status["status"] in UNDECIDED:
                    undecided.setdefault(hospital, []).append(codes[hospital][:8])
    for hospital, codes in undecided.items():
        say(f"Waiting for the owner of {hospital}: datasite show ID, then datasite approve ID, of {', '.join(codes)}")


def approved(each: Asking) -> None:
    """Pass where every hospital approved. Raises `WrongStatus` with the owners' comments, since a report needs all."""
    against = [
        f"{hospital}: {status['status']} {status.get('comment') or ''}".rstrip()
        for by_hospital in each.requests.statuses().values()
        for hospital, status in by_hospital.items()
        if status["status"] not in (*APPROVED, "not reached")
    ]
    if against:
        raise WrongStatus(f"{each.name} was not approved everywhere. {'; '.join(against)}.")


def collect(
    shown: Demonstration, studies: Studies, pooled: nn.Module, say: Say, *, patience: float = PATIENCE
) -> outcome.Found:
    """Run every approved study: the joint one, then statistics and analyses, then each hospital's own beside others'.

    Args:
      pooled: the model that `prepare` trained without privacy.
    """

    def whole(act: Callable[[], Any]) -> Any:
        return persist(lambda: complete(act()), say, patience=patience)

    say(f"Training {shown.model.__name__} together, {studies.joint.training.rounds} rounds")
    joint = persist(studies.joint.run, say, patience=patience)
    say("Scoring it on the hospitals' held-out patients")
    whole(joint.evaluate)
    say("Asking for statistics" + (", survival and a regression" if studies.survival else ""))
    statistics = whole(studies.statistics.run)
    survival, regression = (
        None if asks is None else whole(asks.run) for asks in (studies.survival, studies.regression)
    )
    say("Training and scoring each hospital's own model beside the others', for comparison")

    def alone(study: researcher.Study) -> Result:
        result: Result = persist(study.run, say, patience=patience)
        whole(result.evaluate)
        return result

    local = beside([functools.partial(alone, each) for each in studies.local.values()])
    return outcome.Found(joint, dict(zip(studies.local, local, strict=True)), statistics, pooled, survival, regression)


def beside(acts: Sequence[Callable[[], Answer]]) -> list[Answer]:
    """Do all at once, and wait for all; the answers in order. Raises the first failure."""
    with ThreadPoolExecutor(max_workers=max(1, len(acts))) as pool:
        return [future.result() for future in [pool.submit(act) for act in acts]]


def complete(answer: Any) -> Any:
    """An answer from every hospital. Raises `Unavailable` where one is missing: asking again costs nothing."""
    if answer.missing:
        raise Unavailable("; ".join(f"{name}: {reason}" for name, reason in answer.missing.items()))
    return answer


def persist(act: Callable[[], Any], say: Say, *, patience: float, pause: float = PAUSE) -> Any:
    """What `act` gives, tried again while hospitals are away, for `patience` seconds; says so once."""
    started, told = time.monotonic(), False
    while True:
        try:
            return act()
        except Unavailable as error:
            if time.monotonic() - started > patience:
                raise
            if not told:
                say(f"Waiting, {patience:.0f} s at most. {error}")
                told = True
            time.sleep(pause)


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
            each.get("auc_released_note") or with_error(each["auc_released"], each["auc_released_error"]),
        )
        table.add_row(each["title"], *cells)
    console.print(table)
    for each in report["hospitals"]:
        asked_for = each["statistic"]
        places = places_for(asked_for["error"])
        text = f"{to_places(asked_for['value'], places)} {asked_for['unit']}"
        interval = "(95 % from {} to {})".format(*outward(asked_for["low"], asked_for["high"], places))
        console.print(f"{each['title']}: {asked_for['what']} {text} {interval}", soft_wrap=True)
    for each in report.get("read_alone", []):
        console.print(
            f"Under masks: what {each['hospital']} sent in the last round, read by itself, is a model of AUC"
            f" {each['auc_alone']:.3f}; the mean of all is one of {report['auc']['joint_private']:.3f}. Its scores by"
            f" themselves are of {each['patients_alone']:,} held-out patients, and their sum of"
            f" {each['patients_in_sum']:,}.",
            soft_wrap=True,
        )
    auc = report["auc"]
    console.print(
        f"AUC on the common test population: joint private {auc['joint_private']:.3f}, pooled not private "
        f"{auc['pooled_not_private']:.3f}, local private {auc['local_private_mean']:.3f} (mean). "
        f"{len(report['certificates'])} certificates, all verified. {report['seconds']:.0f} s.",
        soft_wrap=True,
    )


def steps(console: Console, started: float) -> Say:
    """Says each step with the seconds since `started`."""

    def say(step: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:5.0f} s[/dim]  {step}", soft_wrap=True)

    return say


if __name__ == "__main__":
    sys.exit(main())
