"""Models that were made already: what a hospital is sent makes the same layers, or it is refused."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from policies.errors import InvalidRequest
from policies.graph.exporter import export_model, export_source
from policies.privacy.mechanisms import DPSGD
from policies.source.inspection import inspect_source
from researcher.instances import class_of
from researcher.sources import request_source

MECHANISM = DPSGD(
    loss="cross_entropy", rounds=1, steps=1, sampling_rate=0.1, clipping_norm=1.0, epsilon=1.0, learning_rate=1.0
)


class Own(nn.Module):
    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(10, hidden), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x)))  # type: ignore[no-any-return]


class Needs(nn.Linear):
    def __init__(self, inputs: int) -> None:
        super().__init__(inputs, 1)


MODELS = {
    "a linear layer": nn.Linear(10, 2),
    "without a bias": nn.Linear(10, 1, bias=False),
    "a sequence": nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1)),
    "a sequence of sequences": nn.Sequential(nn.Sequential(nn.Linear(10, 4), nn.GELU()), nn.Linear(4, 1)),
    "layers by name": nn.Sequential(OrderedDict([("fc", nn.Linear(10, 4)), ("act", nn.LeakyReLU(0.2))])),
    "many layers": nn.Sequential(*[nn.Sequential(nn.Linear(10, 10), nn.LayerNorm(10), nn.SiLU()) for _ in range(6)]),
    "shapes": nn.Sequential(
        nn.Unflatten(1, (1, 10)), nn.Conv1d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.MaxPool1d(2), nn.Flatten(),
        nn.Linear(20, 3),
    ),
    "one of their own": Own(),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_what_a_hospital_makes_is_what_was_given(name: str) -> None:
    model = MODELS[name]
    source = request_source("study", MECHANISM, model=class_of(model))
    inspection = inspect_source(source)
    assert inspection.model is not None
    graph, weights = export_source(inspection.model_source or "", inspection.model, (10,))
    assert graph == export_model(model, (10,))
    assert {name: value.shape for name, value in weights.items()} == {
        name: value.shape for name, value in model.named_parameters()
    }


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Own(hidden=16), r"Own\(\) makes another model than the one that was given. Give Own default arguments"),
        (Needs(10), r"A hospital makes Needs\(\), which fails here: TypeError"),
        (
            nn.MultiheadAttention(4, 2),
            "MultiheadAttention cannot be written as it was made. Write the model as a class",
        ),
        (nn.Sequential(nn.Linear(10, 4), Own()), "Own cannot be written as it was made"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(10, 1)), "cannot be written|fails here|another model"),
    ],
)
def test_a_model_that_a_hospital_could_not_make_is_refused_with_what_to_write(model: nn.Module, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        class_of(model)


def test_making_a_class_draws_nothing_of_what_the_researcher_draws() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    class_of(MODELS["a sequence"])
    assert torch.equal(torch.get_rng_state(), before)
