"""Sequences of codes: numbers of a declared vocabulary, of every record as many, each fault with row and reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from datasites.vault.tensor_sources import TensorSources
from policies.errors import DataRefused
from policies.schema.schemas import Schema
from policies.schema.tensors import Tensor
from researcher.mock_rows import with_tensors

pytestmark = pytest.mark.process

TEXT = """\
name = "stays"
population = "patients"
patient = "patient"
target = "sick"

[columns.sick]
kind = "boolean"

[tensors.diagnoses]
shape = [4]
vocabulary = ["E11", "I10", "J18"]
"""
SCHEMA = Schema.from_toml(TEXT)


def written(cells: list[Any], kind: pa.DataType, scratch: Path, more: str = "") -> list[list[int]]:
    schema = Schema.from_toml(TEXT + more)
    column = pd.Series(pd.arrays.ArrowExtensionArray(pa.array(cells, kind)))
    frame = pd.DataFrame({"patient": ["p"] * len(cells), "diagnoses": column})
    frame.index = pd.RangeIndex(2, 2 + len(cells))
    stored = np.zeros((len(cells), 4), np.uint16)
    with TensorSources(frame, schema, None, scratch=scratch) as sources:
        sources.write(np.arange(len(cells)), {"diagnoses": stored})
    return [list(map(int, row)) for row in stored]


def test_lists_and_texts_become_numbers_and_places_that_are_left_are_none(tmp_path: Path) -> None:
    expected = [[3, 2, 0, 0], [4, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert written([["I10", "E11"], ["J18"], [], None], pa.list_(pa.string()), tmp_path) == expected
    assert written(["I10; E11", "J18", " ", None], pa.string(), tmp_path) == expected
    assert written(["I10|E11", "J18"], pa.string(), tmp_path) == expected[:2]


def test_whole_numbers_are_codes(tmp_path: Path) -> None:
    more = TEXT.replace('["E11", "I10", "J18"]', '["201826", "320128"]')
    schema = Schema.from_toml(more)
    frame = pd.DataFrame({"diagnoses": pd.Series(pd.arrays.ArrowExtensionArray(pa.array([[320128, 201826]])))})
    stored = np.zeros((1, 4), np.uint16)
    with TensorSources(frame, schema, None, scratch=tmp_path) as sources:
        sources.write(np.arange(1), {"diagnoses": stored})
    np.testing.assert_array_equal(stored, [[3, 2, 0, 0]])


@pytest.mark.parametrize(
    ("window", "expected"), [("start", [2, 3, 4, 2]), ("middle", [3, 4, 2, 3]), ("end", [4, 2, 3, 4])]
)
def test_a_longer_sequence_is_cut_where_that_is_declared(window: str, expected: list[int], tmp_path: Path) -> None:
    long = ["E11", "I10", "J18", "E11", "I10", "J18"]
    assert written([long], pa.list_(pa.string()), tmp_path, f'window = "{window}"\n') == [expected]


def test_another_code_is_other_where_that_is_declared(tmp_path: Path) -> None:
    assert written(["I10 Z99"], pa.string(), tmp_path, 'outside = "clamp"\n') == [[3, 1, 0, 0]]


def test_every_fault_has_row_and_reason(tmp_path: Path) -> None:
    with pytest.raises(DataRefused) as refusal:
        written([["I10"], ["Z99"], ["E11"] * 5, [None]], pa.list_(pa.string()), tmp_path)
    said = str(refusal.value)
    assert "3 fault(s)" in said
    assert "row 3, column 'diagnoses': holds 'Z99', which is not in the vocabulary" in said
    assert "row 4, column 'diagnoses': has 5 codes, and the schema declares 4" in said
    assert "row 5, column 'diagnoses': holds 'NoneType'" in said
    with pytest.raises(DataRefused, match="no column 'diagnoses' of its codes"):
        TensorSources(pd.DataFrame({"patient": ["p"]}), SCHEMA, None, scratch=tmp_path)


def test_a_vocabulary_says_dtype_and_bounds_and_comes_back() -> None:
    (codes,) = SCHEMA.tensors
    assert (codes.dtype, codes.minimum, codes.maximum, codes.last_code) == ("uint16", 0, 4, 4)
    assert Schema.from_toml(SCHEMA.to_toml()) == SCHEMA
    assert set(SCHEMA.as_dict()["tensors"]["diagnoses"]) == {"shape", "vocabulary"}
    assert codes.said() == "4 places for 3 codes"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"vocabulary": ["a", "a"]}, "twice"),
        ({"vocabulary": ["a b"]}, "part codes"),
        ({"vocabulary": [""]}, "1 to 40"),
        ({"vocabulary": ["a" * 41]}, "1 to 40"),
        ({"vocabulary": [str(number) for number in range(5000)]}, "at most 4,096"),
        ({"vocabulary": "E11"}, "at most 4,096"),
        ({"shape": [2, 4]}, "one size"),
        ({"sampling_rate": 100}, "no channels"),
        ({"maximum": 9}, "follow from the vocabulary"),
        ({"dtype": "uint8"}, "dtype"),
    ],
)
def test_what_is_no_vocabulary_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(DataRefused, match=why):
        Tensor.from_dict("diagnoses", {"shape": [4], "vocabulary": ["E11", "I10"], **change})


def test_whatever_is_stored_is_a_number_of_the_vocabulary() -> None:
    (codes,) = SCHEMA.tensors
    found = codes.scaled(np.arange(1 << 16, dtype=np.uint16))
    assert (found.dtype, found.min(), found.max()) == (np.float32, 0, 4)


def test_a_mock_has_codes_of_the_vocabulary_alone() -> None:
    (codes,) = SCHEMA.tensors
    drawn = codes.draw_mock(500)
    assert set(np.unique(drawn)) == {0, 2, 3, 4}
    assert (drawn[:, 0] > 0).all()
    np.testing.assert_array_equal(codes.draw_mock(500), drawn)
    shown = with_tensors(SCHEMA, pd.DataFrame({"sick": [True] * 3}))["diagnoses"]
    assert set(" ".join(shown).split()) <= {"E11", "I10", "J18"}
    assert codes.codes(np.array([3, 1, 0, 0], np.uint16)) == ("I10", "other")
