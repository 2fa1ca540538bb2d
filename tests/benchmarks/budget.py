"""How many studies fit into one budget: a training, an evaluation and a few statistics, over and over.

Arithmetic, not time: the figures are the same on every machine. Whole studies are counted on a ledger of its own, which
admits until it refuses; parts of one by what it charges.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from datasites.ledger.ledger import Ledger
from datasites.ledger.records import CodeRequestRecord, DatasetRecord
from datasites.ledger.store import utc_now
from policies.errors import BudgetExceeded
from policies.privacy.accountant import Charge, charge_by_epsilon, charge_for, resolve
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import DPSGD, Evaluation, Patients, Query, Statistics
from tests.policies.plan_factories import plan_of
from tests.policies.plan_factories import statistics as any_statistics

BUDGET = PrivacyBudget(6.0, 1e-5)
TRAINING = resolve(
    DPSGD(
        loss="cross_entropy",
        rounds=10,
        steps=40,
        sampling_rate=0.05,
        clipping_norm=1.0,
        learning_rate=1.0,
        epsilon=2.0,
    )
)
EVALUATION = Evaluation(loss="cross_entropy", epsilon=0.5)
STATISTICS = Statistics(queries=(Query("count"), Query("mean", ("age",)), Query("histogram", ("age",))), epsilon=0.2)
STUDY = (TRAINING, EVALUATION, STATISTICS)
WAYS = ("as 0.1 charged", "draw by draw", "with two accounts")


def charges(way: str, order: int) -> list[tuple[Charge, int]]:
    """What each part of a study is charged, and its rounds."""
    found = []
    for mechanism in STUDY:
        old = way == WAYS[0] and isinstance(mechanism, Statistics)
        charge = charge_by_epsilon(mechanism, order) if old else charge_for(mechanism, order)  # type: ignore[arg-type]
        found.append((charge if way == WAYS[2] else replace(charge, reads=Patients.ALL), mechanism.rounds))
    return found


def studies_that_fit(way: str) -> tuple[int, float]:
    """How many whole studies a ledger admits, and how many would fit if there were parts of one."""
    plan = plan_of(any_statistics())
    with tempfile.TemporaryDirectory() as directory, Ledger.create(Path(directory) / "ledger.db") as ledger:
        ledger.budgets.create_population("city", BUDGET)
        ledger.datasets.publish(DatasetRecord("flu", "v1", "city", '{"holdout":0.2}', 1000, "declared"), actor="owner")
        empty = ledger.budgets.balance("city")
        study = [(empty.charged(charge, rounds), charge, rounds) for charge, rounds in charges(way, empty.order)]
        spent = sum((total for total, _, _ in study[1:]), study[0][0]).divergence_nano
        until, whole = utc_now() + timedelta(days=9), 0
        while True:
            for number, (_, charge, rounds) in enumerate(study):
                name = f"{whole}-{number}"
                record = CodeRequestRecord(name, "f", "rita@uni.example", "flu", "v1", "city", "def f(): ...")
                ledger.requests.check(ledger.requests.submit(record).id, plan)
                try:
                    ledger.approve(
                        name, actor="owner", plan_digest=plan.digest, charge=charge, rounds=rounds, expires_at=until
                    )
                except BudgetExceeded:
                    return whole, empty.capacity_nano / spent
            whole += 1
