"""Drafts of schemas: no value of the table slips into what will be public."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pandas as pd
import pytest

from datasites.vault.encoding import encode
from datasites.vault.fhir import FIELDS
from datasites.vault.schema_draft import draft_schema
from datasites.vault.tables import SqlQuery, read_table
from policies.errors import DataRefused
from policies.schema.schemas import Schema
from tests.datasites.vault.dataset_factories import FLU, HEADER, SECRET, write_csv


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


def test_header_that_cannot_be_a_name_gets_one_and_cannot_break_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    header = 'Patient ID,"a\n[columns.b]",<b>,b,b!,HbA1c (%),Größe  [cm],%%%,a\x1b[2J'
    path.write_text(header + "\n1,2,3,4,5,6,7,8,9\n", encoding="utf-8")
    draft = tomllib.loads(draft_schema(path))
    assert {name: column.get("header", name) for name, column in draft["columns"].items()} == {
        "a_columns_b": "a [columns.b]", "b_2": "<b>", "b": "b", "b_3": "b!", "HbA1c": "HbA1c (%)",
        "Größe_cm": "Größe [cm]", "c_": "%%%", "a_2J": "a[2J",
    }  # fmt: skip
    assert draft["patient"] == "Patient ID"


def test_a_header_is_found_again_by_what_the_draft_says(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('Patienten-ID!,"Temp\n(°C)"\np1,37.5\n', encoding="utf-8")
    draft = draft_schema(path).replace('population = ""', 'population = "general"')
    schema = Schema.from_toml(draft.replace("# minimum = ", "minimum = 30 #").replace("# maximum = ", "maximum = 45 #"))
    assert schema.headers == {"Patienten_ID": "Patienten-ID!", "Temp_C": "Temp (°C)"}
    assert encode(read_table(path), schema, population_secret=SECRET)[0, 2] == 37.5


# How a table is written


def test_a_draft_reads_off_how_a_file_is_written_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "besuche.csv"
    rows = ["p1;37,5;31.01.2020;31.01.2020 12:30;-", "p2;38,25;01.02.2020;01.02.2020 12:30;NA"]
    path.write_bytes("\n".join(["Patienten_ID;Größe;Tag;Zeit;Leer", *rows]).encode("windows-1252"))
    text = draft_schema(path)
    draft = tomllib.loads(text)
    assert draft["file"] == {"separator": ";", "decimal": ",", "encoding": "windows-1252"}
    assert "# read off the file" in text
    kinds = {name: (column["kind"], column.get("format")) for name, column in draft["columns"].items()}
    assert kinds == {
        "Größe": ("real", None), "Tag": ("date", "%d.%m.%Y"), "Zeit": ("datetime", "%d.%m.%Y %H:%M"),
        "Leer": ("category", None),
    }  # fmt: skip
    assert draft["patient"] == "Patienten_ID"


def test_words_for_missing_among_numbers_leave_them_numbers_and_are_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("pid,age,seen\n1,NA,n/a\n2,30,2020-01-01T10:00:00Z\n", encoding="utf-8")
    text = draft_schema(path)
    assert {name: column["kind"] for name, column in tomllib.loads(text)["columns"].items()} == {
        "age": "integer", "seen": "datetime",
    }  # fmt: skip
    assert "missing_values" not in tomllib.loads(text)


def test_values_beyond_the_bounds_are_clamped_by_default_and_the_draft_says_why(tmp_path: Path) -> None:
    text = draft_schema(write_csv(tmp_path / "flu.csv"))
    columns = tomllib.loads(text)["columns"]
    assert {name for name, column in columns.items() if column.get("outside") == "clamp"} == {
        "age", "temperature_1", "temperature_2", "admitted",
    }  # fmt: skip
    assert "bounds that are widened until the table fits tell of its extremes" in text


def test_kinds_say_where_they_come_from(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "flu.csv")
    assert draft_schema(path).count("# read off the table\n") == 6
    assert "Kinds are read off the table's first 10,000 rows" in draft_schema(path)


def test_a_draft_of_names_only_looks_at_no_cell(tmp_path: Path) -> None:
    header = "pid,age,birthDate,is_smoker,ward,HbA1c,remark"
    drafts = []
    for row in ("p1,30,1990-01-01,1,icu,7.5,well", "p2,x,y,z,3,4,5"):
        drafts.append(draft_schema(write_csv(tmp_path / "t.csv", row, header=header), names_only=True))
    assert drafts[0] == drafts[1]
    kinds = {name: column.get("kind") for name, column in tomllib.loads(drafts[0])["columns"].items()}
    assert kinds == {
        "age": "integer", "birthDate": "date", "is_smoker": "boolean", "ward": "category", "HbA1c": "real",
        "remark": None,
    }  # fmt: skip
    assert "no cell was looked at" in drafts[0]


# Exports of FHIR


@pytest.mark.parametrize("kind", list(FIELDS))
def test_a_draft_of_an_export_is_the_standards_and_its_columns_are_the_readers(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "export.ndjson"
    path.write_text(f'{{"resourceType": "{kind}", "id": "kitchen8675309"}}\n', encoding="utf-8")
    text = draft_schema(path)
    assert "8675309" not in text
    draft = tomllib.loads(text)
    assert set(draft["columns"]) <= {*FIELDS[kind]}
    assert draft["patient"] == "patient"
    text = text.replace('population = ""', 'population = "general"').replace("codes = [] ", 'codes = ["a", "b"] ')
    text = text.replace("# minimum = ", "minimum = 0 #").replace("# maximum = ", "maximum = 500 #")
    schema = Schema.from_toml(text.replace("# categories = []", 'categories = ["a", "b"] #'))
    assert (schema.name, schema.patient) == ("export", "patient")


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

    columns = {
        "patient": ["a", "b"],
        "days": [[True], [False]],
        "visit": [{"ward": 1}, {"ward": 2}],
        "scan": [b"\xff", b"a"],
    }
    parquet.write_table(pa.table({**columns, "age": [1, 2]}), tmp_path / "visits.parquet")
    draft = draft_schema(tmp_path / "visits.parquet")
    for name in ("days", "visit", "scan"):
        assert f'# "{name}" is left out: its cells are lists, records or bytes. Make plain columns of it.' in draft
    assert "[columns.age]" in draft.replace('"', "")


@pytest.mark.parametrize(
    ("cells", "filled"),
    [
        (["a/SECRET.png", "SECRET.JPG"], "shape = [1, 64, 64]"),
        (["SECRET.hea", "b.hea"], "shape = [1, 1000]"),
        (["SECRET.nii.gz", None], "shape = [1, 64, 64, 64]"),
        ([[0.5] * 17, [0.25] * 17], "shape = [100]"),
        ([["SECRET"], ["SECRET17"]], "shape = [32]"),
    ],
)
def test_a_column_of_files_or_lists_drafts_a_tensor_to_be_finished(
    tmp_path: Path, cells: list[object], filled: str
) -> None:
    path = tmp_path / "scans.parquet"
    pd.DataFrame({"patient": ["p1", "p2"], "age": [30, 40], "the scan (a)": cells}).to_parquet(path)
    draft = draft_schema(path).replace('population = ""', 'population = "general"')
    for value in ("SECRET", "17", "0.25"):
        assert value not in draft
    for bound, value in (("minimum", "0"), ("maximum", "110")):  # of the age, which stands first
        draft = draft.replace(f"# {bound} = ", f"{bound} = {value} # ", 1)
    with pytest.raises(DataRefused, match="needs the shape"):
        Schema.from_toml(draft)
    draft = draft.replace("# vocabulary = []", 'vocabulary = ["E11"]')
    for name in ("shape", "sampling_rate"):
        draft = draft.replace(f"# {name} = ", f"{name} = ")
    for bound, value in (("minimum", "0"), ("maximum", "1")):
        draft = draft.replace(f"# {bound} = ", f"{bound} = {value} # ")
    (tensor,) = Schema.from_toml(draft).tensors
    assert (tensor.name, tensor.header) == ("the_scan_a", "the scan (a)")
    assert filled in draft
