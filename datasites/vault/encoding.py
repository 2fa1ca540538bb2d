"""Encode the owner's table as the private matrix: check every row, code patients, split off the hold-out.

Refusals (`DataRefused`) name rows and values and stay with the owner. What is made here is private; what is public of a
dataset is its `Schema` alone. Reading files and databases is in `datasites.vault.tables`, one column's cells in
`datasites.vault.cells`, the draft of a schema in `datasites.vault.schema_draft`.
"""

from __future__ import annotations

import hmac
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from datasites.engine.matrix import grouped, secure_codes
from datasites.vault.cells import EMPTY, FINE, arrow_array, fault_text, read_cells, words_of
from datasites.vault.patient_marks import Marks
from datasites.vault.schema_draft import draft_schema
from datasites.vault.tables import MOST_FAULTS, ROWS_AT_ONCE, SqlQuery, check_headers, read_table
from datasites.vault.tensor_sources import tensor_headers
from policies.errors import DataRefused
from policies.schema.as_written import normal_header
from policies.schema.columns import FloatArray, IntArray
from policies.schema.schemas import Schema
from policies.text import visible

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SqlQuery", "check_table", "draft_schema", "encode", "is_held_out", "read_table", "unused_columns"]

SMALLEST_SECRET = 16
LONGEST_PATIENT = 200

LookAt = Callable[[Any, IntArray, Marks], None]


def check_table(frame: pd.DataFrame, schema: Schema) -> None:
    """Raise `DataRefused` unless every row is what the schema declares.

    Raises:
      DataRefused: `faults` has the first twenty, each with row, column, value and bound; `total` counts all of them.
    """
    _read(frame, schema, None)


def unused_columns(frame: pd.DataFrame, schema: Schema) -> tuple[str, ...]:
    """Columns of the table that the schema does not declare: they are left out, and the owner should hear of it."""
    declared = {*_headers(frame, schema).values(), *tensor_headers(frame, schema).values()}
    return tuple(str(name) for name in frame.columns if str(name) not in declared)


def encode(
    frame: pd.DataFrame,
    schema: Schema,
    *,
    population_secret: bytes,
    shuffle: Callable[[int], IntArray] | None = None,
    taken_apart: bool = False,
    look_at: LookAt | None = None,
    ordered: Callable[[IntArray], None] | None = None,
) -> FloatArray:
    """The private matrix of a table, float64 [N, 2 + C], in the layout of `Schema`; N may be less than the table has.

    Patient codes are secret random numbers. Rows of training come before those held out, patients in the order of their
    codes, rows of one patient in a secret uniform order: so neither says anything of the table's order or of
    identifiers, and whoever reads the matrix need not sort it. Of a patient with more records than the schema's
    `most_records_per_patient`, so many are kept, drawn uniformly.

    A code has to do with no other patient's, nor with how many there are: numbers from 0 to P-1 would move another one
    with every patient more, and with the code the place in a physical batch (`engine.sampling.by_place`). A patient's
    hold-out flag depends on `population_secret` and the identifier alone: every table and version of a population
    splits alike.

    Args:
      population_secret: at least 16 bytes, fixed for the population.
      shuffle: for tests and mocks, which keep all rows: numbers for a given n, of the places where rows go and of
        patients.
      taken_apart: drop each column from `frame` once it is read: a large table is then never in memory twice beside
        the matrix.
      look_at: told the distinct identifiers, the index of each row's patient, and each patient's mark, where no row
        lacks one.
      ordered: told which row of the table lies in each place of the matrix, as secret as the matrix is.

    Raises:
      DataRefused: as in `check_table`, which need not be called first.
    """
    if len(population_secret) < SMALLEST_SECRET:
        raise DataRefused(f"The population's secret has fewer than {SMALLEST_SECRET} bytes. Make it anew.")
    rows = len(frame)
    columns: list[FloatArray] = []

    def laid_out(patients: IntArray, distinct: Any) -> Callable[[FloatArray], None]:
        """Find the order of rows and what belongs to patients; what to do with one column's values after the other."""
        codes = (shuffle or secure_codes)(len(distinct))
        places, marks = _digests(distinct, population_secret)
        flags = places < np.uint64(int(schema.holdout * 2**64))
        if look_at is not None:
            look_at(distinct, patients, marks)
        if shuffle is None:
            order = grouped(codes[patients], flags[patients], schema.most_records_per_patient)
        else:
            order = np.argsort(shuffle(rows))
        if ordered is not None:
            ordered(order)
        patients = patients[order]
        columns.extend((codes[patients].astype(np.float64), flags[patients].astype(np.float64)))
        return lambda values: columns.append(values[order])

    _read(frame, schema, laid_out, taken_apart=taken_apart)
    return _as_matrix(columns)


