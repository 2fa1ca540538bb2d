"""Declared tensors: what is refused, and that whatever is stored becomes finite numbers inside public bounds."""

from __future__ import annotations

import json

import numpy as np
import pytest

from policies.errors import DataRefused, UnsupportedMechanism
from policies.schema.schemas import Schema
from policies.schema.tensors import Tensor

TEXT = """\
name = "xrays"
population = "patients"
patient = "patient"
target = "sick"

[columns.age]
kind = "integer"
minimum = 0
maximum = 110

[columns.sick]
kind = "boolean"

[tensors.xray]
shape = [1, 32, 24]
outside = "clamp"
resize = "area"

[tensors.ecg]
shape = [2, 500]
dtype = "float16"
minimum = -5
maximum = 5
unit = "mV"
"""
SCHEMA = Schema.from_toml(TEXT)


def test_a_schema_with_tensors_comes_back_from_its_text_and_from_json() -> None:
    assert Schema.from_toml(SCHEMA.to_toml()) == SCHEMA
    assert Schema.from_dict(json.loads(json.dumps(SCHEMA.as_dict()))) == SCHEMA


def test_a_schema_without_tensors_is_written_as_before() -> None:
    assert "tensors" not in Schema.from_toml(TEXT.partition("[tensors")[0]).as_dict()


def test_a_tensor_is_a_models_only_input() -> None:
    assert SCHEMA.input_shape("xray") == SCHEMA.input_shape(("xray",)) == (1, 32, 24)
    assert SCHEMA.input_shape(("age",)) == (1,)
    with pytest.raises(UnsupportedMechanism, match="alone"):
        SCHEMA.input_shape(("xray", "age"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"shape": ()}, "1 to 4"),
        ({"shape": (0, 4)}, "whole sizes"),
        ({"shape": (True, 4)}, "whole sizes"),
        ({"shape": (3000, 3000)}, "at most"),
        ({"dtype": "object"}, "dtype"),
        ({"minimum": 255}, "not above"),
        ({"maximum": float("nan")}, "not a number"),
        ({"scaling": "zscore"}, "scaling"),
        ({"shape": (2, 500), "resize": "area"}, "for images"),
        ({"name": "../xray"}, "cannot name"),
    ],
)
def test_what_is_no_declaration_is_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(DataRefused, match=why):
        Tensor(**{"name": "xray", "shape": (1, 8, 8), **change})  # type: ignore[arg-type]


def test_a_tensors_name_belongs_to_nothing_else() -> None:
    with pytest.raises(DataRefused, match="name of something else"):
        Schema.from_toml(TEXT.replace("[tensors.ecg]", "[tensors.age]"))


@pytest.mark.parametrize("name", ["xray", "ecg"])
@pytest.mark.parametrize("scaling", ["symmetric", "unit"])
def test_whatever_is_stored_becomes_finite_numbers_inside_public_bounds(name: str, scaling: str) -> None:
    tensor = Tensor.from_dict(name, {**SCHEMA.as_dict()["tensors"][name], "scaling": scaling})
    any_bytes = np.random.default_rng(0).integers(0, 256, 1 << 16, dtype=np.uint8)
    found = tensor.scaled(any_bytes.view(tensor.dtype))  # of float16 also NaN and infinity
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.min() >= (-1 if scaling == "symmetric" else 0)
    assert found.max() <= 1


def test_bytes_are_kept_as_they_are() -> None:
    xray = SCHEMA.tensors[0]
    values = np.arange(256)
    np.testing.assert_array_equal(xray.stored(values), values)
    np.testing.assert_array_equal(xray.natural(xray.stored(values)), values)


def test_a_mock_is_of_the_declaration_alone() -> None:
    xray = SCHEMA.tensors[0]
    mock = xray.draw_mock(5)
    assert mock.shape == (5, 1, 32, 24)
    assert mock.dtype == np.uint8
    np.testing.assert_array_equal(Schema.from_toml(SCHEMA.to_toml()).tensors[0].draw_mock(5), mock)
