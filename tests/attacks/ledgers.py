"""What somebody with the ledger's file, or with its methods, does to it; each answers whether it went unnoticed."""

from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from datasites.ledger.chain import hash_of, head_of
from datasites.ledger.ledger import Ledger
from policies.errors import DatasiteError
from policies.privacy.accountant import Charge
from tests.datasites.ledger.ledger_factories import (
    GAUSSIAN,
    PLAN,
    START,
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
