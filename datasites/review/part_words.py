"""A model's parts in plain words: what is public, what is trained, what stays."""

from __future__ import annotations

from collections.abc import Sequence

from policies.graph.graphs import Parameter
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.privacy.parts import NOT_CHECKED
from policies.release.plans import Plan

MOST_NAMED = 8
_ROUNDED = (
    ", as how far each moved, rounded to {} of the noise that is in it by then. Rounding tells nothing new of a patient"
)
_FORMS = {
    "none": "",
    "int8": _ROUNDED.format("a quarter of the standard deviation"),
    "int4": _ROUNDED.format("the standard deviation"),
}


def part_words(plan: Plan) -> list[str]:
    """Nothing for a model of which all is trained and released from weights that nobody named."""
    graph, mechanism = plan.graph, plan.mechanism
    if graph is None or not isinstance(mechanism, DPSGD | Evaluation):
        return []
    words = []
    if graph.frozen:
        words.append(
            f"{_numbers(graph.frozen)} are public constants (frozen): they are not trained, get no noise, and are no"
            " part of what leaves."
        )
    if graph.local:
        stay = (
            "are trained with the others, clipped, noised and charged the same, and stay at this hospital: no round"
            " hands them out. They are deleted when the request is revoked or withdrawn, or the dataset retired."
            if isinstance(mechanism, DPSGD)
            else f"are those that {mechanism.trained_as or 'no request'} left at this hospital after its last round."
        )
        words.append(f"{_numbers(graph.local)} {stay}")
    if mechanism.public_weights:
        words.append(f"Public weights come with it, of digest {mechanism.public_weights}; each use checks it.")
    if isinstance(mechanism, DPSGD) and mechanism.initial:
        words.append(f"What is trained begins with public weights of digest {mechanism.initial}.")
    return [*words, NOT_CHECKED] if words else []


def leaving_words(plan: Plan) -> str:
    """What leaves of a model that is trained, and in what form."""
    assert plan.graph is not None
    assert isinstance(plan.mechanism, DPSGD)
    form = _FORMS[plan.mechanism.compression] if plan.mechanism.secure_aggregation is None else ", hidden under masks"
    if plan.mechanism.step_grid is not None:
        numbers = sum(parameter.elements for parameter in plan.graph.parameters)
        return f"What leaves: a sum of gradients, {numbers:,} numbers, in each round{form}."
    if not plan.graph.constants:
        return f"What leaves: the model's numbers after each round{form}."
    released = sum(parameter.elements for parameter in plan.graph.parameters)
    return f"What leaves: {released:,} of the model's numbers after each round ({_named(plan.graph.parameters)}){form}."


def _numbers(parameters: Sequence[Parameter]) -> str:
    return f"{sum(parameter.elements for parameter in parameters):,} of the model's numbers ({_named(parameters)})"


def _named(parameters: Sequence[Parameter]) -> str:
    more = len(parameters) - MOST_NAMED
    shown = ", ".join(parameter.name for parameter in parameters[:MOST_NAMED])
    return shown + (f" and {more} more" if more > 0 else "")
