"""How a researcher declares a training: the mechanism that hospitals will run, its passes over them, or a suggestion.

Settings are also understood by the names of other libraries where they mean the same (`policies.privacy.other_names`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policies.errors import UnsupportedMechanism
from policies.privacy import suggestion
from policies.privacy.checks import check_range
from policies.privacy.mechanisms import DPSGD
from policies.privacy.other_names import BY_EPOCHS, understood
from policies.privacy.suggestion import Population, Suggestion


@dataclass(frozen=True)
class TrainingByEpochs:
    """A training by passes and batches, as tutorials have it; a study makes it one by steps and a sampling rate.

    Args:
      epochs: passes over the patients in all rounds together.
      batch_size: patients in a batch, on average, at the smallest hospital; larger hospitals take as large a share.
      settings: the others, by our names.
    """

    epochs: int
    batch_size: int
    settings: tuple[tuple[str, Any], ...]

    def __post_init__(self) -> None:
        check_range("epochs", self.epochs, 1, 100_000, whole=True)
        check_range("batch_size", self.batch_size, 1, 10_000_000, whole=True)
        self._declared(sampling_rate=1.0, steps=1, rounds=dict(self.settings).get("rounds", 1))

    def at(self, patients: Mapping[str, int]) -> DPSGD:
        """The declared mechanism for hospitals of so many patients in training.

        Where `rounds` was not given, one hospital trains in one round, and several in a round for each pass.

        Raises:
          UnsupportedMechanism: nobody is published, or it would be more steps than a round may have.
        """
        smallest = min(patients.values(), default=0)
        if smallest < 1:
            raise UnsupportedMechanism("No hospital publishes patients in training. Choose another dataset.")
        rate = min(1.0, self.batch_size / smallest)
        usual = 1 if len(patients) == 1 else min(self.epochs, 1000)
        rounds = dict(self.settings).get("rounds", usual)
        steps = math.ceil(self.epochs * math.ceil(1 / rate) / rounds)
        return self._declared(sampling_rate=rate, steps=steps, rounds=rounds)

    def _declared(self, **settings: Any) -> DPSGD:
        return DPSGD(**{**dict(self.settings), **settings})


class Training(DPSGD):
    """`Training(...)` is the `DPSGD` with these settings: what hospitals read, charge and run, and nothing else.

    The names of other libraries are understood where they mean the same, as `max_grad_norm=1.0`, `target_epsilon=2.0`,
    `loss=nn.CrossEntropyLoss()`, `optimizer=torch.optim.Adam(...)`. With `epochs=` and `batch_size=` in place of
    `steps` and `sampling_rate`, the study computes those from what its hospitals publish.
    """

    def __new__(cls, **settings: Any) -> DPSGD | TrainingByEpochs:  # type: ignore[misc]
        """The declaration. Raises `UnsupportedMechanism`, which names the setting and says why."""
        ours = understood(settings)
        by_epochs: list[str] = [name for name in BY_EPOCHS if name in ours]
        if not by_epochs:
            return DPSGD(**ours)
        doubled: list[str] = [name for name in ("steps", "sampling_rate") if name in ours]
        if doubled or len(by_epochs) < len(BY_EPOCHS):
            raise UnsupportedMechanism(
                f"{' and '.join(by_epochs + doubled)} do not say how long to train. Give epochs and batch_size, or"
                " steps and sampling_rate."
            )
        epochs, batch_size = (ours.pop(name) for name in BY_EPOCHS)
        return TrainingByEpochs(epochs, batch_size, tuple(ours.items()))

    @staticmethod
    def suggest(dataset: Population, *, epsilon: float, **options: Any) -> Suggestion:
        """Settings that are good without looking at data, for training at the hospitals of `dataset`.

        They are made of published figures alone: nothing is asked, and nothing is charged. A study takes the suggestion
        in place of a training, with its strategy and average. `policies.privacy.suggestion.suggest` has the rule and
        says what else may be given, as `rounds=50` where a hospital's policy allows no more.
        """
        return suggestion.suggest(dataset, epsilon=epsilon, **options)
