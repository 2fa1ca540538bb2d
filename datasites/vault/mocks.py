"""A published table's mock: drawn from the schema alone, or read from a file that the owner declares public."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasites.engine.mock_rows import draw_mock
from datasites.vault.encoding import encode
from datasites.vault.tables import read_table
from policies.errors import DataRefused
from policies.schema.columns import FloatArray
from policies.schema.schemas import Schema

__all__ = ["draw_mock", "public_mock"]

MOST_PUBLIC_ROWS = 100_000
PUBLIC_SECRET = b"the split of a public mock is public"


def public_mock(path: Path | str, schema: Schema) -> FloatArray:
    """The mock in a file that the owner declares public, checked against the schema, in the file's own order.

    It is laid out as the schema says of the table's file.

    Raises:
      DataRefused: as in `check_table`, or the file has more than 100,000 rows.
    """
    frame = read_table(path, schema.file)
    if len(frame) > MOST_PUBLIC_ROWS:
        raise DataRefused(f"{Path(path).name} has {len(frame)} rows, above {MOST_PUBLIC_ROWS}. Shorten the mock.")
    return encode(frame, schema, population_secret=PUBLIC_SECRET, shuffle=np.arange)
