"""Two accounts in one population: who is charged for what, and that no split can be changed under a charge."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasites.ledger.amounts import Amount, Charged
from datasites.ledger.entries import EntryKind
from datasites.ledger.ledger import Ledger
from datasites.ledger.tables import TABLES, UPGRADES
from policies.errors import BudgetExceeded, LedgerDamaged, RuleBroken, WrongStatus
from policies.privacy.accountant import Charge, charge_for
from policies.privacy.mechanisms import Patients
from policies.source.statuses import RequestStatus
from tests.benchmarks.budget import WAYS, studies_that_fit
from tests.datasites.ledger.copied_ledger import House
from tests.datasites.ledger.ledger_factories import (
    BUDGET,
    NATS,
    ORDER,
    Clock,
    approve,
    approved,
    checked,
    dataset,
    released,
)
from tests.policies.plan_factories import evaluation, statistics, training

TRAINING = Charge(NATS, None, reads=Patients.TRAINING)
EVALUATION = Charge(NATS // 2, NATS // 2 + 1, reads=Patients.HELD_OUT)
STATISTICS = Charge(NATS // 4, NATS // 4 + 1, reads=Patients.ALL)
WRITTEN = Path(__file__).with_name("ledger_0_1_0.sql")


def of(share: float, version: str = "v1", **fields: object) -> object:
    return dataset(version, schema_json=json.dumps({"holdout": share}), **fields)


def spent_of(ledger: Ledger, population: str = "city") -> tuple[int, int]:
    training, held_out = ledger.budgets.balance(population).spent.accounts
    return training.divergence_nano, held_out.divergence_nano


# -- who is charged ---------------------------------------------------------------------------------------------------


def test_every_mechanism_says_whom_it_reads() -> None:
    assert charge_for(training(epsilon=None, noise_multiplier=2.0), 8).reads is Patients.TRAINING
    assert charge_for(evaluation(), 8).reads is Patients.HELD_OUT
    assert charge_for(statistics(), 8).reads is Patients.ALL


def test_training_charges_the_one_evaluation_the_other_and_statistics_both(ledger: Ledger) -> None:
    for charge in (TRAINING, EVALUATION, STATISTICS):
        released(ledger, approved(ledger, charge, rounds=1), 1, charge)
    assert spent_of(ledger) == (NATS + NATS // 4, NATS // 2 + NATS // 4)
    balance = ledger.budgets.balance("city")
    # What is promised, and what a certificate states, is the larger: 1.25 nats with the conversion of δ.
    assert balance.epsilon_spent == (NATS + NATS // 4 + balance.conversion_nano) / NATS
    assert balance.spent.held_out.epsilon_nano(balance.conversion_nano) == NATS // 2 + NATS // 4 + 2
    ledger.verify()


def test_each_account_is_admitted_by_itself(ledger: Ledger) -> None:
    capacity = ledger.budgets.balance("city").capacity_nano
    approve(ledger, checked(ledger), Charge(capacity, None, reads=Patients.TRAINING), rounds=1)
    approve(ledger, checked(ledger), Charge(NATS, 6 * NATS, reads=Patients.HELD_OUT), rounds=1)
    for charge in (Charge(1, None, reads=Patients.TRAINING), STATISTICS):
        with pytest.raises(BudgetExceeded, match=r"remains of population 'city' \(patients who train\)"):
            approve(ledger, checked(ledger), charge, rounds=1)
    with pytest.raises(BudgetExceeded, match=r"remains of population 'city' \(patients held out\)"):
        approve(ledger, checked(ledger), Charge(NATS, NATS + 1, reads=Patients.HELD_OUT), rounds=6)
    ledger.verify()


def test_a_researchers_limit_counts_both_accounts(ledger: Ledger) -> None:
    ledger.budgets.set_researcher_limit("city", "rita@uni.example", 1.0, actor="owner")
    half = Charge(NATS // 2, NATS // 2, reads=Patients.HELD_OUT)
    approve(ledger, checked(ledger), half, rounds=2)
    with pytest.raises(BudgetExceeded, match="researcher rita"):
        approve(ledger, checked(ledger), half, rounds=1)
    approve(ledger, checked(ledger), Charge(NATS // 2, NATS // 2, reads=Patients.TRAINING), rounds=2)


def test_what_is_given_back_goes_back_to_its_account(ledger: Ledger) -> None:
    request = approved(ledger, EVALUATION, rounds=3)
    released(ledger, request, 1, EVALUATION)
    ledger.transition(request, RequestStatus.REVOKED, actor="owner")
    balance = ledger.budgets.balance("city")
    assert (balance.reserved, spent_of(ledger)) == (Charged(), (0, NATS // 2))
    ledger.verify()


def test_a_run_for_other_patients_than_were_approved_is_refused(ledger: Ledger) -> None:
    request = approved(ledger, EVALUATION, rounds=1)
    for reads in (Patients.TRAINING, Patients.ALL):
        with pytest.raises(WrongStatus, match="not within what was approved"):
            ledger.runs.admit(request, 1, "w", Charge(1, 1, reads=reads))


def test_a_crash_while_it_runs_keeps_the_charge_in_its_account(ledger_file: Ledger) -> None:
    request = approved(ledger_file, TRAINING, rounds=2)
    run = ledger_file.runs.admit(request, 1, "w", TRAINING)
    ledger_file.runs.start(run.id)
    ledger_file.close()
    again = Ledger.open(ledger_file.store.path, clock=Clock())
    again.recover()
    assert spent_of(again) == (NATS, 0)
    assert again.budgets.balance("city").reserved == Charged.to(Patients.TRAINING, Amount(NATS, 0, 1))
    again.verify()


def test_nearly_twice_as_many_studies_fit_into_one_budget() -> None:
    # Capacity 3.747 at order 5; a study of 0.512 (training), 0.384 (evaluation) and 0.089 or, by its draws, 0.027.
    fit = {way: studies_that_fit(way) for way in WAYS}
    assert [whole for whole, _ in fit.values()] == [3, 4, 6]
    assert [round(parts, 1) for _, parts in fit.values()] == [3.8, 4.1, 7.0]
    assert fit[WAYS[2]][1] == pytest.approx(3.7473 / (0.5116 + 0.0269), abs=0.01)  # 6.96


# -- the split --------------------------------------------------------------------------------------------------------


def test_the_first_table_of_a_population_splits_it_and_every_other_has_to_agree(ledger: Ledger) -> None:
    assert ledger.budgets.split_at("city") == 0.0
    ledger.budgets.create_population("county", BUDGET, ORDER)
    ledger.datasets.publish(of(0.2, "v2", name="stays", population="county"), actor="owner")  # type: ignore[arg-type]
    assert ledger.budgets.split_at("county") == 0.2
    for name in ("stays", "visits"):
        other = of(0.3, "v3", name=name, population="county")
        for publish in (ledger.datasets.stage, lambda record: ledger.datasets.publish(record, actor="owner")):
            with pytest.raises(RuleBroken, match=r"holds out 0\.2 of its patients, and this schema says 0\.3"):
                publish(other)  # type: ignore[arg-type]
    ledger.datasets.publish(of(0.2, "v4", name="visits", population="county"), actor="owner")  # type: ignore[arg-type]
    ledger.verify()


def test_taking_every_table_back_does_not_let_a_population_be_split_anew(ledger: Ledger) -> None:
    released(ledger, approved(ledger, TRAINING, rounds=1), 1, TRAINING)
    ledger.datasets.retire("v1", actor="owner")
    with pytest.raises(RuleBroken, match="could lose both budgets"):
        ledger.datasets.publish(of(0.5, "v2"), actor="owner")  # type: ignore[arg-type]
    assert ledger.budgets.split_at("city") == 0.0


def unsplit(path: Path, *shares: float) -> Ledger:
    """A ledger of before there were accounts, with a table for each share of one population."""
    ledger = Ledger.create(path, clock=Clock())
    ledger.budgets.create_population("city", BUDGET, ORDER)
    ledger.datasets._budgets.split = lambda *_, **__: None  # type: ignore[method-assign]
    for number, share in enumerate(shares):
        ledger.datasets.publish(of(share, f"v{number + 1}", name=f"table{number}"), actor="owner")  # type: ignore[arg-type]
    ledger.close()
    return Ledger.open(path, clock=Clock())


def test_tables_that_split_a_population_in_two_ways_charge_everybody(tmp_path: Path) -> None:
    with unsplit(tmp_path / "ledger.db", 0.2, 0.3) as ledger:
        for charge in (TRAINING, EVALUATION):
            released(ledger, approved(ledger, charge, rounds=1), 1, charge)
        assert ledger.budgets.split_at("city") is None
        assert spent_of(ledger) == (NATS + NATS // 2, NATS + NATS // 2)
        ledger.datasets.retire("v2", actor="owner")
        # One way is left. What was charged stays in both, and from here on each pays for itself.
        released(ledger, approved(ledger, EVALUATION, rounds=1), 1, EVALUATION)
        assert ledger.budgets.split_at("city") == 0.2
        assert spent_of(ledger) == (NATS + NATS // 2, 2 * NATS)
        ledger.verify()


def test_what_was_approved_before_the_split_is_charged_to_everybody(tmp_path: Path) -> None:
    with unsplit(tmp_path / "ledger.db", 0.2, 0.3) as ledger:
        before = approved(ledger, TRAINING, rounds=1)
        ledger.datasets.retire("v2", actor="owner")
        approve(ledger, checked(ledger), EVALUATION, rounds=1)
        assert ledger.budgets.split_at("city") == 0.2
        released(ledger, before, 1, TRAINING)
        assert spent_of(ledger) == (NATS, NATS)
        ledger.verify()


@pytest.mark.parametrize("seed", range(10))
def test_no_patient_ever_loses_more_than_an_account_holds(tmp_path: Path, seed: int) -> None:
    """Patients at hash 0.1, 0.25 and 0.4, and tables of any share: the truth of each is counted beside."""
    draw = random.Random(seed)
    places = (0.1, 0.25, 0.4)  # held out where below the table's share
    with unsplit(tmp_path / "ledger.db", *draw.choices((0.2, 0.3), k=2)) as ledger:
        shares = {record.version: record.schema_json for record in ledger.datasets.list()}
        truth = dict.fromkeys(places, 0)
        for step in range(40):
            published = [record.version for record in ledger.datasets.list()]
            if draw.random() < 0.15 and len(published) > 1:
                ledger.datasets.retire(draw.choice(published), actor="owner")
            elif draw.random() < 0.2:
                record = of(draw.choice((0.2, 0.3, 0.5)), f"w{step}", name=f"new{step}")
                try:
                    ledger.datasets.publish(record, actor="owner")  # type: ignore[arg-type]
                    shares[f"w{step}"] = record.schema_json  # type: ignore[attr-defined]
                except RuleBroken:
                    continue
            else:
                version = draw.choice(published)
                charge = Charge(NATS // 20, draw.choice((None, NATS // 20)), reads=draw.choice(list(Patients)))
                try:
                    request = checked(ledger, version=version)
                    approve(ledger, request, charge, rounds=1)
                except BudgetExceeded:
                    continue
                released(ledger, request, 1, charge)
                share = json.loads(shares[version])["holdout"]
                for place in places:
                    group = Patients.HELD_OUT if place < share else Patients.TRAINING
                    truth[place] += (charge.reads in (group, Patients.ALL)) * charge.divergence_nano
        balance = ledger.budgets.balance("city")
        assert max(truth.values()) <= balance.spent_nano
        assert balance.after_nano() <= balance.limit_nano
        ledger.verify()


# -- an older ledger --------------------------------------------------------------------------------------------------


@pytest.fixture(params=sorted(UPGRADES))
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A ledger as 0.1.0 wrote it, and the same with what versions 4 and 5 added."""
    with sqlite3.connect(tmp_path / "ledger.db") as db:
        db.executescript(WRITTEN.read_text(encoding="utf-8"))
        for statement in UPGRADES["3"][: len(UPGRADES["3"]) - len(UPGRADES[request.param])]:
            db.execute(statement)
        db.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (request.param,))
    db.close()
    return tmp_path / "ledger.db"


