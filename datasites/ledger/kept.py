"""Parts of a population's budget that are kept for projects: how they are stored, and which request draws on which.

A request draws on the part of a project where it is filed under the project, its researcher is among those whom the
owner named for the part, and the part is kept for releases of its kind. Naming a project is therefore not enough: its
name may be known to others. What is drawn is drawn from the part first, and beyond it from what all share.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from datasites.ledger.amounts import COLUMNS, Amount, Charged, Kept
from datasites.ledger.projects import HAS_ENDED
from datasites.ledger.records import CodeRequestRecord
from policies.privacy.nano import nano_down

_TRAINING = tuple(f"training_{name}" for name in COLUMNS)
_HELD_OUT = tuple(f"held_out_{name}" for name in COLUMNS)
_DRAWN = ", ".join(f"{name} = {name} + ?" for name in (*_TRAINING, *_HELD_OUT))
_PART = "SELECT parts.*, projects.name AS project_name FROM parts JOIN projects ON projects.id = parts.project"


@dataclass(frozen=True)
class Part:
    """What is kept of a population's budget for a project. `id` is the number of the entry that made it."""

    id: int
    project: str
    project_name: str
    population: str
    epsilon: float
    researchers: tuple[str, ...]
    kept: Kept


def parts_in(db: sqlite3.Connection, population: str, now: str) -> tuple[Part, ...]:
    """The parts of a population whose projects go on, in the order in which they were made."""
    query = f"{_PART} WHERE parts.ended_at IS NULL AND parts.population = :population AND NOT {HAS_ENDED} ORDER BY id"
    return tuple(map(part_from, db.execute(query, {"population": population, "today": now[:10]})))


def ended_parts(db: sqlite3.Connection, now: str) -> tuple[Part, ...]:
    """Parts whose projects have ended, and that no entry has freed yet."""
    query = f"{_PART} WHERE parts.ended_at IS NULL AND {HAS_ENDED} ORDER BY id"
    return tuple(map(part_from, db.execute(query, {"today": now[:10]})))


def part_for(db: sqlite3.Connection, record: CodeRequestRecord, total: Charged, now: str) -> Part | None:
    """The part that a request draws on, where there is one that it may draw on."""
    if record.population is None or record.by_owner:
        return None
    filed = db.execute("SELECT project FROM filed WHERE request = ?", (record.id,)).fetchone()
    for part in parts_in(db, record.population, now) if filed is not None else ():
        if part.project == filed["project"] and may_draw(part, record.researcher, total):
            return part
    return None


def drawn_part(db: sqlite3.Connection, request: str) -> Part | None:
    """The part that a request was approved out of, if it goes on."""
    query = f"{_PART} JOIN drawn ON drawn.part = parts.id WHERE drawn.request = ? AND parts.ended_at IS NULL"
    row = db.execute(query, (request,)).fetchone()
    return None if row is None else part_from(row)


def may_draw(part: Part, researcher: str, total: Charged) -> bool:
    """Whether the owner named a researcher for a part, and keeps it for releases of this kind."""
    return researcher in part.researchers and part.kept.holds_kind(total)


def draw(db: sqlite3.Connection, part: Part, request: str, total: Charged) -> None:
    """Let an approval draw `total` on a part."""
    db.execute("INSERT INTO drawn VALUES (?, ?)", (request, part.id))
    _add_drawn(db, part.id, total)


def put_back(db: sqlite3.Connection, request: str, total: Charged) -> None:
    """Put what no run of a request touched back into the part that it was drawn on; of others nothing happens."""
    row = db.execute("SELECT part FROM drawn WHERE request = ?", (request,)).fetchone()
    if row is not None:
        _add_drawn(db, row["part"], total * -1)


def _add_drawn(db: sqlite3.Connection, part: int, total: Charged) -> None:
    values = (*total.training.as_row(), *total.held_out.as_row(), part)
    db.execute(f"UPDATE parts SET {_DRAWN} WHERE id = ?", values)


def part_from(row: sqlite3.Row) -> Part:
    """The part of a row of the table, joined with its project's name."""
    drawn = Charged(*(Amount(*(row[name] for name in names)) for names in (_TRAINING, _HELD_OUT)))
    return Part(
        id=row["id"],
        project=row["project"],
        project_name=row["project_name"],
        population=row["population"],
        epsilon=row["epsilon"],
        researchers=tuple(json.loads(row["researchers"])),
        kept=Kept(nano_down(row["epsilon"]), bool(row["with_training"]), drawn),
    )
