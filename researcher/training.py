"""How a researcher declares a training: the mechanism that hospitals will run, or one that is suggested."""

from __future__ import annotations

from typing import Any

from policies.privacy import suggestion
from policies.privacy.mechanisms import DPSGD
from policies.privacy.suggestion import Population, Suggestion


class Training(DPSGD):
    """`Training(...)` is the `DPSGD` with these settings: what hospitals read, charge and run, and nothing else."""

    def __new__(cls, **settings: Any) -> DPSGD:  # type: ignore[misc]
        return DPSGD(**settings)

    @staticmethod
    def suggest(dataset: Population, *, epsilon: float, **options: Any) -> Suggestion:
        """Settings that are good without looking at data, for training at the hospitals of `dataset`.

        They are made of published figures alone: nothing is asked, and nothing is charged. A study takes the suggestion
        in place of a training, with its strategy and average. `policies.privacy.suggestion.suggest` has the rule and
        says what else may be given, as `rounds=50` where a hospital's policy allows no more.
        """
        return suggestion.suggest(dataset, epsilon=epsilon, **options)