def test_what_an_older_ledger_charged_counts_in_both_accounts(older: Path) -> None:
    with Ledger.open(older, clock=Clock()) as ledger:
        head = ledger.verify()
        balance = ledger.budgets.balance("city")
        assert balance.spent == Charged.to(Patients.ALL, Amount(NATS // 10, 0, 1))
        assert balance.reserved == Charged.to(Patients.ALL, Amount(4 * NATS // 10, 0, 4))
        assert ledger.budgets.researcher_balance("city", "rita@uni.example").spent == balance.spent
        # An approval of then goes on, charged to everybody; the first of now gives each group its own account.
        ledger.recover()
        old = ledger.requests.list(status=RequestStatus.APPROVED)[-1]
        approve(ledger, checked(ledger), EVALUATION, rounds=1)
        assert [entry.kind for entry in ledger.entries.list(after=head.seq)][-2:] == [
            EntryKind.SPLIT,
            EntryKind.RESERVE,
        ]
        gaussian = Charge(NATS // 10, None, reads=Patients.TRAINING)
        run = ledger.runs.admit(old.id, 2, "w", gaussian)
        ledger.runs.start(run.id)
        ledger.runs.settle(run.id, b"", "digest", "{}")
        assert spent_of(ledger) == (2 * NATS // 10, 2 * NATS // 10)
        assert ledger.verify(heads=((head.seq, head.hash),)).seq > head.seq
    with sqlite3.connect(older) as db:
        assert {row[0] for row in db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")} == set(TABLES)
    db.close()


# -- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE held_out_totals SET spent_divergence_nano = spent_divergence_nano + 1",
        "UPDATE held_out_totals SET reserved_pure_nano = 7",
        "DELETE FROM held_out_totals WHERE researcher != ''",
        "UPDATE splits SET holdout = 0.3",
        "DELETE FROM splits",
        "UPDATE requests SET charge_json = replace(charge_json, 'held_out', 'training')",
    ],
)
def test_a_change_of_the_second_account_is_found(ledger_file: Ledger, change: str) -> None:
    approved(ledger_file, EVALUATION, rounds=2)
    ledger_file.close()
    with sqlite3.connect(ledger_file.store.path) as db:
        db.execute(change)
    db.close()
    with Ledger.open(ledger_file.store.path, clock=Clock()) as changed, pytest.raises(LedgerDamaged):
        changed.verify()


def test_what_the_held_out_spent_cannot_be_lowered(ledger_file: Ledger) -> None:
    released(ledger_file, approved(ledger_file, EVALUATION, rounds=1), 1, EVALUATION)
    with sqlite3.connect(ledger_file.store.path) as db, pytest.raises(sqlite3.IntegrityError, match="never decreases"):
        db.execute("UPDATE held_out_totals SET spent_divergence_nano = 0")
    db.close()


# -- copies -----------------------------------------------------------------------------------------------------------


def put_back_older(house: House, copy: Path) -> None:
    house.put_back(copy)
    house.accept_older()
    house.ledger.verify()


def test_what_a_copy_forgot_is_charged_to_those_who_lost_it(house: House) -> None:
    house.attach()
    copy = house.copy()
    released(house.ledger, approved(house.ledger, TRAINING, rounds=1), 1, TRAINING)
    released(house.ledger, approved(house.ledger, EVALUATION, rounds=1), 1, EVALUATION)
    put_back_older(house, copy)
    assert spent_of(house.ledger) == (NATS, NATS // 2)


@pytest.fixture
def unsplit_house(house: House) -> Iterator[House]:
    """Its population has no split in the copy: the first approval after it makes one."""
    house.ledger.datasets.publish(dataset("v9", name="other"), actor="owner")
    house.ledger.close()
    with sqlite3.connect(house.path) as db:
        for statement in (
            "DROP TRIGGER entries_not_deleted",
            "DELETE FROM splits",
            "DELETE FROM entries WHERE seq > 1",
            "DELETE FROM datasets",
        ):
            db.execute(statement)
        db.execute(next(statement for statement in TABLES if "entries_not_deleted" in statement))
    db.close()
    house.ledger = Ledger.open(house.path, clock=house.clock)
    return house


def test_where_a_copy_does_not_know_the_split_everybody_is_charged_the_larger(unsplit_house: House) -> None:
    house = unsplit_house
    house.attach()
    copy = house.copy()
    house.ledger.datasets.publish(of(0.2), actor="owner")  # type: ignore[arg-type]
    released(house.ledger, approved(house.ledger, TRAINING, rounds=1), 1, TRAINING)
    released(house.ledger, approved(house.ledger, EVALUATION, rounds=1), 1, EVALUATION)
    house.put_back(copy)
    house.accept_older()
    # It may be split otherwise now, and who trained be held out.
    house.ledger.datasets.publish(of(0.5), actor="owner")  # type: ignore[arg-type]
    assert spent_of(house.ledger) == (NATS, NATS)
    house.ledger.verify()


def test_a_line_of_before_there_were_accounts_stands_for_both(house: House) -> None:
    house.attach()
    copy = house.copy()
    released(house.ledger, approved(house.ledger, TRAINING, rounds=1), 1, TRAINING)
    house.shut()
    lines = [json.loads(line) for line in house.witness_path.read_bytes().splitlines()]
    for line in lines:
        for facts in line["populations"].values():
            del facts["used_held_out"], facts["holdout"]
    text = "".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines)
    house.witness_path.write_text(text)
    put_back_older(house, copy)
    assert spent_of(house.ledger) == (NATS, NATS)
