"""How fast the ledger admits at 10, 1,000 and 100,000 entries.

Measured is what a researcher waits for before a run can begin (`admit_run` and `start_run`, each durable on disk) and
what an owner waits for (`approve`), with the disk's syncs and without; then how long `verify` takes over all of it.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from datasites.ledger.ledger import Ledger
from datasites.ledger.records import CodeRequestRecord, DatasetRecord
from datasites.ledger.store import utc_now
from policies.privacy.accountant import Charge
from policies.privacy.budget import PrivacyBudget
from tests.policies.plan_factories import plan_of
from tests.policies.plan_factories import statistics as declared

SIZES = (10, 1_000, 100_000)
CHARGE = Charge(divergence_nano=1_000, pure_epsilon_nano=None)
PLAN = plan_of(declared())
TIMES = 60


def request(ledger: Ledger, name: str) -> str:
    """A request that waits for approval."""
    ledger.requests.submit(CodeRequestRecord(name, "f", "rita@uni.example", "flu", "v1", "city", "def f(): ..."))
    return ledger.requests.check(name, PLAN).id


def approve(ledger: Ledger, name: str) -> None:
    """Approve it for as many rounds as there may be."""
    until = utc_now() + timedelta(days=9)
    ledger.approve(name, actor="owner", plan_digest=PLAN.digest, charge=CHARGE, rounds=1000, expires_at=until)


def fill(ledger: Ledger, size: int) -> None:
    """Settled rounds until there are `size` entries; without syncing each, since only their number matters."""
    db = ledger.store._connection()
    db.execute("PRAGMA synchronous = OFF")
    while (seq := ledger.entries.head().seq) < size - 10:
        name = request(ledger, f"filler-{seq}")
        approve(ledger, name)
        for round in range(1, 1001):
            if ledger.entries.head().seq >= size:
                break
            run = ledger.runs.start(ledger.runs.admit(name, round, "w", CHARGE).id)
            ledger.runs.settle(run.id, b"release", "digest", "{}")
    db.execute("PRAGMA synchronous = FULL")


def prepared(directory: Path, size: int) -> Ledger:
    """A ledger of `size` entries, with an approved request `rounds-on` and `rounds-off` and others that wait."""
    ledger = Ledger.create(directory / f"{size}.db")
    ledger.budgets.create_population("city", PrivacyBudget(100.0, 1e-5), 16)
    ledger.datasets.publish(DatasetRecord("flu", "v1", "city", "{}", 1000, "declared"), actor="owner")
    fill(ledger, size)
    for disk in ("on", "off"):
        approve(ledger, request(ledger, f"rounds-{disk}"))
        for number in range(TIMES):
            request(ledger, f"waiting-{disk}-{number}")
    return ledger


def milliseconds(ledgers: list[Ledger], step: Callable[[Ledger, int], object], times: int = TIMES) -> list[float]:
    """Median time of a step on each ledger; they take turns, so that a busy moment of the disk meets all of them."""
    taken: list[list[float]] = [[] for _ in ledgers]
    for number in range(times):
        for ledger, each in zip(ledgers, taken, strict=True):
            began = time.perf_counter()
            step(ledger, number)
            each.append((time.perf_counter() - began) * 1000)
    return [statistics.median(each) for each in taken]


def measure(ledgers: list[Ledger]) -> dict[str, list[float]]:
    """Milliseconds of each step on each ledger."""
    found = {}
    for disk, sync in (("on", "FULL"), ("off", "OFF")):
        for ledger in ledgers:
            ledger.store._connection().execute(f"PRAGMA synchronous = {sync}")

        def approval(ledger: Ledger, number: int, disk: str = disk) -> None:
            approve(ledger, f"waiting-{disk}-{number}")

        def run(ledger: Ledger, number: int, disk: str = disk) -> None:
            ledger.runs.start(ledger.runs.admit(f"rounds-{disk}", number + 1, "w", CHARGE).id)

        where = "" if disk == "on" else ", unsynced"
        found[f"approve{where}"] = milliseconds(ledgers, approval)
        found[f"admit and start{where}"] = milliseconds(ledgers, run)
    found["balance"] = milliseconds(ledgers, lambda ledger, _: ledger.budgets.balance("city"))
    found["verify"] = milliseconds(ledgers, lambda ledger, _: ledger.verify(), times=1)
    return found


def results(sizes: tuple[int, ...] = SIZES) -> dict[str, list[float]]:
    """Milliseconds of each step at each number of entries."""
    with tempfile.TemporaryDirectory() as directory:
        ledgers = [prepared(Path(directory), size) for size in sizes]
        os.sync()
        found = measure(ledgers)
        for ledger in ledgers:
            ledger.close()
    return found
