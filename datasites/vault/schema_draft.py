"""Draft a `schema.toml` from a table's header, for the owner to finish.

The finished schema is public, so nothing in a draft comes from the values of the table but a guess of each column's
kind: no bound, no category, no missing constant. Those stay commented until the owner types them, and
`Schema.from_toml` refuses a draft that is not finished. Column names are the table's own; the owner reads them anyway.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datasites.vault.cells import MALFORMED, arrow_array, read_cells
from datasites.vault.tables import SqlQuery, read_table
from policies.errors import DataRefused
from policies.schema.columns import Column, check_name
from policies.schema.toml import quoted

PATIENT_NAMES = ("patient_id", "patient", "patientid", "patient_number", "mrn", "subject_id", "person_id", "pid")
ROWS_FOR_A_GUESS = 10_000

TOP = """\
# Draft of a schema for {source}. It becomes public with the dataset: type only what anybody may know.
# Bounds and categories are left for you. Take them from what is possible, not from what is in the table.
name = {name}
population = ""          # fill in: the patients; every table about them shares one budget
description = ""
patient = {patient}          # {patient_note}
# target = ""            # the column to predict, if there is one: a boolean, a category or a number
holdout = 0.2            # share of patients kept for evaluation, 0 to 0.5
"""

BODIES = {
    "real": 'unit = ""\n# minimum =            # fill in\n# maximum =            # fill in',
    "integer": 'unit = ""\n# minimum =            # fill in\n# maximum =            # fill in',
    "date": "# minimum =            # fill in, as 2020-01-01\n# maximum =            # fill in",
    "boolean": "",
    "category": '# categories = []      # fill in every possible label, as ["a", "b"]; none is copied for you',
}
REST = 'missing = "refuse"      # or {constant = ..., indicator = true}'


def draft_schema(source: Path | str | SqlQuery, *, title: str = "") -> str:
    """TOML text of a draft: names and guessed kinds, everything else to fill in. Raises `DataRefused`.

    Args:
      title: the file's name as people know it, where it is another one's here.
    """
    frame = read_table(source)
    names = [str(name) for name in frame.columns]
    for name in names:
        if _looks_like_data(name):
            raise DataRefused("The first row looks like values, not names. Put a row with the columns' names above it.")
    patient = next((name for name in names if name.lower().replace(" ", "_") in PATIENT_NAMES), "")
    called = "" if isinstance(source, SqlQuery) else Path(title or source).name
    title, stem = called or "the query", _safe(Path(called).stem)
    note = "identifies a patient; never a feature" if patient else "fill in: the column that identifies a patient"
    parts = [TOP.format(source=repr(title), name=quoted(stem), patient=quoted(patient), patient_note=note)]
    head = frame.head(ROWS_FOR_A_GUESS)
    parts += [_table(name, arrow_array(head[name])) for name in names if name != patient]
    parts.append('# [sequences]\n# fever = ["day_1", "day_2"]      # columns in order, one step each\n')
    return "\n".join(parts)


def _table(name: str, array: Any) -> str:
    import pyarrow as pa

    try:
        check_name("column", name)
    except DataRefused as refusal:
        return f"# {name[:60]!r} is left out. {refusal}\n# Rename it in the table.\n"
    try:
        kind = _guessed_kind(array)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return f"# {quoted(name)} is left out: its cells are lists, records or bytes. Make plain columns of it.\n"
    lines = [f"[columns.{quoted(name)}]", f'kind = "{kind}"      # guessed', BODIES[kind], REST]
    return "\n".join(line for line in lines if line) + "\n"


def _guessed_kind(array: Any) -> str:
    """The narrowest kind that every cell fits."""
    wide = {"minimum": -1e15, "maximum": 1e15}
    tried = (
        Column(name="guess", kind="boolean"),
        Column(name="guess", kind="integer", **wide),  # type: ignore[arg-type]
        Column(name="guess", kind="real", **wide),  # type: ignore[arg-type]
        Column(name="guess", kind="date", minimum=0, maximum=1, origin="2000-01-01"),
    )
    for column in tried:
        values, flags = read_cells(column, array)
        if not np.any(flags == MALFORMED) and np.any(np.isfinite(values)):
            return column.kind
    return "category"


def _looks_like_data(name: str) -> bool:
    return not name.strip() or name[0].isdigit() or (name[0] in "+-." and name[1:2].isdigit())


def _safe(name: str) -> str:
    try:
        check_name("dataset", name)
    except DataRefused:
        return ""
    return name
