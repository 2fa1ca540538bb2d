"""A study with public weights, frozen and local parameters: what is declared, sent, kept and given back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import researcher
from policies.errors import GraphRefused, InvalidRequest, PermissionRefused, WrongStatus
from policies.graph.exporter import export_model
from policies.release.tensors import digest, from_bytes, to_bytes
from policies.source.inspection import inspect_source
from researcher import model_parts
from researcher.lora import LoRALinear
from researcher.model_parts import send
from tests.researcher.conftest import TRAINING
from tests.researcher.study_models import FluPredictor

BODY = ("hidden.weight", "hidden.bias")


class FrozenPredictor(nn.Module):
    """Frozen by its own code."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(10, 32)
        self.output = nn.Linear(32, 1)
        self.hidden.requires_grad_(False)

    def forward(self, x):
        return torch.sigmoid(self.output(torch.relu(self.hidden(x))))


class Adapted(nn.Module):
    """A frozen layer with a correction of low rank."""

    def __init__(self):
        super().__init__()
        self.hidden = LoRALinear(10, 32, rank=2)
        self.output = nn.Linear(32, 1)

    def forward(self, x):
        return torch.sigmoid(self.output(torch.relu(self.hidden(x))))


def public() -> dict[str, np.ndarray[Any, Any]]:
    torch.manual_seed(77)
    return {name: value.detach().numpy() for name, value in FluPredictor().named_parameters() if name in BODY}


@pytest.fixture
def study(network: Any, tmp_path: Path) -> Any:
    def make(model: type[nn.Module] = FluPredictor, **options: Any) -> Any:
        settings: dict[str, Any] = {"state": tmp_path / "study", "progress": False} | options
        return researcher.Study("flu-2026", network.dataset("flu"), model, TRAINING, **settings)

    return make


def test_a_study_without_parts_asks_as_it_did_before(study: Any) -> None:
    source = study().sources["training"]
    assert not any(word in source for word in ("frozen", "local", "public_weights", "initial"))
    assert study().training == TRAINING


