"""Reading tables: values stay as written, and what cannot be read is named without giving away a password."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest

from datasites.vault import tables
from datasites.vault.encoding import check_table, encode, unused_columns
from datasites.vault.tables import PASSWORD_VARIABLE, SqlQuery, read_table
from policies.errors import DataRefused
from policies.schema.as_written import FileFormat
from policies.schema.columns import Column
from policies.schema.schemas import Schema
from tests.datasites.vault.dataset_factories import FLU, HEADER, ROWS, SECRET, write_csv
from tests.postgres import PASSWORD, running_cluster


def matrix_of(frame: pd.DataFrame) -> np.ndarray:
    return encode(frame, FLU, population_secret=SECRET, shuffle=np.arange)


# CSV


def test_values_of_a_csv_stay_as_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n007,"1,200"\nNA, x \n1e5,\n', encoding="utf-8")
    frame = read_table(path)
    assert frame["a"].tolist() == ["007", "NA", "1e5"]
    assert frame["b"].tolist() == ["1,200", " x ", ""]
    assert frame.index.tolist() == [2, 3, 4]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n\n\n"])
def test_byte_order_mark_line_endings_and_blank_end_do_not_matter(
    tmp_path: Path, mark: str, ending: str, end: str
) -> None:
    plain = read_table(write_csv(tmp_path / "a.csv"))
    path = write_csv(tmp_path / "b.csv", header=mark + HEADER, ending=ending)
    path.write_bytes(path.read_bytes() + end.encode())
    pd.testing.assert_frame_equal(read_table(path), plain)


def test_blank_line_amid_the_rows_keeps_the_numbering_and_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="row 3, column 'patient_id': is empty"):
        check_table(read_table(write_csv(tmp_path / "t.csv", ROWS[0], "", ROWS[1])), FLU)


def test_quoted_newlines_commas_and_quotes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('"a",b\n"x\ny","1,2 ""z"""\n', encoding="utf-8")
    assert read_table(path).iloc[0].tolist() == ["x\ny", '1,2 "z"']


def test_uneven_rows_are_named_by_number_and_counted(tmp_path: Path) -> None:
    rows = [ROWS[0], "p7,1", ROWS[1], ROWS[2] + ",,"] + ["x"] * 30
    with pytest.raises(DataRefused, match="32 uneven row") as refusal:
        read_table(write_csv(tmp_path / "t.csv", *rows))
    assert refusal.value.total == 32
    assert len(refusal.value.faults) == 20
    assert refusal.value.faults[:2] == (
        "row 3 has 2 cells where the header has 7",
        "row 5 has 9 cells where the header has 7",
    )


def test_rows_are_numbered_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK_BYTES", 200)
    with pytest.raises(DataRefused, match="row 102 has 1 cells"):
        read_table(write_csv(tmp_path / "t.csv", *[ROWS[0]] * 100, "x", *[ROWS[0]] * 100))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no header row"),
        (b"a,a\n1,2\n", "2 columns named 'a'"),
        (b"a, a\n1,2\n", "2 columns named 'a'"),
        (b"a;b\n1;2\n", "not separated by commas"),
        (b"a\tb\n1\t2\n", "not separated by commas"),
        (b"a,b\n1,2\n3,\xe9\n", "Line 3 of t.csv has the byte 0xe9, not UTF-8"),
        (b"a,b\xe9\n1,2\n", "Line 1 of t.csv has the byte 0xe9, not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "not UTF-8"),
        (b'a,b\n1,2\n"3,4\n5,6\n', "row 3 has 1 cells"),
    ],
)
def test_csv_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataRefused, match=words):
        read_table(path)


def test_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="is not a file"):
        read_table(tmp_path / "none.csv")


# CSV as a schema declares it


