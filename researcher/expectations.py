"""What to expect of a training before anything is spent: its noise beside the signal that such a model can have.

All of it is arithmetic on public figures: published patients, the size of the model, and what is declared. No rows are
looked at, so it says what noise does, and cannot say whether there is something to be learnt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from policies.numbers import counted, written
from policies.privacy.mechanisms import DPSGD
from policies.privacy.suggestion import noise_of

SMALL, LARGE = 0.03, 0.3
"""Noise over the largest signal. Mean gradients are a tenth to a third of the longest one: up to `SMALL` noise is
little beside them, and from `LARGE` on it is as long as they are."""
FAR = 1.0
"""What noise may move a number of a model by: numbers begin at some 0.3, so this is more than all that they hold."""
FEWEST_NUMBERS = 10  # of a model that is worth naming


def expectations(function: str, training: DPSGD, patients: Mapping[str, int], numbers: int) -> tuple[str, ...]:
    """Sentences on what noise does in a training, warnings last; none where nobody would take it.

    Args:
      function: the request's name.
      training: as declared.
      patients: published in training, by hospital that would take it.
      numbers: the model's parameters.
    """
    if not patients:
        return ()
    each = noise_of(training, patients)
    share = each * math.sqrt(numbers)
    steps = counted(training.rounds * training.steps, "step")
    said = (
        f"{function}: {steps} on {_percent(training.sampling_rate)} of {sum(patients.values()):,} patients at a time."
        f" The noise of all steps together is {_percent(share)} of the longest gradient that the"
        f" {counted(numbers, 'number')} of the model could have together"
    )
    if share <= SMALL:
        said += ": little, where there is something to be learnt."
    elif share < LARGE:
        said += ": a strong signal will show, a weak one will not. A smaller model, more hospitals or more ε lessen it."
    else:
        said = f"Warning: {said}, which is as long as gradients are: what comes back will be noise. "
        said += _instead(each, share)
    return said, *_too_far(function, training, each)


def _instead(each: float, share: float) -> str:
    """What would bring noise to `SMALL`: it grows with the root of the model's size, and falls with patients."""
    fewer = math.floor((SMALL / each) ** 2)
    smaller = f"a model of {counted(fewer, 'number')}, or " if fewer >= FEWEST_NUMBERS else ""
    return f"Take {smaller}{written(math.ceil(share / SMALL))} times as many patients, or ask for statistics instead."


def _too_far(function: str, training: DPSGD, each: float) -> tuple[str, ...]:
    """A warning where noise alone moves weights further than they hold anything, of descent whose way is known."""
    if training.optimizer != "sgd":
        return ()
    way = training.learning_rate / (1 - training.momentum) * training.rounds * training.steps * training.clipping_norm
    if way * each < FAR:
        return ()
    enough = training.learning_rate * FAR / 4 / (way * each)
    warning = (
        f"Warning: {function}: at learning_rate={written(training.learning_rate)} and"
        f" clipping_norm={written(training.clipping_norm)} noise alone moves each number of the model by about"
        f" {written(way * each, digits=2)}, more than what it holds. Take learning_rate={written(enough, digits=2)} or"
        " less, or what researcher.Training.suggest gives."
    )
    return (warning,)


def _percent(share: float) -> str:
    return f"{written(100 * share, digits=2)} %"
