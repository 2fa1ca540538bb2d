"""A training by epochs and batches becomes one by steps and a sampling rate, of published sizes alone."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

import researcher
from policies.errors import UnsupportedMechanism
from policies.privacy.mechanisms import DPSGD

TUTORIAL: dict[str, Any] = {
    "loss": nn.BCELoss(),
    "max_grad_norm": 1.0,
    "lr": 0.1,
    "target_epsilon": 2.0,
    "epochs": 3,
    "batch_size": 50,
}


def by_epochs(**settings: Any) -> Any:
    return researcher.Training(**{**TUTORIAL, **settings})


def test_a_training_is_the_mechanism_itself() -> None:
    ours = {"rounds": 2, "steps": 5, "sampling_rate": 0.1, "clipping_norm": 1.0, "learning_rate": 0.1, "epsilon": 2.0}
    assert researcher.Training(loss="binary_cross_entropy", **ours) == DPSGD(loss="binary_cross_entropy", **ours)
    assert type(researcher.Training(loss="binary_cross_entropy", **ours)) is DPSGD


def test_one_hospital_trains_in_one_round_of_the_tutorials_steps() -> None:
    # 50 of 1,000 patients a step: 20 steps a pass, 60 in all, as a loader of batches of 50 has them.
    trained = by_epochs().at({"general": 1000})
    assert (trained.rounds, trained.steps, trained.sampling_rate) == (1, 60, 0.05)
    assert (trained.clipping_norm, trained.epsilon, trained.learning_rate) == (1.0, 2.0, 0.1)


def test_several_hospitals_train_a_pass_a_round_with_batches_of_the_smallest() -> None:
    trained = by_epochs().at({"general": 5000, "rural": 500})
    assert (trained.rounds, trained.steps, trained.sampling_rate) == (3, 10, 0.1)


@pytest.mark.parametrize(("patients", "epochs", "rounds"), [(997, 3, 1), (100, 7, 3), (40, 5, 2), (64, 1, 4)])
def test_no_fewer_passes_than_were_asked(patients: int, epochs: int, rounds: int) -> None:
    trained = by_epochs(epochs=epochs, rounds=rounds).at({"a": patients})
    assert trained.rounds == rounds
    assert trained.rounds * trained.steps * trained.sampling_rate >= epochs


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 0}, "batch_size=0 is outside"),
        ({"epochs": 2.5}, "epochs=2.5 is not a whole number"),
        ({"steps": 5}, "epochs and batch_size and steps do not say how long"),
        ({"max_grad_norm": -1}, "clipping_norm=-1 is outside"),
        ({"shuffle": True}, "shuffle=True is not taken. Patients are Poisson-sampled"),
        ({"loss": "hinge"}, "loss='hinge' is not known"),
    ],
)
def test_a_wrong_setting_is_refused_when_it_is_declared(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedMechanism) as refused:
        by_epochs(**settings)
    assert said in str(refused.value)


def test_nobody_published_is_refused() -> None:
    with pytest.raises(UnsupportedMechanism, match="No hospital publishes patients"):
        by_epochs().at({"general": 0})
