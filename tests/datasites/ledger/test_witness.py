"""A ledger that was put back from a copy: found by its witness, closed until accepted, nothing spent is forgotten."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from datasites.ledger.amounts import Amount

from datasites.ledger.entries import EntryKind
from datasites.ledger.ledger import Ledger
from datasites.ledger.witness import Witness
from policies.errors import InvalidRequest, LedgerBehind, LedgerDamaged, Unavailable, WrongStatus
from policies.source.statuses import RequestStatus
from tests.datasites.ledger.ledger_factories import (
    BUDGET,
    GAUSSIAN,
    LAPLACE,
    ORDER,
    Clock,
    approve,
    approved,
    checked,
    new_ledger,
    released,
    running,
)

ONCE = GAUSSIAN.divergence_nano


class House:
    """A ledger, its witness on another volume, and copies of the ledger."""

    def __init__(self, root: Path) -> None:
        self.root, self.clock = root, Clock()
        (root / "data").mkdir()
        (root / "elsewhere").mkdir()
        self.path, self.witness_path = root / "data" / "ledger.db", root / "elsewhere" / "witness"
        self.ledger = new_ledger(self.path, self.clock)
        self.witness: Witness | None = None

    def attach(self) -> Ledger:
        self.witness = Witness(self.witness_path, new=not self.ledger.recovery.is_witnessed)
        self.ledger.recovery.attach(self.witness)
        return self.ledger

    def copy(self, name: str = "copy") -> Path:
        self.ledger.backup(self.root / name)
        return self.root / name

    def shut(self) -> None:
        self.ledger.close()
        if self.witness is not None:
            self.witness.close()
        self.witness = None

    def put_back(self, copy: Path, *, marked: bool = True) -> Ledger:
        """The ledger replaced by a copy, as `datasite restore` does it, or by hand."""
        self.shut()
        for each in self.path.parent.iterdir():
            each.unlink()
        shutil.copy(copy, self.path)
        self.ledger = Ledger.open(self.path, clock=self.clock)
        if marked:
            self.ledger.recovery.mark_restored(actor="os:root")
        return self.ledger

    def accept_older(self) -> Ledger:
        """As `datasite accept-restored --accept-older` does it."""
        self.ledger.recover()
        witness = Witness(self.witness_path, new=True)
        self.ledger.recovery.accept_older(actor="os:root", witness=witness)
        self.ledger.recovery.follow_with(witness)
        self.witness = witness
        return self.ledger

    @property
    def spent(self) -> int:
        return self.ledger.budgets.balance("city").spent_nano

    @property
    def used(self) -> int:
        balance = self.ledger.budgets.balance("city")
        return balance.spent_nano + balance.reserved_nano


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.mark.parametrize("marked", [True, False])
def test_an_old_copy_is_refused_and_the_error_names_both_numbers(house: House, marked: bool) -> None:
    released(house.attach(), approved(house.ledger))
    copy, then = house.copy(), house.ledger.entries.head().seq
    released(house.ledger, approved(house.ledger))
    now = house.ledger.entries.head().seq
    house.put_back(copy, marked=marked)
    with pytest.raises(LedgerBehind, match="accept-restored --accept-older") as caught:
        house.attach()
    assert caught.value.seq == then + marked  # type: ignore[attr-defined]
    assert caught.value.witnessed == now  # type: ignore[attr-defined]


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


# -- crashes and faults of the witness itself ------------------------------------------------------------------------


def test_a_ledger_ahead_of_its_witness_is_fine(house: House) -> None:
    house.attach()
    house.shut()
    house.ledger = Ledger.open(house.path, clock=house.clock)
    released(house.ledger, approved(house.ledger))  # as if it was killed before the line was written
    house.attach()
    assert house.witness is not None
    assert house.witness.last is not None
    assert house.witness.last.seq == house.ledger.entries.head().seq


@pytest.mark.parametrize("torn", [b"{", b'{"hash":"00","ledger":"x"', b"\0" * 40])
def test_what_a_crash_left_of_a_line_is_cut_off(house: House, torn: bytes) -> None:
    house.attach()
    house.shut()
    whole = house.witness_path.read_bytes()
    house.witness_path.write_bytes(whole + torn)
    house.ledger = Ledger.open(house.path, clock=house.clock)
    house.attach()
    approved(house.ledger)
    lines = house.witness_path.read_bytes().splitlines()
    assert whole.splitlines() == lines[: len(whole.splitlines())]
    house.shut()
    Witness(house.witness_path, new=False).close()


def test_a_damaged_line_is_refused(house: House) -> None:
    house.attach()
    approved(house.ledger)
    house.shut()
    lines = house.witness_path.read_bytes().splitlines(keepends=True)
    house.witness_path.write_bytes(b"".join([b"x" + lines[0][1:], *lines[1:]]))
    with pytest.raises(LedgerDamaged, match="Line 1"):
        Witness(house.witness_path, new=False)


def test_nothing_is_admitted_while_the_witness_cannot_be_written(house: House) -> None:
    request = approved(house.attach())
    run = house.ledger.runs.admit(request, 1, "w", GAUSSIAN)
    with pytest.MonkeyPatch.context() as full:
        full.setattr("datasites.ledger.witness.os.pwrite", lambda *_: 3)
        house.ledger.runs.start(run.id)  # committed, and its line is owed; the reservation before it was witnessed
        with pytest.raises(Unavailable, match="cannot be written"):
            house.ledger.runs.admit(request, 2, "w", GAUSSIAN)
        with pytest.raises(Unavailable, match="cannot be written"):
            house.ledger.runs.settle(run.id, b"", "d", "{}")
    house.ledger.runs.settle(run.id, b"", "d", "{}")
    house.ledger.verify()
    assert house.witness is not None
    assert house.witness.last is not None
    assert house.witness.last.seq == house.ledger.entries.head().seq
    house.shut()
    Witness(house.witness_path, new=False).close()  # no torn line stayed


def test_no_rows_are_read_for_a_charge_that_the_witness_does_not_know(house: House) -> None:
    house.attach()
    with pytest.MonkeyPatch.context() as full:
        full.setattr("datasites.ledger.witness.os.pwrite", lambda *_: 3)
        with pytest.raises(Unavailable):
            house.ledger.charge_now("city", LAPLACE, dataset="flu", version="v1", actor="owner", what="count")
    house.ledger.recover()
    assert not house.ledger.runs.list(status="running")
    house.ledger.verify()


@pytest.mark.parametrize("harm", ["removed", "replaced", "written"])
def test_a_witness_that_somebody_touched_stops_admission(house: House, harm: str) -> None:
    house.attach()
    if harm == "removed":
        house.witness_path.unlink()
    elif harm == "replaced":
        shutil.copy(house.witness_path, house.root / "other")
        os.replace(house.root / "other", house.witness_path)
    else:
        with house.witness_path.open("ab") as file:
            file.write(b"{}\n")
    with pytest.raises(Unavailable, match="Nothing was done"):
        approved(house.ledger)


def test_a_missing_witness_is_not_made_anew(house: House) -> None:
    house.attach()
    house.shut()
    house.witness_path.unlink()
    house.ledger = Ledger.open(house.path)
    with pytest.raises(LedgerBehind, match="missing"):
        house.attach()


def test_two_datasites_cannot_share_a_witness(house: House, tmp_path: Path) -> None:
    house.attach()
    with pytest.raises(Unavailable, match="another datasite"):
        Witness(house.witness_path, new=False)
    house.shut()
    with new_ledger(tmp_path / "other.db") as other, pytest.raises(LedgerBehind, match="another ledger"):
        other.attach(Witness(house.witness_path, new=False))


# -- without a witness -----------------------------------------------------------------------------------------------


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
    assert (row["dataset"], row["divergence_nano"]) == ("", 1_000_000_000)