def _as_matrix(columns: list[FloatArray]) -> FloatArray:
    """Columns beside each other, by rows; a part that a processor's caches hold at a time."""
    matrix = np.empty((len(columns[0]), len(columns)), dtype=np.float64)
    for begin in range(0, len(matrix), ROWS_AT_ONCE):
        part = slice(begin, begin + ROWS_AT_ONCE)
        for index, column in enumerate(columns):
            matrix[part, index] = column[part]
    return matrix


def _digests(distinct: Any, population_secret: bytes) -> tuple[Marks, Marks]:
    """Of each identifier 64 bits that place it in hold-out or training, and 64 others, its mark."""
    digests = b"".join(hmac.digest(population_secret, name.encode(), "sha256") for name in distinct.to_pylist())
    whole = np.frombuffer(digests, dtype=">u8").reshape(-1, 4).astype(np.uint64)
    return whole[:, 0], whole[:, 1]


def is_held_out(patient: str, population_secret: bytes, holdout: float) -> bool:
    """Whether a patient is kept for evaluation: HMAC-SHA256(secret, patient) below the share `holdout`."""
    digest = hmac.digest(population_secret, patient.encode(), "sha256")
    return int.from_bytes(digest[:8], "big") < int(holdout * 2**64)


def _read(
    frame: pd.DataFrame,
    schema: Schema,
    lay_out: Callable[[IntArray, Any], Callable[[FloatArray], None]] | None,
    *,
    taken_apart: bool = False,
) -> None:
    """Check every cell.

    Args:
      lay_out: told the index of each row's patient, and the distinct patients, where no row lacks one; what it gives is
        handed each column's values in turn.
      taken_apart: drop columns from `frame` once they are read.
    """
    headers = _headers(frame, schema)
    if not len(frame):
        raise DataRefused("The table has no rows. Publish one that has.")
    faults: list[tuple[int, int, str]] = []
    total = 0
    patients, distinct, wrong = _patients(_array(frame, headers[schema.patient]), schema.missing_values)
    for row in np.flatnonzero(wrong)[:MOST_FAULTS]:
        faults.append((int(row), -1, f"row {frame.index[row]}, column {schema.patient!r}: {_PATIENT_FAULT}"))
    total += int(np.count_nonzero(wrong))
    keep = None if lay_out is None or total else lay_out(patients, distinct)
    del patients, distinct, wrong
    for index, column in enumerate(schema.columns):
        array = _array(frame, headers[column.name])
        values, flags = read_cells(
            column, array, missing_words=schema.words_for_missing(column), decimal=schema.file.decimal
        )
        bad = np.flatnonzero(flags != FINE)
        total += len(bad)
        for row in bad[:MOST_FAULTS]:
            value = None if flags[row] == EMPTY else array[int(row)].as_py()
            text = fault_text(column, frame.index[row], int(flags[row]), value, decimal=schema.file.decimal)
            faults.append((int(row), index, text))
        if keep is not None:
            keep(values)
        del array, values, flags, bad
        if taken_apart:
            del frame[headers[column.name]]
    if total:
        raise _refusal(schema, faults, total)


