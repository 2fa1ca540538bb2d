"""Recover a ledger restored from a copy: closed until it is shown to be the newest, or what it forgot is charged.

What was spent after a copy was made is not in the copy. Somebody else may know: the witness (`witness.py`), a
certificate that is younger than the copy, or the owner. Whoever it is, the charge is never less than the truth:

* A witness whose newest line the chain goes through knows of nothing more. Nothing is charged.
* A witness that knows more: let k be the newest of its lines that the chain goes through, U what was spent and reserved
  when its newest line was written, and S what was spent up to entry k. All that was spent anywhere is at most U and
  what this chain spent after k, so U - S is charged. (Reserved is charged as spent: rounds may have run since.)
  It is charged to each of a population's two accounts apart where the ledger splits its patients as the witness says,
  else the larger to both: a patient who trained then may be held out now.
* A certificate that the chain goes through, of which the owner says that it is the newest there is. Nothing is charged.
* Else the owner says what was spent in all, and the difference is charged.

Where anything may be missing, every approval ends: it may have been used up or revoked since the copy was made, and a
round that ran twice under it would be a second release.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasites.ledger.amounts import Amount, Charged
from datasites.ledger.budgets import Budgets, population_row, spent_up_to, split_of
from datasites.ledger.chain import Head, head_of, ledger_name
from datasites.ledger.entries import Entries, Entry, EntryKind, restored_at
from datasites.ledger.requests import find_request
from datasites.ledger.runs import Runs
from datasites.ledger.store import Store
from datasites.ledger.witness import Witness, check_not_behind, goes_through, state_of
from policies.errors import InvalidRequest, LedgerBehind
from policies.privacy.mechanisms import Patients
from policies.privacy.nano import nano_up
from policies.source.statuses import RequestStatus

GROUPS = (Patients.TRAINING, Patients.HELD_OUT)  # in the order of `Charged.accounts`
_WITNESSED = "SELECT 1 FROM meta WHERE name = 'witnessed'"


@dataclass(frozen=True)
class Accepted:
    """What accepting a restored ledger did: charges by population, and how many approvals ended."""

    lost: Mapping[str, Charged]
    ended: int


class Recovery:
    """What becomes of a store that was put back from a copy, and who vouches for it."""

    def __init__(self, store: Store, entries: Entries, budgets: Budgets, runs: Runs) -> None:
        self._store, self._entries, self._budgets, self._runs = store, entries, budgets, runs
        self._witness: Witness | None = None

    @property
    def witness(self) -> Witness | None:
        """Who follows every entry; None where nobody does."""
        return self._witness

    @witness.setter
    def witness(self, witness: Witness | None) -> None:
        self._witness = self._store.follower = witness

    def attach(self, witness: Witness) -> None:
        """Let `witness` follow every entry from now on; a restored ledger that it vouches for is accepted.

        It vouches where it has seen nothing that the ledger does not hold. What it only saw after the ledger was put
        back says nothing of what was before.

        Raises:
          LedgerBehind: the ledger is older than the witness, or went another way.
        """
        if witness.last is None and self.is_witnessed:
            raise LedgerBehind(f"The witness {witness.path} is empty and was not. Put it back: see accept-restored.")
        with self._store.reading() as db:
            check_not_behind(db, witness)
            vouched = witness.last is not None and witness.last.seq < restored_at(db)
        if vouched:
            self._accept(how="witness")
        self.follow_with(witness)

    def is_of(self, witness: Witness) -> bool:
        """Whether a witness is this ledger's, or new."""
        with self._store.reading() as db:
            return witness.last is None or witness.last.ledger == ledger_name(db)

    def follow_with(self, witness: Witness) -> None:
        """Bring `witness` up to this ledger as it is, whatever it knew, and let it follow."""
        with self._store.writing() as db:
            witness.write(state_of(db))
            db.execute("INSERT OR IGNORE INTO meta VALUES ('witnessed', '1')")
            self.witness = witness

    @property
    def is_witnessed(self) -> bool:
        """Whether this ledger has ever had a witness."""
        with self._store.reading() as db:
            return db.execute(_WITNESSED).fetchone() is not None

    @property
    def is_restored(self) -> bool:
        """Whether this ledger was put back from a copy and admits nothing until it is accepted."""
        with self._store.reading() as db:
            return restored_at(db) > 0

    def mark_restored(self, *, actor: str, **facts: Any) -> Entry:
        """Close a ledger that was put back from a copy: nothing is approved, admitted or started from now on."""
        with self._store.writing() as db:
            return self._entries.append(db, EntryKind.RESTORE, actor, **facts)

    def accept_as_newest(self, head: Head, *, actor: str) -> Accepted:
        """Open a restored ledger whose chain goes through `head`, the newest that was ever handed out.

        Raises `LedgerBehind` where it does not: the copy is older.
        """
        with self._store.reading() as db:
            end = head_of(db, "entries")[0]
            row = db.execute("SELECT hash FROM entries WHERE seq = ?", (head.seq,)).fetchone()
        if row is None or row["hash"] != head.hash:
            raise LedgerBehind(
                f"The ledger ends at entry {end} and does not hold entry {head.seq} of that certificate. This is an old"
                " copy. Put a newer one back, or say what was spent in all: `datasite accept-restored --accept-older"
                " --spent POPULATION=EPSILON`.",
                seq=end,
                witnessed=head.seq,
            )
        return self._accept(how="certificate", actor=actor, shown=head.seq)

    def accept_older(
        self, *, actor: str, witness: Witness | None = None, spent: Mapping[str, float] | None = None
    ) -> Accepted:
        """Open an older ledger: what it forgot is charged, and every approval ends.

        Args:
          witness: charges what it knows.
          spent: without a witness, the ε that was spent of each population in all, as its owner says.

        Raises:
          InvalidRequest: a population is missing in `spent`, is not known, or more was spent than is said.
        """
        seen = witness.last if witness is not None else None
        if witness is not None and seen is not None:
            with self._store.reading() as db:
                if seen.ledger != ledger_name(db):
                    raise LedgerBehind(f"The witness {witness.path} is of another ledger. Nothing was done.")
                again = db.execute(
                    "SELECT 1 FROM entries WHERE kind = 'accept' AND json_extract(details, '$.witnessed') = ?",
                    (seen.hash,),
                ).fetchone()
                lost = {} if again else _lost_since(db, witness)
            known = self._budgets.populations()
            unknown = {name: facts for name, facts in seen.populations.items() if name not in known}
            return self._accept(
                how="older, witness", actor=actor, lost=lost, unknown=unknown, end=True, witnessed=seen.hash
            )
        lost = self._lost_as_stated(spent or {})
        return self._accept(how="older, owner", actor=actor, lost=lost, end=True, said=_as_text(spent or {}))

    def _lost_as_stated(self, stated: Mapping[str, float]) -> dict[str, Charged]:
        """What to charge so that each population has spent what its owner says, rounded against ourselves."""
        known = self._budgets.populations()
        if set(stated) != set(known):
            raise InvalidRequest(
                "Say what was spent in all of each population, as --spent NAME=EPSILON. The populations are"
                f" {', '.join(known) or 'none'}."
            )
        lost = {}
        with self._store.reading() as db:
            for name, epsilon in stated.items():
                row = population_row(db, name)
                lost[name] = _missing_up_to(name, row, spent_up_to(db, name, None), epsilon)
        return lost

    def _accept(
        self,
        *,
        how: str,
        actor: str = "datasite",
        lost: Mapping[str, Charged] | None = None,
        unknown: Mapping[str, Mapping[str, Any]] | None = None,
        end: bool = False,
        **facts: Any,
    ) -> Accepted:
        """Open the ledger in one transaction, with its charges and the ends of its approvals."""
        charged = {name: amount for name, amount in (lost or {}).items() if not amount.is_nothing}
        with self._store.writing() as db:
            for name, facts_of in (unknown or {}).items():
                self._budgets.create_again(db, name, facts_of, actor)
            ended = 0
            if end:
                approved = db.execute("SELECT id FROM requests WHERE status = 'approved'").fetchall()
                for row in approved:
                    self._runs.close(db, find_request(db, row["id"]), RequestStatus.EXPIRED, actor="datasite")
                ended = len(approved)
            for name, lost_of in charged.items():
                self._charge_lost(db, name, lost_of, actor=actor, how=how)
            self._entries.append(db, EntryKind.ACCEPT, actor, how=how, ended=ended, **facts)
        return Accepted(charged, ended)

    def _charge_lost(self, db: sqlite3.Connection, name: str, lost: Charged, *, actor: str, how: str) -> None:
        """Spend what was lost, in one entry where both accounts lost the same, else in one for each that did."""
        same = lost.training == lost.held_out
        parts = [(Patients.ALL, lost.training)] if same else list(zip(GROUPS, lost.accounts, strict=True))
        for patients, amount in parts:
            if any(amount.as_row()):
                self._budgets.add(db, name, "", spent=Charged.to(patients, amount))
                facts = {} if same else {"patients": patients.value}
                self._entries.append(db, EntryKind.LOST, actor, population=name, amount=amount, how=how, **facts)


