"""A result as one file: all weights, a card of what certificates say, and a bundle that gives every figure again."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import researcher
from policies.errors import InvalidRequest, WrongStatus
from policies.privacy.mechanisms import as_dict
from policies.release.tensors import from_bytes
from policies.schema.schemas import Schema
from researcher import exports
from researcher.exports import TO_FILL_IN, model_card
from tests.researcher.conftest import TRAINING
from tests.researcher.study_models import FluPredictor


def certificate(**changes: Any) -> str:
    """As much of one as a card reads."""
    said: dict[str, Any] = {
        "datasite": "General hospital",
        "dataset": "flu",
        "function": "flu_2026",
        "rounds": 3,
        "size": {"patients": 1000, "kind": "declared"},
        "privacy": {"epsilon": 2.0, "delta": 1e-5},
        "mechanism": as_dict(TRAINING),
        "declared": as_dict(TRAINING),
    }
    return json.dumps(said | changes)


@pytest.fixture
def result(make_study: Any) -> Any:
    result = make_study(evaluation=researcher.Evaluation(epsilon=0.5), frozen="hidden.*").run()
    result.evaluate()
    releases = tuple(replace(one, certificate=certificate()) for one in result.releases)
    return replace(result, releases=releases)


def test_one_file_of_weights_holds_the_frozen_ones_too(result: Any, tmp_path: Path) -> None:
    path = result.save(tmp_path / "flu.safetensors")
    read = from_bytes(path.read_bytes())
    assert set(read) == {name for name, _ in FluPredictor().named_parameters()}
    np.testing.assert_array_equal(read["hidden.weight"], result.constants["hidden.weight"])
    np.testing.assert_array_equal(read["output.weight"], result.weights["output.weight"])


def test_a_model_as_onnx_gives_what_the_model_gives_of_any_number_of_records(
    result: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Schema, "input_shape", lambda *_: (10,))  # the cohort of these tests has fewer columns
    path = result.save(tmp_path / "flu.onnx")
    model, records = result.to_model(), np.random.default_rng(3).uniform(-1, 1, (7, 10)).astype(np.float32)
    expected = model(torch.from_numpy(records)).detach().numpy()
    for some in (7, 1):
        (found,) = ReferenceEvaluator(str(path)).run(None, {"records": records[:some]})
        np.testing.assert_allclose(found, expected[:some], rtol=0, atol=1e-6)
    weights = {numpy_helper.to_array(one).tobytes() for one in onnx.load(path).graph.initializer}
    assert {value.tobytes() for value in result.weights.values()} <= weights  # the released ones, to the bit


def test_onnx_of_a_result_without_its_model_is_refused_in_words(result: Any, tmp_path: Path) -> None:
    loaded = researcher.load(result.save(tmp_path / "flu"))
    with pytest.raises(WrongStatus, match=r"without its model. Ask study\.run\(\), at no cost"):
        loaded.save(tmp_path / "flu.onnx")


def test_a_card_says_data_epsilon_with_its_unit_and_what_people_fill_in(result: Any, tmp_path: Path) -> None:
    card = result.save(tmp_path / "card.md").read_text()
    assert "| General hospital | flu | 1,000 (as declared) |" in card
    assert "| General hospital | flu\\_2026 | 2 | 1e-05 | 3 |" in card
    assert "unit of privacy is a patient" in card
    assert card.count(TO_FILL_IN) == 2
    assert "accuracy" in card
    assert "held-out patients" in card


def test_a_card_shows_a_hospitals_words_as_words(result: Any) -> None:
    hostile = certificate(datasite="A | B\n# Approved <script>alert(1)</script> [x](http://evil.example)\u202e")
    card = model_card(replace(result, releases=(replace(result.releases[0], certificate=hostile),)))
    (line,) = [line for line in card.splitlines() if "alert" in line and "flu |" in line and "1,000" in line]
    assert line.startswith("| A \\| B \\# Approved \\<script\\>")
    assert "\u202e" not in card
    assert "\n# Approved" not in card


def test_a_bundle_gives_the_same_figures_again(result: Any, tmp_path: Path) -> None:
    path = result.save(tmp_path / "flu.zip")
    loaded = researcher.load(path)
    assert str(loaded.evaluation) == str(result.evaluation)
    np.testing.assert_array_equal(loaded.weights["output.weight"], result.weights["output.weight"])
    assert [record.as_dict() for record in loaded.rounds] == [record.as_dict() for record in result.rounds]
    with zipfile.ZipFile(path) as archive:
        assert {"card.md", "README.md", "weights.safetensors", "result.json"} <= set(archive.namelist())
    before = path.read_bytes()
    assert result.save(path).read_bytes() == before


@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "a/../../outside.txt"])
def test_a_bundle_writes_nothing_outside_of_itself(tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(InvalidRequest, match="lies outside of it"):
        researcher.load(path)


def test_a_bundle_that_unpacks_to_more_than_any_result_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "LARGEST", 1000)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights.safetensors", bytes(1 << 20))
    with pytest.raises(InvalidRequest, match="which no result has"):
        researcher.load(path)


def test_bytes_that_are_no_bundle_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "noise.zip"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(InvalidRequest, match="is no bundle"):
        researcher.load(path)


def test_a_file_that_cannot_be_written_is_said_in_words(result: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be written"):
        result.save(tmp_path / "missing" / "flu.safetensors")