@pytest.mark.parametrize(
    ("content", "file"),
    [
        ("a;b\nü;1,5\n".encode("cp1252"), FileFormat(separator=";", decimal=",", encoding="windows-1252")),
        ("a\tb\nü\t1,5\n".encode("utf-16"), FileFormat(separator="\t", decimal=",", encoding="utf-16")),
        ("\ufeffa|b\nü|1,5\n".encode(), FileFormat(separator="|")),
        (b'Visits, all\n"a ""title\na;b\n\xc3\xbc;1,5\n', FileFormat(separator=";", skip=2)),
    ],
)
def test_separator_encoding_and_lines_above_the_header_are_as_declared(
    tmp_path: Path, content: bytes, file: FileFormat
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    frame = read_table(tmp_path / "t.csv", file)
    assert frame.to_dict("list") == {"a": ["ü"], "b": ["1,5"]}
    assert frame.index.tolist() == [file.skip + 2]


def test_uneven_rows_below_lines_that_are_passed_over_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"Title\n\na;b\n1;2\n3\n")
    with pytest.raises(DataRefused, match="row 5 has 1 cells where the header has 2"):
        read_table(tmp_path / "t.csv", FileFormat(separator=";", skip=2))


@pytest.mark.parametrize(
    ("content", "encoding", "words"),
    [
        (b"a,b\n1,2\n3,\x81\n", "windows-1252", "Line 3 of t.csv has the byte 0x81, not windows-1252"),
        (b"a,b\n1,\xff\n", "shift_jis", "Line 2 of t.csv has the byte 0xff, not shift_jis"),
        (b"a,b\n1,2\n3", "utf-16", "is not utf-16"),
        ("a,b\n1,2\n".encode("utf-16"), "utf-8", "begins as UTF-16 does, and is not UTF-8"),
    ],
)
def test_text_in_another_encoding_than_declared_is_refused(
    tmp_path: Path, content: bytes, encoding: str, words: str
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataRefused, match=words):
        read_table(tmp_path / "t.csv", FileFormat(encoding=encoding))


def test_a_cell_larger_than_what_is_read_at_once_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BLOCK_BYTES", 1 << 10)
    (tmp_path / "t.csv").write_text("a,b\n1," + "x" * 10_000 + "\n", encoding="utf-8")
    with pytest.raises(DataRefused, match="cannot be read as CSV"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("HbA1c (%)", "HbA1c (%)"),
        (" HbA1c  (%)\u200b", "HbA1c (%)"),
        ('"HbA1c\n(%)"', "HbA1c (%)"),
        ("age\x1b[2J", "age[2J"),
        ("<b>ge", "<b>ge"),
    ],
)
def test_a_declared_header_finds_the_one_that_looks_the_same(tmp_path: Path, header: str, wanted: str) -> None:
    (tmp_path / "t.csv").write_text(f"Nr. (KIS),{header},rest\np1,7,x\n", encoding="utf-8")
    column = Column(name="value", kind="real", minimum=0.0, maximum=10.0, header=wanted)
    schema = Schema(name="t", population="p", patient="pid", patient_header="Nr. (KIS)", columns=(column,))
    frame = read_table(tmp_path / "t.csv")
    assert encode(frame, schema, population_secret=SECRET)[:, 2].tolist() == [7]
    assert unused_columns(frame, schema) == ("rest",)


def test_a_header_that_two_columns_have_or_none_is_refused(tmp_path: Path) -> None:
    column = Column(name="value", kind="real", minimum=0.0, maximum=10.0, header="a b")
    schema = Schema(name="t", population="p", patient="pid", columns=(column,))
    two = pd.DataFrame({"pid": ["1"], "a  b": ["1"], "a\xa0b": ["2"]})
    with pytest.raises(DataRefused, match="2 columns whose headers look like 'a b'"):
        check_table(two, schema)
    none = pd.DataFrame({"pid": ["1"], "a\x1bc": ["1"]})
    with pytest.raises(
        DataRefused, match=r"Column 'value' \(header 'a b'\) is declared and not in the table.*a<U\+001B>c"
    ):
        check_table(none, schema)


