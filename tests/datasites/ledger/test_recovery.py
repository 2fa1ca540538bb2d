"""A ledger that was put back from a copy: closed, and what it forgot is charged."""

from __future__ import annotations

import random

import pytest

from datasites.ledger.amounts import Amount
from datasites.ledger.entries import EntryKind
from datasites.ledger.ledger import Ledger
from datasites.ledger.witness import Witness
from policies.errors import InvalidRequest, LedgerBehind, WrongStatus
from policies.source.statuses import RequestStatus
from tests.datasites.ledger.copied_ledger import House
from tests.datasites.ledger.ledger_factories import (
    BUDGET,
    GAUSSIAN,
    LAPLACE,
    ORDER,
    approve,
    approved,
    checked,
    released,
    running,
)

ONCE = GAUSSIAN.divergence_nano


def test_a_copy_that_the_witness_vouches_for_goes_on_where_it_was(house: House) -> None:
    request = approved(house.attach(), rounds=3)
    released(house.ledger, request)
    house.put_back(house.copy())
    with pytest.raises(WrongStatus, match="accept-restored"):
        house.ledger.runs.admit(request, 2, "w", GAUSSIAN)
    assert house.ledger.runs.admit(request, 1, "w", GAUSSIAN).status == "released"  # what left is still fetched
    house.attach()
    released(house.ledger, request, 2)  # the study goes on
    house.ledger.verify()


def test_a_restored_ledger_approves_admits_and_charges_nothing(house: House) -> None:
    request, other = approved(house.ledger), checked(house.ledger)
    waiting = house.ledger.runs.admit(request, 2, "w", GAUSSIAN)
    house.put_back(house.copy())
    for step in (
        lambda: approve(house.ledger, other),
        lambda: house.ledger.runs.admit(request, 1, "w", GAUSSIAN),
        lambda: house.ledger.runs.start(waiting.id),
        lambda: house.ledger.charge_now("city", LAPLACE, dataset="flu", version="v1", actor="owner", what="count"),
    ):
        with pytest.raises(WrongStatus, match="restored from a copy"):
            step()
    house.ledger.verify()


def test_a_witness_that_began_after_the_restore_vouches_for_nothing(house: House) -> None:
    house.put_back(house.copy())
    house.attach()
    assert house.ledger.recovery.is_restored
    house.shut()
    house.ledger = Ledger.open(house.path)
    house.attach()
    assert house.ledger.recovery.is_restored


def test_rounds_that_a_copy_forgot_are_charged_and_its_approvals_end(house: House) -> None:
    request = approved(house.attach(), rounds=2)
    copy = house.copy()  # nothing spent, two rounds reserved
    released(house.ledger, request, 1)
    released(house.ledger, request, 2)
    house.put_back(copy)
    house.accept_older()
    # Both rounds left the house: had the copy's reservation stood for them, they could be run again unseen.
    assert house.spent == house.used == 2 * ONCE
    assert house.ledger.requests.get(request).status is RequestStatus.EXPIRED
    with pytest.raises(WrongStatus):
        house.ledger.runs.admit(request, 1, "other weights", GAUSSIAN)
    house.ledger.verify()
    house.shut()
    house.ledger = Ledger.open(house.path, clock=house.clock)
    house.attach()  # the witness knows this ledger now


def test_a_population_that_a_copy_does_not_know_comes_back_with_its_charges(house: House) -> None:
    house.attach()
    copy = house.copy()
    house.ledger.budgets.create_population("county", BUDGET, ORDER)
    approved(house.ledger, population="county", version="v2")
    before = house.ledger.budgets.balance("county")
    house.put_back(copy)
    house.accept_older()
    after = house.ledger.budgets.balance("county")
    assert after.spent_nano == before.reserved_nano == 3 * ONCE  # reserved may have run since
    assert (after.budget, after.order, after.capacity_nano) == (before.budget, before.order, before.capacity_nano)
    house.ledger.verify()


def test_two_ways_from_one_copy_are_both_charged(house: House) -> None:
    released(house.attach(), approved(house.ledger, rounds=1))
    copy = house.copy()
    released(house.ledger, approved(house.ledger, rounds=1))  # one way, witnessed: 2 spent
    house.put_back(copy, marked=False)
    for _ in range(3):
        released(house.ledger, approved(house.ledger, rounds=1))  # the other, without its witness: 1 + 3 spent
    with pytest.raises(LedgerBehind, match="another way"):
        house.attach()
    assert house.witness is not None
    house.witness.close()
    house.accept_older()
    assert house.spent == 5 * ONCE


def test_an_acceptance_that_was_cut_off_charges_once(house: House) -> None:
    request = approved(house.attach(), rounds=1)
    copy = house.copy()
    released(house.ledger, request)
    house.put_back(copy)
    witness = Witness(house.witness_path, new=False)
    house.ledger.recovery.accept_older(actor="os:root", witness=witness)
    witness.close()  # killed before the witness was told
    house.ledger.close()
    house.ledger = Ledger.open(house.path, clock=house.clock)
    with pytest.raises(LedgerBehind):
        house.attach()
    assert house.witness is not None
    house.witness.close()
    house.accept_older()
    assert house.spent == ONCE


