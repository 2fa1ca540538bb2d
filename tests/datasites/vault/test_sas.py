"""SAS tables: their types and missing values, and files made to do harm refused with bounded memory and time."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datasites.vault import confined_reading
from datasites.vault.encoding import encode
from datasites.vault.sas import read_sas
from datasites.vault.tables import read_table
from policies.errors import DataRefused
from policies.schema.schemas import Schema
from tests.datasites.vault.dataset_factories import SECRET
from tests.datasites.vault.sas_writer import HEADER, PAGE, write_sas

NAMES = ["pid", "age", "day", "seen"]
FORMATS = ["", "", "DATE", "DATETIME"]
# SAS counts days, and seconds, from 1960: 2020-01-31 is day 21945, and noon of it second 1896091200.
ROWS = [["p1", 30.0, 21945.0, 21945 * 86400.0 + 43200], ["ü2", None, None, None]]
SCHEMA = """
name = "t"
population = "p"
patient = "pid"
[columns.age]
kind = "integer"
minimum = 0
maximum = 110
missing = {constant = 50}
[columns.day]
kind = "date"
minimum = 2020-01-01
maximum = 2021-01-01
missing = {constant = 2020-06-01}
[columns.seen]
kind = "datetime"
truncate = "hour"
minimum = 2020-01-01T00:00:00
maximum = 2021-01-01T00:00:00
missing = {constant = 2020-06-01T12:00:00}
"""


def refusal(path: Path) -> str:
    with pytest.raises(DataRefused) as refused:
        list(read_sas(path))
    return str(refused.value)


@pytest.mark.process
def test_a_sas_table_becomes_the_matrix_that_its_schema_says(tmp_path: Path) -> None:
    frame = read_table(write_sas(tmp_path / "t.sas7bdat", NAMES, ROWS, formats=FORMATS))
    assert frame.index.tolist() == [1, 2]
    assert frame["pid"].tolist() == ["p1", "ü2"]
    matrix = encode(frame, Schema.from_toml(SCHEMA), population_secret=SECRET, shuffle=np.arange)
    assert matrix[0, 2:].tolist() == [30, 30, 30 * 24 + 12]
    assert np.isnan(matrix[1, 2:]).all()


def test_rows_come_in_pieces_of_one_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasites.vault.sas.ROWS_AT_ONCE", 2)
    rows = [["p1", 1.0], ["", None], ["p3", 3.0], ["p4", None], ["p5", 5.0]]
    pieces = list(read_sas(write_sas(tmp_path / "t.sas7bdat", ["pid", "age"], rows)))
    assert [len(piece) for piece in pieces] == [2, 2, 1]
    assert len({str(piece.schema) for piece in pieces}) == 1
    assert [pid for piece in pieces for pid in piece["pid"].to_pylist()] == ["p1", None, "p3", "p4", "p5"]


def test_it_is_what_pandas_reads_alone(tmp_path: Path) -> None:
    path = write_sas(tmp_path / "t.sas7bdat", NAMES, ROWS, formats=FORMATS)
    (piece,) = read_sas(path)
    assert piece["age"].to_pylist()[0] == pd.read_sas(path, encoding="infer")["age"][0]


# Files made to do harm


@pytest.mark.parametrize("content", [b"", b"\0" * 288, b"PK\x03\x04", b"pid,age\n1,2\n" * 100])
def test_what_is_no_sas_table_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.sas7bdat").write_bytes(content)
    assert "cannot be read as a SAS table" in refusal(tmp_path / "t.sas7bdat")


@pytest.mark.parametrize("count", [10**6, 2**32 - 1])
def test_more_rows_said_than_there_are_take_no_memory(tmp_path: Path, count: int) -> None:
    path = write_sas(tmp_path / "t.sas7bdat", ["pid", "age"], [["p1", 1.0]], row_count=count)
    assert "cannot be read as a SAS table" in refusal(path)


@pytest.mark.parametrize("length", [0, 1, 8, 17, 2**31])
def test_pages_of_another_length_than_said_are_refused(tmp_path: Path, length: int) -> None:
    refusal(write_sas(tmp_path / "t.sas7bdat", ["pid", "age"], [["p1", 1.0]], page_length=length))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = write_sas(tmp_path / "t.sas7bdat", ["pid", "age"], [["ü", 1.0]])
    path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xff\xfe"))
    assert "bytes that are no text in the encoding" in refusal(path)


def test_any_damage_is_read_or_refused(tmp_path: Path) -> None:
    """Bytes of the header and of the pages changed at random: never another error, and no crash."""
    path = write_sas(tmp_path / "t.sas7bdat", NAMES, ROWS * 3, formats=FORMATS)
    sound, random_ = path.read_bytes(), random.Random(20261126)
    for _ in range(300):
        damaged = bytearray(sound)
        for _ in range(random_.choice([1, 3, 20])):
            damaged[random_.randrange(len(damaged))] = random_.randrange(256)
        path.write_bytes(damaged)
        try:
            list(read_sas(path))
        except DataRefused:
            continue


@pytest.mark.process
def test_a_page_that_describes_the_same_columns_again_and_again_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of some hundred pointers of each page leads to the same long list: a small file for many columns."""
    path = write_sas(tmp_path / "t.sas7bdat", [f"c{place}" for place in range(40)], [[1.0] * 40])
    content = bytearray(path.read_bytes())
    meta = bytearray(content[HEADER : HEADER + PAGE])
    pointer = 24 + 12 * 4  # to the columns' attributes
    (offset,) = struct.unpack_from("<I", meta, pointer)
    many = 200
    struct.pack_into("<HH", meta, 18, many, many)
    for place in range(5, many):
        struct.pack_into("<IIBB", meta, 24 + 12 * place, offset, PAGE - offset + (1 << 24), 0, 0)
    path.write_bytes(content[:HEADER] + bytes(meta) * 200)
    monkeypatch.setattr(confined_reading, "LARGEST_MEMORY", 700 << 20)
    monkeypatch.setattr(confined_reading, "LONGEST_SECONDS", 5)
    with pytest.raises(DataRefused):
        read_table(path)
