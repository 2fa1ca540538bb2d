"""What publishing notices about a table: δ against patients, populations alike, kept for the owner to read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasites.vault.concerns import delta_concern, keep_report, name_concerns, overlap_concerns, read_report
from datasites.vault.identifiers import Concern
from datasites.vault.patient_marks import FOLDER, keep_marks

MARKS = np.arange(1, 101, dtype=np.uint64) << np.uint64(40)


@pytest.mark.parametrize(
    ("delta", "patients", "concerned"), [(1e-5, 99_999, False), (1e-5, 100_000, True), (1e-2, 100, True)]
)
def test_a_delta_of_one_in_the_patients_or_more_is_a_concern(delta: float, patients: int, concerned: bool) -> None:
    assert bool(delta_concern(delta, patients, is_new=True)) == concerned


def test_a_new_population_can_still_begin_with_a_smaller_delta() -> None:
    (new,) = delta_concern(1e-5, 250_000, is_new=True)
    assert "such as 0.0000001." in new.advice  # a tenth of 1/250,000 is 4e-7
    (old,) = delta_concern(1e-5, 250_000, is_new=False)
    assert "keeps its δ" in old.advice


@pytest.mark.parametrize(
    ("name", "alike"),
    [
        ("General Hospital", True),
        ("general_hospital", True),
        ("general-hospitals", True),
        ("general-hospital-2", True),
        ("icu", False),
        ("hospital", False),
    ],
)
def test_a_new_population_whose_name_looks_like_another_is_a_concern(name: str, alike: bool) -> None:
    concerns = name_concerns(name, ["general-hospital", "dialysis"])
    assert bool(concerns) == alike
    assert not concerns or "'general-hospital'" in concerns[0].what


def test_patients_of_another_population_are_counted(tmp_path: Path) -> None:
    keep_marks(tmp_path, "v1", MARKS[:60])
    keep_marks(tmp_path, "v2", MARKS[:40])
    others = {"ward": [("v1", True), ("v2", True)], "clinic": [("v3", True)]}
    (concern,) = overlap_concerns(tmp_path, MARKS[50:], others)
    assert concern.count == 10
    assert "10 of the 50 identifiers in this table are also in 'ward'" in concern.what


def test_a_report_is_read_again_and_is_the_owners_alone(tmp_path: Path) -> None:
    keep_report(tmp_path, "v1", ["a note"], [Concern("what", 3, "do")])
    assert read_report(tmp_path, "v1") == {
        "notes": ["a note"],
        "concerns": [{"what": "what", "count": 3, "advice": "do"}],
    }
    assert read_report(tmp_path, "v2") is None
    assert (tmp_path / FOLDER / "v1.json").stat().st_mode & 0o777 == 0o600
