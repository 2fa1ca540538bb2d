"""Whether a graph's parts are those that its request declares."""

from __future__ import annotations

from policies.errors import GraphRefused
from policies.graph.graphs import Graph
from policies.privacy.mechanisms import DPSGD, Evaluation
from policies.privacy.parts import matches


def check_public_weights(graph: Graph, mechanism: DPSGD | Evaluation) -> None:
    """Raise `GraphRefused` unless constants have a digest where there are any, and none where there are none."""
    if graph.constants and not mechanism.public_weights:
        named = ", ".join(parameter.name for parameter in graph.constants[:5])
        raise GraphRefused(
            f"{named} are frozen, so that the hospital has to know their values. Name their digest as"
            " public_weights=..., which researcher.Study does for you."
        )
    if mechanism.public_weights and not graph.constants:
        raise GraphRefused(
            "public_weights names values of frozen parameters, and no parameter is frozen. Leave it out, or freeze"
            ' what they are of: frozen=("body.*",).'
        )


def check_parted(graph: Graph, frozen: tuple[str, ...], local: tuple[str, ...]) -> None:
    """Raise `GraphRefused` unless what is declared as frozen or local is so in a graph that somebody else made.

    The model's own code may freeze more; what is local, the declaration alone says.
    """
    for parameter in graph.weights:
        wanted = "local" if matches(local, parameter.name) else "frozen" if matches(frozen, parameter.name) else ""
        is_local = parameter in graph.local
        if (wanted == "frozen" and parameter not in graph.frozen) or is_local != (wanted == "local"):
            raise GraphRefused(f"The graph has {parameter.name!r:.80} in another part than the request declares.")
