"""Mocks that the owner declares public, read from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasites.vault.mocks import public_mock
from policies.errors import DataRefused
from tests.datasites.vault.dataset_factories import FLU, write_csv


def test_public_mock_comes_from_the_file_in_its_order(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "public.csv")
    mock = public_mock(path, FLU)
    assert mock[:, 2].tolist() == [30, 31, 110]
    np.testing.assert_array_equal(public_mock(path, FLU), mock)


def test_public_mock_that_does_not_fit_the_schema_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "public.csv", "p1,-4,37,37,general,2025-10-01,perhaps")
    with pytest.raises(DataRefused, match="1 fault") as refusal:
        public_mock(path, FLU)
    assert refusal.value.total == 1  # the age is clamped, "perhaps" is not
