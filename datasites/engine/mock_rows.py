"""Draw mock rows in the layout of the private matrix, from the schema alone.

A mock cannot carry anything private: the same schema gives the same mock at every hospital.
"""

from __future__ import annotations

import hashlib

import numpy as np

from datasites.engine.matrix import HELD_OUT, PATIENT
from policies.canonical import canonical
from policies.errors import DataRefused
from policies.schema.columns import Column, FloatArray, IntArray
from policies.schema.schemas import FIRST_COLUMN, Schema

MISSING_SHARE = 0.05
RECORDS_PER_PATIENT = 1.5


def draw_mock(schema: Schema, rows: int = 200, *, seed: int = 0) -> FloatArray:
    """A mock float64 [rows, 2 + C] that depends on the schema, `rows` and `seed` alone.

    Numbers are uniform within their bounds. Where `rows` allows, every category occurs, a column that may be missing is
    missing somewhere, patients have one record or several, and both hold-out values occur.

    Args:
      rows: 2 to 1,000,000.
    """
    if not 2 <= rows <= 1_000_000:
        raise DataRefused(f"rows={rows} of a mock is outside [2, 1000000]. 200 is a good number.")
    digest = hashlib.sha256(canonical(schema.as_dict()) + f"/{rows}/{seed}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
    mock = np.empty((rows, FIRST_COLUMN + len(schema.columns)), dtype=np.float64)
    patients = max(2, int(rows / RECORDS_PER_PATIENT))
    codes = _every_one(patients, rows, generator)
    held_out = np.zeros(patients)
    if schema.holdout > 0:
        share = min(patients - 1, max(1, round(schema.holdout * patients)))
        held_out[generator.permutation(patients)[:share]] = 1
    mock[:, PATIENT], mock[:, HELD_OUT] = codes, held_out[codes]
    for index, column in enumerate(schema.columns):
        mock[:, FIRST_COLUMN + index] = _cells(column, rows, generator)
    return mock


def _cells(column: Column, rows: int, generator: np.random.Generator) -> FloatArray:
    if column.labels:
        values = _every_one(len(column.labels), rows, generator).astype(np.float64)
    elif column.kind == "real":
        values = np.clip(generator.uniform(column.low, column.high, rows), column.low, column.high)
    else:
        values = generator.integers(int(column.low), int(column.high), rows, endpoint=True).astype(np.float64)
    if column.missing != "refuse":
        missing = generator.permutation(rows)[: max(1, round(MISSING_SHARE * rows))]
        values[missing] = np.nan
    return values


def _every_one(choices: int, rows: int, generator: np.random.Generator) -> IntArray:
    """`rows` uniform draws of 0..choices-1, in which each occurs at least once where there are rows enough."""
    drawn = generator.integers(0, choices, rows)
    certain = min(choices, rows)
    drawn[:certain] = generator.permutation(choices)[:certain]
    return generator.permutation(drawn).astype(np.int64)
