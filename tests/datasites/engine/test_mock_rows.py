"""Mock rows: drawn from the schema alone, and good enough to try everything on."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest

from datasites.engine.mock_rows import draw_mock
from datasites.vault.encoding import check_table, encode, read_table
from policies.errors import DataRefused
from policies.schema.schemas import Schema
from tests.datasites.vault.dataset_factories import FLU, SECRET, write_csv


def test_mock_depends_on_schema_rows_and_seed_alone(tmp_path: Path) -> None:
    assert set(inspect.signature(draw_mock).parameters) == {"schema", "rows", "seed"}
    before = draw_mock(FLU)
    encode(read_table(write_csv(tmp_path / "flu.csv")), FLU, population_secret=SECRET)
    np.testing.assert_array_equal(draw_mock(Schema.from_toml(FLU.to_toml())), before)
    assert not np.array_equal(draw_mock(FLU, seed=1), before, equal_nan=True)
    assert not np.array_equal(draw_mock(dataclasses.replace(FLU, name="other")), before, equal_nan=True)


def test_mock_does_not_touch_global_randomness() -> None:
    np.random.seed(3)
    expected = np.random.RandomState(3).rand()
    draw_mock(FLU)
    assert np.random.rand() == expected


@pytest.mark.parametrize("rows", [2, 3, 20, 200, 5000])
def test_mock_passes_the_check_of_its_own_schema(rows: int) -> None:
    mock = draw_mock(FLU, rows)
    assert mock.shape == (rows, 2 + len(FLU.columns))
    frame = FLU.frame(mock)
    check_table(frame, FLU)
    again = encode(frame, FLU, population_secret=SECRET, shuffle=np.arange)
    np.testing.assert_array_equal(again[:, 2:], mock[:, 2:])


def test_mock_has_every_label_missing_cells_repeat_visits_and_both_splits() -> None:
    mock = draw_mock(FLU)
    frame = FLU.frame(mock)
    assert set(frame["ward"]) == set(FLU.column("ward").categories)
    assert set(frame["influenza"]) == {True, False}
    assert 0 < frame["temperature_1"].isna().mean() < 0.2
    assert not frame["age"].isna().any()
    visits = frame.groupby("patient_id").size()
    assert visits.max() > 1
    assert (visits == 1).any()
    assert visits.index.tolist() == list(range(len(visits)))  # codes are 0..P-1
    assert set(frame["held_out"]) == {True, False}
    assert (frame.groupby("patient_id")["held_out"].nunique() == 1).all()


def test_mock_without_holdout_holds_nobody_out() -> None:
    assert draw_mock(dataclasses.replace(FLU, holdout=0.0))[:, 1].max() == 0


@pytest.mark.parametrize("rows", [1, 1_000_001])
def test_mock_of_too_few_or_many_rows_is_refused(rows: int) -> None:
    with pytest.raises(DataRefused, match="outside"):
        draw_mock(FLU, rows)