def test_weights_of_all_parameters_are_named_by_the_digest_that_the_first_round_is_sent_with(
    study: Any, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    weights = {name: value.detach().numpy() for name, value in FluPredictor().named_parameters()}
    path = tmp_path / "public.safetensors"
    path.write_bytes(to_bytes(weights))
    made = study(weights=path)
    assert inspect_source(made.sources["training"]).mechanism.initial == digest(weights)
    np.testing.assert_array_equal(made._initial()["hidden.weight"], weights["hidden.weight"])
    assert digest(dict(made._initial())) == made.training.initial


def test_a_frozen_body_is_named_by_digest_in_training_and_evaluation(study: Any) -> None:
    made = study(weights=public(), frozen="hidden.*", evaluation=researcher.Evaluation(epsilon=1.0))
    for source in made.sources.values():
        mechanism = inspect_source(source).mechanism
        assert (mechanism.frozen, mechanism.public_weights) == (("hidden.*",), digest(public()))
    assert set(made._initial()) == {"output.weight", "output.bias"}
    assert made.evaluation.mechanism(made.training).trained_as == ""


def test_a_body_that_the_models_code_freezes_is_found(study: Any) -> None:
    made = study(FrozenPredictor, weights=public())
    mechanism = inspect_source(made.sources["training"]).mechanism
    assert (mechanism.frozen, mechanism.public_weights) == ((), digest(public()))
    assert set(made.parts.constants) == set(BODY)


def test_an_adapted_layer_trains_its_correction_alone(study: Any) -> None:
    torch.manual_seed(1)
    base = {f"hidden.base_layer.{name.removeprefix('hidden.')}": value for name, value in public().items()}
    made = study(Adapted, weights=base)
    assert set(made._initial()) == {"hidden.lora_A.weight", "hidden.lora_B.weight", "output.weight", "output.bias"}
    assert "class LoRALinear(nn.Module):" in made.sources["training"]
    inspect_source(made.sources["training"])
    graph = export_model(Adapted, (10,))
    assert {parameter.name for parameter in graph.frozen} == set(base)
    model = made.new_model()
    records = torch.randn(5, 10)
    hidden = nn.functional.linear(
        records, torch.from_numpy(public()["hidden.weight"]), torch.from_numpy(public()["hidden.bias"])
    )
    torch.testing.assert_close(model.hidden(records), hidden)  # the correction begins at zero


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"weights": {"body.weight": np.zeros(3, np.float32)}}, InvalidRequest, "The model has no body.weight"),
        ({"weights": {"hidden.bias": np.zeros(3, np.float32)}}, InvalidRequest, r"hidden.bias has shape \(3,\)"),
        ({"frozen": "body.*"}, GraphRefused, "the name of no parameter"),
        ({"frozen": "*"}, GraphRefused, "No parameter is trained and released"),
        ({"frozen": 3}, InvalidRequest, "names no parameters"),
    ],
)
def test_parts_that_are_not_the_models_are_refused_before_anything_is_asked(
    study: Any, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        study(**options)


def submitted(study: Any, **options: Any) -> Any:
    made = study(**options)
    made.submit()
    made.wait_for_approval(timeout=5)
    return made


def test_public_weights_are_sent_once_to_each_hospital_and_rounds_carry_the_rest(study: Any, hospitals: Any) -> None:
    made = submitted(study, weights=public(), frozen="hidden.*")
    result = made.run()
    for hospital in hospitals.values():
        assert list(hospital.public) == [f"{hospital.name}-0"]
        assert digest(from_bytes(hospital.public[f"{hospital.name}-0"])) == digest(public())
        assert hospital.parts_sent == 1
    assert set(result.weights) == {"output.weight", "output.bias"}
    model = result.to_model()
    np.testing.assert_array_equal(model.hidden.weight.detach().numpy(), public()["hidden.weight"])


def test_public_weights_go_in_parts_and_go_on_where_they_were_cut_off(
    study: Any, hospitals: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_parts, "PART", 200)
    hospitals["rural"].growing["rural-0"] = to_bytes(public())[:500]
    made = submitted(study, weights=public(), frozen="hidden.*")
    made.run()
    parts = -(-len(to_bytes(public())) // 200)
    assert hospitals["general"].parts_sent == parts
    assert hospitals["rural"].parts_sent == -(-(len(to_bytes(public())) - 500) // 200)


class Endless:
    """A hospital that always wants more, or bytes that are not there."""

    name = "endless"

    def __init__(self, have: int) -> None:
        self.have, self.asked = have, 0

    def keep_weights(self, code: str, begin: int, size: int, content: bytes) -> dict[str, Any]:
        self.asked += 1
        return {"kept": False, "have": self.have}


@pytest.mark.parametrize("have", [0, -1, 1 << 60])
def test_a_hospital_cannot_keep_a_study_sending(have: int) -> None:
    hospital = Endless(have)
    with pytest.raises(PermissionRefused, match="does not take the study's public weights"):
        send(hospital, "code", public())  # type: ignore[arg-type]
    assert hospital.asked < 10


def test_an_interrupted_study_goes_on_with_the_weights_that_it_was_submitted_with(
    study: Any, hospitals: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though another version of torch draws others from the same seed."""
    made = submitted(study, frozen="hidden.*")
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda layer: nn.init.constant_(layer.weight, 0.25))
    again = study(frozen="hidden.*")
    assert again.sources == made.sources
    again.run()


def test_other_weights_are_another_study(study: Any) -> None:
    submitted(study, weights=public(), frozen="hidden.*")
    other = study(weights={name: value + 1 for name, value in public().items()}, frozen="hidden.*")
    with pytest.raises(WrongStatus, match="another source"):
        other.submit()


def test_a_result_with_parts_is_saved_and_read_back_whole(study: Any, tmp_path: Path) -> None:
    result = submitted(study, weights=public(), frozen="hidden.*").run()
    loaded = researcher.load(result.save(tmp_path / "saved"))
    assert digest(dict(loaded.constants)) == digest(public())
    records = torch.randn(4, 10)
    torch.testing.assert_close(loaded.to_model(FluPredictor)(records), result.to_model()(records))


def test_local_parameters_begin_as_the_model_and_never_come_back(study: Any, hospitals: Any) -> None:
    made = submitted(study, local="output.*", evaluation=researcher.Evaluation(epsilon=1.0))
    scored = inspect_source(made.sources["evaluation"]).mechanism
    assert (scored.local, scored.trained_as) == (("output.*",), "flu_2026")
    result = made.run()
    assert set(result.weights) == set(BODY)
    np.testing.assert_array_equal(result.to_model().output.weight.detach().numpy(), made.parts.local["output.weight"])
