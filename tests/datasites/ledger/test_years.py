"""Yearly plans: what a year has added, what it may still add, and that no clock opens one twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasites.ledger.amounts import NOWHERE, Amount, Charged
from datasites.ledger.ledger import Ledger
from datasites.ledger.years import Year, YearlyPlan, year_from, year_of
from policies.errors import BudgetExceeded, LedgerDamaged
from policies.privacy.accountant import Charge
from policies.privacy.mechanisms import Patients
from policies.source.statuses import RequestStatus
from tests.datasites.ledger.ledger_factories import (
    GAUSSIAN,
    NATS,
    Clock,
    approve,
    approved,
    checked,
    dataset,
    new_ledger,
    released,
    running,
)

ONE = Charge(divergence_nano=97 * NATS // 100, pure_epsilon_nano=NATS)
TWO_A_YEAR = YearlyPlan(2.0)
CARRIED = YearlyPlan(2.0, carry_over_since=2026)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with new_ledger(tmp_path / "ledger.db", clock) as made:
        yield made


def ask(ledger: Ledger, clock: Clock, plan: YearlyPlan, charge: Charge = ONE, rounds: int = 1) -> str:
    """The id of a request that was approved under a plan."""
    request = checked(ledger)
    approve(ledger, request, charge, rounds, plan=plan, expires_at=clock.now + timedelta(days=30))
    return request


def spend(ledger: Ledger, clock: Clock, plan: YearlyPlan, times: int = 1) -> None:
    """Releases of ε = 1 each."""
    for _ in range(times):
        released(ledger, ask(ledger, clock, plan), 1, ONE)


def year(ledger: Ledger, plan: YearlyPlan) -> Year:
    standing = ledger.budgets.standing("city", plan=plan).year
    assert standing is not None
    return standing


def test_a_year_admits_its_part_and_the_next_opens_with_its_own(ledger: Ledger, clock: Clock) -> None:
    spend(ledger, clock, TWO_A_YEAR, 2)
    with pytest.raises(BudgetExceeded) as caught:
        ask(ledger, clock, TWO_A_YEAR)
    assert caught.value.public_message == (
        "This adds ε=1.0000 but ε=0.0000 remains of the part of 2026, ε=2.0000, in the yearly plan of population"
        " 'city' (patients who train): ε=1.0000 short. The next year opens on 2027-01-01 (UTC) with ε=2.0000."
    )
    assert (caught.value.requested, caught.value.remaining, caught.value.short) == (1.0, 0.0, 1.0)
    assert ledger.budgets.balance("city").epsilon_remaining == 4.0  # the total would hold it
    clock.now = datetime(2027, 1, 1, tzinfo=UTC)
    spend(ledger, clock, TWO_A_YEAR, 2)
    with pytest.raises(BudgetExceeded, match="part of 2027"):
        ask(ledger, clock, TWO_A_YEAR)
    ledger.verify()


def test_the_total_holds_whatever_a_plan_says(ledger: Ledger, clock: Clock) -> None:
    spend(ledger, clock, YearlyPlan(50.0), 6)
    with pytest.raises(BudgetExceeded, match="remains of population 'city'"):
        ask(ledger, clock, YearlyPlan(50.0))


def test_what_is_left_lapses_or_carries_over_as_the_owner_chose(ledger: Ledger, clock: Clock) -> None:
    spend(ledger, clock, CARRIED)
    assert (year(ledger, CARRIED).part, year(ledger, CARRIED).left) == (2.0, 1.0)
    clock.now = datetime(2028, 6, 1, tzinfo=UTC)  # 2027 had no entry at all
    # 2 + 2 + 2 less the one of 2026, where it carries over; else this year's two.
    assert (year(ledger, CARRIED).left, year(ledger, TWO_A_YEAR).left) == (5.0, 2.0)
    assert year(ledger, YearlyPlan(2.0, carry_over_since=2028)).left == 2.0
    assert year(ledger, YearlyPlan(2.0, carry_over_since=2000)).left == 5.0  # there was nothing to leave before 2026
    spend(ledger, clock, CARRIED, 5)
    with pytest.raises(BudgetExceeded):
        ask(ledger, clock, CARRIED)
    ledger.verify()


def test_what_was_approved_before_counts_in_the_year_that_it_still_stands_in(ledger: Ledger, clock: Clock) -> None:
    clock.now = datetime(2026, 12, 31, tzinfo=UTC)
    open_one, other = ask(ledger, clock, TWO_A_YEAR), ask(ledger, clock, TWO_A_YEAR)
    clock.now = datetime(2027, 1, 2, tzinfo=UTC)
    assert year(ledger, TWO_A_YEAR).left == 0.0
    with pytest.raises(BudgetExceeded):
        ask(ledger, clock, TWO_A_YEAR)
    released(ledger, open_one, 1, ONE)
    ledger.transition(other, RequestStatus.REVOKED, actor="owner")
    assert year(ledger, TWO_A_YEAR).left == 1.0  # so that 2027 spends two at most


def test_a_clock_set_back_opens_no_year_twice(ledger: Ledger, clock: Clock) -> None:
    spend(ledger, clock, TWO_A_YEAR, 2)
    clock.now = datetime(2027, 1, 1, tzinfo=UTC)
    spend(ledger, clock, TWO_A_YEAR, 2)
    for back in (datetime(2026, 12, 31, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)):
        clock.now = back
        assert year(ledger, TWO_A_YEAR).year == 2027
        with pytest.raises(BudgetExceeded):
            approve(ledger, checked(ledger), ONE, 1, plan=TWO_A_YEAR, expires_at=datetime(2028, 1, 1, tzinfo=UTC))
    clock.now = datetime(2027, 7, 1, tzinfo=UTC)
    assert year(ledger, TWO_A_YEAR).left == 0.0
    ledger.verify()


def test_a_year_that_turns_within_a_transaction_is_one_moment(ledger: Ledger, clock: Clock) -> None:
    """The entry has the time by which it was admitted, however long the transaction takes."""
    clock.now = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    with ledger.store.writing():
        first = ledger.store.now()
        clock.turn(seconds=5)
        assert ledger.store.now() == first
    assert year_of(ledger.store.now()) == 2027


def test_each_account_has_its_own_part(ledger: Ledger, clock: Clock) -> None:
    ledger.budgets.create_population("county", ledger.budgets.balance("city").budget, 16)
    ledger.datasets.publish(dataset("h1", name="h", schema_json='{"holdout":0.2}', population="county"), actor="owner")
    facts = {"population": "county", "version": "h1"}
    for reads in (Patients.TRAINING, Patients.HELD_OUT):
        charge = Charge(2 * ONE.divergence_nano, 2 * NATS, reads=reads)
        approve(ledger, checked(ledger, **facts), charge, 1, plan=TWO_A_YEAR)
    with pytest.raises(BudgetExceeded, match="patients held out"):
        approve(ledger, checked(ledger, **facts), Charge(NATS, NATS, reads=Patients.HELD_OUT), 1, plan=TWO_A_YEAR)
    ledger.verify()


def test_the_datasites_own_counts_are_held_to_the_plan(ledger: Ledger, clock: Clock) -> None:
    spend(ledger, clock, TWO_A_YEAR, 2)
    with pytest.raises(BudgetExceeded, match="part of 2026"):
        ledger.charge_now("city", ONE, dataset="flu", version="v2", actor="owner", what="count", plan=TWO_A_YEAR)


def test_a_reopened_ledger_and_one_that_has_long_been_open_agree(tmp_path: Path, ledger: Ledger, clock: Clock) -> None:
    for when in (2026, 2027, 2029):
        clock.now = datetime(when, 3, 1, tzinfo=UTC)
        spend(ledger, clock, YearlyPlan(6.0))
        with Ledger.open(tmp_path / "ledger.db", clock=clock) as again:
            for plan in (TWO_A_YEAR, CARRIED):
                assert year(again, plan) == year(ledger, plan)
    assert year(ledger, CARRIED).parts_nano[0] == (2 + 1 + 1 + 2) * NATS


def test_an_entry_that_exceeds_the_plan_that_it_names_is_found(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasites.ledger.years.Year.holds", lambda *_: True)
    monkeypatch.setattr("datasites.ledger.admission.Standing._check_year", lambda *_: None)
    ask(ledger, clock, TWO_A_YEAR, ONE, 3)
    with pytest.raises(LedgerDamaged, match="part of 2026"):
        ledger.verify()


def test_what_a_copy_had_lost_counts_in_the_year_in_which_it_is_charged(
    tmp_path: Path, ledger: Ledger, clock: Clock
) -> None:
    spend(ledger, clock, TWO_A_YEAR)
    ledger.backup(tmp_path / "copy.db")
    clock.now = datetime(2027, 5, 1, tzinfo=UTC)
    with Ledger.open(tmp_path / "copy.db", clock=clock) as copy:
        copy.recovery.mark_restored(actor="owner")
        copy.recovery.accept_older(actor="owner", spent={"city": 4.0})
        assert year(copy, TWO_A_YEAR).added >= 3.0
        with pytest.raises(BudgetExceeded, match="part of 2027"):
            ask(copy, clock, TWO_A_YEAR)
        copy.verify()


def test_a_run_of_last_year_that_ends_in_this_one_is_spent_in_this_one(ledger: Ledger, clock: Clock) -> None:
    clock.now = datetime(2026, 12, 31, 23, tzinfo=UTC)
    run = running(ledger, ask(ledger, clock, TWO_A_YEAR), 1, ONE)
    clock.now = datetime(2027, 1, 1, 1, tzinfo=UTC)
    ledger.runs.settle(run.id, b"release", "digest", "{}")
    assert (year(ledger, TWO_A_YEAR).added, year(ledger, TWO_A_YEAR).left) == (1.0, 1.0)


def test_the_first_training_of_a_year_adds_what_turning_delta_into_epsilon_costs(ledger: Ledger) -> None:
    approved(ledger, GAUSSIAN, rounds=1)
    conversion = ledger.budgets.balance("city").conversion_nano
    assert year(ledger, TWO_A_YEAR).added == (GAUSSIAN.divergence_nano + conversion) / NATS


AMOUNTS = st.builds(Amount, st.integers(1, 3 * NATS), st.integers(1, 3 * NATS), st.integers(0, 1))


@settings(max_examples=200, deadline=None)
@given(
    added=st.lists(st.builds(Charged, AMOUNTS, AMOUNTS), min_size=1, max_size=5),
    epsilon=st.floats(0.001, 5),
    since=st.none() | st.integers(2020, 2030),
)
def test_what_years_may_add_together_is_never_more_than_their_parts(
    added: list[Charged], epsilon: float, since: int | None
) -> None:
    """Over all years since what is left carries over; of one year alone, where it lapses."""
    openings = {2026 + number: sum(added[:number], NOWHERE) for number in range(len(added))}
    last, used = 2025 + len(added), sum(added, NOWHERE)
    now = year_from(YearlyPlan(epsilon, since), last, 2026, openings.__getitem__, used, NATS)
    part = int(epsilon * NATS) + 1
    years = 1 if since is None else last - min(max(2026, since), last) + 1
    assert all(allowed <= years * part for allowed in now.parts_nano)
    if since is None or since >= last:
        assert now.parts_nano[0] <= part
    assert min(now.added_nano()) >= 0
    assert now.short_nano(NOWHERE) == 0
