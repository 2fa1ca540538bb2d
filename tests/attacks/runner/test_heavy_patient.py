"""One patient with very many records moves no clock: two hospitals that differ by that patient take as long.

A round's public time counts patients. Its work counted rows: who had a million of them made every round of a hospital
show a multiple later, and so did not even need to be sampled to be seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datasites.engine.matrix import in_groups
from datasites.engine.statistics import choose_records
from datasites.jobs import child
from datasites.vault.encoding import encode
from policies.privacy.mechanisms import as_dict
from tests.browser.desk import Desk
from tests.factories import SCHEMA as DECLARED
from tests.policies.plan_factories import SCHEMA, plan_of, statistics, training
from tests.timing import unevenness

PATIENTS, HEAVY = 2000, 300_000
SECRET = b"of both hospitals"


def table(*, heavy: int) -> pd.DataFrame:
    """Made-up visits under `SCHEMA`, with one patient more who has so many."""
    patients = [f"p{number}" for number in range(PATIENTS)] + ["heavy"] * heavy
    chance = np.random.default_rng(1)
    values: dict[str, Any] = {SCHEMA.patient: patients}
    for column in SCHEMA.columns:
        whole = chance.integers(int(column.low), int(column.high), len(patients), endpoint=True)
        values[column.name] = [column.categories[place] for place in whole] if column.categories else whole
    return pd.DataFrame(values)


@pytest.fixture(scope="module")
def hospitals() -> tuple[np.ndarray, np.ndarray]:
    """The private matrices of two hospitals, one of which has the heavy patient."""
    without, with_heavy = (
        encode(table(heavy=heavy), SCHEMA, population_secret=SECRET, shuffle=None) for heavy in (0, HEAVY)
    )
    return without, with_heavy


def test_a_heavy_patient_adds_a_bounded_number_of_rows(hospitals: tuple[np.ndarray, np.ndarray]) -> None:
    without, with_heavy = hospitals
    assert len(without) == PATIENTS
    assert len(with_heavy) == PATIENTS + SCHEMA.most_records_per_patient


class Counting:
    """A source of numbers that counts how many are drawn."""

    def __init__(self) -> None:
        self.drawn, self.chance = 0, np.random.default_rng(1)

    def uniforms(self, count: int) -> np.ndarray:
        self.drawn += count
        return self.chance.random(count)


def test_statistics_draw_for_a_bounded_number_of_rows_more(hospitals: tuple[np.ndarray, np.ndarray]) -> None:
    drawn = []
    for matrix in hospitals:
        source = Counting()
        assert len(choose_records(matrix[:, 0], 1, source)) in (PATIENTS, PATIENTS + 1)
        drawn.append(source.drawn)
    assert drawn[1] - drawn[0] <= SCHEMA.most_records_per_patient


@pytest.mark.parametrize("declared", [training(steps=10), statistics()], ids=["training", "statistics"])
def test_a_job_takes_as_long_with_a_heavy_patient(hospitals: tuple[np.ndarray, np.ndarray], declared: Any) -> None:
    """Well within what lies between a round's own time and its public one, which is half as long again."""
    plan = plan_of(declared)
    work, _ = child.JOBS["runner"]["train" if declared.kind == "dp_sgd" else "statistics"]
    job = {
        "plan": plan.as_dict(),
        "mechanism": as_dict(plan.mechanism),
        "schema": SCHEMA.as_dict(),
        "training_patients": PATIENTS,
        "patients": PATIENTS,
    }
    parameters = plan.graph.parameters if plan.graph is not None else ()
    weights = child._release({each.name: np.zeros(each.shape, np.float32) for each in parameters})
    without, with_heavy = hospitals
    read = {name: in_groups(matrix, HEAVY) for name, matrix in (("without", without), ("with", with_heavy))}
    ratio = unevenness(lambda rows: work(job, weights, rows), read, even=1.1, usual=in_groups(without, HEAVY))
    assert ratio < 1.25


def test_the_owner_alone_is_told_how_many_were_left_out(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "datasite")
    uploaded: list[int] = []

    def upload(name: str, description: str, private: np.ndarray, mock: np.ndarray) -> str:
        uploaded.append(len(private))
        return "asset"

    desk.syft.upload = upload  # type: ignore[attr-defined]
    desk.syft.forget_datasets = lambda keep: None  # type: ignore[attr-defined]
    header = "patient,age,temperature,cough,onset,influenza\n"
    (tmp_path / "visits.csv").write_text(header + "one,30,37.0,0,1,1\n" * 1234 + "two,31,37.0,0,1,0\n" * 5)
    facts = {
        "table": str(tmp_path / "visits.csv"), "sql": None, "database": None, "password_file": None,
        "schema": DECLARED.replace('name = "flu"', 'name = "visits"'), "patients": 2, "count_epsilon": None,
        "budget": [6.0, 1e-5], "public_mock": None,
    }  # fmt: skip
    try:
        done = desk.act("publish", facts)
        said = desk.datasite.audit_log.entries(search="publish")
    finally:
        desk.close()
    assert uploaded == [1005]
    (note,) = done["notes"]
    assert note.startswith("234 records of patients with more than 1,000 were left out, drawn at random.")
    assert "234" not in repr([(row.object, row.details) for row in said])
