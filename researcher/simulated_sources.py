"""What the command that simulates reads: a schema, a public table, a function of patients."""

from __future__ import annotations

import runpy
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from policies.errors import InvalidRequest
from policies.schema.schemas import Schema
from researcher.simulated_patients import Patients

if TYPE_CHECKING:
    import pandas as pd


def reached(schema: Path | None, patients: int) -> AbstractContextManager[None]:
    """While this is held, `researcher.connect` reaches a hospital made of `schema`, where one is given."""
    if schema is None:
        return nullcontext()
    from researcher.simulated_network import simulated_network

    try:
        text = schema.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"{schema} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{schema} is not text in UTF-8. Name a schema.toml.") from None
    return simulated_network(Schema.from_toml(text), patients)


def read_table(path: Path | None) -> pd.DataFrame | None:
    """A public CSV file, or None where none is named."""
    if path is None:
        return None
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"The table {path} cannot be read: {str(error)[:200]}. Name a CSV file.") from None


def function_of(where: str) -> Patients | None:
    """The function that `FILE.py:FUNCTION` names, or None where nothing is."""
    if not where:
        return None
    file, _, name = where.rpartition(":")
    if not Path(file).is_file():
        raise InvalidRequest(f"population={where!r} names no file. Write it as patients.py:patients.")
    found = runpy.run_path(file).get(name)
    if not callable(found):
        raise InvalidRequest(f"{file} has no function {name!r}, which takes a hospital, a number and a generator.")
    patients: Patients = found
    return patients