def test_words_for_missing_of_the_table_and_of_a_column_and_of_patients(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("pid;x;y\np1;NA;-\np2;1,5;NA\nNA;1;2\n", encoding="utf-8")
    x = Column(name="x", kind="real", minimum=0.0, maximum=10.0, missing=5.0)
    y = Column(name="y", kind="category", categories=("NA", "2"), missing=0.0, missing_values=("-",))
    schema = Schema(
        name="t", population="p", patient="pid", columns=(x, y), missing_values=("NA",),
        file=FileFormat(separator=";", decimal=","),
    )  # fmt: skip
    with pytest.raises(DataRefused, match=r"1 fault.*\nrow 4, column 'pid': is empty"):
        check_table(read_table(tmp_path / "t.csv", schema.file), schema)
    frame = read_table(tmp_path / "t.csv", schema.file).iloc[:2]
    matrix = encode(frame, schema, population_secret=SECRET, shuffle=np.arange)
    np.testing.assert_array_equal(matrix[:, 2:], [[np.nan, np.nan], [1.5, 0]])  # missing is not its constant


# Parquet


def test_parquet_keeps_its_types_and_counts_rows_from_one(tmp_path: Path) -> None:
    frame = pd.DataFrame({"pid": pd.array([2**62 + 1, None], "Int64"), "ward": pd.Categorical(["a", "b"])})
    frame.to_parquet(tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet")
    assert read.index.tolist() == [1, 2]
    assert read["pid"].iloc[0] == 2**62 + 1  # not through a float, for all that a cell is missing


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataRefused, match="cannot be read as Parquet"):
        read_table(tmp_path / "t.parquet")


# SQL

AS_SQL = """
    CREATE TABLE flu (patient_id TEXT, age INTEGER, temperature_1 REAL, temperature_2 REAL,
                      ward TEXT, admitted TEXT, influenza TEXT)
"""


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    connection = sqlite3.connect(tmp_path / "records.db")
    connection.execute(AS_SQL)
    rows = [[cell or None for cell in row.split(",")] for row in ROWS]
    connection.executemany("INSERT INTO flu VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    return f"sqlite:///{tmp_path}/records.db"


def test_sql_query_gives_the_same_matrix_as_csv(tmp_path: Path, sqlite_url: str) -> None:
    frame = read_table(SqlQuery("SELECT * FROM flu", sqlite_url))
    check_table(frame, FLU)
    assert frame.index.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(matrix_of(frame), matrix_of(read_table(write_csv(tmp_path / "t.csv"))))


def test_sql_is_read_in_pieces_whose_types_may_differ(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = matrix_of(read_table(SqlQuery("SELECT * FROM flu", sqlite_url)))
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 1)
    np.testing.assert_array_equal(matrix_of(read_table(SqlQuery("SELECT * FROM flu", sqlite_url))), whole)


def test_sql_column_of_numbers_and_texts_is_read_as_text(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 1)
    query = "SELECT 1 AS a UNION ALL SELECT 'x' UNION ALL SELECT NULL"
    assert set(read_table(SqlQuery(query, sqlite_url))["a"].dropna()) == {"1", "x"}


def test_sql_answer_without_rows_has_its_columns(sqlite_url: str) -> None:
    frame = read_table(SqlQuery("SELECT * FROM flu WHERE age < 0", sqlite_url))
    with pytest.raises(DataRefused, match="no rows"):
        check_table(frame, FLU)


@pytest.mark.parametrize(
    "before", ["-- visits of 2020\n", "/* visits;\n of 2020 */ ", "\n\t--\n-- DROP\n/**/", "WITH x AS (SELECT 1) "]
)
def test_comments_and_with_may_stand_before_a_query(sqlite_url: str, before: str) -> None:
    assert len(read_table(SqlQuery(before + "SELECT * FROM flu", sqlite_url))) == 3


@pytest.mark.parametrize(
    "query",
    ["WITH x AS (SELECT 1) DELETE FROM flu", "with x as (select 1) INSERT INTO flu (age) SELECT 1 RETURNING age"],
)
def test_a_query_that_would_change_a_database_changes_nothing(sqlite_url: str, query: str) -> None:
    with pytest.raises(DataRefused, match="readonly database"):
        read_table(SqlQuery(query, sqlite_url))
    assert len(read_table(SqlQuery("SELECT * FROM flu", sqlite_url))) == 3


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("-- SELECT\nDROP TABLE flu", "does not begin with SELECT"),
        ("/* SELECT */", "does not begin with SELECT"),
        ("/*! DROP TABLE flu */ SELECT 1", "does not begin with SELECT"),
        ("/* SELECT 1", "does not begin with SELECT"),
        ("selection", "does not begin with SELECT"),
        ("DROP TABLE flu", "does not begin with SELECT"),
        ("SELECT * FROM absent", "no such table: absent"),
        ("SELECT age, age FROM flu", "2 columns named 'age'"),
        ("SELECT ", "refused or could not be reached"),
    ],
)
def test_query_that_fails_is_refused_with_the_reason(sqlite_url: str, query: str, words: str) -> None:
    with pytest.raises(DataRefused, match=words):
        read_table(SqlQuery(query, sqlite_url))