def _lost_since(db: sqlite3.Connection, witness: Witness) -> dict[str, Charged]:
    """U - S of the module's docstring, for each population that the witness knows."""
    newest = witness.last
    assert newest is not None
    common = next((line.seq for line in witness.newest_first() if goes_through(db, line)), 0)
    lost = {name: newest.used(name) - spent_up_to(db, name, common) for name in newest.populations}
    # Where the copy does not split a population as it was split since, a patient may be in either account.
    same = {name for name in lost if split_of(db, name) is not None and split_of(db, name) == newest.holdout(name)}
    return {name: charged if name in same else charged.in_both for name, charged in lost.items()}


def _missing_up_to(name: str, row: sqlite3.Row, spent: Charged, epsilon: float) -> Charged:
    """What to add to `spent` so that it comes to at least `epsilon` in each account.

    Which of the two accounts came to it nobody can say, so both do. With a release that has no pure ε among them, ε is
    divergence plus conversion. Else what was lost may have been pure throughout, and then its divergence is at most ε
    itself.
    """
    if not 0 <= epsilon <= 100:
        raise InvalidRequest(f"ε={epsilon} is outside [0, 100].")
    if nano_up(epsilon) < spent.epsilon_nano(row["conversion_nano"]):
        known = math.ceil(spent.epsilon_nano(row["conversion_nano"]) / 100_000) / 10_000
        raise InvalidRequest(f"The copy itself knows of ε={known:.4f} that was spent of {name!r}. Say at least that.")
    return Charged(*(_missing(row, account, nano_up(epsilon)) for account in spent.accounts))


def _missing(row: sqlite3.Row, spent: Amount, epsilon_nano: int) -> Amount:
    if epsilon_nano == spent.epsilon_nano(row["conversion_nano"]):
        return Amount()
    least = epsilon_nano - (row["conversion_nano"] if spent.mixed else 0)
    delta = max(0, row["delta_capacity_atto"] - spent.delta_atto)
    return Amount(max(0, least - spent.divergence_nano), 0, 1, delta)


def _as_text(spent: Mapping[str, float]) -> dict[str, str]:
    return {name: repr(float(epsilon)) for name, epsilon in spent.items()}
