"""Names of other libraries mean here what they mean there, or are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from policies.errors import UnsupportedMechanism
from policies.privacy.mechanisms import DPSGD
from policies.privacy.other_names import REASONS, SAME, finding, understood

PARAMETERS = [nn.Parameter(torch.zeros(2))]
GROUPED = torch.optim.Adam([{"params": PARAMETERS}, {"params": [nn.Parameter(torch.ones(1))], "lr": 1.0}])


def test_every_borrowed_name_stands_for_a_setting_of_ours() -> None:
    fields = set(DPSGD.__dataclass_fields__) | {"epochs"}
    assert set(SAME.values()) <= fields
    assert not (set(SAME) | set(REASONS)) & fields  # none of ours is renamed or refused


def test_the_words_of_a_tutorial_are_our_settings() -> None:
    assert understood(
        {
            "loss": nn.CrossEntropyLoss(),
            "max_grad_norm": 1.5,
            "target_epsilon": 2.0,
            "target_delta": 1e-6,
            "lr": 0.1,
            "sample_rate": 0.05,
            "num_rounds": 3,
        }
    ) == {
        "loss": "cross_entropy",
        "clipping_norm": 1.5,
        "epsilon": 2.0,
        "delta": 1e-6,
        "learning_rate": 0.1,
        "sampling_rate": 0.05,
        "rounds": 3,
    }


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (nn.BCELoss(), {"loss": "binary_cross_entropy"}),
        (nn.BCELoss, {"loss": "binary_cross_entropy"}),
        ("BCEWithLogitsLoss", {"loss": "binary_cross_entropy_with_logits"}),
        (functional.cross_entropy, {"loss": "cross_entropy"}),
        (functional.binary_cross_entropy_with_logits, {"loss": "binary_cross_entropy_with_logits"}),
        ("sparse_categorical_crossentropy", {"loss": "cross_entropy"}),
        ("mse", {"loss": "mean_squared_error"}),
        (nn.HuberLoss(delta=2.5), {"loss": "huber", "huber_delta": 2.5}),
        (nn.PoissonNLLLoss(), {"loss": "poisson"}),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 4.0])), {"loss": "cross_entropy", "class_weights": (1.0, 4.0)}),
        (
            nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0])),
            {"loss": "binary_cross_entropy_with_logits", "class_weights": (1.0, 3.0)},
        ),
        ("binary_cross_entropy", {"loss": "binary_cross_entropy"}),
    ],
)
def test_a_loss_of_torch_is_ours(given: Any, meant: dict[str, Any]) -> None:
    assert understood({"criterion": given}) == meant


def test_the_positive_weight_of_torch_is_the_weight_of_class_one() -> None:
    """pos_weight p multiplies the term of a positive record, as class_weights=(1, p) does in our losses."""
    from datasites.engine.losses import Loss, record_loss

    ours = Loss("binary_cross_entropy_with_logits", weights=(1.0, 3.0))
    for label in (0, 1):
        theirs = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0]))(torch.tensor([0.3]), torch.tensor([float(label)]))
        assert torch.allclose(record_loss(torch.tensor([0.3]), torch.tensor(label), ours), theirs)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (
            torch.optim.SGD(PARAMETERS, lr=0.2, momentum=0.9),
            {"optimizer": "sgd", "learning_rate": 0.2, "momentum": 0.9},
        ),
        (torch.optim.Adam(PARAMETERS, lr=0.01), {"optimizer": "adam", "learning_rate": 0.01}),
        (torch.optim.Adam, {"optimizer": "adam"}),
        ("SGD", {"optimizer": "sgd"}),
    ],
)
def test_an_optimizer_of_torch_is_ours(given: Any, meant: dict[str, Any]) -> None:
    assert understood({"optimizer": given}) == meant


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_grad_norm": 1.0, "clipping_norm": 2.0}, "max_grad_norm and clipping_norm both say clipping_norm"),
        ({"lr": 0.1, "optimizer": torch.optim.SGD(PARAMETERS, lr=0.2)}, "both say learning_rate"),
        ({"validation_split": 0.2}, "validation_split=0.2 is not taken. The hold-out is the dataset's own"),
        ({"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, "CrossEntropyLoss(label_smoothing=0.1) is not taken"),
        ({"loss": nn.MSELoss(reduction="sum")}, "MSELoss(reduction='sum') is not taken"),
        ({"optimizer": torch.optim.AdamW(PARAMETERS)}, "AdamW's weight decay is not Adam's"),
        ({"optimizer": torch.optim.SGD(PARAMETERS, lr=0.1, momentum=0.9, nesterov=True)}, "SGD(nesterov=True)"),
        ({"optimizer": GROUPED}, "groups of parameters"),
    ],
)  # fmt: skip
def test_what_means_something_else_is_refused_by_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedMechanism) as refused:
        understood(settings)
    assert said in str(refused.value)


def test_a_loss_of_ones_own_stays_for_the_declaration_to_refuse() -> None:
    def own(output: Any, label: Any) -> Any:
        return output - label

    with pytest.raises(UnsupportedMechanism, match="loss="):
        DPSGD(
            **understood({"loss": own}),
            rounds=1,
            steps=1,
            sampling_rate=0.1,
            clipping_norm=1,
            learning_rate=1,
            epsilon=1,
        )


def test_a_finding_names_ours() -> None:
    assert finding("max_grad_norm", "1.0") == ("A request calls it clipping_norm.", "Write clipping_norm=1.0.")
    epochs = finding("epochs", "3")
    assert epochs is not None
    assert "sampling_rate is batch_size / patients" in epochs[0]
    assert finding("nothing", "1") is None
