"""Drafts for OMOP's tables: query and schema fit each other on a small database of the common data model."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from datasites.cli.main import app
from datasites.vault.encoding import encode, unused_columns
from datasites.vault.omop import EVENTS, TABLES, omop_query, omop_schema
from datasites.vault.tables import SqlQuery, read_table
from policies.errors import InvalidRequest
from policies.schema.schemas import Schema
from tests.datasites.vault.dataset_factories import SECRET

# The columns of OMOP CDM 5.4 that drafts read, with the model's own types, and four rows of two people.
CDM = """
CREATE TABLE person (person_id integer NOT NULL, gender_concept_id integer NOT NULL, year_of_birth integer NOT NULL,
                     race_concept_id integer NOT NULL);
CREATE TABLE death (person_id integer NOT NULL, death_date date NOT NULL);
CREATE TABLE visit_occurrence (visit_occurrence_id integer, person_id integer, visit_concept_id integer,
                               visit_start_date date, visit_end_date date);
INSERT INTO person VALUES (1, 8507, 1950, 8527), (2, 8532, 1980, 0);
INSERT INTO death VALUES (1, '2021-03-04');
INSERT INTO visit_occurrence VALUES (10, 1, 9201, '2020-01-30', '2020-02-03'), (11, 2, 9203, '2020-05-01', NULL);
"""
CONCEPT = 201826


@pytest.fixture
def cdm(tmp_path: Path) -> str:
    connection = sqlite3.connect(tmp_path / "cdm.db")
    connection.executescript(CDM)
    for table, (concept, date, number) in EVENTS.items():
        value = ", value_as_number numeric" if number else ""
        connection.execute(f"CREATE TABLE {table} (person_id integer, {concept} integer, {date} date{value})")
        rows = [(1, CONCEPT, "2020-01-30", 7.5), (2, 99, "2020-01-31", 8.5), (2, CONCEPT, "2020-02-01", 6.5)]
        for row in rows:
            kept = row if number else row[:3]
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(kept))})", kept)
    connection.commit()
    connection.close()
    return f"sqlite:///{tmp_path}/cdm.db"


def finished(table: str, concepts: tuple[int, ...]) -> Schema:
    text = omop_schema(table, concepts).replace('population = ""', 'population = "general"')
    return Schema.from_toml(text.replace("# minimum = ", "minimum = 0 #").replace("# maximum = ", "maximum = 20 #"))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("many", [False, True])
def test_a_query_gives_the_columns_that_its_schema_declares(cdm: str, table: str, many: bool) -> None:
    concepts = ((CONCEPT, 99) if many else (CONCEPT,)) if table in EVENTS else ()
    schema = finished(table, concepts)
    frame = read_table(SqlQuery(omop_query(table, concepts), cdm))
    left_out = unused_columns(frame, schema)
    matrix = encode(frame, schema, population_secret=SECRET)
    assert len(matrix) == (3 if many and table in EVENTS else 2)
    assert left_out == (() if many or table not in EVENTS else ("concept",))


def test_what_the_columns_hold(cdm: str) -> None:
    people = read_table(SqlQuery(omop_query("person"), cdm))
    matrix = encode(people, finished("person", ()), population_secret=SECRET, shuffle=np.arange)
    assert matrix[:, 2:].tolist() == [[1950, 0, 2, 1], [1980, 1, 3, 0]]  # year, sex, race, died
    visits = read_table(SqlQuery(omop_query("visit_occurrence"), cdm))
    schema = finished("visit_occurrence", ())
    shown = schema.frame(encode(visits, schema, population_secret=SECRET, shuffle=np.arange))
    assert shown["visit"].tolist() == ["inpatient", "emergency"]
    assert shown["age"].tolist() == [70, 40]
    assert [str(day)[:10] for day in shown["end_date"]] == ["2020-02-03", "NaT"]  # a visit that goes on is missing
    measured = read_table(SqlQuery(omop_query("measurement", (CONCEPT,)), cdm))
    schema = finished("measurement", (CONCEPT,))
    assert schema.frame(encode(measured, schema, population_secret=SECRET, shuffle=np.arange))["value"].tolist() == [
        7.5,
        6.5,
    ]


@pytest.mark.parametrize(
    ("table", "concepts", "said"),
    [
        ("note", (), "'note' is no table of OMOP that is drafted"),
        ("measurement", (), "measurement holds many concepts. Say which"),
        ("person", (1,), "person has no concepts to choose"),
        ("measurement", (1, 1), "one is there twice"),
        ("measurement", (-1,), "--concept -1 is not a whole number from 0"),
        ("measurement", tuple(range(501)), "501 concepts are above 500"),
    ],
)
def test_what_is_no_draft_is_refused(table: str, concepts: tuple[int, ...], said: str) -> None:
    for made in (omop_query, omop_schema):
        with pytest.raises(InvalidRequest, match=said):
            made(table, concepts)


def test_the_command_line_prints_schema_and_query() -> None:
    run = CliRunner()
    arguments = ["schema", "--omop", "measurement", "--concept", "3004249", "--concept", "3012888"]
    assert run.invoke(app, arguments).output == omop_schema("measurement", (3004249, 3012888))
    assert run.invoke(app, [*arguments, "--query"]).output == omop_query("measurement", (3004249, 3012888))
    assert isinstance(run.invoke(app, ["schema"]).exception, InvalidRequest)
    assert isinstance(run.invoke(app, ["schema", "a.csv", "--query"]).exception, InvalidRequest)
