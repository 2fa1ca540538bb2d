"""Budgets of populations in the ledger: creating and raising them, balances, and whether an amount still fits.

The budget is the population's, over all of its tables, versions and splits; a researcher's limit is policy within it.

An amount is admitted where, with it, what is spent and reserved has

    (A) a divergence at the population's order of at most its capacity, which is ε less the conversion of δ; or
    (B) no release without a pure ε, and a sum of pure ε of at most ε.

Why both at once keep the promise (ε, δ), whatever is asked after seeing whatever was released. Let P and Q be the
distributions of everything that is ever released, with and without one patient; the promise is that P(t) - e^ε Q(t),
summed over the transcripts t where it is positive, is at most δ. What is spent and reserved is in A or in B at any
time, and so is what is spent alone, which is never more of any kind. Take a transcript by what it has spent in the end:

* Not in A, so in B: its privacy loss is at most the sum of its pure ε, P(t) ≤ e^ε Q(t), and it adds nothing.
* In A: as spending only grows, each of its releases was within the capacity. A datasite that stops at the capacity, a
  Rényi filter, releases it unchanged; and of a filter that sum, over all of its transcripts, is at most δ (Feldman &
  Zrnic 2021, arXiv:2008.11193).

A release without a pure ε is only ever admitted by A, and while one is spent or reserved everything else is, too.

A population has two accounts. A keyed hash of a patient's identifier says whether the patient trains or is held out: it
depends on nobody else, it is the same for every table and version, and one share is held out of a population for ever
(`split`). Training reads the first group only, evaluation the second, statistics all. For a patient who trains, an
evaluation of given weights has the same distribution with and without: its divergence is nothing, and only what is
charged to those who train counts in the argument above; and the other way round. So each account keeps the promise to
its patients, and what is promised to all is the larger of both. Until a population is split everything is charged to
both, as is all that was charged before.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from datasites.ledger.admission import Standing
from datasites.ledger.amounts import ATTO, COLUMNS, NOTHING, NOWHERE, Amount, Balance, Charged
from datasites.ledger.chain import head_of
from datasites.ledger.entries import Entries, EntryKind
from datasites.ledger.kept import parts_in
from datasites.ledger.records import CodeRequestRecord, DaySpending
from datasites.ledger.store import Store
from datasites.ledger.years import Year, YearlyPlan, year_from, year_of
from policies.errors import (
    BudgetTooSmall,
    InvalidRequest,
    RuleBroken,
    UnsupportedMechanism,
    WrongStatus,
)
from policies.privacy.accountant import ORDERS, best_order, conversion
from policies.privacy.budget import PrivacyBudget
from policies.privacy.mechanisms import Patients
from policies.privacy.nano import NANO, nano_down, nano_up

FACTS = ("epsilon", "delta", "order", "conversion_nano", "capacity_nano", "delta_capacity_atto")
"""Columns of a population's budget, in their order."""

_PATIENTS = "coalesce(json_extract(entries.details, '$.patients'), 'all')"
_SPENT = tuple(f"spent_{name}" for name in COLUMNS)
_RESERVED = tuple(f"reserved_{name}" for name in COLUMNS)
ACCOUNTS = ("totals", "held_out_totals")
"""Tables of the two accounts of a population, in the order of `Charged.accounts`."""
_CHANGES = ", ".join(f"{name} = {name} + ?" for name in (*_SPENT, *_RESERVED))


