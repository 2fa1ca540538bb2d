"""Mock rows with tensors: arrays in natural units, and pictures in a notebook of nothing but numbers."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from datasites.engine.mock_rows import draw_mock
from policies.schema.schemas import Schema
from researcher.mock_rows import MockRows, drawn_mock, png, with_tensors

SCHEMA = Schema.from_toml("""\
name = "xrays"
population = "patients"
patient = "patient"

[columns.sick]
kind = "boolean"

[tensors.xray]
shape = [1, 16, 12]

[tensors.ecg]
shape = [2, 100]
dtype = "float16"
minimum = -5
maximum = 5
""")


def test_a_tensor_is_a_column_of_arrays_in_its_units() -> None:
    rows = with_tensors(SCHEMA, SCHEMA.frame(draw_mock(SCHEMA, 300)))
    assert rows["xray"].iloc[299].shape == (1, 16, 12)
    assert max(np.abs(values).max() for values in rows["ecg"]) <= 5
    np.testing.assert_array_equal(rows["xray"].iloc[0], drawn_mock(SCHEMA.tensors[0], 300)[0])


def test_a_notebook_shows_the_first_ones_as_pictures() -> None:
    rows = with_tensors(SCHEMA, SCHEMA.frame(draw_mock(SCHEMA, 20)))
    shown = rows._repr_html_()
    assert isinstance(rows.head(3), MockRows)
    assert shown.count("<img ") == 16
    found = re.search(r"base64,([^\"]+)", shown)
    assert found is not None
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as picture:
        assert picture.size == (12, 16)


def test_pictures_are_png() -> None:
    for pixels in (np.arange(12, dtype=np.uint8).reshape(3, 4), np.arange(36, dtype=np.uint8).reshape(3, 4, 3)):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)
