"""How many payloads of the corpus reach what they try: on a stock PySyft server, and on ours; a Markdown table.

    python -m tests.attacks [CATEGORY ...]

And in a second table the other direction: what hostile hospitals reach on a researcher's machine, with a stock client
at the sign-in and with ours for a whole day.

Both are measured now: the stock server in a process of its own whose owner approves every request, ours as real
exporter, runner, ledger and served datasite. For ours a researcher's text is measured twice: as it is submitted, and
with inspection left out. Nothing leaves loopback. `-` stands where a system has no such part to attack.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from datasites.jobs.pool import KINDS, JobPool
from datasites.settings import job_socket
from tests.attacks.exporting import Exporting
from tests.attacks.guard.attacker import Refusal, Site
from tests.attacks.hospitals.driving import AT_SIGN_IN, measure, quick, stock_sign_in
from tests.attacks.hospitals.payloads import PAYLOADS
from tests.attacks.hospitals.payloads import TITLES as HOSPITALS
from tests.attacks.ledgers import prepared
from tests.attacks.payloads import TITLES, Payload, payloads
from tests.attacks.running import Running
from tests.attacks.stock import StockServer, attempt
from tests.attacks.witnesses import Canaries, Witnesses
from tests.factories import DatasiteProcess, make_datasite


@dataclass
class Score:
    """Of one category: how many payloads there are, how many each system was given, and how many reached something."""

    payloads: int = 0
    stock: list[bool] = field(default_factory=list)
    ours: list[bool] = field(default_factory=list)
    behind: list[bool] = field(default_factory=list)


class Bench:
    """Everything that is attacked, started on first use."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.witnesses = directory, Witnesses()
        self.of_stock = Witnesses()  # of its own: what a stock server began may go on after its answer
        self.canaries = Canaries(self.witnesses.tokens)
        self.jobs = directory / "jobs"
        sockets = {kind: job_socket(self.jobs, kind) for kind in KINDS}
        for path in sockets.values():
            path.parent.mkdir(parents=True)
        self.pool = JobPool(sockets)
        self.pool.start()
        self.exporting = Exporting(self.witnesses, self.canaries, self.jobs)
        self.running = Running(self.witnesses, self.jobs)
        self.stock = StockServer(directory)
        self.stock.start(self.of_stock.tokens)
        self._ours: DatasiteProcess | None = None

    def ours(self) -> Site:
        """A served datasite of ours."""
        if self._ours is None:
            made = self.directory / "made" / "datasite"
            made.parent.mkdir()
            make_datasite(made, jobs=self.jobs)
            self._ours = DatasiteProcess(made, self.directory / "served", jobs=self.jobs).start()
        return Site("ours", self._ours.url, self._ours.directory)

    def stop(self) -> None:
        if self._ours is not None:
            self._ours.stop()
        self.stock.stop()
        self.pool.stop()
        self.witnesses.close()
        self.of_stock.close()

    def measure(self, payload: Payload, score: Score) -> dict[str, Any]:
        """One payload on both; what each reached."""
        score.payloads += 1
        found: dict[str, Any] = {}
        if payload.is_text:
            found["stock"] = attempt(self.stock, payload, self.of_stock)
            accepted = not self.exporting.codes(payload)
            found["behind"], _ = self.exporting.bypass(payload)
            found["ours"] = found["behind"] if accepted else []
            score.behind.append(bool(found["behind"]))
        elif payload.category == "guard":
            found["stock"] = self._calls(payload, self.stock.site)
            found["ours"] = self._calls(payload, self.ours())
        elif payload.category == "ledger":
            with tempfile.TemporaryDirectory() as directory:
                found["ours"] = payload.function()(prepared(Path(directory) / "ledger.db"))
        else:
            if payload.stock_text({}) is not None:
                found["stock"] = attempt(self.stock, payload, self.of_stock)
            self.running.witnesses.seen("")
            reached = payload.function()(self.running)
            found["ours"] = reached or self.witnesses.seen(self.running.told)
        for name in ("stock", "ours"):
            if name in found:
                getattr(score, name).append(bool(found[name]))
        return found

    @staticmethod
    def _calls(payload: Payload, site: Site) -> bool:
        try:
            return bool(payload.function()(site))
        except Refusal:
            return False


