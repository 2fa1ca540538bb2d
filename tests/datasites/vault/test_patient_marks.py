"""Marks of patients: who is in two populations is counted, a sample stays of what is retired, nothing else is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasites.vault import patient_marks
from datasites.vault.encoding import encode
from datasites.vault.patient_marks import FOLDER, Marks, forget_unknown, keep_marks, shared_patients, thin_marks
from datasites.vault.tables import read_table
from tests.datasites.vault.dataset_factories import FLU, SECRET, write_csv

DRAWN = np.random.default_rng(7).integers(0, 2**64, 60_000, dtype=np.uint64)


def marks_of(tmp_path: Path, *patients: str, secret: bytes = SECRET) -> Marks:
    rows = [f"{patient},30,37.5,,emergency,2025-10-01,1" for patient in patients]
    seen: list[Marks] = []
    frame = read_table(write_csv(tmp_path / "t.csv", *rows))
    encode(frame, FLU, population_secret=secret, look_at=lambda distinct, rows, marks: seen.append(marks))
    return seen[0]


def test_a_patient_has_one_mark_in_every_table_and_another_under_another_secret(tmp_path: Path) -> None:
    first, second = marks_of(tmp_path, "p1", "p2", "p1"), marks_of(tmp_path, "p2", "p3")
    assert (len(first), len(second)) == (2, 2)
    assert len({*first.tolist(), *second.tolist()}) == 3
    assert not {*first.tolist()} & {*marks_of(tmp_path, "p1", "p2", secret=b"another secret of it").tolist()}


def test_a_mark_does_not_say_who_is_held_out(tmp_path: Path) -> None:
    """Else whoever saw marks could tell the sides: it is made of other bits."""
    from datasites.vault.encoding import is_held_out

    patients = [f"p{number}" for number in range(400)]
    marks = dict(zip(patients, marks_of(tmp_path, *patients).tolist(), strict=True))
    low = [patient for patient in patients if marks[patient] < 2**63]
    held_out = [is_held_out(patient, SECRET, 0.5) for patient in low]
    assert 0.35 < np.mean(held_out) < 0.65


def test_shared_patients_are_counted_exactly_while_a_version_is_published(tmp_path: Path) -> None:
    keep_marks(tmp_path, "v1", DRAWN[:50_000])
    assert shared_patients(tmp_path, "v1", DRAWN[49_990:], whole=True) == 10
    assert shared_patients(tmp_path, "v2", DRAWN, whole=True) == 0


def test_of_a_retired_version_a_sample_stays_and_says_about_how_many(tmp_path: Path) -> None:
    keep_marks(tmp_path, "v1", DRAWN[:50_000])
    thin_marks(tmp_path, "v1")
    thin_marks(tmp_path, "v1")
    path = tmp_path / FOLDER / "v1.marks"
    assert path.stat().st_size == 8 * 1024
    # Of 30,000 shared ones about 614 are in the sample of 1024: a standard error of 2.5 %.
    assert shared_patients(tmp_path, "v1", DRAWN[20_000:], whole=False) == pytest.approx(30_000, rel=0.1)
    assert shared_patients(tmp_path, "v1", DRAWN[50_000:], whole=False) == 0


def test_a_small_version_stays_whole_when_it_is_retired(tmp_path: Path) -> None:
    keep_marks(tmp_path, "v1", DRAWN[:100])
    thin_marks(tmp_path, "v1")
    assert shared_patients(tmp_path, "v1", DRAWN[90:], whole=False) == 10


def test_what_a_publication_that_never_ended_left_is_removed(tmp_path: Path) -> None:
    forget_unknown(tmp_path, set())  # no folder yet
    keep_marks(tmp_path, "v1", DRAWN[:5])
    keep_marks(tmp_path, "v2", DRAWN[:5])
    forget_unknown(tmp_path, {"v2"})
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["v2.marks"]


def test_marks_are_the_owners_alone(tmp_path: Path) -> None:
    keep_marks(tmp_path, "v1", DRAWN[:5])
    assert patient_marks.folder(tmp_path).stat().st_mode & 0o777 == 0o700
    assert (tmp_path / FOLDER / "v1.marks").stat().st_mode & 0o777 == 0o600
