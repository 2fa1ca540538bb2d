"""Declared tensors: what is refused, and that whatever is stored becomes finite numbers inside public bounds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

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
        ({"shorter": "pad"}, "for signals"),
        ({"shape": (4,), "vocabulary": ("E11",), "dtype": "uint16", "maximum": 2.0, "shorter": "pad"}, "for signals"),
        ({"shape": (2, 500), "shorter": "repeat"}, "shorter"),
        ({"shape": (2, 500), "padding": 3.0}, "beside it"),
        ({"shape": (2, 500), "shorter": "pad", "padding": float("nan")}, "is the number after"),
        ({"shape": (2, 500), "shorter": "pad", "padding": True}, "is the number after"),
        ({"shape": (2, 500), "shorter": "pad", "padding": 256}, "256 is not from minimum=0 to maximum=255"),
        ({"shape": (2, 500), "shorter": "pad", "minimum": 5}, "0 is not from minimum=5"),
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


def test_padding_is_written_only_where_it_is_declared_and_comes_back() -> None:
    ecg = SCHEMA.tensors[1]
    assert not {"shorter", "padding"} & set(ecg.as_dict())  # what was published before keeps its text
    padded = replace(ecg, shorter="pad", padding=-5.0)
    assert Tensor.from_dict("ecg", json.loads(json.dumps(padded.as_dict()))) == padded
    assert Tensor.from_dict("ecg", {**padded.as_dict(), "padding": -5}) == padded  # as TOML has a whole number
    text = replace(SCHEMA, tensors=(padded,)).to_toml()
    assert Schema.from_toml(text).tensors == (padded,)
    assert padded.said() == "2 × 500 float16, -5 to 5 mV, shorter ones filled with -5 mV"


def test_a_mock_shows_what_padding_looks_like_and_others_stay_as_they_were() -> None:
    ecg = SCHEMA.tensors[1]
    padded = replace(ecg, shorter="pad", padding=5.0)
    mock = padded.draw_mock(40)
    np.testing.assert_array_equal(mock, padded.draw_mock(40))
    filled = (mock == 1).all(1)  # the upper bound, in every channel: [rows, samples]
    lengths = np.where(filled.any(1), filled.argmax(1), 500)
    assert (lengths[::2] == 500).all()
    assert len(set(lengths[1::2])) > 10
    assert all(filled[row, length:].all() for row, length in enumerate(lengths))
    # of a declaration without padding, to the byte as before there was any
    assert (
        hashlib.sha256(ecg.draw_mock(3).tobytes()).hexdigest()
        == "1d4df19193a7ae065b21f251ea857cb601801c3ce854602cc5d9d5779f793933"
    )
