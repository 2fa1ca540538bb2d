"""Draft a `schema.toml` from a table's header, for the owner to finish.

The finished schema is public, so nothing in a draft comes from the values of the table but how they are written (kinds,
decimal sign, form of dates), and the draft says where: no bound, no category, no missing constant. Those stay commented
until the owner types them, and `Schema.from_toml` refuses a draft that is not finished. With `names_only` no cell is
looked at. Column names are the table's own; the owner reads them anyway.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasites.vault.cells import MALFORMED, arrow_array, read_cells
from datasites.vault.fhir import resource_type
from datasites.vault.fhir_drafts import fhir_schema
from datasites.vault.tables import CSV, FHIR, SqlQuery, read_table, sniffed_format
from datasites.vault.tensor_draft import tensor_draft
from policies.errors import DataRefused
from policies.schema.as_written import LARGEST_HEADER, USUAL_FILE, FileFormat, normal_header
from policies.schema.columns import LARGEST_NAME, Column, check_name
from policies.schema.toml import quoted, value_text

if TYPE_CHECKING:
    import pandas as pd

PATIENT_NAMES = (
    "patient_id", "patient", "patientid", "patient_number", "patient_no", "mrn", "subject_id", "usubjid", "person_id",
    "pid", "pat_id", "patnr", "patienten_id", "patientennummer",
)  # fmt: skip
ROWS_FOR_A_GUESS = 10_000
# Words that a guess takes for missing cells, so that a number among them stays a number; the owner declares them.
WORDS_FOR_MISSING = ("NA", "N/A", "n/a", "na", "NaN", "nan", "NULL", "null", "None", "-", "--", ".", "?", "#N/A")
FORMATS = ("", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")

TOP = """\
# Draft of a schema for {source}. It becomes public with the dataset: type only what anybody may know.
# Bounds and categories are left for you. Take them from what is possible, not from what is in the table.
# {kinds}
# outside = "clamp" counts a value beyond the bounds as the bound, so that they can stay what is possible. With "refuse"
# one outlier stops publishing, and bounds that are widened until the table fits tell of its extremes.
name = {name}
population = ""          # fill in: the patients; every table about them shares one budget
description = ""
patient = {patient}          # {patient_note}
{header}# target = ""            # the column to predict, if there is one: a boolean, a category or a number
holdout = 0.2            # share of patients kept for evaluation, 0 to 0.5
# missing_values = []    # texts that stand for a missing cell, as ["NA", "n/a", "-"]; none is copied for you
"""
OFF_THE_TABLE = f"""\
Kinds are read off the table's first {ROWS_FOR_A_GUESS:,} rows, which says how their cells are written: look at each.
# `datasite schema --names-only` takes them from the columns' names, and looks at no cell."""
OFF_NAMES = "Kinds are taken from the columns' names alone; no cell was looked at."

BOUNDS = '# minimum =            # fill in{0}\n# maximum =            # fill in{0}\noutside = "clamp"'
BODIES = {
    "real": 'unit = ""\n' + BOUNDS.format(""),
    "integer": 'unit = ""\n' + BOUNDS.format(""),
    "date": BOUNDS.format(", as 2020-01-01"),
    "datetime": f"{BOUNDS.format(', as 2020-01-01T00:00:00')}"
    '\ntruncate = "hour"        # or day, minute, second: no finer than anybody needs'
    '\n# zone = ""             # whose clock it is, as "Europe/Berlin", where cells have an offset or Z',
    "boolean": "",
    "category": '# categories = []      # fill in every possible label, as ["a", "b"]; none is copied for you'
    '\n# labels = {}            # or what the table writes, and what it means, as {"M" = "male", "F" = "female"}',
    "": "# kind =                 # fill in: real, integer, boolean, category, date or datetime",
}
REST = 'missing = "refuse"      # or {constant = ..., indicator = true}'

NAMED = {
    "datetime": "time timestamp datetime zeitpunkt uhrzeit",
    "date": "date datum dob birthday admitted discharged",
    "boolean": "is has had was flag died dead deceased positive smoker",
    "integer": "age alter year jahr count number visits children",
    "category": "sex gender geschlecht ward station department race ethnicity status type class group code unit stage",
    "real": "temperature temp weight height bmi hba1c glucose pressure creatinine score value level dose mg mmol kg cm",
}
"""Words of a column's name that say what it holds; the first kind that has one."""