def _array(frame: pd.DataFrame, name: str) -> Any:
    """A column as a pyarrow array of numbers or texts. Raises `DataRefused` where it holds lists, bytes or the like."""
    from pyarrow import types

    array = arrow_array(frame[name])
    readable = (
        types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_decimal,
        types.is_boolean, types.is_date, types.is_timestamp, types.is_null,
    )  # fmt: skip
    if not any(is_one(array.type) for is_one in readable):
        raise DataRefused(f"Column {name!r} holds {array.type} values. Publish numbers, texts or dates.")
    return array


_PATIENT_FAULT = f"is empty or longer than {LONGEST_PATIENT} characters, so it identifies nobody"


def _refusal(schema: Schema, faults: list[tuple[int, int, str]], total: int) -> DataRefused:
    texts = tuple(text for _, _, text in sorted(faults)[:MOST_FAULTS])
    listed = "\n".join(texts)
    return DataRefused(
        f"The table does not fit {schema.name!r}: {total} fault(s), the first {len(texts)} of which follow. "
        f"Mend them in the table, or declare bounds, missing or outside otherwise.\n{listed}",
        faults=texts,
        total=total,
    )


def _headers(frame: pd.DataFrame, schema: Schema) -> dict[str, str]:
    """The table's own header of each declared name, the patient's among them. Raises `DataRefused` where one is absent.

    A header to the letter comes first; else one that looks the same (`normal_header`).
    """
    names = [str(name) for name in frame.columns]
    check_headers("The table", names)
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(normal_header(name), []).append(name)
    headers = {}
    for name, wanted in schema.headers.items():
        there = [wanted] if wanted in names else alike.get(normal_header(wanted), [])
        if len(there) > 1:
            raise DataRefused(
                f"The table has {len(there)} columns whose headers look like {wanted!r}:"
                f" {', '.join(map(visible, there))[:200]}. Give each its own."
            )
        if not there:
            called = f"Column {name!r}" + (f" (header {wanted!r})" if wanted != name else "")
            raise DataRefused(
                f"{called} is declared and not in the table, which has {visible(', '.join(names))[:500]}. Add it to the"
                " table, take it out of the schema, or say which header it has as header = '...'."
            )
        headers[name] = there[0]
    return headers


def _patients(array: Any, missing_words: Sequence[str]) -> tuple[IntArray, Any, npt.NDArray[np.bool_]]:
    """Index of each row's patient, the distinct identifiers as normalised text, and the rows without a usable one.

    One patient should have one identifier however a table types it: 17, "17", " 17 " and 17.0 are the same. A word that
    stands for a missing cell identifies nobody.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    words = words_of(array)
    texts = _all_normalised(words.distinct)
    length = pc.utf8_length(texts)
    usable = pc.and_(pc.greater(length, 0), pc.less_equal(length, LONGEST_PATIENT))
    usable = pc.and_not(usable, pc.is_in(texts, pa.array(missing_words, texts.type)))
    encoded = pc.dictionary_encode(pc.if_else(usable, texts, pa.scalar(None, texts.type)))
    # The last entry stands for index -1, a row without a word.
    index_of_word = np.append(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), -1).astype(np.int64)
    indices = index_of_word[words.indices]
    return indices, encoded.dictionary, indices < 0


def _all_normalised(words: Any) -> Any:
    """`_normalised` of every word; of plain ASCII all at once, which says the same."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.all(pc.string_is_ascii(words), min_count=0).as_py():
        return pc.replace_substring_regex(words, r"^([0-9]+)\.0*$", r"\1")
    return pa.array([_normalised(word.as_py()) for word in words], pa.string())


def _normalised(identifier: str) -> str:
    whole, point, zeros = identifier.partition(".")
    if point and whole.isdigit() and not zeros.strip("0"):
        return whole
    return unicodedata.normalize("NFC", identifier)