def table(scores: dict[str, Score]) -> str:
    """Markdown, a row for each category, and the sum."""
    lines = [
        "| attacks by category | payloads | stock syft 0.9.5 | ours | ours, inspection taken out |",
        "| --- | --- | --- | --- | --- |",
    ]
    for category, score in scores.items():
        lines.append(f"| {TITLES[category]} | {score.payloads} | {_row(score)} |")
    total = Score()
    for score in scores.values():
        total.payloads += score.payloads
        for name in ("stock", "ours", "behind"):
            getattr(total, name).extend(getattr(score, name))
    return "\n".join([*lines, f"| **all** | **{total.payloads}** | {_row(total)} |"])


def _row(score: Score) -> str:
    def cell(results: list[bool]) -> str:
        if not results:
            return "-"
        return str(sum(results)) if len(results) == score.payloads else f"{sum(results)} of {len(results)}"

    return " | ".join(cell(each) for each in (score.stock, score.ours, score.behind))


def measure_all(chosen: list[Payload], say: Callable[[str], None], kept: Path | None = None) -> dict[str, Score]:
    """Scores by category; what each payload reached is written to `kept` as it is found."""
    scores: dict[str, Score] = {}
    details: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="attacks-") as directory:
        bench = Bench(Path(directory))
        try:
            for payload in chosen:
                say(payload.id)
                details[payload.id] = bench.measure(payload, scores.setdefault(payload.category, Score()))
                if kept is not None:
                    kept.write_text(json.dumps(details, indent=1))
        finally:
            bench.stop()
    return scores


def measure_hospitals(say: Callable[[str], None]) -> dict[str, Score]:
    """Scores of hostile hospitals by category; a stock client is given those that answer the sign-in with a class."""
    scores: dict[str, Score] = {}
    for payload in PAYLOADS.values():
        say(f"hospitals/{payload.id}")
        score = scores.setdefault(payload.category, Score())
        score.payloads += 1
        with tempfile.TemporaryDirectory(prefix="hospital-") as directory, quick():
            if payload.id in AT_SIGN_IN:
                score.stock.append(stock_sign_in(payload, Path(directory) / "stock-mark"))
            made = Path(directory) / "ours"
            made.mkdir()
            score.ours.append(bool(measure(payload, made)))
    return scores


def hospitals_table(scores: dict[str, Score]) -> str:
    """Markdown, a row for each category of hostile hospitals, and the sum."""
    lines = ["| hostile hospitals by category | payloads | stock syft 0.9.5 | ours |", "| --- | --- | --- | --- |"]
    total = Score()
    for category, score in scores.items():
        total.payloads += score.payloads
        total.stock += score.stock
        total.ours += score.ours
        lines.append(f"| {HOSPITALS[category]} | {score.payloads} | {_row(score).rpartition(' | ')[0]} |")
    return "\n".join([*lines, f"| **all** | **{total.payloads}** | {_row(total).rpartition(' | ')[0]} |"])


def main() -> None:
    """Measure, with progress, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("categories", nargs="*", choices=[*TITLES, []], metavar="CATEGORY", help=", ".join(TITLES))
    parser.add_argument("--details", type=Path, help="write what each payload reached, as JSON")
    arguments = parser.parse_args()
    chosen, begin = payloads(*arguments.categories), time.monotonic()
    screen = Console(stderr=True)
    columns = (TextColumn("{task.description:<50}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as progress:
        total = len(chosen) + (0 if arguments.categories else len(PAYLOADS))
        task = progress.add_task("starting a stock server, and ours", total=total)

        def say(name: str) -> None:
            progress.update(task, description=name, advance=1)

        scores = measure_all(chosen, say, arguments.details)
        hospitals = {} if arguments.categories else measure_hospitals(say)
    print(table(scores))
    if hospitals:
        print("\n" + hospitals_table(hospitals))
    screen.print(f"{total} payloads in {time.monotonic() - begin:.0f} seconds.")


if __name__ == "__main__":
    main()
