"""Parts of a population's budget that the owner keeps for projects: kept, changed, and freed with their project.

Nobody else's request is approved out of a part, and its project's are approved out of it first. A part is no promise of
an approval: each request is decided as any other, and a yearly plan or a researcher's limit holds within it too. It is
freed when the owner says so, and with the last day or the closing of its project, in an entry of its own.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from datasites.ledger.amounts import Charged, Kept
from datasites.ledger.budgets import Budgets, check_population
from datasites.ledger.entries import Entries, EntryKind
from datasites.ledger.kept import Part, drawn_part, ended_parts, part_for, parts_in
from datasites.ledger.projects import find_project
from datasites.ledger.records import CodeRequestRecord
from datasites.ledger.store import Store
from policies.errors import BudgetExceeded, InvalidRequest, WrongStatus
from policies.privacy.nano import NANO, nano_down

MOST_RESEARCHERS = 100


class Parts:
    """The parts of a store's budgets."""

    def __init__(self, store: Store, entries: Entries, budgets: Budgets) -> None:
        self._store, self._entries, self._budgets = store, entries, budgets

    def list(self, population: str) -> tuple[Part, ...]:
        """What is kept of a population's budget, in the order in which it was kept first."""
        with self._store.reading() as db:
            return parts_in(db, population, self._store.now())

    def of(self, record: CodeRequestRecord, total: Charged) -> Part | None:
        """The part that a request was approved out of, or, while it waits, would be."""
        with self._store.reading() as db:
            return drawn_part(db, record.id) or part_for(db, record, total, self._store.now())

    def any_ended(self) -> bool:
        """Whether a project has ended for which something is kept."""
        with self._store.reading() as db:
            return bool(ended_parts(db, self._store.now()))

    def keep(
        self,
        project: str,
        population: str,
        epsilon: float,
        researchers: tuple[str, ...],
        *,
        with_training: bool = True,
        actor: str,
    ) -> Part:
        """Keep `epsilon` of a population's budget for a project, or change what is kept to that in all.

        Args:
          researchers: whose requests may draw on it, where they are filed under the project.
          with_training: keep it for releases without a pure ε, too.

        Raises:
          InvalidRequest: ε is not from 0.000001 to 100, nobody is named, or there is no such project or population.
          WrongStatus: the project has ended.
          BudgetExceeded: what is left does not hold it; nothing is kept.
        """
        if not 1e-6 <= epsilon <= 100:
            raise InvalidRequest(f"ε={epsilon} cannot be reserved for a project. Give 0.000001 to 100.")
        if not 1 <= len(researchers) <= MOST_RESEARCHERS:
            raise InvalidRequest(f"Name 1 to {MOST_RESEARCHERS} researchers who may draw on it.")
        with self._store.writing() as db:
            self._entries.check_open(db)
            self.free_ended(db)
            check_population(db, population)
            now, found = self._store.now(), find_project(db, project)
            if found.has_ended(now):
                raise WrongStatus(found.why_ended)
            before = next((part for part in parts_in(db, population, now) if part.project == found.id), None)
            kept = Kept(nano_down(epsilon), with_training, *([before.kept.drawn] if before else []))
            self._check_fits(db, population, before, kept)
            facts: dict[str, Any] = {
                "project": found.id,
                "epsilon": repr(float(epsilon)),
                "with_training": with_training,
                "researchers": sorted(set(researchers)),
            }
            if before is not None:
                facts["part"] = before.id
            entry = self._entries.append(db, EntryKind.PART, actor, population=population, **facts)
            values = (epsilon, int(with_training), json.dumps(facts["researchers"]))
            if before is None:
                db.execute(
                    "INSERT INTO parts (epsilon, with_training, researchers, id, project, population)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (*values, entry.seq, found.id, population),
                )
            else:
                query = "UPDATE parts SET epsilon = ?, with_training = ?, researchers = ? WHERE id = ?"
                db.execute(query, (*values, before.id))
            return next(part for part in parts_in(db, population, now) if part.project == found.id)

    def free(self, project: str, population: str, *, actor: str) -> Part:
        """Free what is kept of a population's budget for a project; what it has drawn stays drawn.

        Raises `InvalidRequest` where nothing is kept.
        """
        with self._store.writing() as db:
            found = find_project(db, project)
            for part in parts_in(db, population, self._store.now()):
                if part.project == found.id:
                    self._free(db, part, actor, "freed")
                    return part
        raise InvalidRequest(f"Nothing of the budget of {population[:80]!r} is reserved for the project {found.name}.")

    # Within a transaction

    def free_ended(self, db: sqlite3.Connection) -> None:
        """Free the parts of projects that have ended, each with its entry."""
        for part in ended_parts(db, self._store.now()):
            self._free(db, part, "datasite", "the project has ended")

    def _free(self, db: sqlite3.Connection, part: Part, actor: str, how: str) -> None:
        facts: dict[str, Any] = {"part": part.id, "project": part.project, "epsilon": None, "how": how}
        entry = self._entries.append(db, EntryKind.PART, actor, population=part.population, **facts)
        db.execute("UPDATE parts SET ended_at = ? WHERE id = ?", (entry.at, part.id))

    def _check_fits(self, db: sqlite3.Connection, population: str, before: Part | None, kept: Kept) -> None:
        """Raise `BudgetExceeded` where more would be kept than is left. Keeping less always fits."""
        if before is not None and before.kept.left().covers(kept.left()):
            return
        standing = self._budgets.standing_in(db, population, plan=None, researchers=(), limit=None)
        balance = standing.without(before.id if before else None).balance_for()
        if not balance.holds(kept.left()):
            left = balance.epsilon_remaining_with_training if kept.with_training else balance.epsilon_remaining
            raise BudgetExceeded(
                f"ε={kept.epsilon_nano / NANO:g} cannot be reserved of population {population!r}:"
                f" ε={int(left * 10_000) / 10_000:.4f} is left"
                f"{' once a model is trained' if kept.with_training else ''}. Reserve less, or raise the budget.",
                requested=kept.epsilon_nano / NANO,
                remaining=left,
                short=max(0.0, kept.epsilon_nano / NANO - left),
            )
