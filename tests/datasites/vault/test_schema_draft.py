"""Drafts of schemas: no value of the table slips into what will be public."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pandas as pd
import pytest

from datasites.vault.schema_draft import draft_schema
from datasites.vault.tables import SqlQuery
from policies.errors import DataRefused
from policies.schema.schemas import Schema
from tests.datasites.vault.dataset_factories import FLU, HEADER, write_csv


def test_draft_guesses_kinds_and_the_patient_column(tmp_path: Path) -> None:
    draft = tomllib.loads(draft_schema(write_csv(tmp_path / "flu.csv")))
    assert draft["name"] == "flu"
    assert draft["patient"] == "patient_id"
    assert {name: each["kind"] for name, each in draft["columns"].items()} == {
        column.name: column.kind for column in FLU.columns
    }


def test_draft_holds_no_value_of_the_table(tmp_path: Path) -> None:
    row = "p8675309,8675309,8675309.5,8675309.5,kitchen8675309,2025-10-13,1"
    draft = draft_schema(write_csv(tmp_path / "flu.csv", row))
    for value in ("8675309", "kitchen", "2025-10-13"):
        assert value not in draft


def test_draft_is_the_same_whatever_values_of_the_same_kinds(tmp_path: Path) -> None:
    first = draft_schema(write_csv(tmp_path / "flu.csv", "p1,3,37.5,36.5,general,2025-10-13,1"))
    many = ["p2,99,-1.5,0.25,kitchen,1970-01-01,0", "p3,7,8.5,9.5,attic,2070-01-01,1"] * 40
    assert draft_schema(write_csv(tmp_path / "flu.csv", *many)) == first


def test_draft_is_refused_until_it_is_finished(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="never taken from the data"):
        Schema.from_toml(draft_schema(write_csv(tmp_path / "flu.csv")))
    path = write_csv(tmp_path / "only.csv", "p1,1", header="patient,flu")
    with pytest.raises(DataRefused, match="cannot name a population"):
        Schema.from_toml(draft_schema(path))


def test_finished_draft_is_a_schema(tmp_path: Path) -> None:
    path = tmp_path / "flu.csv"
    path.write_text("mrn,age,ward\n1,30,general\n", encoding="utf-8")
    draft = draft_schema(path).replace('population = ""', 'population = "general"')
    draft = draft.replace("# minimum = ", "minimum = 0 #").replace("# maximum = ", "maximum = 110 #")
    draft = draft.replace("# categories = []", 'categories = ["general", "icu"] #')
    schema = Schema.from_toml(draft)
    assert (schema.patient, schema.column("age").high, schema.column("ward").labels) == ("mrn", 110, ("general", "icu"))


def test_header_that_cannot_be_a_name_is_commented_and_cannot_break_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('mrn,"a\n[columns.b]",<b>\n1,2,3\n', encoding="utf-8")
    assert "columns" not in tomllib.loads(draft_schema(path))


@pytest.mark.parametrize("header", ["17," + HEADER, "2020-01-01,x", "x,,y", "-3,x"])
def test_file_without_a_header_is_refused_rather_than_copied(tmp_path: Path, header: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(header + "\n", encoding="utf-8")
    with pytest.raises(DataRefused, match="looks like values"):
        draft_schema(path)


def test_draft_of_parquet_and_of_a_query(tmp_path: Path) -> None:
    import sqlite3

    frame = pd.DataFrame({"pid": [1, 2], "age": [30, 40]})
    frame.to_parquet(tmp_path / "t.parquet")
    connection = sqlite3.connect(tmp_path / "t.db")
    frame.to_sql("t", connection, index=False)
    connection.close()
    for source in (tmp_path / "t.parquet", SqlQuery("SELECT * FROM t", f"sqlite:///{tmp_path}/t.db")):
        assert tomllib.loads(draft_schema(source))["columns"]["age"]["kind"] == "integer"


@pytest.mark.parametrize("name", ["grippe-été", "flu😀", 'a "b"', "a\x7f"])
def test_draft_of_a_file_with_any_name_is_toml(name: str, tmp_path: Path) -> None:
    draft = tomllib.loads(draft_schema(write_csv(tmp_path / f"{name}.csv")))
    assert draft["name"] in (name, "")


def test_columns_of_lists_records_and_bytes_are_left_out_of_a_draft_with_words(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {"patient": ["a", "b"], "days": [[1], [2]], "visit": [{"ward": 1}, {"ward": 2}], "scan": [b"\xff", b"a"]}
    parquet.write_table(pa.table({**columns, "age": [1, 2]}), tmp_path / "visits.parquet")
    draft = draft_schema(tmp_path / "visits.parquet")
    for name in ("days", "visit", "scan"):
        assert f'# "{name}" is left out: its cells are lists, records or bytes. Make plain columns of it.' in draft
    assert "[columns.age]" in draft.replace('"', "")
