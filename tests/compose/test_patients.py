"""The generator of patients: what it claims of them, and that hospitals can publish them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compose.patients import (
    COLUMNS,
    FEATURES,
    FINDINGS,
    HOSPITALS,
    TARGET,
    VACCINE_ODDS_RATIO,
    Hospital,
    make_patients,
    make_test_population,
    write_csv,
)
from compose.tables import schema_path
from datasites.vault.encoding import check_table, read_table
from policies.schema.schemas import Schema
from researcher.cohort import check_same_schema

GENERAL, PAEDIATRIC, RURAL = HOSPITALS


def odds_ratio(pair: tuple[float, float]) -> float:
    sensitivity, false_positive = pair
    return sensitivity / (1 - sensitivity) / (false_positive / (1 - false_positive))


def test_findings_have_the_published_ratios() -> None:
    # Call 2005: LR- of cough 0.42 at any age, LR+ of fever 3.8 and of chills 2.6 from 60 years on.
    sensitivity, false_positive = FINDINGS["cough"].adult
    assert (1 - sensitivity) / (1 - false_positive) == pytest.approx(0.42, abs=0.005)
    assert FINDINGS["fever"].older[0] / FINDINGS["fever"].older[1] == pytest.approx(3.8, abs=0.05)
    assert FINDINGS["chills"].older[0] / FINDINGS["chills"].older[1] == pytest.approx(2.6, abs=0.05)
    # Monto 2000 (adults), Govaert 1998 (older), Heinonen and Friedman (children): odds ratios.
    assert odds_ratio(FINDINGS["fever"].adult) == pytest.approx(3.26, abs=0.05)
    assert odds_ratio(FINDINGS["nasal_congestion"].adult) == pytest.approx(1.98, abs=0.05)
    assert odds_ratio(FINDINGS["sore_throat"].adult) == pytest.approx(0.72, abs=0.01)
    assert odds_ratio(FINDINGS["cough"].older) == pytest.approx(5.25, abs=0.05)
    assert odds_ratio(FINDINGS["fever"].child) == pytest.approx(13.6, abs=0.1)
    assert odds_ratio(FINDINGS["sore_throat"].child) == pytest.approx(3.9, abs=0.05)


def test_vaccinated_patients_have_influenza_less_often_by_the_published_ratio() -> None:
    table = make_patients(GENERAL, seed=5, patients=60_000)
    flu, shot = table[TARGET] > 0, table["vaccinated"] > 0
    odds = (shot & flu).sum() * (~shot & ~flu).sum() / ((shot & ~flu).sum() * (~shot & flu).sum())
    assert odds == pytest.approx(VACCINE_ODDS_RATIO, abs=0.04)  # standard error of the log odds ratio near 0.02


def test_the_same_seed_gives_the_same_patients_and_hospitals_differ() -> None:
    first, again = (make_patients(RURAL, seed=3, patients=200) for _ in range(2))
    assert all(np.array_equal(first[name], again[name], equal_nan=True) for name in COLUMNS)
    other = make_patients(RURAL, seed=4, patients=200)
    assert not np.array_equal(first["temperature_day1"][:50], other["temperature_day1"][:50])


@pytest.mark.parametrize("hospital", HOSPITALS, ids=lambda each: each.name)
def test_every_hospital_has_its_patients_with_one_to_four_visits(hospital: Hospital) -> None:
    table = make_patients(hospital, seed=1)
    visits = np.bincount(table["patient"].astype(int))
    assert 4_000 <= len(visits) == hospital.patients <= 12_000
    assert set(visits) == {1, 2, 3, 4}
    assert tuple(table) == COLUMNS
    assert len(FEATURES) == 10


def test_hospitals_disagree_in_age_and_incidence() -> None:
    tables = [make_patients(each, seed=1) for each in HOSPITALS]
    ages = [float(np.median(each["age"])) for each in tables]
    incidences = [each[TARGET].mean() for each in tables]
    assert ages[1] < 10 < 30 < ages[0] < 50 < 60 < ages[2]
    assert incidences[1] > incidences[0] + 0.05 > incidences[2] + 0.1


def test_sore_throat_speaks_for_influenza_in_children_and_against_it_in_adults() -> None:
    def ratio(hospital: Hospital) -> float:
        table = make_patients(hospital, seed=2, patients=20_000)
        sore, flu = table["sore_throat"] > 0, table[TARGET] > 0
        return float(sore[flu].mean() / sore[~flu].mean())

    assert ratio(PAEDIATRIC) > 1.3
    assert ratio(GENERAL) < 1.0


def test_visits_of_one_patient_go_together() -> None:
    table = make_patients(GENERAL, seed=6, patients=10_000, visits=2)
    order = np.argsort(table["patient"], kind="stable")
    pairs = (table["myalgia"] - table["myalgia"].mean())[order].reshape(-1, 2)
    assert (pairs[:, 0] * pairs[:, 1]).mean() > 0.005  # independent visits: 0 ± 0.0025


def test_the_common_test_population_is_an_equal_mixture_of_fresh_patients() -> None:
    table = make_test_population(seed=1, each=500)
    assert len(table["age"]) == 1500
    fresh = make_patients(GENERAL, seed=1, patients=500, visits=1)
    assert not np.array_equal(table["temperature_day1"][:500], fresh["temperature_day1"])
    assert (table["age"][500:1000] < 20).mean() > 0.95


@pytest.mark.parametrize("hospital", HOSPITALS, ids=lambda each: each.name)
def test_a_hospital_can_publish_its_table_under_its_schema(hospital: Hospital, tmp_path: Path) -> None:
    write_csv(make_patients(hospital, seed=1, patients=300), tmp_path / "flu.csv", prefix="G")
    check_table(read_table(tmp_path / "flu.csv"), read_schema(hospital))


def test_the_three_schemas_make_one_cohort_of_ten_inputs() -> None:
    schemas = {each.name: read_schema(each) for each in HOSPITALS}
    check_same_schema(schemas)
    for schema in schemas.values():
        assert schema.feature_names == FEATURES
        assert schema.input_shape("course") == (5, 2)
    assert len({schema.population for schema in schemas.values()}) == 3


def read_schema(hospital: Hospital) -> Schema:
    return Schema.from_toml(schema_path(hospital.name).read_text(encoding="utf-8"))
