"""A ledger in a directory that is copied and put back, with a witness outside of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from datasites.ledger.ledger import Ledger
from datasites.ledger.witness import Witness
from tests.datasites.ledger.ledger_factories import (
    Clock,
    new_ledger,
)


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
