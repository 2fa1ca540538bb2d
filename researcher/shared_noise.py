"""Shared noise, as a researcher asks for it and reads what it costs: two ε, and how much sharper sums are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from policies.errors import InvalidRequest
from policies.numbers import written
from policies.privacy.accountant import resolve
from policies.privacy.mechanisms import DPSGD, KaplanMeier, Mechanism, Query, Statistics
from policies.privacy.secure_aggregation import SHARED_NOISE, SecureAggregation
from policies.privacy.shared_mechanisms import shared_draws
from policies.privacy.shared_sums import SharedDraws, Sharing, shown
from policies.privacy.sharing import SharedTraining, shared_of
from policies.schema.summed_statistics import SUMMED
from researcher.state import Release


@dataclass(frozen=True, kw_only=True)
class SharedNoise:
    """Ask for sums under one noise that hospitals make together: `secure_aggregation=researcher.SharedNoise()`.

    A sum is up to five times as sharp at the same ε as under masks alone. That ε then holds while no more than
    `may_collude` of the hospitals work together with you; if more do, it is several times as much. A hospital's budget
    pays the second, unless its owner accepts the first in words. For statistics, survival and scores
    (`policies.privacy.shared_mechanisms`), and for training with one step a round (`policies.privacy.shared_steps`).

    Args:
      threshold: the fewest hospitals that a sum may be of; None for just more than half.
      may_collude: hospitals that may work together with you, from 0 to min(2 threshold - hospitals - 1, threshold - 2).
    """

    threshold: int | None = None
    may_collude: int = 0

    def __post_init__(self) -> None:
        for name, least in (("threshold", 2), ("may_collude", 0)):
            value = getattr(self, name)
            if value is None and name == "threshold":
                continue
            if type(value) is not int or value < least:
                raise InvalidRequest(f"{name}={value!r} is not a whole number from {least}.")

    @property
    def label(self) -> str:
        """For a study's name."""
        return f"shared-{self.threshold or 0}-{self.may_collude}"

    def matches(self, roster: SecureAggregation) -> bool:
        """Whether a roster is what is asked for here."""
        same = roster.mode == SHARED_NOISE and roster.may_collude == self.may_collude
        return same and self.threshold in (None, roster.threshold)


def deviation_of(mechanism: Mechanism, draw: int, *, hospitals: int) -> float | None:
    """Standard error of a draw of counts over so many hospitals under shared noise; None where none is shared."""
    shared = shared_draws(mechanism)
    return None if shared is None else shared.standard_error(draw, hospitals=hospitals)


def laplace_epsilon(deviation: float) -> float:
    """ε of one discrete Laplace noise of this deviation, whose tails are no shorter than a sum's of the same."""
    return math.acosh(1 + 1 / deviation**2)  # its variance is 1 / (cosh ε - 1)


def expected(function: str, mechanism: Mechanism) -> tuple[str, ...]:
    """Sentences on what shared noise is worth and on what its ε rests, before anything is asked; none without it."""
    shared = shared_of(mechanism)
    if shared is None:
        return ()
    assumed, if_not = (f"{shown(epsilon)}{shared.at_delta}" for epsilon in shared.epsilons_in_all)
    return (
        (
            f"{function}: hospitals share one noise. ε = {assumed} holds while {shared.assumption()} with you;"
            f" if more do, ε = {if_not}. Each hospital charges ε = {if_not}, unless its owner accepts the"
            " other, in words, and its policy allows that."
        ),
        f"{function}: {_worth(shared, mechanism.queries[0] if isinstance(mechanism, Statistics) else None)}",
    )


def _worth(shared: Sharing, first: Query | None) -> str:
    """How much less noise there is than under masks alone; of statistics, in the `first` of them."""
    count = len(shared.roster.hospitals)
    if isinstance(shared, SharedTraining):
        own_noise = replace(shared.mechanism, secure_aggregation=None)
        alone = resolve(replace(own_noise, noise_multiplier=None, epsilon=shared.epsilons_in_all[0]))
        assert isinstance(alone, DPSGD)
        one = shared.step.deviation(count) / shared.mechanism.clipping_norm
        own = (alone.noise_multiplier or 0.0) * math.sqrt(count)
        what, unit = "each step's sum of gradients", "clipping norms"
    else:
        assert isinstance(shared, SharedDraws)
        one = shared.standard_error(0, hospitals=count)
        own = shared.standard_error_of_whole_noises(0, hospitals=count)
        what, unit = "a count", "patients"
        if first is not None and first.name in SUMMED:
            what, unit = f"{first.key}: its sum of values", "times what one patient can move it by"
    return (
        f"{what} over all {count} hospitals has a standard error of {written(one, digits=3)} {unit}"
        f" from noise; with masks alone it would be {written(own, digits=3)}."
    )


def charged_lead(mechanism: Statistics | KaplanMeier, releases: Iterable[Release]) -> str:
    """The same as a report begins."""
    if shared_draws(mechanism) is not None:
        return f"{charged_words(mechanism, releases)} No record left any of them."
    return (
        f"Each charged a pure ε = {written(mechanism.epsilon)} to its patients' budget, and no record left any of them."
    )


def charged_words(mechanism: Mechanism, releases: Iterable[Release]) -> str:
    """What each hospital charged, in a sentence, as its certificates say."""
    shared = shared_draws(mechanism)
    if shared is None:
        return f"ε={getattr(mechanism, 'epsilon', 0.0):g} was charged at each hospital."
    charges = {one.hospital: json.loads(one.certificate)["privacy"]["epsilon"] for one in releases}
    each = ", ".join(f"{shown(epsilon)} at {name}" for name, epsilon in sorted(charges.items()))
    assumed, if_not = map(shown, shared.epsilons_in_all)
    return f"Charged was ε = {each}. ε = {assumed} holds while {shared.assumption()} with you; if more do, {if_not}."
