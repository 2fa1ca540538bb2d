"""The witness: an old copy is refused, and what its own crashes and faults do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from datasites.ledger.ledger import Ledger
from datasites.ledger.witness import Witness
from policies.errors import LedgerBehind, LedgerDamaged, Unavailable
from tests.datasites.ledger.copied_ledger import House
from tests.datasites.ledger.ledger_factories import (
    GAUSSIAN,
    LAPLACE,
    approved,
    new_ledger,
    released,
)

ONCE = GAUSSIAN.divergence_nano


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
        other.recovery.attach(Witness(house.witness_path, new=False))