class Budgets:
    """The populations of a store, with their budgets and running totals."""

    def __init__(self, store: Store, entries: Entries) -> None:
        self._store, self._entries = store, entries
        self._opened: dict[tuple[str, int], Charged] = {}  # by population and year, of years that have an entry

    def create_population(
        self,
        name: str,
        budget: PrivacyBudget,
        order: int | None = None,
        *,
        mechanism_delta: float = 0.0,
        actor: str = "owner",
    ) -> Balance:
        """A new population with its budget; δ and order are fixed from here on.

        Args:
          order: Rényi order of its filter; None takes the one with which Gaussian releases fit best.
          mechanism_delta: the part of δ kept for mechanisms that fail with a δ of their own.

        Raises:
          WrongStatus: it exists.
          BudgetTooSmall: at this order, turning δ into ε uses up all of ε; names what would fit.
          UnsupportedMechanism: `mechanism_delta` is not within δ.
        """
        if not name or len(name) > 200:
            raise InvalidRequest("A population needs a name of 1 to 200 characters.")
        if not 0 <= mechanism_delta < budget.delta:
            raise UnsupportedMechanism(f"mechanism_delta={mechanism_delta} is outside [0, {budget.delta}).")
        converted = PrivacyBudget(budget.epsilon, budget.delta - mechanism_delta)
        if order is None:
            order = best_order(converted)
        nano = max(0, nano_up(conversion(order, converted.delta)))
        capacity = nano_down(budget.epsilon) - nano
        if capacity <= 0:
            raise _too_small(converted, order, nano)
        facts: dict[str, Any] = {
            "epsilon": repr(float(budget.epsilon)),
            "delta": repr(float(budget.delta)),
            "order": order,
            "conversion_nano": nano,
            "capacity_nano": capacity,
            "delta_capacity_atto": math.floor(Fraction(mechanism_delta) * ATTO),
        }
        with self._store.writing() as db:
            if db.execute("SELECT 1 FROM populations WHERE name = ?", (name,)).fetchone():
                raise WrongStatus(f"Population {name!r} exists. Its budget can be raised, never started anew.")
            values = (name, budget.epsilon, budget.delta, order, nano, capacity, facts["delta_capacity_atto"])
            db.execute("INSERT INTO populations VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            self.add(db, name, "")
            self._entries.append(db, EntryKind.POPULATION, actor, population=name, **facts)
        return self.balance(name)

    def raise_budget(self, name: str, budget: PrivacyBudget, *, actor: str = "owner") -> PrivacyBudget:
        """Raise a population's ε, and return what is now promised in all.

        Raises `RuleBroken` where ε would not rise or δ would change: the order was chosen for that δ.
        """
        with self._store.writing() as db:
            row = population_row(db, name)
            if budget.delta != row["delta"] or budget.epsilon <= row["epsilon"]:
                raise RuleBroken(
                    f"Population {name!r} has ε={row['epsilon']} at δ={row['delta']}. Its ε can only be raised,"
                    f" and its δ stays; ε={budget.epsilon} at δ={budget.delta} was asked."
                )
            capacity = nano_down(budget.epsilon) - row["conversion_nano"]
            query = "UPDATE populations SET epsilon = ?, capacity_nano = ? WHERE name = ?"
            db.execute(query, (budget.epsilon, capacity, name))
            self._entries.append(
                db,
                EntryKind.BUDGET,
                actor,
                population=name,
                epsilon=repr(float(budget.epsilon)),
                capacity_nano=capacity,
            )
        return budget

    def set_researcher_limit(self, population: str, researcher: str, epsilon: float | None, *, actor: str) -> None:
        """Limit the ε of one researcher's releases together, at the population's δ; None lifts the limit."""
        if not researcher or (epsilon is not None and not 0 <= epsilon <= 100):
            raise InvalidRequest(f"A limit of ε={epsilon} for {researcher!r} is not one. Give an e-mail and 0 to 100.")
        with self._store.writing() as db:
            check_population(db, population)
            self.add(db, population, researcher)
            query = "UPDATE totals SET limit_epsilon = ? WHERE population = ? AND researcher = ?"
            db.execute(query, (epsilon, population, researcher))
            written = None if epsilon is None else repr(float(epsilon))
            self._entries.append(
                db, EntryKind.LIMIT, actor, population=population, researcher=researcher, epsilon=written
            )

    def populations(self) -> tuple[str, ...]:
        """Names of the populations."""
        with self._store.reading() as db:
            return tuple(row["name"] for row in db.execute("SELECT name FROM populations ORDER BY name"))

    def balance(self, population: str) -> Balance:
        """What the population's budget comes to now. Raises `InvalidRequest` where there is no such population."""
        return self.standing(population).balance_for()

    def standing(
        self,
        population: str,
        *,
        plan: YearlyPlan | None = None,
        researchers: Iterable[str] = (),
        limit: float | None = None,
    ) -> Standing:
        """A population as it stands, of which the ledger asks whether an approval fits.

        Args:
          plan: its yearly plan, where it has one.
          researchers: whose shares are limited, by a limit of their own, else to `limit`.
        """
        with self._store.reading() as db:
            return self.standing_in(db, population, plan=plan, researchers=researchers, limit=limit)

    def researcher_balance(self, population: str, researcher: str, *, limit: float | None = None) -> Balance:
        """The same of one researcher's releases, against their own limit, else `limit`, else all of the budget."""
        with self._store.reading() as db:
            row = population_row(db, population)
            return _balance(db, row, researcher, _limit(db, population, researcher, limit))

    def spending(self, population: str, *, after: int = 0) -> tuple[DaySpending, ...]:
        """What entries above `after` spent, by day, dataset and researcher (lost ones have none), oldest day first."""
        query = f"""SELECT substr(entries.at, 1, 10) AS day, coalesce(requests.dataset, '') AS dataset,
              coalesce(requests.researcher, '') AS researcher, {_PATIENTS} AS patients,
              sum(divergence_nano) AS divergence_nano, sum(pure_nano) AS pure_nano, sum(mixed) AS mixed,
              sum(delta_atto) AS delta_atto, count(*) AS runs
            FROM entries LEFT JOIN requests ON requests.id = entries.request
            WHERE entries.population = ? AND entries.seq > ? AND kind IN ('settle', 'fail', 'lost')
            GROUP BY day, requests.dataset, requests.researcher, patients ORDER BY day"""
        with self._store.reading() as db:
            return tuple(
                DaySpending(
                    row["day"],
                    row["dataset"],
                    row["researcher"],
                    Charged.to(Patients(row["patients"]), Amount(*(row[name] for name in COLUMNS))),
                    row["runs"],
                )
                for row in db.execute(query, (population, after))
            )

    def spent_by_then(self, population: str, first: int, last: int) -> dict[int, Charged]:
        """What a population had spent in all after each entry from `first` to `last` that spends, by its number."""
        columns = ", ".join(COLUMNS)
        query = f"""SELECT seq, {_PATIENTS} AS patients, {columns} FROM entries
            WHERE population = ? AND kind IN ('settle', 'fail', 'lost') AND seq BETWEEN ? AND ? ORDER BY seq"""
        with self._store.reading() as db:
            total = spent_up_to(db, population, first - 1)
            by_then: dict[int, Charged] = {}
            for seq, patients, *amount in db.execute(query, (population, first, last)):
                total = by_then[seq] = total + Charged.to(Patients(patients), Amount(*amount))
        return by_then

    def spent_before(self, population: str, seq: int) -> Charged:
        """What a population had spent in all before entry `seq`."""
        with self._store.reading() as db:
            return spent_up_to(db, population, seq - 1)

    # Within a transaction

    def standing_in(
        self,
        db: sqlite3.Connection,
        population: str,
        *,
        plan: YearlyPlan | None,
        researchers: Iterable[str],
        limit: float | None,
    ) -> Standing:
        """As `standing`."""
        row, now = population_row(db, population), self._store.now()
        balance = _balance(db, row)
        limits = {researcher: _limit(db, population, researcher, limit) for researcher in researchers}
        return Standing(
            population=population,
            balance=balance,
            delta_capacity_atto=row["delta_capacity_atto"],
            parts={part.id: part.kept for part in parts_in(db, population, now)},
            year=None if plan is None else self._year(db, population, balance, plan, year_of(now)),
            shares={
                researcher: _balance(db, row, researcher, bound)
                for researcher, bound in limits.items()
                if bound is not None
            },
        )

    def _year(self, db: sqlite3.Connection, population: str, balance: Balance, plan: YearlyPlan, year: int) -> Year:
        made = db.execute("SELECT at FROM entries WHERE population = ? ORDER BY seq LIMIT 1", (population,)).fetchone()

        def opening(year: int) -> Charged:
            return self._opening(db, population, year)

        return year_from(plan, year, year_of(made["at"]), opening, balance.used, balance.conversion_nano)

    def _opening(self, db: sqlite3.Connection, population: str, year: int) -> Charged:
        """What a population had spent when a year opened: before the first entry of it, whatever that entry is.

        Once there is such an entry it never changes, and is added up once.
        """
        known = self._opened.get((population, year))
        if known is not None:
            return known
        first = _first_of(db, year)
        if first is None:
            return _totals(db, population, "")[0]
        opened = self._opened[population, year] = spent_up_to(db, population, first - 1)
        return opened

    def add(
        self,
        db: sqlite3.Connection,
        population: str,
        researcher: str,
        *,
        spent: Charged = NOWHERE,
        reserved: Charged = NOWHERE,
    ) -> None:
        """Add to the running totals of the population, in both of its accounts, and of the researcher's share."""
        for table, to_spent, to_reserved in zip(ACCOUNTS, spent.accounts, reserved.accounts, strict=True):
            for whose in {"", researcher}:
                db.execute(f"INSERT OR IGNORE INTO {table} (population, researcher) VALUES (?, ?)", (population, whose))
                query = f"UPDATE {table} SET {_CHANGES} WHERE population = ? AND researcher = ?"
                db.execute(query, (*to_spent.as_row(), *to_reserved.as_row(), population, whose))

    def split_at(self, population: str) -> float | None:
        """The share of a population's patients that is held out, where its two groups have accounts of their own."""
        with self._store.reading() as db:
            return split_of(db, population)

    def split(self, db: sqlite3.Connection, population: str, *, actor: str) -> None:
        """Give the two groups accounts of their own, where all published tables hold the same share of patients out."""
        if split_of(db, population) is not None:
            return
        query = "SELECT schema_json FROM datasets WHERE population = ? AND status = 'published'"
        shares = {holdout_of(row["schema_json"]) for row in db.execute(query, (population,))}
        if len(shares) == 1:
            holdout = shares.pop()
            db.execute("INSERT INTO splits VALUES (?, ?)", (population, holdout))
            self._entries.append(db, EntryKind.SPLIT, actor, population=population, holdout=repr(holdout))

    def create_again(self, db: sqlite3.Connection, name: str, facts: Mapping[str, Any], actor: str) -> None:
        """A population that was created after the copy was made, with the budget that it had."""
        db.execute("INSERT INTO populations VALUES (?, ?, ?, ?, ?, ?, ?)", (name, *(facts[fact] for fact in FACTS)))
        self.add(db, name, "")
        details = {fact: facts[fact] for fact in FACTS}
        details |= {fact: repr(float(facts[fact])) for fact in ("epsilon", "delta")}
        self._entries.append(db, EntryKind.POPULATION, actor, population=name, **details)


def check_population(db: sqlite3.Connection, name: str) -> None:
    """Raise `InvalidRequest` where there is no population of this name."""
    if not db.execute("SELECT 1 FROM populations WHERE name = ?", (name,)).fetchone():
        raise InvalidRequest(f"Population {name!r} does not exist here. Create it with its budget first.")


def population_row(db: sqlite3.Connection, name: str) -> sqlite3.Row:
    """The facts of a population's budget. Raises `InvalidRequest` where there is none of this name."""
    check_population(db, name)
    row: sqlite3.Row = db.execute("SELECT * FROM populations WHERE name = ?", (name,)).fetchone()
    return row


def population_of(request: CodeRequestRecord) -> str:
    """The population whose budget a request is charged to. Raises `WrongStatus` where its inputs are not known here."""
    if request.population is None:
        raise WrongStatus(f"Request {request.id} names no dataset that is here.")
    return request.population


def _totals(db: sqlite3.Connection, population: str, researcher: str) -> tuple[Charged, Charged]:
    """(spent, reserved) of the population ('') or of a researcher's share in it."""
    spent, reserved = [NOTHING, NOTHING], [NOTHING, NOTHING]
    for account, table in enumerate(ACCOUNTS):
        query = f"SELECT * FROM {table} WHERE population = ? AND researcher = ?"
        row = db.execute(query, (population, researcher)).fetchone()
        if row is not None:
            spent[account] = Amount(*(row[name] for name in _SPENT))
            reserved[account] = Amount(*(row[name] for name in _RESERVED))
    return Charged(*spent), Charged(*reserved)


def used_of(db: sqlite3.Connection, population: str) -> Charged:
    """What a population has spent and reserved together."""
    return sum(_totals(db, population, ""), NOWHERE)


def _limit(db: sqlite3.Connection, population: str, researcher: str, default: float | None) -> float | None:
    query = "SELECT limit_epsilon FROM totals WHERE population = ? AND researcher = ?"
    row = db.execute(query, (population, researcher)).fetchone()
    return default if row is None or row[0] is None else float(row[0])


def split_of(db: sqlite3.Connection, population: str) -> float | None:
    """The share that is held out of a population, or None where its tables may differ in it."""
    row = db.execute("SELECT holdout FROM splits WHERE population = ?", (population,)).fetchone()
    return None if row is None else float(row["holdout"])


def holdout_of(schema_json: str) -> float:
    """The share of patients that a table's schema holds out."""
    return float(json.loads(schema_json).get("holdout", 0.0))


def spent_up_to(db: sqlite3.Connection, population: str, seq: int | None) -> Charged:
    """What a population had spent in all after entry `seq`, in each account; after the last one with None."""
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in COLUMNS)
    query = f"""SELECT {_PATIENTS} AS patients, {sums} FROM entries
      WHERE population = ?1 AND kind IN ('settle', 'fail', 'lost') AND (?2 IS NULL OR seq <= ?2) GROUP BY patients"""
    rows = db.execute(query, (population, seq))
    return sum((Charged.to(Patients(patients), Amount(*amount)) for patients, *amount in rows), NOWHERE)