def draft_schema(source: Path | str | SqlQuery, *, title: str = "", names_only: bool = False) -> str:
    """TOML text of a draft: names and kinds, everything else to fill in. Raises `DataRefused`.

    Args:
      title: the file's name as people know it, where it is another one's here.
      names_only: look at no cell.
    """
    called = "" if isinstance(source, SqlQuery) else Path(title or source).name
    title, stem = called or "the query", _safe(Path(called).stem)
    path = None if isinstance(source, SqlQuery) else Path(source)
    if path is not None and path.suffix.lower() in FHIR and path.is_file():
        return fhir_schema(resource_type(path), source=repr(title), name=quoted(stem))
    file = sniffed_format(path) if path is not None and path.suffix.lower() in CSV else USUAL_FILE
    frame = read_table(source, file)
    names = [str(name) for name in frame.columns]
    for name in names:
        if _looks_like_data(name):
            raise DataRefused("The first row looks like values, not names. Put a row with the columns' names above it.")
    safe = _safe_names(names)
    patient = next((name for name in names if safe[name].lower().replace(" ", "_") in PATIENT_NAMES), "")
    head = frame.head(0 if names_only else ROWS_FOR_A_GUESS)
    if not names_only:
        file = dataclasses.replace(file, decimal=_decimal(head, file))
    note = "identifies a patient; never a feature" if patient else "fill in: the column that identifies a patient"
    parts = [
        TOP.format(
            source=repr(title),
            kinds=OFF_NAMES if names_only else OFF_THE_TABLE,
            name=quoted(stem),
            patient=quoted(safe.get(patient, "")),
            patient_note=note,
            header=f"patient_header = {quoted(normal_header(patient))}\n"
            if patient and safe[patient] != patient
            else "",
        )
    ]
    if layout := file.as_dict():
        lines = "\n".join(f"{name} = {value_text(value)}" for name, value in layout.items())
        parts.append(f"[file]                   # read off the file\n{lines}\n")
    for name in names:
        if name != patient:
            parts.append(_table(name, safe[name], None if names_only else arrow_array(head[name]), file.decimal))
    parts.append('# [sequences]\n# fever = ["day_1", "day_2"]      # columns in order, one step each\n')
    return "\n".join(parts)


def _table(header: str, name: str, array: Any, decimal: str) -> str:
    import pyarrow as pa

    shown = normal_header(header)
    if not 0 < len(shown) <= LARGEST_HEADER or not shown.isprintable() or not name:
        return (
            f"# {header[:60]!r} is left out: no name can be made of it, or it is too long.\n# Rename it in the table.\n"
        )
    if array is not None and (drafted := tensor_draft(shown, name, array)):
        return drafted
    try:
        kind, form = (_kind_by_name(name), "") if array is None else _guess(array, decimal)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return f"# {quoted(header)} is left out: its cells are lists, records or bytes. Make plain columns of it.\n"
    lines = [
        f"[columns.{quoted(name)}]",
        f"header = {quoted(shown)}" if header != name else "",
        f'kind = "{kind}"      # {"from its name" if array is None else "read off the table"}' if kind else "",
        BODIES[kind],
        f'format = "{form}"' if form else "",
        REST,
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _kind_by_name(name: str) -> str:
    """What a column's name says that it holds, or nothing."""
    apart = re.sub(r"([a-z])([A-Z])", r"\1_\2", name)  # birthDate is two words, HbA1c is one
    words = "_" + re.sub(r"[^a-z0-9]+", "_", f"{name} {apart}".lower()) + "_"
    return next((kind for kind, known in NAMED.items() if any(f"_{word}_" in words for word in known.split())), "")


def _guess(array: Any, decimal: str) -> tuple[str, str]:
    """The narrowest kind that every cell fits, and the form of its dates where it is not ISO 8601."""
    wide = {"minimum": -1e15, "maximum": 1e15}
    columns = [
        Column(name="guess", kind="boolean"),
        Column(name="guess", kind="integer", **wide),  # type: ignore[arg-type]
        Column(name="guess", kind="real", **wide),  # type: ignore[arg-type]
    ]
    day, moment = {"maximum": 1, "origin": "2000-01-01"}, {"maximum": 1, "origin": "2000-01-01T00:00:00"}
    for form in FORMATS:
        times = {"minimum": 0, "truncate": "hour", "zone": "UTC", **moment}
        columns += [
            Column(name="guess", kind="date", minimum=0, format=form, **day),  # type: ignore[arg-type]
            Column(name="guess", kind="datetime", format=f"{form} %H:%M" if form else "", **times),  # type: ignore[arg-type]
        ]
    for column in columns:
        values, flags = read_cells(column, array, missing_words=WORDS_FOR_MISSING, decimal=decimal)
        if not np.any(flags == MALFORMED) and np.any(np.isfinite(values)):
            return column.kind, column.format
    return "category", ""


def _decimal(head: pd.DataFrame, file: FileFormat) -> str:
    """A decimal comma, where it makes numbers of more columns than a point does."""
    if file.separator == ",":
        return "."
    column = Column(name="guess", kind="real", minimum=-1e15, maximum=1e15)

    def numbers(decimal: str) -> int:
        count = 0
        for name in head.columns:
            values, flags = read_cells(
                column, arrow_array(head[name]), missing_words=WORDS_FOR_MISSING, decimal=decimal
            )
            count += bool(not np.any(flags == MALFORMED) and np.any(np.isfinite(values)))
        return count

    return "," if numbers(",") > numbers(".") else "."


def _safe_names(headers: list[str]) -> dict[str, str]:
    """A safe name for each header, its own where it is one; empty where none can be made."""
    names: dict[str, str] = {header: header for header in headers if _is_name(header)}
    taken = set(names.values())
    for header in headers:
        if header in names:
            continue
        stem = re.sub(r"\W+", "_", normal_header(header)).strip("_")[: LARGEST_NAME - 4]
        stem = stem if _is_name(stem) else f"c_{stem}"
        made = next(
            made for made in (stem, *(f"{stem}_{number}" for number in range(2, 1000)), "") if made not in taken
        )
        names[header] = made if _is_name(made) else ""
        taken.add(made)
    return names


def _is_name(name: str) -> bool:
    return _safe(name) == name and bool(name)


def _looks_like_data(name: str) -> bool:
    return not name.strip() or name[0].isdigit() or (name[0] in "+-." and name[1:2].isdigit())


def _safe(name: str) -> str:
    try:
        check_name("dataset", name)
    except DataRefused:
        return ""
    return name