def test_colons_and_percent_signs_of_a_query_are_its_own(sqlite_url: str) -> None:
    query = "SELECT ':a' AS a, '10:30' AS b, 'x%' AS c FROM flu WHERE ward LIKE 'gen%'"
    assert read_table(SqlQuery(query, sqlite_url)).iloc[0].tolist() == [":a", "10:30", "x%"]


def test_absent_sqlite_file_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="is not a file"):
        read_table(SqlQuery("SELECT 1 AS a", f"sqlite:///{tmp_path}/none.db"))
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://reader:{PASSWORD}@127.0.0.1:1/records",
        f"postgresql://127.0.0.1:1/records?password={PASSWORD}",
        f"nonsense://reader:{PASSWORD}@host/records",
        f"postgresql://reader:{PASSWORD}@host:port/records",
        f"reader:{PASSWORD}",
    ],
)
def test_password_never_stands_in_an_error_or_a_repr(url: str) -> None:
    source = SqlQuery("SELECT 1", url)
    with pytest.raises(DataRefused) as refusal:
        read_table(source)
    assert PASSWORD not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__
    assert PASSWORD not in repr(source)


def test_password_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="Name a file with the password alone"):
        read_table(SqlQuery("SELECT 1", "postgresql://reader@127.0.0.1:1/records", tmp_path / "none"))


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL (without a password) of a PostgreSQL server that asks for one."""
    with running_cluster() as cluster:
        yield cluster.url


TYPED = """
    SELECT * FROM (VALUES ('p1', 30, 37.5::numeric, NULL::numeric, 'emergency', DATE '2025-10-01', true),
                          ('p1', 31, 38.25, 39, 'general', DATE '2025-11-01', false),
                          ('p2', 200, NULL, 36.5, 'intensive', DATE '2026-04-30', true))
    AS flu (patient_id, age, temperature_1, temperature_2, ward, admitted, influenza) WHERE ward LIKE '%e%'
"""


def test_postgresql_query_gives_the_same_matrix_as_csv(tmp_path: Path, postgresql: str) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n", encoding="utf-8")
    frame = read_table(SqlQuery("SELECT" + TYPED.strip().removeprefix("SELECT"), postgresql, tmp_path / "password"))
    np.testing.assert_array_equal(matrix_of(frame), matrix_of(read_table(write_csv(tmp_path / "t.csv"))))


def test_postgresql_password_comes_from_the_environment(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    assert len(read_table(SqlQuery(TYPED.strip(), postgresql))) == 3
    monkeypatch.setenv(PASSWORD_VARIABLE, "another-horse")
    with pytest.raises(DataRefused, match="password authentication failed") as refusal:
        read_table(SqlQuery(TYPED.strip(), postgresql))
    assert "another-horse" not in str(refusal.value)


def test_postgresql_identifiers_and_mixed_numbers_are_read(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    query = "SELECT '8d3a0d5c-6a0a-4a4c-9d0e-0c5c1b0f6f10'::uuid AS a, 9007199254740993::bigint AS b, 1.5::numeric AS c"
    frame = read_table(SqlQuery(query, postgresql))
    assert [str(cell) for cell in frame.iloc[0]] == ["8d3a0d5c-6a0a-4a4c-9d0e-0c5c1b0f6f10", "9007199254740993", "1.5"]


def test_postgresql_query_cannot_change_the_database(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    with psycopg.connect(postgresql, password=PASSWORD) as connection:
        connection.execute("CREATE SEQUENCE counter")
    with pytest.raises(DataRefused, match="read-only transaction"):
        read_table(SqlQuery("SELECT nextval('counter') AS a", postgresql))
