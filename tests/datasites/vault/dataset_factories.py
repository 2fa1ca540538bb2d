"""Schemas and tables for the tests of publishing."""

from __future__ import annotations

import textwrap
from pathlib import Path

from policies.schema import schemas
from policies.schema.schemas import Schema

FLU = Schema.from_toml(textwrap.dedent(schemas.__doc__[schemas.__doc__.index('    name = "flu"') :]))
HEADER = "patient_id,age,temperature_1,temperature_2,ward,admitted,influenza"
ROWS = [
    "p1,30,37.5,,emergency,2025-10-01,1",
    "p1,31,38.25,39,general,2025-11-01,no",
    "p2,200,,36.5,intensive,2026-04-30,TRUE",
]
SECRET = b"a secret of this population"


def write_csv(path: Path, *rows: str, header: str = HEADER, ending: str = "\n") -> Path:
    """A CSV file of the flu table with the given rows, or with `ROWS`."""
    path.write_bytes((ending.join([header, *(rows or ROWS)]) + ending).encode())
    return path
