"""Bulk exports of FHIR: which fields become columns, and what is no export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasites.vault import fhir
from datasites.vault.encoding import encode
from datasites.vault.fhir import FIELDS, read_resources, resource_type
from datasites.vault.tables import read_table
from policies.errors import DataRefused
from policies.schema.as_written import FileFormat
from policies.schema.schemas import Schema
from tests.datasites.vault.dataset_factories import SECRET

LOINC = "http://loinc.org"


def concept(*codes: str) -> dict[str, Any]:
    return {"coding": [{"system": LOINC, "code": code} for code in codes]}


def observation(code: str, **fields: Any) -> dict[str, Any]:
    usual = {
        "status": "final",
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2020-01-31T12:00:00+01:00",
    }
    return {"resourceType": "Observation", **usual, "code": concept(code), **fields}


HEART_RATE = observation("8867-4", valueQuantity={"value": 72.0, "unit": "beats/minute", "code": "/min"})
PRESSURE = observation(
    "85354-9",
    component=[
        {"code": concept("8480-6"), "valueQuantity": {"value": 120, "code": "mm[Hg]"}},
        {"code": concept("8462-4"), "valueQuantity": {"value": 80, "code": "mm[Hg]"}},
        {"code": concept("8478-0"), "dataAbsentReason": concept("unknown")},
    ],
)


def export(path: Path, *resources: dict[str, Any] | str) -> Path:
    lines = (text if isinstance(text, str) else json.dumps(text, ensure_ascii=False) for text in resources)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def rows(path: Path, codes: tuple[str, ...] = ()) -> list[dict[str, str]]:
    table, lines = read_resources(path, codes)
    assert len(lines) == len(table)
    return table.to_pylist()  # type: ignore[no-any-return]


def test_a_patient_is_a_row(tmp_path: Path) -> None:
    born = {"resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": "1970-01-31"}
    path = export(tmp_path / "Patient.ndjson", born, {**born, "id": "p2", "deceasedDateTime": "2020-01-01"}, "")
    alive = {"patient": "p1", "gender": "female", "birth_date": "1970-01-31", "deceased": "false", "deceased_time": ""}
    assert rows(path) == [alive, {**alive, "patient": "p2", "deceased": "true", "deceased_time": "2020-01-01"}]
    assert resource_type(path) == "Patient"


def test_an_observation_is_a_row_and_each_of_its_components(tmp_path: Path) -> None:
    path = export(tmp_path / "o.ndjson", HEART_RATE, PRESSURE, {**HEART_RATE, "status": "entered-in-error"})
    table, lines = read_resources(path)
    assert lines == [1, 2, 2]
    assert table["code"].to_pylist() == ["8867-4", "8480-6", "8462-4"]
    assert table["value"].to_pylist() == ["72.0", "120", "80"]
    assert table["unit"].to_pylist() == ["/min", "mm[Hg]", "mm[Hg]"]
    assert set(table["time"].to_pylist()) == {"2020-01-31T12:00:00+01:00"}


def test_codes_choose_among_records_and_among_the_codings_of_one(tmp_path: Path) -> None:
    local = {**HEART_RATE, "code": {"coding": [{"code": "HR"}, {"code": "8867-4"}]}}
    path = export(tmp_path / "o.ndjson", HEART_RATE, PRESSURE, local)
    assert [row["code"] for row in rows(path, ("8867-4",))] == ["8867-4", "8867-4"]
    assert [row["value"] for row in rows(path, ("8462-4",))] == ["80"]


def test_answers_that_are_no_numbers(tmp_path: Path) -> None:
    smoker = observation("72166-2", valueCodeableConcept=concept("266919005"))
    path = export(
        tmp_path / "o.ndjson", smoker, observation("x", valueBoolean=True), observation("y", valueString=" a ")
    )
    assert [row["answer"] for row in rows(path)] == ["266919005", "true", "a"]


def test_conditions_and_encounters(tmp_path: Path) -> None:
    condition = {
        "resourceType": "Condition", "subject": {"reference": "https://host/fhir/Patient/p1/_history/2"},
        "code": concept("44054006"), "clinicalStatus": concept("active"), "onsetDateTime": "2019-05-01",
    }  # fmt: skip
    wrong = {**condition, "verificationStatus": concept("entered-in-error")}
    (row,) = rows(export(tmp_path / "c.ndjson", condition, wrong))
    assert (row["patient"], row["code"], row["clinical_status"], row["onset_time"]) == (
        "p1",
        "44054006",
        "active",
        "2019-05-01",
    )
    encounter = {
        "resourceType": "Encounter", "subject": {"reference": "Patient/p1"}, "status": "finished",
        "class": {"code": "AMB"}, "period": {"start": "2020-01-01T08:00:00Z", "end": "2020-01-01T09:00:00Z"},
    }  # fmt: skip
    r5 = {**encounter, "class": [concept("IMP")], "actualPeriod": encounter["period"]}
    read = rows(export(tmp_path / "e.ndjson", encounter, r5))
    assert [row["class"] for row in read] == ["AMB", "IMP"]
    assert {row["end_time"] for row in read} == {"2020-01-01T09:00:00Z"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "has no resources"),
        (["{"], "Line 1 of t.ndjson is no JSON"),
        ([json.dumps(HEART_RATE), "NaN"], "Line 2 of t.ndjson is no JSON"),
        (["[" * 100_000], "Line 1 of t.ndjson is no JSON"),
        (["[1]"], "Line 1 of t.ndjson is no resource"),
        (['{"resourceType": "Binary"}'], "is of type 'Binary'. Publish one of Patient, Observation"),
        (
            [json.dumps(HEART_RATE), '{"resourceType": "Patient"}'],
            "Line 2 of t.ndjson is of type 'Patient' and the first",
        ),
        (['{"resourceType": "Patient", "id": "\\ud800"}'], "Line 1 of t.ndjson is no JSON"),
    ],
)
def test_what_is_no_export_is_refused_by_line(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(DataRefused, match=said):
        read_resources(export(tmp_path / "t.ndjson", *lines))


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhir, "LONGEST_LINE", 1000)
    with pytest.raises(DataRefused, match=r"Line 1 of t.ndjson is longer than 1000 bytes"):
        read_resources(export(tmp_path / "t.ndjson", '{"resourceType": "Patient", "id": "' + "x" * 2000))


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "id", "subject", "reference", "code", "coding", "valueQuantity", "value", "component", "status", "class", "period",
    "start", "clinicalStatus", "verificationStatus", "valueCodeableConcept", "deceasedDateTime", "effectivePeriod",
)  # fmt: skip


@given(st.sampled_from(tuple(FIELDS)), st.dictionaries(st.sampled_from(KEYS), ANY_JSON, max_size=8))
def test_any_resource_becomes_texts(kind: str, fields: dict[str, Any]) -> None:
    for row in fhir._READ[kind]({**fields, "resourceType": kind}, ()):
        assert set(row) == set(FIELDS[kind])
        assert all(isinstance(text, str) for text in row.values())


SCHEMA = """
name = "heart-rate"
population = "p"
patient = "patient"
file = {codes = ["8867-4"]}
[columns.value]
kind = "real"
minimum = 20
maximum = 300
[columns.time]
kind = "datetime"
truncate = "hour"
zone = "UTC"
minimum = 2020-01-01T00:00:00
maximum = 2021-01-01T00:00:00
"""


def test_an_export_becomes_the_matrix_that_its_schema_says(tmp_path: Path) -> None:
    schema = Schema.from_toml(SCHEMA)
    path = export(tmp_path / "o.ndjson", HEART_RATE, PRESSURE)
    frame = read_table(path, schema.file)
    matrix = encode(frame, schema, population_secret=SECRET, shuffle=np.arange)
    assert matrix[:, 2:].tolist() == [[72.0, 30 * 24 + 11]]
    bad = {**HEART_RATE, "valueQuantity": {"value": "high"}}
    with pytest.raises(DataRefused, match="row 3, column 'value': 'high' is not a number"):
        encode(read_table(export(path, HEART_RATE, "", bad), FileFormat()), schema, population_secret=SECRET)