@pytest.mark.parametrize("seed", range(12))
def test_nothing_spent_is_forgotten_whatever_copies_are_put_back(house: House, seed: int) -> None:
    """A true count is kept beside: every release that ever left, on any copy. The ledger never knows of less."""
    draw, truth, copies = random.Random(seed), 0, []
    house.attach()
    for step in range(60):
        kind = draw.choice(("release", "release", "reserve", "close", "fail", "copy", "put back", "crash"))
        open_requests = house.ledger.requests.list(status="approved")
        if kind in ("release", "fail") and open_requests and house.ledger.recovery.is_restored is False:
            request = draw.choice(open_requests)
            taken = {each.round for each in house.ledger.runs.list(request.id) if each.status == "released"}
            free = [each for each in range(1, request.rounds + 1) if each not in taken]
            if request.runs_left and free:
                run = running(house.ledger, request.id, free[0])
                truth += ONCE  # from here it may have left
                if kind == "release":
                    house.ledger.runs.settle(run.id, b"", f"digest {step}", "{}")
                else:
                    house.ledger.runs.fail(run.id)
        elif kind == "reserve" and house.ledger.budgets.balance("city").capacity_nano > house.used + 4 * ONCE:
            approved(house.ledger, rounds=draw.choice((1, 4)))
        elif kind == "close" and open_requests:
            house.ledger.transition(draw.choice(open_requests).id, "revoked", actor="owner")
        elif kind == "copy":
            copies.append(house.copy(f"copy-{step}"))
        elif kind == "crash":
            house.shut()
            house.ledger = Ledger.open(house.path, clock=house.clock)
            house.attach()
            house.ledger.recover()
        elif kind == "put back" and copies:
            house.put_back(draw.choice(copies), marked=draw.random() < 0.5)
            try:
                house.attach()
            except LedgerBehind:
                assert house.witness is not None
                house.witness.close()
                house.accept_older()
        assert house.spent >= truth
        assert house.ledger.budgets.balance("city").reserved_nano == sum(
            (each.rounds - each.attempts) * ONCE for each in house.ledger.requests.list(status="approved")
        )
    house.ledger.verify()


def test_the_newest_certificate_opens_a_copy_that_holds_it_and_no_older_one(house: House) -> None:
    request = approved(house.ledger)
    released(house.ledger, request, 1)
    known, copy = house.ledger.entries.head(), house.copy()
    released(house.ledger, request, 2)
    newer = house.ledger.entries.head()
    house.put_back(copy)
    with pytest.raises(LedgerBehind, match=f"does not hold entry {newer.seq}"):
        house.ledger.recovery.accept_as_newest(newer, actor="owner")
    assert house.ledger.recovery.is_restored
    house.ledger.recovery.accept_as_newest(known, actor="owner")
    released(house.ledger, request, 2)
    house.ledger.verify()


def test_what_the_owner_says_was_spent_is_charged_and_never_less(house: House) -> None:
    released(house.ledger, approved(house.ledger, rounds=3))
    house.put_back(house.copy())
    known = house.ledger.budgets.balance("city").epsilon_spent
    for spent, why in (({}, "Say what was spent"), ({"city": 0.1}, "Say at least"), ({"town": 3.0}, "city")):
        with pytest.raises(InvalidRequest, match=why):
            house.ledger.recovery.accept_older(actor="owner", spent=spent)
    house.ledger.recovery.accept_older(actor="owner", spent={"city": known + 1})
    assert house.ledger.budgets.balance("city").epsilon_spent >= known + 1
    assert house.ledger.budgets.balance("city").reserved_nano == 0
    house.ledger.verify()


@pytest.mark.parametrize(("said", "pure"), [(0.4, True), (3.0, True), (3.0, False), (6.0, False), (50.0, True)])
def test_no_way_to_spend_what_was_said_costs_more_than_what_is_charged(house: House, said: float, pure: bool) -> None:
    """At any order the divergence of a pure ε is at most ε; with Gaussian noise in it, it is ε less the conversion."""
    if not pure:
        released(house.ledger, approved(house.ledger, rounds=1))
    house.put_back(house.copy())
    house.ledger.recovery.accept_older(actor="owner", spent={"city": said})
    balance = house.ledger.budgets.balance("city")
    conversion = round(balance.budget.epsilon * 1e9) - balance.capacity_nano
    assert balance.spent_nano >= round(said * 1e9) - (0 if pure else conversion)
    assert balance.epsilon_spent >= said
    house.ledger.verify()


def test_a_lost_charge_takes_an_amount_and_no_request(house: House) -> None:
    house.put_back(house.copy())
    house.ledger.recovery.accept_older(actor="owner", spent={"city": 1.0})
    (lost,) = [each for each in house.ledger.entries.list() if each.kind is EntryKind.LOST]
    assert lost.amount == Amount(1_000_000_000, 0, 1, 0)
    assert (lost.request, lost.run) == (None, None)
    (row,) = house.ledger.budgets.spending("city")
    assert (row.dataset, row.charged.divergence_nano) == ("", 1_000_000_000)