def _first_of(db: sqlite3.Connection, year: int) -> int | None:
    """The number of the first entry of a year or of a later one: entries are in the order of their times."""
    low, high = 1, head_of(db, "entries").seq + 1
    while low < high:
        middle = (low + high) // 2
        at = db.execute("SELECT at FROM entries WHERE seq = ?", (middle,)).fetchone()["at"]
        low, high = (low, middle) if year_of(at) >= year else (middle + 1, high)
    return low if db.execute("SELECT 1 FROM entries WHERE seq = ?", (low,)).fetchone() else None


def _balance(db: sqlite3.Connection, row: sqlite3.Row, researcher: str = "", limit: float | None = None) -> Balance:
    """The balance of a population, or of a researcher's share of it within `limit`."""
    spent, reserved = _totals(db, row["name"], researcher)
    epsilon = row["epsilon"] if limit is None else min(limit, row["epsilon"])
    return Balance(
        budget=PrivacyBudget(max(epsilon, 1 / NANO), row["delta"]),
        order=row["order"],
        conversion_nano=row["conversion_nano"],
        capacity_nano=nano_down(epsilon) - row["conversion_nano"],
        spent=spent,
        reserved=reserved,
        is_split=split_of(db, row["name"]) is not None,
    )


def _too_small(budget: PrivacyBudget, order: int, conversion_nano: int) -> BudgetTooSmall:
    conversions = {candidate: nano_up(conversion(candidate, budget.delta)) for candidate in ORDERS}
    fitting = [candidate for candidate in ORDERS if conversions[candidate] < nano_down(budget.epsilon)]
    least = max(0, min(conversions.values()))
    nearest = min(fitting, key=lambda candidate: abs(candidate - order), default=None)
    step = f"Use order={nearest}, or" if nearest else f"No order fits: choose ε above {_up(least)}, or"
    return BudgetTooSmall(
        f"At order={order}, δ={budget.delta} alone comes to ε={_up(conversion_nano)}, which leaves nothing of"
        f" ε={budget.epsilon}. {step} a larger δ.",
        order=order,
        nearest=nearest,
    )


def _up(nano: int) -> str:
    return f"{math.ceil(nano / 100_000) / 10_000:.4f}"
