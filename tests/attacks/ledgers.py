"""What somebody with the ledger's file, or with its methods, does to it; each answers whether it went unnoticed."""

from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

from datasites.ledger.chain import hash_of, head_of
from datasites.ledger.ledger import Ledger
from datasites.ledger.years import YearlyPlan
from policies.errors import DatasiteError
from policies.privacy.accountant import Charge
from tests.datasites.ledger.ledger_factories import (
    GAUSSIAN,
    PLAN,
    START,
    Clock,
    approve,
    approved,
    checked,
    dataset,
    new_ledger,
    released,
)


def prepared(path: Path) -> Path:
    """A ledger with a release, an approved request and one that waits."""
    with new_ledger(path) as ledger:
        released(ledger, approved(ledger, rounds=3), 1)
        checked(ledger)
    return path


def _unnoticed(path: Path, heads: tuple[tuple[int, str], ...] = ()) -> bool:
    try:
        with Ledger.open(path) as ledger:
            ledger.verify(heads=heads)
    except DatasiteError:
        return False
    return True


def edited(path: Path, *statements: str) -> bool:
    """Statements on the file as it is."""
    with sqlite3.connect(path, isolation_level=None) as db:
        try:
            for each in statements:
                db.execute(each)
        except sqlite3.IntegrityError:
            return False
        finally:
            db.rollback()
    db.close()
    return _unnoticed(path)


