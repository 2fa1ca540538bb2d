"""Settings of a training that are good without looking at data: a rule of public figures alone.

Nothing is tried on anybody's rows, and nothing is charged. The rule has three thoughts, each of which
`make bench-utility` holds against populations that it was not made for:

* *Many short rounds.* What a hospital learns in a round of several steps leads towards its own patients. One step of
  half of the patients a round, with momentum between rounds (FedAvgM: Hsu et al. 2019, arXiv:1909.06335), is
  training on everybody's records but for the noise. A hospital alone has no such pull: few rounds of many steps.
* *As far as the noise lets it.* With a learning rate η over T steps, a gradient clipped to C and noise σ, weights that
  no gradient holds wander by about η · T · C · w, where w = σ √H / (q √T N) for H hospitals of N patients in all. That
  hardly depends on T. `WANDER` is what a weight may wander: it gives η · C, small where patients are few or ε is.
* *Clipping as little as that leaves room for.* Clipping gradients that are short of C is no loss; clipping many moves
  the model away from the best one, and a larger C takes a shorter way. C is between 1 and 4, and grows with the way.

The model is the average of the last quarter of the aggregates, which costs nothing (`researcher.averaging`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from policies.errors import UnsupportedMechanism
from policies.numbers import counted, written
from policies.privacy.accountant import resolve
from policies.privacy.mechanisms import DPSGD, check_range

WANDER = 0.3
ROUNDS, SHARE = 100, 0.5
FEW_ROUNDS = 30
"""Of which one step each is still enough; where there may be fewer, they have more steps."""
ROUNDS_ALONE, STEPS_ALONE = 5, 20
MOMENTUM = 0.9
ROUNDS_OF_MOMENTUM = 6
"""Momentum m keeps a move for 1 / (1 - m) rounds, which is at most the sixth part of all: else it begins too late."""
LARGEST_BATCH = 20_000  # patients in a step, above which it takes longer and gains nothing
LEAST_CLIPPING, LARGEST_CLIPPING = 1.0, 4.0


class Population(Protocol):
    """What a suggestion looks at: the published number of patients in training at each hospital."""

    @property
    def training_patients(self) -> Mapping[str, int]:
        """By hospital."""
        ...


@dataclass(frozen=True)
class Suggestion:
    """A training with what a researcher makes of its releases. A study takes it in the place of a training.

    Args:
      training: what the hospitals are asked for.
      strategy: of Flower's, by name.
      options: the strategy's own.
      average_last: how many aggregates the model is the average of.
      reasons: in sentences, where the settings come from.
    """

    training: DPSGD
    strategy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    average_last: int = 1
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{self.training}",
            f"strategy={self.strategy!r}, {dict(self.options)}, average_last={self.average_last}",
        ]
        return "\n".join([*lines, *self.reasons])


def suggest(
    dataset: Population,
    *,
    epsilon: float,
    delta: float = 1e-5,
    loss: str = "binary_cross_entropy",
    inputs: str | tuple[str, ...] = "features",
    rounds: int | None = None,
) -> Suggestion:
    """Settings for training at the hospitals of `dataset`, from public figures alone; see the module's text.

    Args:
      dataset: a cohort, as `network.dataset("flu")`, or anything with `training_patients`.
      epsilon: for all rounds together, at each hospital.
      loss, inputs: as in `DPSGD`.
      rounds: at most so many, where a hospital's policy allows no more; 100, or 5 at one hospital alone, if None.

    Raises:
      UnsupportedMechanism: a number is outside its range, or nobody is published.
      BudgetTooSmall: no noise fits ε.
    """
    patients = dict(dataset.training_patients)
    together, hospitals = sum(patients.values()), len(patients)
    if not hospitals or min(patients.values()) < 1:
        raise UnsupportedMechanism("No hospital publishes patients in training. Choose another dataset.")
    alone = hospitals == 1
    usual = ROUNDS_ALONE if alone else ROUNDS
    if rounds is not None:
        check_range("rounds", rounds, 1, 1000, whole=True)
    number = usual if rounds is None else min(usual, rounds)
    steps = math.ceil(ROUNDS_ALONE * STEPS_ALONE / number) if alone else max(1, round(FEW_ROUNDS / number))
    share = min(SHARE, LARGEST_BATCH / max(patients.values()))
    asked = DPSGD(
        loss=loss,
        rounds=number,
        steps=steps,
        sampling_rate=_rounded(share),
        clipping_norm=1.0,
        learning_rate=1.0,
        epsilon=epsilon,
        delta=delta,
        inputs=inputs,
    )
    noise = noise_of(asked, patients)
    way = WANDER / noise  # η · T · C, as far as weights are moved by gradients that all point one way
    momentum = MOMENTUM if alone else round(1 - min(1.0, max(1 - MOMENTUM, ROUNDS_OF_MOMENTUM / number)), 2)
    clipping = _rounded(min(LARGEST_CLIPPING, max(LEAST_CLIPPING, math.sqrt(way) / 12)))
    rate = _rounded(way / clipping / (number * steps) * (1 - momentum))
    training = replace(asked, clipping_norm=clipping, learning_rate=rate, momentum=MOMENTUM if alone else 0.0)
    average_last = max(1, number // 4) if not alone else 1
    reasons = (
        (
            f"{together:,} patients train at {counted(hospitals, 'hospital')}; the noise of all steps together is"
            f" {written(noise, digits=2)} of the largest gradient, in each number of the model."
        ),
        f"Learning rate and clipping norm are so large that this noise moves a number of the model by about {WANDER}.",
        "It trains in few rounds of many steps, with momentum in each."
        if alone
        else "Rounds are short, so that no hospital's model goes its own way, and momentum is kept between them.",
    )
    if alone:
        return Suggestion(training, "FedAvg", {}, average_last, reasons)
    return Suggestion(training, "FedAvgM", {"server_momentum": momentum} if momentum else {}, average_last, reasons)


def noise_of(training: DPSGD, patients: Mapping[str, int]) -> float:
    """Standard deviation of all steps' noise together, in the mean gradient of all steps, over the clipping norm.

    A step's sum at hospital h has noise σ C in each number and is divided by q N_h; hospitals are averaged by their
    patients, which leaves σ C √H / (q N), and over T steps the mean has a √T-th of that. Where P parts of one noise
    make the whole, H of them leave a √P-th.
    """
    resolved = resolve(training)
    assert isinstance(resolved, DPSGD)
    assert resolved.noise_multiplier is not None
    declared, together = training.secure_aggregation, sum(patients.values())
    whole = len(patients) / (1 if declared is None else declared.parts)
    steps = training.rounds * training.steps
    return resolved.noise_multiplier * math.sqrt(whole / steps) / (training.sampling_rate * together)


def _rounded(value: float) -> float:
    """To two digits: a setting is read by people, and is no more exact than that."""
    return float(f"{value:.2g}")