def _aside(path: Path, *statements: str, anew: bool) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    db.row_factory = sqlite3.Row
    triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        db.execute(f"DROP TRIGGER {name}")
    changed = sum(db.execute(each).rowcount for each in statements)
    if anew:
        rows = [dict(row) for row in db.execute("SELECT * FROM entries ORDER BY seq")]
        db.execute("DELETE FROM entries")
        for row in rows:
            row["prev"] = head_of(db, "entries")[1]
            row["hash"] = hash_of(row)
            db.execute(f"INSERT INTO entries VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
    for _, sql in triggers:
        db.execute(sql)
    db.close()
    assert changed, "the attack changed nothing"


def forged(path: Path, *statements: str) -> bool:
    """Statements with the triggers put aside meanwhile."""
    _aside(path, *statements, anew=False)
    return _unnoticed(path)


def rechained(path: Path, *statements: str) -> bool:
    """The same, and every hash of the chain computed anew."""
    _aside(path, *statements, anew=True)
    return _unnoticed(path)


def put_back(path: Path) -> bool:
    """An older copy in the file's place, where somebody holds a certificate that is younger."""
    old = path.with_name("old.db")
    with Ledger.open(path, clock=lambda: START) as ledger:
        ledger.backup(old)
        released(ledger, approved(ledger, rounds=1), 1)
        head = ledger.entries.head()
    for each in path.parent.glob(f"{path.name}-*"):
        each.unlink()
    shutil.copy(old, path)
    return _unnoticed(path, ((head.seq, head.hash),))


def approves(path: Path, *, divergence: float = 10**8, rounds: int = 1, plan: str = PLAN.digest) -> bool:
    """An approval of such a charge on the request that waits."""
    with Ledger.open(path, clock=lambda: START) as ledger:
        (waiting,) = ledger.requests.list(status="checked")
        try:
            charge = Charge(divergence_nano=divergence, pure_epsilon_nano=None)  # type: ignore[arg-type]
            ledger.approve(
                waiting.id,
                actor="owner",
                plan_digest=plan,
                charge=charge,
                rounds=rounds,
                expires_at=START + timedelta(days=9),
            )
        except DatasiteError:
            return False
    return True


def runs_again(path: Path) -> bool:
    """A second run, for other weights, of a round that was released."""
    with Ledger.open(path, clock=lambda: START) as ledger:
        (request,) = ledger.requests.list(status="approved")
        try:
            ledger.runs.admit(request.id, 1, "other weights", GAUSSIAN)
        except DatasiteError:
            return False
    return True


def splits_anew(path: Path) -> bool:
    """A table that holds half of the patients out, in a population whose first table held nobody out."""
    with Ledger.open(path, clock=lambda: START) as ledger:
        try:
            record = dataset("v2", name="other", schema_json='{"holdout":0.5}')
            ledger.datasets.publish(record, actor="owner")
        except DatasiteError:
            return False
    return True


def _reserved(ledger: Ledger) -> None:
    """Five of the six ε are reserved for a project that Rita, who asks in all these attacks, is not named for."""
    ledger.projects.make("Flu", "General", "2026-12-31")
    ledger.parts.keep("Flu", "city", 5.0, ("ada@uni.example",), actor="owner")


def _took(ledger: Ledger, request: str, nats: float, now: datetime = START, plan: YearlyPlan | None = None) -> bool:
    """Whether an approval of so much goes through."""
    charge = Charge(divergence_nano=int(nats * 10**9), pure_epsilon_nano=None)
    try:
        approve(ledger, request, charge, 1, plan=plan, expires_at=now + timedelta(days=9))
    except DatasiteError:
        return False
    return True


def names_a_project(path: Path) -> bool:
    """A stranger files a request under the name of a project that something is reserved for, and asks for it."""
    with Ledger.open(path, clock=lambda: START) as ledger:
        _reserved(ledger)
        request = checked(ledger)
        ledger.projects.file(request, "Flu")
        return _took(ledger, request, 1.0)


def splits_into_many(path: Path) -> bool:
    """Small requests instead of a large one, withdrawn and asked again, under the project and under none."""
    with Ledger.open(path, clock=lambda: START) as ledger:
        _reserved(ledger)
        kept = ledger.parts.list("city")[0].kept
        for number in range(60):
            request = checked(ledger)
            if number % 2:
                ledger.projects.file(request, "Flu")
            if _took(ledger, request, 0.02) and number % 3 == 0:
                ledger.transition(request, "withdrawn", actor="rita@uni.example")
        balance = ledger.budgets.balance("city")
        return (
            balance.epsilon_remaining_with_training < 0
            or ledger.parts.list("city")[0].kept != kept
            or (balance.used.divergence_nano > balance.capacity_nano - 5 * 10**9)
        )


def moves_between_projects(path: Path) -> bool:
    """One who is named for a project asks for another's part: by its name, and by moving a request after approval."""
    with Ledger.open(path, clock=lambda: START) as ledger:
        _reserved(ledger)
        ledger.projects.make("Sepsis", "General", "2026-12-31")
        ledger.parts.keep("Sepsis", "city", 0.05, ("rita@uni.example",), actor="owner")
        request = checked(ledger)
        ledger.projects.file(request, "Sepsis")
        ledger.projects.file(request, "Flu")
        if _took(ledger, request, 1.0):
            return True
        ledger.projects.file(request, "Sepsis")
        _took(ledger, request, 0.05)
        ledger.projects.file(request, "Flu")
        ledger.transition(request, "withdrawn", actor="rita@uni.example")
        left = {part.project_name: part.kept.epsilon_left for part in ledger.parts.list("city")}
        return left != {"Flu": 5.0, "Sepsis": 0.05}


def brings_a_part_back(path: Path) -> bool:
    """The last day of an ended project is moved after others were given what had been reserved for it."""
    clock = Clock()
    with Ledger.open(path, clock=clock) as ledger:
        _reserved(ledger)
        clock.turn(days=400)
        if not _took(ledger, checked(ledger), 4.0, clock.now):
            return True
        ledger.projects.change("Flu", parties="General", ends="2100-12-31")
        return ledger.budgets.balance("city").epsilon_remaining == 0.0


def sets_the_clock_back(path: Path) -> bool:
    """The clock goes back to the year before, whose part was not used up, and forth again."""
    clock, plan = Clock(), YearlyPlan(2.0)
    with Ledger.open(path, clock=clock) as ledger:
        clock.turn(days=400)
        request = checked(ledger)
        _took(ledger, request, 1.2, clock.now, plan)
        took = 0
        for days in (-400, -800, 400, 800):
            clock.turn(days=days)
            took += _took(ledger, checked(ledger), 1.2, START + timedelta(days=2000), plan)
        return took > 0


def spreads_over_requests(path: Path) -> bool:
    """Twenty requests within a year, none of which is above its part, and all of them together are."""
    plan = YearlyPlan(2.0)
    with Ledger.open(path, clock=lambda: START) as ledger:
        for _ in range(20):
            _took(ledger, checked(ledger), 0.2, plan=plan)
        balance = ledger.budgets.balance("city")
        return balance.used_nano() > 2 * 10**9


def crowds(path: Path) -> bool:
    """Sixteen approvals at once, of which a few fit: reached where more was reserved than the budget holds."""
    with Ledger.open(path, clock=lambda: START) as ledger:
        requests = [checked(ledger) for _ in range(16)]

        def one(request: str) -> None:
            try:
                approve(ledger, request, GAUSSIAN, rounds=10)
            except DatasiteError:
                return

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, requests))
        balance = ledger.budgets.balance("city")
        return balance.spent_nano + balance.reserved_nano > balance.capacity_nano
